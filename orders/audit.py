"""Whether everything adds up: orders, sagas, money, stock, invoices, shipments and the providers' books.

Safe on a live system: what is under way is left alone, except where it could not be right at any
moment. Whatever may still change is read in an order that cannot make a difference where there is none:
first which orders have ended, then the providers' books, then our own.
"""

import collections
import dataclasses
import datetime
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import httpx
from django.conf import settings
from django.db import connection
from django.db.models import Count, Q, Sum

from inventory import audit as inventory
from inventory import services as stock
from invoicing import audit as invoicing
from invoicing import services as billing
from orders import models, saga, steps
from payments import audit as payments
from payments import services as charging
from sagas import StepFunction, errors, reading
from sagas import models as sagas
from sagas.declaration import registry, states
from shipping import audit as shipping
from shipping import services as delivering

ROOMS: dict[StepFunction, Any] = {
    charging.charge: payments,
    stock.reserve: inventory,
    billing.issue: invoicing,
    delivering.dispatch: shipping,
}
"""Whose books the key of a step that does this is in."""

BOOKS = {"charges": payments, "invoices": invoicing, "shipments": shipping}
"""Whose books the providers' can be held against."""

UNATTENDED_S = 120
"""A live saga whose time came so long ago has no sweeper that looks after it."""


BATCH = 1000
"""How many orders are held against the books at once: a statement has room for 65535 keys, and a shop of
some age has more."""


@dataclasses.dataclass(frozen=True, order=True)
class Discrepancy:
    """Something that does not add up."""

    about: str
    """The order's number; where there is none, the key, the SKU or the invoice's number."""
    room: str
    finding: str

    def __str__(self) -> str:
        return f"{self.about}  {self.room}: {self.finding}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """What an audit looked at, and what it found."""

    ended: int
    """Orders that have ended, those that were closed by hand included, whose every book was compared."""
    live: int
    """Orders still open, those that wait for a person included: only their order of things was checked."""
    books: bool
    """Whether the providers' books could be read."""
    discrepancies: list[Discrepancy]
    answered: list[Discrepancy]
    """What does not add up either, and an operator has answered for with evidence: nobody need look again."""


def run(books: Mapping[str, Any] | None = None) -> Report:
    """Compare everything.

    Arguments:
        books: the providers' books, as the sandbox gives them; read from SANDBOX_URL by default.

    Raises:
        httpx.HTTPError: SANDBOX_URL is set, and the books cannot be read there.
    """
    begun_at = sagas.database_now()
    ended = _ended()
    live = models.Order.objects.filter(saga__finished_at=None, saga__closed_at=None).count()
    theirs = books if books is not None else read_books()
    compared = {*_ends(ended), *(_against(theirs, ended) if theirs is not None else ())}
    returned = _compensated_late(since=begun_at)
    found = {
        *_sagas(),
        *_orders(),
        *_within(ended),
        *(finding for finding in compared if finding.about not in returned),
    }
    events = list(_archived_events({finding.about for finding in found}))
    answers, closings = _answers(events), _closings(events)
    told = {finding: answers[finding.about, finding.room] for finding in found if _key(finding) in answers}
    # Who closed an order answers for what it came to, and not for books that contradict themselves.
    told |= {finding: closings[finding.about] for finding in found & compared if finding.about in closings}
    return Report(
        ended=len(ended),
        live=live,
        books=theirs is not None,
        discrepancies=sorted(found - told.keys()),
        answered=sorted(
            dataclasses.replace(finding, finding=f"{finding.finding} {answer}")
            for finding, answer in told.items()
        ),
    )


def read_books() -> Mapping[str, Any] | None:
    """The providers' books, where they can be read: a sandbox shows them, a real bank sends reports."""
    if not settings.SANDBOX_URL:
        return None
    answer = httpx.get(f"{settings.SANDBOX_URL}/books", timeout=30, trust_env=False)
    answer.raise_for_status()
    books: Mapping[str, Any] = answer.json()
    return books


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Ended:
    """Of an order that has ended, no more than is compared: there may be very many."""

    number: str
    version: int
    fulfilled: bool
    closed: bool
    """By hand: whatever is left of it was an operator's to settle."""
    total: int
    currency: str
    units: int
    parcels: int
    """How many of its lines ship; without any there is nothing to be delivered."""


def _ended() -> dict[str, _Ended]:
    """Orders whose saga has ended or was put aside, by its id."""
    orders = models.Order.objects.filter(
        Q(saga__finished_at__isnull=False) | Q(saga__closed_at__isnull=False)
    )
    rows = orders.annotate(**_OF_LINES).values_list(
        "saga_id", "number", "saga__version", "saga__state", "total_amount", "currency", *_OF_LINES
    )
    return {
        str(saga_id): _Ended(
            number=number,
            version=version,
            fulfilled=state == states.SagaState.COMPLETED,
            closed=state == states.SagaState.NEEDS_ATTENTION,
            total=total,
            currency=currency,
            units=units,
            parcels=parcels,
        )
        for saga_id, number, version, state, total, currency, units, parcels in (
            *rows.iterator(),
            *_archived("total_amount", "currency", **_OF_LINES),
        )
    }


_OF_LINES: dict[str, Any] = {
    "units": Sum("lines__quantity", default=0),
    "parcels": Count("lines", filter=Q(lines__ships=True)),
}


def _archived(*columns: str, **annotations: Any) -> Iterator[tuple[Any, ...]]:
    """Orders whose saga is in the archive: its id, the number, the saga's version and state, and columns."""
    rows = sagas.ArchivedSaga.objects.values_list("pk", "version", "state")
    sagas_ = {pk: (version, state) for pk, version, state in rows.iterator()}
    for batch in _batches(str(pk) for pk in sagas_):
        orders = models.Order.objects.filter(saga_id__in=[uuid.UUID(pk) for pk in batch]).annotate(
            **annotations
        )
        for pk, number, *rest in orders.values_list("saga_id", "number", *columns, *annotations):
            yield pk, number, *sagas_[pk], *rest


def _compensated_late(*, since: datetime.datetime) -> set[str]:
    """Orders of which a late callback is being undone, or was while we looked: they were not at rest."""
    late = Q(wake_at__isnull=False) | Q(compensated_at__gte=since)
    keys = sagas.Signal.objects.filter(late).values_list("step_key", flat=True)
    return {_order_of(key) for key in keys}


def _archived_events(numbers: Iterable[str]) -> Iterator[tuple[str, sagas.SagaInstance, sagas.Event]]:
    """What happened to those of these orders whose sagas are in the archive."""
    for batch in _batches(numbers):
        rows = models.Order.objects.filter(number__in=batch).values_list("saga_id", "number")
        numbered = dict(rows)
        live = sagas.SagaInstance.objects.filter(pk__in=numbered).values_list("pk", flat=True)
        for pk, found in reading.archived_in_bulk(numbered.keys() - set(live)).items():
            for event in found.events:
                yield numbered[pk], found.saga, event


def _answers(
    archived: Iterable[tuple[str, sagas.SagaInstance, sagas.Event]],
) -> dict[tuple[str, str], str]:
    """Who said, with which evidence, that an undo took effect outside our books; by order and room."""
    rooms = {name: _name(ROOMS[action]) for name, action in steps.actions().items() if action in ROOMS}
    # Of the undo, in so many words: that an action happened says nothing of the way back.
    said = (
        sagas.Event.objects.filter(
            kind="undo.done", subject__in=rooms, saga__order__cancelled_at__isnull=False
        )
        .exclude(actor="engine")
        .order_by("id")
    )
    live = said.values_list("saga__order__number", "subject", "actor", "reason")
    gone = [
        (number, event.subject, event.actor, event.reason)
        for number, saga_, event in archived
        if event.kind == "undo.done"
        and event.subject in rooms
        and event.actor != "engine"
        and saga_.state == states.SagaState.COMPENSATED
    ]
    return {
        (number, rooms[step]): f"{actor} answers for it: {reason}"
        for number, step, actor, reason in (*live, *gone)
    }


def _closings(archived: Iterable[tuple[str, sagas.SagaInstance, sagas.Event]]) -> dict[str, str]:
    """Who closed which order by hand, and with what words."""
    closed = sagas.Event.objects.filter(kind=models.CLOSING, saga__order__isnull=False).order_by("id")
    live = closed.values_list("saga__order__number", "actor", "reason")
    gone = [
        (number, event.actor, event.reason)
        for number, _saga, event in archived
        if event.kind == models.CLOSING
    ]
    return {
        number: f"{actor} closed it and answers for it: {reason}" for number, actor, reason in (*live, *gone)
    }


def _key(finding: Discrepancy) -> tuple[str, str]:
    return finding.about, finding.room


def _ends(ended: Mapping[str, _Ended]) -> Iterator[Discrepancy]:
    """What an ended order must come to: everything in effect, or nothing (T5, M1)."""
    for action, room in ROOMS.items():
        asked = {version: _names(action, version) for version in {order.version for order in ended.values()}}
        for batch in _batches(ended):
            keys = [f"{saga_id}.{name}" for saga_id in batch for name in steps.names(action)]
            positions = room.positions(keys=keys)
            absent = {key.partition(".")[0] for key in keys if not _in_effect(positions.get(key))}
            left_out = _left_out(pk for pk in absent if ended[pk].fulfilled)
            for saga_id in batch:
                order = ended[saga_id]
                for name in steps.names(action):
                    position = positions.get(f"{saga_id}.{name}")
                    wanted = name in asked[order.version] and (saga_id, name) not in left_out
                    for finding in _comes_to(order, room, position, asked=wanted):
                        yield Discrepancy(order.number, _name(room), finding)


def _names(action: StepFunction, version: int) -> list[str]:
    """Which steps of that version do this; none where its declaration is gone, for nobody knows then."""
    try:
        return steps.names(action, version=version)
    except errors.UnknownSaga:
        return []


def _left_out(saga_ids: Iterable[str]) -> set[tuple[str, str]]:
    """Which steps of these sagas were left out, so that nothing of them is in effect: by saga and name."""
    wanted = [uuid.UUID(pk) for pk in saga_ids]
    skipped = sagas.StepInstance.objects.filter(saga__in=wanted, state=states.StepState.SKIPPED)
    live = set(sagas.SagaInstance.objects.filter(pk__in=wanted).values_list("pk", flat=True))
    archived = reading.archived_in_bulk(set(wanted) - live).values()
    rows = [*skipped, *(step for found in archived for step in found.steps)]
    return {(str(row.saga_id), row.name) for row in rows if row.state == states.StepState.SKIPPED}


def _in_effect(position: Mapping[str, Any] | None) -> bool:
    return position is not None and bool(position["in_effect"])


def _comes_to(order: _Ended, room: Any, position: Mapping[str, Any] | None, *, asked: bool) -> Iterator[str]:
    if room is shipping and not order.parcels:
        if position is not None:
            yield f"Nothing of the order ships, and this is {position['status']}."
        return
    in_effect = _in_effect(position)
    if order.fulfilled and asked and not in_effect:
        yield "The order is fulfilled, and this is not in effect."
    if position is None:
        return
    if in_effect and not order.fulfilled:
        yield f"The order is {'closed' if order.closed else 'cancelled'}, and this is {position['status']}."
    if order.fulfilled:
        yield from _fulfils(order, room, position)


def _fulfils(order: _Ended, room: Any, position: Mapping[str, Any]) -> Iterator[str]:
    """Whether what is in effect is what was ordered."""
    if room is payments:
        kept = position["captured"] - position["refunded"]
        if (kept, position["currency"]) != (order.total, order.currency):
            yield f"It comes to {kept}, and the order to {order.total}."
    if room is invoicing and (position["amount"], position["currency"]) != (order.total, order.currency):
        yield f"It is made out for {position['amount']}, and the order comes to {order.total}."
    if room is inventory and position["status"] != "shipped":
        yield f"The order is fulfilled, and its goods are {position['status']}."
    if room is inventory and position["units"] != order.units:
        yield f"Its goods are {position['units']}, and {order.units} were ordered."


def _within(ended: Mapping[str, _Ended]) -> Iterator[Discrepancy]:
    """Where a room contradicts itself."""
    for room in ROOMS.values():
        for about, finding in room.within():
            yield _discrepancy(room, about, finding, ended)


def _against(books: Mapping[str, Any], ended: Mapping[str, _Ended]) -> Iterator[Discrepancy]:
    """Where a room contradicts its provider; all that a saga has there is looked at together."""
    actions = {room: action for action, room in ROOMS.items()}
    for name, room in BOOKS.items():
        theirs = collections.defaultdict(list)
        for row in books[name]:
            theirs[_saga_of(row["key"])].append(row)
        for batch in _batches({*ended, *theirs}):
            rows = [row for saga_id in batch for row in theirs.get(saga_id, ())]
            ours = steps.names(actions[room])
            keys = {f"{saga_id}.{step}" for saga_id in batch if saga_id in ended for step in ours}
            for about, finding in room.against(rows, keys=keys):
                yield _discrepancy(room, about, finding, ended)


def _batches(saga_ids: Iterable[str]) -> Iterator[list[str]]:
    rest = sorted(saga_ids)
    return (rest[start : start + BATCH] for start in range(0, len(rest), BATCH))


def _discrepancy(room: Any, about: str, finding: str, ended: Mapping[str, _Ended]) -> Discrepancy:
    order = ended.get(_saga_of(about))
    return Discrepancy(order.number if order else _order_of(about), _name(room), finding)


def _saga_of(key: str) -> str:
    return key.partition(".")[0]


def _order_of(key: str) -> str:
    """The number of the order whose step has this key; the key itself, where there is none."""
    return _number(key, saga_id=_saga_of(key))


def _name(room: Any) -> str:
    return str(room.__name__).partition(".")[0]


def _orders() -> Iterator[Discrepancy]:
    """Orders that say another end than their sagas, which ended in the same transaction."""
    completed = Q(saga__state=states.SagaState.COMPLETED)
    compensated = Q(saga__state=states.SagaState.COMPENSATED)
    put_aside = Q(saga__closed_at__isnull=False)
    wrong = models.Order.objects.exclude(
        (completed & Q(fulfilled_at__isnull=False, cancelled_at=None, closed_at=None))
        | (compensated & Q(fulfilled_at=None, cancelled_at__isnull=False, closed_at=None))
        | (put_aside & Q(fulfilled_at=None, cancelled_at=None, closed_at__isnull=False))
        | (~completed & ~compensated & ~put_aside & Q(fulfilled_at=None, cancelled_at=None, closed_at=None))
    )
    said = {
        states.SagaState.COMPLETED: (True, False, False),
        states.SagaState.COMPENSATED: (False, True, False),
        states.SagaState.NEEDS_ATTENTION: (False, False, True),
    }
    archived = [
        number
        for _pk, number, _version, state, *ends in _archived("fulfilled_at", "cancelled_at", "closed_at")
        if tuple(end is not None for end in ends) != said[states.SagaState(state)]
    ]
    for number in (*wrong.values_list("number", flat=True), *archived):
        yield Discrepancy(number, "orders", "It and its saga disagree on how it ended.")


def _sagas() -> Iterator[Discrepancy]:
    """Sagas that are not what their events say (A1), end half done (T5), or are looked after by nobody."""
    for key, finding in _of_sagas():
        yield Discrepancy(_number(key, pk=key), "sagas", finding)


def _of_sagas() -> Iterator[tuple[str, str]]:
    with connection.cursor() as cursor:
        cursor.execute(_FOLD)
        for key, subject, state, folded in cursor.fetchall():
            yield key, f"{subject or 'the saga'} is {state}, and its events say {folded}."
        name = saga.ORDER_FULFILMENT.name
        known = [step for version in registry.versions(name) for step in version.all_steps]
        remote = {step.name for step in known if step.remote}
        # An approval that was given stays given: there is nothing to undo.
        answers = {step.name for step in known if not step.has_worker}
        cursor.execute(_HALF_DONE, [name, sorted(answers), sorted(remote)])
        for key, name, state, saga_state in cursor.fetchall():
            yield key, f"It is {saga_state}, and its step {name} is {state}."
        cursor.execute(_UNATTENDED, {"s": UNATTENDED_S})
        for (key,) in cursor.fetchall():
            yield key, "Its time came long ago, and no sweep has looked at it."


def _number(otherwise: str, **of: str) -> str:
    """The number of the order with that id, its own or its saga's."""
    try:
        wanted = {name: uuid.UUID(value) for name, value in of.items()}
    except ValueError:
        return otherwise  # A key of another saga's, a SKU, an invoice's number.
    number: str | None = models.Order.objects.filter(**wanted).values_list("number", flat=True).first()
    return number or otherwise


# One statement each, hence one moment each: an event is written with what it tells of.
_FOLD = """
    WITH folded AS (
        SELECT DISTINCT ON (saga_id, subject) saga_id, subject, to_state
        FROM sagas_event WHERE to_state <> '' ORDER BY saga_id, subject, id DESC
    )
    SELECT g.key, '', g.state, coalesce(f.to_state, 'nothing')
    FROM sagas_saga g LEFT JOIN folded f ON f.saga_id = g.id AND f.subject = ''
    WHERE f.to_state IS DISTINCT FROM g.state
    UNION ALL
    SELECT g.key, s.name, s.state, coalesce(f.to_state, 'pending')
    FROM sagas_step s JOIN sagas_saga g ON g.id = s.saga_id
    LEFT JOIN folded f ON f.saga_id = s.saga_id AND f.subject = s.name
    WHERE coalesce(f.to_state, 'pending') <> s.state
"""
_HALF_DONE = """
    SELECT g.key, s.name, s.state, g.state FROM sagas_saga g JOIN sagas_step s ON s.saga_id = g.id
    WHERE g.name = %s AND (
        g.state = 'completed' AND s.state NOT IN ('done', 'skipped')
        OR g.state = 'compensated' AND NOT (
            s.state IN ('undone', 'skipped')
            OR s.name = ANY(%s) AND s.state IN ('done', 'failed')
            OR s.state = 'pending' AND s.attempts = 0
            -- A local action without facts was rolled back, and never happened.
            OR s.state IN ('pending', 'failed') AND s.name <> ALL(%s) AND s.facts IS NULL
        )
    )
"""
_UNATTENDED = """
    SELECT key FROM sagas_saga
    WHERE wake_at < clock_timestamp() - %(s)s * interval '1 second' AND held_at IS NULL AND closed_at IS NULL
    UNION
    SELECT g.key FROM sagas_step s JOIN sagas_saga g ON g.id = s.saga_id
    WHERE s.wake_at < clock_timestamp() - %(s)s * interval '1 second'
    AND g.held_at IS NULL AND g.closed_at IS NULL AND g.state IN ('running', 'compensating')
"""
