"""Why an intervention is not possible now: one predicate each, for the preview and again under the lock.

Each takes the saga's row, the step at its position, the saga's declaration (None where the code no longer has
it) and the database's time, and returns a sentence in the viewer's language; an empty text means that the
intervention is possible.
"""

import datetime
import math
from collections.abc import Callable

from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from sagas import errors, models
from sagas.declaration import definition
from sagas.declaration.states import Direction, SagaState, StepState
from sagas.engine import children, parallel, transitions

ARCHIVED = gettext_noop("It has ended and is in the archive, where nothing changes any more.")

Refusal = Callable[[models.SagaInstance, models.StepInstance, definition.Saga | None, datetime.datetime], str]


def declaration(saga: models.SagaInstance) -> definition.Saga | None:
    """The saga's declaration; None where the code no longer has it."""
    try:
        return saga.definition
    except errors.UnknownSaga:
        return None


def retry(
    saga: models.SagaInstance,
    step: models.StepInstance,
    declared: definition.Saga | None,
    now: datetime.datetime,
) -> str:
    """It goes on by itself, is not held, no attempt is under way, and the step's turn has come."""
    if why := _over(saga, declared) or _not_begun(saga):
        return why
    if saga.state == SagaState.NEEDS_ATTENTION:
        return _("It needs attention: resume it instead.")
    if why := _asks_people(step, declared):
        return why
    if step.state == StepState.WAITING and _has_children(step, declared):
        return _("%(step)s is what its children are: see to them.") % {"step": step.name}
    if step.state == StepState.WAITING and not _backward(saga):
        return _("%(step)s has begun, and waits: ask the provider instead.") % {"step": step.name}
    if step.state in (StepState.SKIPPED, StepState.UNDONE if _backward(saga) else StepState.DONE):
        return _("%(step)s is over: there is nothing to try again.") % {"step": step.name}
    return _held(saga) or at_work(step, now) or not_its_turn(saga, step, declared, now)


def resume(
    saga: models.SagaInstance,
    step: models.StepInstance,
    declared: definition.Saga | None,
    now: datetime.datetime,
) -> str:
    """It needs attention, is not held, and no attempt is under way."""
    if why := _over(saga, declared):
        return why
    if saga.state != SagaState.NEEDS_ATTENTION:
        return _("It goes on by itself.")
    return _held(saga) or at_work(step, now)


def ask(
    saga: models.SagaInstance,
    step: models.StepInstance,
    declared: definition.Saga | None,
    now: datetime.datetime,
) -> str:
    """The outcome of its action is unknown or waited for, and its declaration says whom to ask."""
    if why := _over(saga, declared) or _held(saga):
        return why
    if _backward(saga) or step.state not in (StepState.UNKNOWN, StepState.WAITING):
        return _("No outcome is in doubt.")
    if declared is None or declared.all_steps[step.position].ask is None:
        return _("%(step)s has nobody to ask: its declaration has no `ask`.") % {"step": step.name}
    return ""


def resolve(
    saga: models.SagaInstance,
    step: models.StepInstance,
    declared: definition.Saga | None,
    now: datetime.datetime,
) -> str:
    """The outcome of its action, or on the way back of its undo, is in doubt."""
    if why := _over(saga, declared):
        return why
    if why := _asks_people(step, declared):
        return why
    if _has_children(step, declared) and (_backward(saga) or children.are_live(saga, step.name)):
        return _("%(step)s is what its children are: see to them.") % {"step": step.name}
    if why := at_work(step, now):
        return why
    return "" if transitions.in_doubt(saga, step) else _not_in_doubt(saga, step)


def _not_in_doubt(saga: models.SagaInstance, step: models.StepInstance) -> str:
    """Nobody doubts what came of the step: what a person may do instead, where that is anything."""
    is_over = step.state in (StepState.SKIPPED, StepState.UNDONE)
    if _backward(saga) and not is_over and not step.undo_attempts:
        return _(
            "No outcome is in doubt: nobody has tried to undo %(step)s. Have that tried first: resume it, or"
            " let it go on."
        ) % {"step": step.name}
    if step.state == StepState.PENDING and not step.attempts:
        return _(
            "No outcome is in doubt: nobody has tried %(step)s. Have that tried first: resume it, or let it"
            " go on."
        ) % {"step": step.name}
    return _("No outcome is in doubt.")


def answer(
    saga: models.SagaInstance,
    step: models.StepInstance,
    declared: definition.Saga | None,
    now: datetime.datetime,
) -> str:
    """The step is an approval that is waited for."""
    if why := _over(saga, declared):
        return why
    if declared is None or not isinstance(declared.all_steps[step.position], definition.Approval):
        return _("%(step)s is no approval.") % {"step": step.name}
    if step.state == StepState.PENDING:
        return _("Nobody is asked about %(step)s yet.") % {"step": step.name}
    if _backward(saga) or step.state != StepState.WAITING:
        return _("Nobody is asked about %(step)s any more.") % {"step": step.name}
    return ""


def compensate(
    saga: models.SagaInstance,
    step: models.StepInstance,
    declared: definition.Saga | None,
    now: datetime.datetime,
) -> str:
    """It goes forwards, can still be undone, and that was not asked for yet."""
    if why := _over(saga, declared):
        return why
    if _backward(saga):
        return _("It is being undone already.")
    if transitions.past_pivot(saga, step):
        return _("It is past its point of no return: nothing is undone any more.")
    if saga.cancel_requested_at is not None:
        return _("That was asked for already; it turns back when the attempt under way has ended.")
    return ""


def hold(
    saga: models.SagaInstance,
    step: models.StepInstance,
    declared: definition.Saga | None,
    now: datetime.datetime,
) -> str:
    """It is live, and not held."""
    return _over(saga, declared) or (_("It is held already.") if saga.held_at is not None else "")


def release(
    saga: models.SagaInstance,
    step: models.StepInstance,
    declared: definition.Saga | None,
    now: datetime.datetime,
) -> str:
    """It is held."""
    return _over(saga, declared) or ("" if saga.held_at is not None else _("It is not held."))


def extend(
    saga: models.SagaInstance,
    step: models.StepInstance,
    declared: definition.Saga | None,
    now: datetime.datetime,
) -> str:
    """It is live, and no child that has not begun: its time begins with it."""
    return _over(saga, declared) or _not_begun(saga)


def skip(
    saga: models.SagaInstance,
    step: models.StepInstance,
    declared: definition.Saga | None,
    now: datetime.datetime,
) -> str:
    """Its step is optional, and not done."""
    if why := _over(saga, declared):
        return why
    if declared is None or not declared.all_steps[step.position].optional:
        return _("%(step)s is not optional.") % {"step": step.name}
    if _backward(saga):
        return _("It is being undone.")
    if step.state not in (StepState.PENDING, StepState.FAILED):
        return _("%(step)s has begun.") % {"step": step.name}
    return ""


def close(
    saga: models.SagaInstance,
    step: models.StepInstance,
    declared: definition.Saga | None,
    now: datetime.datetime,
) -> str:
    """It needs attention; also where its declaration is gone, for nothing else could end it."""
    if why := _ended(saga):
        return why
    if saga.state != SagaState.NEEDS_ATTENTION:
        return _("Only a saga that needs attention can be put aside.")
    return ""


def _ended(saga: models.SagaInstance) -> str:
    """The sweep leaves alone what was put aside; sent on again, the sweep would not look after it."""
    if saga.archived_at is not None:
        return _(ARCHIVED)
    if saga.is_final:
        return _("It has ended, and what has ended stays as it is.")
    if saga.closed_at is not None:
        return _("It was put aside for good.")
    return ""


def _over(saga: models.SagaInstance, declared: definition.Saga | None) -> str:
    if why := _ended(saga):
        return why
    if declared is None:
        return _("Its declaration is no longer in the code.")
    if children.waits_for_parent(saga):
        return _("All of its steps are done, and it ends with its parent: see to that.")
    return ""


def _asks_people(step: models.StepInstance, declared: definition.Saga | None) -> str:
    approval = declared is not None and isinstance(declared.all_steps[step.position], definition.Approval)
    if not approval or step.state != StepState.WAITING:
        return ""
    return _("%(step)s waits for a person's yes or no: have it approved, or refused.") % {"step": step.name}


def _not_begun(saga: models.SagaInstance) -> str:
    if saga.parent_id is None or saga.epoch > 0:
        return ""
    return _("It has not begun: its parent starts it when its turn comes.")


def _has_children(step: models.StepInstance, declared: definition.Saga | None) -> bool:
    return declared is not None and isinstance(declared.all_steps[step.position], definition.Child)


def _held(saga: models.SagaInstance) -> str:
    return _("It is held: release it first.") if saga.held_at is not None else ""


def at_work(step: models.StepInstance, now: datetime.datetime) -> str:
    """Whether a worker holds the lease of an attempt at the step."""
    lease = step.lease_until
    if lease is None or parallel.is_free(step, now):
        return ""
    left_s = math.ceil((lease - now).total_seconds())
    return _(
        "An attempt is under way; wait until it ends, or until its worker counts as lost (in %(seconds)s s)."
    ) % {"seconds": left_s}


def not_its_turn(
    saga: models.SagaInstance,
    step: models.StepInstance,
    declared: definition.Saga | None,
    now: datetime.datetime,
) -> str:
    """Of steps that are undone at once, or one after the other: one of which nothing is to be undone now."""
    stage = None if declared is None else declared.stage_at(step.position)
    if stage is None or stage.parallel is None or not _backward(saga):
        return ""
    every: list[models.StepInstance] = list(saga.steps.all())  # type: ignore[arg-type]
    rows = every[stage.first : stage.last + 1]
    if busy := [row.name for row in rows if row.state == StepState.RUNNING]:
        return _(
            "Nothing is undone before the attempts under way have ended, or count as lost: %(steps)s."
        ) % {"steps": ", ".join(busy)}
    if step not in parallel.left_to_undo(stage, rows, now):
        return _("%(step)s did nothing that is to be undone.") % {"step": step.name}
    if parallel.is_undo_wanted(stage, rows, step, now):
        return ""
    first = parallel.in_turn(stage, rows, now)[0].name
    return _("%(step)s is undone when its turn comes: %(first)s is first.") % {
        "step": step.name,
        "first": first,
    }


def _backward(saga: models.SagaInstance) -> bool:
    return saga.direction == Direction.BACKWARD
