"""Where merchants are told, what they are told, and how the telling of it went."""

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import functions

from orders import models as orders
from sagas import ids


class Endpoint(models.Model):
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
        verbose_name = "webhook endpoint"
        indexes: ClassVar = [
            # Asked with every event of a saga: is there anybody to be told?
            models.Index(
                fields=["owner"], condition=models.Q(disabled_at=None), name="webhooks_endpoint_live"
            ),
        ]

    def __str__(self) -> str:
        return self.url


class Outbox(models.Model):
    """Events that webhooks are to be made of: a trigger puts them here in the event's own transaction."""

    event_id = models.BigIntegerField(primary_key=True)

    def __str__(self) -> str:
        return str(self.event_id)


class Run(models.Model):
    """A process that delivers webhooks: one of a few slots, held by a lease (unlogged)."""

    slot = models.PositiveSmallIntegerField(primary_key=True)
    run = models.UUIDField()
    """Of the run that holds it, so that one whose lease is over lets go of nobody else's."""
    until = models.DateTimeField()

    class Meta:
        verbose_name = "webhook run"

    def __str__(self) -> str:
        return f"slot {self.slot}"


class Message(models.Model):
    """What is told, word for word: every attempt and every endpoint gets the same bytes.

    Those that are about an order are its owner's event log too, whether or not anybody was told.
    """

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    """The `webhook-id`: a receiver that has seen it has seen the message."""
    type = models.CharField(max_length=60)
    order = models.ForeignKey(orders.Order, models.CASCADE, null=True, related_name="webhook_messages")
    """None for what is not about an order."""
    sequence = models.BigIntegerField(null=True)
    """The id of the saga's event; of one order, a later message has a higher one."""
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, null=True, related_name="+", db_index=False
    )
    """Whose event log it stands in; None for what is in none."""
    position = models.BigIntegerField(null=True)
    """Where it stands there. Given under a lock that its writer keeps until the end of the transaction, so
    that nothing appears before what somebody has read already, as it may by `sequence`."""
    body = models.TextField()
    created_at = models.DateTimeField(db_default=functions.Now(), editable=False)

    class Meta:
        verbose_name = "webhook message"
        constraints: ClassVar = [
            # An event is told once, however often the outbox is read.
            models.UniqueConstraint(fields=["sequence"], name="webhooks_message_of_event"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["created_at"], name="webhooks_message_age"),
            # Reading an event log from a place on.
            models.Index(
                fields=["owner", "position"],
                condition=models.Q(position__isnull=False),
                name="webhooks_message_log",
            ),
        ]

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


class Delivery(models.Model):
    """The telling of one message to one endpoint."""

    message = models.ForeignKey(Message, models.CASCADE, related_name="deliveries")
    endpoint = models.ForeignKey(Endpoint, models.CASCADE, related_name="deliveries", db_index=False)
    order = models.ForeignKey(orders.Order, models.CASCADE, null=True, related_name="+", db_index=False)
    sequence = models.BigIntegerField(null=True)
    state = models.CharField(max_length=10, choices=DeliveryState, default=DeliveryState.PENDING)
    attempts = models.PositiveSmallIntegerField(default=0)
    """Since it was made, or sent again by hand; also the fence of the attempt under way."""
    next_at = models.DateTimeField(null=True)
    """When to send it next; while an attempt is under way, when that one is thought dead."""
    delivered_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name = "webhook delivery"
        verbose_name_plural = "webhook deliveries"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["message", "endpoint"], name="webhooks_delivery_once"),
            models.CheckConstraint(
                condition=models.Q(state__in=DeliveryState.values), name="webhooks_delivery_state"
            ),
            models.CheckConstraint(
                condition=models.Q(state=DeliveryState.PENDING, next_at__isnull=False)
                | ~models.Q(state=DeliveryState.PENDING),
                name="webhooks_delivery_pending_has_next_at",
            ),
        ]
        indexes: ClassVar = [
            # What is due: a few rows, whatever the log holds.
            models.Index(
                fields=["next_at"], condition=models.Q(state="pending"), name="webhooks_delivery_due"
            ),
            # Whether an earlier message of the same order is pending for the same endpoint.
            models.Index(
                fields=["endpoint", "order", "sequence"],
                condition=models.Q(state="pending"),
                name="webhooks_delivery_order",
            ),
            # What an endpoint was not told in the end, to be sent again.
            models.Index(
                fields=["endpoint", "message"],
                condition=models.Q(state="given_up"),
                name="webhooks_delivery_given_up",
            ),
            # An endpoint's log, newest first.
            models.Index(fields=["endpoint", "-id"], name="webhooks_delivery_log"),
        ]

    def __str__(self) -> str:
        return f"{self.message_id} to {self.endpoint_id}"


class Attempt(models.Model):
    """One attempt, and what came back: the delivery log."""

    delivery = models.ForeignKey(Delivery, models.CASCADE, related_name="log")
    at = models.DateTimeField(db_default=functions.Now(), editable=False)
    duration_ms = models.PositiveIntegerField()
    status = models.PositiveSmallIntegerField(null=True)
    """None where there was no answer."""
    error = models.CharField(max_length=200, blank=True)
    response = models.CharField(max_length=500, blank=True)
    """How the answer began."""

    class Meta:
        verbose_name = "webhook attempt"
        ordering: ClassVar = ["id"]

    def __str__(self) -> str:
        return self.error or str(self.status)
