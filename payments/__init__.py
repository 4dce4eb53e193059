"""Payments: money taken and given back. Knows no other room."""
