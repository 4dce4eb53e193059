"""Shipping: goods on their way and called back. Knows no other room."""
