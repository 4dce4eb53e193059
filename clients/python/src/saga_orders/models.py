"""What is sent and what comes back, as frozen values.

Amounts are integers in minor units with their currency, times are aware. What a newer server tells besides is
left out, and a status that is new is handed on as it is: neither breaks an older client.
"""

import dataclasses
import datetime
import uuid
from typing import Generic, Literal, TypeAlias, TypeVar

OrderStatus = Literal["pending", "fulfilled", "cancelling", "cancelled", "attention", "closed"]
PaymentStatus = Literal[
    "pending", "awaiting_payment", "paid", "declined", "expired", "failed", "unconfirmed", "refunding",
    "refunded", "refund_failed", "cancelled", "skipped",
]  # fmt: skip
InvoiceStatus = Literal[
    "pending", "issued", "rejected", "failed", "unconfirmed", "cancelling", "cancelled", "cancel_failed",
    "skipped",
]  # fmt: skip
ShipmentStatus = Literal[
    "pending", "in_transit", "delivered", "failed", "unconfirmed", "recalling", "recalled", "recall_failed",
    "skipped",
]  # fmt: skip
StepStatus = Literal[
    "pending", "running", "waiting", "done", "failed", "unknown", "undoing", "undone", "undo_failed",
    "skipped",
]  # fmt: skip
SagaStatus = Literal["running", "compensating", "needs_attention", "completed", "compensated"]
ErrorKind = Literal[
    "refused", "outage", "mismatch", "transient", "late", "unknown", "bug", "timeout", "cancelled",
    "operator",
]  # fmt: skip

ENDED = frozenset({"fulfilled", "cancelled", "closed"})
"""The statuses that are final."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Money:
    """An amount of money: `Money(amount=18290, currency="BRL")` is R$ 182,90."""

    amount: int
    """In minor units: centavos."""
    currency: str


# --- What is sent --------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class Customer:
    """Who pays, and to whom the invoice is made out."""

    name: str
    email: str
    tax_id: str
    """CPF or CNPJ, with or without punctuation."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Line:
    """So many of one product."""

    sku: str
    quantity: int = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Card:
    """Paid at once, by the token of a card."""

    token: str
    method: Literal["card"] = dataclasses.field(default="card", init=False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pix:
    """Paid later, with the code that the order then has in `payment.pix`."""

    method: Literal["pix"] = dataclasses.field(default="pix", init=False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Address:
    """Where it goes, in Brazil."""

    recipient: str
    street: str
    number: str
    city: str
    state: str
    postal_code: str
    country: str = "BR"
    complement: str = ""
    district: str = ""


# --- What comes back -----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class OrderedLine:
    """One line of an order, at the price and under the name that it was ordered at."""

    sku: str
    name: str
    quantity: int
    unit_price: Money
    ships: bool
    """Whether it goes in a parcel; a digital product does not."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PixCode:
    """What a PIX is paid with."""

    copy_paste: str
    """The code to paste into the bank's app."""
    expires_at: datetime.datetime


@dataclasses.dataclass(frozen=True, kw_only=True)
class Payment:
    """How an order is paid, and whether it was."""

    method: Literal["card", "pix"]
    status: PaymentStatus
    key: str
    """What the bank knows it by."""
    provider_ref: str | None
    pix: PixCode | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Invoice:
    """The fiscal invoice; its numbers are None until there is one."""

    number: int | None
    series: int | None
    access_key: str | None
    status: InvoiceStatus


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shipment:
    """Where the parcel is."""

    tracking: str | None
    status: ShipmentStatus


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepError:
    """What went wrong with a step last: `kind` is for programs, `message` for people."""

    kind: ErrorKind
    message: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Failure:
    """Why an order was turned back."""

    step: str | None
    """The step at which it was."""
    kind: ErrorKind
    message: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
    """One step of an order's saga."""

    name: str
    status: StepStatus
    attempts: int
    undo_attempts: int
    started_at: datetime.datetime | None
    finished_at: datetime.datetime | None
    error: StepError | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Saga:
    """How far an order got, step by step."""

    id: uuid.UUID
    status: SagaStatus
    steps: tuple[Step, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Next:
    """What happens next."""

    message: str
    at: datetime.datetime | None
    """When, at the latest, where that is known."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Order:
    """An order, as it was when it was read."""

    id: uuid.UUID
    number: str
    """For people: ORD-7K3QX9ZD."""
    status: OrderStatus
    total: Money
    lines: tuple[OrderedLine, ...]
    payment: Payment | None
    """None for an order whose saga takes none, as are `invoice` and `shipment`."""
    invoice: Invoice | None
    shipment: Shipment | None
    """None also where nothing of it ships."""
    saga: Saga
    failure: Failure | None
    """None unless it was turned back."""
    reference: str
    """Your own word for it."""
    next: Next
    created_at: datetime.datetime
    updated_at: datetime.datetime
    undoing: tuple[str, ...] = ()
    """The steps that will be undone, in the order of undoing: told by `cancel()` alone."""

    @property
    def ended(self) -> bool:
        """Whether its status is final."""
        return self.status in ENDED


@dataclasses.dataclass(frozen=True, kw_only=True)
class Product:
    """What may be ordered."""

    sku: str
    name: str
    price: Money
    available: int
    ships: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepEvent:
    """A step of an order went on."""

    id: str
    at: datetime.datetime
    step: str
    from_: StepStatus | None
    to: StepStatus
    attempt: int | None
    message: str | None = None
    """What is waited for, where it waits."""
    error: StepError | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class OrderEvent:
    """An order's status changed; with a final one its events end."""

    id: str
    at: datetime.datetime
    status: OrderStatus
    error: StepError | None = None

    @property
    def ended(self) -> bool:
        """Whether the status is final."""
        return self.status in ENDED


Event: TypeAlias = StepEvent | OrderEvent

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Page(Generic[T]):
    """A page of a list; the cursors are None at its two ends."""

    results: tuple[T, ...]
    next_cursor: str | None
    previous_cursor: str | None
