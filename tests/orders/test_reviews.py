"""An order that is dear, or of a customer who is flagged, waits for a person before it is paid."""

import datetime
from typing import Any

import pytest
from django.contrib.auth import models as auth
from django.test import Client
from django.urls import reverse

from api.models import Scope
from orders import audit, erasure, models, services
from orders import saga as order_saga
from sagas import engine
from sagas import models as saga_models
from sagas.console import roles
from sagas.testing import clocks, memory_transport
from tests.orders.conftest import Api, deliver, member, order
from tests.orders.test_schema import is_described
from tests.sandbox.running import Sandbox
from tests.webhooks.receiver import receiving
from webhooks import deliveries

REVIEW = order_saga.ORDER_FULFILMENT.steps[0].name
PORTUGUESE = {"Accept-Language": "pt-BR"}

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def limit(settings: Any) -> None:
    """The order of `order()` comes to 18290 centavos, and so is just not above it."""
    settings.ORDER_REVIEW_ABOVE = {"BRL": 18290}


def dear(**changes: Any) -> dict[str, Any]:
    return order(lines=[{"sku": "MUG-BLUE", "quantity": 4}], **changes)


def flag(tax_id: str = "52998224725") -> models.FlaggedCustomer:
    return models.FlaggedCustomer.objects.create(
        tax_id=tax_id, reason="Three chargebacks.", flagged_by="olga"
    )


def saga_of(shown: dict[str, Any]) -> saga_models.SagaInstance:
    return saga_models.SagaInstance.objects.get(pk=shown["saga"]["id"])


def steps_of(shown: dict[str, Any]) -> list[tuple[str, str]]:
    return [(step["name"], step["status"]) for step in shown["saga"]["steps"]]


def facts_of(shown: dict[str, Any]) -> Any:
    return saga_of(shown).facts


# --- Which orders ----------------------------------------------------------------------------------


def test_an_order_above_the_limit_waits_and_one_at_the_limit_does_not(
    ana: Api, broker: memory_transport.MemoryTransport, sandbox: Sandbox
) -> None:
    at, above = ana.order(key="at").json(), ana.order(dear(), key="above").json()
    broker.deliver_all()

    assert (facts_of(at)["risky"], facts_of(above)["risky"]) == (False, True)
    assert steps_of(ana.get(f"/orders/{at['id']}").json())[:2] == [
        (REVIEW, "skipped"),
        ("take-payment", "done"),
    ]
    assert steps_of(ana.get(f"/orders/{above['id']}").json())[:2] == [
        (REVIEW, "waiting"),
        ("take-payment", "pending"),
    ]


def test_in_a_currency_without_a_limit_no_total_is_too_high(
    ana: Api, settings: Any, broker: memory_transport.MemoryTransport
) -> None:
    settings.ORDER_REVIEW_ABOVE = {"USD": 1}

    assert facts_of(ana.order(dear()).json())["risky"] is False


def test_a_flagged_customer_s_orders_wait_whoever_places_them(
    ana: Api, bob: Api, broker: memory_transport.MemoryTransport
) -> None:
    before = ana.order(key="before").json()
    flagged = flag()

    assert facts_of(before)["risky"] is False, "what it waits for was decided when it was placed"
    assert facts_of(ana.order(key="after").json())["risky"] is True
    assert facts_of(bob.order(key="bob's").json())["risky"] is True
    other = order(customer={"name": "Bruno", "email": "b@example.com", "tax_id": "111.444.777-35"})
    assert facts_of(ana.order(other, key="other").json())["risky"] is False

    flagged.delete()
    assert facts_of(ana.order(key="lifted").json())["risky"] is False


def test_of_many_that_are_placed_at_once_those_wait_that_must(
    ana: Api, broker: memory_transport.MemoryTransport
) -> None:
    flag()
    new = [
        services.NewOrder(
            customer=services.Customer(name="Ana", email="ana@example.com", tax_id=tax_id),
            wishes=[services.Wish(sku="MUG-BLUE", quantity=quantity)],
            payment=services.Payment(method="card", token="tok_ok"),
            address=services.Address(
                recipient="Ana", street="Rua", number="1", city="SP", state="SP", postal_code="01310-100"
            ),
        )
        for tax_id, quantity in (("52998224725", 1), ("11144477735", 1), ("11144477735", 9))
    ]

    placed = services.place_many(owner=ana.user, orders=new)

    risky = [saga_models.SagaInstance.objects.get(pk=one.saga_id).facts["risky"] for one in placed]
    assert risky == [True, False, True]


# --- What becomes of them --------------------------------------------------------------------------


def test_an_order_under_review_says_so_in_both_languages(
    ana: Api, broker: memory_transport.MemoryTransport
) -> None:
    placed = ana.order(dear()).json()

    assert placed["status"] == "pending"
    assert placed["payment"]["status"] == "pending"
    assert placed["next"]["message"].startswith("The shop looks at the order before it is paid")
    assert placed["next"]["at"] is not None
    is_described("Order", placed)
    told = ana.get(f"/orders/{placed['id']}", **PORTUGUESE).json()
    assert told["next"]["message"].startswith("A loja analisa o pedido antes do pagamento")


def test_an_approved_order_is_paid_and_fulfilled(
    ana: Api, broker: memory_transport.MemoryTransport, sandbox: Sandbox
) -> None:
    placed = ana.order(dear()).json()
    broker.deliver_all()
    assert sandbox.books()["charges"] == []

    engine.approve(placed["saga"]["id"], REVIEW, actor="susana", reason="A customer of many years.")
    broker.deliver_all()
    deliver(ana, placed)
    broker.deliver_all()

    done = ana.get(f"/orders/{placed['id']}").json()
    assert done["status"] == "fulfilled"
    assert {status for _, status in steps_of(done)} == {"done"}
    assert [finding for finding in audit.run().discrepancies if finding.room != "shipping"] == []


def test_a_refused_order_is_cancelled_and_nothing_was_taken(
    ana: Api, broker: memory_transport.MemoryTransport, sandbox: Sandbox
) -> None:
    placed = ana.order(dear()).json()

    engine.refuse(placed["saga"]["id"], REVIEW, actor="susana", reason="The phone number is no one's.")
    broker.deliver_all()

    path = f"/orders/{placed['id']}"
    told = ana.get(path).json()
    assert told["status"] == "cancelled"
    assert told["failure"] == {
        "step": REVIEW,
        "kind": "refused",
        "message": "The shop did not accept the order.",
    }
    assert "phone" not in ana.get(path).content.decode()
    assert ana.get(path, **PORTUGUESE).json()["failure"]["message"] == "A loja não aceitou o pedido."
    assert "The shop did not accept the order." in ana.stream(f"{path}/events")
    told = ana.stream(f"{path}/events", **PORTUGUESE)
    assert "A loja não aceitou o pedido." in told
    assert "A loja analisa o pedido" in told
    assert "payment" not in saga_of(placed).facts, "the card's token is struck out with the end"
    assert sandbox.books()["charges"] == []
    assert audit.run().discrepancies == []


def test_what_a_reviewer_wrote_of_the_customer_is_erased_with_the_order(
    ana: Api, broker: memory_transport.MemoryTransport, sandbox: Sandbox
) -> None:
    placed = ana.order(dear()).json()
    engine.approve(placed["saga"]["id"], REVIEW, actor="susana", reason="Ana Souza called from her office.")
    broker.deliver_all()
    deliver(ana, placed)
    broker.deliver_all()
    assert written_about(placed).count("Souza") > 2

    orders = erasure.find("52998224725")
    asked = erasure.ask(customer="52998224725", orders=orders, actor="olga", reason="Request 2026/17")
    erasure.agree(asked.pk, actor="susana")
    erasure.drive()

    assert "Souza" not in written_about(placed)
    assert "susana" in written_about(placed)


def written_about(shown: dict[str, Any]) -> str:
    saga = saga_of(shown)
    events = saga_models.Event.objects.filter(saga=saga)
    return str([saga.facts, *saga.steps.values_list("facts"), *events.values_list("actor", "reason", "data")])


def test_an_order_that_nobody_looks_at_is_refused_in_time(
    ana: Api, broker: memory_transport.MemoryTransport, settings: Any, sandbox: Sandbox
) -> None:
    placed = ana.order(dear()).json()
    saga = saga_of(placed)
    clocks.pass_time(settings.REVIEW_REMIND + clocks.A_MOMENT, saga.pk)
    engine.sweep()
    reminded = saga_models.Event.objects.filter(saga=saga, kind="step.reminded")
    assert reminded.count() == 1
    clocks.pass_time(settings.REVIEW_LIMIT, saga.pk)
    engine.sweep()
    broker.deliver_all()

    told = ana.get(f"/orders/{placed['id']}").json()
    assert told["status"] == "cancelled"
    assert told["failure"]["message"].startswith("The shop could not look at the order in time")
    assert reminded.count() == 1
    assert audit.run().discrepancies == []


def test_a_customer_may_cancel_while_the_shop_looks(
    ana: Api, broker: memory_transport.MemoryTransport, sandbox: Sandbox
) -> None:
    placed = ana.order(dear()).json()

    assert ana.post(f"/orders/{placed['id']}/cancel", {"reason": "Changed my mind"}).status_code == 202
    broker.deliver_all()

    assert ana.get(f"/orders/{placed['id']}").json()["status"] == "cancelled"
    assert audit.run().discrepancies == []


def test_the_deadline_leaves_room_for_every_wait(settings: Any) -> None:
    waits = settings.REVIEW_LIMIT + settings.PIX_LIMIT + settings.DELIVERY_LIMIT

    assert waits + datetime.timedelta(hours=1) < settings.ORDER_DEADLINE


# --- Who is told, and who may ---------------------------------------------------------------------


def test_a_merchant_is_told_that_an_order_waits_for_a_review_and_not_that_another_does_not(
    catalogue: None, settings: Any, broker: memory_transport.MemoryTransport, sandbox: Sandbox
) -> None:
    settings.WEBHOOKS_TO_PRIVATE_ADDRESSES = True
    mia = member("mia", Scope.MERCHANT)
    with receiving() as receiver:
        wanted = {"url": receiver.url, "types": ["order.*", "saga.step.*"]}
        assert mia.post("/webhook-endpoints", wanted).status_code == 201
        placed = mia.order(dear()).json()
        deliveries.run()
        begun, told = receiver.told
        assert begun["type"] == "order.placed"
        assert told["type"] == "saga.step.waiting"
        assert told["data"]["order"]["id"] == placed["id"]
        assert told["data"]["step"]["name"] == REVIEW
        assert told["data"]["step"]["message"].startswith("The shop looks at the order before it is paid")

        mia.order(key="small")
        broker.deliver_all()
        deliveries.run()
        others = [one for one in receiver.told if one["data"]["order"]["id"] != placed["id"]]
        assert others
        assert REVIEW not in [one["data"].get("step", {}).get("name") for one in others]


def test_supervisors_may_review_and_operators_may_not(transactional_db: None) -> None:
    auth.Group.objects.all().delete()
    roles.make()

    may = {
        name: auth.Group.objects.get(name=name).permissions.filter(codename="review_order").exists()
        for name in (roles.VIEWER, roles.OPERATOR, roles.SUPERVISOR)
    }
    assert may == {roles.VIEWER: False, roles.OPERATOR: False, roles.SUPERVISOR: True}


@pytest.fixture
def fraud(transactional_db: None) -> Client:
    """Somebody who may flag customers, and nothing else."""
    user = auth.User.objects.create_user("fred", is_staff=True)
    wanted = auth.Permission.objects.filter(content_type__model="flaggedcustomer")
    user.user_permissions.set(wanted)
    client = Client()
    client.force_login(user)
    return client


def test_who_may_flags_a_customer_in_the_admin_and_lifts_it_again(fraud: Client) -> None:
    added = fraud.post(
        reverse("admin:orders_flaggedcustomer_add"), {"tax_id": "529.982.247-25", "reason": "Chargebacks."}
    )
    assert added.status_code == 302
    flagged = models.FlaggedCustomer.objects.get()
    assert (flagged.tax_id, flagged.flagged_by) == ("52998224725", "fred")
    assert fraud.get(reverse("admin:orders_flaggedcustomer_changelist")).status_code == 200
    assert fraud.get(reverse("admin:orders_flaggedcustomer_change", args=[flagged.pk])).status_code == 200

    again = fraud.post(
        reverse("admin:orders_flaggedcustomer_add"), {"tax_id": "52998224725", "reason": "Again."}
    )
    wrong = fraud.post(
        reverse("admin:orders_flaggedcustomer_add"), {"tax_id": "529.982.247-24", "reason": "A slip."}
    )
    assert (again.status_code, wrong.status_code) == (200, 200)
    assert "check digits" in wrong.content.decode()

    lifted = fraud.post(reverse("admin:orders_flaggedcustomer_delete", args=[flagged.pk]), {"post": "yes"})
    assert lifted.status_code == 302
    assert not models.FlaggedCustomer.objects.exists()


def test_who_may_not_sees_nobody_who_is_flagged(transactional_db: None) -> None:
    roles.make()
    user = auth.User.objects.create_user("susana", is_staff=True)
    user.groups.add(auth.Group.objects.get(name=roles.SUPERVISOR))
    client = Client()
    client.force_login(user)
    flagged = flag()

    assert client.get(reverse("admin:orders_flaggedcustomer_changelist")).status_code == 403
    assert client.get(reverse("admin:orders_flaggedcustomer_change", args=[flagged.pk])).status_code == 403
