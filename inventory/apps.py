"""The app's registration."""

from django import apps


class InventoryConfig(apps.AppConfig):
    """Inventory."""

    name = "inventory"
