"""A saga's history: its attempts and its steps, from its rows and events alone.

The admin's page and `manage.py saga show` say the same, because both read it here; `summary` says it in a few
sentences, `notices` what surrounds it, and `export` gives it to machines.
"""

import dataclasses
import datetime
import uuid
from collections.abc import Iterable, Sequence
from typing import Any

from django.db.models import Subquery
from django.utils.translation import gettext as _

from sagas import conf, errors, models, reading
from sagas.console import families, redaction
from sagas.console.models import Consent
from sagas.declaration import definition, stages
from sagas.declaration.states import Direction, SagaState, StepState
from sagas.engine import parallel, refusals, transitions
from sagas.engine.kinds import EventKind
from sagas.engine.seen import Seen

EVENTS_AT_MOST = 2000
"""More events than this of one saga are not shown at once; the download has them all."""

STANDING = frozenset(
    {StepState.DONE, StepState.UNKNOWN, StepState.WAITING, StepState.UNDOING, StepState.UNDO_FAILED}
)
"""States of a step whose action is in effect, or may be."""

UNDO_STATES = frozenset({StepState.UNDOING, StepState.UNDONE, StepState.UNDO_FAILED})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Attempt:
    """One try at an action or its undo, or one wait for somebody outside."""

    step: str
    undo: bool
    number: int | None
    started_at: datetime.datetime
    ended_at: datetime.datetime | None
    outcome: str
    """running, done, begun, retry, late, unknown, failed, lost; of a wait waiting or `CALLED_OFF`."""

    waits: bool = False
    asks: bool = False
    error: dict[str, Any] | None = None
    worker: str = ""
    task_id: str = ""

    @property
    def took(self) -> datetime.timedelta | None:
        """How long it took, if it is over."""
        return None if self.ended_at is None else self.ended_at - self.started_at

    @property
    def flower_task_id(self) -> str:
        """The task to look for in Flower: of a step in the task of another it hears when that has ended."""
        return self.task_id.partition(".")[0] if self.ended_at is None else self.task_id


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answer:
    """What a person answers for instead of a worker: how a step came to stand as it does."""

    step: str
    undo: bool
    what: str
    """happened, did-not-happen, skipped, approved or refused."""

    actor: str
    reason: str
    """The evidence, or why it was left out."""

    at: datetime.datetime


@dataclasses.dataclass(frozen=True, kw_only=True)
class DirectionView:
    """One direction of one step: its action, or its undo."""

    state: str
    """A StepState; `due`, `kept` or `none` where an undo has not begun; `NOT_REACHED` or `CALLED_OFF`."""

    attempts: int
    budget: int | None
    started_at: datetime.datetime | None
    ended_at: datetime.datetime | None
    next_at: datetime.datetime | None
    error: dict[str, Any] | None
    answer: Answer | None = None
    """Who answers for it, where no worker brought it there; then nobody knows how long it took."""

    @property
    def took(self) -> datetime.timedelta | None:
        """From the first attempt to the end."""
        if self.started_at is None or self.ended_at is None or self.answer is not None:
            return None
        return self.ended_at - self.started_at


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepView:
    """One step as it is shown, with its two directions."""

    row: models.StepInstance
    kind: str
    remote: bool
    queue: str
    current: bool
    """Whether the saga is at it; of steps that are done at once, each that is not done with yet."""

    stage: stages.Stage | None
    """What declares it as done at once with others; None where it comes alone, or nobody knows."""

    approval: definition.Approval | None
    """Its declaration, where a person ends it."""

    child: definition.Child | None
    """Its declaration, where it is a saga, or one for each element of a list."""

    brood: families.Brood | None
    """Its children, once it has begun."""

    condition: str
    """Under which facts it is done, or why it was left out, in words; empty where it always is."""

    pivot_above: bool
    """Whether the line beyond which nothing is undone runs above it."""

    forward: DirectionView
    backward: DirectionView | None
    facts: Any
    """What it answered, without what is hidden."""

    reference: str
    """By which the provider knows it, if it has one."""

    @property
    def skipped(self) -> bool:
        """Whether it was left out."""
        return self.row.state == StepState.SKIPPED

    @property
    def open(self) -> bool:
        """Whether it is shown at length: the saga is at it, or it did not come to what was wanted."""
        trouble = (StepState.FAILED, StepState.UNKNOWN, StepState.UNDO_FAILED)
        return self.current or self.row.state in trouble

    @property
    def opens_stage(self) -> bool:
        """Whether it is the first of steps that are done at once."""
        return self.stage is not None and self.row.position == self.stage.first


@dataclasses.dataclass(kw_only=True)
class History:
    """All that is known of a saga, read at one moment of the database's clock.

    A saga may be at several steps that are done at once: `at_hand` has them all, and whatever is told of
    `step` is told of one of them, or of the one that `looking_at` has chosen.
    """

    saga: models.SagaInstance
    declared: definition.Saga | None
    steps: list[models.StepInstance]
    events: list[models.Event]
    signals: list[models.Signal]
    consents: list[Consent]
    queues: dict[str, models.Queue]
    circuits: dict[str, models.Circuit]
    now: datetime.datetime
    swept_at: datetime.datetime | None
    """When somebody swept last, whichever saga; None if nobody ever has."""

    archive: reading.Archived | None = None
    """Where it was read from, if it was the archive: then it is only to look at."""

    children: dict[str, reading.ChildrenCounts] = dataclasses.field(default_factory=dict)
    """By step, of those that have begun and are sagas of their own: how many of these stand where."""

    parent: families.Parent | None = None
    """The saga of whose step it is a child."""

    in_need: models.SagaInstance | None = None
    """The child at which a person is to act, where that is why it needs attention; or a child's child."""

    first_to_fail: models.SagaInstance | None = None
    """The child that failed by itself, where the saga failed with its children; the first of several."""

    chosen: models.StepInstance | None = None
    """One of `members`, where it is that one that is looked at."""

    @property
    def step(self) -> models.StepInstance:
        """The step at the saga's position; the last when all are done.

        Of steps that are done at once it is the one that was chosen, else the first of `at_hand`.
        """
        return self.chosen if self.chosen is not None else self.at_hand[0]

    @property
    def stage(self) -> stages.Stage | None:
        """The stage that the saga is at; None if the code no longer says."""
        return _at(self.saga, self.declared)

    @property
    def members(self) -> list[models.StepInstance]:
        """The steps of that stage, if they are done at once."""
        return members(self.saga, self.declared, self.steps)

    @property
    def at_hand(self) -> list[models.StepInstance]:
        """The steps that the saga is at: one, or of those at once all that are not done with."""
        return at_hand(self.saga, self.declared, self.steps)

    def looking_at(self, step: str | None) -> "History":
        """The same, with that step for `step`, if it is one of several that the saga is at."""
        chosen = next((row for row in self.members if row.name == step), None)
        return self if chosen is None else dataclasses.replace(self, chosen=chosen)

    @property
    def at_each(self) -> list["History"]:
        """The same, once for each of the steps that the saga is at."""
        return [self.looking_at(row.name) for row in self.at_hand]

    @property
    def cursor(self) -> models.SagaInstance | models.StepInstance:
        """The row that says which message of the step is under way, and when it is looked at again."""
        return self.step if self.step.is_member else self.saga

    @property
    def starts_at(self) -> datetime.datetime | None:
        """When it is to start, if it has not yet."""
        return starts_at(self.saga)

    @property
    def waits_for_parent(self) -> bool:
        """Whether it is a child that is done, or has not begun: its parent is to do something next."""
        of_child = self.saga.parent_id is not None and self.saga.held_at is None
        return of_child and reading.child_place(self.saga) in ("waiting", "coming")

    @property
    def draining(self) -> bool:
        """Whether it has turned round while attempts at steps of its stage may still be under way."""
        return self.backward and any(
            row.state == StepState.RUNNING and not parallel.is_free(row, self.now) for row in self.members
        )

    @property
    def seen(self) -> Seen:
        """How it stands, for an intervention that is decided on this."""
        return Seen.of(self.saga, self.step)

    @property
    def declared_step(self) -> definition.Step | None:
        """That step's declaration, if the code still has it."""
        return self.declare(self.step)

    def declare(self, row: models.StepInstance) -> definition.Step | None:
        """A row's declaration, if the code still has it."""
        if self.declared is None or row.position >= len(self.declared.all_steps):
            return None
        return self.declared.all_steps[row.position]

    def budget(self, declared: definition.Step | None, *, undo: bool) -> int | None:
        """How many attempts a step's action, or its undo, has; None if the code no longer says."""
        if self.declared is None or declared is None:
            return None
        return self.declared.retry_of(declared, undo=undo).attempts

    @property
    def hidden(self) -> redaction.Hidden:
        """What to strike out of its facts before they are shown."""
        return None if self.declared is None else self.declared.hidden

    @property
    def backward(self) -> bool:
        """Whether it is being undone, or was."""
        return self.saga.direction == Direction.BACKWARD

    @property
    def at_work(self) -> bool:
        """Whether an attempt may be under way, so that nobody else may act (O2)."""
        return not parallel.is_free(self.step, self.now)

    @property
    def any_at_work(self) -> bool:
        """The same for any of the steps that the saga is at."""
        return any(not parallel.is_free(row, self.now) for row in self.at_hand)

    @property
    def live(self) -> bool:
        """Whether it may still move."""
        return self.saga.finished_at is None

    @property
    def moves(self) -> bool:
        """Whether something of it may still move: it has not ended, or a child of it has not."""
        if self.archive is not None:
            return False
        goes_on = self.live and self.saga.closed_at is None
        return goes_on or any(counts.live for counts in self.children.values())

    @property
    def unswept(self) -> datetime.timedelta | None:
        """For how long nobody has swept, since it began at most; None while somebody does."""
        age = self.now - max(self.swept_at or self.saga.created_at, self.saga.created_at)
        return age if age > conf.sweep_is_late_after() else None

    @property
    def unheard(self) -> datetime.timedelta | None:
        """For how long no worker of its step's queue has given a sign; None while one does."""
        declared = self.declared_step
        queue = self.queues.get(declared.queue) if declared is not None else None
        silence = queue.silence(self.now) if queue is not None else None
        return silence if silence is not None and silence > conf.SILENT_AFTER else None

    @property
    def past_pivot(self) -> bool:
        """Whether it can no longer be undone."""
        return self.declared is not None and transitions.past_pivot(self.saga, self.step)

    @property
    def age(self) -> datetime.timedelta:
        """From its beginning to its end, or to now."""
        return (self.saga.finished_at or self.now) - self.saga.created_at


def starts_at(saga: models.SagaInstance) -> datetime.datetime | None:
    """When it is to start, if it has not yet. A child has no such moment: its parent starts it."""
    begun = saga.state != SagaState.RUNNING or saga.epoch > 0
    return None if begun or saga.parent_id is not None else saga.wake_at


def members(
    saga: models.SagaInstance, declared: definition.Saga | None, steps: Sequence[models.StepInstance]
) -> list[models.StepInstance]:
    """The steps of the stage that a live saga is at, if they are done at once; else none."""
    stage = None if saga.is_final else _at(saga, declared)
    return [] if stage is None or stage.parallel is None else list(steps[stage.first : stage.last + 1])


def at_hand(
    saga: models.SagaInstance, declared: definition.Saga | None, steps: Sequence[models.StepInstance]
) -> list[models.StepInstance]:
    """The steps that a saga is at: one, or of those that are done at once all that are not done with.

    First comes the one for which a person is called, if one is.
    """
    of_stage = members(saga, declared, steps)
    called_for = (saga.attention or {}).get("step")
    left = sorted((row for row in of_stage if _is_left(saga, row)), key=lambda row: row.name != called_for)
    return left or of_stage[:1] or [steps[min(saga.position, len(steps) - 1)]]


def _at(saga: models.SagaInstance, declared: definition.Saga | None) -> stages.Stage | None:
    return None if declared is None else declared.stage_at(min(saga.position, len(declared.all_steps) - 1))


def _is_left(saga: models.SagaInstance, row: models.StepInstance) -> bool:
    """Whether there is still something to do for a step of its stage, in the saga's direction."""
    if saga.direction == Direction.FORWARD:
        return row.state not in (StepState.DONE, StepState.SKIPPED)
    if row.state == StepState.RUNNING:
        return True  # The stage drains.
    undoable = saga.definition.all_steps[row.position].undoable
    return undoable and row.begun and row.state != StepState.UNDONE


def read(saga_id: uuid.UUID | str) -> History:
    """Read a saga with all that belongs to it, in seven statements however long it is; or from the archive.

    What it has of a family costs a few more, however many children there are.

    Raises:
        NotFound: there is no such saga.
    """
    instances = models.SagaInstance.objects.annotate(
        now=models.ClockTimestamp(), swept_at=Subquery(models.Heartbeat.last_sweep())
    )
    saga = instances.filter(pk=saga_id).first()
    if saga is None:
        if (found := reading.archived(saga_id)) is None:
            raise errors.NotFound(f"There is no saga {saga_id}.")
        return of_archived(found)
    steps = list(models.StepInstance.objects.filter(saga_id=saga.pk))
    reading.have_fetched(saga, "steps", steps)
    for step in steps:
        step.saga = saga
    declared = refusals.declaration(saga)
    children = families.counts(steps, declared)
    return History(
        saga=saga,
        declared=declared,
        steps=steps,
        events=list(models.Event.objects.filter(saga_id=saga.pk)[:EVENTS_AT_MOST]),
        signals=list(models.Signal.objects.filter(step_key__in=[step.key for step in steps]).order_by("id")),
        consents=list(Consent.objects.filter(saga=saga, state=Consent.State.ASKED)),
        queues=models.Queue.objects.in_bulk(),
        circuits=models.Circuit.objects.in_bulk(),
        now=saga.now,
        swept_at=saga.swept_at,
        children=children,
        parent=families.parent(saga),
        in_need=families.in_need(saga),
        first_to_fail=families.first_to_fail(saga, children),
    )


def of_archived(found: reading.Archived) -> History:
    """The same of a saga out of the archive. What surrounds the live ones does not concern it."""
    declared = refusals.declaration(found.saga)
    return History(
        saga=found.saga,
        declared=declared,
        steps=found.steps,
        events=found.events[:EVENTS_AT_MOST],
        signals=found.signals,
        consents=[],
        queues={},
        circuits={},
        now=models.database_now(),
        swept_at=None,
        archive=found,
        children=families.counts(found.steps, declared),
        parent=families.parent(found.saga),
    )


# --- What people answer for -----------------------------------------------------------------------


def answers(record: History) -> dict[tuple[str, bool], Answer]:
    """By step, and whether it is about its undo: what stands on a person's word alone."""
    return {(answer.step, answer.undo): answer for answer in _answers(record).values()}


def standing(record: History) -> dict[str, Answer]:
    """By step: who answers for the state in which it is now."""
    said = answers(record)
    found = {row.name: said.get((row.name, row.state == StepState.UNDONE)) for row in record.steps}
    settled = {row.name for row in record.steps if row.state in _SETTLED}
    return {name: answer for name, answer in found.items() if answer is not None and name in settled}


_SETTLED = (StepState.UNDONE, StepState.DONE, StepState.SKIPPED, StepState.FAILED)


def _answers(record: History) -> dict[int, Answer]:
    """By the id of the event in which it took effect."""
    found: dict[int, Answer] = {}
    said: models.Event | None = None
    given: models.Event | None = None
    for event in record.events:
        if event.kind == EventKind.OPERATOR_RESOLVE:
            said = event
        elif event.kind == EventKind.OPERATOR_SKIP:
            found[event.pk] = _answer(event, "skipped")
        elif event.kind in _APPROVAL:
            given = event
        elif given is not None and event.subject == given.subject and event.kind in _SETTLES:
            found[event.pk] = _answer(given, _APPROVAL[given.kind])
            given = None
        elif said is not None and event.kind in _SETTLES and event.subject in (said.subject, ""):
            what = "happened" if said.data.get("happened") else "did-not-happen"
            found[event.pk] = _answer(said, what, undo=event.kind == EventKind.UNDO_DONE)
            said = None
        elif event.kind != EventKind.SAGA_RESUMED:
            said = None  # It was tried again: nothing stands on that word.
    return found


_APPROVAL: dict[str, str] = {EventKind.APPROVAL_GIVEN: "approved", EventKind.APPROVAL_REFUSED: "refused"}
_SETTLES = {EventKind.STEP_DONE, EventKind.STEP_FAILED, EventKind.UNDO_DONE, EventKind.SAGA_COMPENSATING}


def _answer(said: models.Event, what: str, *, undo: bool = False) -> Answer:
    return Answer(step=said.subject, undo=undo, what=what, actor=said.actor, reason=said.reason, at=said.at)


# --- The attempts ---------------------------------------------------------------------------------

OPENS = {EventKind.STEP_STARTED, EventKind.STEP_ASKED, EventKind.UNDO_STARTED}
CLOSES: dict[str, str] = {
    EventKind.STEP_DONE: "done",
    EventKind.STEP_WAITING: "begun",
    EventKind.STEP_RETRY: "retry",
    EventKind.STEP_LATE: "late",
    EventKind.STEP_UNKNOWN: "unknown",
    EventKind.STEP_FAILED: "failed",
    EventKind.UNDO_DONE: "done",
    EventKind.UNDO_RETRY: "retry",
    EventKind.UNDO_LATE: "late",
    EventKind.UNDO_FAILED: "failed",
}
"""Between an event of the first kind and the next of the second a worker had the step, or its undo."""


def attempts(record: History) -> list[Attempt]:
    """Every try and every wait, in the order of their beginning, folded from the events."""
    rows = {step.name: step for step in record.steps}
    answered = _answers(record)
    found: list[Attempt] = []
    tries: dict[tuple[str, bool], Attempt] = {}
    waits: dict[str, Attempt] = {}
    for event in record.events:
        row = rows.get(event.subject)
        if row is None or event.kind not in OPENS | set(CLOSES):
            continue
        undo = event.kind.startswith("undo")
        which = (row.name, undo)
        if event.kind in OPENS:
            if event.kind != EventKind.STEP_ASKED and row.name in waits:
                ended = CALLED_OFF if undo else "waiting"
                found.append(dataclasses.replace(waits.pop(row.name), ended_at=event.at, outcome=ended))
            tries[which] = _begin(event, row, undo)
            continue
        if undo and is_approval(record, row):
            continue  # It was withdrawn: that ends the wait, and nothing was done.
        outcome = CLOSES[event.kind]
        error = event.data if event.data.get("kind") else None
        if event.data.get("clock") == "lease":
            outcome = "lost"
        opened = tries.pop(which, None)
        if event.pk in answered:
            # No attempt came to this, and no worker: a person answers for it. One still open never ended.
            if opened is not None:
                found.append(dataclasses.replace(opened, ended_at=event.at, outcome="lost"))
        elif opened is not None:
            found.append(dataclasses.replace(opened, ended_at=event.at, outcome=outcome, error=error))
        elif row.name not in waits and _has_worker(record, row):
            found.append(_instant(event, row, undo, outcome, error))
        if event.kind == EventKind.STEP_WAITING:
            waits.setdefault(
                row.name,
                Attempt(
                    step=row.name, undo=False, number=None, waits=True,
                    started_at=event.at, ended_at=None, outcome="waiting",
                ),
            )  # fmt: skip
        elif row.name in waits and event.kind in (EventKind.STEP_DONE, EventKind.STEP_FAILED):
            found.append(
                dataclasses.replace(waits.pop(row.name), ended_at=event.at, outcome=outcome, error=error)
            )
    for wait in waits.values():
        row, saga = rows[wait.step], record.saga
        over = row.undo_started_at or row.undone_at or saga.finished_at or saga.closed_at
        found.append(
            dataclasses.replace(wait, ended_at=over, outcome=wait.outcome if over is None else CALLED_OFF)
        )
    found += tries.values()
    return sorted(found, key=lambda attempt: (attempt.started_at, attempt.waits))


def is_approval(record: History, row: models.StepInstance) -> bool:
    """Whether a person ends the step, and no worker ever has it."""
    return isinstance(record.declare(row), definition.Approval)


def _has_worker(record: History, row: models.StepInstance) -> bool:
    declared = record.declare(row)
    return declared is None or declared.has_worker


def _begin(event: models.Event, row: models.StepInstance, undo: bool) -> Attempt:
    return Attempt(
        step=row.name,
        undo=undo,
        number=event.attempt,
        started_at=event.at,
        ended_at=None,
        outcome="running",
        asks=event.kind == EventKind.STEP_ASKED,
        worker=event.data.get("worker", ""),
        task_id=event.data.get("task_id", ""),
    )


def _instant(
    event: models.Event, row: models.StepInstance, undo: bool, outcome: str, error: dict[str, Any] | None
) -> Attempt:
    """A local try: its intent and its outcome are one transaction, and so one event."""
    began = row.undo_started_at if undo else row.started_at
    first = event.attempt == 1 and began is not None and began <= event.at
    last = event.attempt == (row.undo_attempts if undo else row.attempts)
    return Attempt(
        step=row.name,
        undo=undo,
        number=None if outcome == "late" else event.attempt,
        started_at=began if first and began is not None else event.at,
        ended_at=event.at,
        outcome=outcome,
        error=error,
        worker=row.worker if last else "",
        task_id=row.task_id if last else "",
    )


# --- The steps ------------------------------------------------------------------------------------


def step_views(record: History) -> list[StepView]:
    """The steps in the order of doing, each with its action and its undo side by side, and its children."""
    actions, said, conditions = _last_states(record), answers(record), _conditions(record)
    broods = families.broods(record.steps, record.children, record.declared)
    return [
        dataclasses.replace(
            _step_view(record, row, actions.get(row.name, row.state), said, conditions.get(row.name, "")),
            brood=broods.get(row.name),
        )
        for row in record.steps
    ]


def _step_view(
    record: History,
    row: models.StepInstance,
    action: str,
    said: dict[tuple[str, bool], Answer],
    condition: str,
) -> StepView:
    declared, facts = record.declare(row), redaction.redact(row.facts, record.hidden)
    pivot = record.declared.pivot if record.declared else len(record.steps)
    current = record.live and row in record.at_hand and not record.waits_for_parent
    goes_back = row.state in UNDO_STATES
    has_worker = not isinstance(declared, definition.Child)
    in_line = record.saga.in_line_for is not None
    at_work = not parallel.is_free(row, record.now)
    wake_at = row.wake_at if row.is_member else record.saga.wake_at
    next_at = wake_at if current and not at_work and not in_line else None
    forward = DirectionView(
        state=stands(record.saga, row, action if goes_back else row.state),
        attempts=row.attempts,
        budget=record.budget(declared, undo=False) if has_worker else None,
        started_at=row.started_at,
        ended_at=row.finished_at,
        next_at=None if record.backward else next_at,
        error=row.error if row.undo_attempts == 0 else _first_error(record, row),
        answer=said.get((row.name, False)),
    )
    backward = None
    left_out = row.state == StepState.SKIPPED and not row.begun
    if (declared is None or declared.undoable) and not left_out:
        goes_on = record.live and record.saga.closed_at is None
        not_begun = ("due" if record.backward and goes_on else "kept") if row.begun else "none"
        backward = DirectionView(
            state=row.state if goes_back else not_begun,
            attempts=row.undo_attempts,
            budget=record.budget(declared, undo=True) if has_worker else None,
            started_at=row.undo_started_at,
            ended_at=row.undone_at,
            next_at=next_at if record.backward else None,
            error=row.error if row.undo_attempts and row.state != StepState.UNDONE else None,
            answer=said.get((row.name, True)),
        )
    return StepView(
        row=row,
        kind=declared.kind if declared else "",
        remote=bool(declared and declared.remote),
        queue=declared.queue if declared else "",
        current=current,
        stage=stage_of(record.declared, row),
        approval=declared if isinstance(declared, definition.Approval) else None,
        child=declared if isinstance(declared, definition.Child) else None,
        brood=None,
        condition=condition,
        pivot_above=row.position == pivot,
        forward=forward,
        backward=backward,
        facts=facts,
        reference=str((facts or {}).get(declared.reference) or "") if declared else "",
    )


NOT_REACHED = "not_reached"
"""What is shown for a step that is pending for ever. Its row says pending: to the engine it is no state."""


CALLED_OFF = "called_off"
"""What is shown for an action that was begun, and is neither waited for nor tried again. To the engine it is
no state either: the row says what becomes of the undo."""


def stands(saga: models.SagaInstance, step: models.StepInstance, state: str = "") -> str:
    """A step's state as it is shown.

    Once its saga has ended or turned back, nothing is waited for: what is pending was not reached, or is
    called off where it was tried before; what waits is called off.

    Arguments:
        saga: its saga.
        step: the step.
        state: its action's last state; the row's own, unless it is given.
    """
    state = state or step.state
    over = saga.finished_at is not None or saga.closed_at is not None or saga.direction == Direction.BACKWARD
    if over and state == StepState.WAITING:
        return CALLED_OFF
    if over and state == StepState.PENDING:
        return CALLED_OFF if step.attempts else NOT_REACHED
    return state


def stage_of(declared: definition.Saga | None, row: models.StepInstance) -> stages.Stage | None:
    """The stage of a step that is done at once with others; None where it comes alone, or nobody knows."""
    if declared is None or row.position >= len(declared.all_steps):
        return None
    stage = declared.stage_at(row.position)
    return stage if stage.parallel is not None else None


def stage_name(declared: definition.Saga | None, row: models.StepInstance) -> str | None:
    """What that stage is called."""
    stage = stage_of(declared, row)
    return stage.parallel.name if stage is not None and stage.parallel is not None else None


def left_out(record: History) -> dict[str, dict[str, Any]]:
    """By step, of those that were left out: the facts that decided it, or none of them.

    None decided where an operator left it out, or where the saga turned round before it began.
    """
    return facts_of_left_out(record.steps, record.events)


def facts_of_left_out(
    steps: Iterable[models.StepInstance], events: Iterable[models.Event]
) -> dict[str, dict[str, Any]]:
    """The same, from the rows and those events of theirs that say so."""
    facts = {e.subject: e.data.get("facts") or {} for e in events if e.kind == EventKind.STEP_SKIPPED}
    return {row.name: facts.get(row.name, {}) for row in steps if row.state == StepState.SKIPPED}


def _conditions(record: History) -> dict[str, str]:
    """By step: under which facts it is done, and what they have come to once that was decided."""
    found: dict[str, str] = {}
    for row in record.steps:
        if record.declared is None or record.declare(row) is None:
            continue
        stage = record.declared.stage_at(row.position)
        if wanted := stage.conditions[row.position - stage.first]:
            facts = [_fact(condition.fact, condition.wanted) for condition in wanted]
            found[row.name] = _("Done only if %(facts)s.") % {"facts": _and(facts)}
    for event in record.events:
        if event.kind not in (EventKind.STEP_CHOSEN, EventKind.STEP_SKIPPED):
            continue
        if facts := [_fact(name, value) for name, value in (event.data.get("facts") or {}).items()]:
            text = (
                _("Left out: %(facts)s.")
                if event.kind == EventKind.STEP_SKIPPED
                else _("Not left out: %(facts)s.")
            )
            found[event.subject] = text % {"facts": _and(facts)}
        elif event.kind == EventKind.STEP_SKIPPED:
            found[event.subject] = _("Left out: the saga turned round before it began.")
    return found


def _fact(name: str, value: bool) -> str:
    return (_("“%(fact)s” is true") if value else _("“%(fact)s” is not true")) % {"fact": name}


def _and(parts: list[str]) -> str:
    return _(" and ").join(parts)


def _last_states(record: History) -> dict[str, str]:
    """What became of each step's action, whatever its undo has made of it since."""
    states: dict[str, str] = {}
    for event in record.events:
        if event.subject and event.to_state and event.to_state not in UNDO_STATES:
            states[event.subject] = event.to_state
    return states


def _first_error(record: History, row: models.StepInstance) -> dict[str, Any] | None:
    """The action's last error, once the row keeps the undo's."""
    last = None
    for event in record.events:
        if event.subject == row.name and event.kind.startswith("step.") and event.data.get("kind"):
            last = event.data
    return last
