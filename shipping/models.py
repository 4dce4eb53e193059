"""Shipments, and what the carrier reported of them."""

from typing import ClassVar

from django.db import models
from django.db.models import functions
from django.utils.translation import gettext_lazy as _


class Status(models.TextChoices):
    """Where the carrier last said that a parcel is. Whether it is to come back is another matter."""

    REQUESTED = "requested", _("Requested")
    """We are about to book, or have asked and not heard. Asking with the same key settles it."""

    REFUSED = "refused", _("Refused")
    """The carrier does not take it. Final for this key."""

    BOOKED = "booked", _("Booked")
    """The carrier will come for it; it is still here."""

    HANDED_OVER = "handed_over", _("Handed over")
    """It is on the road."""

    FAILED = "failed", _("Delivery failed")
    """The carrier could not deliver it, and still has it."""

    DELIVERED = "delivered", _("Delivered")
    """It is with the customer."""

    RECALLED = "recalled", _("Recalled")
    """It never left: the booking was withdrawn, or never made and now never will be."""

    RETURNED = "returned", _("Returned")
    """It was on the road and came back, or is on its way back."""


UNDONE = frozenset({Status.RECALLED, Status.RETURNED})

NEWNESS = {
    Status.REQUESTED: 0,
    Status.REFUSED: 1,
    Status.BOOKED: 1,
    Status.HANDED_OVER: 2,
    Status.FAILED: 3,
    Status.DELIVERED: 4,
    Status.RECALLED: 5,
    Status.RETURNED: 6,
}
"""The carrier's reports may reach us in any order; the higher status is the later one."""

assert set(NEWNESS) == set(Status), "a status of which nobody knows how new it is"


class Shipment(models.Model):
    """One shipment per key. Whom it goes to is the order's to know; here is no name and no address (A3)."""

    key = models.CharField(max_length=100)
    status = models.CharField(max_length=16, choices=Status, default=Status.REQUESTED)
    access_key = models.CharField(max_length=44, blank=True)
    """Of the invoice that travels with the goods."""
    parcels = models.PositiveSmallIntegerField(default=0)
    tracking = models.CharField(_("tracking code"), max_length=64, blank=True)
    mismatch = models.CharField(
        max_length=600,
        blank=True,
        default="",
        db_default="",
        help_text=_("Where the carrier's word differs from what was asked."),
    )
    """With one it does not count as delivered, whatever its status."""
    refusal = models.CharField(max_length=64, blank=True, help_text=_("The carrier's code for its no."))
    undo_requested_at = models.DateTimeField(null=True, blank=True)
    """The tombstone: once set, nothing is booked under this key (E5)."""
    undone_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(db_default=functions.Now(), editable=False)
    updated_at = models.DateTimeField(db_default=functions.Now(), editable=False)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["key"], name="shipping_shipment_key"),
            models.CheckConstraint(
                condition=models.Q(status__in=Status.values), name="shipping_shipment_status"
            ),
            models.CheckConstraint(
                condition=models.Q(undone_at=None)
                | models.Q(undo_requested_at__isnull=False, status__in=sorted(UNDONE)),
                name="shipping_shipment_undone_is_undone",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["-created_at", "-id"], name="shipping_shipment_newest"),
            models.Index(fields=["tracking"], name="shipping_shipment_tracking"),
        ]

    def __str__(self) -> str:
        return self.key


class TrackingEvent(models.Model):
    """A report of the carrier's. Append-only: the database refuses to change or delete one."""

    shipment = models.ForeignKey(Shipment, models.PROTECT, related_name="tracking_events")
    status = models.CharField(max_length=16, choices=Status)
    occurred_at = models.DateTimeField(db_default=functions.Now())
    """By the carrier's clock where it told us by itself, by ours where we asked."""
    source = models.CharField(max_length=110)
    """How we learned of it: the function that asked, or `callback` and the event's id."""
    at = models.DateTimeField(db_default=functions.Now(), editable=False)

    class Meta:
        ordering: ClassVar = ["id"]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=models.Q(status__in=Status.values), name="shipping_trackingevent_status"
            ),
            # A parcel comes to each place once; being told so again is no news.
            models.UniqueConstraint(fields=["shipment", "status"], name="shipping_trackingevent_once"),
        ]

    def __str__(self) -> str:
        return self.status
