"""The wiring: settings, Celery, URLs. It names every other package, and none imports it."""
