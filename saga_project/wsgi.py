"""The WSGI door."""

import os

from django.core import wsgi

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "saga_project.settings")
application = wsgi.get_wsgi_application()

# After the settings, which it reads.
from saga_project import celery  # noqa: E402

celery.publish_in_haste()
