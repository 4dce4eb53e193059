"""The formats of the console in English."""
