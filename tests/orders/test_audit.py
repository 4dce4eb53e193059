"""Whoever changes a book behind everybody's back is found out, with the order; and nobody else is accused."""

import httpx
import pytest
from django.core import management
from django.db.models import F

from inventory import models as inventory
from invoicing import models as invoicing
from orders import audit, models
from payments import models as payments
from sagas import engine
from sagas import models as sagas
from sagas.engine import transport
from sagas.testing import memory_transport
from shipping import models as shipping
from tests.support import sample_orders

pytestmark = pytest.mark.django_db


@pytest.fixture
def shop(samples):
    """An order that was fulfilled, one that was cancelled after its goods had left, and one under way."""
    return {
        "fulfilled": samples.completed(),
        "cancelled": samples.settle(returned(samples)),
        "under way": samples.waiting_for_pix(),
    }


def returned(samples):
    saga = samples.settle(samples.place(postal_code="99999-002"), until=has_parcel)
    samples._arrived(saga)
    return saga


def has_parcel(saga):
    return saga.steps.filter(name="deliver-order", state="waiting").exists()


def accused():
    return [(row.about, row.room) for row in audit.run().discrepancies]


def test_books_that_agree_accuse_nobody(shop):
    report = audit.run()

    assert report.discrepancies == []
    assert (report.ended, report.live, report.books) == (2, 1, True)


def test_it_makes_no_difference_how_many_orders_are_looked_at_together(shop, monkeypatch):
    monkeypatch.setattr(audit, "BATCH", 1)
    assert invoicing.Invoice.objects.filter(kind="return").exists(), "its key is not a step's"

    assert accused() == []


# What somebody does to whose order, and in which rooms it is found.
MISDEEDS = {
    "the bank gives money back": ("fulfilled", ["payments"], lambda world, key: refund(world, key)),
    "a capture is written higher": (
        "fulfilled",
        ["payments"] * 4,
        lambda _, key: payments.Payment.objects.filter(key=key("take-payment")).update(captured=1_000_000),
    ),
    "a refund is taken back": (
        "cancelled",
        ["payments"] * 3,
        lambda _, key: payments.Payment.objects.filter(key=key("take-payment")).update(
            refunded=0, undone_at=None
        ),
    ),
    "a charge is claimed again": (
        "cancelled",
        ["payments"],
        lambda _, key: payments.Payment.objects.filter(key=key("take-payment")).update(
            status="captured", undone_at=None
        ),
    ),
    "goods that were shipped are released": (
        "fulfilled",
        ["inventory"] * 3,
        lambda _, key: inventory.Reservation.objects.filter(key=key("reserve-stock")).update(
            status="released"
        ),
    ),
    "more was ordered than was shipped": (
        "fulfilled",
        ["inventory"],
        lambda _, key: models.OrderLine.objects.filter(order__saga=saga_id(key), position=0).update(
            quantity=F("quantity") + 1
        ),
    ),
    "an order is made dearer": (
        "fulfilled",
        ["invoicing", "payments"],
        lambda _, key: models.Order.objects.filter(saga=saga_id(key)).update(
            total_amount=F("total_amount") + 1
        ),
    ),
    "an invoice is cancelled here": (
        "fulfilled",
        ["invoicing"] * 2,
        lambda _, key: invoicing.Invoice.objects.filter(key=key("issue-invoice")).update(status="cancelled"),
    ),
    "a return note is cancelled here": (
        "cancelled",
        ["invoicing"] * 2,
        lambda _, key: invoicing.Invoice.objects.filter(key=key("issue-invoice.return")).update(
            status="cancelled"
        ),
    ),
    "a parcel that arrived is lost here": (
        "fulfilled",
        ["shipping"] * 2,
        lambda _, key: shipping.Shipment.objects.filter(key=key("deliver-order")).update(status="failed"),
    ),
    "an order forgets its end": (
        "fulfilled",
        ["orders"],
        lambda _, key: models.Order.objects.filter(saga=saga_id(key)).update(fulfilled_at=None),
    ),
    "a step says other than its events": (
        "cancelled",
        ["sagas"] * 2,
        lambda _, key: sagas.StepInstance.objects.filter(saga=saga_id(key), position=1).update(state="done"),
    ),
    "an order is left lying": (
        "under way",
        ["sagas"],
        lambda _, key: sagas.SagaInstance.objects.filter(pk=saga_id(key)).update(
            wake_at="2020-01-01T00:00:00Z"
        ),
    ),
    "money appears where none was taken": (
        "under way",
        ["payments"],
        lambda _, key: payments.Payment.objects.filter(key=key("take-payment")).update(captured=1),
    ),
}


@pytest.mark.parametrize("misdeed", MISDEEDS)
def test_a_misdeed_is_found_with_its_order(shop, world, misdeed):
    whose, rooms, commit = MISDEEDS[misdeed]
    victim = shop[whose]

    assert commit(world, lambda step: f"{victim.pk}.{step}")

    assert accused() == [(sample_orders.number(victim), room) for room in rooms]


def refund(world, key):
    return world.post(f"/bank/charges/{key('take-payment')}/refund")


def saga_id(key):
    return key("").removesuffix(".")


def test_stock_that_nobody_moved_is_found_with_its_product(shop):
    inventory.Product.objects.filter(sku="MUG-BLUE").update(available=F("available") - 1)

    assert accused() == [("MUG-BLUE", "inventory")]


def test_a_number_that_no_invoice_has_is_found(shop):
    invoicing.Series.objects.update(next_number=F("next_number") + 1)
    missing = invoicing.Series.objects.get().next_number - 1

    assert accused() == [(f"1/{missing}", "invoicing")]


def test_what_a_provider_did_for_nobody_is_found(shop, world):
    books = world.books()
    books["charges"].append({"key": "stranger", "captured": 1, "refunded": 0})
    books["invoices"].append({"key": "stranger", "number": 7, "status": "authorized"})
    books["shipments"].append({"key": "stranger", "status": "booked"})

    found = audit.run(books).discrepancies

    assert [(row.about, row.room) for row in found] == [
        ("stranger", "invoicing"),
        ("stranger", "payments"),
        ("stranger", "shipping"),
    ]


def test_a_saga_that_is_no_orders_is_named_by_its_own_key(shop):
    sagas.SagaInstance.objects.filter(pk=shop["under way"].pk).update(
        key="trip-42", wake_at="2020-01-01T00:00:00Z"
    )

    assert accused() == [("trip-42", "sagas")]


def test_a_late_payment_accuses_nobody_while_it_is_on_its_way_back(shop, world):
    saga = shop["cancelled"]
    key = f"{saga.pk}.take-payment"
    payments.Payment.objects.filter(key=key).update(refunded=0, undone_at=None)
    with transport.use(memory_transport.MemoryTransport()):
        engine.receive(source="payments", event_id="late", key=key, facts={"paid": True})

    assert {room for _, room in accused()} == {"payments"}, "the ledger, which is never out of step"
    assert [row.finding for row in audit.run().discrepancies] == [
        "Its ledger does not add up to what was captured and refunded."
    ]


def test_stock_that_was_refused_never_happened_and_is_half_of_nothing(samples):
    inventory.Product.objects.update(available=0)

    saga = samples.settle(samples.place())

    assert (saga.state, saga.steps.get(name="reserve-stock").state) == ("compensated", "failed")
    # The emptied shelves are no sale, and are told of.
    assert {room for _, room in accused()} == {"inventory"}


def test_what_an_operator_settled_outside_is_told_with_the_evidence_and_accuses_nobody(samples, capsys):
    saga = samples.attention()
    evidence = "Paid back by bank transfer, receipt 8841."
    engine.resolve(saga.pk, seen=engine.look(saga.pk), happened=True, actor="susana", reason=evidence)
    saga = samples.settle(saga)
    assert saga.state == "compensated"

    management.call_command("audit")

    told = capsys.readouterr().out
    assert accused() == []
    assert {finding.about for finding in audit.run().answered} == {sample_orders.number(saga)}
    assert f"susana answers for it: {evidence}" in told
    assert "everything adds up, but for" in told


def test_who_said_that_the_charge_was_made_does_not_answer_for_its_refund(samples):
    saga = samples.waiting_for_pix()
    said = {"actor": "susana", "reason": "I saw it in the account", "facts": {"paid": True}}
    with transport.use(samples.broker):
        engine.resolve(saga.pk, seen=engine.look(saga.pk), happened=True, **said)
        engine.cancel(saga.pk, actor="shop", reason="too slow")
    saga = samples.settle(saga)
    assert saga.state == "compensated"
    payments.Payment.objects.filter(key=f"{saga.pk}.take-payment").update(
        status="captured", captured=1, refunded=0, undone_at=None
    )

    assert "payments" in {room for _, room in accused()}
    assert audit.run().answered == []


def test_the_command_prints_each_with_its_order_and_ends_with_1(shop, capsys):
    management.call_command("audit")
    assert capsys.readouterr().out == (
        "2 ended orders compared with one another and with the providers' books, 1 still open:"
        " everything adds up.\n"
    )

    models.Order.objects.filter(saga=shop["fulfilled"].pk).update(fulfilled_at=None)
    with pytest.raises(SystemExit) as ended:
        management.call_command("audit")

    number = sample_orders.number(shop["fulfilled"])
    assert ended.value.code == 1
    assert capsys.readouterr().out.splitlines()[0] == (
        f"{number}  orders: It and its saga disagree on how it ended."
    )


def test_books_that_cannot_be_read_are_no_clean_bill(shop, settings):
    settings.SANDBOX_URL = "http://127.0.0.1:9"

    with pytest.raises(httpx.HTTPError):
        audit.run()
    with pytest.raises(management.CommandError, match="SANDBOX_URL"):
        management.call_command("audit")


def test_more_keys_than_a_statement_holds_are_looked_at(db):
    charges = [{"key": f"{number}.take-payment", "captured": 1, "refunded": 0} for number in range(70_000)]

    found = audit.run({"charges": charges, "invoices": [], "shipments": []}).discrepancies

    assert len(found) == len(charges)
