"""Sagas that are steps of another (`Child`, `ForEach`): their rows, and what has become of them.

1. When the stage is entered the list is read, and a row for each element is inserted in that transaction.
   `parents` starts them, as many at once as the declaration allows.
2. A child never locks its parent's row. In the transaction in which something becomes of it, it is done,
   turns round, has ended, needs a person or does so no more, it writes that its parent is to hear of it
   (`tells_parent_at`). After the commit the same worker has the parent take that up; if it dies the sweep
   does.
3. A child whose last step is done waits for its parent's outcome, so that what is completed stays so.
4. What a parent makes of its children follows from the children's rows alone, under the lock of its own row:
   to hear of the same thing twice changes nothing.
5. A parent counts only those that tell: each row says as what it was counted (`counted_as`), and the parent's
   step has the sums (`standing`). So a child that ends costs as much among ten as among ten thousand.
"""

import dataclasses
import datetime
import enum
import functools
import json
import uuid
from collections import Counter
from collections.abc import Callable
from typing import Any, Self

from django.db import connection

from sagas import errors, models
from sagas.declaration import definition
from sagas.declaration.states import SagaState, StepState
from sagas.engine import failures, store
from sagas.engine.kinds import EventKind
from sagas.engine.store import NOW, UnitOfWork

START_LOOK = datetime.timedelta(hours=1)
"""A child is started by its parent. If it is not, the sweep has the parent look after so long; and has it
count all of its children anew, as often."""

LOST = datetime.timedelta(seconds=2)
"""What a worker was to tell or to look at after its commit is found by the sweep after so long, if that
worker died before it did."""

LONGEST_REASON = 200
"""Characters of a child's failure that its parent is told."""

_listeners: list[Callable[[uuid.UUID, str], object]] = []


def listen(listener: Callable[[uuid.UUID, str], object]) -> None:
    """Have it called with a parent's id and step whenever that is to look at its children."""
    if listener not in _listeners:
        _listeners.append(listener)


def declared(work: UnitOfWork) -> definition.Child:
    """The declaration of the step at hand, which has children."""
    step = work.declared_step
    assert isinstance(step, definition.Child), f"{step.name} has no children"
    return step


def begin(work: UnitOfWork) -> None:
    """The step's turn has come: its children have rows from now on. None is started yet.

    Raises:
        BadFacts: the list is none, is too long, or an element is not what the child takes.
    """
    step, saga = declared(work), work.saga
    given = inputs_of(step, saga.facts)
    children = [
        models.SagaInstance(
            name=step.child.name,
            version=step.child.version,
            fingerprint=step.child.fingerprint,
            key=f"{work.step.key}.{number}",
            facts=facts,
            epoch=0,
            parent_id=saga.pk,
            parent_step=step.name,
            parent_item=number,
            counted_as=Counted.UNSTARTED,
        )
        for number, facts in enumerate(given)
    ]
    work.transition_step(StepState.WAITING, EventKind.STEP_WAITING, data={"children": len(children)})
    work.set_step(
        started_at=NOW,
        facts={models.StepInstance.CHILDREN: len(children)},
        standing=_Sums(counts=Counter({Counted.UNSTARTED: len(children)})).as_json(),
    )
    work.set_cursor(dispatched_at=None, dispatches=0)
    work.do(functools.partial(_insert, children))
    look(work)


def begin_undo(work: UnitOfWork) -> None:
    """The children are not wanted any more: `parents` tells them so."""
    step = work.step
    if step.state != StepState.UNDOING:
        attempts = step.undo_attempts + 1
        work.transition_step(StepState.UNDOING, EventKind.UNDO_STARTED, attempt=attempts)
        work.set_step(undo_attempts=attempts, undo_started_at=NOW)
    work.set_cursor(dispatched_at=None, dispatches=1)
    look(work)


def _insert(children: list[models.SagaInstance]) -> None:
    store.begin(children, grace=START_LOOK, line_look=START_LOOK, actor="engine")


def inputs_of(step: definition.Child, facts: dict[str, Any]) -> list[dict[str, Any]]:
    """What each child is given.

    Raises:
        BadFacts: the list is none, is too long, or an element is not what the child takes.
    """
    if not isinstance(step, definition.ForEach):
        return [{name: facts[fact] for fact, name in step.given}]
    elements = facts[step.of]
    if not isinstance(elements, list):
        raise errors.BadFacts(f"{step.name}: {step.of} is no list, but {type(elements).__name__}.")
    if len(elements) > step.most:
        raise errors.BadFacts(
            f"{step.name}: {step.of} has {len(elements)} elements, and {step.most} at most."
        )
    shared = {name: facts[fact] for fact, name in step.given}
    return [shared | _of_element(step, number, element) for number, element in enumerate(elements)]


def _of_element(step: definition.ForEach, number: int, element: Any) -> dict[str, Any]:
    given = step.inputs_of(element)
    if given is None:
        wanted = ", ".join(sorted(step.of_element))
        raise errors.BadFacts(f"{step.name}: element {number} of {step.of} is not an object of {wanted}.")
    return given


# --- What has become of them ----------------------------------------------------------------------


class Counted(enum.StrEnum):
    """As what a parent counts a child: each is one of these."""

    UNSTARTED = "unstarted"
    """It is still to be started; one that stands in a line to be sent is not."""

    GOING = "going"
    """It goes forwards, and has not come to the end of its steps."""

    DONE = "done"
    """All of its steps are done: it waits for its parent's outcome, or has completed."""

    BACK = "back"
    """It is being undone, or will be."""

    ATTENTION = "attention"
    """It needs a person on its way forwards."""

    BACK_ATTENTION = "back attention"
    """It needs a person on its way back."""

    UNDONE = "undone"

    ASIDE = "aside"
    """It was put aside for good: a person answers for what came of it."""


_COUNTED = f"""
CASE WHEN closed_at IS NOT NULL THEN '{Counted.ASIDE}'
    WHEN state = 'compensated' THEN '{Counted.UNDONE}'
    WHEN state = 'completed' OR (state = 'running' AND position >= %(steps)s) THEN '{Counted.DONE}'
    WHEN direction < 0 OR cancel_requested_at IS NOT NULL
        THEN CASE state WHEN 'needs_attention' THEN '{Counted.BACK_ATTENTION}' ELSE '{Counted.BACK}' END
    WHEN state = 'needs_attention' THEN '{Counted.ATTENTION}'
    WHEN epoch = 0 AND in_line_for IS NULL THEN '{Counted.UNSTARTED}'
    ELSE '{Counted.GOING}' END
"""
"""As what a child is to be counted, as its row stands."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Standing:
    """How many of a step's children stand where."""

    total: int
    unstarted: int
    """They are still to be started: none that stands in a line to be sent."""

    done: int
    """All of their steps are done: they wait for their parent's outcome, or have completed."""

    failed: int
    """They are undone, or were put aside."""

    aside: int
    """They were put aside for good: a person answers for what came of them."""

    attention: int
    back: int
    """They are being undone, or will be."""

    @classmethod
    def of(cls, counts: Counter[str]) -> Self:
        """From how many are counted as what."""
        return cls(
            total=counts.total(),
            unstarted=counts[Counted.UNSTARTED],
            done=counts[Counted.DONE],
            failed=counts[Counted.UNDONE] + counts[Counted.ASIDE],
            aside=counts[Counted.ASIDE],
            attention=counts[Counted.ATTENTION] + counts[Counted.BACK_ATTENTION],
            back=counts[Counted.BACK] + counts[Counted.BACK_ATTENTION],
        )

    @property
    def live(self) -> int:
        """How many have not come to an end."""
        return self.total - self.done - self.failed

    @property
    def untold(self) -> int:
        """How many are on their way forwards, or before it: nobody has told them that they are not wanted."""
        return self.live - self.back


@dataclasses.dataclass(kw_only=True)
class _Sums:
    """What the step's row keeps of its children."""

    counts: Counter[str]
    first: int = 0
    """None before this element is still to be started."""

    @classmethod
    def read(cls, kept: dict[str, Any]) -> Self:
        return cls(counts=Counter(kept["counts"]), first=kept["first"])

    def as_json(self) -> dict[str, Any]:
        return {"counts": {name: count for name, count in self.counts.items() if count}, "first": self.first}


_HEAR = f"""
WITH told AS (
    SELECT id, parent_item, counted_as AS was, {_COUNTED} AS is_now FROM sagas_saga
    WHERE parent_id = %(parent)s AND parent_step = %(step)s AND tells_parent_at IS NOT NULL
    FOR NO KEY UPDATE SKIP LOCKED
), heard AS (
    UPDATE sagas_saga g SET counted_as = told.is_now, tells_parent_at = NULL FROM told WHERE g.id = told.id
)
SELECT was, is_now, count(*), min(parent_item) FROM told GROUP BY was, is_now
"""  # noqa: S608 - nothing of it comes from outside
# One that another session holds tells later: that session is about to change it, and may be long at it.

_HEAR_ALL = _HEAR.replace(
    "tells_parent_at IS NOT NULL",
    f"(tells_parent_at IS NOT NULL OR counted_as IS DISTINCT FROM {_COUNTED})",
)

_COUNT = """
SELECT counted_as, count(*), min(parent_item) FROM sagas_saga
WHERE parent_id = %(parent)s AND parent_step = %(step)s GROUP BY counted_as
"""


def hear(work: UnitOfWork) -> None:
    """Take up what the children of the step at hand have to tell: its sums follow from that."""
    saga, step = work.saga, work.step
    if saga.is_final or saga.closed_at is not None:
        forget(saga.pk, step.name)
        return
    steps = len(declared(work).child.all_steps)
    about: dict[str, Any] = {"parent": saga.pk, "step": step.name, "steps": steps}
    with connection.cursor() as cursor:
        cursor.execute(_HEAR if step.standing is not None else _HEAR_ALL, about)
        told = cursor.fetchall()
        if step.facts is None:
            return  # It has not begun, and has none.
        if step.standing is None or any(was is None for was, *_ in told):
            cursor.execute(_COUNT, about)
            counts = Counter({name: count for name, count, _ in cursor.fetchall() if name is not None})
            work.set_step(standing=_Sums(counts=counts).as_json())
            return
    sums = _Sums.read(step.standing)
    for was, is_now, count, first in told:
        sums.counts[was] -= count
        sums.counts[is_now] += count
        if is_now == Counted.UNSTARTED:
            sums.first = min(sums.first, first)
    _keep(work, sums)


def _keep(work: UnitOfWork, sums: _Sums) -> None:
    if sums.as_json() != work.step.standing:
        work.set_step(standing=sums.as_json())


def standing(work: UnitOfWork) -> Standing:
    """Where the children of the step at hand stand, as far as they were heard."""
    assert work.step.standing is not None, "a look begins with hearing them"
    return Standing.of(_Sums.read(work.step.standing).counts)


_NEXT = """
SELECT id, parent_item, counted_as FROM sagas_saga
WHERE parent_id = %s AND parent_step = %s AND parent_item >= %s AND epoch = 0
  AND state IS NOT DISTINCT FROM 'running' AND closed_at IS NULL AND in_line_for IS NULL
ORDER BY parent_item LIMIT %s FOR UPDATE
"""


def take_next(work: UnitOfWork, room: int) -> list[uuid.UUID]:
    """Lock so many of the children that are still to be started, which are counted as going from now on.

    Whoever calls this starts them, and writes that on their rows.
    """
    assert work.step.standing is not None, "they were counted before one was to be started"
    sums = _Sums.read(work.step.standing)
    with connection.cursor() as cursor:
        cursor.execute(_NEXT, [work.saga.pk, work.step.name, sums.first, room])
        chosen = cursor.fetchall()
    if chosen:
        sums.first = chosen[-1][1] + 1
        for _id, _item, was in chosen:
            if was is not None:
                sums.counts[was] -= 1
            sums.counts[Counted.GOING] += 1
        _keep(work, sums)
    return [child_id for child_id, *_ in chosen]


def are_live(saga: models.SagaInstance, step: str) -> bool:
    """Whether a child of the step has not come to an end, and does not merely wait for its parent's."""
    live = models.SagaInstance.objects.filter(
        parent_id=saga.pk, parent_step=step, finished_at=None, closed_at=None
    )
    return any(not waits_for_parent(child) for child in live)


def waits_for_parent(saga: models.SagaInstance) -> bool:
    """Whether all of a child's steps are done, and its parent's outcome is not known yet."""
    return (
        saga.parent_id is not None
        and saga.state == SagaState.RUNNING
        and saga.position >= len(saga.definition.all_steps)
    )


def ends_with_parent(saga: models.SagaInstance) -> bool:
    """Whether a child whose steps are all done has to wait: its parent may yet undo it."""
    if saga.parent_id is None:
        return False
    # Without its facts: the list of all its children, perhaps.
    parents = models.SagaInstance.objects.filter(pk=saga.parent_id, closed_at=None)
    parent = parents.only("name", "version").first()
    return parent is not None and parent.definition.step(saga.parent_step or "").kind == "compensatable"


def outcomes(work: UnitOfWork) -> dict[str, Any]:
    """What the children put out, as the facts of the step at hand."""
    step, facts = declared(work), work.saga.facts
    rows = models.SagaInstance.objects.filter(parent_id=work.saga.pk, parent_step=step.name)
    found = list(rows.order_by("parent_item"))
    if not isinstance(step, definition.ForEach):
        return {fact: found[0].facts.get(name) for name, fact in step.returned}
    if not step.outputs:
        return {}
    (name,) = step.outputs
    told = zip(found, facts[step.of], inputs_of(step, facts), strict=True)
    return {name: [_outcome(step, *of_child) for of_child in told]}


def _outcome(
    step: definition.ForEach, row: models.SagaInstance, element: Any, given: dict[str, Any]
) -> dict[str, Any]:
    """What became of an element's child, without what the child hides; what it puts out is all there."""
    hidden = step.child.hidden
    done = row.state == SagaState.COMPLETED or waits_for_parent(row)
    is_hidden = step.of in step.hides  # Each element is the one input, which is hidden.
    put_out = [name for inner in step.child.all_steps for name in inner.outputs]
    return {
        "item": row.parent_item,
        "element": None if is_hidden else _shown(element, hidden),
        "saga": str(row.pk),
        "done": done,
        "state": SagaState.COMPLETED if done else row.state,
        "facts": {name: row.facts[name] for name in put_out if name in row.facts},
        # What is secret is no longer among its facts, but is among those that it was given.
        "failure": None if done else _why(row.failure, {**row.facts, **given}, hidden),
    }


def _shown(value: Any, hidden: frozenset[str]) -> Any:
    if isinstance(value, dict):
        return {name: _shown(inner, hidden) for name, inner in value.items() if name not in hidden}
    return [_shown(inner, hidden) for inner in value] if isinstance(value, list) else value


def _why(
    failure: dict[str, Any] | None, facts: dict[str, Any], hidden: frozenset[str]
) -> dict[str, Any] | None:
    """Why a child failed, in a line. An error's text may name what the child hides: that is struck out."""
    if failure is None:
        return None
    said = failures.without_values(failure["message"], _hidden_in(facts, hidden))
    return {
        "step": failure["step"],
        "kind": failure["kind"],
        "message": said.partition("\n")[0][:LONGEST_REASON],
    }


def _hidden_in(value: Any, hidden: frozenset[str], *, under: bool = False) -> list[str]:
    """The texts and numbers that stand under a hidden name, however deep."""
    if isinstance(value, dict):
        return [
            text
            for name, inner in value.items()
            for text in _hidden_in(inner, hidden, under=under or name in hidden)
        ]
    if isinstance(value, list):
        return [text for inner in value for text in _hidden_in(inner, hidden, under=under)]
    return [str(value)] if under and isinstance(value, str | int) else []


# --- Who is to hear of what -----------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Tell:
    """Tells a parent after a commit. Equal ones are one: who ends a hundred children tells of them once."""

    parent_id: uuid.UUID
    step: str

    def __call__(self) -> None:
        _tell(self.parent_id, self.step)


def report(work: UnitOfWork) -> None:
    """Something has become of a child: its parent is to hear of it."""
    saga = work.saga
    if saga.parent_id is not None:
        work.set(tells_parent_at=NOW)
        work.after_commit(_Tell(saga.parent_id, saga.parent_step or ""))


def look(work: UnitOfWork) -> None:
    """Have the saga look at the children of the step at hand, after the commit; or else the sweep, soon."""
    work.set_cursor(wake_at=work.no_later_than_deadline(LOST))
    work.after_commit(_Tell(work.saga.pk, work.step.name))


def let_go(work: UnitOfWork) -> None:
    """The saga is put aside: it looks at all of its children after the commit.

    Its own row is looked at by nobody any more. So those that wait to be started, and are not, tell it.
    """
    for step in work.declared.children:
        work.do(functools.partial(_have_unstarted_tell, work.saga.pk, step.name))
        work.after_commit(_Tell(work.saga.pk, step.name))


def _have_unstarted_tell(parent_id: uuid.UUID, step: str) -> None:
    models.SagaInstance.objects.filter(
        parent_id=parent_id, parent_step=step, epoch=0, finished_at=None, closed_at=None
    ).update(tells_parent_at=models.ClockTimestamp())


def _tell(parent_id: uuid.UUID, step: str) -> None:
    for listener in _listeners:
        listener(parent_id, step)


def is_first(parent_id: uuid.UUID, step: str) -> bool:
    """Whether nobody else takes up what children of the step have to tell; until the transaction's end.

    Whoever comes second leaves it to the first, who looks again after its commit.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_try_advisory_xact_lock(hashtextextended(%s, 0))",
            [f"sagas.children.{parent_id}.{step}"],
        )
        return bool(cursor.fetchone()[0])


def forget(parent_id: uuid.UUID, step: str) -> None:
    """There is no such parent any more that could hear of them."""
    models.SagaInstance.objects.filter(
        parent_id=parent_id, parent_step=step, tells_parent_at__isnull=False
    ).update(tells_parent_at=None)


def is_told(parent_id: uuid.UUID, step: str) -> bool:
    """Whether a child of the step has something to tell that its parent has not heard, and can."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT 1 FROM sagas_saga WHERE parent_id = %s AND parent_step = %s"
            " AND tells_parent_at IS NOT NULL LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED",
            [parent_id, step],
        )
        return cursor.fetchone() is not None


def tell_again(parent_id: uuid.UUID, step: str) -> None:
    """The parent could not look just now: one of its children tells it again, which the sweep finds."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE sagas_saga SET tells_parent_at = clock_timestamp() WHERE id = (SELECT id FROM sagas_saga"
            " WHERE parent_id = %s AND parent_step = %s LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED)",
            [parent_id, step],
        )


def unheard(limit: int) -> list[tuple[uuid.UUID, str]]:
    """Parents, each with its step, that have not heard of a child for longer than a worker takes to tell."""
    parameters: list[Any] = [LOST, limit]
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT DISTINCT parent_id, parent_step FROM (SELECT parent_id, parent_step FROM sagas_saga"
            " WHERE tells_parent_at <= clock_timestamp() - %s"
            " ORDER BY tells_parent_at LIMIT %s) AS due",
            parameters,
        )
        return list(cursor.fetchall())


# --- Their end with the parent's ------------------------------------------------------------------

_COMPLETE = """
WITH waiting AS (
    SELECT id FROM sagas_saga
    WHERE parent_id = ANY (%s) AND parent_step = %s AND state = 'running' AND position >= %s
    ORDER BY id FOR UPDATE
), ended AS (
    UPDATE sagas_saga g SET state = 'completed', finished_at = clock_timestamp(), wake_at = NULL,
        dispatched_at = NULL, deadline_at = NULL, held_at = NULL, tells_parent_at = NULL,
        updated_at = clock_timestamp()
    FROM waiting WHERE g.id = waiting.id
    RETURNING g.id, g.key, g.facts
), told AS (
    INSERT INTO sagas_event (saga_id, kind, subject, from_state, to_state, actor, reason, data)
    SELECT id, 'saga.completed', '', 'running', 'completed', 'engine', '', '{}' FROM ended
)
SELECT id, key, facts FROM ended ORDER BY id
"""
# Locked in the order in which they began, as anybody locks them who wants several.


def complete(work: UnitOfWork, steps: list[definition.Child]) -> None:
    """Nothing undoes them any more: the children that wait for that complete, in this transaction (I1)."""
    for step in steps:
        work.do(functools.partial(_complete, [work.saga.pk], step))


def complete_now(work: UnitOfWork) -> None:
    """The same for the step at hand, whose saga has ended, at once."""
    _complete([work.saga.pk], declared(work))


def _complete(parent_ids: list[uuid.UUID], step: definition.Child) -> None:
    """The children of a step of these sagas complete, with their own children, however many there are."""
    with connection.cursor() as cursor:
        cursor.execute(_COMPLETE, [parent_ids, step.name, len(step.child.all_steps)])
        ended = cursor.fetchall()
    if not ended:
        return
    for own in step.child.children:
        _complete([child_id for child_id, *_ in ended], own)
    if step.child.on_completed is not None:
        for _child_id, key, facts in ended:
            store.call_hook(step.child.on_completed, key=key, facts=json.loads(facts))
