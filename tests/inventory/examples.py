"""Products in stock, and lines that reserve them."""

from typing import Any

from inventory import models, services


def stock(**quantities: int) -> None:
    """Products with so much of each, at 10 reais."""
    for sku, quantity in quantities.items():
        services.introduce(
            sku=sku, name=sku.title(), price={"amount": 1000, "currency": "BRL"}, quantity=quantity
        )


def lines(**quantities: int) -> list[dict[str, Any]]:
    """Lines as an order gives them."""
    price = {"amount": 1000, "currency": "BRL"}
    return [
        {"sku": sku, "quantity": quantity, "name": sku.title(), "unit_price": price}
        for sku, quantity in quantities.items()
    ]


def reserve(key: str, **quantities: int) -> dict[str, Any]:
    return services.reserve(key=key, lines=lines(**quantities))


def levels(sku: str) -> tuple[int, int, int]:
    """Available, reserved, shipped."""
    product = models.Product.objects.get(sku=sku)
    return product.available, product.reserved, product.shipped
