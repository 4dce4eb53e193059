"""Payments: money taken and given back. Knows no other service, no saga and no order."""
