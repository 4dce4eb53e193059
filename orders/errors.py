"""What an order's services refuse, in words for the caller."""


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


class NumberTaken(OrderError):
    """By chance another order has the number that this one was given. Place it again."""


class NoCustomer(OrderError):
    """Orders know their customer by CPF, CNPJ or e-mail address; name one of these."""


class NotErasable(OrderError):
    """This cannot be erased now; look at the orders and at the request again."""
