"""The admin's configuration: its site is ours."""

from django.contrib.admin import apps


class AdminConfig(apps.AdminConfig):
    """Django's own, with our site."""

    default_site = "saga_project.admin.Site"
