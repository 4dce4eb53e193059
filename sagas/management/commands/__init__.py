"""`manage.py startsaga`. `manage.py saga` is the console's."""
