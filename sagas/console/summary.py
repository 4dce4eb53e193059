"""A saga in a few sentences: what happened, what comes next and when, and who must act."""

import dataclasses
import datetime
from collections.abc import Iterable, Sequence
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from sagas import conf, documents, errors, models, reading
from sagas.console import families, formatting, history, panels, translation
from sagas.declaration import definition
from sagas.declaration.states import SagaState, StepState
from sagas.engine import approvals, messages
from sagas.engine.kinds import EventKind, FailureKind


@dataclasses.dataclass(frozen=True, kw_only=True)
class Summary:
    """What an operator reads first."""

    tone: str
    """going, waiting, undoing, held, attention, good, undone or closed."""

    what: str
    next: str
    who: str
    advice: str = ""
    cause: str = ""
    """Why it was turned back in the first place, where `what` tells of something that came later."""

    at: models.StepInstance | None = None
    """The step at which a person is to act."""

    recommended: str = ""
    """The intervention of which the advice speaks, by its name; empty where none is better than another."""

    answers: Sequence[str] = ()
    """What stands on a person's word alone: who answers for it, and with which evidence."""

    child: models.SagaInstance | None = None
    """The child at which a person is to act."""

    child_label: str = ""
    """Which of the children it is, in words."""


def of(record: history.History, *, typed: bool = False) -> Summary:
    """What happened, what comes next and when, who must act, and who answers for what.

    Arguments:
        record: of the saga.
        typed: whether the advice names the commands of `manage.py saga`, and not the console's buttons.
    """
    said = [answered(answer) for answer in history.answers(record).values()]
    told = _of(record)
    if typed and told.at is not None:
        told = dataclasses.replace(told, advice=_advised(told.at, record, typed=True))
    return dataclasses.replace(told, answers=said)


def answered(answer: history.Answer) -> str:
    """Who answers for a step, and with which evidence, in a sentence."""
    given = {"actor": answer.actor, "step": answer.step, "reason": formatting.sentence(answer.reason)}
    if answer.what == "skipped":
        return _("%(actor)s left out %(step)s: %(reason)s") % given
    if answer.what == "approved":
        return _("%(actor)s approved %(step)s: %(reason)s") % given
    if answer.what == "refused":
        return _("%(actor)s refused %(step)s: %(reason)s") % given
    if answer.what == "did-not-happen":
        return _("%(actor)s answers for it that %(step)s did not happen: %(reason)s") % given
    if answer.undo:
        return _("%(actor)s answers for it that %(step)s is undone: %(reason)s") % given
    return _("%(actor)s answers for it that %(step)s happened: %(reason)s") % given


def _of(record: history.History) -> Summary:
    saga = record.saga
    if saga.closed_at is not None:
        return _closed(record)
    if saga.state == SagaState.COMPLETED:
        return Summary(
            tone="good",
            what=_done_words(record),
            next=_("Nothing: this is final."),
            who=_("Nobody has to act."),
        )  # fmt: skip
    if saga.state == SagaState.COMPENSATED:
        return Summary(
            tone="undone",
            what=_sentences([cause(saga), _first_to_fail(record), _undone_words(record)]),
            next=_("Nothing: this is final."),
            who=_("Nobody has to act."),
        )
    if saga.state == SagaState.NEEDS_ATTENTION:
        return _needs_attention(record)
    if saga.held_at is not None:
        return _held(record)
    return _under_way(record)


def _done_words(record: history.History) -> str:
    count = sum(row.state != StepState.SKIPPED for row in record.steps)
    given = {"count": count, "took": formatting.length(record.age)}
    if not count:
        return _("Nothing was to be done: every step was left out.")
    done = ngettext(
        "The step was done, in %(took)s.", "All %(count)s steps were done, in %(took)s.", count
    ) % given  # fmt: skip
    return _sentences([done, _left_out(record), *_not_all_done(record)])


def _left_out(record: history.History) -> str:
    """Which steps were left out; empty where none was."""
    names = [row.name for row in record.steps if row.state == StepState.SKIPPED]
    return _("Left out: %(steps)s.") % {"steps": ", ".join(names)} if names else ""


def _not_all_done(record: history.History) -> list[str]:
    """Of steps that are sagas: how many of these are done, where not all of them are."""
    return [
        f"{step}: {families.words(counts)}."
        for step, counts in record.children.items()
        if counts.done < counts.total
    ]


def _sentences(parts: Iterable[str]) -> str:
    return " ".join(dict.fromkeys(part for part in parts if part))


def _first_to_fail(record: history.History) -> str:
    """Of a saga that failed with its children: which of them failed by itself, and why; else nothing."""
    child = record.first_to_fail
    if child is None:
        return ""
    counts = record.children[child.parent_step or ""]
    label = families.member(child.parent_step or "", child.parent_item or 0, counts.total)
    return f"{label}: {cause(child)}"


def _undone_words(record: history.History) -> str:
    undone = [
        step.name
        for step in reversed(record.steps)
        # An approval that was withdrawn had done nothing.
        if step.state == StepState.UNDONE and not history.is_approval(record, step)
    ]
    if not undone:
        return _("Nothing had been done, so nothing had to be undone.")
    return _("Undone in reverse order: %(steps)s.") % {"steps": ", ".join(undone)}


def _needs_attention(record: history.History) -> Summary:
    if record.in_need is not None:
        return _child_needs_attention(record, record.in_need)
    saga, attention = record.saga, record.saga.attention or {}
    row = next((step for step in record.steps if step.name == attention.get("step")), record.step)
    error = row.error or saga.failure or {}
    given: dict[str, Any] = {
        "step": row.name,
        "attempts": row.undo_attempts if record.backward else row.attempts,
        "message": formatting.spoken(error.get("message", "")),
    }
    if row.state == StepState.UNDO_FAILED:
        what = ngettext(
            "%(step)s could not be undone, after %(attempts)s attempt: %(message)s",
            "%(step)s could not be undone, after %(attempts)s attempts: %(message)s",
            given["attempts"],
        )
    elif error.get("kind") == FailureKind.MISMATCH:
        what = _("%(step)s came to something else than was asked: %(message)s")
    elif row.state == StepState.UNKNOWN:
        what = _("Nobody knows whether %(step)s happened, and it is past the point of no return: %(message)s")
    elif row.state == StepState.FAILED:
        what = ngettext(
            "%(step)s failed after %(attempts)s attempt, past the point of no return: %(message)s",
            "%(step)s failed after %(attempts)s attempts, past the point of no return: %(message)s",
            given["attempts"],
        )
    else:
        what = _("It cannot go on by itself at %(step)s: %(message)s")
        given["message"] = (
            families.without_keys(formatting.spoken(attention.get("why", ""))) or given["message"]
        )
    if saga.held_at is not None:
        following = _("Nothing, for it is held.")
    elif saga.wake_at is None:
        following = _("Nothing, until somebody acts: trying again by itself would not help.")
    else:
        following = _("It tries again by itself %(when)s.") % {
            "when": formatting.when(saga.wake_at, record.now)
        }
    recommended = _recommended(row, record)
    return Summary(
        tone="attention",
        what=what % given,
        cause=cause(saga) if record.backward else "",
        at=row,
        recommended=recommended,
        next=following,
        who=_may_settle(recommended, row, record),
        advice=_advised(row, record),
    )


_TOLD_NO = (FailureKind.REFUSED, FailureKind.MISMATCH)
"""Where an undo came to this, the provider would say the same again."""


def _recommended(row: models.StepInstance, record: history.History) -> str:
    """The intervention that helps: trying again, unless that would come to the same."""
    if record.saga.held_at is not None:
        return "release"
    if isinstance(record.declare(row), definition.Approval) and not record.backward:
        return ""  # To be answered, or asked anew: it is for people to choose.
    if row.state == StepState.UNDO_FAILED and (row.error or {}).get("kind") in _TOLD_NO:
        return "happened"
    return "resume"


RESOLVES = "sagas.resolve_saga"
"""The permission with which one says what happened: of the roles only the supervisor has it."""


def _may_settle(recommended: str, row: models.StepInstance, record: history.History) -> str:
    """Who may do what is recommended: not every operator may say what happened, or answer an approval."""
    if recommended == "happened":
        return _("A supervisor, or whoever else has the permission %(permission)s.") % {
            "permission": RESOLVES
        }
    declared = record.declare(row)
    if not recommended and isinstance(declared, definition.Approval):
        return _(
            "Somebody who has the permission %(permission)s, to answer; or an operator, to ask anew."
        ) % {"permission": declared.permission}
    return _("An operator.")


def _child_needs_attention(record: history.History, child: models.SagaInstance) -> Summary:
    """It goes on when its child does: a person is to act there, as that says."""
    about = record.saga.attention or {}
    of_child = child.attention or {}
    counts = record.children.get(about["step"])
    others = (counts.attention if counts is not None else 1) - 1
    label = families.member(child.parent_step or "", child.parent_item or 0, 0)
    if counts is not None and child.parent_id == record.saga.pk:
        label = families.member(child.parent_step or "", child.parent_item or 0, counts.total)
    why = families.without_keys(formatting.spoken(of_child.get("why", "")))
    what = _("%(step)s waits for its child %(child)s, which needs attention: %(why)s") % {
        "step": about["step"], "child": label, "why": why,
    }  # fmt: skip
    return Summary(
        tone="attention",
        what=what,
        next=_sentences(
            [
                f"{about['step']}: {families.words(counts, backward=record.backward)}." if counts else "",
                _("It goes on by itself when no child of it needs a person any more."),
            ]
        ),
        who=_("A person, at the child %(child)s, where it is told who may:") % {"child": label},
        advice=_sentences(
            [
                translation.translate(of_child.get("advice", "")),
                _others(others),
            ]
        ),
        child=child,
        child_label=label,
    )  # fmt: skip


def _others(count: int) -> str:
    """That other children need a person as well; empty where none does."""
    text = ngettext(
        "%(n)s other child needs a person, too.", "%(n)s other children need a person, too.", count
    )
    return text % {"n": count} if count else ""


def _failed_too(record: history.History, row: models.StepInstance) -> str:
    """Of steps that are done at once, the others for which a person is called; empty where there is none."""
    bad = (StepState.FAILED, StepState.UNDO_FAILED)
    others = [one.name for one in record.at_hand if one.state in bad and one.name != row.name]
    return _("So it is with %(steps)s.") % {"steps": ", ".join(others)} if others else ""


def _advised(row: models.StepInstance, record: history.History, *, typed: bool = False) -> str:
    """What a person may do where it needs attention, at this step and beside it."""
    said = _advice_at_shell(row, record) if typed else _advice(row, record)
    return _sentences(
        [
            said or translation.translate((record.saga.attention or {}).get("advice", "")),
            _failed_too(record, row),
            _("Its parent then goes on by itself.") if record.parent is not None else "",
        ]
    )


def _advice(row: models.StepInstance, record: history.History) -> str:
    if (row.error or {}).get("kind") == FailureKind.MISMATCH and not record.backward:
        return _(
            "Settle it with the provider; then resume, which asks it again, or compensate, which takes back "
            "what was really done."
        )
    if row.state == StepState.UNDO_FAILED and (row.error or {}).get("kind") in _TOLD_NO:
        return _(
            "The provider said no, and would say it again. Settle it there under the step's key; then "
            "say with evidence that it is undone. Resume only if the provider would agree now."
        )
    if row.state == StepState.UNDO_FAILED:
        return _(
            "Settle it with the provider under the step's key; then resume, "
            "or say with evidence that it is undone."
        )
    if row.state in (StepState.FAILED, StepState.UNKNOWN) and not record.backward:
        return _("See to the cause; then resume, or say with evidence that it happened, or did not.")
    return ""


def _advice_at_shell(row: models.StepInstance, record: history.History) -> str:
    """The same with what is typed."""
    if (row.error or {}).get("kind") == FailureKind.MISMATCH and not record.backward:
        return _(
            "Settle it with the provider; then `retry`, which asks it again, or `compensate`, which takes "
            "back what was really done."
        )
    if row.state == StepState.UNDO_FAILED and (row.error or {}).get("kind") in _TOLD_NO:
        return _(
            "The provider said no, and would say it again. Settle it there under the step's key; then "
            "`resolve --happened`, with the evidence as the reason. `retry` only if the provider would agree "
            "now."
        )
    if row.state == StepState.UNDO_FAILED:
        return _(
            "Settle it with the provider under the step's key; then `retry`, "
            "or `resolve --happened` with the evidence as the reason."
        )
    if row.state in (StepState.FAILED, StepState.UNKNOWN) and not record.backward:
        return _(
            "See to the cause; then `retry`, or `resolve --happened` or `resolve --did-not-happen` with the "
            "evidence as the reason."
        )
    if (record.saga.attention or {}).get("advice") == messages.ANSWER:
        return _("Have somebody `approve` or `refuse` it; or `retry`, which gives them as much time again.")
    return ""


def _held(record: history.History) -> Summary:
    event = _latest(record, EventKind.OPERATOR_HOLD)
    return Summary(
        tone="held",
        what=_("%(actor)s has held it since %(since)s: %(reason)s")
        % {
            "actor": event.actor if event else "?",
            "since": formatting.moment(record.saga.held_at),
            "reason": formatting.sentence(event.reason) if event else "",
        },
        cause=cause(record.saga) if record.backward else "",
        recommended="release",
        next=_sentences([_("An attempt under way still ends; nothing new begins."), _children_go_on(record)]),
        who=_("An operator must release it."),
    )


def _children_go_on(record: history.History) -> str:
    """Of a saga that is held: what its children do meanwhile."""
    moving = any(counts.live for counts in record.children.values())
    if not moving or record.saga.held_at is None:
        return ""
    return _("Children under way go on; none is started, and none is told to turn back.")


def _closed(record: history.History) -> Summary:
    event = _latest(record, EventKind.OPERATOR_CLOSE)
    standing = [row.name for row in record.steps if row.state in history.STANDING]
    return Summary(
        tone="closed",
        what=_("%(actor)s put it aside for good: %(reason)s")
        % {
            "actor": event.actor if event else "?",
            "reason": formatting.sentence(event.reason) if event else "",
        },
        next=_("Nothing: the engine leaves it as it stands, and nothing of it is deleted."),
        who=_("Nobody has to act."),
        advice=_("These steps stand as done, or may be, and nothing undoes them any more: %(steps)s.")
        % {"steps": ", ".join(standing)}
        if standing
        else "",
    )


def _latest(record: history.History, kind: str) -> models.Event | None:
    return next((event for event in reversed(record.events) if event.kind == kind), None)


def _under_way(record: history.History) -> Summary:
    """Of steps that are done at once each tells of itself, unless the saga waits for attempts to end."""
    if record.starts_at is not None:
        return _starts(record, record.starts_at)
    if record.parent is not None and record.saga.epoch == 0 and record.saga.in_line_for is None:
        return _not_begun(record.parent)
    if record.saga.parent_id is not None and reading.child_place(record.saga) == "waiting":
        return _waits_for_parent(record)
    what = _sentences([cause(record.saga), _first_to_fail(record)]) if record.backward else _progress(record)
    if record.members:
        what = _sentences([what, _stage_words(record)])
    if record.declared is None:
        return _undeclared(record, what)
    if record.draining:
        return _draining(record, what)
    each = [_of_step(one, what) for one in record.at_each]
    nobody = _("Nobody has to act.")
    called = [said.who for said in each if said.who != nobody]
    tones = [said.tone for said in each]
    tone = next((tone for tone in ("attention", "going", "undoing") if tone in tones), tones[0])
    return Summary(
        tone=tone, what=what, next=_sentences(said.next for said in each), who=_sentences(called) or nobody
    )


def _undeclared(record: history.History, what: str) -> Summary:
    """The code of this process knows nothing of it: as far as it can tell, nobody goes on with it."""
    given = {"name": record.saga.name, "version": record.saga.version}
    following = _(
        "It goes on only where the code of a worker has version %(version)s of %(name)s; that of this "
        "process has not."
    )
    return Summary(
        tone="attention",
        what=what,
        next=following % given,
        who=_(
            "Whoever deploys the code, unless a release that has this version is rolling out: put it back, "
            "and restart the web server, the workers and whoever sweeps with it (sagas.E011)."
        ),
    )


def _starts(record: history.History, at: datetime.datetime) -> Summary:
    given = {"at": formatting.moment(at), "when": formatting.when(at, record.now)}
    return Summary(
        tone="waiting",
        what=_("It has not started yet."),
        next=_("It starts at %(at)s (%(when)s).") % given,
        who=_("Nobody has to act."),
    )


def _not_begun(parent: families.Parent) -> Summary:
    waits = _("Its parent is held, and starts none meanwhile.") if parent.saga.held_at is not None else ""
    return Summary(
        tone="waiting",
        what=_("It has not begun: its parent starts it when its turn comes."),
        next=waits or _("It begins when there is room for it among the children that run at once."),
        who=_("Nobody has to act."),
    )


def _waits_for_parent(record: history.History) -> Summary:
    parent = record.parent
    outcome = _("It completes with its parent, or is undone with it.")
    if parent is not None and parent.saga.state == SagaState.NEEDS_ATTENTION:
        outcome = _sentences([outcome, _("Its parent needs attention now.")])
    return Summary(
        tone="waiting",
        what=_sentences([_("It is done, and waits for its parent's outcome."), _left_out(record)]),
        next=outcome,
        who=_("Nobody has to act."),
    )


def _progress(record: history.History) -> str:
    done = sum(row.state == StepState.DONE for row in record.steps)
    count = sum(row.state != StepState.SKIPPED for row in record.steps)
    said = _("%(done)s of %(count)s steps are done.") % {"done": done, "count": count}
    return _sentences([said, _left_out(record)])


def _stage_words(record: history.History) -> str:
    """How far those steps are that are done, or undone, at once."""
    parallel = record.stage.parallel if record.stage is not None else None
    assert parallel is not None, "it is at several steps"
    rows = [row for row in record.members if row.state != StepState.SKIPPED]
    if record.backward:
        undoable = [row for row in rows if (step := record.declare(row)) and step.undoable and row.begun]
        done = sum(row.state == StepState.UNDONE for row in undoable)
        text = (
            _("Steps undone one by one in “%(stage)s”: %(done)s of %(count)s.")
            if parallel.undo == "reverse"
            else _("Steps undone at once in “%(stage)s”: %(done)s of %(count)s.")
        )
        count = len(undoable)
    else:
        done = sum(row.state == StepState.DONE for row in rows)
        text, count = _("Steps done at once in “%(stage)s”: %(done)s of %(count)s."), len(rows)
    return text % {"stage": parallel.name, "done": done, "count": count}


def _draining(record: history.History, what: str) -> Summary:
    """It has turned round, and nothing of its stage is undone before the last attempt has ended."""
    busy = [row.name for row in record.members if row.state == StepState.RUNNING]
    following = _("Nothing is undone before the attempts under way have ended, or count as lost: %(steps)s.")
    return Summary(
        tone="undoing",
        what=what,
        next=following % {"steps": ", ".join(busy)},
        who=_("Nobody has to act."),
    )


def _of_step(record: history.History, what: str) -> Summary:
    """What comes next of the step that is looked at, and who must act."""
    row, cursor = record.step, record.cursor
    declared = record.declared_step
    tone = "undoing" if record.backward else "going"
    given: dict[str, Any] = {
        "step": row.name,
        "attempt": row.undo_attempts if record.backward else row.attempts,
        "budget": record.budget(declared, undo=record.backward) or "?",
        "when": formatting.when(cursor.wake_at, record.now),
        "message": formatting.spoken((row.error or {}).get("message", "")),
        "worker": row.worker or _("A worker"),
        "limit": formatting.when(row.wait_until, record.now),
    }
    if record.at_work:
        text = (
            _("%(worker)s is undoing %(step)s, attempt %(attempt)s of %(budget)s.")
            if record.backward
            else _("%(worker)s is at %(step)s, attempt %(attempt)s of %(budget)s.")
        )
        return Summary(tone=tone, what=what, next=text % given, who=_("Nobody has to act."))
    if nobody := _nobody_there(record):
        return Summary(tone="attention", what=what, next=nobody[0], who=nobody[1])
    if row.state == StepState.WAITING and isinstance(declared, definition.Approval) and not record.backward:
        return Summary(tone="waiting", what=what, next=_asked(row, declared) % given, who=_may(declared))
    if isinstance(declared, definition.Child) and row.state in (StepState.WAITING, StepState.UNDOING):
        return Summary(
            tone="undoing" if record.backward else "waiting",
            what=what,
            next=_of_children(record, declared),
            who=_("Nobody has to act."),
        )
    if row.state == StepState.WAITING and not record.backward:
        awaited = panels.awaited(record.saga.name, row.name)
        text = (
            _("%(step)s has begun, and waits for %(awaited)s; its limit is reached %(limit)s.")
            if awaited
            else _("%(step)s has begun, and waits for a word from outside; its limit is reached %(limit)s.")
        )
        return Summary(
            tone="waiting",
            what=what,
            next=text % (given | {"awaited": awaited}),
            who=_("Nobody here has to act: a word from outside is waited for."),
        )
    if cursor.parked_for is not None:
        return _parked(record, what)
    if record.saga.in_line_for is not None:
        text = _("%(step)s is due, and is sent when it is its turn: %(queue)s has much to do.")
        following = text % (given | {"queue": record.saga.in_line_for})
        return Summary(tone=tone, what=what, next=following, who=_("Nobody has to act."))
    if cursor.dispatched_at is None and row.state == StepState.UNKNOWN and not record.backward:
        text = _("Whether %(step)s happened is unknown; the provider is asked %(when)s.")
    elif cursor.dispatched_at is None and (row.error or {}).get("kind") == FailureKind.LATE:
        text = (
            _("Undoing %(step)s is late: %(message)s Tried again %(when)s; no attempt is counted.")
            if record.backward
            else _("%(step)s is late: %(message)s Tried again %(when)s; no attempt is counted.")
        )
    elif row.is_member and cursor.dispatched_at is None and row.state == StepState.UNDO_FAILED:
        text = _("Undoing %(step)s failed: %(message)s A person is called when the others are undone.")
    elif cursor.dispatched_at is None and row.error and (row.undo_attempts or not record.backward):
        text = (
            _("Undoing %(step)s failed: %(message)s Tried again %(when)s.")
            if record.backward
            else _("%(step)s failed attempt %(attempt)s of %(budget)s: %(message)s Tried again %(when)s.")
        )
    else:
        text = (
            _("%(step)s is to be undone next; a worker of its queue takes it up.")
            if record.backward
            else _("%(step)s is next; a worker of its queue takes it up.")
        )
    return Summary(tone=tone, what=what, next=text % given, who=_("Nobody has to act."))


def _of_children(record: history.History, declared: definition.Child) -> str:
    """How far they are, and what the saga makes of it."""
    counts = record.children.get(record.step.name)
    said = f"{record.step.name}: {families.words(counts, backward=record.backward)}." if counts else ""
    need = declared.need if isinstance(declared, definition.ForEach) else "all"
    if record.backward:
        following = _("%(step)s is undone when all of its children are.")
    elif isinstance(declared, definition.ForEach) and declared.failed == "keep":
        following = _("%(step)s is done when all of its children have ended, whatever they come to.")
    elif need == "all":
        following = _("%(step)s is done when all of its children are.")
    else:
        following = _("%(step)s is done when %(need)s of its children are; the others are then cancelled.")
    return _sentences([said, following % {"step": record.step.name, "need": need}])


def _asked(row: models.StepInstance, declared: definition.Approval) -> str:
    """That a yes or a no is waited for, and how many said yes; `step` and `limit` are filled in later."""
    given = len((row.facts or {}).get(approvals.APPROVALS, ()))
    many = ngettext(
        "%(given)s of %(persons)s person has said yes.", "%(given)s of %(persons)s persons have said yes.",
        declared.persons,
    ) % {"given": given, "persons": declared.persons} if declared.persons > 1 else ""  # fmt: skip
    return _sentences([_("%(step)s waits for a person's yes or no; its limit is reached %(limit)s."), many])


def _may(declared: definition.Approval) -> str:
    return _("Somebody who has the permission %(permission)s: approve it, or refuse it.") % {
        "permission": declared.permission
    }


def _nobody_there(record: history.History) -> tuple[str, str] | None:
    """What comes next, and who must act, where nobody is there to do it; None where somebody is."""
    cursor, declared = record.cursor, record.declared_step
    overdue = cursor.wake_at is not None and record.now - cursor.wake_at > conf.SILENT_AFTER
    expected = cursor.dispatched_at is not None or record.saga.in_line_for is not None
    if record.unheard is not None and declared is not None and expected:
        text = (
            _("%(step)s is to be undone next, but no worker listens on %(queue)s.")
            if record.backward
            else _("%(step)s is next, but no worker listens on %(queue)s.")
        )
        who = _("Whoever runs the workers: start one for it (%(command)s).")
        command = conf.worker_command(declared.queue)
        given = {"step": record.step.name, "queue": declared.queue, "command": command}
    elif record.unswept is not None and overdue:
        text = _(
            "Nothing: the regular check (sagas.sweep) does not run, and this has been due for %(length)s."
        )
        who = (
            _("Whoever runs the workers: start beat, and a worker on the queue %(queue)s.")
            if conf.uses_celery()
            else _("Whoever runs the workers: start manage.py saga_worker, which sweeps.")
        )
        given = {"length": formatting.length(record.now - cursor.wake_at), "queue": conf.SWEEP_QUEUE}  # type: ignore[operator]
    else:
        return None
    return text % given, who % given


def _parked(record: history.History, what: str) -> Summary:
    """It waits for its service's circuit: why, since when, and who must act."""
    name = record.cursor.parked_for or ""
    circuit = record.circuits.get(name)
    nobody = _("Nobody has to act.")
    if circuit is None or circuit.opened_at is None:
        following = _("%(queue)s works again: it goes on in a moment.") % {"queue": name}
        return Summary(tone="waiting", what=what, next=following, who=nobody)
    following = ngettext(
        "%(step)s waits for %(queue)s, which is out since %(since)s, after %(count)s failed attempt: "
        "%(reason)s It goes on by itself when that works again; no attempt is counted meanwhile.",
        "%(step)s waits for %(queue)s, which is out since %(since)s, after %(count)s failed attempts: "
        "%(reason)s It goes on by itself when that works again; no attempt is counted meanwhile.",
        circuit.failures,
    ) % {
        "step": record.step.name,
        "queue": name,
        "since": formatting.moment(circuit.failing_since or circuit.opened_at),
        "count": circuit.failures,
        "reason": formatting.sentence(circuit.reason),
    }
    mend = _("Somebody must mend what keeps all sagas from %(queue)s.") % {"queue": name}
    return Summary(tone="waiting", what=what, next=following, who=mend if circuit.needs_person else nobody)


# --- From a row alone, as lists show it ------------------------------------------------------------


def why(saga: models.SagaInstance) -> str:
    """Why it stands before a person, or what went wrong first; empty while nothing did."""
    if saga.attention and saga.state == SagaState.NEEDS_ATTENTION:
        return families.without_keys(formatting.spoken(saga.attention.get("why", "")))
    return cause(saga) if saga.failure else ""


def stands(saga: models.SagaInstance) -> str:
    """At which step it is, or at which steps that are done at once; or when it starts.

    Empty when it is over, or the code no longer has its declaration.
    """
    try:
        declared = saga.definition
    except errors.UnknownSaga:
        return ""
    if saga.finished_at is not None or saga.position >= len(declared.all_steps):
        return ""
    if saga.parent_id is not None and reading.child_place(saga) == "coming":
        return ""  # It is at nothing yet, as its state says.
    if (at := history.starts_at(saga)) is not None:
        return _("starts at %(at)s") % {"at": formatting.moment(at)}
    stage = declared.stage_at(saga.position)
    return _("at %(step)s") % {"step": (stage.parallel or stage.steps[0]).name}


def cause(saga: models.SagaInstance) -> str:
    """The first failure in one sentence; it is kept for ever (A2)."""
    failure = saga.failure or {}
    kind, step, message = failure.get("kind"), failure.get("step"), failure.get("message", "")
    if kind == FailureKind.CHILD or message == messages.CHILD_IN_NEED:
        return formatting.spoken(message)  # Until 0.8.0 it was kept as what an operator said.
    if kind == FailureKind.OPERATOR and not saga.cancel_actor:
        given = {"step": step, "message": formatting.sentence(message)}
        return _("An operator said that %(step)s did not happen: %(message)s") % given
    if kind == FailureKind.CANCELLED and saga.cancel_actor == documents.ENGINE and saga.parent_id is not None:
        return formatting.spoken(message)  # Its parent did not want it any more.
    if kind in (FailureKind.CANCELLED, FailureKind.OPERATOR):
        asked = {"actor": saga.cancel_actor, "message": formatting.sentence(message)}
        return _("%(actor)s asked for it to be undone: %(message)s") % asked
    given = {"step": step, "message": formatting.spoken(message), "attempt": failure.get("attempt")}
    if kind == FailureKind.REFUSED:
        return _("%(step)s was refused: %(message)s") % given
    if kind == FailureKind.MISMATCH:
        return _("%(step)s came to something else than was asked: %(message)s") % given
    if kind == FailureKind.TIMEOUT:
        return _("The time ran out at %(step)s: %(message)s") % given
    if kind == FailureKind.BUG:
        return _("%(step)s met a bug: %(message)s") % given
    if kind == FailureKind.UNKNOWN:
        return _("Nobody knows whether %(step)s happened: %(message)s") % given
    if kind == FailureKind.OUTAGE:
        return _("Nobody's %(step)s could go on until a person mends something: %(message)s") % given
    if kind == FailureKind.TRANSIENT:
        return _("%(step)s failed %(attempt)s times: %(message)s") % given
    return ""


def rule(error: dict[str, Any]) -> str:
    """Which rule chose what becomes of an error of this kind."""
    clock = error.get("clock")
    kinds = {
        "refused": _("A no is a no: it is never tried again."),
        "outage": _("It did not happen, and cannot for any saga until a person mends something."),
        "transient": _("It did not happen this time, and is tried again while attempts are left."),
        "late": _("The database was busy, and the step is not to blame: no attempt is counted."),
        "mismatch": _("Something happened, but not what was asked for. A person has to settle it."),
        "unknown": _("It may have happened: the provider is asked with the same key first."),
        "bug": _("An error that nobody foresaw: a bug. It is not tried again."),
        "timeout": _("Time ran out."),
        "cancelled": _("Somebody asked for it; no step failed."),
        "operator": _("An operator said so."),
        "child": _("A child of it needs a person; nothing of its own failed."),
    }
    clocks = {
        "attempt": _("The attempt took longer than its timeout."),
        "budget": _("All attempts together took longer than they may."),
        "wait": _("Nobody said in time that it is done."),
        "lease": _("Its worker vanished."),
        "deadline": _("The saga's deadline ran out."),
        "undo-deadline": _("The time for undoing ran out."),
    }
    return " ".join(filter(None, [kinds.get(error.get("kind", ""), ""), clocks.get(clock or "", "")]))
