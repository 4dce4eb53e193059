"""How Django knows the app."""

from django import apps
from django.core import checks


class InvoicingConfig(apps.AppConfig):
    """Invoicing: invoices and the series that number them."""

    name = "invoicing"

    def ready(self) -> None:
        """Register the check of the issuer's settings."""
        from invoicing import checks as own

        checks.register(own.issuer)
