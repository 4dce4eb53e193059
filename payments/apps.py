"""How Django knows the app."""

from django import apps


class PaymentsConfig(apps.AppConfig):
    """Payments: the bank's charges and their ledger."""

    name = "payments"
