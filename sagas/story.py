"""A saga told to a person: the verdict, the ladder and the attempts, from its rows and events alone.

The admin's page and `manage.py saga show` tell the same story, because both read it here.
"""

import dataclasses
import datetime
import re
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from django.utils import formats, timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from sagas import definition, errors, models, moves, words
from sagas.states import Direction, SagaState, StepState

EVENTS_AT_MOST = 2000
"""More events than this of one saga are not told at once; the download has them all."""

SILENT_AFTER = datetime.timedelta(seconds=30)
"""A queue whose probe is unanswered for so long has no live worker, or a long backlog."""

SECRETIVE = re.compile(
    r"token|secret|password|tax|email|name$|street|complement|district|recipient|phone|copy_paste|postal",
    re.IGNORECASE,
)
"""Names of facts that are personal or open doors: their values are shown to nobody (A3)."""

VEIL = "•••"

UNDO_STATES = frozenset({StepState.UNDOING, StepState.UNDONE, StepState.UNDO_FAILED})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Attempt:
    """One try at a deed or its undo, or one wait for somebody outside."""

    step: str
    undo: bool
    number: int | None
    started_at: datetime.datetime
    ended_at: datetime.datetime | None
    outcome: str
    """running, done, begun, retry, unknown, failed, lost; waiting, where it is a wait."""

    waits: bool = False
    asks: bool = False
    error: dict[str, Any] | None = None
    worker: str = ""
    task_id: str = ""

    @property
    def took(self) -> datetime.timedelta | None:
        """How long it took, if it is over."""
        return None if self.ended_at is None else self.ended_at - self.started_at


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lane:
    """One way of one step: its deed, or its undo."""

    state: str
    """A StepState; `due` or `none` where an undo has not begun."""

    label: str
    attempts: int
    budget: int | None
    started_at: datetime.datetime | None
    ended_at: datetime.datetime | None
    next_at: datetime.datetime | None
    error: dict[str, Any] | None

    @property
    def took(self) -> datetime.timedelta | None:
        """From the first attempt to the end."""
        if self.started_at is None or self.ended_at is None:
            return None
        return self.ended_at - self.started_at


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rung:
    """One step of the ladder, with its lanes."""

    row: models.StepInstance
    kind: str
    remote: bool
    queue: str
    current: bool
    pivot_above: bool
    """Whether the line beyond which nothing is undone runs above it."""

    forward: Lane
    backward: Lane | None
    facts: Any

    @property
    def provider_ref(self) -> str:
        """What the provider calls it, if its facts say so."""
        facts = self.row.facts or {}
        for name in ("provider_ref", "tracking", "protocol", "access_key", "number"):
            if facts.get(name):
                return str(facts[name])
        return ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verdict:
    """The page in a few sentences."""

    tone: str
    """going, waiting, undoing, held, attention, good, undone or closed."""

    what: str
    next: str
    who: str
    advice: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Banner:
    """Something about the surroundings that explains what is, or is not, happening."""

    kind: str
    text: str
    tone: str = "warning"


@dataclasses.dataclass(kw_only=True)
class Story:
    """All that is known of a saga, read at one moment of the database's clock."""

    saga: models.SagaInstance
    declared: definition.Saga | None
    steps: list[models.StepInstance]
    events: list[models.Event]
    signals: list[models.Signal]
    approvals: list[models.Approval]
    queues: dict[str, models.Queue]
    circuits: dict[str, models.Circuit]
    now: datetime.datetime

    @property
    def step(self) -> models.StepInstance:
        """The step at the saga's position; the last when all are done."""
        return self.steps[min(self.saga.position, len(self.steps) - 1)]

    @property
    def declared_step(self) -> definition.Step | None:
        """That step's declaration, if the code still has it."""
        return self.declare(self.step)

    def declare(self, row: models.StepInstance) -> definition.Step | None:
        """A row's declaration, if the code still has it."""
        if self.declared is None or row.position >= len(self.declared.steps):
            return None
        return self.declared.steps[row.position]

    @property
    def backward(self) -> bool:
        """Whether it is being undone, or was."""
        return self.saga.direction == Direction.BACKWARD

    @property
    def at_work(self) -> bool:
        """Whether an attempt may be under way, so that nobody else may act (O2)."""
        return not moves.may_turn(self.saga, self.step, self.now)

    @property
    def live(self) -> bool:
        """Whether it may still move."""
        return self.saga.finished_at is None

    @property
    def past_pivot(self) -> bool:
        """Whether it can no longer be undone."""
        return self.declared is not None and moves.past_pivot(self.saga, self.step)

    @property
    def age(self) -> datetime.timedelta:
        """From its beginning to its end, or to now."""
        return (self.saga.finished_at or self.now) - self.saga.created_at


def read(saga_id: uuid.UUID | str) -> Story:
    """Read a saga with all that belongs to it, in seven statements however long it is.

    Raises:
        NotFound: there is no such saga.
    """
    saga = models.SagaInstance.objects.annotate(now=models.ClockTimestamp()).filter(pk=saga_id).first()
    if saga is None:
        raise errors.NotFound(f"There is no saga {saga_id}.")
    try:
        declared: definition.Saga | None = saga.definition
    except errors.UnknownSaga:
        declared = None
    steps = list(models.StepInstance.objects.filter(saga_id=saga.pk))
    for step in steps:
        step.saga = saga
    return Story(
        saga=saga,
        declared=declared,
        steps=steps,
        events=list(models.Event.objects.filter(saga_id=saga.pk)[:EVENTS_AT_MOST]),
        signals=list(models.Signal.objects.filter(step_key__in=[step.key for step in steps]).order_by("id")),
        approvals=list(models.Approval.objects.filter(saga=saga, state=models.Approval.State.ASKED)),
        queues=models.Queue.objects.in_bulk(),
        circuits=models.Circuit.objects.in_bulk(),
        now=saga.now,
    )


# --- The attempts ---------------------------------------------------------------------------------

_OPENS = {"step.started", "step.asked", "undo.started"}
_CLOSES = {
    "step.done": "done",
    "step.waiting": "begun",
    "step.retry": "retry",
    "step.unknown": "unknown",
    "step.failed": "failed",
    "undo.done": "done",
    "undo.retry": "retry",
    "undo.failed": "failed",
}


def attempts(story: Story) -> list[Attempt]:
    """Every try and every wait, in the order of their beginning, folded from the events."""
    rows = {step.name: step for step in story.steps}
    found: list[Attempt] = []
    tries: dict[tuple[str, bool], Attempt] = {}
    waits: dict[str, Attempt] = {}
    for event in story.events:
        row = rows.get(event.subject)
        if row is None or event.kind not in _OPENS | set(_CLOSES):
            continue
        undo = event.kind.startswith("undo")
        lane = (row.name, undo)
        if event.kind in _OPENS:
            if event.kind != "step.asked" and row.name in waits:
                found.append(dataclasses.replace(waits.pop(row.name), ended_at=event.at))
            tries[lane] = _begin(event, row, undo)
            continue
        outcome = _CLOSES[event.kind]
        error = event.data if event.data.get("kind") else None
        if event.data.get("clock") == "lease":
            outcome = "lost"
        opened = tries.pop(lane, None)
        if opened is not None:
            found.append(dataclasses.replace(opened, ended_at=event.at, outcome=outcome, error=error))
        elif row.name not in waits:
            found.append(_instant(event, row, undo, outcome, error))
        if event.kind == "step.waiting":
            waits.setdefault(
                row.name,
                Attempt(
                    step=row.name, undo=False, number=None, waits=True,
                    started_at=event.at, ended_at=None, outcome="waiting",
                ),
            )  # fmt: skip
        elif row.name in waits and event.kind in ("step.done", "step.failed"):
            found.append(
                dataclasses.replace(waits.pop(row.name), ended_at=event.at, outcome=outcome, error=error)
            )
    for wait in waits.values():
        over = rows[wait.step].undo_started_at or rows[wait.step].undone_at or story.saga.finished_at
        found.append(dataclasses.replace(wait, ended_at=over))
    found += tries.values()
    return sorted(found, key=lambda attempt: (attempt.started_at, attempt.waits))


def _begin(event: models.Event, row: models.StepInstance, undo: bool) -> Attempt:
    return Attempt(
        step=row.name,
        undo=undo,
        number=event.attempt,
        started_at=event.at,
        ended_at=None,
        outcome="running",
        asks=event.kind == "step.asked",
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
        number=event.attempt,
        started_at=began if first and began is not None else event.at,
        ended_at=event.at,
        outcome=outcome,
        error=error,
        worker=row.worker if last else "",
        task_id=row.task_id if last else "",
    )


# --- The ladder -----------------------------------------------------------------------------------


def ladder(story: Story) -> list[Rung]:
    """The steps in the order of doing, each with its deed and its undo side by side."""
    deeds = _last_states(story)
    return [_rung(story, row, deeds.get(row.name, row.state)) for row in story.steps]


def _rung(story: Story, row: models.StepInstance, deed: str) -> Rung:
    declared = story.declare(row)
    pivot = story.declared.pivot if story.declared else len(story.steps)
    current = story.live and row.position == story.saga.position
    undone_way = row.state in UNDO_STATES
    next_at = story.saga.wake_at if current and not story.at_work else None
    state = deed if undone_way else row.state
    forward = Lane(
        state=state,
        label=str(StepState(state).label),
        attempts=row.attempts,
        budget=_budget(story, declared, undo=False),
        started_at=row.started_at,
        ended_at=row.finished_at,
        next_at=None if story.backward else next_at,
        error=row.error if row.undo_attempts == 0 else _first_error(story, row),
    )
    backward = None
    if declared is None or declared.undo is not None:
        backward = Lane(
            state=row.state if undone_way else ("due" if story.backward and row.begun else "none"),
            label=str(StepState(row.state).label)
            if undone_way
            else (_("Undo is due") if story.backward and story.live and row.begun else _("Nothing to undo")),
            attempts=row.undo_attempts,
            budget=_budget(story, declared, undo=True),
            started_at=row.undo_started_at,
            ended_at=row.undone_at,
            next_at=next_at if story.backward else None,
            error=row.error if row.undo_attempts and row.state != StepState.UNDONE else None,
        )
    return Rung(
        row=row,
        kind=declared.kind if declared else "",
        remote=bool(declared and declared.remote),
        queue=declared.queue if declared else "",
        current=current,
        pivot_above=row.position == pivot,
        forward=forward,
        backward=backward,
        facts=veiled(row.facts),
    )


def _budget(story: Story, declared: definition.Step | None, *, undo: bool) -> int | None:
    if story.declared is None or declared is None:
        return None
    return story.declared.retry_of(declared, undo=undo).attempts


def _last_states(story: Story) -> dict[str, str]:
    """What became of each step's deed, whatever its undo has made of it since."""
    states: dict[str, str] = {}
    for event in story.events:
        if event.subject and event.to_state and event.to_state not in UNDO_STATES:
            states[event.subject] = event.to_state
    return states


def _first_error(story: Story, row: models.StepInstance) -> dict[str, Any] | None:
    """The deed's last error, once the row keeps the undo's."""
    last = None
    for event in story.events:
        if event.subject == row.name and event.kind.startswith("step.") and event.data.get("kind"):
            last = event.data
    return last


# --- The verdict ----------------------------------------------------------------------------------


def verdict(story: Story) -> Verdict:
    """What happened, what comes next and when, and who must act."""
    saga = story.saga
    if saga.closed_at is not None:
        return _closed(story)
    if saga.state == SagaState.COMPLETED:
        return Verdict(
            tone="good",
            what=ngettext(
                "The step was done, in %(took)s.", "All %(count)s steps were done, in %(took)s.",
                len(story.steps),
            )
            % {"count": len(story.steps), "took": length(story.age)},
            next=_("Nothing: this is final."),
            who=_("Nobody has to act."),
        )  # fmt: skip
    if saga.state == SagaState.COMPENSATED:
        return Verdict(
            tone="undone",
            what=f"{cause(saga)} {_undone_words(story)}",
            next=_("Nothing: this is final."),
            who=_("Nobody has to act."),
        )
    if saga.state == SagaState.NEEDS_ATTENTION:
        return _needs_attention(story)
    if saga.held_at is not None:
        return _held(story)
    return _under_way(story)


def _undone_words(story: Story) -> str:
    undone = [step.name for step in reversed(story.steps) if step.state == StepState.UNDONE]
    if not undone:
        return _("Nothing had been done, so nothing had to be undone.")
    return _("Undone in reverse order: %(steps)s.") % {"steps": ", ".join(undone)}


def cause(saga: models.SagaInstance) -> str:
    """The first failure in one sentence; it is kept for ever (A2)."""
    failure = saga.failure or {}
    kind, step, message = failure.get("kind"), failure.get("step"), failure.get("message", "")
    if kind in ("cancelled", "operator"):
        given = {"actor": saga.cancel_actor, "message": sentence(message)}
        return _("%(actor)s asked for it to be undone: %(message)s") % given
    told: dict[str, Any] = {"step": step, "message": spoken(message), "attempt": failure.get("attempt")}
    if kind == "refused":
        return _("%(step)s was refused: %(message)s") % told
    if kind == "timeout":
        return _("The time ran out at %(step)s: %(message)s") % told
    if kind == "bug":
        return _("%(step)s met a bug: %(message)s") % told
    if kind == "unknown":
        return _("Nobody knows whether %(step)s happened: %(message)s") % told
    if kind == "transient":
        return _("%(step)s failed %(attempt)s times: %(message)s") % told
    return ""


def _needs_attention(story: Story) -> Verdict:
    saga, attention = story.saga, story.saga.attention or {}
    row = next((step for step in story.steps if step.name == attention.get("step")), story.step)
    error = row.error or saga.failure or {}
    given: dict[str, Any] = {
        "step": row.name,
        "attempts": row.undo_attempts if story.backward else row.attempts,
        "message": spoken(error.get("message", "")),
    }
    if row.state == StepState.UNDO_FAILED:
        what = ngettext(
            "%(step)s could not be undone, after %(attempts)s attempt: %(message)s",
            "%(step)s could not be undone, after %(attempts)s attempts: %(message)s",
            given["attempts"],
        )
    elif row.state == StepState.UNKNOWN:
        what = _("Nobody knows whether %(step)s happened, and it is past the point of no return: %(message)s")
    elif row.state == StepState.FAILED:
        what = ngettext(
            "%(step)s failed after %(attempts)s attempt, past the point of no return: %(message)s",
            "%(step)s failed after %(attempts)s attempts, past the point of no return: %(message)s",
            given["attempts"],
        )
    else:
        what = _("It cannot go on by itself at %(step)s: %(message)s")
        given["message"] = spoken(attention.get("why", "")) or given["message"]
    if saga.held_at is not None:
        following = _("Nothing, for it is held.")
    elif saga.wake_at is None:
        following = _("Nothing, until somebody acts: trying again by itself would not help.")
    else:
        following = _("It tries again by itself %(when)s.") % {"when": when(saga.wake_at, story.now)}
    return Verdict(
        tone="attention",
        what=what % given,
        next=following,
        who=_("An operator."),
        advice=_advice(row, story) or words.say(attention.get("advice", "")),
    )


def _advice(row: models.StepInstance, story: Story) -> str:
    if row.state == StepState.UNDO_FAILED:
        return _(
            "Settle it with the provider under the key shown below; then resume, "
            "or say with evidence that it is undone."
        )
    if row.state in (StepState.FAILED, StepState.UNKNOWN) and not story.backward:
        return _("See to the cause; then resume, or say with evidence that it happened, or did not.")
    return ""


def _held(story: Story) -> Verdict:
    event = _latest(story, "operator.hold")
    return Verdict(
        tone="held",
        what=_("%(actor)s holds it since %(since)s: %(reason)s")
        % {
            "actor": event.actor if event else "?",
            "since": moment(story.saga.held_at),
            "reason": sentence(event.reason) if event else "",
        },
        next=_("An attempt under way still ends; nothing new begins."),
        who=_("An operator must release it."),
    )


def _closed(story: Story) -> Verdict:
    event = _latest(story, "operator.close")
    return Verdict(
        tone="closed",
        what=_("%(actor)s put it aside for good: %(reason)s")
        % {"actor": event.actor if event else "?", "reason": sentence(event.reason) if event else ""},
        next=_("Nothing: the engine leaves it as it stands, and nothing of it is deleted."),
        who=_("Nobody has to act."),
    )


def _latest(story: Story, kind: str) -> models.Event | None:
    return next((event for event in reversed(story.events) if event.kind == kind), None)


def _under_way(story: Story) -> Verdict:
    saga, row = story.saga, story.step
    declared = story.declared_step
    done = sum(step.state in (StepState.DONE, StepState.SKIPPED) for step in story.steps)
    tone = "undoing" if story.backward else "going"
    if story.backward:
        what = cause(saga)
    else:
        what = _("%(done)s of %(count)s steps are done.") % {"done": done, "count": len(story.steps)}
    given: dict[str, Any] = {
        "step": row.name,
        "attempt": row.undo_attempts if story.backward else row.attempts,
        "budget": _budget(story, declared, undo=story.backward) or "?",
        "when": when(saga.wake_at, story.now),
        "message": spoken((row.error or {}).get("message", "")),
        "worker": row.worker or _("A worker"),
        "limit": when(row.wait_until, story.now),
    }
    if story.at_work:
        text = (
            _("%(worker)s is undoing %(step)s, attempt %(attempt)s of %(budget)s.")
            if story.backward
            else _("%(worker)s is at %(step)s, attempt %(attempt)s of %(budget)s.")
        )
        return Verdict(tone=tone, what=what, next=text % given, who=_("Nobody has to act."))
    if row.state == StepState.WAITING:
        return Verdict(
            tone="waiting",
            what=what,
            next=_("%(step)s has begun, and waits for a word from outside; its limit is reached %(limit)s.")
            % given,
            who=_("Whoever it waits for: the payer, or the provider. Nobody here has to act."),
        )
    if saga.dispatched_at is None and row.state == StepState.UNKNOWN and not story.backward:
        text = _("Whether %(step)s happened is unknown; the provider is asked %(when)s.")
    elif saga.dispatched_at is None and row.error and (row.undo_attempts or not story.backward):
        text = (
            _("Undoing %(step)s failed: %(message)s Tried again %(when)s.")
            if story.backward
            else _("%(step)s failed attempt %(attempt)s of %(budget)s: %(message)s Tried again %(when)s.")
        )
    else:
        text = (
            _("%(step)s is to be undone next; a worker of its queue takes it up.")
            if story.backward
            else _("%(step)s is next; a worker of its queue takes it up.")
        )
    return Verdict(tone=tone, what=what, next=text % given, who=_("Nobody has to act."))


# --- The banners ----------------------------------------------------------------------------------


def banners(story: Story) -> list[Banner]:
    """What about the surroundings explains the saga's state."""
    return list(_banners(story))


def _banners(story: Story) -> Iterator[Banner]:
    saga = story.saga
    if story.declared is None:
        yield Banner(
            kind="undeclared",
            tone="error",
            text=_(
                "Version %(version)s of %(name)s is no longer in the code of this process: it cannot go on "
                "until the declaration is back (sagas.E011)."
            )
            % {"version": saga.version, "name": saga.name},
        )
    elif story.declared.fingerprint != saga.fingerprint:
        yield Banner(
            kind="changed",
            tone="error",
            text=_(
                "Version %(version)s of %(name)s was changed since this saga began with it: restore it, and "
                "declare the change as a new version (sagas.E011)."
            )
            % {"version": saga.version, "name": saga.name},
        )
    if story.live and saga.closed_at is None:
        yield from _surroundings(story)
    for signal in story.signals:
        if signal.fate == models.Signal.Fate.LATE:
            yield _late(signal)


def _surroundings(story: Story) -> Iterator[Banner]:
    saga, declared = story.saga, story.declared_step
    if saga.held_at is not None and saga.state == SagaState.NEEDS_ATTENTION:
        yield Banner(kind="held", text=_("It is held since %(since)s.") % {"since": moment(saga.held_at)})
    if saga.cancel_requested_at is not None and not story.backward:
        yield Banner(
            kind="cancel",
            text=_(
                "%(actor)s asked %(since)s for it to be undone: %(reason)s It turns round as soon as the "
                "attempt under way has ended."
            )
            % {
                "actor": saga.cancel_actor,
                "since": moment(saga.cancel_requested_at),
                "reason": sentence(saga.cancel_reason),
            },
        )
    for approval in story.approvals:
        yield Banner(
            kind="approval",
            text=_("%(actor)s asked for “%(move)s”, which waits for a second person: %(reason)s")
            % {"actor": approval.actor, "move": approval.move, "reason": sentence(approval.reason)},
        )
    if declared is None:
        return
    circuit = story.circuits.get(declared.queue)
    if circuit is not None and circuit.open_until is not None:
        yield Banner(
            kind="circuit",
            text=_(
                "The provider of %(queue)s is out since %(since)s: its steps are put off without spending "
                "their attempts. It is tried again %(when)s."
            )
            % {
                "queue": declared.queue,
                "since": moment(circuit.opened_at),
                "when": when(circuit.open_until, story.now),
            },
        )
    queue = story.queues.get(declared.queue)
    lag = queue.lag(story.now) if queue is not None else None
    if lag is not None and lag > SILENT_AFTER:
        yield Banner(
            kind="queue",
            text=_(
                "No worker has answered on the queue %(queue)s for %(lag)s: start one "
                "(celery worker --queues=%(queue)s), or wait for its backlog to shrink."
            )
            % {"queue": declared.queue, "lag": length(lag)},
        )
    if saga.deadline_at is not None and saga.deadline_at <= story.now:
        yield Banner(
            kind="deadline",
            text=_("Its deadline has passed; the next sweep, or the end of the attempt, acts upon it."),
        )


def _late(signal: models.Signal) -> Banner:
    given = {
        "source": signal.source,
        "kind": signal.kind,
        "at": moment(signal.received_at),
        "error": spoken(signal.remedy_error),
        "done": moment(signal.remedied_at),
    }
    if signal.remedied_at is not None:
        text = _(
            "A callback of %(source)s (%(kind)s) came too late, at %(at)s, and what it told of was undone "
            "by itself at %(done)s."
        )
        return Banner(kind="late", tone="info", text=text % given)
    if signal.wake_at is not None:
        text = _(
            "A callback of %(source)s (%(kind)s) came too late, at %(at)s; what it told of is being undone."
        )
        return Banner(kind="late", text=text % given)
    text = _(
        "A callback of %(source)s (%(kind)s) came too late, at %(at)s, and what it told of could not be "
        "undone: %(error)s Settle it by hand."
    )
    return Banner(kind="late", tone="error", text=text % given)


# --- Words ----------------------------------------------------------------------------------------


def rule(error: dict[str, Any]) -> str:
    """Which rule chose what becomes of an error of this kind."""
    clock = error.get("clock")
    kinds = {
        "refused": _("Named in `refused`: a no is a no, and is never tried again (R3)."),
        "transient": _("Named in `retry.on`: it did not happen, and is tried again while the budget lasts."),
        "unknown": _("It may have happened: the provider is asked with the same key first (U1, U2)."),
        "bug": _("Named nowhere: a bug. It is not tried again, and is shown as what it is."),
        "timeout": _("A clock ran out."),
        "cancelled": _("Somebody asked for it; no step failed."),
        "operator": _("An operator said so."),
    }
    clocks = {
        "attempt": _("The attempt took longer than its timeout."),
        "budget": _("All attempts together took longer than the step's budget."),
        "wait": _("Nobody said in time that it is done."),
        "lease": _("The worker vanished with it."),
        "deadline": _("The saga's deadline ran out."),
        "undo-deadline": _("The time for undoing ran out."),
    }
    return " ".join(filter(None, [kinds.get(error.get("kind", ""), ""), clocks.get(clock or "", "")]))


def length(time: datetime.timedelta | None) -> str:
    """A duration as people read it: 3 ms, 1.25 s, 2 min 5 s, 3 h 12 min, 2 d 4 h."""
    if time is None:
        return ""
    seconds = abs(time.total_seconds())
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return decimal(f"{seconds:.2f}".rstrip("0").rstrip(".")) + " s"
    whole = int(seconds)
    for large, small, units in ((60, 1, ("min", "s")), (3600, 60, ("h", "min")), (86400, 3600, ("d", "h"))):
        if whole < large * {60: 60, 3600: 24, 86400: 10**9}[large]:
            rest = whole % large // small
            return f"{whole // large} {units[0]}" + (f" {rest} {units[1]}" if rest else "")
    raise AssertionError(seconds)


def decimal(number: str) -> str:
    """A number with the decimal sign of the viewer's language."""
    return number.replace(".", str(formats.get_format("DECIMAL_SEPARATOR")))


def when(moment_: datetime.datetime | None, now: datetime.datetime) -> str:
    """How far off a moment is: in 3 s, or 5 s ago."""
    if moment_ is None:
        return _("at an unknown time")
    if moment_ <= now + datetime.timedelta(seconds=1):
        return _("any moment now")
    return _("in %(length)s") % {"length": length(moment_ - now)}


def moment(at: datetime.datetime | None) -> str:
    """A moment in the viewer's zone, which the page's head names, to the millisecond."""
    if at is None:
        return ""
    local = timezone.localtime(at)
    return local.replace(tzinfo=None).isoformat(sep=" ", timespec="milliseconds") + (
        "" if local.utcoffset() else " UTC"
    )


def sentence(text: str) -> str:
    """With a full stop, where it has none."""
    text = text.strip()
    return text if not text or text[-1] in ".!?…" else f"{text}."


def spoken(text: str) -> str:
    """What the rows say, in the viewer's language, as a sentence."""
    return sentence(words.say(text))


def why(saga: models.SagaInstance) -> str:
    """Why it stands before a person, or what went wrong first; empty while nothing did."""
    if saga.attention and saga.state == SagaState.NEEDS_ATTENTION:
        return spoken(saga.attention.get("why", ""))
    return cause(saga) if saga.failure else ""


def stands(saga: models.SagaInstance) -> str:
    """At which step it is; empty when it is over, or the code no longer has its declaration."""
    try:
        steps = saga.definition.steps
    except errors.UnknownSaga:
        return ""
    if saga.finished_at is not None or saga.position >= len(steps):
        return ""
    return _("at %(step)s") % {"step": steps[saga.position].name}


def veiled(value: Any, name: str = "") -> Any:
    """The same facts, with what is personal or secret struck out (A3)."""
    if isinstance(value, dict):
        return {key: veiled(item, key) for key, item in value.items()}
    if isinstance(value, list):
        return [veiled(item, name) for item in value]
    if isinstance(value, str) and value and SECRETIVE.search(name):
        return VEIL
    return value


# --- For machines ---------------------------------------------------------------------------------


def as_data(story: Story, *, events: Sequence[models.Event] | None = None) -> dict[str, Any]:
    """The story as JSON-able data."""
    saga = story.saga
    told = verdict(story)
    return {
        "id": str(saga.pk),
        "name": saga.name,
        "version": saga.version,
        "key": saga.key,
        "state": saga.state,
        "direction": Direction(saga.direction).name.lower(),
        "position": saga.position,
        "epoch": saga.epoch,
        "created_at": _iso(saga.created_at),
        "updated_at": _iso(saga.updated_at),
        "finished_at": _iso(saga.finished_at),
        "deadline_at": _iso(saga.deadline_at),
        "wake_at": _iso(saga.wake_at),
        "held_at": _iso(saga.held_at),
        "closed_at": _iso(saga.closed_at),
        "failure": saga.failure,
        "attention": saga.attention,
        "verdict": {"what": told.what, "next": told.next, "who": told.who, "advice": told.advice},
        "steps": [
            {
                "name": row.name,
                "key": row.key,
                "state": row.state,
                "attempts": row.attempts,
                "undo_attempts": row.undo_attempts,
                "started_at": _iso(row.started_at),
                "finished_at": _iso(row.finished_at),
                "undo_started_at": _iso(row.undo_started_at),
                "undone_at": _iso(row.undone_at),
                "error": row.error,
                "facts": veiled(row.facts),
                "worker": row.worker,
                "task_id": row.task_id,
            }
            for row in story.steps
        ],
        "events": [event_as_data(event) for event in (story.events if events is None else events)],
    }


def event_as_data(event: models.Event) -> dict[str, Any]:
    """One event as JSON-able data."""
    return {
        "id": event.pk,
        "at": _iso(event.at),
        "kind": event.kind,
        "subject": event.subject,
        "from_state": event.from_state,
        "to_state": event.to_state,
        "attempt": event.attempt,
        "actor": event.actor,
        "reason": event.reason,
        "data": veiled(event.data),
    }


def _iso(at: datetime.datetime | None) -> str | None:
    return None if at is None else at.isoformat()
