"""Fulfilling an order: four services, one outcome.

Read down for what is done, up for how it is undone. Anything that fails, down to the delivery itself,
turns the whole order back: the parcel is recalled, the invoice cancelled, the stock released, and the
money returned. Whether an order is risky, and whether anything of it ships, is said when it is placed.
"""

from django.conf import settings

from inventory import services as inventory
from invoicing import services as invoicing
from orders import outcome
from orders.saga_v1 import ORDER_FULFILMENT_V1  # noqa: F401 - its live orders end under it
from payments import services as payments
from sagas import Approval, Retry, Saga, Step, Wait
from shipping import services as shipping

PIX_PAID = Wait(until="paid", limit=settings.PIX_LIMIT, poll=settings.PIX_POLL)
DELIVERED = Wait(until="delivered", limit=settings.DELIVERY_LIMIT, poll=settings.DELIVERY_POLL)

ORDER_FULFILMENT = Saga(
    name="order-fulfilment",
    version=2,
    inputs=["customer", "payment", "total", "lines", "address", "ships", "risky"],
    personal=["customer", "payment", "address"],
    steps=[
        Approval("review-order", when="risky", permission="orders.review_order",
                 limit=settings.REVIEW_LIMIT, remind=[settings.REVIEW_REMIND], lapse="refuse"),
        Step("take-payment", payments.charge, undo=payments.refund, ask=payments.ask,
             inputs=["customer", "payment", "total"], secrets=["payment"], personal=["pix"],
             reference="provider_ref", remote=True, wait=PIX_PAID),
        Step("reserve-stock", inventory.reserve, undo=inventory.release,
             inputs=["lines"]),
        Step("issue-invoice", invoicing.issue, undo=invoicing.cancel, ask=invoicing.ask,
             inputs=["customer", "lines", "total"], outputs=["access_key"],
             reference="protocol", remote=True),
        Step("deliver-order", shipping.dispatch, undo=shipping.recall, ask=shipping.ask,
             inputs=["address", "lines", "access_key"], when="ships",
             reference="tracking", remote=True, wait=DELIVERED),
    ],
    retry=Retry(on=[payments.Unavailable, invoicing.Unavailable, shipping.Unavailable], attempts=5),
    refused=[payments.Refused, inventory.Refused, invoicing.Refused, shipping.Refused],
    unknown=[payments.Unknown, invoicing.Unknown, shipping.Unknown],
    outage=[payments.AccessDenied, invoicing.AccessDenied, shipping.AccessDenied],
    mismatch=[payments.Mismatch, invoicing.Mismatch, shipping.Mismatch],
    deadline=settings.ORDER_DEADLINE,
    on_completed=outcome.fulfil,
    on_compensated=outcome.cancel,
    on_attention=outcome.call_a_person,
    on_closed=outcome.close,
)  # fmt: skip
