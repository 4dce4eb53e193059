import pytest

from tests.sandbox import examples, process
from tests.support import waiting

pytestmark = pytest.mark.integration


def status(world, key: str) -> str:
    return world.client.get(f"/carrier/shipments/{key}").raise_for_status().json()["status"]


def test_a_shipment_is_booked_once_and_arrives_by_itself(world, key):
    body = examples.shipment()

    first = world.client.put(f"/carrier/shipments/{key}", json=body)
    again = world.client.put(f"/carrier/shipments/{key}", json=body)

    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["status"] == "booked"
    assert first.json()["tracking"] == again.json()["tracking"]
    waiting.until(lambda: status(world, key) == "delivered")
    assert world.written("shipments", key)["status"] == "delivered"

    other = world.client.put(f"/carrier/shipments/{key}", json=body | {"parcels": 2})
    assert (other.status_code, other.json()["code"]) == (422, "key_reused")


def test_by_default_it_arrives_within_about_a_second(data, key):
    with process.running(data, CARRIER_PACE_S="") as world:
        world.client.put(f"/carrier/shipments/{key}", json=examples.shipment())
        waiting.until(lambda: status(world, key) == "handed_over")
        waiting.until(lambda: status(world, key) == "delivered")


def test_where_the_carrier_does_not_go_nothing_is_booked(world, key):
    answer = world.client.put(f"/carrier/shipments/{key}", json=examples.shipment("99999-001"))

    assert (answer.status_code, answer.json()["code"]) == (422, "booking_refused")
    assert world.client.get(f"/carrier/shipments/{key}").status_code == 404
    assert world.written("shipments", key) is None


def test_a_delivery_that_failed_can_be_brought_back(world, key):
    world.client.put(f"/carrier/shipments/{key}", json=examples.shipment("99999002"))
    waiting.until(lambda: status(world, key) == "failed")

    answers = [world.client.post(f"/carrier/shipments/{key}/recall") for _ in range(2)]

    assert [answer.json()["status"] for answer in answers] == ["returned"] * 2
    assert world.written("shipments", key)["status"] == "returned"


def test_a_silent_carrier_stays_at_booked_until_it_is_recalled(world, key):
    world.client.put(f"/carrier/shipments/{key}", json=examples.shipment("99999-003"))
    other = f"{key}.other"
    world.client.put(f"/carrier/shipments/{other}", json=examples.shipment())
    # Booked later and arrived: had the first meant to move, it would have.
    waiting.until(lambda: status(world, other) == "delivered")

    assert status(world, key) == "booked"
    assert world.client.post(f"/carrier/shipments/{key}/recall").json()["status"] == "recalled"
    assert world.client.post(f"/carrier/shipments/{key}/recall").json()["status"] == "recalled"


def test_what_is_on_its_way_comes_back_and_does_not_arrive(data, key):
    other = f"{key}.other"
    with process.running(data, CARRIER_PACE_S="3600") as world:
        for one in (key, other):
            world.client.put(f"/carrier/shipments/{one}", json=examples.shipment())
        world.hurry()
        waiting.until(lambda: status(world, other) == "handed_over")

        assert world.client.post(f"/carrier/shipments/{key}/recall").json()["status"] == "returned"

        world.hurry()
        waiting.until(lambda: status(world, other) == "delivered")
        assert status(world, key) == "returned"


def test_what_was_recalled_before_it_left_never_leaves(data, key):
    other = f"{key}.other"
    with process.running(data, CARRIER_PACE_S="3600") as world:
        for one in (key, other):
            world.client.put(f"/carrier/shipments/{one}", json=examples.shipment())
        assert world.client.post(f"/carrier/shipments/{key}/recall").json()["status"] == "recalled"

        world.hurry()
        waiting.until(lambda: status(world, other) == "handed_over")
        assert status(world, key) == "recalled"


def test_what_was_delivered_is_gone(world, key):
    world.client.put(f"/carrier/shipments/{key}", json=examples.shipment())
    waiting.until(lambda: status(world, key) == "delivered")

    answer = world.client.post(f"/carrier/shipments/{key}/recall")

    assert (answer.status_code, answer.json()["code"]) == (409, "delivered")


def test_a_recall_before_its_booking_leaves_a_tombstone(world, key):
    for _ in range(2):
        early = world.client.post(f"/carrier/shipments/{key}/recall")
        assert (early.status_code, early.json()["status"], early.json()["tracking"]) == (
            200,
            "recalled",
            None,
        )

    late = world.client.put(f"/carrier/shipments/{key}", json=examples.shipment())

    assert (late.status_code, late.json()["code"]) == (409, "voided")
    assert world.written("shipments", key) is None


@pytest.mark.parametrize("postal_code", ["99999-001", "99999001"])
def test_the_dash_in_a_postal_code_means_nothing(world, key, postal_code):
    answer = world.client.put(f"/carrier/shipments/{key}", json=examples.shipment(postal_code))

    assert answer.json()["code"] == "booking_refused"
