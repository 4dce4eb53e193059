"""The project's settings with the benchmark's shop instead of the real one."""

from saga_project import env
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

if env.text("SAGAS_INLINE", ""):
    # `--lane on` and `--lane off`: whether a task goes on to the next step itself. Else the engine's default.
    SAGAS_INLINE = env.boolean("SAGAS_INLINE", True)
