"""How the console writes moments, in every language: to the microsecond, the year first."""
