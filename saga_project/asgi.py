"""The ASGI door: the same application, for the streams of server-sent events."""

import os

from django.core import asgi

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "saga_project.settings")
application = asgi.get_asgi_application()

# After the settings, which they read.
from saga_project import celery, postgres  # noqa: E402

postgres.assume("web")
celery.publish_in_haste()
