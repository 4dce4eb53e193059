"""What a saga makes of its children: it starts them, and goes on, fails or is undone as they end.

It looks at them whenever one of them has something to tell, and decides under the lock of its own row, from
where they stand by then. The order of locks is the parent's row, then a child's.
"""

import logging
import threading
import uuid
from typing import Any

from django.db import connection, transaction

from sagas import conf, database, errors, models
from sagas.declaration import definition
from sagas.declaration.states import SagaState, StepState
from sagas.engine import children, dispatching, failures, messages, pacing, store, transitions, transport
from sagas.engine.children import Standing
from sagas.engine.kinds import EventKind, FailureKind
from sagas.engine.store import NOW, UnitOfWork

logger = logging.getLogger("sagas")

BATCH = 100
"""So many children are told at a time that they are not wanted: their rows are locked, and their parent's."""

TO_TRY = {StepState.PENDING, StepState.UNKNOWN}

_taken_up = threading.local()
"""What this thread takes up just now (`by`): of each, whether it was told of it once more meanwhile."""


def take_up(saga_id: uuid.UUID, step: str) -> None:
    """Have a saga look at the children of one of its steps. Twice is as good as once.

    Where many children end at once their workers do not queue for the saga's row: who finds another at this
    leaves to it what it has to tell, and that one looks again after its commit. So one worker at most waits
    until somebody else, an operator say, lets go of the row.

    Whoever calls this has done its own work: that the saga cannot take it up is told to a person.
    """
    by: dict[tuple[uuid.UUID, str], bool] = _taken_up.__dict__.setdefault("by", {})
    if (saga_id, step) in by:
        by[saga_id, step] = True  # Children that were told something in here tell of it: after this look.
        return
    try:
        again = True
        while again:
            by[saga_id, step] = False
            looked = _took_up(saga_id, step)
            again = looked and (by[saga_id, step] or children.is_told(saga_id, step))
    except errors.UnknownSaga:
        # Other processes may still have its version; what the children have to tell stays told.
        logger.exception("saga %s cannot go on", saga_id)
    except Exception as bug:
        _could_not_look(saga_id, step, bug)
    finally:
        by.pop((saga_id, step), None)


def _took_up(saga_id: uuid.UUID, step: str) -> bool:
    with transaction.atomic():
        if not children.is_first(saga_id, step):
            return False
        try:
            work = store.lock(saga_id, step, facts=False)
        except errors.NotFound:
            children.forget(saga_id, step)
            return False
        look_at(work)
        if work.collected:
            work.commit()
        return True


def _could_not_look(saga_id: uuid.UUID, step: str, bug: Exception) -> None:
    try:
        if database.is_passing(bug):
            # Another session holds a lock, say: the sweep has it looked at soon.
            logger.warning("saga %s could not look at its children: %s", saga_id, failures.text_of(bug))
            children.tell_again(saga_id, step)
        else:
            logger.error("saga %s could not go on after its children: %s", saga_id, failures.traced(bug, {}))
            _call_for_help(saga_id, step, bug)
    except Exception:
        logger.exception("no person could be called for saga %s; the sweep will try again", saga_id)


def _call_for_help(saga_id: uuid.UUID, step: str, bug: Exception) -> None:
    """A hook of its owner failed, say: a person is called; it looks again when it is resumed."""
    with transaction.atomic():
        work = store.lock(saga_id, step)
        children.hear(work)  # Told again and again it would fail as often.
        if work.saga.state in dispatching.WORKING:
            failure = failures.failure(work.step, FailureKind.BUG, now=work.now, error=bug)
            transitions.keep_first_failure(work, failure)
            transitions.require_attention(
                work,
                why=messages.CANNOT_BE_MOVED % {"error": failure.error, "message": failure.message},
                advice=messages.SEE_TO_THE_HOOK,
                resume=True,
            )
        if work.collected:
            work.commit()


def look_at(work: UnitOfWork) -> None:
    """Decide what the children of the step at hand make of the saga, as it stands locked."""
    children.hear(work)
    saga, step = work.saga, work.step
    if saga.is_final:
        return
    if saga.closed_at is not None:
        _let_go(work)
        return
    if saga.state in dispatching.WORKING and dispatching.at_hand(work):
        _need_not_look_soon(work)
    if step.state == StepState.UNDOING:
        _undo(work)
    elif not (work.forward and dispatching.at_hand(work)):
        return
    elif step.state == StepState.WAITING:
        _go_on(work)
    elif saga.state == SagaState.RUNNING and saga.epoch > 0 and step.state in TO_TRY:
        _try_again(work)


def _need_not_look_soon(work: UnitOfWork) -> None:
    """It looks now: the sweep need not have it do so, before something else comes."""
    wake_at = work.cursor.wake_at
    if wake_at is None or wake_at <= work.now + children.LOST:
        work.set_cursor(wake_at=work.no_later_than_deadline(children.START_LOOK))


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
        if standing.untold:
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
    chosen = children.take_next(work, room)
    if step.child.stages[0].is_plain:
        _start_plain(step.child, chosen)
        return
    together = store.Transactions()
    for child in store.lock_all(chosen, together):
        child.set(deadline_at=store.After(step.child.deadline), counted_as=children.Counted.GOING)
        transitions.start(child)
        child.commit()
    together.flush()


def _start_plain(declared: definition.Saga, chosen: list[uuid.UUID]) -> None:
    """Send as many as there is room for in the queue of their first step; the others stand in its line."""
    queue = declared.all_steps[0].queue
    lines = declared.inline and conf.inline()
    sent = pacing.room(queue, len(chosen)) if lines else len(chosen)
    with connection.cursor() as cursor:
        to_send: list[Any] = [dispatching.grace(), declared.deadline, chosen[:sent]]
        cursor.execute(_SEND, to_send)
        epochs = dict(cursor.fetchall())
        if chosen[sent:]:
            to_stand: list[Any] = [queue, dispatching.LINE_LOOK, declared.deadline, chosen[sent:]]
            cursor.execute(_LINE_UP, to_stand)
    instances = [
        # In the order of the list, whatever the order is in which the database writes them.
        models.SagaInstance(id=child_id, name=declared.name, version=declared.version, epoch=epochs[child_id])
        for child_id in chosen[:sent]
    ]
    transport.after_commit(*(dispatching.dispatch_of(instance) for instance in instances))
    if lines:
        transaction.on_commit(lambda: pacing.look(queue), robust=True)


_SEND = """
UPDATE sagas_saga SET epoch = 1, dispatches = 1, dispatched_at = clock_timestamp(), counted_as = 'going',
    wake_at = clock_timestamp() + %s, deadline_at = clock_timestamp() + %s, updated_at = clock_timestamp()
WHERE id = ANY (%s) RETURNING id, epoch
"""

_LINE_UP = """
UPDATE sagas_saga SET in_line_for = %s, counted_as = 'going', wake_at = clock_timestamp() + %s,
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
        return
    _mind_attention(work, standing)
    if standing.untold or standing.done:
        _turn_some(work, messages.PARENT_UNDONE)


def _turn_some(work: UnitOfWork, why: str) -> None:
    """Tell some of the children that are not wanted any more; the next look tells the next ones.

    One that is past its own pivot goes on to its end. While the saga is held nobody is told anything.
    """
    if work.saga.held_at is not None:
        return
    # On its way forwards there are enough that are done: those stay.
    steps = len(children.declared(work).child.all_steps)
    which = ("position < %s", steps) if work.forward else ("true",)
    _turn(work, why, *which)


def _let_go(work: UnitOfWork) -> None:
    """The saga was put aside: its children that wait for it complete, and those never started are over.

    Those under way go on by themselves.
    """
    children.complete_now(work)
    _turn(work, messages.PARENT_ASIDE, "epoch = 0")


_WANTED = """
SELECT id FROM sagas_saga
WHERE parent_id = %s AND parent_step = %s AND direction = 1 AND finished_at IS NULL AND closed_at IS NULL
  AND cancel_requested_at IS NULL AND ({which})
ORDER BY parent_item LIMIT {batch} FOR UPDATE {locked}
"""


def _turn(work: UnitOfWork, why: str, which: str, *parameters: int) -> None:
    """Have a batch of children turn round: those that are still to be, once each one's lock is had.

    Those that others hold, at work on a step perhaps, come last, and one at a time: they are waited for, and
    no other is locked meanwhile.
    """
    about: list[Any] = [work.saga.pk, work.step.name, *parameters]
    with connection.cursor() as cursor:
        for batch, locked in ((BATCH, "SKIP LOCKED"), (1, "")):
            cursor.execute(_WANTED.format(which=which, batch=batch, locked=locked), about)
            if chosen := [child_id for (child_id,) in cursor.fetchall()]:
                break
        else:
            return
    together = store.Transactions()
    for child in store.lock_all(chosen, together):
        child.note(EventKind.CANCEL_REQUESTED, reason=why)
        child.set(cancel_requested_at=NOW, cancel_actor="engine", cancel_reason=why)
        children.report(child)
        # Of one that was never sent nothing has happened, whatever kind its first step is of.
        turns = child.saga.epoch == 0 or not transitions.past_pivot(child.saga, child.step)
        if turns and transitions.compensate_when_free(
            child, FailureKind.CANCELLED, actor="engine", reason=why
        ):
            dispatching.dispatch(child)
        child.commit()
    together.flush()


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
        work, failures.failure(step, FailureKind.CHILD, now=work.now, message=messages.CHILD_IN_NEED)
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
    named = (work.saga.attention or {}).get("child")
    # Whoever is named already stays so: to look for another is to read all of them.
    still = needs.filter(pk=named).first() if named else None
    return still or needs.order_by("parent_item").first()


def _end_attention(work: UnitOfWork) -> None:
    """The step at hand is over, and with it what a person was called for: a child, or the deadline."""
    saga = work.saga
    if saga.state == SagaState.NEEDS_ATTENTION and (saga.attention or {}).get("step") == work.step.name:
        transitions.reopen(work)
