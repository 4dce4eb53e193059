"""How Django knows the app."""

from django import apps


class ExamplesConfig(apps.AppConfig):
    """The examples. Only the settings of the tests install them."""

    name = "examples"
    default_auto_field = "django.db.models.BigAutoField"
