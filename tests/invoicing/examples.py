"""A customer, an order to invoice, and calls of the service."""

import functools
from typing import Any

from invoicing import services

CUSTOMER = {"name": "Ana Souza", "email": "ana@example.com", "tax_id": "52998224725"}
REJECTED = CUSTOMER | {"tax_id": "00000000191"}
TOTAL = {"amount": 18290, "currency": "BRL"}
LINES = [
    {"sku": "MUG", "quantity": 2, "name": "Mug", "unit_price": {"amount": 4590, "currency": "BRL"}},
    {"sku": "MAP", "quantity": 1, "name": "Map", "unit_price": {"amount": 9110, "currency": "BRL"}},
]


def issue(key: str, customer: dict[str, str] = CUSTOMER, total: dict[str, Any] = TOTAL) -> dict[str, Any]:
    return services.issue(key=key, customer=customer, lines=LINES, total=total)


def functions(key: str, customer: dict[str, str] = CUSTOMER) -> dict[str, Any]:
    return {
        "do": functools.partial(issue, key, customer),
        "undo": functools.partial(services.cancel, key=key),
        "errors": services,
    }
