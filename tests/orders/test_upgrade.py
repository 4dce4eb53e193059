"""A database with live orders of version 1 is upgraded: they end under version 1, beside new ones."""

import collections.abc
import contextlib
import dataclasses
from typing import Any

import pytest
from django.core import management
from django.db import connection, transaction
from django.db.migrations import executor

from orders import audit, models, saga, saga_v1
from sagas import engine
from sagas.declaration import registry
from sagas.engine import transport
from sagas.models import SagaInstance
from sagas.testing import memory_transport
from tests.sandbox.running import Sandbox
from tests.support import sample_orders

BEFORE = [("orders", "0021_kept_until"), ("inventory", "0002_append_only")]
"""Where the schema stood when version 1 was all that there was."""

STEPS = [step.name for step in saga_v1.ORDER_FULFILMENT_V1.all_steps]
FINGERPRINT = "ae501cb44e91c28d"
"""Of version 1, as its live orders have it in their rows."""

REJECTED, FAILS, LOST = "00000000191", "99999-002", "99999-003"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stop:
    """An order, and where the upgrade finds it."""

    at: str
    """The step that it is at."""
    forward: bool = True
    state: str = "pending"
    """The step's."""
    method: str = "card"
    token: str = "tok_ok"
    tax_id: str = "52998224725"
    postal_code: str = "01310-100"
    ends: str = "fulfilled"

    def is_reached(self, row: SagaInstance) -> bool:
        """Whether the order has come to where it is to be found."""
        step = row.steps.get(position=row.position)
        forward = row.direction == 1
        return (step.name, step.state, forward) == (self.at, self.state, self.forward)


STOPS = [
    Stop(at="take-payment"),
    Stop(at="take-payment", state="waiting", method="pix"),
    Stop(at="reserve-stock"),
    Stop(at="issue-invoice"),
    Stop(at="deliver-order"),
    Stop(at="deliver-order", state="waiting"),
    Stop(at="deliver-order", state="waiting", postal_code=FAILS, ends="cancelled"),
    Stop(at="deliver-order", forward=False, state="failed", postal_code="99999-001", ends="cancelled"),
    Stop(at="issue-invoice", forward=False, state="failed", tax_id=REJECTED, ends="cancelled"),
    Stop(at="issue-invoice", forward=False, state="done", postal_code="99999-001", ends="cancelled"),
    Stop(at="reserve-stock", forward=False, state="done", tax_id=REJECTED, ends="cancelled"),
    Stop(at="take-payment", forward=False, state="done", tax_id=REJECTED, ends="cancelled"),
    Stop(
        at="take-payment", forward=False, state="undo_failed", token="tok_refund_refused", tax_id=REJECTED,
        ends="attention",
    ),
]  # fmt: skip


@pytest.fixture
def shop(world: Sandbox, transactional_db: None) -> sample_orders.SampleOrders:
    return sample_orders.SampleOrders(world)


@contextlib.contextmanager
def schema_of_version_1() -> collections.abc.Iterator[Any]:
    """The schema of then, and its models; the one of now at the end."""
    migrations = executor.MigrationExecutor(connection)
    migrations.migrate(BEFORE)
    try:
        yield migrations.loader.project_state(BEFORE).apps
    finally:
        management.call_command("migrate", verbosity=0)


def place(shop: sample_orders.SampleOrders, then: Any, stop: Stop) -> SagaInstance:
    """As the code of then placed an order."""
    line = {"sku": "MUG-BLUE", "name": "Blue mug", "quantity": 2}
    order = models.Order(
        owner=shop.owner, customer_name="Ana Souza", customer_email="ana@example.com",
        customer_tax_id=stop.tax_id, recipient="Ana Souza", street="Rua das Flores", street_number="12-A",
        city="São Paulo", state="SP", postal_code=stop.postal_code, payment_method=stop.method,
        total_amount=9180,
    )  # fmt: skip
    token = {"token": stop.token} if stop.method == "card" else {}
    with transaction.atomic():
        order.saga = engine.begin(
            saga_v1.ORDER_FULFILMENT_V1,
            key=str(order.pk),
            inputs={
                "customer": {"name": "Ana Souza", "email": "ana@example.com", "tax_id": stop.tax_id},
                "payment": {"method": stop.method, **token},
                "total": {"amount": 9180, "currency": "BRL"},
                "lines": [{**line, "unit_price": {"amount": 4590, "currency": "BRL"}}],
                "address": {"recipient": "Ana Souza", "postal_code": stop.postal_code},
            },
            actor="shop",
        )
        order.save()
        then.get_model("orders", "OrderLine").objects.create(
            order_id=order.pk, position=0, unit_amount=4590, **line
        )
    return order.saga


def bring(shop: sample_orders.SampleOrders, row: SagaInstance, stop: Stop) -> None:
    """Deliver until it is there, and no further."""
    for _ in range(50):
        row.refresh_from_db()
        if stop.is_reached(row):
            return
        assert shop.broker.deliver(), f"{stop} is not reached: {row.state} at {row.position}"
    raise AssertionError(stop)


@pytest.mark.django_db(transaction=True)
def test_live_orders_of_version_1_end_under_version_1_wherever_the_upgrade_finds_them(
    shop: sample_orders.SampleOrders,
) -> None:
    found: list[tuple[Stop, SagaInstance, memory_transport.MemoryTransport]] = []
    with schema_of_version_1() as then:
        for stop in STOPS:
            shop.broker = memory_transport.MemoryTransport()
            with transport.use(shop.broker):
                row = place(shop, then, stop)
                bring(shop, row, stop)
            found.append((stop, row, shop.broker))
    assert not models.OrderLine.objects.filter(ships=False).exists()

    for stop, row, broker in found:
        shop.broker = broker
        if stop.method == "pix":
            shop.world.post(f"/pix/{row.pk}.take-payment/pay")
        shop.settle(row, until=sample_orders._waits_for("deliver-order"))
        if row.state == "running":
            shop._arrived(row)
            shop.settle(row)

    for stop, row, _ in found:
        order = models.Order.objects.get(saga=row.pk)
        assert order.status == stop.ends, stop
        assert (row.version, row.fingerprint) == (1, FINGERPRINT)
        assert list(row.steps.order_by("position").values_list("name", flat=True)) == STEPS
    assert audit.run().discrepancies == []

    new = shop.place()
    assert new.version == saga.ORDER_FULFILMENT.version == 2


def test_both_versions_are_declared_and_the_first_is_what_it_was() -> None:
    declared = registry.versions(saga.ORDER_FULFILMENT.name)

    assert [one.version for one in declared] == [1, 2]
    assert declared[0].fingerprint == FINGERPRINT
