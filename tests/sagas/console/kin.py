"""A saga with children that stand in every way there is, for the tests of the console."""

from sagas import Child, ForEach
from sagas.engine import transport
from sagas.models import SagaInstance
from sagas.testing import memory_transport
from tests.sagas import harness
from tests.sagas.sample_app import functions
from tests.sagas.sample_app import saga as toys
from tests.sagas.test_children import World

PARCEL = toys.saga("toy-kin-parcel", toys.local("pack"), toys.waits("send"), inputs=["parcel"])
KEPT = toys.saga(
    "toy-kin",
    toys.local("reserve-stock"),
    ForEach("deliver", of="parcels", saga=PARCEL, limit=3, failed="keep", outputs=["delivered"]),
    toys.local("write-to-customer"),
    inputs=["parcels"],
)
ALL = toys.saga(
    "toy-kin-all",
    toys.local("reserve-stock"),
    ForEach("deliver", of="parcels", saga=PARCEL),
    toys.local("write-to-customer"),
    inputs=["parcels"],
)

ABOVE = toys.saga(
    "toy-kin-above",
    Child("send-order", saga=KEPT, inputs=["parcels"]),
    toys.local("book"),
    inputs=["parcels"],
)
"""Its child has children of its own."""

MIXED = {
    "do_send_3": "fail", "undo_pack_3": "fail",  # Needs a person.
    "do_send_4": "begin",  # Under way.
    "do_send_5": "fail", "undo_pack_5": "flake",  # Being undone.
}  # fmt: skip
"""Of eight: three are done, and two are still to come."""

MIXED_WORDS = "3 of 8 done, 1 is being undone, 1 needs attention, 1 under way, 2 to come"


def begin(monkeypatch, saga=KEPT, count=8, key="order-1001", **answers):
    """It and its children, as far as they come while no time passes."""
    monkeypatch.setattr(functions, "WORLD", World(**answers))
    parcels = [f"parcel {number}" for number in range(count)]
    return deliver(lambda: harness.begin(saga, key=key, inputs={"parcels": parcels}))


def mixed(monkeypatch, **rest):
    """One whose children stand in every way."""
    return begin(monkeypatch, **rest, **MIXED)


def in_need(monkeypatch, count=3, **rest):
    """One of which every child needs a person."""
    answers = {f"{what}_{number}": "fail" for what in ("do_send", "undo_pack") for number in range(count)}
    return begin(monkeypatch, count=count, **rest, **answers)


def deliver(act):
    """Act, have whatever that sends carried out, and return the saga as it is then."""
    posted = memory_transport.MemoryTransport()
    with transport.use(posted):
        saga = act()
        posted.deliver_all()
    saga.refresh_from_db()
    return saga


def children(saga):
    """Its children, in the order of its list."""
    return list(SagaInstance.objects.filter(parent_id=saga.pk).order_by("parent_item"))
