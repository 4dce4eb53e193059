"""The app's registration."""

from django import apps


class ShippingConfig(apps.AppConfig):
    """Shipping."""

    name = "shipping"
