"""What the saga console shows of an order: whom it is about, and what it did to money, stock and parcels."""

import dataclasses
import itertools
import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from django.db.models import Q, QuerySet, Sum
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from backoffice import money
from inventory import models as inventory
from invoicing import models as invoicing
from orders import customer_messages, models
from payments import models as payments
from sagas.console import marks, panels
from sagas.declaration.states import SagaState
from sagas.models import SagaInstance, StepInstance
from shipping import models as shipping

FOUND_AT_MOST = 200
"""By customer, the newest; a wholesaler's thousandth order is found by its number."""


_PROVIDERS_CODE = re.compile(r"[A-Z]+ (\w+): [\d#]+ (\w+)")
"""What `providers.client` makes of a provider's no: what was asked for, and the code that came back."""

_MEANINGS = {
    "card_declined": gettext_lazy("The bank declined the card."),
    "unknown_token": gettext_lazy("The bank does not know the card."),
    "refund_refused": gettext_lazy("The bank refused to give the money back."),
    "refund_exceeds_capture": gettext_lazy("More was to be given back than was taken."),
    "rejected": gettext_lazy("The fiscal authority rejected the invoice."),
    "duplicate_number": gettext_lazy("The invoice's number was used already."),
    "number_voided": gettext_lazy("The invoice's number was declared void."),
    "window_closed": gettext_lazy("It is too late to cancel the invoice."),
    "goods_in_circulation": gettext_lazy("The goods have left, so the invoice cannot be cancelled."),
    "booking_refused": gettext_lazy("The carrier does not deliver there."),
    "delivered": gettext_lazy("The parcel was delivered already."),
    "voided": gettext_lazy("It was undone before it was done."),
    "unavailable": gettext_lazy("The provider is not available."),
}


_MISMATCH = re.compile(r"The (bank|fiscal authority|carrier) tells something else than was asked: (.+)\.")
_INSTEAD_OF = re.compile(r"(\w+) (\S+) instead of ([^\s,]+)")
_DIFFERENCES = re.compile(rf"{_INSTEAD_OF.pattern}(?:, {_INSTEAD_OF.pattern})*")
"""What a service makes of a provider's word that is not what was asked: each member with both figures."""

_WHO_TELLS = {
    "bank": gettext_lazy("The bank tells something else than was asked: %(differences)s."),
    "fiscal authority": gettext_lazy(
        "The fiscal authority tells something else than was asked: %(differences)s."
    ),
    "carrier": gettext_lazy("The carrier tells something else than was asked: %(differences)s."),
}


_MEMBERS = {
    "amount": gettext_lazy("amount"),
    "captured": gettext_lazy("captured"),
    "refunded": gettext_lazy("refunded"),
    "total": gettext_lazy("total"),
    "currency": gettext_lazy("currency"),
    "parcels": gettext_lazy("parcels"),
}
"""What a service's members are called in the viewer's language."""

_IN_MINOR_UNITS = {"amount", "captured", "refunded", "total"}
"""Members that are money: rows keep minor units, and nobody is to take 7580 centavos for so many reais."""


def _instead_of(found: re.Match[str]) -> str:
    name, told, asked = found.groups()
    if name in _IN_MINOR_UNITS:
        told, asked = (money.figure(one) if one.isdecimal() else one for one in (told, asked))
    word = _MEMBERS.get(name, name)
    return _("%(name)s %(told)s instead of %(asked)s") % {"name": word, "told": told, "asked": asked}


def _differences(text: str) -> str:
    """What a provider's word differs in, each member with both figures, money in major units."""
    return _INSTEAD_OF.sub(_instead_of, text)


def meaning(message: str) -> str:
    """A provider's message in words, with what it was behind them; empty where nobody knows it."""
    if differs := _MISMATCH.fullmatch(message):
        return _WHO_TELLS[differs[1]] % {"differences": _differences(differs[2])}
    if _DIFFERENCES.fullmatch(message):
        return _differences(message)
    found = _PROVIDERS_CODE.fullmatch(message)
    if found is None or found[2] not in _MEANINGS:
        return ""
    return f"{str(_MEANINGS[found[2]]).removesuffix('.')} ({message})."


_STATUSES = {
    models.Status.PENDING: gettext_lazy("Pending"),
    models.Status.FULFILLED: gettext_lazy("Fulfilled"),
    models.Status.CANCELLING: gettext_lazy("Cancelling"),
    models.Status.CANCELLED: gettext_lazy("Cancelled"),
    models.Status.ATTENTION: gettext_lazy("Needs attention"),
    models.Status.CLOSED: gettext_lazy("Closed"),
}

assert set(_STATUSES) == set(models.Status), "an order status without its word"


class Orders:
    """The subjects of the saga `order-fulfilment`."""

    def describe(self, saga_ids: Iterable[uuid.UUID]) -> Mapping[uuid.UUID, panels.Subject]:
        """The order of each saga, in one statement."""
        orders = models.Order.objects.filter(saga_id__in=list(saga_ids)).only(
            "saga_id", "number", "customer_name", "total_amount", "currency"
        )
        return {
            order.saga_id: panels.Subject(
                text=_("Order %(number)s") % {"number": order.number},
                url=reverse("admin:orders_order_change", args=[order.pk]),
                who=order.customer_name,
                amount=money.written(order.total_amount, order.currency),
                id=order.pk,
                number=order.number,
            )
            for order in orders
        }

    def search(self, term: str) -> Iterable[uuid.UUID]:
        """By order number, customer, tax id, reference, and what the providers call it: all by index."""
        digits = re.sub(r"\D", "", term)
        conditions = [
            Q(number=term.upper()),
            Q(customer_name__istartswith=term),
            Q(customer_email__iexact=term),
        ]
        if len(digits) in (11, 14):
            conditions.append(Q(customer_tax_id=digits))
        found: set[uuid.UUID] = set()
        for condition in conditions:
            # One by one: of all of them in one condition PostgreSQL may make a scan of the whole table.
            orders = models.Order.objects.filter(condition).order_by("-id").values_list("saga_id", flat=True)
            found.update(orders[:FOUND_AT_MOST])
        keys = [
            *payments.Payment.objects.filter(provider_ref=term).values_list("key", flat=True)[:10],
            *shipping.Shipment.objects.filter(tracking=term).values_list("key", flat=True)[:10],
        ]
        if len(digits) == 44:
            keys += invoicing.Invoice.objects.filter(access_key=digits).values_list("key", flat=True)[:10]
        return found | {uuid.UUID(key.partition(".")[0]) for key in keys if _is_ours(key)}

    def numbered(self, number: str) -> QuerySet[models.Order, uuid.UUID]:
        """The saga of the order with this number."""
        return models.Order.objects.filter(number=number.upper()).values_list("saga_id", flat=True)

    def amounting(self, least: int, most: int | None) -> QuerySet[models.Order, uuid.UUID]:
        """The sagas of orders of at least, and less than, so many centavos."""
        orders = models.Order.objects.filter(total_amount__gte=least)
        if most is not None:
            orders = orders.filter(total_amount__lt=most)
        return orders.values_list("saga_id", flat=True)

    def amounts(self, saga_id: Any) -> QuerySet[models.Order, int]:
        """What the order of the saga comes to, in centavos."""
        return models.Order.objects.filter(saga_id=saga_id).values_list("total_amount", flat=True)

    def panels(self, saga: SagaInstance, answers: Mapping[str, panels.Answer]) -> Iterable[panels.Panel]:
        """Money, stock, invoice and delivery, each with its net position, and who answers for it."""
        # Each service is asked for the keys of all steps, and knows its own: no list of names is needed,
        # and nothing of a saga whose declaration is gone is lost.
        steps: Iterable[StepInstance] = saga.steps.all()  # type: ignore[arg-type]
        named = {step.key: step.name for step in steps}
        keys = list(named)
        held = (
            _money(keys, closed=saga.closed_at is not None),
            _stock(keys),
            _invoice(keys),
            _delivery(keys),
        )
        for key, panel in itertools.chain(*held):
            answer = answers.get(named[key])
            yield panel if answer is None else _answered(panel, answer)

    def label(self, step: str) -> str:
        """What people call a step, in the viewer's language; empty where nobody has said it."""
        return customer_messages.label(step)

    def awaits(self, step: str) -> str:
        """For whose word a step waits once it has begun, in the viewer's language."""
        return customer_messages.awaited(step)

    def status(self, state: str) -> str:
        """How the order stands when its saga is in that state, or put aside (`closed`)."""
        status = models.Status.CLOSED if state == "closed" else models.STATUS_OF[SagaState(state)]
        return _("order “%(status)s”") % {"status": _STATUSES[status]}

    def consequences(
        self, saga: SagaInstance, intervention: str, step: StepInstance, turns_back: bool
    ) -> Iterable[str]:
        """What becomes of the money that is held."""
        steps: Iterable[StepInstance] = saga.steps.all()  # type: ignore[arg-type]
        for payment in payments.Payment.objects.filter(key__in=[row.key for row in steps]).order_by("pk"):
            net = payment.captured - payment.refunded
            amount = {
                "amount": money.written(net, payment.held_in),
                "asked": money.written(payment.amount, payment.currency),
            }
            if intervention == "happened" and not turns_back and payment.key == step.key:
                all_of_it = amount["amount"] == amount["asked"]
                text = (
                    _("%(asked)s counts as paid, and our books have all of it.")
                    if all_of_it
                    else _(
                        "%(asked)s counts as paid. Our books have %(amount)s: "
                        "your evidence stands for the rest."
                    )
                )
                yield text % amount
            if net <= 0:
                continue
            if intervention == "close":
                yield _("%(amount)s stays as it is: nobody returns it any more.") % amount
            elif intervention == "happened" and turns_back and payment.key == step.key:
                yield (
                    _(
                        "%(amount)s counts as returned to the customer. Our books get no refund for it: your "
                        "evidence is what stands for it."
                    )
                    % amount
                )
            elif turns_back and intervention not in ("hold", "release", "extend"):
                yield _("%(amount)s goes back to the customer.") % amount

    def total(self, saga_ids: Sequence[uuid.UUID]) -> str:
        """How much the orders of these sagas are worth, by currency."""
        orders = models.Order.objects.filter(saga_id__in=saga_ids)
        sums = orders.values_list("currency").annotate(Sum("total_amount")).order_by("currency")
        return " + ".join(money.written(amount, currency) for currency, amount in sums)


def _answered(panel: panels.Panel, answer: panels.Answer) -> panels.Panel:
    """The panel of a step for which a person answers: our books may know nothing of what was done."""
    reached = "undone" if answer.undo else "good"
    if answer.what != "happened" or panel.tone == reached:
        net, tone = panel.net, panel.tone
    else:
        words = (
            _("Undone outside our books, says %(actor)s")
            if answer.undo
            else _("Done outside our books, says %(actor)s")
        )
        net, tone = words % {"actor": answer.actor}, reached
    said = panels.Entry(label=_("who answers for it"), value=f"{answer.actor}: {answer.reason}")
    return dataclasses.replace(panel, net=net, tone=tone, entries=[said, *panel.entries])


def _is_ours(key: str) -> bool:
    try:
        uuid.UUID(key.partition(".")[0])
    except ValueError:
        return False
    return True


def _entries(*pairs: tuple[str, Any]) -> Sequence[panels.Entry]:
    return [panels.Entry(label=label, value=value) for label, value in pairs if value not in (None, "")]


Held = Iterable[tuple[str, panels.Panel]]
"""What a service holds, by the key of the step that it is of."""


def _money(keys: Sequence[str], *, closed: bool) -> Held:
    rows = payments.Payment.objects.filter(key__in=keys).prefetch_related("operations")
    return [(row.key, _of_payment(row, closed)) for row in rows.order_by("pk")]


def _of_payment(payment: payments.Payment, closed: bool) -> panels.Panel:
    net = payment.captured - payment.refunded
    if net > 0 and closed:
        words, tone = _("%(amount)s with us, and nobody returns it any more: it was put aside"), "warning"
    elif net > 0 and payment.undo_requested_at:
        words, tone = _("%(amount)s still to be returned"), "warning"
    elif net > 0:
        words, tone = _("%(amount)s with us"), "attention" if payment.mismatch else "good"
    elif payment.refunded:
        words, tone = _("Nothing with us: %(refunded)s returned"), "undone"
    elif payment.status == payments.Status.PENDING:
        words, tone = _("Nothing yet: %(asked)s asked for"), "waiting"
    else:
        words, tone = _("Nothing with us"), "plain"
    amounts = {
        "amount": money.written(net, payment.held_in),
        "refunded": money.written(payment.refunded, payment.held_in),
        "asked": money.written(payment.amount, payment.currency),
    }
    return panels.Panel(
        title=_("Money"),
        net=words % amounts,
        tone=tone,
        at_stake=net > 0,
        url=reverse("admin:payments_payment_change", args=[payment.pk]),
        entries=_entries(
            (_("status"), payment.get_status_display()),
            (_("asked"), amounts["asked"]),
            (_("captured"), money.written(payment.captured, payment.held_in)),
            (_("refunded"), amounts["refunded"]),
            (_("method"), payment.get_method_display()),
            (_("reference"), payment.provider_ref),
            (_("mismatch"), _differences(payment.mismatch)),
            (_("refusal"), payment.refusal),
        ),
        heads=(_("When"), _("What"), _("Amount"), _("How we know")),
        lines=[
            (marks.moment(line.at), line.get_kind_display(), money.written(line.amount, payment.held_in),
             _learned(line.source))
            for line in payment.operations.all()
        ],
    )  # fmt: skip


def _stock(keys: Sequence[str]) -> Held:
    rows = inventory.Reservation.objects.filter(key__in=keys).prefetch_related("movements")
    return [(row.key, _of_reservation(row)) for row in rows.order_by("pk")]


def _of_reservation(reservation: inventory.Reservation) -> panels.Panel:
    held: dict[str, int] = {}
    signs = {inventory.Kind.RESERVED: 1, inventory.Kind.RELEASED: -1, inventory.Kind.SHIPPED: -1}
    movements = list(reservation.movements.all())
    for movement in movements:
        sign = signs.get(inventory.Kind(movement.kind), 0)
        held[movement.product_id] = held.get(movement.product_id, 0) + sign * movement.quantity
    units = sum(held.values())
    shipped = reservation.status == inventory.Status.SHIPPED
    return panels.Panel(
        title=_("Stock"),
        net=_("%(units)s units reserved") % {"units": units}
        if units
        else (_("Nothing reserved: shipped") if shipped else _("Nothing reserved")),
        tone="good" if units or shipped else "undone",
        url=reverse("admin:inventory_reservation_change", args=[reservation.pk]),
        entries=_entries((_("status"), reservation.get_status_display())),
        heads=(_("When"), _("What"), _("Product"), _("Units")),
        lines=[(marks.moment(m.at), m.get_kind_display(), m.product_id, m.quantity) for m in movements],
    )


def _invoice(keys: Sequence[str]) -> Held:
    every = [key for one in keys for key in (one, f"{one}.return")]
    rows = list(invoicing.Invoice.objects.filter(key__in=every).order_by("id"))
    documents = {key: [row for row in rows if row.key in (key, f"{key}.return")] for key in keys}
    return [(key, _of_invoice(found)) for key, found in documents.items() if found]


def _of_invoice(invoices: Sequence[invoicing.Invoice]) -> panels.Panel:
    sale = invoices[0]
    undone = sale.status in invoicing.UNDONE
    valid = sale.status == invoicing.Status.AUTHORIZED
    return panels.Panel(
        title=_("Invoice"),
        net=_("Valid") if valid else sale.get_status_display(),
        tone=_tone(sale.mismatch, undone=undone, bad=not valid),
        url=reverse("admin:invoicing_invoice_change", args=[sale.pk]),
        entries=_entries(
            (_("series, number"), f"{sale.series_id} / {sale.number}" if sale.number else ""),
            (_("access key"), sale.access_key),
            (_("protocol"), sale.protocol),
            (_("mismatch"), _differences(sale.mismatch)),
            (_("authorised"), marks.moment(sale.authorized_at) if sale.authorized_at else ""),
            (_("goods left"), marks.moment(sale.goods_left_at) if sale.goods_left_at else ""),
            (_("refusal"), sale.refusal),
        ),
        heads=(_("Document"), _("Number"), _("Status")),
        lines=[
            (i.get_kind_display(), f"{i.series_id} / {i.number}", i.get_status_display()) for i in invoices
        ],
    )


def _learned(source: str) -> str:
    """How a service learned of it, in words; of a callback also the provider's id of it."""
    words = {
        "charge": _("answer to the charge"), "refund": _("answer to the refund"),
        "dispatch": _("answer to the booking"), "recall": _("answer to the recall"),
        "ask": _("we asked"),
    }  # fmt: skip
    return words.get(source, source)


def _tone(mismatch: str, *, undone: bool, bad: bool) -> str:
    """The colour of a document or a parcel: what came to something else than was asked is never good."""
    if undone:
        return "undone"
    return "attention" if mismatch else "warning" if bad else "good"


def _delivery(keys: Sequence[str]) -> Held:
    rows = shipping.Shipment.objects.filter(key__in=keys).prefetch_related("tracking_events")
    return [(row.key, _of_shipment(row)) for row in rows.order_by("pk")]


def _of_shipment(shipment: shipping.Shipment) -> panels.Panel:
    undone = shipment.status in shipping.UNDONE
    bad = shipment.status in (shipping.Status.FAILED, shipping.Status.REFUSED)
    return panels.Panel(
        title=_("Delivery"),
        net=shipment.get_status_display(),
        tone=_tone(shipment.mismatch, undone=undone, bad=bad),
        url=reverse("admin:shipping_shipment_change", args=[shipment.pk]),
        entries=_entries(
            (_("tracking"), shipment.tracking),
            (_("parcels"), shipment.parcels),
            (_("mismatch"), _differences(shipment.mismatch)),
            (_("refusal"), shipment.refusal),
        ),
        heads=(_("When"), _("Where it was"), _("How we know")),
        lines=[
            (marks.moment(event.occurred_at), event.get_status_display(), _learned(event.source))
            for event in shipment.tracking_events.all()
        ],
    )
