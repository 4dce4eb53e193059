"""How Django knows the app."""

from django import apps


class ShippingConfig(apps.AppConfig):
    """Shipping: the carrier's shipments and their tracking."""

    name = "shipping"
