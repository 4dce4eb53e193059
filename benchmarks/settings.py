"""The project's settings with the benchmark's shop instead of the real one."""

from saga_project.settings import *  # noqa: F403 - all of them, but for what follows

INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "sagas",
    "sagas.console",
    "api",
    "benchmarks.shop",
]
ROOT_URLCONF = "benchmarks.urls"
SAGAS_ROLES_SEE: list[str] = []
