"""The app's registration."""

from django import apps
from django.core import checks as django_checks


class OrdersConfig(apps.AppConfig):
    """The order: its rows, its saga and its REST API."""

    name = "orders"

    def ready(self) -> None:
        """Register the check on what the order's steps are called, and the kinds of problems."""
        from orders import checks
        from orders.api import kinds  # noqa: F401 - registers them

        django_checks.register(checks.check_wording, "orders")
