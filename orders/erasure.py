"""A customer's data is struck out of their orders, on request (LGPD, art. 18, VI): by two people, for good.

1. `find` finds a customer's orders by tax id or e-mail; `look` says which can be erased, and what is kept.
2. `ask` writes the request down: the orders' ids, and of the customer a keyed hash. Nothing is done yet.
3. `agree`: a second person's word, always. From then on `drive` strikes order by order, each in a
   transaction of its own: the order's row, its saga wherever that is, and what the services, the API and the
   webhooks keep of it. Whatever interrupts it, the next run goes on with the orders that are left.

4. That the customer was flagged goes with the first of their orders.
5. An order that was erased may be erased again: then what came since goes, such as what a late callback told.
6. What the tax law has us keep stays (LGPD, art. 16, I) until its term is over: then `strike_kept` takes it.

An order that is not over is refused: its saga still needs to know where the parcel goes. docs/retention.md
names all that is struck out and all that is kept.
"""

import contextlib
import dataclasses
import datetime
import logging
import re
import secrets
import uuid
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from django.conf import settings
from django.contrib.admin.models import LogEntry
from django.db import transaction
from django.db.models import Q
from django.utils import crypto
from django.utils.translation import gettext as _

from api import idempotency
from invoicing import services as invoicing
from orders import errors, models, steps, tax_ids
from orders.models import ErasureState
from payments import services as payments
from sagas import engine
from sagas import errors as saga_errors
from sagas import models as saga_models
from shipping import services as shipping

logger = logging.getLogger(__name__)

ORDERS_AT_ONCE = 100
"""Orders of one run: some seconds."""

MARKED = ("customer_name", "recipient", "street", "street_number", "city")
"""Columns of an order in which the mark stands then."""

EMPTIED = ("customer_email", "customer_tax_id", "complement", "district", "postal_code")
"""Columns that have no room for it. The state stays, a region of millions, and so does the country."""

Striker = Callable[[models.Order, engine.Values], object]

_strikers: list[Striker] = []


def strike_too(striker: Striker) -> None:
    """Have another app strike what it keeps of an order, in the transaction in which that is erased."""
    if striker not in _strikers:
        _strikers.append(striker)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Look:
    """What an erasure of some orders would come to."""

    erasable: Sequence[models.Order]
    refused: Sequence[tuple[models.Order, str]]
    """Those that cannot be erased yet, each with the reason."""

    kept: dict[str, datetime.date]
    """Fiscal documents that keep the customer's tax id, by key, and until when."""

    flagged: bool
    """Whether the customer's orders are looked at before they are paid: that is forgotten, too."""


# --- Whose orders ----------------------------------------------------------------------------------


def find(customer: str) -> list[models.Order]:
    """The orders of whoever has that CPF, CNPJ or e-mail address, the oldest first.

    Erased ones are nobody's, but for what was asked of us for that customer: these are found again.

    Raises:
        NoCustomer: it is neither.
    """
    return _orders_of(_identifier(customer))


def of_same_customer(chosen: Iterable[models.Order]) -> tuple[str, list[models.Order]]:
    """The customer whom these orders have in common, and all orders of theirs.

    Raises:
        NoCustomer: they are several customers', or erased already.
    """
    customers = {order.customer_tax_id for order in chosen}
    if len(customers) != 1 or "" in customers:
        raise errors.NoCustomer(_("Choose orders of one customer, and none that was erased already."))
    (customer,) = customers
    return customer, _orders_of(customer)


def related(orders: Sequence[models.Order]) -> int:
    """How many more orders have an e-mail address or a tax id of these: they may be the same person's."""
    named = Q(customer_tax_id__in={order.customer_tax_id for order in orders})
    for email in {order.customer_email.lower() for order in orders}:
        named |= Q(customer_email__iexact=email)
    found = models.Order.objects.filter(named, erased_at=None)
    return found.exclude(pk__in=[order.pk for order in orders]).count()


def look(orders: Sequence[models.Order]) -> Look:
    """What can be erased of these orders, what cannot yet, and what would be kept."""
    why = engine.why_not_struck([order.saga_id for order in orders])
    erasable = [order for order in orders if order.saga_id not in why]
    keys = [key for order in erasable for key in _keys(order)]
    return Look(
        erasable=erasable,
        refused=[(order, why[order.saga_id]) for order in orders if order.saga_id in why],
        kept=invoicing.kept_until(keys=keys),
        flagged=models.FlaggedCustomer.objects.filter(
            tax_id__in={order.customer_tax_id for order in erasable}
        ).exists(),
    )


def _identifier(customer: str) -> str:
    """As orders have it: a tax id without punctuation, an address in small letters."""
    if "@" in customer:
        return customer.strip().lower()
    if tax_id := tax_ids.tax_id(customer):
        return tax_id
    raise errors.NoCustomer(_("Name the customer by CPF, CNPJ or e-mail address, as the orders do."))


def _orders_of(identifier: str) -> list[models.Order]:
    named = Q(customer_email__iexact=identifier) if "@" in identifier else Q(customer_tax_id=identifier)
    done = [earlier for earlier in _about(identifier) if earlier.state == ErasureState.DONE]
    erased = Q(pk__in={pk for earlier in done for pk in earlier.order_ids})
    return list(models.Order.objects.filter(Q(named, erased_at=None) | erased).order_by("id"))


# --- Two people ------------------------------------------------------------------------------------


def ask(*, customer: str, orders: Sequence[models.Order], actor: str, reason: str) -> models.Erasure:
    """Ask, as the first person, that these orders be erased, which are this customer's.

    Raises:
        NoCustomer: the customer is named by nothing that orders know.
        NotErasable: none of them can be, or the reason names the customer, or is missing.
    """
    identifier, reason = _identifier(customer), reason.strip()
    erasable = look(orders).erasable
    if not erasable:
        raise errors.NotErasable(_("There is no order of theirs that can be erased."))
    written = identifier if "@" in identifier else _punctuated(identifier)
    who = [engine.Values([identifier, written]), *map(values_of, erasable)]
    if not reason or any(values.stand_in(reason) for values in who):
        raise errors.NotErasable(
            _("Give the number of the request as the reason, and not the customer's data.")
        )
    salt = secrets.token_hex(16)
    return models.Erasure.objects.create(
        reason=reason[:200],
        order_ids=[str(order.pk) for order in erasable],
        customer_salt=salt,
        customer_digest=_digest(salt, identifier),
        asked_by=actor,
    )


@transaction.atomic
def agree(erasure_id: uuid.UUID, *, actor: str) -> models.Erasure:
    """Agree, as the second person; it is done by `drive`. It cannot be taken back.

    Raises:
        NotErasable: it is decided already, or the same person asked for it.
    """
    erasure = _undecided(erasure_id)
    if erasure.asked_by == actor:
        raise errors.NotErasable(_("A second person must agree: you asked for it yourself."))
    return _decide(erasure, ErasureState.APPROVED, actor)


@transaction.atomic
def refuse(erasure_id: uuid.UUID, *, actor: str) -> models.Erasure:
    """Refuse it, or take one's own request back.

    Raises:
        NotErasable: it is decided already.
    """
    return _decide(_undecided(erasure_id), ErasureState.REFUSED, actor)


def about(customer: str) -> list[models.Erasure]:
    """The requests that were made for this customer, the newest first; every one is held against the hash.

    Raises:
        NoCustomer: it is neither a tax id nor an e-mail address.
    """
    return _about(_identifier(customer))


def _about(identifier: str) -> list[models.Erasure]:
    return [
        erasure
        for erasure in models.Erasure.objects.order_by("-id").iterator()
        if crypto.constant_time_compare(erasure.customer_digest, _digest(erasure.customer_salt, identifier))
    ]


def _undecided(erasure_id: uuid.UUID) -> models.Erasure:
    erasure = models.Erasure.objects.select_for_update().get(pk=erasure_id)
    if erasure.state != ErasureState.ASKED:
        raise errors.NotErasable(_("That is decided already."))
    return erasure


def _decide(erasure: models.Erasure, state: ErasureState, actor: str) -> models.Erasure:
    erasure.state, erasure.decided_by = state, actor
    erasure.decided_at = saga_models.database_now()
    erasure.save(update_fields=["state", "decided_by", "decided_at"])
    return erasure


def _digest(salt: str, identifier: str) -> str:
    """Keyed with SECRET_KEY: of tax ids there are so few that all could be tried against a mere hash."""
    return crypto.salted_hmac(f"orders.erasure.{salt}", identifier, algorithm="sha256").hexdigest()


# --- Striking --------------------------------------------------------------------------------------


Swept = set[tuple[str, ...]]
"""By what people were looked for outside their orders, in one run: once for all orders of one person."""


def drive(limit: int = ORDERS_AT_ONCE) -> int:
    """Strike what was agreed to, as far as it goes; how many orders that was. Any number may run at once."""
    done, swept = 0, Swept()
    for erasure in models.Erasure.objects.filter(state=ErasureState.APPROVED).order_by("id"):
        # What was erased before it was asked for again is to be, and what is once it is done is not.
        undone = Q(erased_at=None) | Q(erased_at__lt=erasure.asked_at)
        left = models.Order.objects.filter(undone, pk__in=erasure.order_ids).order_by("id")
        for order_id in list(left.values_list("pk", flat=True)[: max(0, limit - done)]):
            done += _strike(order_id, swept)
        if not left.exists():
            _finish(erasure.pk)
    return done


def _strike(order_id: uuid.UUID, swept: Swept) -> bool:
    """Erase one order, in one transaction; whether it was. What cannot be now is left for the next run."""
    try:
        with transaction.atomic():
            order = models.Order.objects.get(pk=order_id)
            if erased := _erase(order):
                _strike_elsewhere(order, swept)
    except saga_errors.NotAllowed as refusal:
        logger.warning("order %s cannot be erased now: %s", order_id, refusal)
    except Exception:
        # One must not keep the others waiting; whoever agreed sees that it is not done.
        logger.exception("order %s could not be erased", order_id)
    else:
        return erased
    return False


def _erase(order: models.Order) -> bool:
    """Strike it everywhere. Locks are taken as by callbacks: the services' rows, the saga, the order.

    Of one that was erased before nobody knows any more whom a text names: what providers told goes whole.
    """
    values, keys = values_of(order), _keys(order)
    again = order.erased_at is not None
    for service in (payments, shipping, invoicing):
        service.strike(keys=keys, names=_is_words if again else values.stand_in, mark=engine.STRUCK)
    # Where the saga was forgotten, with the archive of its month, there is nothing to strike any more.
    with contextlib.suppress(saga_errors.NotFound):
        engine.strike(order.saga_id, values=values, callbacks_whole=again)
    if models.Order.objects.select_for_update().get(pk=order.pk).erased_at != order.erased_at:
        return False  # By another run, meanwhile.
    if saga_models.database_now() - order.created_at < 2 * settings.IDEMPOTENCY_KEYS_LIVE:
        # Otherwise that answer is long forgotten.
        idempotency.strike(owner=order.owner_id, about=str(order.pk), rewrite=values.struck)
    for striker in _strikers:
        striker(order, values)
    models.FlaggedCustomer.objects.filter(tax_id=order.customer_tax_id).delete()
    _strike_row(order, values, _kept_until(keys))
    return True


def _kept_until(keys: Iterable[str]) -> datetime.date | None:
    """From when on the next thing that is kept may be struck out; None where nothing is kept."""
    return min(invoicing.kept_until(keys=keys).values(), default=None)


def _strike_row(order: models.Order, values: engine.Values, kept_until: datetime.date | None) -> None:
    struck: dict[str, Any] = dict.fromkeys(MARKED, engine.STRUCK) | dict.fromkeys(EMPTIED, "")
    struck |= {column: values.struck(getattr(order, column)) for column in ("reference", "cancel_reason")}
    struck |= {"erased_at": saga_models.database_now(), "kept_until": kept_until}
    models.Order.objects.filter(pk=order.pk).update(**struck)


def _strike_elsewhere(order: models.Order, swept: Swept) -> None:
    """What is of no order: only by what is nobody else's, and not by a street or the words of a name."""
    texts = _identifying(order)
    if not any(texts) or tuple(texts) in swept:
        return
    values = engine.Values(texts)
    engine.strike_elsewhere(values)
    engine.strike_columns(LogEntry.objects.all(), ["object_repr", "change_message"], values)
    swept.add(tuple(texts))


@transaction.atomic
def strike_kept(*, limit: int) -> int:
    """Strike what was kept of erased orders, and is kept no longer: the tax id on their invoices.

    It waits for nobody. An order of which somebody holds an invoice is left for the next run.

    Arguments:
        limit: how many orders at most, those first whose term was over first.

    Returns:
        Of how many orders it was struck out.
    """
    today = invoicing.today()
    over = models.Order.objects.filter(kept_until__lte=today).order_by("kept_until").only("saga_id")
    orders = list(over.select_for_update(skip_locked=True)[:limit])
    names = [name for name, action in steps.actions().items() if action is invoicing.issue]
    keys = [f"{order.saga_id}.{name}" for order in orders for name in names]
    invoicing.strike_expired(keys=keys)
    still: dict[str, datetime.date] = {}
    for key, until in invoicing.kept_until(keys=keys).items():
        saga_id = key.partition(".")[0]  # With which the key of a document begins.
        still[saga_id] = min(until, still.get(saga_id, until))
    moved: dict[datetime.date | None, list[uuid.UUID]] = {}
    for order in orders:
        next_ = still.get(str(order.saga_id))
        if next_ is None or next_ > today:
            moved.setdefault(next_, []).append(order.pk)
    for next_, ids in moved.items():
        models.Order.objects.filter(pk__in=ids).update(kept_until=next_)
    return sum(map(len, moved.values()))


@transaction.atomic
def _finish(erasure_id: uuid.UUID) -> None:
    under_way = models.Erasure.objects.select_for_update().filter(state=ErasureState.APPROVED, pk=erasure_id)
    if under_way.update(state=ErasureState.DONE, done_at=saga_models.database_now()):
        logger.info("erasure %s is done", erasure_id)


def _keys(order: models.Order) -> list[str]:
    """By which the services know what they did for it, in whatever version of its saga."""
    return [f"{order.saga_id}.{name}" for name in steps.actions()]


# --- What to look for ------------------------------------------------------------------------------


def values_of(order: models.Order) -> engine.Values:
    """The texts by which the customer is found in what was written about this order.

    A city or a house's number is nobody's by itself, and would be found everywhere: they go where they stand
    under their names. What the customer wrote as the reason for cancelling goes wherever it was copied to.
    """
    texts = [*_identifying(order), order.street, order.cancel_reason]
    postal_code = order.postal_code
    texts += [postal_code, postal_code.replace("-", "")]
    texts = [text for text in texts if text != engine.STRUCK]
    return engine.Values(texts, words=_words(f"{order.customer_name} {order.recipient}"))


def _identifying(order: models.Order) -> list[str]:
    tax_id = order.customer_tax_id
    texts = [order.customer_name, order.customer_email, order.recipient, tax_id, _punctuated(tax_id)]
    return [text for text in texts if text != engine.STRUCK]


def _is_words(text: str) -> bool:
    """And no code of a provider's."""
    return " " in text


def _words(name: str) -> list[str]:
    return [] if engine.STRUCK in name else re.findall(r"\w+", name)


def _punctuated(tax_id: str) -> str:
    """As people write it: 529.982.247-25, or 11.222.333/0001-81."""
    if len(tax_id) == 11:
        return f"{tax_id[:3]}.{tax_id[3:6]}.{tax_id[6:9]}-{tax_id[9:]}"
    return f"{tax_id[:2]}.{tax_id[2:5]}.{tax_id[5:8]}/{tax_id[8:12]}-{tax_id[12:]}" if tax_id else ""
