from django import apps


class SampleAppConfig(apps.AppConfig):
    name = "tests.sagas.sample_app"
    label = "sample_app"
    default_auto_field = "django.db.models.BigAutoField"
