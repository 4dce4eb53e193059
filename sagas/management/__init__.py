"""Commands of projects that have `sagas` installed."""
