"""What a saga is: its steps, its states and where declarations are found. Neither Django nor Celery."""
