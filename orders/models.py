"""The order and its lines, the keys it was asked for with, and the tokens of those who may ask."""

import datetime
from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import functions

from orders import numbers, tax_ids
from sagas import ids
from sagas import models as saga_models
from sagas.declaration import states


class Status(models.TextChoices):
    """What an order is to those who ask; derived from its saga, and stored nowhere else."""

    PENDING = "pending", "Pending"
    """Being worked on, or waiting for a payment or a delivery; nothing is final yet."""

    FULFILLED = "fulfilled", "Fulfilled"
    """Paid, invoiced and delivered. Final."""

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
    saga = models.OneToOneField("sagas.SagaInstance", models.PROTECT, related_name="order", editable=False)
    reference = models.CharField(max_length=64, blank=True)
    """The caller's own word for it, such as a cart's id."""

    customer_name = models.CharField(max_length=120)
    customer_email = models.EmailField()
    customer_tax_id = models.CharField("customer tax id", max_length=14)
    """CPF or CNPJ without punctuation."""

    recipient = models.CharField(max_length=120)
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
                condition=models.Q(state__in=sorted(tax_ids.STATES), country="BR"),
                name="orders_order_in_brazil",
            ),
            # Each hook runs in a saga's last transaction, and a saga has one end (T1).
            models.CheckConstraint(
                condition=models.Q(fulfilled_at=None, cancelled_at=None)
                | models.Q(cancelled_at=None, closed_at=None)
                | models.Q(fulfilled_at=None, closed_at=None),
                name="orders_order_has_one_end",
            ),
        ]
        indexes: ClassVar = [
            # The list of one's orders, newest first, page by page; of everybody's the primary key is one.
            models.Index(fields=["owner", "-id"], name="orders_order_of_owner"),
            # Looking an order up by the caller's own word for it.
            models.Index(
                fields=["owner", "reference"],
                condition=~models.Q(reference=""),
                name="orders_order_reference",
            ),
            # The operators' filter by amount: the few large ones are not looked for among all.
            models.Index(fields=["total_amount"], name="orders_order_total"),
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


class IdempotencyKey(models.Model):
    """A request's key, and the answer it had.

    The row is written in the transaction that does the work, so there is no "in progress" to be seen
    and none to be left behind: either the work and the answer are both there, or neither (D8).
    """

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="+")
    endpoint = models.CharField(max_length=64)
    key = models.CharField(max_length=200)
    fingerprint = models.CharField(max_length=64)
    """SHA-256 of what was asked: another question under the same key is a mistake of the caller."""
    status = models.PositiveSmallIntegerField(null=True)
    headers = models.JSONField(default=dict)
    body = models.BinaryField(null=True)
    """The answer, to the byte."""
    created_at = models.DateTimeField(db_default=functions.Now())
    expires_at = models.DateTimeField(db_index=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["owner", "endpoint", "key"], name="orders_idempotencykey_of_caller"
            ),
        ]

    def __str__(self) -> str:
        return self.key


class Scope(models.TextChoices):
    """What a token may do."""

    CUSTOMER = "customer", "Customer"
    """Place, follow and cancel its user's orders."""

    MERCHANT = "merchant", "Merchant"
    """As a customer, and be told of its orders by webhooks."""

    STAFF = "staff", "Staff"
    """See everybody's orders and their sagas; act on them as far as its user's permissions go."""


class Token(models.Model):
    """A key to the API, of which only the hash is kept: who loses it needs a new one."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="tokens")
    name = models.CharField(max_length=80, help_text="Where it is used, such as “web shop”.")
    scope = models.CharField(max_length=8, choices=Scope, default=Scope.CUSTOMER)
    digest = models.CharField(max_length=64, editable=False)
    hint = models.CharField(max_length=12, editable=False, help_text="How the token begins.")
    created_at = models.DateTimeField(db_default=functions.Now(), editable=False)
    expires_at = models.DateTimeField(null=True, blank=True, help_text="Empty: it does not expire.")
    revoked_at = models.DateTimeField(null=True, blank=True)
    used_at = models.DateTimeField("last used", null=True, blank=True, editable=False)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["digest"], name="orders_token_digest"),
            models.CheckConstraint(condition=models.Q(scope__in=Scope.values), name="orders_token_scope"),
        ]

    def __str__(self) -> str:
        return f"{self.hint}… ({self.name})"

    def is_live(self, now: datetime.datetime) -> bool:
        """Whether it opens anything at this time."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


class Throttle(models.Model):
    """How far ahead of its allowance a caller is; one row each, of no worth after a crash (unlogged)."""

    key = models.CharField(primary_key=True, max_length=80)
    due_at = models.DateTimeField()
    """When the caller would be back at rest, if it stopped now (the theoretical arrival time of GCRA)."""

    def __str__(self) -> str:
        return self.key


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


class WebhookEndpoint(models.Model):
    """Where a merchant wants to be told of its orders."""

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="webhook_endpoints")
    url = models.CharField("URL", max_length=500)
    description = models.CharField(max_length=120, blank=True)
    types = models.JSONField(default=list)
    """The types of events that it wants; one that ends in `.*` stands for all that begin so."""
    secret = models.CharField(max_length=80, editable=False)
    """Signs every message (Standard Webhooks); readable, for a signature cannot be made from a hash."""
    old_secrets = models.JSONField(default=list, editable=False)
    """Those it had before, newest first, each as `{"secret": "whsec_...", "until": "2026-11-23T12:00:00Z"}`:
    until then messages are signed with it too, so that the secret can be changed without a gap."""
    created_at = models.DateTimeField(db_default=functions.Now(), editable=False)
    failing_since = models.DateTimeField(null=True, editable=False)
    """Of the first failure since the last success."""
    served_at = models.DateTimeField(null=True, editable=False)
    """When messages to it were last taken up: whoever waits longest is next."""
    disabled_at = models.DateTimeField(null=True, blank=True)
    disabled_reason = models.CharField(max_length=200, blank=True)

    class Meta:
        indexes: ClassVar = [
            # Asked with every event of a saga: is there anybody to be told?
            models.Index(
                fields=["owner"], condition=models.Q(disabled_at=None), name="orders_webhookendpoint_live"
            ),
        ]

    def __str__(self) -> str:
        return self.url


class Outbox(models.Model):
    """Events that webhooks are to be made of: a trigger puts them here in the event's own transaction."""

    event_id = models.BigIntegerField(primary_key=True)

    def __str__(self) -> str:
        return str(self.event_id)


class WebhookRun(models.Model):
    """A process that delivers webhooks: one of a few slots, held by a lease (unlogged)."""

    slot = models.PositiveSmallIntegerField(primary_key=True)
    run = models.UUIDField()
    """Of the run that holds it, so that one whose lease is over lets go of nobody else's."""
    until = models.DateTimeField()

    def __str__(self) -> str:
        return f"slot {self.slot}"


class WebhookMessage(models.Model):
    """What is told, word for word: every attempt and every endpoint gets the same bytes."""

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    """The `webhook-id`: a receiver that has seen it has seen the message."""
    type = models.CharField(max_length=60)
    order = models.ForeignKey(Order, models.CASCADE, null=True, related_name="webhook_messages")
    """None for what is not about an order."""
    sequence = models.BigIntegerField(null=True)
    """The id of the saga's event; of one order, a later message has a higher one."""
    body = models.TextField()
    created_at = models.DateTimeField(db_default=functions.Now(), editable=False)

    class Meta:
        constraints: ClassVar = [
            # An event is told once, however often the outbox is read.
            models.UniqueConstraint(fields=["sequence"], name="orders_webhookmessage_of_event"),
        ]
        indexes: ClassVar = [models.Index(fields=["created_at"], name="orders_webhookmessage_age")]

    def __str__(self) -> str:
        return f"{self.type} {self.id}"


class DeliveryState(models.TextChoices):
    """How far the telling of one message to one endpoint got."""

    PENDING = "pending", "Pending"
    """To be sent at `next_at`, unless an earlier message of the same order is pending there."""

    DELIVERED = "delivered", "Delivered"
    """The endpoint answered with a 2xx."""

    GIVEN_UP = "given_up", "Given up"
    """Every attempt failed, or the endpoint was disabled; it can be sent again by hand."""


class WebhookDelivery(models.Model):
    """The telling of one message to one endpoint."""

    message = models.ForeignKey(WebhookMessage, models.CASCADE, related_name="deliveries")
    endpoint = models.ForeignKey(WebhookEndpoint, models.CASCADE, related_name="deliveries", db_index=False)
    order = models.ForeignKey(Order, models.CASCADE, null=True, related_name="+", db_index=False)
    sequence = models.BigIntegerField(null=True)
    state = models.CharField(max_length=10, choices=DeliveryState, default=DeliveryState.PENDING)
    attempts = models.PositiveSmallIntegerField(default=0)
    """Since it was made, or sent again by hand; also the fence of the attempt under way."""
    next_at = models.DateTimeField(null=True)
    """When to send it next; while an attempt is under way, when that one is thought dead."""
    delivered_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name_plural = "webhook deliveries"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["message", "endpoint"], name="orders_webhookdelivery_once"),
            models.CheckConstraint(
                condition=models.Q(state__in=DeliveryState.values), name="orders_webhookdelivery_state"
            ),
            models.CheckConstraint(
                condition=models.Q(state=DeliveryState.PENDING, next_at__isnull=False)
                | ~models.Q(state=DeliveryState.PENDING),
                name="orders_webhookdelivery_pending_has_next_at",
            ),
        ]
        indexes: ClassVar = [
            # What is due: a few rows, whatever the log holds.
            models.Index(
                fields=["next_at"], condition=models.Q(state="pending"), name="orders_webhookdelivery_due"
            ),
            # Whether an earlier message of the same order is pending for the same endpoint.
            models.Index(
                fields=["endpoint", "order", "sequence"],
                condition=models.Q(state="pending"),
                name="orders_webhookdelivery_order",
            ),
            # An endpoint's log, newest first.
            models.Index(fields=["endpoint", "-id"], name="orders_webhookdelivery_log"),
        ]

    def __str__(self) -> str:
        return f"{self.message_id} to {self.endpoint_id}"


class WebhookAttempt(models.Model):
    """One attempt, and what came back: the delivery log."""

    delivery = models.ForeignKey(WebhookDelivery, models.CASCADE, related_name="log")
    at = models.DateTimeField(db_default=functions.Now(), editable=False)
    duration_ms = models.PositiveIntegerField()
    status = models.PositiveSmallIntegerField(null=True)
    """None where there was no answer."""
    error = models.CharField(max_length=200, blank=True)
    response = models.CharField(max_length=500, blank=True)
    """How the answer began."""

    class Meta:
        ordering: ClassVar = ["id"]

    def __str__(self) -> str:
        return self.error or str(self.status)
