"""The application behind other handlers than ours: Django's own, for WSGI and for ASGI servers."""

import os

import django
from django.core.handlers import asgi, wsgi

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "saga_project.settings")
django.setup(set_prefix=False)

# After the settings, which they read. As saga_project/asgi.py does.
from saga_project import celery, postgres  # noqa: E402

postgres.assume("web")
celery.publish_in_haste()
by_wsgi = wsgi.WSGIHandler()
by_asgi = asgi.ASGIHandler()
