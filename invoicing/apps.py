"""The app's registration."""

from django import apps
from django.core import checks


class InvoicingConfig(apps.AppConfig):
    """Invoicing."""

    name = "invoicing"

    def ready(self) -> None:
        """Have the issuer checked."""
        from invoicing import checks as own

        checks.register(own.issuer)
