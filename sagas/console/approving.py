"""Approvals that are waited for: who is asked, since when, who has approved, and how an answer is given.

The admin's pages, the REST API, `manage.py saga` and signed links all answer through `answer`. Whether
somebody may is theirs to ask: `may` says so for a user, and a link stands for itself. Whether an answer is
wanted is asked of `sagas.engine.refusals`: here for the page, and by the engine again under the lock.
"""

import dataclasses
import functools
import operator
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from django.contrib.auth import models as auth
from django.db.models import Q, QuerySet
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from sagas import engine, errors, models, strictjson
from sagas.console import history, panels
from sagas.declaration import definition, registry
from sagas.declaration.states import LIVE, StepState
from sagas.engine import approvals, refusals
from sagas.engine.kinds import EventKind

APPROVE, REFUSE = "approve", "refuse"

LABELS = {APPROVE: gettext_lazy("Approve"), REFUSE: gettext_lazy("Refuse")}
"""What the button of each answer says."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Question:
    """An approval that is waited for."""

    row: models.StepInstance
    declared: definition.Approval
    given: Sequence[Mapping[str, Any]]
    """Who has approved by now: each with `actor`, `reason` and `at`."""

    @property
    def label(self) -> str:
        """What people call the step."""
        return panels.label(self.row.saga.name, self.row.name)

    @property
    def missing(self) -> int:
        """How many must still approve."""
        return self.declared.persons - len(self.given)


# --- Which are waited for -------------------------------------------------------------------------


def questions(record: history.History) -> list[Question]:
    """What is asked about a saga now: several where approvals stand beside each other in a `Parallel`."""
    return [one for row in record.steps if (one := _question(record, row))]


def question(record: history.History, step: str) -> Question | None:
    """The approval of that name; None where nobody is asked about it now."""
    return next((one for one in questions(record) if one.row.name == step), None)


def refused(record: history.History, step: str) -> str:
    """Why the approval of that name takes no answer now; empty where it does.

    Raises:
        NotFound: the saga has no such step.
    """
    for row in record.steps:
        if row.name == step:
            return refusals.answer(record.saga, row, record.declared, record.now)
    raise errors.NotFound(f"There is no saga {record.saga.pk} with a step {step}.")


def permission(record: history.History, step: str) -> str:
    """The permission that the approval of that name asks for; empty where it is none."""
    declared = next((record.declare(row) for row in record.steps if row.name == step), None)
    return declared.permission if isinstance(declared, definition.Approval) else ""


def may(user: Any, question: Question) -> bool:
    """Whether that user may answer."""
    return bool(user.has_perm(question.declared.permission))


def has_answered(record: history.History, step: str, actor: str) -> bool:
    """Whether that person has answered the approval of that name, logged in or with a link."""
    return any(
        event.kind in (EventKind.APPROVAL_GIVEN, EventKind.APPROVAL_REFUSED)
        and event.subject == step
        and approvals.person(event.actor) == approvals.person(actor)
        for event in record.events
    )


def waiting(user: auth.User | auth.AnonymousUser | None = None) -> QuerySet[models.SagaInstance]:
    """The live sagas of which an approval is waited for; for a user, those which that user may answer.

    An index has the steps about which people are asked: what has ended is not read, nor what else is live.
    """
    asked = [
        Q(saga__name=saga.name, saga__version=saga.version, name__in=names)
        for saga in registry.everything()
        if (names := _names(saga.all_steps, user))
    ]
    if not asked:
        return models.SagaInstance.objects.none()
    steps = models.StepInstance.objects.filter(asked_at__isnull=False, state=StepState.WAITING.value)
    of = steps.filter(functools.reduce(operator.or_, asked)).values("saga_id")
    return models.SagaInstance.objects.filter(pk__in=of, state__in=LIVE, closed_at=None)


def asks_anybody() -> bool:
    """Whether any declaration has an approval at all."""
    return any(
        isinstance(step, definition.Approval) for saga in registry.everything() for step in saga.all_steps
    )


def _names(steps: Sequence[definition.Step], user: Any) -> list[str]:
    declared = [step for step in steps if isinstance(step, definition.Approval)]
    return [step.name for step in declared if user is None or user.has_perm(step.permission)]


def _question(record: history.History, row: models.StepInstance) -> Question | None:
    declared = record.declare(row)
    if not isinstance(declared, definition.Approval):
        return None
    if refusals.answer(record.saga, row, record.declared, record.now):
        return None
    return Question(row=row, declared=declared, given=list((row.facts or {}).get(approvals.APPROVALS, ())))


# --- Answering ------------------------------------------------------------------------------------


def preview(record: history.History, question: Question, answer: str) -> list[str]:
    """What an answer will do, in sentences."""
    given = {"step": question.label, "left": question.missing - 1}
    if answer == REFUSE:
        begun = [row for row in reversed(record.steps) if row.begun and row.state != StepState.UNDONE]
        undone = [row.name for row in begun if (step := record.declare(row)) and step.undoable]
        lines = [_("“%(step)s” is refused, and the saga turns back.") % given]
        if undone:
            lines.append(
                _("These steps are undone, in this order: %(steps)s.") % {"steps": ", ".join(undone)}
            )
        else:
            lines.append(_("Nothing has been done yet: it ends at once."))
        return [*lines, _("That cannot be taken back.")]
    if question.missing > 1:
        return [_("Your yes to “%(step)s” is kept; persons who must approve it too: %(left)s.") % given]
    lines = [_("“%(step)s” is approved, and the saga goes on.") % given]
    if record.saga.held_at is not None:
        lines.append(_("It is held: it goes on once it is released."))
    return lines


def answer(
    saga_id: uuid.UUID | str,
    step: str,
    *,
    answer: str,
    actor: str,
    reason: str,
    facts: dict[str, Any] | None = None,
    through: str,
) -> None:
    """Say yes or no. Whoever calls this has seen to it that the actor may.

    Arguments:
        saga_id: the saga.
        step: the approval's name.
        answer: "approve" or "refuse".
        actor: who answers.
        reason: why.
        facts: what the approval puts out; nothing with a no.
        through: which way it came: console, api, shell or link.

    Raises:
        NotFound: there is no such saga, or no such step.
        NotAllowed: nobody is asked for it now, the actor has approved already, or facts are missing.
        BadFacts: the facts are not JSON that can be kept.
    """
    if answer == APPROVE:
        engine.approve(saga_id, step, actor=actor, reason=reason, facts=facts, through=through)
    else:
        engine.refuse(saga_id, step, actor=actor, reason=reason, through=through)


def is_repeated(
    saga_id: uuid.UUID, step: str, *, answer: str, actor: str, facts: dict[str, Any] | None = None
) -> bool:
    """Whether the actor has given that answer before: then there is nothing left to do."""
    kind = EventKind.APPROVAL_GIVEN if answer == APPROVE else EventKind.APPROVAL_REFUSED
    said = models.Event.objects.filter(saga_id=saga_id, kind=kind, subject=step, actor=actor).last()
    return said is not None and said.data.get("facts", {}) == (facts or {})


def read_fact(text: str) -> Any:
    """What somebody typed for a fact: JSON where it is any, and otherwise the text itself.

    Raises:
        ValueError: it begins as JSON does, and is none.
    """
    text = text.strip()
    try:
        return strictjson.loads(text)
    except strictjson.Refused as error:
        if text[:1] in ("{", "[", '"'):
            raise ValueError(str(error)) from None
        return text
