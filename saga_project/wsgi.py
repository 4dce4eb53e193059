"""The WSGI door."""

import os

from django import db
from django.core import wsgi

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "saga_project.settings")
application = wsgi.get_wsgi_application()

# A plan that PostgreSQL keeps is one for any value, and takes a rare state for a common one: an operator who
# filters a million sagas would wait for a scan. Workers ask the same few rows by key; people ask anything.
db.connections.databases["default"]["OPTIONS"]["prepare_threshold"] = None

# After the settings, which it reads.
from saga_project import celery  # noqa: E402

celery.publish_in_haste()
