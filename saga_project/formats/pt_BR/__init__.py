"""The formats of the console in Portuguese."""
