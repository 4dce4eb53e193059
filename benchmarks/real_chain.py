"""The shop's real verbs as a plain Celery chain: the floor of real orders.

The same functions of the same services, in tasks on the same queues, with the inputs in the messages. Nothing
is written down but what the services write themselves; what is lost is lost.
"""

from typing import Any

import celery

from inventory import services as inventory
from invoicing import services as invoicing
from payments import services as payments
from saga_project.celery import app
from shipping import services as shipping

UNDOS = {
    "deliver-order": shipping.recall,
    "issue-invoice": invoicing.cancel,
    "reserve-stock": inventory.release,
    "take-payment": payments.refund,
}
REFUSED = (payments.Refused, inventory.Refused, invoicing.Refused, shipping.Refused)

Json = dict[str, Any]


def start(order: str, inputs: Json) -> None:
    """Publish the chain of an order."""
    known = {"order": order, "inputs": inputs}
    links = [
        take_payment.si(**known).set(queue="payments"),
        reserve_stock.si(**known).set(queue="inventory"),
        issue_invoice.si(**known).set(queue="invoicing"),
        deliver_order.s(**known).set(queue="shipping"),
    ]
    celery.chain(*links).apply_async(link_error=[undo_all.si(order=order).set(queue="sagas")])


@app.task(name="chain.take-payment", ignore_result=True, throws=REFUSED)
def take_payment(*, order: str, inputs: Json) -> None:
    """Have the bank charge it."""
    wanted = {name: inputs[name] for name in ("customer", "payment", "total")}
    payments.charge(key=f"{order}.take-payment", **wanted)


@app.task(name="chain.reserve-stock", ignore_result=True, throws=REFUSED)
def reserve_stock(*, order: str, inputs: Json) -> None:
    """Reserve the goods."""
    inventory.reserve(key=f"{order}.reserve-stock", lines=inputs["lines"])


@app.task(name="chain.issue-invoice", ignore_result=True, throws=REFUSED)
def issue_invoice(*, order: str, inputs: Json) -> str:
    """Have the authority authorise the invoice; its access key goes to the next link."""
    wanted = {name: inputs[name] for name in ("customer", "lines", "total")}
    return str(invoicing.issue(key=f"{order}.issue-invoice", **wanted)["access_key"])


@app.task(name="chain.deliver-order", ignore_result=True, throws=REFUSED)
def deliver_order(access_key: str, *, order: str, inputs: Json) -> None:
    """Have the carrier book the parcel."""
    wanted = {name: inputs[name] for name in ("address", "lines")}
    shipping.dispatch(key=f"{order}.deliver-order", access_key=access_key, **wanted)


@app.task(name="chain.undo-all", ignore_result=True)
def undo_all(*, order: str) -> None:
    """The error callback: undo in reverse whatever may have happened."""
    links = [undo.si(order=order, step=step).set(queue="sagas") for step in UNDOS]
    celery.chain(*links).apply_async()


@app.task(name="chain.undo", ignore_result=True)
def undo(*, order: str, step: str) -> None:
    """Undo one of them."""
    UNDOS[step](key=f"{order}.{step}")
