"""Signed links with which a person answers an approval without logging in: each works once, until the limit.

Whoever makes a link decides that its person may answer; nobody is asked for a permission later. That the
person has answered stands in the saga's events, so nothing is kept of links. Opening one changes nothing, for
mail scanners open every link; the page that it leads to asks once more.
"""

import dataclasses
import datetime
import uuid

from django import urls
from django.core import exceptions, signing

from sagas import errors
from sagas.console import approving, history
from sagas.engine import approvals

SALT = "sagas.console.links"
"""What these signatures are for, and no others of the same key."""

LONGEST_PERSON = 150 - len(approvals.LINK)
"""An event's actor has 150 characters."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Link:
    """What a link was made for."""

    saga_id: uuid.UUID
    step: str
    answer: str
    """approve or refuse."""

    person: str
    until: datetime.datetime
    """The approval's limit, when the link was made."""

    @property
    def actor(self) -> str:
        """Who answers with it, for the events."""
        return f"{approvals.LINK}{self.person}"


class Unreadable(errors.SagaError):
    """This link is not one of ours, or a part of it is missing."""


def make(saga_id: uuid.UUID | str, step: str, *, answer: str, person: str, base: str = "") -> str:
    """Make a link with which a person answers an approval, once, until its limit.

    Call it where people are told, such as in the approval's `notify`. When people are asked anew, because a
    saga that needed attention was resumed, its links are over, and new ones are to be made.

    Arguments:
        saga_id: the saga.
        step: the approval's name.
        answer: "approve" or "refuse".
        person: whom it is made for: a login, where they have one, so that they count once whichever way they
            answer. It becomes the actor, behind `link:`.
        base: what goes before the path, such as https://shop.example.

    Returns:
        The link.

    Raises:
        NotFound: there is no such saga, or no such step.
        NotAllowed: nobody is asked for it now, or its limit is over.
        ValueError: the answer is neither, or the person has no name or too long a one.
        ImproperlyConfigured: the project does not mount `sagas.console.urls`.
    """
    if answer not in approving.LABELS:
        raise ValueError(f"A link approves or refuses: {answer!r} is neither.")
    if not person.strip() or len(person) > LONGEST_PERSON:
        raise ValueError(f"A link is made for somebody, in 1 to {LONGEST_PERSON} characters.")
    record = history.read(saga_id)
    if why := approving.refused(record, step):
        raise errors.NotAllowed(why, state=record.saga.state)
    row = next(row for row in record.steps if row.name == step)
    if row.wait_until is None:
        raise errors.NotAllowed("Its limit is over: resume the saga first.", state=record.saga.state)
    said = [str(record.saga.pk), step, answer, person, row.wait_until.isoformat()]
    try:
        return base + urls.reverse("sagas-approval-link", args=[signing.dumps(said, salt=SALT)])
    except urls.NoReverseMatch:
        raise exceptions.ImproperlyConfigured(
            "No address answers links: add path('', include('sagas.console.urls')) to the project's."
        ) from None


def read(token: str) -> Link:
    """What a link was made for, whether or not it can still be used.

    Raises:
        Unreadable: it was not made by `make`, with our key.
    """
    try:
        saga_id, step, answer, person, until = signing.loads(token, salt=SALT)
    except signing.BadSignature:
        raise Unreadable from None
    return Link(
        saga_id=uuid.UUID(saga_id),
        step=step,
        answer=answer,
        person=person,
        until=datetime.datetime.fromisoformat(until),
    )
