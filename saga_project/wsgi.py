"""The WSGI door."""

import os

from django.core import wsgi

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "saga_project.settings")
application = wsgi.get_wsgi_application()

# After the settings, which they read.
from saga_project import celery, postgres  # noqa: E402

postgres.assume("web")
celery.publish_in_haste()
