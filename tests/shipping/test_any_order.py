"""Dispatch and recall in every order, any number of times, dying at every point: nothing is left (E1-E5)."""

import itertools

import pytest

from shipping import audit, models, services
from tests import crashes, verbs
from tests.shipping import senders

pytestmark = pytest.mark.django_db

FATES = {"served": "01310-100", "refused": "99999-001", "silent": "99999-003"}


def nothing_is_left(sandbox, key):
    shipment = sandbox.shipment(key)
    assert shipment is None or shipment["status"] == "recalled"
    row = models.Shipment.objects.get(key=key)
    assert row.undone_at is not None
    with pytest.raises(services.Refused):
        senders.dispatch(key)
    assert sandbox.shipment(key) == shipment, "a booking came after its tombstone (E5)"
    assert list(audit.against(sandbox.books()["shipments"], keys=[key])) == []


@verbs.every_script
@pytest.mark.parametrize("fate", FATES)
def test_every_order_and_every_death_nets_to_nothing(sandbox, settings, script, fate):
    settings.SHIPPING_GATEWAY = "tests.shipping.crashing.Gateway"
    for point in itertools.count():
        key = verbs.key(point, "deliver-order")
        with crashes.at(point):
            verbs.play(script, **senders.verbs(key, FATES[fate]))
            met = crashes.was_met(point)

        nothing_is_left(sandbox, key)
        if point and not met:
            break


@pytest.mark.django_db(transaction=True)
def test_all_at_once_nets_to_nothing(sandbox):
    for round_ in range(5):
        key = verbs.key(round_, "deliver-order")
        verbs.at_once(["do", "undo", "do", "undo"], **senders.verbs(key))

        nothing_is_left(sandbox, key)


@pytest.mark.django_db(transaction=True)
def test_dispatches_at_once_are_one_parcel(sandbox):
    sender = senders.verbs("a.deliver-order")
    verbs.at_once(["do"] * 4, **{**sender, "undo": sender["do"]})

    assert len(sandbox.books()["shipments"]) == 1
    assert models.TrackingEvent.objects.count() == 1
