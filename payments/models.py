"""Payments, and the ledger of what was done with their money."""

from typing import ClassVar

from django.db import models
from django.db.models import functions
from django.utils.translation import gettext_lazy as _


class Method(models.TextChoices):
    """How a customer pays."""

    CARD = "card", _("Card")
    PIX = "pix", _("PIX")


class Status(models.TextChoices):
    """What the bank last said of a payment. Whether it is to be undone is another matter: see `Payment`."""

    REQUESTED = "requested", _("Requested")
    """We are about to ask the bank, or have asked and not heard. Asking with the same key settles it."""

    PENDING = "pending", _("Pending")
    """A PIX charge waits for its payer; the bank's callback, or the end of the wait, settles it."""

    DECLINED = "declined", _("Declined")
    """The bank refused the charge; nothing was taken. Final for this key."""

    EXPIRED = "expired", _("Expired")
    """Nobody paid the PIX charge in time; nothing was taken."""

    CANCELLED = "cancelled", _("Cancelled")
    """The PIX charge was withdrawn before anybody paid."""

    VOIDED = "voided", _("Voided")
    """The bank never charged this key, and now never will: its undo came first."""

    CAPTURED = "captured", _("Captured")
    """The money is ours."""

    REFUNDED = "refunded", _("Refunded")
    """The money was ours and went back."""


AT_REST = frozenset({Status.DECLINED, Status.EXPIRED, Status.CANCELLED, Status.VOIDED, Status.REFUNDED})
"""Nothing is held or claimed any more; with captured equal to refunded, there is nothing to undo."""

NEWNESS = {
    Status.REQUESTED: 0,
    Status.PENDING: 1,
    Status.DECLINED: 2,
    Status.EXPIRED: 2,
    Status.CANCELLED: 3,
    Status.VOIDED: 3,
    Status.CAPTURED: 4,
    Status.REFUNDED: 5,
}
"""The bank's answers may reach us in any order; with equal amounts, the higher one is the later one."""

assert set(NEWNESS) == set(Status), "a status of which nobody knows how new it is"


class Payment(models.Model):
    """One payment per key, as far as we know. No card token, name or tax id is ever stored here (A3)."""

    key = models.CharField(max_length=100)
    method = models.CharField(max_length=8, choices=Method, blank=True)
    """Empty where the undo came before the action, so that nobody ever said how it was to be paid."""
    status = models.CharField(max_length=16, choices=Status, default=Status.REQUESTED)
    amount = models.BigIntegerField(default=0, help_text=_("In minor units: centavos."))
    currency = models.CharField(max_length=3, default="BRL")
    captured_currency = models.CharField(max_length=3, blank=True, default="", db_default="")
    """The currency that the bank says it took; one that was not asked for is a mismatch; it goes back."""
    captured = models.BigIntegerField(default=0, help_text=_("What the bank took, by its own word."))
    refunded = models.BigIntegerField(default=0, help_text=_("What the bank gave back, by its own word."))
    provider_ref = models.CharField(_("provider reference"), max_length=100, blank=True)
    mismatch = models.CharField(
        max_length=600,
        blank=True,
        default="",
        db_default="",
        help_text=_("Where the bank's word differs from what was asked."),
    )
    """With one it does not count as made, whatever its status; what the bank took goes back in full."""
    refusal = models.CharField(max_length=64, blank=True, help_text=_("The bank's code for its no."))
    pix_copy_paste = models.TextField(_("PIX code"), blank=True)
    pix_expires_at = models.DateTimeField(_("PIX code expires"), null=True, blank=True)
    undo_requested_at = models.DateTimeField(null=True, blank=True)
    """The tombstone: once set, no charge is begun under this key (E5), and what lands goes back (M3)."""
    undone_at = models.DateTimeField(null=True, blank=True)
    """When the bank confirmed that nothing is left; empty again as soon as money lands after all."""
    asked_at = models.DateTimeField(null=True, blank=True, editable=False)
    """When a PIX charge that was given up unpaid was last asked about: see `services.abandoned`."""
    created_at = models.DateTimeField(db_default=functions.Now(), editable=False)
    updated_at = models.DateTimeField(db_default=functions.Now(), editable=False)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["key"], name="payments_payment_key"),
            models.CheckConstraint(
                condition=models.Q(status__in=Status.values), name="payments_payment_status"
            ),
            models.CheckConstraint(
                condition=models.Q(method__in=[*Method.values, ""]), name="payments_payment_method"
            ),
            models.CheckConstraint(
                condition=models.Q(amount__gte=0, captured__gte=0, refunded__gte=0),
                name="payments_payment_no_negative_money",
            ),
            # A charge of the bank's is one payment's: who names another's speaks of another order.
            models.UniqueConstraint(
                fields=["provider_ref"],
                condition=~models.Q(provider_ref=""),
                name="payments_payment_provider_ref_once",
            ),
            # M2, for those who forget it.
            models.CheckConstraint(
                condition=models.Q(refunded__lte=models.F("captured")),
                name="payments_payment_refunds_within_captures",
            ),
            # M1, for the code that reads `undone_at` and believes it.
            models.CheckConstraint(
                condition=models.Q(undone_at=None)
                | models.Q(undo_requested_at__isnull=False, refunded=models.F("captured")),
                name="payments_payment_undone_holds_nothing",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["-created_at", "-id"], name="payments_payment_newest"),
            # `abandoned`: the few that somebody may pay though nobody waits for it any more.
            models.Index(
                fields=["undone_at"],
                condition=models.Q(method=Method.PIX, captured=0, undone_at__isnull=False),
                name="payments_payment_abandoned",
            ),
        ]

    def __str__(self) -> str:
        return self.key

    @property
    def held_in(self) -> str:
        """The currency of what was captured and refunded."""
        return self.captured_currency or self.currency


class Kind(models.TextChoices):
    """What was done with money."""

    CHARGE = "charge", _("Charge")
    """The bank accepted to collect the amount."""

    CAPTURE = "capture", _("Capture")
    """The amount became ours."""

    REFUND = "refund", _("Refund")
    """The amount went back to the payer."""

    CANCEL = "cancel", _("Cancel")
    """The amount will not be collected: withdrawn, or expired unpaid."""


class Operation(models.Model):
    """A line of a payment's ledger. Append-only: the database refuses to change or delete one."""

    payment = models.ForeignKey(Payment, models.PROTECT, related_name="operations")
    kind = models.CharField(max_length=8, choices=Kind)
    amount = models.BigIntegerField()
    source = models.CharField(max_length=110)
    """How we learned of it: the function that asked, or `callback` and the event's id."""
    at = models.DateTimeField(db_default=functions.Now(), editable=False)

    class Meta:
        ordering: ClassVar = ["id"]
        constraints: ClassVar = [
            models.CheckConstraint(condition=models.Q(kind__in=Kind.values), name="payments_operation_kind"),
            models.CheckConstraint(
                condition=models.Q(amount__gt=0), name="payments_operation_moves_something"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.amount}"
