"""The app's registration."""

from django import apps
from django.core import checks as django_checks


class OrdersConfig(apps.AppConfig):
    """Orders."""

    name = "orders"

    def ready(self) -> None:
        """Register the check on what the order's steps are called."""
        from orders import checks

        django_checks.register(checks.check_wording, "orders")
