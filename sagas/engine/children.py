"""Sagas that are steps of another (`Child`, `ForEach`): their rows, and what has become of them.

1. When the stage is entered the list is read, and a row for each element is inserted in that transaction.
   `parents` starts them, as many at once as the declaration allows.
2. A child never locks its parent's row. In the transaction in which something becomes of it, it is done, has
   ended, needs a person or does so no more, it writes that its parent is to hear of it (`tells_parent_at`).
   After the commit the same worker has the parent take that up; if it dies the sweep does.
3. A child whose last step is done waits for its parent's outcome, so that what is completed stays so.
4. What a parent makes of its children follows from the children's rows alone, under the lock of its own row:
   to hear of the same thing twice changes nothing.
"""

import dataclasses
import datetime
import functools
import json
import uuid
from collections.abc import Callable
from typing import Any

from django.db import connection

from sagas import errors, models
from sagas.declaration import definition
from sagas.declaration.states import SagaState, StepState
from sagas.engine import failures, store
from sagas.engine.kinds import EventKind
from sagas.engine.store import NOW, After, UnitOfWork

START_LOOK = datetime.timedelta(hours=1)
"""A child is started by its parent. If it is not, the sweep has the parent look after so long."""

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
        )
        for number, facts in enumerate(given)
    ]
    work.transition_step(StepState.WAITING, EventKind.STEP_WAITING, data={"children": len(children)})
    work.set_step(started_at=NOW, facts={models.StepInstance.CHILDREN: len(children)})
    work.set_cursor(dispatched_at=None, dispatches=0, wake_at=After(START_LOOK))
    work.do(functools.partial(_insert, children))
    look(work)


def begin_undo(work: UnitOfWork) -> None:
    """The children are not wanted any more: `parents` tells them so."""
    step = work.step
    if step.state != StepState.UNDOING:
        attempts = step.undo_attempts + 1
        work.transition_step(StepState.UNDOING, EventKind.UNDO_STARTED, attempt=attempts)
        work.set_step(undo_attempts=attempts, undo_started_at=NOW)
    work.set_cursor(dispatched_at=None, dispatches=1, wake_at=After(START_LOOK))
    look(work)


def look_again(work: UnitOfWork) -> None:
    """Somebody wants the step to be tried again: what its children are by now decides."""
    work.set_cursor(wake_at=After(START_LOOK))
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

    @property
    def live(self) -> int:
        """How many have not come to an end."""
        return self.total - self.done - self.failed


_STANDING = """
SELECT count(*), count(*) FILTER (WHERE live AND epoch = 0 AND in_line_for IS NULL),
    count(*) FILTER (WHERE state = 'completed' OR (state = 'running' AND all_done)),
    count(*) FILTER (WHERE state = 'compensated' OR closed_at IS NOT NULL),
    count(*) FILTER (WHERE closed_at IS NOT NULL),
    count(*) FILTER (WHERE state = 'needs_attention' AND closed_at IS NULL),
    count(*) FILTER (WHERE live AND (direction < 0 OR cancel_requested_at IS NOT NULL))
FROM (
    SELECT g.*, g.finished_at IS NULL AND g.closed_at IS NULL AS live, g.position >= %s AS all_done
    FROM sagas_saga g WHERE g.parent_id = %s AND g.parent_step = %s
) AS child
"""


def standing(work: UnitOfWork) -> Standing:
    """Where the children of the step at hand stand, as far as it is committed."""
    steps = len(declared(work).child.all_steps)
    with connection.cursor() as cursor:
        cursor.execute(_STANDING, [steps, work.saga.pk, work.step.name])
        names = [field.name for field in dataclasses.fields(Standing)]
        return Standing(**dict(zip(names, cursor.fetchone(), strict=True)))


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
    parent = models.SagaInstance.objects.filter(pk=saga.parent_id, closed_at=None).first()
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


def report(work: UnitOfWork) -> None:
    """Something has become of a child: its parent is to hear of it."""
    saga = work.saga
    if saga.parent_id is not None:
        work.set(tells_parent_at=NOW)
        work.after_commit(functools.partial(_tell, saga.parent_id, saga.parent_step or ""))


def look(work: UnitOfWork) -> None:
    """Have the saga look at the children of the step at hand, after the commit."""
    work.after_commit(functools.partial(_tell, work.saga.pk, work.step.name))


def look_at_all(work: UnitOfWork) -> None:
    """Have the saga look at all of its children, after the commit."""
    for step in work.declared.children:
        work.after_commit(functools.partial(_tell, work.saga.pk, step.name))


def _tell(parent_id: uuid.UUID, step: str) -> None:
    for listener in _listeners:
        listener(parent_id, step)


def heard(work: UnitOfWork) -> None:
    """The parent looks at its children now: what they had to tell it knows."""
    models.SagaInstance.objects.filter(
        parent_id=work.saga.pk, parent_step=work.step.name, tells_parent_at__isnull=False
    ).update(tells_parent_at=None)


def forget(parent_id: uuid.UUID, step: str) -> None:
    """There is no such parent any more that could hear of them."""
    models.SagaInstance.objects.filter(parent_id=parent_id, parent_step=step).update(tells_parent_at=None)


def is_told(parent_id: uuid.UUID, step: str) -> bool:
    """Whether a child of the step has something to tell that its parent has not heard."""
    told = models.SagaInstance.objects.filter(
        parent_id=parent_id, parent_step=step, tells_parent_at__isnull=False
    )
    return told.exists()


def unheard(limit: int) -> list[tuple[uuid.UUID, str]]:
    """Parents, each with its step, that have not heard of a child for longer than a worker takes to tell."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT DISTINCT parent_id, parent_step FROM (SELECT parent_id, parent_step FROM sagas_saga"
            " WHERE tells_parent_at <= clock_timestamp() - interval '2 seconds'"
            " ORDER BY tells_parent_at LIMIT %s) AS due",
            [limit],
        )
        return list(cursor.fetchall())


# --- Their end with the parent's ------------------------------------------------------------------

_COMPLETE = """
WITH ended AS (
    UPDATE sagas_saga SET state = 'completed', finished_at = clock_timestamp(), wake_at = NULL,
        dispatched_at = NULL, deadline_at = NULL, held_at = NULL, tells_parent_at = NULL,
        updated_at = clock_timestamp()
    WHERE parent_id = %s AND parent_step = %s AND state = 'running' AND position >= %s
    RETURNING id, key, facts
), told AS (
    INSERT INTO sagas_event (saga_id, kind, subject, from_state, to_state, actor, reason, data)
    SELECT id, 'saga.completed', '', 'running', 'completed', 'engine', '', '{}' FROM ended
)
SELECT id, key, facts FROM ended ORDER BY id
"""


def complete(work: UnitOfWork, steps: list[definition.Child]) -> None:
    """Nothing undoes them any more: the children that wait for that complete, in this transaction (I1)."""
    for step in steps:
        work.do(functools.partial(_complete, work.saga.pk, step))


def complete_now(work: UnitOfWork) -> None:
    """The same for the step at hand, whose saga has ended, at once."""
    _complete(work.saga.pk, declared(work))


def _complete(parent_id: uuid.UUID, step: definition.Child) -> None:
    with connection.cursor() as cursor:
        cursor.execute(_COMPLETE, [parent_id, step.name, len(step.child.all_steps)])
        ended = cursor.fetchall()
    for child_id, key, facts in ended:
        for own in step.child.children:
            _complete(child_id, own)
        if step.child.on_completed is not None:
            store.call_hook(step.child.on_completed, key=key, facts=json.loads(facts))
