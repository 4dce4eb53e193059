"""What a saga makes of its children: it starts them, and goes on, fails or is undone as they end.

It looks at them whenever one of them has something to tell, and decides under the lock of its own row, from
where they stand by then. The order of locks is the parent's row, then a child's.
"""

import logging
import uuid
from collections.abc import Callable
from typing import Any

from django.db import connection, transaction
from django.db.models import QuerySet

from sagas import conf, database, errors, models
from sagas.declaration import definition
from sagas.declaration.states import Direction, SagaState, StepState
from sagas.engine import children, dispatching, failures, messages, pacing, store, transitions, transport
from sagas.engine.children import Standing
from sagas.engine.kinds import EventKind, FailureKind
from sagas.engine.store import NOW, UnitOfWork

logger = logging.getLogger("sagas")

BATCH = 100
"""So many children are told at a time that they are not wanted: each is a lock, and a statement or two."""

TO_TRY = {StepState.PENDING, StepState.UNKNOWN}


def take_up(saga_id: uuid.UUID, step: str) -> None:
    """Have a saga look at the children of one of its steps. Twice is as good as once.

    Where many children end at once their workers do not queue for the saga's row: who finds it locked leaves
    what it has to tell to the one who holds it, and that one looks again after its commit.

    Whoever calls this has done its own work: that the saga cannot take it up is told to a person.
    """
    try:
        while _took_up(saga_id, step) and children.is_told(saga_id, step):
            pass
    except errors.UnknownSaga:
        # Other processes may still have its version; what the children have to tell stays told.
        logger.exception("saga %s cannot go on", saga_id)
    except Exception as bug:
        _could_not_look(saga_id, step, bug)


def _took_up(saga_id: uuid.UUID, step: str) -> bool:
    with transaction.atomic():
        if not models.SagaInstance.objects.select_for_update(skip_locked=True).filter(pk=saga_id).exists():
            if not models.SagaInstance.objects.filter(pk=saga_id).exists():
                children.forget(saga_id, step)
            return False
        work = store.lock(saga_id, step)
        look_at(work)
        if work.collected:
            work.commit()
        return True


def _could_not_look(saga_id: uuid.UUID, step: str, bug: Exception) -> None:
    try:
        if database.is_passing(bug):
            logger.warning("saga %s could not look at its children: %s", saga_id, failures.text_of(bug))
            _look_later(saga_id, step)
        else:
            logger.error("saga %s could not go on after its children: %s", saga_id, failures.traced(bug, {}))
            _call_for_help(saga_id, step, bug)
    except Exception:
        logger.exception("no person could be called for saga %s; the sweep will try again", saga_id)


def _look_later(saga_id: uuid.UUID, step: str) -> None:
    """Another session holds a lock, say: it is looked at again soon, by the sweep."""
    with transaction.atomic():
        work = store.lock(saga_id, step)
        if work.saga.state in dispatching.WORKING:
            work.set_cursor(wake_at=store.After(dispatching.grace()))
            work.commit()


def _call_for_help(saga_id: uuid.UUID, step: str, bug: Exception) -> None:
    """A hook of its owner failed, say: a person is called; it looks again when it is resumed."""
    with transaction.atomic():
        work = store.lock(saga_id, step)
        children.heard(work)  # Told again and again it would fail as often.
        if work.saga.state not in dispatching.WORKING:
            return
        failure = failures.failure(work.step, FailureKind.BUG, now=work.now, error=bug)
        transitions.keep_first_failure(work, failure)
        transitions.require_attention(
            work,
            why=messages.CANNOT_BE_MOVED % {"error": failure.error, "message": failure.message},
            advice=messages.SEE_TO_THE_HOOK,
            resume=True,
        )
        work.commit()


def look_at(work: UnitOfWork) -> None:
    """Decide what the children of the step at hand make of the saga, as it stands locked."""
    children.heard(work)
    saga, step = work.saga, work.step
    if saga.is_final:
        return
    if saga.closed_at is not None:
        _let_go(work)
    elif step.state == StepState.UNDOING:
        _undo(work)
    elif not (work.forward and dispatching.at_hand(work)):
        return
    elif step.state == StepState.WAITING:
        _go_on(work)
    elif saga.state == SagaState.RUNNING and saga.epoch > 0 and step.state in TO_TRY:
        _try_again(work)


children.listen(take_up)


# --- Forwards -------------------------------------------------------------------------------------


def _go_on(work: UnitOfWork) -> None:
    """Enough are done, or too many have failed; else start more of them, as many as may run at once.

    At the pivot and behind it all of them come to an end before it is decided that too few are done. So they
    do, where the rest is to finish, before it is said that enough are.
    """
    step, standing = children.declared(work), children.standing(work)
    all_, kept = _need(step) == "all", _failed(step) == "keep"
    need = standing.total if all_ else min(int(_need(step)), standing.total)
    enough = standing.done >= need
    possible = standing.done + standing.live - standing.back >= need
    if standing.live and enough and not all_ and _rest(step) == "cancel":
        _mind_attention(work, standing)
        _turn_some(work, messages.ENOUGH_DONE)
    elif standing.live and (possible or kept or step.kind != "compensatable"):
        _mind_attention(work, standing)
        _start_more(work, step, standing)
    elif enough or kept:
        _end_attention(work)
        transitions.finish_step(work, {**(work.step.facts or {}), **children.outcomes(work)})
        dispatching.follow(work, transitions.advance(work))
    else:
        _end_attention(work)
        why = messages.CHILDREN_FAILED % {
            "failed": standing.failed + standing.back,
            "total": standing.total,
        }
        failure = failures.failure(work.step, FailureKind.REFUSED, now=work.now, message=why)
        # What was put aside may have happened: at the pivot a person says whether it did.
        provable = step.kind != "pivot" or not standing.aside
        dispatching.follow(work, transitions.fail(work, failure, provable=provable))


def _try_again(work: UnitOfWork) -> None:
    """The step has failed, past undoing, and somebody wants it to be tried again."""
    if work.step.facts is None:
        dispatching.follow(work, transitions.begin_without_worker(work))
    else:
        work.transition_step(StepState.WAITING, EventKind.STEP_WAITING)
        _go_on(work)


def _need(step: definition.Child) -> str | int:
    return step.need if isinstance(step, definition.ForEach) else "all"


def _rest(step: definition.Child) -> str:
    return step.rest if isinstance(step, definition.ForEach) else "cancel"


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
    if standing.failed >= standing.total:
        _end_attention(work)
        work.transition_step(StepState.UNDONE, EventKind.UNDO_DONE, attempt=work.step.undo_attempts)
        work.set_step(undone_at=NOW)
        dispatching.follow(work, transitions.advance(work))
    else:
        _mind_attention(work, standing)
        _turn_some(work, messages.PARENT_UNDONE)


def _turn_some(work: UnitOfWork, why: str) -> None:
    """Tell some of the children that are not wanted any more; the next look tells the next ones.

    One that is past its own pivot goes on to its end. While the saga is held nobody is told anything.
    """
    wanted = models.SagaInstance.objects.filter(
        parent_id=work.saga.pk, parent_step=work.step.name, direction=Direction.FORWARD,
        finished_at=None, closed_at=None, cancel_requested_at=None,
    )  # fmt: skip
    if work.forward:
        # Those that are done stay: there are enough of them.
        wanted = wanted.filter(position__lt=len(children.declared(work).child.all_steps))
    if work.saga.held_at is None:
        stays = children.waits_for_parent if work.forward else _never
        _turn(work, wanted, why, stays)


def _never(child: models.SagaInstance) -> bool:
    return False


def _has_begun(child: models.SagaInstance) -> bool:
    return child.epoch > 0


def _let_go(work: UnitOfWork) -> None:
    """The saga was put aside: its children that wait for it complete, and those never started are over.

    Those under way go on by themselves.
    """
    children.complete_now(work)
    unstarted = models.SagaInstance.objects.filter(
        parent_id=work.saga.pk, parent_step=work.step.name, epoch=0, finished_at=None, closed_at=None
    )
    _turn(work, unstarted, messages.PARENT_ASIDE, _has_begun)


def _turn(
    work: UnitOfWork,
    wanted: QuerySet[models.SagaInstance],
    why: str,
    stays: Callable[[models.SagaInstance], bool],
) -> None:
    """Have a batch of children turn round: those that are still to be, once each one's lock is had."""
    chosen = list(wanted.order_by("parent_item").values_list("pk", flat=True)[:BATCH])
    for child_id in chosen:
        child = store.lock(child_id)
        saga = child.saga
        over = saga.is_final or saga.closed_at is not None or saga.direction == Direction.BACKWARD
        if over or saga.cancel_requested_at is not None or stays(saga):
            continue
        child.note(EventKind.CANCEL_REQUESTED, reason=why)
        child.set(cancel_requested_at=NOW, cancel_actor="engine", cancel_reason=why)
        # Of one that was never sent nothing has happened, whatever kind its first step is of.
        turns = not _has_begun(saga) or not transitions.past_pivot(saga, child.step)
        if turns and transitions.compensate_when_free(
            child, FailureKind.CANCELLED, actor="engine", reason=why
        ):
            dispatching.dispatch(child)
        child.commit()
    if len(chosen) == BATCH:
        children.look(work)


# --- A child that needs a person ------------------------------------------------------------------


def _mind_attention(work: UnitOfWork, standing: Standing) -> None:
    """A child that needs attention is its parent's reason to need it, and for as long."""
    saga, step = work.saga, work.step
    child = _in_need(work) if standing.attention else None
    about = saga.attention or {}
    ours = saga.state == SagaState.NEEDS_ATTENTION and about["step"] == step.name and "child" in about
    if ours and (child is None or about["child"] != str(child.pk)):
        transitions.reopen(work)
        dispatching.dispatch(work)
    if child is None or saga.state == SagaState.NEEDS_ATTENTION:
        return
    transitions.keep_first_failure(
        work, failures.failure(step, FailureKind.OPERATOR, now=work.now, message=messages.CHILD_IN_NEED)
    )
    transitions.require_attention(
        work,
        why=messages.CHILD_NEEDS_ATTENTION
        % {"step": step.name, "child": child.key, "why": (child.attention or {}).get("why", "")},
        advice=messages.SEE_TO_THE_CHILD,
        resume=False,
        child=str(child.pk),
    )


def _in_need(work: UnitOfWork) -> models.SagaInstance | None:
    needs = models.SagaInstance.objects.filter(
        parent_id=work.saga.pk,
        parent_step=work.step.name,
        state=SagaState.NEEDS_ATTENTION,
        closed_at=None,
    )
    return needs.order_by("parent_item").first()


def _end_attention(work: UnitOfWork) -> None:
    """The step at hand is over, and with it what a person was called for: a child, or the deadline."""
    saga = work.saga
    if saga.state == SagaState.NEEDS_ATTENTION and (saga.attention or {}).get("step") == work.step.name:
        transitions.reopen(work)
