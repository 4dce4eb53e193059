"""The project's settings, a sample app (sagas whose steps do what a script says), and the examples."""

from saga_project.settings import *  # noqa: F403 - all of them, but for what follows

INSTALLED_APPS = [*INSTALLED_APPS, "tests.sagas.sample_app", "examples"]  # noqa: F405 - as above
DATABASES = {**DATABASES, "default": {**DATABASES["default"], "ENGINE": "tests.postgres"}}  # noqa: F405 - as above
