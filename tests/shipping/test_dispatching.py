"""What a dispatch and a recall come to, for each place to send to."""

import pytest
from django.db import IntegrityError, connection, transaction

from shipping import models, services
from tests.sandbox import running as sandboxes
from tests.shipping import examples
from tests.support import waiting

pytestmark = pytest.mark.django_db

KEY = "a.deliver-order"


def tracked() -> list[str]:
    return list(models.TrackingEvent.objects.order_by("id").values_list("status", flat=True))


@pytest.fixture
def fast_carrier(settings, tmp_path):
    """A carrier that does not let parcels lie."""
    with sandboxes.run(tmp_path, CARRIER_PACE_S="0.05") as running:
        running.point(settings)
        yield running


def test_a_parcel_is_booked_and_waits_for_its_delivery(sandbox):
    facts = examples.dispatch(KEY)

    assert facts["delivered"] is False
    assert facts["tracking"].startswith("SB")
    assert examples.dispatch(KEY) == services.ask(key=KEY) == services.look_up(keys=[KEY])[KEY] == facts
    assert len(sandbox.books()["shipments"]) == 1


def test_whoever_asks_learns_of_the_delivery_though_no_callback_came(fast_carrier):
    examples.dispatch(KEY)
    waiting.until(lambda: fast_carrier.shipment(KEY)["status"] == "delivered")

    assert services.ask(key=KEY)["delivered"] is True
    assert tracked() == ["booked", "delivered"]


def test_an_address_that_the_carrier_does_not_serve_is_refused_for_good(sandbox):
    for _ in range(2):
        with pytest.raises(services.Refused):
            examples.dispatch(KEY, "99999-001")

    assert models.Shipment.objects.get().status == models.Status.REFUSED
    services.recall(key=KEY)
    assert sandbox.books()["shipments"] == []


def test_a_delivery_that_fails_is_refused_and_comes_back(fast_carrier):
    examples.dispatch(KEY, "99999-002")
    waiting.until(lambda: fast_carrier.shipment(KEY)["status"] == "failed")

    with pytest.raises(services.Refused):
        services.ask(key=KEY)
    with pytest.raises(services.Refused):
        examples.dispatch(KEY, "99999-002")
    assert services.recall(key=KEY)["status"] == "returned"
    assert fast_carrier.shipment(KEY)["status"] == "returned"


def test_what_was_never_booked_never_will_be(sandbox):
    assert services.recall(key=KEY) == {"status": "recalled", "tracking": ""}

    with pytest.raises(services.Refused):
        examples.dispatch(KEY)
    assert sandbox.books()["shipments"] == []
    assert {"provider": "carrier", "key": KEY} in sandbox.books()["tombstones"]


def test_what_is_delivered_cannot_be_recalled(fast_carrier):
    examples.dispatch(KEY)
    waiting.until(lambda: fast_carrier.shipment(KEY)["status"] == "delivered")

    with pytest.raises(services.Refused) as refusal:
        services.recall(key=KEY)

    assert refusal.value.code == "delivered"
    assert models.Shipment.objects.get().undone_at is None


def test_a_carrier_that_is_away_has_done_nothing(db):
    # A port on which nobody listens.
    with pytest.raises(services.Unavailable):
        examples.dispatch(KEY)

    assert models.Shipment.objects.get().status == models.Status.REQUESTED


def test_a_lost_reply_is_unknown_until_the_carrier_is_asked(sandbox):
    sandbox.post("/faults", {"lost_reply_rate": 1})
    with pytest.raises(services.Unknown):
        examples.dispatch(KEY)
    sandbox.post("/faults")

    assert services.ask(key=KEY)["tracking"] == sandbox.shipment(KEY)["tracking"]


def test_a_key_is_for_one_shipment_only(sandbox):
    examples.dispatch(KEY)

    with pytest.raises(ValueError, match="another shipment"):
        services.dispatch(key=KEY, address=examples.address(), lines=examples.LINES, access_key="0" * 44)


def test_an_intent_must_be_durable_before_the_carrier_hears_of_it(sandbox):
    with pytest.raises(RuntimeError), transaction.atomic():
        examples.dispatch(KEY)

    assert sandbox.books()["shipments"] == []


def test_nothing_of_the_address_is_kept(sandbox, caplog):
    caplog.set_level("DEBUG")
    examples.dispatch(KEY)

    kept = str(list(models.Shipment.objects.values())) + str(list(models.TrackingEvent.objects.values()))
    for secret in (examples.address()[name] for name in ("recipient", "street", "city", "postal_code")):
        assert secret not in kept + caplog.text


@pytest.mark.parametrize(
    "change", ["UPDATE shipping_trackingevent SET status = 'failed'", "DELETE FROM shipping_trackingevent"]
)
def test_what_the_carrier_said_is_neither_changed_nor_deleted(sandbox, change):
    examples.dispatch(KEY)

    with (
        pytest.raises(IntegrityError, match="append-only"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(change)


def test_nothing_counts_as_undone_while_it_is_on_the_road(db):
    with pytest.raises(IntegrityError, match="shipping_shipment_undone_is_undone"):
        models.Shipment.objects.create(
            key=KEY, status="booked", undo_requested_at="2026-01-01T00:00Z", undone_at="2026-01-01T00:00Z"
        )
