"""Invoicing: notas fiscais, issued and cancelled. Knows no other service, no saga and no order."""
