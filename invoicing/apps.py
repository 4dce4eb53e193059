"""The app's registration."""

from django import apps


class InvoicingConfig(apps.AppConfig):
    """Invoicing."""

    name = "invoicing"
