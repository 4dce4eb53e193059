"""The ASGI door: the same application, for the streams of server-sent events."""

import os

from django.core import asgi

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "saga_project.settings")
application = asgi.get_asgi_application()

# After the settings, which it reads.
from saga_project import celery  # noqa: E402

celery.publish_in_haste()
