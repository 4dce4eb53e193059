"""Shipping: goods on their way and called back. Knows no other service, no saga and no order."""
