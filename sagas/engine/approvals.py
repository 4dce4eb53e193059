"""Steps that a person ends (`Approval`): they have no worker and no message, only a wait and its timers.

What is known of one lies in its row's facts: who has approved, and how often people were reminded.
"""

import datetime
from typing import Any

from sagas.declaration import definition
from sagas.declaration.states import StepState
from sagas.engine import dispatching
from sagas.engine.kinds import EventKind
from sagas.engine.store import NOW, After, UnitOfWork

APPROVALS = "approvals"
"""The fact that lists who has approved, each with `actor`, `reason` and `at`."""

LINK = "link:"
"""Begins the actor of an answer that came by a signed link; the rest is whom the link was made for."""

REMINDERS = "reminders"
"""The fact that says how often people were reminded."""


def declared(work: UnitOfWork) -> definition.Approval:
    """The declaration of the approval at hand."""
    step = work.declared_step
    assert isinstance(step, definition.Approval), f"{step.name} is no approval"
    return step


def begin(work: UnitOfWork) -> None:
    """People are asked from now on."""
    work.transition_step(StepState.WAITING, EventKind.STEP_WAITING)
    work.set_step(started_at=NOW)
    ask(work)


def is_lapsed(work: UnitOfWork) -> bool:
    """Whether an answer is still wanted, and the time for it is over."""
    step = work.step
    asked = step.state == StepState.WAITING and isinstance(work.declared_step, definition.Approval)
    return asked and (step.wait_until is None or step.wait_until <= work.now)


def ask(work: UnitOfWork) -> None:
    """People are told, and the time for an answer begins, or begins anew; who has approved already has."""
    approval = declared(work)
    facts = {name: value for name, value in (work.step.facts or {}).items() if name != REMINDERS}
    work.set_step(wait_until=After(approval.limit), asked_at=NOW, facts=facts or None)
    work.set_cursor(dispatched_at=None, dispatches=0)
    _wake_after(work, min([approval.limit, *approval.remind]))
    work.tell(approval.notify)


def given(work: UnitOfWork) -> list[dict[str, Any]]:
    """Who has approved by now."""
    return list((work.step.facts or {}).get(APPROVALS, ()))


def stated_otherwise(work: UnitOfWork, facts: dict[str, Any]) -> list[str]:
    """The names of those of the facts that somebody who has approved already stated otherwise."""
    stated = (work.step.facts or {}) if given(work) else facts
    return sorted(name for name, value in facts.items() if not _is_same(stated.get(name), value))


def _is_same(one: Any, other: Any) -> bool:
    """Whether it is the same in JSON, where true is no 1."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_is_same(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_is_same, one, other))
    return isinstance(one, bool) is isinstance(other, bool) and bool(one == other)


def person(actor: str) -> str:
    """Who an actor is: with a link or logged in, a person counts once."""
    return actor.removeprefix(LINK)


def remind(work: UnitOfWork) -> None:
    """Remind people where it is time, and say when to look again."""
    step, approval = work.step, declared(work)
    assert step.wait_until is not None, "its time is not over"
    asked_at = step.wait_until - approval.limit
    sent = (step.facts or {}).get(REMINDERS, 0)
    while sent < len(approval.remind) and asked_at + approval.remind[sent] <= work.now:
        sent += 1
        work.note(EventKind.STEP_REMINDED, subject=step.name, data={"reminder": sent})
        work.set_step(facts={**(step.facts or {}), REMINDERS: sent})
        work.tell(approval.notify)
    following = [asked_at + after for after in approval.remind[sent:]]
    left = min([step.wait_until, *following]) - work.now
    _wake_after(work, max(left, datetime.timedelta(0)))


def _wake_after(work: UnitOfWork, delay: datetime.timedelta) -> None:
    """Have the sweep look so long from now, and no later than the deadline.

    Beside other steps the saga's row has a timer for that of its own.
    """
    at_once = work.step.is_member
    work.set_cursor(wake_at=After(delay) if at_once else dispatching.no_later_than_deadline(work, delay))


def withdraw(work: UnitOfWork) -> None:
    """The saga is not wanted any more, and nobody is asked."""
    work.transition_step(StepState.UNDONE, EventKind.UNDO_DONE)
    work.set_step(undone_at=NOW, wait_until=None)
