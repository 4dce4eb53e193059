"""What an operator reads: sagas and their history."""

import dataclasses
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any

from django.db.models import Prefetch, prefetch_related_objects
from django.urls import reverse
from rest_framework import serializers

from api.serializers import Shape
from sagas import models, reading
from sagas.console import history, panels, redaction
from sagas.console.api import samples
from sagas.declaration import definition, states
from sagas.engine import refusals
from sagas.engine.kinds import EventKind
from sagas.engine.seen import Seen


class SagaFailure(Shape):
    """The first failure, kept for ever."""

    step = serializers.CharField(allow_null=True)
    kind = serializers.CharField()
    error = serializers.CharField(allow_null=True, help_text="The class of the error.")
    message = serializers.CharField(allow_blank=True)
    attempt = serializers.IntegerField(allow_null=True)
    clock = serializers.CharField(allow_null=True, help_text="The clock that ran out, if one did.")
    at = serializers.CharField()
    late = serializers.IntegerField(
        required=False, help_text="How often it was put off by now, where it waits for the database."
    )


class SagaAttention(Shape):
    """Why a person is called, and what that person may do."""

    step = serializers.CharField(allow_null=True)
    why = serializers.CharField()
    advice = serializers.CharField()
    since = serializers.CharField()
    child = serializers.CharField(
        allow_null=True, help_text="The id of the child that needs a person, where that is why."
    )


class SagaCancellation(Shape):
    """Who asked for it to be undone."""

    at = serializers.DateTimeField(source="cancel_requested_at")
    actor = serializers.CharField(source="cancel_actor", allow_blank=True)
    reason = serializers.CharField(source="cancel_reason", allow_blank=True)


class SagaOrder(Shape):
    """The order that it fulfils."""

    id = serializers.UUIDField()
    number = serializers.CharField()


class SagaParent(Shape):
    """The saga of which it is a child: it completes, or is undone, with that one's step."""

    id = serializers.UUIDField()
    key = serializers.CharField(allow_null=True, help_text="null where that saga is kept no longer.")
    step = serializers.CharField(help_text="The step of that saga which it is.")
    item = serializers.IntegerField(
        min_value=0, help_text="Which element of that step's list it is for; 0 where there is no list."
    )
    link = serializers.CharField(help_text="Where that saga is read.")


class SagaChildren(Shape):
    """How many sagas a step is, and where they stand; each is counted once."""

    total = serializers.IntegerField(min_value=0)
    done = serializers.IntegerField(
        min_value=0, help_text="Of how many all steps are done: `completed` and `waiting`."
    )
    coming = serializers.IntegerField(
        min_value=0, help_text="Not begun: they are started when their turn comes."
    )
    running = serializers.IntegerField(min_value=0)
    waiting = serializers.IntegerField(
        min_value=0, help_text="All of their steps are done, and they wait for this saga's outcome."
    )
    completed = serializers.IntegerField(min_value=0)
    undoing = serializers.IntegerField(min_value=0, help_text="Being undone, or about to be.")
    undone = serializers.IntegerField(min_value=0)
    attention = serializers.IntegerField(min_value=0, help_text="They need a person.")
    closed = serializers.IntegerField(min_value=0, help_text="Put aside for good.")
    link = serializers.CharField(help_text="Where they are listed.")


class SkippedStep(Shape):
    """Why a step was left out."""

    facts = serializers.DictField(
        child=serializers.BooleanField(),
        help_text="The facts that decided it; none where an operator left it out, or where the saga turned"
        " round before the step began.",
    )


class SagaStep(Shape):
    """One step, as operators see it."""

    name = serializers.CharField()
    stage = serializers.CharField(
        allow_null=True, help_text="What groups it with the steps that are done at once with it."
    )
    state = serializers.ChoiceField(states.StepState.values())
    skipped = SkippedStep(allow_null=True, help_text="null unless it was left out.")
    children = SagaChildren(
        allow_null=True,
        help_text="null unless the step is sagas of its own, and has begun: those are not among `steps`.",
    )
    seen = serializers.CharField(
        allow_null=True, help_text="null unless the saga is at it: what a move names that is decided on it."
    )
    key = serializers.CharField()
    attempts = serializers.IntegerField(min_value=0)
    undo_attempts = serializers.IntegerField(min_value=0)
    error = SagaFailure(allow_null=True)
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)
    undo_started_at = serializers.DateTimeField(allow_null=True)
    undone_at = serializers.DateTimeField(allow_null=True)
    lease_until = serializers.DateTimeField(allow_null=True)
    wait_until = serializers.DateTimeField(allow_null=True)
    wake_at = serializers.DateTimeField(
        allow_null=True,
        help_text="When it is looked at again, of a step that is done at once with others; of any other the"
        " saga's says that.",
    )
    worker = serializers.CharField(allow_null=True)
    task_id = serializers.CharField(allow_null=True)

    def get_stage(self, row: models.StepInstance) -> str | None:
        """None where it comes alone."""
        return history.stage_name(refusals.declaration(row.saga), row)

    def get_children(self, row: models.StepInstance) -> dict[str, Any] | None:
        """None unless it is sagas, and has begun."""
        counts = family_of(row.saga).children.get(row.name)
        if counts is None:
            return None
        archived = "&archived=true" if row.saga.archived_at is not None else ""
        link = f"{reverse('sagas')}?parent={row.key}{archived}"
        return {**dataclasses.asdict(counts), "total": counts.total, "done": counts.done, "link": link}

    def get_skipped(self, row: models.StepInstance) -> dict[str, Any] | None:
        """None unless it was left out."""
        if row.state != states.StepState.SKIPPED:
            return None
        fetch_reasons([row.saga])
        events: list[models.Event] = list(row.saga.events.all())  # type: ignore[arg-type]
        return {"facts": history.facts_of_left_out([row], events)[row.name]}

    def get_seen(self, row: models.StepInstance) -> str | None:
        """None unless the saga is at it."""
        return str(Seen.of(row.saga, row)) if row in at_hand(row.saga) else None


class Saga(Shape):
    """A saga, as operators see it. What it was given is personal and is not shown."""

    id = serializers.UUIDField()
    name = serializers.CharField()
    version = serializers.IntegerField()
    key = serializers.CharField()
    order = SagaOrder(allow_null=True)
    parent = SagaParent(allow_null=True, help_text="null unless it is a child of another saga.")
    state = serializers.ChoiceField(states.SagaState.values())
    direction = serializers.ChoiceField(["forward", "backward"])
    step = serializers.CharField(
        help_text="The one that it stands at; of several that are done at once, the one for which a person is"
        " called, or the first that is not done with."
    )
    seen = serializers.CharField(
        help_text="How it stands: step, direction, the step's state, and attempts. A move that is decided on"
        " this names it. Of steps that are done at once each has its own."
    )
    failure = SagaFailure(allow_null=True)
    attention = SagaAttention(allow_null=True)
    cancel = SagaCancellation(allow_null=True)
    held_at = serializers.DateTimeField(allow_null=True)
    closed_at = serializers.DateTimeField(allow_null=True)
    wake_at = serializers.DateTimeField(allow_null=True)
    starts_at = serializers.DateTimeField(allow_null=True, help_text="null once it has started.")
    deadline_at = serializers.DateTimeField(allow_null=True)
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField(allow_null=True)
    archived_at = serializers.DateTimeField(
        allow_null=True, help_text="Since when it is in the archive, where nothing changes any more."
    )
    steps = SagaStep(
        many=True,
        help_text="In the order of the declaration. Those with one `stage` are done at once; one with"
        " `children` is done by sagas of their own, each of which has `parent`.",
    )

    sample = samples.OPERATED

    def get_order(self, row: Any) -> panels.Subject | None:
        """What it is about, as `panels.attach` has found; None where no app gives that an id."""
        subject: panels.Subject | None = row.subject
        return subject if subject is not None and subject.id is not None else None

    def get_parent(self, row: models.SagaInstance) -> dict[str, Any] | None:
        """None where it is nobody's child."""
        if row.parent_id is None:
            return None
        return {
            "id": row.parent_id,
            "key": family_of(row).parent_key,
            "step": row.parent_step,
            "item": row.parent_item,
            "link": reverse("saga", args=[row.parent_id]),
        }

    def get_direction(self, row: models.SagaInstance) -> str:
        """In a word."""
        return states.Direction(row.direction).name.lower()

    def get_step(self, row: models.SagaInstance) -> str:
        """The last one when all are done."""
        return _at(row).name

    def get_seen(self, row: models.SagaInstance) -> str:
        """The text that a move names."""
        return str(Seen.of(row, _at(row)))

    def get_starts_at(self, row: models.SagaInstance) -> Any:
        """When, if it has not."""
        return history.starts_at(row)

    def get_cancel(self, row: models.SagaInstance) -> models.SagaInstance | None:
        """None where nobody asked."""
        return row if row.cancel_requested_at else None


class MovedSaga(Saga):
    """A saga after an operator's move."""

    waits_for_approval = serializers.BooleanField(help_text="Whether a second person must agree first.")

    sample = samples.OPERATED | {"waits_for_approval": False}


class SagaEvent(Shape):
    """One line of a saga's history."""

    id = serializers.IntegerField()
    at = serializers.DateTimeField()
    kind = serializers.CharField()
    step = serializers.CharField(source="subject", allow_null=True)
    from_ = serializers.CharField(source="from_state", allow_null=True)
    to = serializers.CharField(source="to_state", allow_null=True)
    attempt = serializers.IntegerField(allow_null=True)
    actor = serializers.CharField(allow_blank=True)
    reason = serializers.CharField(allow_blank=True)
    data_ = serializers.DictField()

    sample = samples.EVENT

    def get_data(self, event: models.Event) -> Any:
        """What is personal is struck out."""
        return redaction.redact(event.data, redaction.hidden(event.saga))


def _at(row: models.SagaInstance) -> models.StepInstance:
    """The step at which it stands."""
    steps: list[models.StepInstance] = list(row.steps.all())  # type: ignore[arg-type]
    return history.at_hand(row, refusals.declaration(row), steps)[0]


def at_hand(row: models.SagaInstance) -> list[models.StepInstance]:
    """The steps that it is at; none once it has ended."""
    if row.is_final:
        return []
    steps: list[models.StepInstance] = list(row.steps.all())  # type: ignore[arg-type]
    return history.at_hand(row, refusals.declaration(row), steps)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Family:
    """What a saga's own rows do not tell of its parent and its children."""

    parent_key: str | None
    children: Mapping[str, reading.ChildrenCounts]
    """By step, of those that are sagas and have begun."""


def attach_families(rows: Sequence[Any]) -> None:
    """Give each of these sagas its `family`: read once for all of them, and not where nobody has one."""
    steps = [step for row in rows for step in row.steps.all() if _is_sagas(step)]
    counts = reading.children_counts(steps)
    keys = reading.keys_of(row.parent_id for row in rows if row.parent_id is not None)
    found: dict[Any, dict[str, reading.ChildrenCounts]] = {}
    for step in steps:
        # Without an element there is no child.
        of_step = counts.get((step.saga_id, step.name), reading.ChildrenCounts())
        found.setdefault(step.saga_id, {})[step.name] = of_step
    for row in rows:
        row.family = Family(parent_key=keys.get(row.parent_id), children=found.get(row.pk, {}))


def family_of(row: Any) -> Family:
    """The one that `attach_families` has found."""
    family: Family = row.family
    return family


def _is_sagas(step: models.StepInstance) -> bool:
    """Whether it is done by sagas of its own, and has begun."""
    declared = refusals.declaration(step.saga)
    if declared is None:
        return bool(step.child_keys)
    begun = models.StepInstance.CHILDREN in (step.facts or {})
    return begun and isinstance(declared.all_steps[step.position], definition.Child)


def fetch_reasons(rows: Iterable[models.SagaInstance]) -> None:
    """Read why steps of these sagas were left out: once for all of them, and not if none was."""
    wanted = [row for row in rows if _has_skipped(row) and "events" not in _fetched(row)]
    skips = models.Event.objects.filter(kind=EventKind.STEP_SKIPPED)
    prefetch_related_objects(wanted, Prefetch("events", skips))


def _fetched(row: models.SagaInstance) -> Container[str]:
    found: Container[str] = getattr(row, "_prefetched_objects_cache", ())
    return found


def _has_skipped(row: models.SagaInstance) -> bool:
    steps: list[models.StepInstance] = list(row.steps.all())  # type: ignore[arg-type]
    return any(step.state == states.StepState.SKIPPED for step in steps)
