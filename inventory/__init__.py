"""Inventory: the catalogue and its stock. Knows no other service, no saga and no order."""
