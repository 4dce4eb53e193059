"""What each kind of event is called: people read words, and machines the kinds."""

from django.utils.translation import gettext as _

from sagas.engine.kinds import EventKind
from sagas.models import Signal

_FATE = "signal."
"""Before a callback's fate: the kind of the event that tells of it."""


def names() -> dict[str, str]:
    """Every kind in the viewer's language."""
    return {
        EventKind.SAGA_BEGUN: _("Saga begun"),
        EventKind.SAGA_COMPENSATING: _("Saga turned back"),
        EventKind.SAGA_ATTENTION: _("A person is called"),
        EventKind.SAGA_RESUMED: _("Saga goes on"),
        EventKind.SAGA_WAITING: _("Saga waits for its parent"),
        EventKind.SAGA_COMPLETED: _("Saga completed"),
        EventKind.SAGA_COMPENSATED: _("Saga undone"),
        EventKind.STEP_CHOSEN: _("Step is to be done"),
        EventKind.STEP_SKIPPED: _("Step left out"),
        EventKind.STEP_STARTED: _("Step begun"),
        EventKind.STEP_ASKED: _("Provider asked"),
        EventKind.STEP_WAITING: _("Step waits"),
        EventKind.STEP_REMINDED: _("People reminded"),
        EventKind.STEP_DONE: _("Step done"),
        EventKind.STEP_RETRY: _("Attempt failed, tried again"),
        EventKind.STEP_LATE: _("Attempt put off, database busy"),
        EventKind.STEP_UNKNOWN: _("Outcome unknown"),
        EventKind.STEP_FAILED: _("Step failed"),
        EventKind.STEP_REOPENED: _("Step is tried again"),
        EventKind.APPROVAL_GIVEN: _("Approved"),
        EventKind.APPROVAL_REFUSED: _("Approval refused"),
        EventKind.UNDO_STARTED: _("Undo begun"),
        EventKind.UNDO_DONE: _("Undo done"),
        EventKind.UNDO_RETRY: _("Undo failed, tried again"),
        EventKind.UNDO_LATE: _("Undo put off, database busy"),
        EventKind.UNDO_FAILED: _("Undo failed for good"),
        EventKind.CANCEL_REQUESTED: _("Cancellation asked for"),
        EventKind.SIGNAL_COMPENSATED: _("Late callback undone"),
        EventKind.SIGNAL_COMPENSATION_RETRY: _("Undo of a late callback failed, tried again"),
        EventKind.SIGNAL_COMPENSATION_FAILED: _("Undo of a late callback failed for good"),
        EventKind.OPERATOR_RETRY: _("Retry by a person"),
        EventKind.OPERATOR_ASK: _("Provider to be asked, by a person"),
        EventKind.OPERATOR_RESOLVE: _("Outcome stated by a person"),
        EventKind.OPERATOR_COMPENSATE: _("Compensation by a person"),
        EventKind.OPERATOR_HOLD: _("Held"),
        EventKind.OPERATOR_RELEASE: _("Released"),
        EventKind.OPERATOR_EXTEND: _("Deadline extended"),
        EventKind.OPERATOR_SKIP: _("Step skipped by a person"),
        EventKind.OPERATOR_CLOSE: _("Put aside"),
        EventKind.OPERATOR_ASKED: _("Intervention waits for a second person"),
        EventKind.OPERATOR_APPROVED: _("A second person agreed"),
        EventKind.OPERATOR_REFUSED: _("A second person refused"),
        EventKind.OPERATOR_RETRIED: _("Undo of a callback tried again by a person"),
        EventKind.OPERATOR_SETTLED: _("Callback settled by a person"),
        _FATE + Signal.Fate.STORED: _("Callback came early, kept"),
        _FATE + Signal.Fate.APPLIED: _("Callback ended the wait"),
        _FATE + Signal.Fate.NOTED: _("Callback told what was known"),
        _FATE + Signal.Fate.LATE: _("Callback came too late"),
        _FATE + Signal.Fate.UNMATCHED: _("Callback fits no step"),
        _FATE + Signal.Fate.MISMATCH: _("Callback differs from what was asked"),
        _FATE + Signal.Fate.UNREADABLE: _("Callback cannot be understood"),
    }


def name(kind: str) -> str:
    """A kind of event in the viewer's language; as it stands, where a newer version wrote it."""
    return names().get(kind, kind)


def of_fate(fate: str) -> str:
    """What became of a callback: what the event that tells of it is called."""
    return name(f"{_FATE}{fate}")
