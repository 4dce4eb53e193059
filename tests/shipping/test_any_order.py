"""Dispatch and recall in every order, any number of times, dying at every point: nothing is left (E1-E5)."""

import itertools
from typing import Any

import pytest

from shipping import audit, gateway, models, services
from tests.shipping import examples
from tests.support import crashes, step_functions

pytestmark = pytest.mark.django_db

FATES = {"served": "01310-100", "refused": "99999-001", "silent": "99999-003"}


def nothing_is_left(sandbox, key):
    shipment = sandbox.shipment(key)
    assert shipment is None or shipment["status"] == "recalled"
    row = models.Shipment.objects.get(key=key)
    assert row.undone_at is not None
    with pytest.raises(services.Refused):
        examples.dispatch(key)
    assert sandbox.shipment(key) == shipment, "a booking came after its tombstone (E5)"
    assert list(audit.against(sandbox.books()["shipments"], keys=[key])) == []


@step_functions.every_script_and(FATES)
def test_every_order_and_every_death_nets_to_nothing(sandbox, settings, script, fate):
    settings.SHIPPING_GATEWAY = "tests.shipping.crashing.Gateway"
    for point in itertools.count():
        key = step_functions.key(point, "deliver-order")
        with crashes.at(point):
            step_functions.play(script, **examples.functions(key, FATES[fate]))
            met = crashes.was_met(point)

        nothing_is_left(sandbox, key)
        if point and not met:
            break


class Forgetful(gateway.HttpGateway):
    """A carrier without tombstones, and an undo that comes between our intent and our call."""

    def book(self, *, key: str, **given: Any) -> gateway.Parcel:
        services.recall(key=key)
        return super().book(key=key, **given)

    def recall(self, *, key: str) -> gateway.Parcel:
        if self.ask(key=key):
            return super().recall(key=key)
        return gateway.Parcel(status=models.Status.RECALLED, tracking="")


def test_a_booking_that_lands_although_it_was_undone_is_undone_at_once(sandbox, settings):
    settings.SHIPPING_GATEWAY = "tests.shipping.test_any_order.Forgetful"
    with pytest.raises(services.Refused):
        examples.dispatch("a.deliver-order")

    # E3: nobody had to call the undo again.
    assert sandbox.shipment("a.deliver-order")["status"] == "recalled"
    nothing_is_left(sandbox, "a.deliver-order")


@pytest.mark.django_db(transaction=True)
def test_all_at_once_nets_to_nothing(sandbox):
    for round_ in range(5):
        key = step_functions.key(round_, "deliver-order")
        step_functions.at_once(["do", "undo", "do", "undo"], **examples.functions(key))

        nothing_is_left(sandbox, key)


@pytest.mark.django_db(transaction=True)
def test_dispatches_at_once_are_one_parcel(sandbox):
    sender = examples.functions("a.deliver-order")
    step_functions.at_once(["do"] * 4, **{**sender, "undo": sender["do"]})

    assert len(sandbox.books()["shipments"]) == 1
    assert models.TrackingEvent.objects.count() == 1
