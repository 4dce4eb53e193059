"""The app's registration."""

from django import apps


class PaymentsConfig(apps.AppConfig):
    """Payments."""

    name = "payments"
