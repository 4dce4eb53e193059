"""Why the live sagas of a list wait, in a few words each: for whom, for what, until when."""

import dataclasses
import datetime
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from django.db.models import DateTimeField, F, Func, Q
from django.utils import html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from sagas import conf, errors, models, reading
from sagas.console import formatting, history, marks
from sagas.declaration import definition
from sagas.declaration.states import SagaState, StepState
from sagas.engine import parallel

Words = str | SafeString

_ROWS = ("state", "attempts", "excused", "undo_attempts", "undo_excused", "lease_until", "wait_until",
         "error", "worker", "epoch", "wake_at", "dispatched_at", "parked_for", "name", "position",
         "saga_id", "finished_at", "started_at", "undo_started_at", "task_id")  # fmt: skip

_CLOCK = Func(function="clock_timestamp", output_field=DateTimeField())


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Around:
    """What all rows of a list have in common."""

    now: datetime.datetime
    queues: Mapping[str, models.Queue]
    circuits: Mapping[str, models.Circuit]
    awaited: Callable[[str, str], str]


def attach(rows: Sequence[Any], awaited: Callable[[str, str], str] = lambda _saga, _step: "") -> None:
    """Give each of these sagas its `waits`: why it goes no further just now; empty where nothing keeps it.

    Two statements, however many sagas there are, and a third where a provider is out; none where no saga
    goes on by itself.

    Arguments:
        rows: sagas of one page.
        awaited: what a step of a saga waits for once it has begun, by their names; empty where nobody says.
    """
    for row in rows:
        row.waits = ""
    live = [row for row in rows if row.state in (SagaState.RUNNING, SagaState.COMPENSATING)]
    if not live:
        return
    steps: dict[uuid.UUID, dict[int, models.StepInstance]] = {}
    # The one that each is at, and of those at once all: two hundred steps cost no more than one.
    at_hand = Q(position=F("saga__position")) | Q(epoch__isnull=False)
    read = models.StepInstance.objects.filter(at_hand, saga__in=[row.pk for row in live])
    now = None
    for step in read.annotate(at=_CLOCK).only(*_ROWS):
        steps.setdefault(step.saga_id, {})[step.position] = step
        now = step.at
    if now is None:
        return
    around = _Around(
        now=now,
        queues=models.Queue.objects.in_bulk(),
        circuits=_circuits(live, steps.values()),
        awaited=awaited,
    )
    for row in live:
        row.waits = _of(row, steps.get(row.pk, {}), around)


def _circuits(
    sagas: Iterable[models.SagaInstance], steps: Iterable[Mapping[int, models.StepInstance]]
) -> dict[str, models.Circuit]:
    rows: list[Any] = [*sagas, *(row for each in steps for row in each.values())]
    parked = {row.parked_for for row in rows if row.parked_for is not None}
    return models.Circuit.objects.filter(name__in=parked, opened_at__isnull=False).in_bulk() if parked else {}


def _of(saga: models.SagaInstance, steps: Mapping[int, models.StepInstance], around: _Around) -> Words:
    if saga.held_at is not None:
        return html.format_html(_("held since {}"), marks.minute(saga.held_at, around.now))
    if (at := history.starts_at(saga)) is not None:
        return html.format_html(_("starts at {}"), marks.minute(at, around.now))
    if saga.parent_id is not None and reading.child_place(saga) in ("waiting", "coming"):
        return _("waits for its parent")
    try:
        declared = saga.definition
    except errors.UnknownSaga:
        return _("waits for its declaration, which this process does not have")
    said = [_at_step(saga, row, declared, around) for row in _at_hand(saga, declared, steps)]
    return html.format_html_join("; ", "{}", ((words,) for words in said if words))


def _at_hand(
    saga: models.SagaInstance, declared: definition.Saga, steps: Mapping[int, models.StepInstance]
) -> list[models.StepInstance]:
    if saga.position not in steps:
        return []
    stage = declared.stage_at(saga.position)
    places = range(stage.first, stage.last + 1)
    if stage.parallel is None or not all(place in steps for place in places):
        return [steps[saga.position]]
    return history.at_hand(
        saga, declared, [steps.get(place, steps[saga.position]) for place in range(places.stop)]
    )


def _at_step(
    saga: models.SagaInstance, row: models.StepInstance, declared: definition.Saga, around: _Around
) -> Words:
    step = declared.all_steps[row.position]
    cursor: Any = row if row.is_member else saga
    undo = saga.state == SagaState.COMPENSATING
    attempts = row.undo_attempts - row.undo_excused if undo else row.attempts - row.excused
    given = {
        "step": row.name,
        "queue": cursor.parked_for or step.queue,
        "next": attempts + 1,
        "attempt": max(attempts, 1),
        "budget": declared.retry_of(step, undo=undo).attempts,
        "when": formatting.when(cursor.wake_at, around.now),
        "for": around.awaited(saga.name, row.name),
    }
    if not parallel.is_free(row, around.now):
        return _("%(step)s is under way, attempt %(attempt)s of %(budget)s") % given
    if cursor.parked_for is not None:
        return _parked(around.circuits.get(cursor.parked_for), given, around)
    expected = cursor.dispatched_at is not None or saga.in_line_for is not None
    if expected and step.has_worker and _unheard(around.queues.get(step.queue), around):
        return _("%(step)s: no worker on %(queue)s") % given
    if row.state == StepState.WAITING and not undo:
        return _waiting(row, step, given, around)
    if saga.in_line_for is not None:
        return _("%(step)s: in line, %(queue)s has much to do") % (given | {"queue": saga.in_line_for})
    if cursor.dispatched_at is None and row.state == StepState.UNKNOWN and not undo:
        return _("%(step)s: outcome unknown, asked %(when)s") % given
    if cursor.dispatched_at is None and row.error and attempts and cursor.wake_at is not None:
        if undo:
            return _("undoing %(step)s: attempt %(next)s of %(budget)s, %(when)s") % given
        return _("%(step)s: attempt %(next)s of %(budget)s, %(when)s") % given
    return ""


def _unheard(queue: models.Queue | None, around: _Around) -> bool:
    silence = queue.silence(around.now) if queue is not None else None
    return silence is not None and silence > conf.SILENT_AFTER


def _parked(circuit: models.Circuit | None, given: dict[str, Any], around: _Around) -> Words:
    if circuit is None:
        return _("%(step)s: %(queue)s works again, it goes on in a moment") % given
    since = marks.minute(circuit.failing_since or circuit.opened_at, around.now)
    return html.format_html(_("{step}: {queue} is out since {since}"), since=since, **_named(given))


def _waiting(
    row: models.StepInstance, step: definition.Step, given: dict[str, Any], around: _Around
) -> Words:
    if isinstance(step, definition.Child):
        return ""  # How its children stand is said beside it.
    if row.wait_until is None:
        return _("%(step)s waits for an answer from outside") % given
    until = marks.minute(row.wait_until, around.now)
    if isinstance(step, definition.Approval):
        form = _("{step} waits for a person's yes or no until {until}")
    elif given["for"]:
        form = _("{step} waits for {what} until {until}")
    else:
        form = _("{step} waits for an answer from outside until {until}")
    return html.format_html(form, until=until, what=given["for"], **_named(given))


def _named(given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: given[name] for name in ("step", "queue")}
