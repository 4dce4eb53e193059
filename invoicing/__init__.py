"""Invoicing: notas fiscais, issued and cancelled. Knows no other room."""
