"""How Django knows the app."""

from django import apps


class InventoryConfig(apps.AppConfig):
    """Inventory: the catalogue, its stock and the reservations."""

    name = "inventory"
