"""What an intervention comes to: foretold before it is made, and told afterwards."""

import datetime

from django.utils.translation import gettext as _

from sagas import models
from sagas.console import formatting, history, marks, panels, summary
from sagas.declaration.states import SagaState, StepState

CLOSED = "closed"
"""In place of a state, of a saga that is put aside."""

HOURS = (1, 24, 72)
"""For so many more hours the preview gives the new deadline as a date."""


def foretold(record: history.History, name: str) -> list[str]:
    """How the saga and what it is about will stand after an intervention, and what becomes of the money.

    Args:
        record: the saga, looking at the step that the intervention is about.
        name: the intervention's.

    Returns:
        Sentences in the viewer's language.
    """
    soon, finally_ = _states(record, name)
    lines = [_("Right after: %(standing)s.") % {"standing": _standing(record, soon)}]
    if finally_ not in ("", soon):
        given = {"standing": _standing(record, finally_)}
        lines.append(_("In the end, if nothing goes wrong on the way: %(standing)s.") % given)
    if name == "extend":
        lines += _deadlines(record)
    return lines + panels.consequences(record, name, turns_back=finally_ == SagaState.COMPENSATED)


def _states(record: history.History, name: str) -> tuple[str, str]:
    """The saga's state right after the intervention, and the one in which it is to end."""
    saga = record.saga
    if name == "close":
        return CLOSED, ""
    if name in ("hold", "release", "extend"):
        return saga.state, ""
    if name == "did-not-happen" and not record.backward:
        declared = record.declared_step
        turns = declared is None or declared.kind != "retriable"
    else:
        turns = record.backward or name == "compensate"
    if not turns:
        over = all(row.position <= record.step.position for row in record.steps) and len(record.at_hand) == 1
        last = over and name in ("happened", "skip")
        return (SagaState.COMPLETED if last else SagaState.RUNNING), SagaState.COMPLETED
    if record.any_at_work and not record.backward:
        return saga.state, SagaState.COMPENSATED  # It turns round when the attempt has ended.
    settled = record.step.name if record.backward and name == "happened" else ""
    left = [row for row in _to_undo(record) if row.name != settled]
    return (SagaState.COMPENSATING if left else SagaState.COMPENSATED), SagaState.COMPENSATED


def _to_undo(record: history.History) -> list[models.StepInstance]:
    """The steps that are still to be undone once it goes back."""
    return [
        row
        for row in record.steps
        if row.begun
        and row.state not in (StepState.UNDONE, StepState.SKIPPED)
        and (declared := record.declare(row)) is not None
        and declared.undoable
    ]


def _standing(record: history.History, state: str) -> str:
    names = marks.state_names()
    said = [_("saga “%(state)s”") % {"state": names[state]}, panels.status(record.saga.name, state)]
    return ", ".join(part for part in said if part)


def _deadlines(record: history.History) -> list[str]:
    counted_from = max(record.saga.deadline_at or record.now, record.now)
    return [
        _("With %(hours)s h more the deadline is %(deadline)s.")
        % {
            "hours": hours,
            "deadline": formatting.moment(counted_from + datetime.timedelta(hours=hours)),
        }
        for hours in HOURS
    ]


def told(before: history.History, after: history.History, name: str) -> str:
    """What an intervention did, and how the saga stands since.

    Args:
        before: the saga as it was, looking at the step that the intervention was about.
        after: the saga as it is.
        name: the intervention's.

    Returns:
        Sentences in the viewer's language.
    """
    saga = after.saga
    state = CLOSED if saga.closed_at is not None else saga.state
    parts = [_did(before, after, name), _("Now: %(standing)s.") % {"standing": _standing(after, state)}]
    if not saga.is_final and state != CLOSED and name not in ("hold", "extend"):
        parts.append(summary.of(after).next)
    return " ".join(part for part in parts if part)


def _did(before: history.History, after: history.History, name: str) -> str:
    step = before.step.name
    if name == "extend":
        return _("The deadline is %(deadline)s now.") % {
            "deadline": formatting.moment(after.saga.deadline_at)
        }
    if name in ("resume", "retry"):
        text = _("Undoing %(step)s is tried again.") if before.backward else _("%(step)s is tried again.")
    elif name == "ask":
        text = _("The provider is asked what became of %(step)s.")
    elif name == "happened":
        text = (
            _("%(step)s counts as undone, on your word.")
            if before.backward
            else _("%(step)s counts as done, on your word.")
        )
    elif name == "did-not-happen":
        text = (
            _("%(step)s counts as not undone yet, on your word.")
            if before.backward
            else _("%(step)s counts as not done, on your word.")
        )
    elif name == "compensate":
        text = (
            _("It has turned back: what was done is undone.")
            if after.backward
            else _("It turns back as soon as the attempt under way has ended.")
        )
    elif name == "hold":
        text = _("It is held: nothing new begins until it is released.")
    elif name == "release":
        text = _("It is released, and goes on.")
    elif name == "skip":
        text = _("%(step)s is left out.")
    else:
        text = _("It is put aside for good: nothing of it is undone any more.")
    return text % {"step": step}
