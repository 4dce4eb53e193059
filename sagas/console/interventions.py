"""What operators may do to a saga: who may, when it applies, what it will do, and how it is done.

One table, read by the admin's pages, by bulk runs, by the API's staff and by `manage.py saga`. Each
intervention ends in one of `sagas.engine`'s operations. Both ask the same predicate, of
`sagas.engine.refusals`, whether it is possible: here for the preview, and there under the lock.

Whichever way an operator intervenes, it leads through `make`, `decide` or a bulk run, so that all are bound
to what was seen, and none that moves money goes round the second person. Locks are taken in one order (I4):
a bulk run, then a saga, then its consents.
"""

import dataclasses
import datetime
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from django.db import transaction
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from sagas import conf, engine, errors
from sagas.console import approving, families, formatting, history
from sagas.console.models import Consent
from sagas.declaration import definition
from sagas.declaration.states import Direction, StepState
from sagas.engine import messages, refusals, store
from sagas.engine.kinds import EventKind, FailureKind
from sagas.engine.seen import Seen

Arguments = Mapping[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Intervention:
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

    preview: Callable[["history.History"], list[str]]
    """What it will do, in sentences."""

    make: Callable[..., Any]
    """`make(record, *, seen, actor, reason, arguments)`: the operation."""

    about_attempt: bool = False
    """Whether it says how the step stands, so that no attempt may have been made since it was seen; the
    engine holds its operation to the same."""

    moves_money: bool = False
    """Whether it waits for a second person where settings.SAGAS_FOUR_EYES is on."""

    fields: tuple[str, ...] = ()
    """What it asks for beside the reason: `facts` or `hours`."""

    evidence: bool = False
    """Whether the reason is evidence for a statement."""

    of_step: bool = False
    """Whether it is about one step, so that there is one for each of several that the saga is at."""

    def title(self, record: "history.History") -> str:
        """What its button says, for this saga."""
        return self.called(backward=record.backward)

    def called(self, *, backward: bool) -> str:
        """The same, for a saga that goes back, or on."""
        return str(self.backward_label if backward and self.backward_label else self.label)

    def refused(self, record: "history.History") -> str:
        """Why it is not possible now; empty where it is."""
        return self.refusal(record.saga, record.step, record.declared, record.now)

    def moved_on(self, seen: Seen, record: "history.History") -> bool:
        """Whether the saga has moved on since it was seen so, as far as this intervention minds."""
        try:
            seen.require(record.saga, record.looking_at(seen.step).step, attempt=self.about_attempt)
        except errors.MovedOn:
            return True
        return False


# --- What each will do ----------------------------------------------------------------------------


def _will_retry(record: history.History) -> list[str]:
    row = record.step
    declared = record.declared_step
    if isinstance(declared, definition.Child):
        return _will_look_at_children(record)
    lapsed = [asked for asked in approving.questions(record) if asked.row.wait_until is None]
    if lapsed:
        anew = _("People are asked about %(step)s anew, and have %(length)s for it.")
        return [
            anew % {"step": asked.row.name, "length": formatting.length(asked.declared.limit)}
            for asked in lapsed
        ]
    if row.state == StepState.UNKNOWN and not record.backward and declared is not None and declared.ask:
        return _will_ask(record)
    what = (
        _("%(step)s is undone now: attempt %(attempt)s.")
        if record.backward
        else _("%(step)s is tried now: attempt %(attempt)s.")
    )
    number = (row.undo_attempts if record.backward else row.attempts) + 1
    return [
        what % {"step": row.name, "attempt": number},
        _("The key stays %(key)s, so nothing is done twice, here or at the provider.") % {"key": row.key},
    ]


def _will_ask(record: history.History) -> list[str]:
    row = record.step
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


def _will_compensate(record: history.History) -> list[str]:
    begun = [row for row in reversed(record.steps) if row.begun and row.state != StepState.UNDONE]
    undone = [row.name for row in begun if (step := record.declare(row)) and step.undoable]
    if not undone:
        return [_("Nothing has been done yet: it ends at once."), *_for_its_parent(record)]
    lines = [_("These steps are undone, in this order: %(steps)s.") % {"steps": _in_order(record, undone)}]
    if record.members and record.any_at_work:
        lines.append(_("Nothing is undone before the attempts under way have ended, or count as lost."))
    elif record.at_work:
        lines.append(_("It turns back as soon as the attempt under way has ended."))
    lines += [
        _("All children of %(step)s are undone with it, whatever they have come to: %(children)s.")
        % {"step": row.name, "children": families.words(counts)}
        for row in begun
        if (counts := record.children.get(row.name)) is not None and row.name in undone
    ]
    lines += _for_its_parent(record)
    lines.append(_("That cannot be taken back."))
    return lines


def _will_look_at_children(record: history.History) -> list[str]:
    """What trying a step again does that is what its children are."""
    counts = record.children.get(record.step.name)
    lines = [
        _("It looks at the children of %(step)s again, and goes on as they stand.")
        % {"step": record.step.name}
    ]
    if counts is not None:
        lines[0] += f" {families.words(counts, backward=record.backward)}."
    if record.in_need is not None:
        lines.append(_("That does nothing for a child that needs a person: see to the child."))
    return lines


def _for_its_parent(record: history.History) -> list[str]:
    """What it means for the parent of a child that this is not done."""
    parent = record.parent
    declared = parent.declared if parent is not None and parent.goes_on else None
    if declared is None:
        return []
    if isinstance(declared, definition.ForEach) and declared.failed == "keep":
        text = _(
            "Its parent keeps what its other children of %(step)s have done, and goes on without this one."
        )
    elif isinstance(declared, definition.ForEach) and declared.need != "all":
        text = _("Its parent goes on if enough of its other children of %(step)s are done; else it fails.")
    elif declared.undoable:
        text = _("Its parent needs all children of %(step)s: it is undone as well, with the others.")
    else:
        text = _("For its parent %(step)s is then not done.")
    return [text % {"step": declared.name}]


def _in_order(record: history.History, names: list[str]) -> str:
    """The steps in the order of undoing, with a plus between those that are undone at once."""
    parts: list[str] = []
    before = None
    for name in names:
        assert record.declared is not None, "what has an undo is declared"
        stage = record.declared.stage_at(record.declared.positions[name])
        at_once = stage.parallel is not None and stage.parallel.undo == "together"
        if at_once and stage is before:
            parts[-1] += f" + {name}"
        else:
            parts.append(name)
        before = stage
    return ", ".join(parts)


def _will_say_happened(record: history.History) -> list[str]:
    if record.backward:
        left = [row.name for row in record.steps if row.state in history.STANDING and row != record.step]
        return [
            _("The undo of %(step)s counts as done, without being tried again.") % {"step": record.step.name},
            _("The saga goes on undoing what is left.") if left else _("Nothing else is left to undo."),
        ]
    lines = [_("%(step)s counts as done, with the facts given below.") % {"step": record.step.name}]
    error = record.step.error or {}
    if error.get("kind") == FailureKind.MISMATCH:
        lines.append(
            _("It counts as done although it came to something else than was asked: %(message)s")
            % {"message": formatting.spoken(error.get("message", ""))}
        )
    declared = record.declared_step
    if declared is not None and declared.outputs:
        lines.append(
            _("Later steps need these facts of it: %(facts)s.") % {"facts": ", ".join(declared.outputs)}
        )
    lines.append(_goes_on(record))
    return lines


def _goes_on(record: history.History) -> str:
    """What comes after the step that is looked at, where it is not done, or is left out."""
    if others := [row.name for row in record.at_hand if row.pk != record.step.pk]:
        return _("The saga goes on when these are done as well: %(steps)s.") % {"steps": ", ".join(others)}
    return _("The saga goes on with the next step.")


def _will_say_not(record: history.History) -> list[str]:
    declared = record.declared_step
    if record.backward:
        return [_("The undo of %(step)s is tried again now.") % {"step": record.step.name}]
    if declared is not None and declared.kind == "retriable":
        return [_("%(step)s is tried again now.") % {"step": record.step.name}]
    return [
        _("%(step)s counts as failed, and the saga turns back.") % {"step": record.step.name},
        *_will_compensate(record)[:1],
    ]


def _will_hold(record: history.History) -> list[str]:
    lines = [_("Nothing new begins until it is released: no attempt, no retry, no undo, no deadline.")]
    if record.any_at_work:
        lines.append(_("The attempt under way still ends, and is recorded."))
    if any(counts.live for counts in record.children.values()):
        lines.append(_("Children under way go on; none is started, and none is told to turn back."))
        lines.append(_("To hold those too, hold each of them."))
    if record.parent is not None:
        lines.append(_("Its parent waits for it, and it keeps its place among those that run at once."))
    return lines


def _will_release(record: history.History) -> list[str]:
    at = ", ".join(row.name for row in record.at_hand)
    lines = [_("It goes on where it stands, with %(step)s.") % {"step": at}]
    if coming := sum(counts.coming for counts in record.children.values()):
        lines.append(
            ngettext(
                "%(n)s child of it that has not begun is started when its turn comes.",
                "%(n)s children of it that have not begun are started when their turn comes.",
                coming,
            )
            % {"n": coming}
        )
    return lines


def _will_extend(record: history.History) -> list[str]:
    deadline = record.saga.deadline_at
    own = [_("Its children keep deadlines of their own.")] if record.children else []
    if deadline is None:
        return [_("It has no deadline now; it gets one, so long from now."), *own]
    return [
        _("Its deadline, now %(deadline)s, is moved by the hours given below, counted from it or from now, "
          "whichever is later.") % {"deadline": formatting.moment(deadline)},
        *own,
    ]  # fmt: skip


def _will_skip(record: history.History) -> list[str]:
    return [
        _("%(step)s is left out.") % {"step": record.step.name},
        _goes_on(record),
        _("That cannot be taken back."),
    ]


def _will_close(record: history.History) -> list[str]:
    lines = [
        _("The saga stays as it stands: nothing is deleted, nothing is undone, and nobody is alerted again."),
        _("A new saga may begin for the same key, %(key)s.") % {"key": record.saga.key},
    ]
    if record.declared is not None and record.declared.on_closed is not None:
        lines.append(_("Whoever waits for it is told that it was ended by hand. That cannot be taken back."))
    standing = [row.name for row in record.steps if row.state in history.STANDING]
    if standing:
        lines.append(
            _("These steps stand as done, or may be: %(steps)s. Settle them by hand.")
            % {"steps": ", ".join(standing)}
        )
    lines += [
        _("Its children of %(step)s are let go: those that are done complete, those to come never begin, and "
          "those under way go on by themselves. They are: %(children)s.")
        % {"step": step, "children": families.words(counts)}
        for step, counts in record.children.items()
        if counts.live
    ]  # fmt: skip
    if record.parent is not None:
        lines.append(_("For its parent it counts as not done, and as undone: you answer for what it did."))
    return lines


# --- The table ------------------------------------------------------------------------------------


def _say(happened: bool) -> Callable[..., Any]:
    def resolve(record: history.History, *, seen: Seen, actor: str, reason: str, arguments: Arguments) -> Any:
        facts = arguments.get("facts") if happened and not record.backward else None
        return engine.resolve(
            record.saga.pk, seen=seen, happened=happened, actor=actor, reason=reason, facts=facts or None
        )

    return resolve


def _extend(record: history.History, *, seen: Seen, actor: str, reason: str, arguments: Arguments) -> Any:
    by = datetime.timedelta(hours=float(arguments["hours"]))
    return engine.extend(record.saga.pk, by=by, seen=seen, actor=actor, reason=reason)


def _plain(operation: Callable[..., Any]) -> Callable[..., Any]:
    def make(record: history.History, *, seen: Seen, actor: str, reason: str, arguments: Arguments) -> Any:
        return operation(record.saga.pk, seen=seen, actor=actor, reason=reason)

    return make


INTERVENTIONS: dict[str, Intervention] = {
    intervention.name: intervention
    for intervention in (
        Intervention(
            name="resume", label=gettext_lazy("Resume"), permission="operate_saga",
            refusal=refusals.resume, preview=_will_retry, make=_plain(engine.resume),
        ),
        Intervention(
            name="retry", label=gettext_lazy("Retry now"), permission="operate_saga",
            refusal=refusals.retry, preview=_will_retry, make=_plain(engine.retry), of_step=True,
        ),
        Intervention(
            name="ask", label=gettext_lazy("Ask the provider"), permission="operate_saga",
            refusal=refusals.ask, preview=_will_ask, make=_plain(engine.ask), of_step=True,
        ),
        Intervention(
            name="happened", label=gettext_lazy("Say that it happened"),
            backward_label=gettext_lazy("Say that it was undone"), permission="resolve_saga",
            refusal=refusals.resolve, preview=_will_say_happened, make=_say(True),
            moves_money=True, fields=("facts",), evidence=True, about_attempt=True, of_step=True,
        ),
        Intervention(
            name="did-not-happen", label=gettext_lazy("Say that it did not happen"),
            backward_label=gettext_lazy("Say that it was not undone"), permission="resolve_saga",
            refusal=refusals.resolve, preview=_will_say_not, make=_say(False),
            moves_money=True, evidence=True, about_attempt=True, of_step=True,
        ),
        Intervention(
            name="compensate", label=gettext_lazy("Compensate now"), permission="compensate_saga",
            refusal=refusals.compensate, preview=_will_compensate, make=_plain(engine.compensate),
            moves_money=True,
        ),
        Intervention(
            name="hold", label=gettext_lazy("Hold"), permission="operate_saga",
            refusal=refusals.hold, preview=_will_hold, make=_plain(engine.hold),
        ),
        Intervention(
            name="release", label=gettext_lazy("Release"), permission="operate_saga",
            refusal=refusals.release, preview=_will_release, make=_plain(engine.release),
        ),
        Intervention(
            name="extend", label=gettext_lazy("Extend the deadline"), permission="operate_saga",
            refusal=refusals.extend, preview=_will_extend, make=_extend, fields=("hours",),
        ),
        Intervention(
            name="skip", label=gettext_lazy("Skip the step"), permission="resolve_saga",
            refusal=refusals.skip, preview=_will_skip, make=_plain(engine.skip),
            moves_money=True, about_attempt=True, of_step=True,
        ),
        Intervention(
            name="close", label=gettext_lazy("Put it aside"), permission="resolve_saga",
            refusal=refusals.close, preview=_will_close, make=_plain(engine.close),
            moves_money=True, about_attempt=True,
        ),
    )
}  # fmt: skip
"""By name, in the order of their buttons."""


def asked_for(consent: Consent) -> str:
    """What the button said that somebody pressed: the saga may have turned round since."""
    backward = Seen.parse(consent.seen).direction == Direction.BACKWARD if consent.seen else False
    return INTERVENTIONS[consent.intervention].called(backward=backward)


class NeedsConsent(errors.SagaError):
    """This intervention waits for a second person now (SAGAS_FOUR_EYES); somebody else must agree to it."""


def needs_two(intervention: Intervention) -> bool:
    """Whether a second person must agree to it."""
    return intervention.moves_money and conf.four_eyes()


def make(
    saga_id: uuid.UUID | str,
    intervention: Intervention,
    *,
    seen: Seen,
    actor: str,
    reason: str,
    arguments: Arguments | None = None,
) -> None:
    """Make an intervention, or ask for a second person's agreement where one is needed.

    Arguments:
        saga_id: the saga.
        intervention: one of `INTERVENTIONS`.
        seen: how the saga stood when it was decided on.
        actor: who decided.
        reason: why, or the evidence.
        arguments: what the intervention asks for beside the reason.

    Raises:
        MovedOn: the saga is not as it was seen.
        NotAllowed: it does not apply now.
        NeedsConsent: it was asked for, and waits.
        NotFound: there is no such saga.
    """
    record = history.read(saga_id).looking_at(seen.step)
    if intervention.moved_on(seen, record):
        raise errors.MovedOn(state=record.saga.state)
    if why := intervention.refused(record):
        # Between two attempts or in the middle of one, say: what it was decided on is not there any more.
        raise (
            errors.MovedOn(state=record.saga.state)
            if seen != record.seen
            else errors.NotAllowed(why, state=record.saga.state)
        )
    if not needs_two(intervention):
        intervention.make(record, seen=seen, actor=actor, reason=reason, arguments=arguments or {})
        return
    with transaction.atomic():
        locked = store.lock(saga_id)
        seen.require(locked.saga, engine.meant(locked, seen), attempt=intervention.about_attempt)
        _forget_what_moved_on(locked, intervention)
        _asked, created = Consent.objects.get_or_create(
            saga=locked.saga,
            intervention=intervention.name,
            state=Consent.State.ASKED,
            defaults={
                "actor": actor,
                "reason": reason,
                "arguments": dict(arguments or {}),
                "seen": str(seen),
            },
        )
        if not created:
            raise errors.NotAllowed(_("That was asked for already, and waits for a second person."))
        _note(locked, EventKind.OPERATOR_ASKED, intervention.name, actor=actor, reason=reason)
    raise NeedsConsent


def _forget_what_moved_on(locked: store.UnitOfWork, intervention: Intervention) -> None:
    """What was asked for on something that is no more can never be agreed to: it gives way to what is."""
    states = Consent.State
    for asked in Consent.objects.select_for_update().filter(
        saga=locked.saga, intervention=intervention.name, state=states.ASKED
    ):
        if _moved_on(asked, locked):
            asked.state, asked.decision, asked.decided_at = states.VOID, messages.MOVED_ON, locked.now
            asked.save(update_fields=["state", "decision", "decided_at"])


def consent_moved_on(consent: Consent, record: history.History) -> bool:
    """Whether the saga has moved on since the consent was asked for, so that agreeing would do nothing."""
    try:
        return INTERVENTIONS[consent.intervention].moved_on(Seen.parse(consent.seen), record)
    except errors.BadSeen:  # Version 0.1.0 wrote none down.
        return True


def looked_at(consent: Consent, record: history.History) -> history.History:
    """The saga, with the step that was looked at when the consent was asked for."""
    return record.looking_at(consent.seen.partition(":")[0])


def _moved_on(consent: Consent, locked: store.UnitOfWork) -> bool:
    """The same, under the lock."""
    try:
        seen = Seen.parse(consent.seen)
        about_attempt = INTERVENTIONS[consent.intervention].about_attempt
        seen.require(locked.saga, engine.meant(locked, seen), attempt=about_attempt)
    except (errors.MovedOn, errors.BadSeen):
        return True
    return False


def decide(consent_id: int, *, agree: bool, actor: str, reason: str) -> Consent:
    """Agree to an intervention that somebody else asked for, which makes it; or refuse it.

    Whoever asked may take it back, and nobody may agree with himself. What was asked for when the saga stood
    elsewhere is void: agreed is what was asked for, not what the saga has come to since.

    Raises:
        NotAllowed: it is decided already, or one's own.
    """
    states = Consent.State
    with transaction.atomic():
        saga_id = Consent.objects.values_list("saga_id", flat=True).get(pk=consent_id)
        if saga_id is None:
            raise errors.NotAllowed(_("That is decided already."))
        locked = store.lock(saga_id)
        consent = Consent.objects.select_for_update().get(pk=consent_id)
        if consent.state != states.ASKED:
            raise errors.NotAllowed(_("That is decided already."))
        if agree and consent.actor == actor:
            raise errors.NotAllowed(_("A second person must agree: you asked for it yourself."))
        _note(
            locked,
            EventKind.OPERATOR_APPROVED if agree else EventKind.OPERATOR_REFUSED,
            consent.intervention,
            actor=actor, reason=reason,
        )  # fmt: skip
        consent.state = states.AGREED if agree else states.REFUSED
        if agree:
            intervention = INTERVENTIONS[consent.intervention]
            record = looked_at(consent, history.read(saga_id))
            if _moved_on(consent, locked):
                consent.state, reason = states.VOID, messages.MOVED_ON
            elif why := intervention.refused(record):
                consent.state, reason = states.VOID, why
            else:
                seen = Seen.parse(consent.seen)
                intervention.make(
                    record,
                    seen=seen,
                    actor=consent.actor,
                    reason=consent.reason,
                    arguments=consent.arguments,
                )
        consent.decided_by, consent.decision, consent.decided_at = actor, reason, locked.now
        consent.save()
    return consent


def _note(locked: store.UnitOfWork, kind: str, intervention: str, *, actor: str, reason: str) -> None:
    locked.note(kind, actor=actor, reason=reason, data={"intervention": intervention})
    locked.commit()
