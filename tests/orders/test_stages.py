"""An order whose saga is more than a list: a review, two steps at once, a delivery that is left out."""

import collections.abc
import dataclasses
import datetime
from typing import Any

import pytest
from django.core import management

from api.models import Scope
from orders import audit
from orders import saga as order_saga
from orders.api import placed
from sagas import Approval, Parallel, engine
from sagas import models as saga_models
from sagas.declaration import registry
from sagas.testing import memory_transport
from tests.orders.conftest import Api, member, order
from tests.orders.test_events import bank
from tests.orders.test_schema import is_described
from tests.sandbox.running import Sandbox
from tests.webhooks.receiver import Receiver, receiving
from webhooks import deliveries

pytestmark = pytest.mark.django_db(transaction=True)

STEPS = order_saga.ORDER_FULFILMENT.all_steps
REVIEW = Approval(
    "look-at-order", permission="orders.view_order", limit=datetime.timedelta(days=2), when="address"
)


@pytest.fixture(autouse=True)
def version_3(transactional_db: None) -> collections.abc.Iterator[None]:
    """Beside the others: a person looks at it, then money and goods at once; and nothing is delivered."""
    current = order_saga.ORDER_FULFILMENT
    _, pay, reserve, invoice, deliver = STEPS
    order_saga.ORDER_FULFILMENT = registry.add(
        dataclasses.replace(
            current,
            version=3,
            steps=[
                REVIEW,
                Parallel("secure", steps=[pay, reserve]),
                invoice,
                dataclasses.replace(deliver, when="", unless="lines"),
            ],
        )
    )
    yield
    order_saga.ORDER_FULFILMENT = current


@pytest.fixture
def receiver(settings: Any) -> collections.abc.Iterator[Receiver]:
    settings.WEBHOOKS_TO_PRIVATE_ADDRESSES = True
    with receiving() as one:
        yield one


@pytest.fixture
def mia(catalogue: None, receiver: Receiver) -> Api:
    """A merchant who is told of everything."""
    mia = member("mia", Scope.MERCHANT)
    wanted = {"url": receiver.url, "types": ["order.*", "saga.step.*"]}
    assert mia.post("/webhook-endpoints", wanted).status_code == 201
    return mia


def reviewed(shown: dict[str, Any], broker: memory_transport.MemoryTransport) -> None:
    """Somebody says yes, and everything goes on."""
    engine.approve(shown["saga"]["id"], "look-at-order", actor="olga", reason="Known for years")
    broker.deliver_all()


def test_while_somebody_looks_at_it_the_customer_reads_so(
    mia: Api, broker: memory_transport.MemoryTransport
) -> None:
    shown = mia.order().json()
    broker.deliver_all()

    told = mia.get(f"/orders/{shown['id']}").json()
    assert told["next"]["message"] == placed.APPROVAL
    assert told["next"]["at"] is not None
    is_described("Order", told)


def test_of_steps_at_once_the_customer_reads_of_the_one_that_is_his_to_end(
    mia: Api, sandbox: Sandbox, broker: memory_transport.MemoryTransport
) -> None:
    shown = mia.order(order(payment={"method": "pix"})).json()
    reviewed(shown, broker)

    told = mia.get(f"/orders/{shown['id']}").json()

    states = {step["name"]: step["status"] for step in told["saga"]["steps"]}
    assert (states["take-payment"], states["reserve-stock"]) == ("waiting", "done")
    assert told["payment"]["status"] == "awaiting_payment"
    assert told["next"]["message"].startswith("You pay the PIX")
    assert told["next"]["at"] is not None

    sandbox.post(f"/pix/{told['payment']['key']}/pay")
    bank(mia, sandbox, told, "pix.paid")
    broker.deliver_all()
    assert mia.get(f"/orders/{shown['id']}").json()["status"] == "fulfilled"


def test_what_was_left_out_is_told_as_left_out_and_the_books_accuse_nobody(
    mia: Api, receiver: Receiver, sandbox: Sandbox, broker: memory_transport.MemoryTransport
) -> None:
    shown = mia.order().json()
    reviewed(shown, broker)
    deliveries.run()

    told = mia.get(f"/orders/{shown['id']}").json()
    assert (told["status"], told["shipment"]["status"]) == ("fulfilled", "skipped")
    assert told["next"]["message"] == (
        "Nothing: the order is paid and invoiced, and has nothing to be delivered."
    )
    is_described("Order", told)
    assert not [one for one in receiver.told if one["type"] == "saga.step.skipped"]
    assert receiver.told[-1]["type"] == "order.fulfilled"
    assert audit.run().discrepancies == []

    management.call_command("saga", "archive", "--older-than", "0m", verbosity=0)
    assert saga_models.ArchivedSaga.objects.count() == 1
    assert audit.run().discrepancies == []


def test_what_is_missing_and_was_not_left_out_is_found(
    mia: Api, sandbox: Sandbox, broker: memory_transport.MemoryTransport
) -> None:
    shown = mia.order().json()
    reviewed(shown, broker)
    saga_models.StepInstance.objects.filter(name="deliver-order").update(state="done")

    findings = [finding.finding for finding in audit.run().discrepancies if finding.room == "shipping"]

    assert findings == ["The order is fulfilled, and this is not in effect."]
    assert shown["number"] in {finding.about for finding in audit.run().discrepancies}


def test_cancelled_after_its_review_an_order_has_undone_what_can_be_and_nobody_is_accused(
    mia: Api, sandbox: Sandbox, broker: memory_transport.MemoryTransport
) -> None:
    shown = mia.order(order(payment={"method": "pix"})).json()
    reviewed(shown, broker)

    told = mia.post(f"/orders/{shown['id']}/cancel", {"reason": "changed my mind"}).json()

    assert told["undoing"] == ["reserve-stock", "take-payment"]
    assert told["next"]["message"] in ("We release the goods.", "We return the payment.")
    broker.deliver_all()
    assert mia.get(f"/orders/{shown['id']}").json()["status"] == "cancelled"
    assert audit.run().discrepancies == []


def test_a_refused_review_cancels_the_order_and_nobody_is_accused(
    mia: Api, broker: memory_transport.MemoryTransport
) -> None:
    shown = mia.order().json()
    broker.deliver_all()
    engine.refuse(shown["saga"]["id"], "look-at-order", actor="olga", reason="A known fraud")
    broker.deliver_all()

    told = mia.get(f"/orders/{shown['id']}").json()

    assert told["status"] == "cancelled"
    assert "fraud" not in str(told)
    assert audit.run().discrepancies == []


def test_a_step_at_once_that_nobody_looks_after_is_found(
    mia: Api, broker: memory_transport.MemoryTransport
) -> None:
    shown = mia.order().json()
    engine.approve(shown["saga"]["id"], "look-at-order", actor="olga")
    past = saga_models.database_now() - datetime.timedelta(hours=1)
    saga_models.StepInstance.objects.filter(name="take-payment").update(wake_at=past)

    findings = {finding.finding for finding in audit.run().discrepancies}

    assert findings == {"Its time came long ago, and no sweep has looked at it."}
