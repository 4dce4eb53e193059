"""The application that a web server serves; `python -m saga_project.web` is one that does."""

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "saga_project.settings")
django.setup(set_prefix=False)

# After the settings, which they read.
from saga_project import celery, postgres, serving  # noqa: E402

postgres.assume("web")
celery.publish_in_haste()
application = serving.Handler()
