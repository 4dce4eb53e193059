"""The rows: the only truth about a saga. The session that holds the instance's lock decides (D7)."""

import datetime
import uuid
from collections.abc import Iterable
from typing import Any

from django.db import models
from django.db.models import functions
from django.db.models.fields.json import KeyTextTransform

from sagas import errors, ids
from sagas.declaration import definition, registry
from sagas.declaration.states import Direction, SagaState, StepState


class ClockTimestamp(models.Func):
    """The database's clock at this very moment, not at the start of the transaction (D9)."""

    template = "clock_timestamp()"
    output_field = models.DateTimeField()


class SagaInstance(models.Model):
    """One run of a declared saga."""

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    name = models.CharField(max_length=50)
    version = models.PositiveSmallIntegerField()
    fingerprint = models.CharField(max_length=16)
    key = models.CharField(max_length=100)
    """The business key: the order's id, say. At most one live saga of a name has it."""

    parent_id = models.UUIDField(null=True)
    """The saga of whose step it is a child. No foreign key: each goes into the archive by itself."""

    parent_step = models.CharField(max_length=50, null=True)  # noqa: DJ001 - null means "no child"
    parent_item = models.PositiveIntegerField(null=True)
    """Which element of that step's list it is for, from 0; 0 where there is no list."""

    tells_parent_at = models.DateTimeField(null=True)
    """Since when its parent is to hear that something became of it; null once it has. A child never locks its
    parent's row: this is the entry in its parent's inbox, written in the child's own transaction."""

    counted_as = models.CharField(max_length=15, null=True)  # noqa: DJ001 - null means "not counted yet"
    """As what its parent counts it (`sagas.engine.children.Counted`); what it has to tell is what has changed
    since. Written by its parent alone."""

    state = models.CharField(max_length=20, choices=SagaState.choices(), default=SagaState.RUNNING.value)
    direction = models.SmallIntegerField(
        choices=[(way.value, way.name.capitalize()) for way in Direction], default=Direction.FORWARD.value
    )
    position = models.PositiveSmallIntegerField(default=0)
    """The step to be done next, or undone next; the number of steps once all are done."""

    epoch = models.PositiveIntegerField(default=1)
    """The fencing token of messages: those of an earlier dispatch are void."""

    facts = models.JSONField(default=dict)
    """What it was given, and what its steps gave: the arguments of the functions. May be personal."""

    wake_at = models.DateTimeField(null=True)
    """When the sweep must look again. The outbox, the timer and the watchdog are this column."""

    dispatched_at = models.DateTimeField(null=True)
    """When the message now thought to be under way was sent; null when none is expected."""

    parked_for = models.CharField(max_length=50, null=True)  # noqa: DJ001 - null means "not parked"
    """The service whose open circuit it waits for: without a message, and without a timer but the far one
    of `wake_at`, which is there in case it is not woken."""

    parked_rank = models.PositiveSmallIntegerField(default=0, db_default=0)
    """How often the step that it is parked at has failed: the least often tried first."""

    in_line_for = models.CharField(max_length=50, null=True)  # noqa: DJ001 - null means "in no line"
    """The queue in whose line it stands: it is due, and the sweep sends it when its turn comes."""

    dispatches = models.PositiveSmallIntegerField(default=1)
    """Dispatches since the last progress; each redispatch waits twice as long as the one before."""

    deadline_at = models.DateTimeField(null=True)
    """For the direction it now goes in; null once it has run out and been acted upon. Begins anew when a
    saga that needs attention goes on after it."""

    failure = models.JSONField(null=True)
    """The first failure, kept for ever (A2): step, kind, error, message, attempt, clock, at."""

    attention = models.JSONField(null=True)
    """Why it needs attention: step, why, advice, since."""

    resumes = models.PositiveSmallIntegerField(default=0, db_default=0)
    """How often it was tried again by itself in vain: the pause before the next time doubles."""

    alerted_at = models.DateTimeField(null=True)
    """When it was alerted, once for all (A4)."""

    cancel_requested_at = models.DateTimeField(null=True)
    cancel_reason = models.TextField(blank=True, default="")
    cancel_actor = models.CharField(max_length=150, blank=True, default="")

    held_at = models.DateTimeField(null=True)
    """Since when an operator holds it: nothing new begins until it is released."""

    closed_at = models.DateTimeField(null=True)
    """When an operator put a saga that needs attention aside for good. Nothing is deleted."""

    traceparent = models.CharField(max_length=55, null=True)  # noqa: DJ001 - null means "none was given"
    """The W3C trace context of the request that began it: its trace belongs to that one."""

    created_at = models.DateTimeField(db_default=functions.Now())
    updated_at = models.DateTimeField(db_default=functions.Now())
    finished_at = models.DateTimeField(null=True)

    steps: "models.Manager[StepInstance]"
    events: "models.Manager[Event]"

    archived_at: datetime.datetime | None = None
    """No column: since when it is in the archive, where it was read from there (`sagas.reading`)."""

    class Meta:
        db_table = "sagas_saga"
        verbose_name = "saga"
        constraints = [
            models.CheckConstraint(
                name="saga_state_is_known", condition=models.Q(state__in=SagaState.values())
            ),
            models.CheckConstraint(
                name="saga_direction_is_known",
                condition=models.Q(direction__in=[direction.value for direction in Direction]),
            ),
            # T3: whoever reads finished_at may rely on the state being final, and the reverse.
            models.CheckConstraint(
                name="saga_finished_at_iff_final",
                condition=models.Q(finished_at__isnull=False, state__in=["completed", "compensated"])
                | models.Q(
                    finished_at__isnull=True, state__in=["running", "compensating", "needs_attention"]
                ),
            ),
            # D1: a live saga that no sweep would ever look at again is lost. Only a person, or a
            # person's release, may be what it waits for.
            models.CheckConstraint(
                name="saga_live_has_wake_at",
                condition=models.Q(wake_at__isnull=False, finished_at__isnull=True)
                | models.Q(wake_at__isnull=True, finished_at__isnull=False)
                | models.Q(wake_at__isnull=True, state="needs_attention"),
            ),
            # A saga that is sent on, has ended or needs a person waits for no circuit any more.
            models.CheckConstraint(
                name="saga_parked_has_no_message",
                condition=models.Q(parked_for__isnull=True)
                | models.Q(dispatched_at__isnull=True, state__in=["running", "compensating"]),
            ),
            # However often a stage is entered, each element has one child.
            models.UniqueConstraint(
                name="saga_one_child_per_element",
                fields=["parent_id", "parent_step", "parent_item"],
                condition=models.Q(parent_id__isnull=False),
            ),
            models.UniqueConstraint(
                name="saga_one_live_per_key",
                fields=["name", "key"],
                condition=models.Q(finished_at__isnull=True, closed_at__isnull=True),
            ),
        ]
        indexes = [
            # The sweep reads this and nothing else, whatever the history holds.
            models.Index(name="saga_due", fields=["wake_at"], condition=models.Q(wake_at__isnull=False)),
            # Those that wait for a circuit, in the order in which they are let through and woken.
            models.Index(
                name="saga_parked",
                fields=["parked_for", "parked_rank", "id"],
                condition=models.Q(parked_for__isnull=False),
            ),
            # Those that stand in the line of a queue: the oldest saga first.
            models.Index(
                name="saga_in_line",
                fields=["in_line_for", "id"],
                condition=models.Q(in_line_for__isnull=False),
            ),
            # Children of which their parents have not heard: a few, whatever the history holds.
            models.Index(
                name="saga_tells_parent",
                fields=["tells_parent_at"],
                condition=models.Q(tells_parent_at__isnull=False),
            ),
            # The same by their parent, which hears all of them at once.
            models.Index(
                name="saga_told",
                fields=["parent_id", "parent_step"],
                condition=models.Q(tells_parent_at__isnull=False),
            ),
            # The operator's lists: newest first, by state.
            models.Index(name="saga_by_state", fields=["state", "-created_at"]),
            models.Index(name="saga_newest", fields=["-created_at"]),
            models.Index(name="saga_by_key", fields=["key"]),
            # What failed, and where: the operator's filters and failure groups. A saga that goes well
            # never enters it.
            models.Index(
                KeyTextTransform("step", "failure"),
                models.OrderBy(models.F("created_at"), descending=True),
                name="saga_failed_at_step",
                condition=models.Q(failure__isnull=False),
            ),
            models.Index(
                KeyTextTransform("kind", "failure"),
                models.OrderBy(models.F("created_at"), descending=True),
                name="saga_failed_by_kind",
                condition=models.Q(failure__isnull=False),
            ),
            models.Index(
                name="saga_failed_newest",
                fields=["-created_at"],
                condition=models.Q(failure__isnull=False),
            ),
            # What the archiver looks for: the longest ended, first. A live saga never enters it.
            models.Index(
                functions.Coalesce("finished_at", "closed_at"),
                models.F("id"),
                name="saga_ended",
                condition=models.Q(finished_at__isnull=False) | models.Q(closed_at__isnull=False),
            ),
        ]
        permissions = [
            ("operate_saga", "Can retry, hold, release and extend sagas"),
            ("compensate_saga", "Can have sagas undone, which moves money"),
            ("resolve_saga", "Can say what happened to a step, skip it, or close a saga"),
        ]

    def __str__(self) -> str:
        return f"{self.name} {self.key}"

    @property
    def definition(self) -> definition.Saga:
        """The declaration that this instance began with.

        Raises:
            UnknownSaga: that version is no longer declared.
        """
        return registry.get(self.name, self.version)

    @property
    def is_final(self) -> bool:
        """Whether it has ended."""
        return self.finished_at is not None


class StepInstance(models.Model):
    """One step of one run: its action and its undo."""

    id = models.BigAutoField(primary_key=True)
    saga = models.ForeignKey(SagaInstance, models.CASCADE, related_name="steps", db_index=False)
    position = models.PositiveSmallIntegerField()
    name = models.CharField(max_length=50)
    state = models.CharField(max_length=20, choices=StepState.choices(), default=StepState.PENDING.value)

    attempts = models.PositiveIntegerField(default=0)
    """Attempts at the action, counted before its code runs where that may kill the worker (R1). No small
    number: what needs attention is tried again for as long as it does."""

    undo_attempts = models.PositiveIntegerField(default=0)

    excused = models.PositiveIntegerField(default=0, db_default=0)
    """Of the attempts at the action, those that are not held against its budget: they failed during an
    outage of the provider (R4)."""

    undo_excused = models.PositiveIntegerField(default=0, db_default=0)
    """The same, of the attempts at its undo."""

    fence = models.PositiveIntegerField(default=0)
    """Raised by every claim: a worker that lost its lease holds an old one and cannot commit (D6)."""

    lease_until = models.DateTimeField(null=True)
    """Until when the attempt under way may still be running: while it lasts, no other worker acts (O2)."""

    wait_until = models.DateTimeField(null=True)
    facts = models.JSONField(null=True)
    """What the action answered."""

    error = models.JSONField(null=True)
    """The last error: kind, error, message, at, clock."""

    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    undo_started_at = models.DateTimeField(null=True)
    undone_at = models.DateTimeField(null=True)
    task_id = models.CharField(max_length=50, blank=True, default="")
    """The task that carried it out. Behind a dot: which one it was of the steps in that message's task."""

    worker = models.CharField(max_length=100, blank=True, default="")

    # Of a step that is done at once with others, which has messages and timers of its own: what its saga's
    # row says for any other step, under the same names. Null for those.

    epoch = models.PositiveIntegerField(null=True)
    wake_at = models.DateTimeField(null=True)
    dispatched_at = models.DateTimeField(null=True)
    dispatches = models.PositiveSmallIntegerField(null=True)
    parked_for = models.CharField(max_length=50, null=True)  # noqa: DJ001 - null means "not parked"
    parked_rank = models.PositiveSmallIntegerField(null=True)

    # Of a step that people or other sagas do; null for any other.

    asked_at = models.DateTimeField(null=True)
    """Since when people are asked for their yes or no; null once nobody is asked any more."""

    standing = models.JSONField(null=True)
    """How many of its children stand where, as far as they were heard (`sagas.engine.children`): the sum of
    what their rows say in `counted_as`, so that one that ends costs as much however many there are. Null
    where they are to be counted anew."""

    class Meta:
        db_table = "sagas_step"
        verbose_name = "step"
        ordering = ["position"]
        indexes = [
            # What the sweep reads of them, as of the sagas' rows. A step that comes alone never enters these.
            models.Index(name="step_due", fields=["wake_at"], condition=models.Q(wake_at__isnull=False)),
            models.Index(
                name="step_parked",
                fields=["parked_for", "parked_rank", "id"],
                condition=models.Q(parked_for__isnull=False),
            ),
            # What people are asked for: a few, whatever the history holds.
            models.Index(
                name="step_asked", fields=["name", "saga"], condition=models.Q(asked_at__isnull=False)
            ),
        ]
        constraints = [
            models.UniqueConstraint(name="step_once_per_saga", fields=["saga", "position"]),
            models.UniqueConstraint(name="step_name_once_per_saga", fields=["saga", "name"]),
            models.CheckConstraint(
                name="step_state_is_known", condition=models.Q(state__in=StepState.values())
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def is_member(self) -> bool:
        """Whether it is done at once with others, and its stage has been entered."""
        return self.epoch is not None

    CHILDREN = "children"
    """The fact that says how many sagas are this step; others of that name are no number, or lead nowhere."""

    @property
    def child_keys(self) -> list[str]:
        """The keys of the sagas that are this step, if it is one for each element of a list, or one."""
        count = self.facts.get(self.CHILDREN) if isinstance(self.facts, dict) else None
        return [f"{self.key}.{number}" for number in range(count)] if isinstance(count, int) else []

    @property
    def key(self) -> str:
        """The idempotency key of this step, from the row to the provider (E6)."""
        return f"{self.saga_id}.{self.name}"

    @property
    def message_task_id(self) -> str:
        """The task of the message that carried it, which is what a worker has in its hands meanwhile."""
        return self.task_id.partition(".")[0]

    @property
    def flower_task_id(self) -> str:
        """The task to look for in Flower: of a step in the task of another it hears when that has ended."""
        return self.message_task_id if self.lease_until is not None else self.task_id

    @property
    def begun(self) -> bool:
        """Whether it took effect or may have, and so is to be undone when the saga compensates (T5).

        A local action commits together with its facts: without them it never happened, however often it
        was tried, and there is nothing to undo (E2).
        """
        untouched = (StepState.PENDING, StepState.FAILED, StepState.SKIPPED)
        if self.facts is not None or self.state not in untouched:
            return True
        try:
            return self.attempts > 0 and self.saga.definition.all_steps[self.position].remote
        except errors.UnknownSaga:
            return (
                True  # Its version is gone, long after its end perhaps: it cannot be known that it did not.
            )


class Event(models.Model):
    """What happened to a saga, appended in the transaction that made it so; never changed (A1).

    The database refuses UPDATE and DELETE. The last `to_state` of each subject is that subject's
    state: the rows are the fold of their events.
    """

    id = models.BigAutoField(primary_key=True)
    saga = models.ForeignKey(SagaInstance, models.PROTECT, related_name="events", db_index=False)
    at = models.DateTimeField(db_default=ClockTimestamp())
    kind = models.CharField(max_length=40)
    subject = models.CharField(max_length=50, default="")
    """The step it is about; empty when it is about the saga."""

    from_state = models.CharField(max_length=20, blank=True, default="")
    to_state = models.CharField(max_length=20, blank=True, default="")
    attempt = models.PositiveIntegerField(null=True)
    actor = models.CharField(max_length=150, default="engine")
    reason = models.TextField(blank=True, default="")
    data = models.JSONField(default=dict)

    class Meta:
        db_table = "sagas_event"
        verbose_name = "event"
        ordering = ["id"]
        indexes = [models.Index(name="event_of_saga", fields=["saga", "id"])]

    def __str__(self) -> str:
        return f"{self.kind} {self.subject}".strip()


class Signal(models.Model):
    """The inbox: every verified callback, stored before anything is done about it."""

    class Fate(models.TextChoices):
        """What became of a callback."""

        STORED = "stored", "Stored"
        """It came before its step waits for it, and is kept."""

        APPLIED = "applied", "Applied"
        """It ended a wait."""

        NOTED = "noted", "Noted"
        """It told what was known already."""

        LATE = "late", "Late"
        """It lost a race, and what it tells of is being undone again: see `compensated_at` (M3)."""

        UNMATCHED = "unmatched", "Unmatched"
        """No saga has such a step, or the sender has nothing to do with it: a person is called."""

        MISMATCH = "mismatch", "Mismatch"
        """It tells something else than was asked: it is believed in nothing, and a person is called."""

        UNREADABLE = "unreadable", "Unreadable"
        """Its sender signed it, and it cannot be understood or kept: a person is called."""

    id = models.BigAutoField(primary_key=True)
    source = models.CharField(max_length=30)
    event_id = models.CharField(max_length=100)
    step_key = models.CharField(max_length=100)
    kind = models.CharField(max_length=40, blank=True, default="")
    facts = models.JSONField(null=True)
    refused = models.TextField(null=True)  # noqa: DJ001 - null means "not refused"; "" is a refusal without words
    fate = models.CharField(max_length=20, choices=Fate, default=Fate.STORED)
    received_at = models.DateTimeField(db_default=functions.Now())
    matched_at = models.DateTimeField(null=True)

    wake_at = models.DateTimeField(null=True)
    """When to undo what a late callback tells of next."""

    compensation_attempts = models.PositiveSmallIntegerField(default=0)
    compensated_at = models.DateTimeField(null=True)
    compensation_error = models.TextField(blank=True, default="")

    mismatch = models.TextField(blank=True, default="", db_default="")
    """How it differs from what was asked, with the figures."""

    attention = models.TextField(blank=True, default="", db_default="")
    """Why a person must see to it; empty where none must, and where its saga calls for one already."""

    attention_at = models.DateTimeField(null=True)
    settled_at = models.DateTimeField(null=True)
    """When a person said that it is settled, or it settled itself."""

    settled_by = models.CharField(max_length=150, blank=True, default="", db_default="")
    settlement = models.TextField(blank=True, default="", db_default="")
    """How they know, in their words. Without `settled_at` it waits for a second person to agree."""

    class Meta:
        db_table = "sagas_signal"
        verbose_name = "callback"
        constraints = [
            models.UniqueConstraint(name="signal_once_per_source", fields=["source", "event_id"]),
            models.CheckConstraint(
                name="signal_fate_is_known",
                condition=models.Q(
                    fate__in=["stored", "applied", "noted", "late", "unmatched", "mismatch", "unreadable"]
                ),
            ),
            # Only what a person was called for is settled, and by a person with a name.
            models.CheckConstraint(
                name="signal_settled_by_somebody",
                condition=models.Q(settled_at=None)
                | (
                    models.Q(attention_at__isnull=False) & ~models.Q(settled_by="") & ~models.Q(settlement="")
                ),
            ),
        ]
        indexes = [
            models.Index(name="signal_of_step", fields=["step_key"]),
            models.Index(name="signal_due", fields=["wake_at"], condition=models.Q(wake_at__isnull=False)),
            # The attention queue: a few, whatever the history holds.
            models.Index(
                name="signal_needs_person",
                fields=["attention_at"],
                condition=models.Q(attention_at__isnull=False, settled_at=None),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.source} {self.kind}".strip()


class ArchivedSaga(models.Model):
    """A saga that has ended, with its steps, events and callbacks, as one document.

    The table is partitioned by the month of `ended_at`, and old history is let go of by dropping partitions.
    The key of a partition holds its column, so that it is (id, ended_at) in the database; that an id is
    there only once is the archiver's to see to, which moves a saga under the lock of its row.
    """

    id = models.UUIDField(primary_key=True, editable=False)
    """The saga's. It tells when the saga began, and so in which partitions it cannot be: see `around`."""

    ended_at = models.DateTimeField()
    """When it finished, or was put aside."""

    name = models.CharField(max_length=50)
    version = models.PositiveSmallIntegerField()
    key = models.CharField(max_length=100)
    state = models.CharField(max_length=20, choices=SagaState.choices())
    created_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)
    closed_at = models.DateTimeField(null=True)
    failed_step = models.CharField(max_length=50, blank=True, default="")
    failed_kind = models.CharField(max_length=20, blank=True, default="")
    failed_error = models.CharField(max_length=100, blank=True, default="")
    archived_at = models.DateTimeField(db_default=functions.Now())

    document = models.BinaryField()
    """All of it: `sagas.documents` packed it, and `sagas.reading` makes rows of it again."""

    dictionary = models.PositiveSmallIntegerField()
    """The number of the dictionary without which the document cannot be opened."""

    digest = models.BinaryField()
    """The head of the chain over its events."""

    class Meta:
        db_table = "sagas_archive"
        verbose_name = "archived saga"
        constraints = [
            models.CheckConstraint(
                name="archive_holds_what_has_ended",
                condition=models.Q(state__in=["completed", "compensated"], finished_at=models.F("ended_at"))
                | models.Q(state="needs_attention", finished_at=None, closed_at=models.F("ended_at")),
            ),
        ]
        indexes = [
            models.Index(name="archive_by_key", fields=["key"]),
            # The list: newest first, of which the newest partition has enough.
            models.Index(name="archive_newest", fields=["-ended_at"]),
            # The few that went another way than most: for the console's filters, and for the API's.
            models.Index(
                name="archive_by_state",
                fields=["state", "-ended_at"],
                condition=~models.Q(state=SagaState.COMPLETED.value),
            ),
            models.Index(
                name="archive_by_kind",
                fields=["failed_kind", "-ended_at"],
                condition=~models.Q(failed_kind=""),
            ),
            models.Index(
                name="archive_by_step", fields=["failed_step", "-id"], condition=~models.Q(failed_step="")
            ),
            models.Index(
                name="archive_by_error", fields=["failed_error", "-id"], condition=~models.Q(failed_error="")
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} {self.key}"

    @classmethod
    def around(cls, saga_ids: Iterable[uuid.UUID]) -> "models.QuerySet[ArchivedSaga]":
        """Those with these ids, looked for only in partitions in which they can be.

        An id is a UUID of version 7 and begins with the time at which it was made, by some web process's
        clock: a saga ended no earlier than that, give or take what clocks differ by. An id that was made
        otherwise is looked for from wherever its first bits lead to, or everywhere.
        """
        wanted = list(saga_ids)
        rows = cls.objects.filter(pk__in=wanted)
        begun = [ids.made_at(saga_id) for saga_id in wanted]
        known = [at for at in begun if at is not None]
        if len(known) < len(begun) or not known:
            return rows
        return rows.filter(ended_at__gte=min(known) - CLOCKS_DIFFER)


CLOCKS_DIFFER = datetime.timedelta(days=1)
"""By how much the clock that made an id may differ from the database's."""


class Queue(models.Model):
    """What probes tell of a queue: whether a message is lost, or merely waits its turn.

    A probe is an ordinary message that says when it was sent. Queues are first in, first out: once
    a probe has come through, every message sent before it was taken too, or is lost.
    """

    name = models.CharField(primary_key=True, max_length=50)
    probed_at = models.DateTimeField(null=True)
    """When the last probe was sent; null when it could not be."""

    unanswered_since = models.DateTimeField(null=True)
    """When the oldest probe that is still under way was sent, or a moment before it; null when none is."""

    heard_at = models.DateTimeField(null=True)
    """When a worker last took any message of this queue, or began to listen: workers say so once a second."""

    returned_sent_at = models.DateTimeField(null=True)
    """When the latest probe that came through had been sent."""

    returned_at = models.DateTimeField(null=True)
    """When it came through."""

    worker = models.CharField(max_length=100, blank=True, default="")

    line_batch = models.PositiveSmallIntegerField(default=2, db_default=2)
    """How many of its line are sent at a time: follows how quickly its workers take them."""

    line_unconfirmed = models.PositiveIntegerField(default=0, db_default=0)
    """How many of its line were sent behind the last probe that was to tell that they are taken."""

    line_asked_at = models.DateTimeField(null=True)
    """When that probe was sent; null when it has come through, and more may be sent."""

    class Meta:
        db_table = "sagas_queue"
        verbose_name = "queue"

    def __str__(self) -> str:
        return self.name

    def lag(self, now: datetime.datetime) -> datetime.timedelta | None:
        """How long the oldest unanswered probe has been under way; zero when none is, None if unknown."""
        since = self._unanswered_since()
        if since is not None:
            return now - since
        return None if self.probed_at is None else datetime.timedelta(0)

    def silence(self, now: datetime.datetime) -> datetime.timedelta | None:
        """How long no worker has given a sign while a probe waits; zero when none does, None if unknown.

        A queue with a lag and without silence has workers, and a backlog.
        """
        since = self._unanswered_since()
        if since is None or self.heard_at is None or self.heard_at < since:
            return self.lag(now)
        return now - self.heard_at

    def _unanswered_since(self) -> datetime.datetime | None:
        if self.unanswered_since is None and self.probed_at is not None:
            # A row that 0.1.0 wrote says only when the newest one was sent.
            answered = self.returned_sent_at is not None and self.returned_sent_at >= self.probed_at
            return None if answered else self.probed_at
        return self.unanswered_since


class Heartbeat(models.Model):
    """A sign of life of what runs by itself, by the database's clock: it shows when that has stopped."""

    SWEEP = "sweep"

    name = models.CharField(primary_key=True, max_length=50)
    at = models.DateTimeField()
    """When it last came to its end; written every few seconds, not each time."""

    class Meta:
        db_table = "sagas_heartbeat"
        verbose_name = "heartbeat"

    def __str__(self) -> str:
        return self.name

    @classmethod
    def last_sweep(cls) -> "models.QuerySet[Heartbeat, datetime.datetime]":
        """When the last sweep was, as a queryset of one moment, or of none."""
        return cls.objects.filter(name=cls.SWEEP).values_list("at", flat=True)


class EventCursor(models.Model):
    """How far one who follows the event log has read: exactly once, and past no event that commits late.

    Ids are given before commits, so that the highest one that is seen says nothing of those below it. But
    whoever writes an event has a transaction id by then, for it holds the lock of the saga's row: once every
    transaction that was under way when `mark` was seen has ended, nothing below it comes any more.
    """

    METRICS = "metrics"
    TRACES = "traces"
    LOGS = "logs"

    name = models.CharField(primary_key=True, max_length=30)
    """Who follows."""

    read_to = models.BigIntegerField(default=0, db_default=0)
    """The id of the last event that was read, or that will never be there."""

    mark = models.BigIntegerField(default=0, db_default=0)
    """The highest id that was seen when the mark was set."""

    mark_before = models.BigIntegerField(default=0, db_default=0)
    """PostgreSQL's next transaction id at that time: once all below it have ended, `mark` is final."""

    marked_at = models.DateTimeField(db_default=functions.Now())
    """When the mark was set."""

    read_until = models.DateTimeField(db_default=functions.Now())
    """All that was committed by then has been read."""

    ahead = models.JSONField(default=dict, db_default={})
    """Of sagas that went into the archive before their last events were read in their turn: up to which id
    they were read then. They may come back, and are not read twice."""

    class Meta:
        db_table = "sagas_event_cursor"
        verbose_name = "event cursor"

    def __str__(self) -> str:
        return self.name


class MetricSum(models.Model):
    """A running sum: a counter, or one bucket or the sum of a histogram, for one set of labels."""

    id = models.BigAutoField(primary_key=True)
    name = models.CharField(max_length=60)
    labels = models.JSONField(default=list)
    """The values of its labels, in the order in which the metric declares them."""

    value = models.FloatField(default=0)

    class Meta:
        db_table = "sagas_metric_sum"
        verbose_name = "metric sum"
        constraints = [models.UniqueConstraint(name="metric_sum_once", fields=["name", "labels"])]

    def __str__(self) -> str:
        return f"{self.name} {self.labels}"


class MetricCount(models.Model):
    """One that no event tells of, such as a message that was void: a row until it is added to its sum.

    A row of its own, because those who count would wait for each other at the sum's.
    """

    id = models.BigAutoField(primary_key=True)
    name = models.CharField(max_length=60)
    labels = models.JSONField(default=list)

    class Meta:
        db_table = "sagas_metric_count"
        verbose_name = "metric count"

    def __str__(self) -> str:
        return f"{self.name} {self.labels}"


class Circuit(models.Model):
    """A service's breaker: open while its provider is out, so that an outage spends no budgets (R4)."""

    name = models.CharField(primary_key=True, max_length=50)
    """The queue of the steps that it guards: the service."""

    failing = models.JSONField(default=list)
    """The last sagas that found it unavailable in a row, each once, and none for its own sake."""

    trips = models.PositiveIntegerField(default=0)
    """How often a few sagas were let through since it opened."""

    opened_at = models.DateTimeField(null=True)
    """Since when it is open; null while it is closed."""

    open_until = models.DateTimeField(null=True)
    """When a few of those that wait are let through next."""

    probes = models.JSONField(default=list, db_default=[])
    """The sagas that were let through, and of which nothing has been heard yet."""

    permits = models.PositiveSmallIntegerField(default=0, db_default=0)
    """How many more that never failed there are let through before `permits_at`."""

    permits_at = models.DateTimeField(null=True)
    """When there are new ones."""

    worked_at = models.DateTimeField(null=True)
    """When it last worked after a failure. What failed before that and fails again fails for its own sake."""

    woken_at = models.DateTimeField(null=True)
    """When some of those that wait for it were last woken: they are woken at a bounded rate."""

    failures = models.PositiveIntegerField(default=0, db_default=0)
    """How many attempts failed since it last worked."""

    failing_since = models.DateTimeField(null=True)
    """When the first of them failed."""

    error = models.JSONField(null=True)
    """The last of these errors: error (its class), kind, message, step. Without personal facts (A3)."""

    needs_person = models.BooleanField(default=False, db_default=False)
    """Whether it is open because of an error named in `Saga.outage`: until a person mends something."""

    class Meta:
        db_table = "sagas_circuit"
        verbose_name = "circuit"
        constraints = [
            # A person is called for what is open, and no longer once it works again.
            models.CheckConstraint(
                name="circuit_needs_person_while_open",
                condition=models.Q(needs_person=False) | models.Q(opened_at__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def reason(self) -> str:
        """The last error, in a line; empty while there was none."""
        return f"{self.error.get('error')}: {self.error.get('message')}" if self.error else ""


def database_now(using: str = "default") -> datetime.datetime:
    """The database's clock (D9)."""
    from django.db import connections

    with connections[using].cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        row: tuple[Any, ...] | None = cursor.fetchone()
    assert row is not None
    now: datetime.datetime = row[0]
    return now
