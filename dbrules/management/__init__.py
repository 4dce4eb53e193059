"""Commands of projects that have `dbrules` installed."""
