"""What an order's services refuse, in words for the caller."""

from collections.abc import Mapping, Sequence
from typing import Any


class OrderError(Exception):
    """The request cannot be granted."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or " ".join((type(self).__doc__ or "").split()))


class UnknownProduct(OrderError):
    """There is no such product."""

    def __init__(self, positions: dict[int, str]) -> None:
        """`positions` maps the index of each line in question to its SKU."""
        super().__init__()
        self.positions = positions


class MixedCurrencies(OrderError):
    """An order is paid in one currency, and its products are priced in several. Place one order for each."""

    def __init__(self, currency: str, positions: dict[int, str]) -> None:
        """`positions` maps the index of each line that is priced otherwise than in `currency` to its own."""
        super().__init__()
        self.currency = currency
        self.positions = positions


class NoAddress(OrderError):
    """Something of the order ships, and nobody said where to."""

    def __init__(self, ships: Sequence[int]) -> None:
        """`ships` has the index of each line that does."""
        super().__init__()
        self.ships = ships


class TotalDiffers(OrderError):
    """The order costs something else than was expected."""

    def __init__(self, *, expected: Mapping[str, Any], total: Mapping[str, Any]) -> None:
        """Both as money is written everywhere: minor units, and a currency."""
        super().__init__(
            f"The order comes to {total['amount']} {total['currency']}, and not to"
            f" {expected['amount']} {expected['currency']}, in minor units. Nothing was placed."
        )
        self.expected = expected
        self.total = total


class NumberTaken(OrderError):
    """By chance another order has the number that this one was given. Place it again."""


class NoCustomer(OrderError):
    """Orders know their customer by CPF, CNPJ or e-mail address; name one of these."""


class NotErasable(OrderError):
    """This cannot be erased now; look at the orders and at the request again."""
