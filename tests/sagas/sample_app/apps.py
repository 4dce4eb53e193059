import os

from django import apps

from sagas.declaration import registry


class SampleAppConfig(apps.AppConfig):
    name = "tests.sagas.sample_app"
    label = "sample_app"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self):
        """Declare what is told beside the toys: a deployment of the toy box that another one replaces."""
        if deployment := os.environ.get("TOYS_DEPLOYMENT"):
            registry.load(f"tests.sagas.sample_app.{deployment}")
