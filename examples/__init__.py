"""Sagas that the field explains itself with. docs/examples.md compares each with where it comes from."""
