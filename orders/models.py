"""The order and its lines; and who follows it."""

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import functions
from django.utils.translation import gettext_lazy as _

from orders import numbers, tax_ids
from sagas import ids, reading
from sagas import models as saga_models
from sagas.declaration import states


class Status(models.TextChoices):
    """What an order is to those who ask; derived from its saga, and stored nowhere else."""

    PENDING = "pending", "Pending"
    """Being worked on, or waiting for a review, a payment or a delivery; nothing is final yet."""

    FULFILLED = "fulfilled", "Fulfilled"
    """Paid, invoiced and, where anything of it ships, delivered. Final."""

    CANCELLING = "cancelling", "Cancelling"
    """What was done is being undone, last action first."""

    CANCELLED = "cancelled", "Cancelled"
    """Nothing of it is left: money returned, stock released, invoice and shipment undone. Final."""

    ATTENTION = "attention", "Needs attention"
    """The shop has to look at it; nothing is lost, and it goes on from where it stands."""

    CLOSED = "closed", "Closed"
    """The staff ended it by hand, and settled by hand what was left of it. Final."""


STATUS_OF = {
    states.SagaState.RUNNING: Status.PENDING,
    states.SagaState.COMPLETED: Status.FULFILLED,
    states.SagaState.COMPENSATING: Status.CANCELLING,
    states.SagaState.COMPENSATED: Status.CANCELLED,
    states.SagaState.NEEDS_ATTENTION: Status.ATTENTION,
}
"""Unless its saga was put aside: then it is closed."""

SAGA_STATE_OF = {status: state for state, status in STATUS_OF.items()}
FINAL = frozenset({Status.FULFILLED, Status.CANCELLED, Status.CLOSED})

BEGINNING = "saga.begun"
"""The kind of the event with which a saga begins: its order was placed."""

CLOSING = "operator.close"
"""The kind of the event with which a saga is put aside, and its order is closed."""

assert set(STATUS_OF) == set(states.SagaState), "a saga state that no order status stands for"
assert {*SAGA_STATE_OF, Status.CLOSED} == set(Status), "an order status that no saga state leads to"


def status_after(event: saga_models.Event) -> Status:
    """What an order came to with this event of its saga, which is about the saga itself and not a step."""
    return Status.CLOSED if event.kind == CLOSING else STATUS_OF[states.SagaState(event.to_state)]


class PaymentMethod(models.TextChoices):
    """How a customer may pay."""

    CARD = "card", "Card"
    """At once, with a token that the card's form gave."""

    PIX = "pix", "PIX"
    """Later, by a code that the customer copies into the bank's app; it expires."""


class Order(models.Model):
    """What a customer wants, from whom, and where it goes; how far it got is its saga's to say."""

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    number = models.CharField(max_length=16, default=numbers.new, editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="orders")
    """Whose token placed it, and who may see it."""
    saga = reading.SagaOneToOneField(
        "sagas.SagaInstance", models.PROTECT, related_name="order", editable=False
    )
    """An order outlives the rows of its saga, which is read from the archive then."""

    reference = models.CharField(max_length=64, blank=True)
    """The caller's own word for it, such as a cart's id."""

    customer_name = models.CharField(max_length=120)
    customer_email = models.EmailField()
    customer_tax_id = models.CharField("customer tax id", max_length=14)
    """CPF or CNPJ without punctuation."""

    recipient = models.CharField(max_length=120)
    """It and what follows, down to the country, is empty where nothing ships and nobody said where to."""
    street = models.CharField(max_length=120)
    street_number = models.CharField(max_length=20)
    """Text, for there are houses "12-A" and "s/n"."""
    complement = models.CharField(max_length=120, blank=True)
    district = models.CharField(max_length=80, blank=True)
    city = models.CharField(max_length=80)
    state = models.CharField(max_length=2)
    postal_code = models.CharField(max_length=9)
    country = models.CharField(max_length=2, default="BR")

    payment_method = models.CharField(max_length=8, choices=PaymentMethod)
    total_amount = models.BigIntegerField(help_text="In minor units: centavos.")
    currency = models.CharField(max_length=3, default="BRL")

    cancel_reason = models.CharField(max_length=200, blank=True)
    """Why its cancellation was asked for; empty where it failed by itself, which the saga explains."""
    created_at = models.DateTimeField(db_default=functions.Now(), editable=False)
    fulfilled_at = models.DateTimeField(null=True, blank=True, editable=False)
    cancelled_at = models.DateTimeField(null=True, blank=True, editable=False)
    closed_at = models.DateTimeField(null=True, blank=True, editable=False)
    erased_at = models.DateTimeField(null=True, blank=True, editable=False)
    """When the customer's data was struck out of it, on their request: see `orders.erasure`."""
    kept_until = models.DateField(null=True, blank=True, editable=False)
    """Of one that was erased: the day from which the tax id is struck out of the next of its invoices."""

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["number"], name="orders_order_number"),
            models.CheckConstraint(
                condition=models.Q(total_amount__gte=0), name="orders_order_total_not_negative"
            ),
            models.CheckConstraint(
                condition=models.Q(payment_method__in=PaymentMethod.values),
                name="orders_order_payment_method",
            ),
            models.CheckConstraint(
                condition=models.Q(country="BR", state__in=sorted(tax_ids.STATES))
                | models.Q(country="", state=""),
                name="orders_order_in_brazil_if_anywhere",
            ),
            # Each hook runs in a saga's last transaction, and a saga has one end (T1).
            models.CheckConstraint(
                condition=models.Q(fulfilled_at=None, cancelled_at=None)
                | models.Q(cancelled_at=None, closed_at=None)
                | models.Q(fulfilled_at=None, closed_at=None),
                name="orders_order_has_one_end",
            ),
            models.CheckConstraint(
                condition=models.Q(kept_until=None) | models.Q(erased_at__isnull=False),
                name="orders_order_kept_until_erased",
            ),
        ]
        indexes: ClassVar = [
            # The list of one's orders, newest first, page by page; of everybody's the primary key is one.
            models.Index(fields=["owner", "-id"], name="orders_order_of_owner"),
            # What ended since a time, or goes on: both are looked through for what has changed.
            models.Index(
                models.F("owner"),
                functions.Coalesce("fulfilled_at", "cancelled_at", "closed_at"),
                name="orders_order_ended",
            ),
            # Looking an order up by the caller's own word for it.
            models.Index(
                fields=["owner", "reference"],
                condition=~models.Q(reference=""),
                name="orders_order_reference",
            ),
            # The operators' filter by amount: the few large ones are not looked for among all.
            models.Index(fields=["total_amount"], name="orders_order_total"),
            # Erased ones of which something is still kept: asked each minute.
            models.Index(
                fields=["kept_until"],
                condition=models.Q(kept_until__isnull=False),
                name="orders_order_kept_until",
            ),
        ]
        permissions: ClassVar = [
            ("review_order", "Can say whether an order that waits for a review is accepted"),
        ]

    def __str__(self) -> str:
        return self.number

    @property
    def status(self) -> Status:
        """What the saga's state means to those who wait for the order."""
        if self.saga.closed_at is not None:
            return Status.CLOSED
        return STATUS_OF[states.SagaState(self.saga.state)]


class OrderLine(models.Model):
    """So many of one product, at the price and under the name it had when it was ordered."""

    order = models.ForeignKey(Order, models.CASCADE, related_name="lines")
    position = models.PositiveSmallIntegerField()
    sku = models.CharField("SKU", max_length=32)
    name = models.CharField(max_length=120)
    quantity = models.PositiveSmallIntegerField()
    unit_amount = models.BigIntegerField(help_text="In minor units: centavos.")
    currency = models.CharField(max_length=3, default="BRL")
    ships = models.BooleanField(default=True, db_default=True)
    """Whether it goes in a parcel, as the product said then; an order ships if any line of it does."""

    class Meta:
        ordering: ClassVar = ["position"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["order", "position"], name="orders_orderline_position"),
            models.UniqueConstraint(fields=["order", "sku"], name="orders_orderline_sku_once"),
            models.CheckConstraint(
                condition=models.Q(quantity__gte=1, quantity__lte=999), name="orders_orderline_quantity"
            ),
            models.CheckConstraint(
                condition=models.Q(unit_amount__gte=0), name="orders_orderline_price_not_negative"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.quantity} x {self.sku}"


class FlaggedCustomer(models.Model):
    """A customer whose orders are looked at by a person before they are paid: only those placed from now on.

    Known by the tax id, which every order has, whoever placed it. It goes when the customer is erased.
    """

    tax_id = models.CharField("customer tax id", max_length=14)
    """CPF or CNPJ without punctuation, as orders have it."""
    reason = models.CharField(max_length=200, help_text=_("Nothing that names the customer."))
    flagged_by = models.CharField(max_length=150, editable=False)
    flagged_at = models.DateTimeField(db_default=functions.Now(), editable=False)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["tax_id"], name="orders_flaggedcustomer_tax_id"),
        ]

    def __str__(self) -> str:
        return self.reason


class Follower(models.Model):
    """A web process that follows a saga: only for these does an event cost a NOTIFY (unlogged).

    PostgreSQL lets transactions that notify commit one after the other, so they had better be few.
    """

    saga_id = models.UUIDField()
    process = models.UUIDField()
    until = models.DateTimeField()
    """Set forward while the process lives and follows."""

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["saga_id", "process"], name="orders_follower_once"),
        ]

    def __str__(self) -> str:
        return f"{self.process} follows {self.saga_id}"


class ErasureState(models.TextChoices):
    """How far a customer's request got."""

    ASKED = "asked", _("Asked")
    """It waits for a second person's word. Nothing was done."""

    APPROVED = "approved", _("Approved")
    """A second person agreed. It is being done, order by order."""

    REFUSED = "refused", _("Refused")
    """Somebody disagreed, or the one who asked took it back. Nothing was done."""

    DONE = "done", _("Done")
    """The customer's data is struck out of every order that it names. Final."""


class Erasure(models.Model):
    """A customer's request that their data be erased: who asked, who agreed, and which orders it was.

    Not who the customer is: of what identified them only a keyed hash is here, by which a request can be
    found again if the customer asks what became of it.
    """

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    reason = models.CharField(max_length=200)
    """The number of the request, say; nothing that names the customer."""
    order_ids = models.JSONField(_("orders"), default=list)
    customer_salt = models.CharField(max_length=32, editable=False)
    customer_digest = models.CharField(max_length=64, editable=False)
    state = models.CharField(max_length=8, choices=ErasureState, default=ErasureState.ASKED)
    asked_by = models.CharField(max_length=150)
    asked_at = models.DateTimeField(db_default=functions.Now(), editable=False)
    decided_by = models.CharField(max_length=150, blank=True, default="")
    decided_at = models.DateTimeField(null=True, blank=True)
    done_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=models.Q(state__in=ErasureState.values), name="orders_erasure_state"
            ),
            # It cannot be taken back: nobody agrees with himself, and nothing is done unagreed.
            models.CheckConstraint(
                condition=models.Q(state__in=["asked", "refused"])
                | (~models.Q(decided_by="") & ~models.Q(decided_by=models.F("asked_by"))),
                name="orders_erasure_by_two",
            ),
            models.CheckConstraint(
                condition=models.Q(state="done", done_at__isnull=False)
                | (~models.Q(state="done") & models.Q(done_at=None)),
                name="orders_erasure_done_at",
            ),
        ]
        indexes: ClassVar = [
            # What is still to be done: asked each minute.
            models.Index(
                fields=["id"], condition=models.Q(state="approved"), name="orders_erasure_under_way"
            ),
        ]
        permissions: ClassVar = [
            ("erase_customer", "Can have a customer's data erased, or agree to it"),
        ]

    def __str__(self) -> str:
        return self.reason
