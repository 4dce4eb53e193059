"""Orders of every kind, made on real parts: the engine, the services, the sandbox. For tests and pictures.

Messages are carried in memory and time passes when told to, so that days of waiting take no time.
"""

import datetime
from typing import Any

from django.contrib.auth import models as auth
from django.db import connection, transaction

from inventory import services as inventory
from orders import models, services
from orders import saga as order_saga
from sagas import engine
from sagas.engine import transport
from sagas.models import SagaInstance
from sagas.testing import clocks, memory_transport
from tests.sandbox import running as sandboxes
from tests.support import waiting

PRODUCTS = {
    "MUG-BLUE": ("Blue mug", 4590),
    "POSTER-MAP": ("Map poster", 9110),
    "LAMP-DESK": ("Desk lamp", 18290),
    "KETTLE-1L": ("Kettle, one litre", 21490),
}
PEOPLE = {
    "ana": ("Ana Souza", "ana@example.com", "52998224725"),
    "bruno": ("Bruno Lima", "bruno@example.com", "11144477735"),
    "rejected": ("Carla Dias", "carla@example.com", "00000000191"),
}


class SampleOrders:
    """Places orders, and lets them go as far as they are wanted to."""

    def __init__(self, world: sandboxes.Sandbox) -> None:
        self.world = world
        self.broker = memory_transport.MemoryTransport()
        self.owner, _ = auth.User.objects.get_or_create(username="shop")
        for sku, (name, price) in PRODUCTS.items():
            money = {"amount": price, "currency": "BRL"}
            inventory.introduce(sku=sku, name=name, price=money, quantity=5000)

    def place(
        self,
        *,
        token: str = "tok_ok",
        who: str = "ana",
        postal_code: str = "01310-100",
        method: str = "card",
        skus: dict[str, int] | None = None,
    ) -> SagaInstance:
        """An order that nobody has begun to work on."""
        name, email, tax_id = PEOPLE[who]
        with transport.use(self.broker):
            order = services.place(
                owner=self.owner,
                customer=services.Customer(name=name, email=email, tax_id=tax_id),
                wishes=[
                    services.Wish(sku=sku, quantity=quantity)
                    for sku, quantity in (skus or {"LAMP-DESK": 1, "MUG-BLUE": 2}).items()
                ],
                payment=services.Payment(method=method, token=token if method == "card" else ""),
                address=services.Address(
                    recipient=name, street="Rua das Flores", number="12-A", city="São Paulo", state="SP",
                    postal_code=postal_code,
                ),
            )  # fmt: skip
        return order.saga

    def settle(self, saga: SagaInstance, *, rounds: int = 200, until: Any = None) -> SagaInstance:
        """Let it go until it ends, or stands before a person, or is where it is wanted."""
        with transport.use(self.broker):
            for _ in range(rounds):
                self.broker.deliver_all()
                saga.refresh_from_db()
                if saga.state in ("completed", "compensated", "needs_attention") or (until and until(saga)):
                    return saga
                self._pass_time(saga)
                engine.sweep()
        raise AssertionError(f"{saga.pk} is still {saga.state} at {saga.position}")

    def rest(self, saga: SagaInstance) -> SagaInstance:
        """Deliver what is under way, and no more: time stands still."""
        with transport.use(self.broker):
            self.broker.deliver_all()
        saga.refresh_from_db()
        return saga

    def _pass_time(self, saga: SagaInstance) -> None:
        """Until something is due for this saga; only its own clock moves."""
        from sagas.models import database_now

        assert saga.wake_at is not None, f"nobody looks at {saga.pk} again"
        by = max(saga.wake_at - database_now(), datetime.timedelta()) + clocks.A_MOMENT
        clocks.pass_time(by, saga.pk)
        set_back(saga, by)

    # --- The kinds of orders

    def completed(self) -> SagaInstance:
        """Everything went well, and the carrier took two days."""
        saga = self.settle(self.place(who="bruno"), until=_waits_for("deliver-order"))
        self._arrived(saga)
        return self.settle(saga)

    def compensated(self) -> SagaInstance:
        """The invoice was rejected: stock and money went back."""
        return self.settle(self.place(who="rejected"))

    def waiting(self) -> SagaInstance:
        """With the carrier."""
        return self.settle(self.place(), until=_waits_for("deliver-order"))

    def waiting_for_pix(self) -> SagaInstance:
        """The customer has the code and has not paid."""
        return self.settle(self.place(method="pix"), until=_waits_for("take-payment"))

    def attention(self) -> SagaInstance:
        """Delivery failed, and the bank refuses to give the money back."""
        saga = self.place(token="tok_refund_refused", postal_code="99999-002")
        self.settle(saga, until=_waits_for("deliver-order"))
        self._arrived(saga)
        return self.settle(saga)

    def held(self) -> SagaInstance:
        """An operator looks into something."""
        saga = self.waiting()
        return engine.hold(
            saga.pk, seen=engine.look(saga.pk), actor="olga", reason="The customer called about the address."
        )

    def closed(self) -> SagaInstance:
        """Settled outside, and put aside."""
        saga = self.attention()
        return engine.close(
            saga.pk,
            seen=engine.look(saga.pk),
            actor="susana",
            reason="The bank returned the money by hand, ref. 8841.",
        )

    def cancelled(self) -> SagaInstance:
        """The customer no longer wanted it."""
        # A parcel that the carrier leaves where it is: one that had arrived by then could not be recalled.
        saga = self.settle(self.place(postal_code="99999-003"), until=_waits_for("deliver-order"))
        with transport.use(self.broker), transaction.atomic():
            order = models.Order.objects.select_related("owner").get(pk=saga.key)
            services.cancel(order_id=order.pk, owner=order.owner, reason="The customer changed their mind.")
        return self.settle(saga)

    def retrying(self) -> SagaInstance:
        """The bank is down; the second attempt is some seconds off."""
        return self.settle(self.place(token="tok_down"), until=lambda saga: _attempts(saga) >= 2)

    def compensating(self) -> SagaInstance:
        """The refund failed once, and is tried again."""
        saga = self.place(token="tok_refund_flaky", who="rejected")
        return self.settle(saga, until=lambda saga: saga.state == "compensating" and _undo_attempts(saga) > 1)

    def _arrived(self, saga: SagaInstance) -> None:
        """The carrier has done what it does; nobody has told us yet."""
        key = f"{saga.pk}.deliver-order"
        waiting.until(lambda: (self.world.shipment(key) or {}).get("status") in ("delivered", "failed"))


def set_back(saga: SagaInstance, by: datetime.timedelta) -> None:
    """Let what was written down about it lie further back, too: what its clocks say, its records say."""
    with connection.cursor() as cursor:
        # Records refuse to be changed; here days pass in a moment.
        cursor.execute("SET session_replication_role = replica")
        cursor.execute("UPDATE sagas_event SET at = at - %s WHERE saga_id = %s", [by, saga.pk])
        for table, column, which in _RECORDS:
            cursor.execute(f"UPDATE {table} SET {column} = {column} - %s WHERE {which}", [by, f"{saga.pk}.%"])
        cursor.execute("SET session_replication_role = DEFAULT")


def staff() -> None:
    """Let it have been workers that ran the steps, one for each queue, and not the transport in memory."""
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        for step, queue in ORDER_QUEUES.items():
            worker = f"{queue}@127.0.0.1"
            cursor.execute(
                "UPDATE sagas_step SET worker = %s WHERE name = %s AND worker <> ''", [worker, step]
            )
            cursor.execute(
                "UPDATE sagas_event SET data = data || jsonb_build_object('worker', %s::text)"
                " WHERE subject = %s AND data ? 'worker'",
                [worker, step],
            )
        cursor.execute("SET session_replication_role = DEFAULT")


ORDER_QUEUES = {step.name: step.queue for step in order_saga.ORDER_FULFILMENT.all_steps}

_RECORDS = (
    ("payments_payment", "created_at", "key LIKE %s"),
    ("payments_operation", "at", "payment_id IN (SELECT id FROM payments_payment WHERE key LIKE %s)"),
    ("inventory_movement", "at", "reservation_id LIKE %s"),
    ("invoicing_invoice", "authorized_at", "key LIKE %s"),
    ("shipping_trackingevent", "occurred_at",
     "shipment_id IN (SELECT id FROM shipping_shipment WHERE key LIKE %s)"),
)  # fmt: skip


def _waits_for(step: str) -> Any:
    return lambda saga: saga.steps.filter(name=step, state="waiting").exists()


def _attempts(saga: SagaInstance) -> int:
    return int(saga.steps.get(position=saga.position).attempts)


def _undo_attempts(saga: SagaInstance) -> int:
    return int(saga.steps.get(position=saga.position).undo_attempts)


def number(saga: SagaInstance) -> str:
    """The order's number."""
    return models.Order.objects.get(saga=saga).number


KINDS = (
    "completed", "compensated", "waiting", "waiting_for_pix", "attention", "held", "closed", "cancelled",
    "retrying", "compensating",
)  # fmt: skip
