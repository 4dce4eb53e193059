"""The moves that people may make: who may, when they apply, what they will do, and how they are made.

One table, read by the admin's pages, by bulk runs, by the API's staff and by `manage.py saga`. Each move ends
in one of `sagas.engine`'s operations, which decide under the lock; what is said here before is a courtesy.

Every door through which an operator moves a saga leads through `make`, `decide` or a bulk run, so that every
one is bound to what was seen, and none that moves money goes round the second person. Locks are taken in one
order (I4): a bulk run, then a saga, then its approvals.
"""

import dataclasses
import datetime
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from django.db import transaction
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from sagas import conf, engine, errors, models
from sagas.console import formatting, history
from sagas.console.models import Approval
from sagas.declaration.states import StepState
from sagas.engine import messages, refusals, store
from sagas.engine.seen import Seen

Given = Mapping[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Move:
    """One thing that a person may do to a saga."""

    name: str
    label: Any
    """What its button says; translated when shown."""

    backward_label: Any = ""
    """What it says on the way back, where that differs: what is in doubt then is the undo."""

    permission: str
    """Of `sagas`: operate_saga, compensate_saga or resolve_saga."""

    refusal: refusals.Refusal
    """Why it is not possible now; the engine asks the same predicate again, under the lock."""

    preview: Callable[["history.Story"], list[str]]
    """What it will do, in sentences."""

    make: Callable[..., Any]
    """`make(story, *, seen, actor, reason, given)`: the operation."""

    about_attempt: bool = False
    """Whether it says how the step stands, so that no attempt may have been made since it was seen; the
    engine holds its operation to the same."""

    moves_money: bool = False
    """Whether it waits for a second person where settings.SAGAS_FOUR_EYES is on."""

    fields: tuple[str, ...] = ()
    """What it asks for beside the reason: `facts` or `hours`."""

    evidence: bool = False
    """Whether the reason is evidence for a statement."""

    def title(self, told: "history.Story") -> str:
        """What its button says, for this saga."""
        return str(self.backward_label if told.backward and self.backward_label else self.label)

    def refused(self, told: "history.Story") -> str:
        """Why it is not possible now; empty where it is."""
        return self.refusal(told.saga, told.step, told.declared, told.now)

    def moved_on(self, seen: Seen, told: "history.Story") -> bool:
        """Whether the saga has moved on since it was seen so, as far as this move minds."""
        try:
            seen.require(told.saga, told.step, attempt=self.about_attempt)
        except errors.MovedOn:
            return True
        return False


# --- What each will do ----------------------------------------------------------------------------


def _will_retry(told: history.Story) -> list[str]:
    row = told.step
    declared = told.declared_step
    if row.state == StepState.UNKNOWN and not told.backward and declared is not None and declared.ask:
        return _will_ask(told)
    what = (
        _("%(step)s is undone now: attempt %(attempt)s.")
        if told.backward
        else _("%(step)s is tried now: attempt %(attempt)s.")
    )
    number = (row.undo_attempts if told.backward else row.attempts) + 1
    return [
        what % {"step": row.name, "attempt": number},
        _("The key stays %(key)s, so nothing is done twice, here or at the provider.") % {"key": row.key},
    ]


def _will_ask(told: history.Story) -> list[str]:
    row = told.step
    lines = [
        _("The provider of %(step)s is asked by the key %(key)s.") % {"step": row.name, "key": row.key},
        _("If it happened, the step is done and the saga goes on."),
    ]
    if row.state == StepState.WAITING:
        lines.append(_("If the provider knows nothing of it, the step has failed."))
        lines.append(_("If the provider does not answer, the wait goes on."))
    else:
        lines.append(_("If it did not happen, it is done now, with the same key."))
    return lines


def _will_compensate(told: history.Story) -> list[str]:
    begun = [row for row in reversed(told.steps) if row.begun and row.state != StepState.UNDONE]
    undone = [row.name for row in begun if (step := told.declare(row)) and step.undo]
    if not undone:
        return [_("Nothing has been done yet: it ends at once.")]
    lines = [_("These steps are undone, in this order: %(steps)s.") % {"steps": ", ".join(undone)}]
    if told.at_work:
        lines.append(_("It turns round as soon as the attempt under way has ended."))
    lines.append(_("That cannot be taken back."))
    return lines


def _will_say_happened(told: history.Story) -> list[str]:
    if told.backward:
        return [
            _("The undo of %(step)s counts as done, without being tried again.") % {"step": told.step.name},
            _("The saga goes on undoing what is left."),
        ]
    lines = [_("%(step)s counts as done, with the facts given below.") % {"step": told.step.name}]
    declared = told.declared_step
    if declared is not None and declared.outputs:
        lines.append(
            _("Later steps need these facts of it: %(facts)s.") % {"facts": ", ".join(declared.outputs)}
        )
    lines.append(_("The saga goes on with the next step."))
    return lines


def _will_say_not(told: history.Story) -> list[str]:
    declared = told.declared_step
    if told.backward:
        return [_("The undo of %(step)s is tried again now.") % {"step": told.step.name}]
    if declared is not None and declared.kind == "retriable":
        return [_("%(step)s is tried again now.") % {"step": told.step.name}]
    return [
        _("%(step)s counts as failed, and the saga turns round.") % {"step": told.step.name},
        *_will_compensate(told)[:1],
    ]


def _will_hold(told: history.Story) -> list[str]:
    lines = [_("Nothing new begins until it is released: no attempt, no retry, no undo, no deadline.")]
    if told.at_work:
        lines.append(_("The attempt under way still ends, and is recorded."))
    return lines


def _will_release(told: history.Story) -> list[str]:
    return [_("It goes on where it stands, with %(step)s.") % {"step": told.step.name}]


def _will_extend(told: history.Story) -> list[str]:
    deadline = told.saga.deadline_at
    if deadline is None:
        return [_("It has no deadline now; it gets one, so long from now.")]
    return [
        _("Its deadline, now %(deadline)s, is moved by the hours given below, counted from it or from now, "
          "whichever is later.") % {"deadline": formatting.moment(deadline)}
    ]  # fmt: skip


def _will_skip(told: history.Story) -> list[str]:
    return [
        _("%(step)s is left out, and the saga goes on with the next step.") % {"step": told.step.name},
        _("That cannot be taken back."),
    ]


def _will_close(told: history.Story) -> list[str]:
    lines = [
        _("The saga stays as it stands: nothing is deleted, nothing is undone, and nobody is alerted again."),
        _("A new saga may begin for the same key, %(key)s.") % {"key": told.saga.key},
    ]
    if told.declared is not None and told.declared.on_closed is not None:
        lines.append(_("Whoever waits for it is told that it was ended by hand. That cannot be taken back."))
    standing = [row.name for row in told.steps if row.state in history.STANDING]
    if standing:
        lines.append(
            _("These steps stand as done, or may be: %(steps)s. Settle them by hand.")
            % {"steps": ", ".join(standing)}
        )
    return lines


# --- The table ------------------------------------------------------------------------------------


def _say(happened: bool) -> Callable[..., Any]:
    def resolve(told: history.Story, *, seen: Seen, actor: str, reason: str, given: Given) -> Any:
        facts = given.get("facts") if happened and not told.backward else None
        return engine.resolve(
            told.saga.pk, seen=seen, happened=happened, actor=actor, reason=reason, facts=facts or None
        )

    return resolve


def _extend(told: history.Story, *, seen: Seen, actor: str, reason: str, given: Given) -> Any:
    by = datetime.timedelta(hours=float(given["hours"]))
    return engine.extend(told.saga.pk, by=by, seen=seen, actor=actor, reason=reason)


def _plain(operation: Callable[..., Any]) -> Callable[..., Any]:
    def make(told: history.Story, *, seen: Seen, actor: str, reason: str, given: Given) -> Any:
        return operation(told.saga.pk, seen=seen, actor=actor, reason=reason)

    return make


MOVES: dict[str, Move] = {
    move.name: move
    for move in (
        Move(
            name="resume", label=gettext_lazy("Resume"), permission="operate_saga",
            refusal=refusals.resume, preview=_will_retry, make=_plain(engine.resume),
        ),
        Move(
            name="retry", label=gettext_lazy("Retry now"), permission="operate_saga",
            refusal=refusals.retry, preview=_will_retry, make=_plain(engine.retry),
        ),
        Move(
            name="ask", label=gettext_lazy("Ask the provider"), permission="operate_saga",
            refusal=refusals.ask, preview=_will_ask, make=_plain(engine.ask),
        ),
        Move(
            name="happened", label=gettext_lazy("It happened"),
            backward_label=gettext_lazy("The undo happened"), permission="resolve_saga",
            refusal=refusals.resolve, preview=_will_say_happened, make=_say(True),
            moves_money=True, fields=("facts",), evidence=True, about_attempt=True,
        ),
        Move(
            name="did-not-happen", label=gettext_lazy("It did not happen"),
            backward_label=gettext_lazy("The undo did not happen"), permission="resolve_saga",
            refusal=refusals.resolve, preview=_will_say_not, make=_say(False),
            moves_money=True, evidence=True, about_attempt=True,
        ),
        Move(
            name="compensate", label=gettext_lazy("Compensate now"), permission="compensate_saga",
            refusal=refusals.compensate, preview=_will_compensate, make=_plain(engine.compensate),
            moves_money=True,
        ),
        Move(
            name="hold", label=gettext_lazy("Hold"), permission="operate_saga",
            refusal=refusals.hold, preview=_will_hold, make=_plain(engine.hold),
        ),
        Move(
            name="release", label=gettext_lazy("Release"), permission="operate_saga",
            refusal=refusals.release, preview=_will_release, make=_plain(engine.release),
        ),
        Move(
            name="extend", label=gettext_lazy("Extend the deadline"), permission="operate_saga",
            refusal=refusals.extend, preview=_will_extend, make=_extend, fields=("hours",),
        ),
        Move(
            name="skip", label=gettext_lazy("Skip the step"), permission="resolve_saga",
            refusal=refusals.skip, preview=_will_skip, make=_plain(engine.skip),
            moves_money=True, about_attempt=True,
        ),
        Move(
            name="close", label=gettext_lazy("Put aside"), permission="resolve_saga",
            refusal=refusals.close, preview=_will_close, make=_plain(engine.close),
            moves_money=True, about_attempt=True,
        ),
    )
}  # fmt: skip
"""By name, in the order of their buttons."""


class NeedsApproval(errors.SagaError):
    """This move waits for a second person now (SAGAS_FOUR_EYES); somebody else must agree to it."""


def needs_two(move: Move) -> bool:
    """Whether a second person must agree to it."""
    return move.moves_money and conf.four_eyes()


def make(
    saga_id: uuid.UUID | str, move: Move, *, seen: Seen, actor: str, reason: str, given: Given | None = None
) -> None:
    """Make a move, or ask for a second person's agreement where one is needed.

    Arguments:
        saga_id: the saga.
        move: one of `MOVES`.
        seen: how the saga stood when it was decided on.
        actor: who decided.
        reason: why, or the evidence.
        given: what the move asks for beside the reason.

    Raises:
        MovedOn: the saga is not as it was seen.
        NotAllowed: it does not apply now.
        NeedsApproval: it was asked for, and waits.
        NotFound: there is no such saga.
    """
    told = history.read(saga_id)
    if move.moved_on(seen, told):
        raise errors.MovedOn(state=told.saga.state)
    if why := move.refused(told):
        # Between two attempts or in the middle of one, say: what it was decided on is not there any more.
        raise (
            errors.MovedOn(state=told.saga.state)
            if seen != told.seen
            else errors.NotAllowed(why, state=told.saga.state)
        )
    if not needs_two(move):
        move.make(told, seen=seen, actor=actor, reason=reason, given=given or {})
        return
    with transaction.atomic():
        locked = store.lock(saga_id)
        seen.require(locked.saga, locked.step, attempt=move.about_attempt)
        _forget_what_moved_on(locked, move)
        _asked, created = Approval.objects.get_or_create(
            saga=locked.saga,
            move=move.name,
            state=Approval.State.ASKED,
            defaults={"actor": actor, "reason": reason, "given": dict(given or {}), "seen": str(seen)},
        )
        if not created:
            raise errors.NotAllowed(_("That was asked for already, and waits for a second person."))
        _note(locked, "operator.asked", move.name, actor=actor, reason=reason)
    raise NeedsApproval


def _forget_what_moved_on(locked: store.UnitOfWork, move: Move) -> None:
    """What was asked for on something that is no more can never be agreed to: it makes room for what is."""
    states = Approval.State
    for asked in Approval.objects.select_for_update().filter(
        saga=locked.saga, move=move.name, state=states.ASKED
    ):
        if approval_moved_on(asked, locked.saga, locked.step):
            asked.state, asked.decision, asked.decided_at = states.VOID, messages.MOVED_ON, locked.now
            asked.save(update_fields=["state", "decision", "decided_at"])


def approval_moved_on(approval: Approval, saga: models.SagaInstance, step: models.StepInstance) -> bool:
    """Whether the saga has moved on since the approval was asked for, so that agreeing would do nothing."""
    try:
        seen = Seen.parse(approval.seen)
        seen.require(saga, step, attempt=MOVES[approval.move].about_attempt)
    except (errors.MovedOn, errors.BadSeen):  # Version 0.1.0 wrote none down.
        return True
    return False


def decide(approval_id: int, *, agree: bool, actor: str, reason: str) -> Approval:
    """Agree to a move that somebody else asked for, which makes it; or refuse it.

    Whoever asked may take it back, and nobody may agree with himself. What was asked for when the saga stood
    elsewhere is void: agreed is what was asked for, not what the saga has come to since.

    Raises:
        NotAllowed: it is decided already, or one's own.
    """
    states = Approval.State
    with transaction.atomic():
        saga_id = Approval.objects.values_list("saga_id", flat=True).get(pk=approval_id)
        if saga_id is None:
            raise errors.NotAllowed(_("That is decided already."))
        locked = store.lock(saga_id)
        approval = Approval.objects.select_for_update().get(pk=approval_id)
        if approval.state != states.ASKED:
            raise errors.NotAllowed(_("That is decided already."))
        if agree and approval.actor == actor:
            raise errors.NotAllowed(_("A second person must agree: you asked for it yourself."))
        _note(
            locked, "operator.approved" if agree else "operator.refused", approval.move,
            actor=actor, reason=reason,
        )  # fmt: skip
        approval.state = states.APPROVED if agree else states.REFUSED
        if agree:
            move = MOVES[approval.move]
            told = history.read(saga_id)
            if approval_moved_on(approval, locked.saga, locked.step):
                approval.state, reason = states.VOID, messages.MOVED_ON
            elif why := move.refused(told):
                approval.state, reason = states.VOID, why
            else:
                seen = Seen.parse(approval.seen)
                move.make(told, seen=seen, actor=approval.actor, reason=approval.reason, given=approval.given)
        approval.decided_by, approval.decision, approval.decided_at = actor, reason, locked.now
        approval.save()
    return approval


def _note(locked: store.UnitOfWork, kind: str, move: str, *, actor: str, reason: str) -> None:
    locked.note(kind, actor=actor, reason=reason, data={"move": move})
    locked.commit()
