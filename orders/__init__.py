"""Orders: the business transaction, its API, and saga.py, the declaration."""
