"""The console's own rows: notes, consents and bulk runs. The engine knows none of them."""

from django.conf import settings
from django.db import models
from django.db.models import functions

from sagas import ids, reading
from sagas.models import SagaInstance


class FailureNote(models.Model):
    """What people know of a kind of failure, kept beside its group: a known outage, a ticket."""

    signature = models.CharField(primary_key=True, max_length=32)
    """Of the group: `sagas.console.failure_groups` says what goes into it."""

    text = models.TextField()
    actor = models.CharField(max_length=150)
    at = models.DateTimeField(db_default=functions.Now())

    class Meta:
        db_table = "sagas_console_failure_note"
        verbose_name = "failure note"

    def __str__(self) -> str:
        return self.text[:80]


class Consent(models.Model):
    """A second person's consent to an intervention, where settings.SAGAS_FOUR_EYES asks for one.

    Its table, its constraints and its states keep the names that they were first given.
    """

    class State(models.TextChoices):
        """How far it got."""

        ASKED = "asked", "Asked"
        """It waits for somebody else's word."""

        AGREED = "approved", "Agreed"
        """Somebody else agreed, and it was done."""

        REFUSED = "refused", "Refused"
        """Somebody disagreed, or the one who asked took it back. Nothing was done."""

        VOID = "void", "Void"
        """It was agreed to when it no longer applied. Nothing was done."""

    id = models.BigAutoField(primary_key=True)
    saga = models.ForeignKey(SagaInstance, models.PROTECT, related_name="consents", null=True)
    """Empty for a bulk run, which names its sagas itself."""

    intervention = models.CharField(max_length=30)
    seen = models.CharField(max_length=100, blank=True, default="", db_default="")
    """What it was decided on: see `sagas.engine.seen`. Empty in what version 0.1.0 wrote, which is void."""

    arguments = models.JSONField(default=dict)
    actor = models.CharField(max_length=150)
    reason = models.TextField()
    asked_at = models.DateTimeField(db_default=functions.Now())
    state = models.CharField(max_length=10, choices=State, default=State.ASKED)
    decided_by = models.CharField(max_length=150, blank=True, default="")
    decided_at = models.DateTimeField(null=True)
    decision = models.TextField(blank=True, default="")

    class Meta:
        db_table = "sagas_console_approval"
        verbose_name = "consent"
        constraints = [
            models.CheckConstraint(
                name="approval_state_is_known",
                condition=models.Q(state__in=["asked", "approved", "refused", "void"]),
            ),
            # Four eyes, for those who forget it: nobody agrees with himself.
            models.CheckConstraint(
                name="approval_by_somebody_else",
                condition=~models.Q(state="approved") | ~models.Q(decided_by=models.F("actor")),
            ),
            models.UniqueConstraint(
                name="approval_asked_once", fields=["saga", "intervention"], condition=models.Q(state="asked")
            ),
        ]
        indexes = [models.Index(name="approval_newest", fields=["-asked_at"])]

    def __str__(self) -> str:
        return f"{self.intervention} {self.saga_id or ''}".strip()


class BulkRun(models.Model):
    """One intervention for many sagas, in waves that grow while it goes well; the sweep drives it."""

    class State(models.TextChoices):
        """How far it got."""

        ASKED = "asked", "Waits for a second person"
        """Nothing was done yet: settings.SAGAS_FOUR_EYES wants somebody else's word."""

        RUNNING = "running", "Running"
        """A wave is under way. Nobody need do anything."""

        STOPPED = "stopped", "Stopped"
        """Too many failed again, or somebody stopped it; the rest was left alone, and it can go on."""

        FINISHED = "finished", "Finished"
        """Every saga was tried, or refused the intervention. Final."""

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    intervention = models.CharField(max_length=30)
    actor = models.CharField(max_length=150)
    reason = models.TextField()
    state = models.CharField(max_length=10, choices=State, default=State.RUNNING)
    wave = models.PositiveSmallIntegerField(default=0)
    """The wave under way, from 1; 0 before the first."""

    stopped_why = models.TextField(blank=True, default="")
    approved_by = models.CharField(max_length=150, blank=True, default="")
    created_at = models.DateTimeField(db_default=functions.Now())
    finished_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "sagas_console_bulk_run"
        verbose_name = "bulk run"
        constraints = [
            models.CheckConstraint(
                name="bulk_run_state_is_known",
                condition=models.Q(state__in=["asked", "running", "stopped", "finished"]),
            ),
            models.CheckConstraint(
                name="bulk_run_by_somebody_else", condition=~models.Q(approved_by=models.F("actor"))
            ),
        ]
        indexes = [
            models.Index(name="bulk_run_newest", fields=["-created_at"]),
            # Asked with every sweep: is there anything to drive?
            models.Index(name="bulk_run_live", fields=["id"], condition=models.Q(state="running")),
        ]

    def __str__(self) -> str:
        return f"{self.intervention} {self.id}"


class BulkItem(models.Model):
    """One saga of a bulk run, and what came of it."""

    class State(models.TextChoices):
        """How far it got."""

        PENDING = "pending", "Not tried yet"
        """Its wave has not come."""

        SENT = "sent", "Under way"
        """It was moved; whether that helped will be seen."""

        HELPED = "helped", "Helped"
        """It got past the point where it stood."""

        FAILED = "failed", "Failed again"
        """It stands where it stood, or worse."""

        REFUSED = "refused", "Did not apply"
        """When its turn came the intervention was not possible; nothing was done to it."""

        MOVED = "moved", "Moved on"
        """When its turn came it did not stand where it stood when it was chosen; nothing was done to it."""

    id = models.BigAutoField(primary_key=True)
    run = models.ForeignKey(BulkRun, models.PROTECT, related_name="items", db_index=False)
    saga = reading.SagaForeignKey(SagaInstance, models.PROTECT, related_name="+", db_index=False)
    """It may have gone to the archive, and stays a part of its run."""

    number = models.PositiveIntegerField()
    wave = models.PositiveSmallIntegerField(default=0)
    state = models.CharField(max_length=10, choices=State, default=State.PENDING)
    message = models.TextField(blank=True, default="")
    seen = models.CharField(max_length=100, blank=True, default="", db_default="")
    """What it was chosen on: see `sagas.engine.seen`. Empty in what version 0.1.0 wrote: moved on."""

    position = models.PositiveSmallIntegerField(default=0)
    """Where the saga stood when it was moved."""

    sent_at = models.DateTimeField(null=True)
    settled_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "sagas_console_bulk_item"
        verbose_name = "saga of a bulk run"
        verbose_name_plural = "sagas of bulk runs"
        ordering = ["number"]
        constraints = [
            models.UniqueConstraint(name="bulk_item_once", fields=["run", "saga"]),
            models.UniqueConstraint(name="bulk_item_number", fields=["run", "number"]),
            models.CheckConstraint(
                name="bulk_item_state_is_known",
                condition=models.Q(state__in=["pending", "sent", "helped", "failed", "refused", "moved"]),
            ),
        ]
        indexes = [
            # Asked by the archiver with each of its batches.
            models.Index(
                name="bulk_item_unfinished",
                fields=["saga"],
                condition=models.Q(state__in=["pending", "sent"]),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.number} of {self.run_id}"


class SavedView(models.Model):
    """How somebody wants to see the list of sagas again: its filters, search and order, by a name."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="+", db_index=False)
    """Whose it is: nobody else sees it, and it goes with its owner."""

    UNNAMED = ""
    """No view has this name: under it lie the columns that its owner wants where an address names none."""

    name = models.CharField(max_length=60)
    query = models.CharField(max_length=2000)
    """What the list's address says behind its question mark."""

    class Meta:
        db_table = "sagas_console_saved_view"
        verbose_name = "saved view"
        ordering = ["name"]
        constraints = [models.UniqueConstraint(name="saved_view_once", fields=["owner", "name"])]

    def __str__(self) -> str:
        return self.name
