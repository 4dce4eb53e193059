"""Inventory: the catalogue and its stock. Knows no other room."""
