"""The project's settings, for a program without the safeguard that MAIMED_WITHOUT names."""

import os

from django.core.exceptions import ImproperlyConfigured

from saga_project.local import maimed
from saga_project.settings import *  # noqa: F403 - all of them, but for what follows

if os.environ.get(maimed.VARIABLE) not in maimed.WAYS:
    raise ImproperlyConfigured(f"{maimed.VARIABLE} must be one of {', '.join(maimed.WAYS)}.")
if os.environ.get("PLAIN_HTTP") != "1":
    raise ImproperlyConfigured(
        "A program without a safeguard is for the local stack only, which sets PLAIN_HTTP."
    )

INSTALLED_APPS = [*INSTALLED_APPS, "saga_project.local.maimed.apps.Maimed"]  # noqa: F405 - as above
