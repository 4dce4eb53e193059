"""The outside world: a bank, a fiscal authority and a carrier in one process, with books of their own.

It knows nothing of Django or of our apps, so that its books are an independent witness of what
was really done. Run it with `python -m sandbox`; docs/sandbox.md has the API.
"""
