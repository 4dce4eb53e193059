"""Rules that PostgreSQL itself enforces, and indexes built beside work, as operations for migrations.

Needs nothing but Django.
"""
