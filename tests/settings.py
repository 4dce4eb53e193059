"""The project's settings, a sample app (sagas whose steps do what a script says), and the examples."""

from saga_project.settings import *  # noqa: F403 - all of them, but for what follows

INSTALLED_APPS = [*INSTALLED_APPS, "tests.sagas.sample_app", "examples"]  # noqa: F405 - as above
DATABASES = {**DATABASES, "default": {**DATABASES["default"], "ENGINE": "tests.postgres"}}  # noqa: F405 - as above

# A password is kept in a second's work on purpose. How is Django's affair, and no test of ours is about it.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
