"""The app's registration."""

from django import apps


class ApiConfig(apps.AppConfig):
    """What the REST APIs share."""

    name = "api"
    verbose_name = "Access to the API"
