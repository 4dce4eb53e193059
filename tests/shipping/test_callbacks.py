"""What the carrier reports by itself: early, late, twice, out of order, and never from somebody else."""

import datetime

import pytest
from django.utils import timezone

from shipping import models, services
from tests import callbacks
from tests.sandbox import running as sandboxes
from tests.shipping import examples

pytestmark = pytest.mark.django_db

KEY = "a.deliver-order"


def tracked() -> list[str]:
    return list(models.TrackingEvent.objects.order_by("id").values_list("status", flat=True))


def test_a_delivery_is_reported_and_written_down(sandbox):
    examples.dispatch(KEY)

    handed_over = examples.report(sandbox, KEY, "handed_over")
    delivered = examples.report(sandbox, KEY, "delivered", id_="evt_2")

    assert (handed_over.facts["delivered"], handed_over.refused) == (False, None)
    assert (delivered.facts["delivered"], delivered.refused) == (True, None)
    assert delivered.facts["tracking"] == sandbox.shipment(KEY)["tracking"]
    assert services.look_up(keys=[KEY])[KEY]["delivered"] is True
    assert tracked() == ["booked", "handed_over", "delivered"]


def test_a_failed_delivery_is_a_refusal(sandbox):
    examples.dispatch(KEY)

    assert examples.report(sandbox, KEY, "failed").refused
    with pytest.raises(services.Refused):
        examples.dispatch(KEY)


def test_a_report_that_comes_again_is_written_down_once(sandbox):
    examples.dispatch(KEY)
    for _ in range(3):
        examples.report(sandbox, KEY, "handed_over")

    assert tracked() == ["booked", "handed_over"]


def test_an_old_report_is_kept_and_changes_nothing(sandbox):
    examples.dispatch(KEY)
    examples.report(sandbox, KEY, "delivered", id_="evt_2")
    examples.report(sandbox, KEY, "handed_over", id_="evt_1")

    assert tracked() == ["booked", "delivered", "handed_over"]
    assert models.Shipment.objects.get().status == models.Status.DELIVERED


def test_a_report_that_overtakes_our_own_record_is_not_lost(sandbox):
    sandbox.put(
        f"/carrier/shipments/{KEY}",
        {"postal_code": "01310-100", "reference": examples.ACCESS_KEY, "parcels": 1},
    )
    examples.report(sandbox, KEY, "handed_over")

    assert examples.dispatch(KEY)["delivered"] is False

    assert models.Shipment.objects.get().status == models.Status.HANDED_OVER
    assert models.Shipment.objects.get().access_key == examples.ACCESS_KEY


def test_a_delivery_that_lost_the_race_against_the_recall_is_kept_and_shown(sandbox):
    examples.dispatch(KEY)
    late = examples.callback(sandbox, KEY, "delivered")
    services.recall(key=KEY)

    services.record_callback(callback=late)

    assert models.Shipment.objects.get().status == models.Status.RECALLED
    assert tracked() == ["booked", "recalled", "delivered"]


@pytest.mark.parametrize("status", ["lost", "", "requested.", "delivered2"])
def test_a_status_that_there_is_not_is_refused(sandbox, status):
    examples.dispatch(KEY)

    with pytest.raises(services.BadCallback):
        examples.callback(sandbox, KEY, status)


def test_what_somebody_else_signed_is_refused(sandbox, settings):
    examples.dispatch(KEY)
    now = timezone.now()
    headers, body = callbacks.signed(
        kind="shipment.delivered", key=KEY, data={}, id_="evt_1", at=now, sent_at=now
    )
    settings.SHIPPING_WEBHOOK_SECRETS = ["whsec_YW5vdGhlciBzZWNyZXQ="]

    with pytest.raises(services.BadCallback):
        services.read_callback(headers=headers, body=body, now=now)


def test_what_was_sent_long_ago_is_refused(db):
    now = timezone.now()
    headers, body = callbacks.signed(
        kind="shipment.delivered", key=KEY, data={}, id_="evt_1", at=now, sent_at=now
    )

    with pytest.raises(services.BadCallback):
        services.read_callback(headers=headers, body=body, now=now + datetime.timedelta(minutes=6))


def test_the_carrier_really_sends_what_we_read(settings, tmp_path):
    with (
        callbacks.caught() as (address, arrived),
        sandboxes.run(tmp_path, WEBHOOK_TARGET=address, CARRIER_PACE_S="0.05") as carrier,
    ):
        carrier.point(settings)
        examples.dispatch(KEY)
        for _ in range(2):
            headers, body = arrived.get(timeout=10)
            callback = services.read_callback(headers=headers, body=body, now=timezone.now())
            services.record_callback(callback=callback)

    assert services.look_up(keys=[KEY])[KEY]["delivered"] is True
    assert sorted(tracked()) == ["booked", "delivered", "handed_over"]
