"""`manage.py seed_catalogue`."""
