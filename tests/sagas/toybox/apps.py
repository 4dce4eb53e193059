from django import apps


class ToyboxConfig(apps.AppConfig):
    name = "tests.sagas.toybox"
    label = "toybox"
    default_auto_field = "django.db.models.BigAutoField"
