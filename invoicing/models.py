"""Invoices, the series that number them, and how long the law lets them be cancelled."""

import datetime
from typing import ClassVar

from django.db import models
from django.db.models import functions
from django.utils.translation import gettext_lazy as _


class Series(models.Model):
    """Where numbers come from. A transaction that takes one locks this row, so that none is skipped (M4)."""

    number = models.PositiveSmallIntegerField(primary_key=True)
    next_number = models.PositiveIntegerField(default=1)

    class Meta:
        verbose_name_plural = _("series")
        ordering: ClassVar = ["number"]
        constraints: ClassVar = [
            # What the access key has room for: three digits and nine.
            models.CheckConstraint(
                condition=models.Q(number__lte=999, next_number__gte=1, next_number__lte=999_999_999),
                name="invoicing_series_fits_the_access_key",
            ),
        ]

    def __str__(self) -> str:
        return str(self.number)


NATIONAL_WINDOW = datetime.timedelta(hours=24)
"""How long after its authorisation an invoice may be cancelled, by the rule of the whole country (ATO
COTEPE/ICMS 33/2008, as changed by 35/2010)."""


class CancellationWindow(models.Model):
    """A state that allows another time than the country does. Data, for the law changes."""

    state = models.CharField(primary_key=True, max_length=2)
    length = models.DurationField(help_text=_("From the authorisation on."))

    class Meta:
        ordering: ClassVar = ["state"]

    def __str__(self) -> str:
        return self.state


class Kind(models.TextChoices):
    """What a document says of the goods."""

    SALE = "sale", _("Sale")
    """They go to the customer."""

    RETURN = "return", _("Return")
    """They come back: the undo of a sale that can no longer be cancelled."""


class Status(models.TextChoices):
    """What has become of a document."""

    REQUESTED = "requested", _("Requested")
    """It has its number, and the authority was asked or is about to be. Asking by key settles it."""

    AUTHORIZED = "authorized", _("Authorised")
    """It is valid."""

    REJECTED = "rejected", _("Rejected")
    """The authority refused it; its number is used up, and is declared void by the undo."""

    NUMBER_VOIDED = "number-voided", _("Number voided")
    """It was never authorised and never will be: its number was declared void (inutilização)."""

    CANCELLED = "cancelled", _("Cancelled")
    """It was valid and was cancelled while the law allowed it."""

    RETURNED = "returned", _("Returned")
    """It was valid, and a return note, valid as well, takes it back."""

    NEVER_ISSUED = "never-issued", _("Never issued")
    """Its undo came first; it has no number and never gets one."""


UNDONE = frozenset({Status.NUMBER_VOIDED, Status.CANCELLED, Status.RETURNED, Status.NEVER_ISSUED})


class Invoice(models.Model):
    """One document per key. Never deleted: the database refuses it, as the law does."""

    key = models.CharField(max_length=110)
    """The caller's; a return note's is its sale's with `.return` behind it."""
    kind = models.CharField(max_length=8, choices=Kind, default=Kind.SALE)
    status = models.CharField(max_length=16, choices=Status, default=Status.REQUESTED)
    series = models.ForeignKey(Series, models.PROTECT, related_name="invoices", null=True, blank=True)
    number = models.PositiveIntegerField(null=True, blank=True)
    access_key = models.CharField(max_length=44, blank=True)
    protocol = models.CharField(max_length=64, blank=True, help_text=_("The authority's word for its yes."))
    mismatch = models.CharField(
        max_length=600,
        blank=True,
        default="",
        db_default="",
        help_text=_("Where the authority's word differs from what was asked."),
    )
    """With one it does not count as issued, whatever its status."""
    refusal = models.CharField(max_length=64, blank=True, help_text=_("The authority's code for its no."))
    references = models.OneToOneField(
        "self", models.PROTECT, related_name="return_note", null=True, blank=True
    )
    """The sale that a return note takes back."""
    tax_id = models.CharField(max_length=14, blank=True)
    """Whom it is made out to: a part of the document by law, and of nothing else here (A3)."""
    lines = models.JSONField(default=list)
    amount = models.BigIntegerField(default=0, help_text=_("In minor units: centavos."))
    currency = models.CharField(max_length=3, default="BRL")
    authorized_at = models.DateTimeField(_("authorised at"), null=True, blank=True)
    goods_left_at = models.DateTimeField(null=True, blank=True)
    """From then on the law wants a return note instead of a cancellation."""
    undo_requested_at = models.DateTimeField(null=True, blank=True)
    """The tombstone: once set, nothing is issued under this key (E5)."""
    undone_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(db_default=functions.Now(), editable=False)
    updated_at = models.DateTimeField(db_default=functions.Now(), editable=False)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["key"], name="invoicing_invoice_key"),
            # M4: a number is used once.
            models.UniqueConstraint(fields=["series", "number"], name="invoicing_invoice_number"),
            models.UniqueConstraint(
                fields=["access_key"], condition=~models.Q(access_key=""), name="invoicing_invoice_access_key"
            ),
            models.CheckConstraint(
                condition=models.Q(status__in=Status.values), name="invoicing_invoice_status"
            ),
            # M4: every document has its number from the first moment, but for the one that never was.
            models.CheckConstraint(
                condition=models.Q(status=Status.NEVER_ISSUED, series=None, number=None, access_key="")
                | (
                    ~models.Q(status=Status.NEVER_ISSUED)
                    & models.Q(series__isnull=False, number__isnull=False)
                    & ~models.Q(access_key="")
                ),
                name="invoicing_invoice_has_its_number",
            ),
            models.CheckConstraint(
                condition=models.Q(kind=Kind.SALE, references=None)
                | models.Q(kind=Kind.RETURN, references__isnull=False),
                name="invoicing_invoice_return_references_its_sale",
            ),
            models.CheckConstraint(
                condition=models.Q(undone_at=None)
                | models.Q(undo_requested_at__isnull=False, status__in=sorted(UNDONE)),
                name="invoicing_invoice_undone_is_undone",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["-created_at", "-id"], name="invoicing_invoice_newest"),
        ]

    def __str__(self) -> str:
        return self.key
