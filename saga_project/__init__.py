"""The wiring: settings, Celery, URLs. Everyone is named here, and no one imports it."""
