"""Whether everything adds up: orders, sagas, money, stock, invoices, shipments and the providers' books.

Safe on a live system: what is under way is left alone, except where it could not be right at any
moment. Whatever may still change is read in an order that cannot make a difference where there is none:
first which orders have ended, then the providers' books, then our own.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
from django.conf import settings
from django.db import connection
from django.db.models import F, Q

from inventory import audit as inventory
from invoicing import audit as invoicing
from orders import models, saga
from payments import audit as payments
from sagas import models as sagas
from sagas import states
from shipping import audit as shipping

ROOMS = {
    "take-payment": payments,
    "reserve-stock": inventory,
    "issue-invoice": invoicing,
    "deliver-order": shipping,
}
"""Whose books a step's key is in."""

BOOKS = {"charges": payments, "invoices": invoicing, "shipments": shipping}
"""Whose books the providers' can be held against."""

UNATTENDED_S = 120
"""A live saga whose time came so long ago has no sweeper that looks after it."""


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
    """Orders that have ended, whose every book was compared."""
    live: int
    """Orders under way, of which only their order of things was checked."""
    books: bool
    """Whether the providers' books could be read."""
    discrepancies: list[Discrepancy]


def run(books: Mapping[str, Any] | None = None) -> Report:
    """Compare everything.

    Arguments:
        books: the providers' books, as the sandbox gives them; read from SANDBOX_URL by default.

    Raises:
        httpx.HTTPError: SANDBOX_URL is set, and the books cannot be read there.
    """
    ended = _ended()
    live = models.Order.objects.filter(saga__finished_at=None).count()
    theirs = books if books is not None else read_books()
    numbers = {f"{saga_id}": number for saga_id, (number, _) in ended.items()}
    found = {
        *_sagas(),
        *_orders(),
        *_within(numbers),
        *_ends(ended),
        *(_against(theirs, numbers) if theirs is not None else ()),
    }
    return Report(ended=len(ended), live=live, books=theirs is not None, discrepancies=sorted(found))


def read_books() -> Mapping[str, Any] | None:
    """The providers' books, where they can be read: a sandbox shows them, a real bank sends reports."""
    if not settings.SANDBOX_URL:
        return None
    answer = httpx.get(f"{settings.SANDBOX_URL}/books", timeout=30, trust_env=False)
    answer.raise_for_status()
    books: Mapping[str, Any] = answer.json()
    return books


def _ended() -> dict[str, tuple[str, models.Order]]:
    """Orders whose saga has ended, by its id; without those of which a late callback is being remedied."""
    remedies = sagas.Signal.objects.filter(wake_at__isnull=False).values_list("step_key", flat=True)
    remedied = {key.partition(".")[0] for key in remedies}
    orders = models.Order.objects.filter(saga__finished_at__isnull=False).select_related("saga")
    return {
        str(order.saga_id): (order.number, order) for order in orders if str(order.saga_id) not in remedied
    }


def _ends(ended: Mapping[str, tuple[str, models.Order]]) -> Iterator[Discrepancy]:
    """What an ended order must come to: everything in effect, or nothing (T5, M1)."""
    for step, room in ROOMS.items():
        positions = room.positions(keys=[f"{saga_id}.{step}" for saga_id in ended])
        for saga_id, (number, order) in ended.items():
            position = positions.get(f"{saga_id}.{step}")
            fulfilled = order.status == models.Status.FULFILLED
            in_effect = position is not None and position["in_effect"]
            name = room.__name__.partition(".")[0]
            if fulfilled and not in_effect:
                yield Discrepancy(number, name, "The order is fulfilled, and this is not in effect.")
            if not fulfilled and in_effect:
                assert position is not None
                yield Discrepancy(number, name, f"The order is cancelled, and this is {position['status']}.")
            if room is payments and fulfilled and position is not None:
                kept = position["captured"] - position["refunded"]
                if kept != order.total_amount or position["currency"] != order.currency:
                    yield Discrepancy(
                        number, name, f"It comes to {kept}, and the order to {order.total_amount}."
                    )
            if room is inventory and fulfilled and position is not None and position["status"] != "shipped":
                yield Discrepancy(
                    number, name, f"The order is fulfilled, and its goods are {position['status']}."
                )


def _within(numbers: Mapping[str, str]) -> Iterator[Discrepancy]:
    """Where a room contradicts itself."""
    for room in ROOMS.values():
        for about, finding in room.within():
            yield _discrepancy(room, about, finding, numbers)


def _against(books: Mapping[str, Any], numbers: Mapping[str, str]) -> Iterator[Discrepancy]:
    """Where a room contradicts its provider."""
    steps = {room: step for step, room in ROOMS.items()}
    for name, room in BOOKS.items():
        keys = {f"{saga_id}.{steps[room]}" for saga_id in numbers}
        for about, finding in room.against(books[name], keys=keys):
            yield _discrepancy(room, about, finding, numbers)


def _discrepancy(room: Any, about: str, finding: str, numbers: Mapping[str, str]) -> Discrepancy:
    order = numbers.get(about.partition(".")[0], about)
    return Discrepancy(order, room.__name__.partition(".")[0], finding)


def _orders() -> Iterator[Discrepancy]:
    """Orders that say another end than their sagas, which ended in the same transaction."""
    completed = Q(saga__state=states.SagaState.COMPLETED)
    compensated = Q(saga__state=states.SagaState.COMPENSATED)
    wrong = models.Order.objects.exclude(
        (completed & Q(fulfilled_at__isnull=False, cancelled_at=None))
        | (compensated & Q(fulfilled_at=None, cancelled_at__isnull=False))
        | (~completed & ~compensated & Q(fulfilled_at=None, cancelled_at=None))
    )
    for number in wrong.values_list("number", flat=True):
        yield Discrepancy(number, "orders", "It and its saga disagree on how it ended.")


def _sagas() -> Iterator[Discrepancy]:
    """Sagas that are not what their events say (A1), end half done (T5), or are looked after by nobody."""
    with connection.cursor() as cursor:
        cursor.execute(_FOLD)
        for key, subject, state, folded in cursor.fetchall():
            what = subject or "the saga"
            yield Discrepancy(_number(key), "sagas", f"{what} is {state}, and its events say {folded}.")
        cursor.execute(_HALF_DONE, [saga.ORDER_FULFILMENT.name])
        for key, name, state, saga_state in cursor.fetchall():
            yield Discrepancy(_number(key), "sagas", f"It is {saga_state}, and its step {name} is {state}.")
        cursor.execute(_UNATTENDED, [UNATTENDED_S])
        for (key,) in cursor.fetchall():
            yield Discrepancy(_number(key), "sagas", "Its time came long ago, and no sweep has looked at it.")


def _number(saga_key: str) -> str:
    order = models.Order.objects.filter(pk=saga_key).values_list(F("number"), flat=True).first()
    return order or saga_key


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
        OR g.state = 'compensated' AND s.state NOT IN ('undone', 'pending', 'skipped')
        OR g.state = 'compensated' AND s.state = 'pending' AND s.attempts > 0
    )
"""
_UNATTENDED = """
    SELECT key FROM sagas_saga
    WHERE wake_at < clock_timestamp() - %s * interval '1 second' AND held_at IS NULL AND closed_at IS NULL
"""
