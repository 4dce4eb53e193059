"""The app's registration."""

from django import apps


class OrdersConfig(apps.AppConfig):
    """Orders."""

    name = "orders"
