"""Rules that PostgreSQL itself enforces, indexes built beside work, and migrations in two halves.

Needs nothing but Django.
"""
