"""What a saga makes of its children: it starts them, and goes on, fails or is undone as they end.

It looks at them whenever one of them has something to tell, and decides under the lock of its own row, from
where they stand by then. The order of locks is the parent's row, then a child's.
"""

import uuid
from typing import Any

from django.db import connection, transaction

from sagas import conf, errors, models
from sagas.declaration import definition
from sagas.declaration.states import Direction, SagaState, StepState
from sagas.engine import children, dispatching, failures, messages, pacing, store, transitions, transport
from sagas.engine.children import Standing
from sagas.engine.kinds import EventKind, FailureKind
from sagas.engine.store import NOW, UnitOfWork

BATCH = 100
"""So many children are told at a time that they are not wanted: each is a lock, and a statement or two."""


def take_up(saga_id: uuid.UUID, step: str) -> None:
    """Have a saga look at the children of one of its steps. Twice is as good as once.

    Where many children end at once their workers do not queue for the saga's row: who finds it locked leaves
    what it has to tell to the one who holds it, and that one looks again after its commit.
    """
    while _took_up(saga_id, step) and children.is_told(saga_id, step):
        pass


def _took_up(saga_id: uuid.UUID, step: str) -> bool:
    with transaction.atomic():
        if not models.SagaInstance.objects.select_for_update(skip_locked=True).filter(pk=saga_id).exists():
            return False
        try:
            work = store.lock(saga_id, step)
        except errors.NotFound:
            return False
        look_at(work)
        if work.collected:
            work.commit()
        return True


def look_at(work: UnitOfWork) -> None:
    """Decide what the children of the step at hand make of the saga, as it stands locked."""
    children.heard(work)
    saga, step = work.saga, work.step
    if saga.is_final or saga.closed_at is not None:
        return
    if step.state == StepState.UNDOING:
        _undo(work)
    elif step.state == StepState.WAITING and work.forward and dispatching.at_hand(work):
        _go_on(work)


children.listen(take_up)


# --- Forwards -------------------------------------------------------------------------------------


def _go_on(work: UnitOfWork) -> None:
    """Enough are done, or too many have failed; else start more of them, as many as may run at once."""
    step, standing = children.declared(work), children.standing(work)
    _mind_attention(work, standing)
    all_, kept = _need(step) == "all", _failed(step) == "keep"
    need = standing.total if all_ else min(int(_need(step)), standing.total)
    enough = standing.done >= need
    possible = standing.done + standing.live - standing.back >= need
    if standing.live and not (enough and not all_) and (possible or (all_ and kept)):
        _start_more(work, step, standing)
    elif standing.live and (enough or kept):
        _turn_some(work, messages.ENOUGH_DONE)
    elif enough or (all_ and kept):
        transitions.finish_step(work, {**(work.step.facts or {}), **children.outcomes(work)})
        dispatching.follow(work, transitions.advance(work))
    else:
        why = messages.CHILDREN_FAILED % {
            "failed": standing.failed + standing.back,
            "total": standing.total,
        }
        failure = failures.failure(work.step, FailureKind.REFUSED, now=work.now, message=why)
        dispatching.follow(work, transitions.fail(work, failure, provable=True))


def _need(step: definition.Child) -> str | int:
    return step.need if isinstance(step, definition.ForEach) else "all"


def _failed(step: definition.Child) -> str:
    return step.failed if isinstance(step, definition.ForEach) else "compensate"


def _start_more(work: UnitOfWork, step: definition.Child, standing: Standing) -> None:
    if not standing.unstarted or work.saga.held_at is not None:
        return
    limit = step.limit if isinstance(step, definition.ForEach) else 0
    room = limit - (standing.live - standing.unstarted) if limit else standing.unstarted
    if room <= 0:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT id FROM sagas_saga WHERE parent_id = %s AND parent_step = %s AND epoch = 0"
            " AND finished_at IS NULL AND closed_at IS NULL AND in_line_for IS NULL"
            " ORDER BY parent_item LIMIT %s FOR UPDATE",
            [work.saga.pk, work.step.name, room],
        )
        chosen = [child_id for (child_id,) in cursor.fetchall()]
    if step.child.stages[0].is_plain:
        _start_plain(step.child, chosen)
        return
    for child_id in chosen:
        child = store.lock(child_id)
        child.set(deadline_at=store.After(step.child.deadline))
        transitions.start(child)
        child.commit()


def _start_plain(declared: definition.Saga, chosen: list[uuid.UUID]) -> None:
    """Send as many as there is room for in the queue of their first step; the others stand in its line."""
    queue = declared.all_steps[0].queue
    lines = declared.inline and conf.inline()
    sent = pacing.room(queue, len(chosen)) if lines else len(chosen)
    with connection.cursor() as cursor:
        to_send: list[Any] = [dispatching.grace(), declared.deadline, chosen[:sent]]
        cursor.execute(_SEND, to_send)
        rows = cursor.fetchall()
        to_stand: list[Any] = [queue, dispatching.LINE_LOOK, declared.deadline, chosen[sent:]]
        cursor.execute(_LINE_UP, to_stand)
    instances = [
        models.SagaInstance(id=child_id, name=declared.name, version=declared.version, epoch=epoch)
        for child_id, epoch in rows
    ]
    transport.after_commit(*(dispatching.dispatch_of(instance) for instance in instances))
    if lines:
        transaction.on_commit(lambda: pacing.look(queue), robust=True)


_SEND = """
UPDATE sagas_saga SET epoch = 1, dispatches = 1, dispatched_at = clock_timestamp(),
    wake_at = clock_timestamp() + %s, deadline_at = clock_timestamp() + %s, updated_at = clock_timestamp()
WHERE id = ANY (%s) RETURNING id, epoch
"""

_LINE_UP = """
UPDATE sagas_saga SET in_line_for = %s, wake_at = clock_timestamp() + %s,
    deadline_at = clock_timestamp() + %s, updated_at = clock_timestamp() WHERE id = ANY (%s)
"""


# --- Back -----------------------------------------------------------------------------------------


def _undo(work: UnitOfWork) -> None:
    """The step is undone once all of its children are; they are told a batch at a time."""
    standing = children.standing(work)
    _mind_attention(work, standing)
    if standing.failed >= standing.total:
        work.transition_step(StepState.UNDONE, EventKind.UNDO_DONE, attempt=work.step.undo_attempts)
        work.set_step(undone_at=NOW)
        dispatching.follow(work, transitions.advance(work))
    else:
        _turn_some(work, messages.PARENT_UNDONE)


def _turn_some(work: UnitOfWork, why: str) -> None:
    """Tell some of the children that are not wanted any more; the next look tells the next ones."""
    wanted = models.SagaInstance.objects.filter(
        parent_id=work.saga.pk, parent_step=work.step.name, direction=Direction.FORWARD,
        finished_at=None, closed_at=None, cancel_requested_at=None,
    )  # fmt: skip
    if work.forward:
        # Those that are done stay: there are enough of them.
        wanted = wanted.filter(position__lt=len(children.declared(work).child.all_steps))
    chosen = list(wanted.order_by("parent_item").values_list("pk", flat=True)[:BATCH])
    for child_id in chosen:
        child = store.lock(child_id)
        child.note(EventKind.CANCEL_REQUESTED, reason=why)
        child.set(cancel_requested_at=NOW, cancel_actor="engine", cancel_reason=why)
        if transitions.compensate_when_free(child, FailureKind.CANCELLED, actor="engine", reason=why):
            dispatching.dispatch(child)
        child.commit()
    if len(chosen) == BATCH:
        children.look(work)


# --- A child that needs a person ------------------------------------------------------------------


def _mind_attention(work: UnitOfWork, standing: Standing) -> None:
    """A child that needs attention is its parent's reason to need it, and for as long."""
    saga, step = work.saga, work.step
    ours = saga.state == SagaState.NEEDS_ATTENTION and "child" in (saga.attention or {})
    if ours and not standing.attention and saga.attention and saga.attention["step"] == step.name:
        transitions.reopen(work)
        work.set(wake_at=store.After(dispatching.STAGE_LOOK))
    elif standing.attention and saga.state != SagaState.NEEDS_ATTENTION:
        child = (
            models.SagaInstance.objects.filter(
                parent_id=saga.pk, parent_step=step.name, state=SagaState.NEEDS_ATTENTION, closed_at=None
            )
            .order_by("parent_item")
            .first()
        )
        if child is None:
            return  # It no longer does.
        transitions.keep_first_failure(
            work,
            failures.failure(step, FailureKind.OPERATOR, now=work.now, message=messages.CHILD_IN_NEED),
        )
        transitions.require_attention(
            work,
            why=messages.CHILD_NEEDS_ATTENTION
            % {"step": step.name, "child": child.key, "why": (child.attention or {}).get("why", "")},
            advice=messages.SEE_TO_THE_CHILD,
            resume=False,
            child=str(child.pk),
        )
