"""Rules that PostgreSQL itself enforces, as operations for migrations. Needs nothing but Django."""
