"""What can be sent is sent, and the buyer pays for that and for nothing else."""

import pytest

from examples import marketplace
from sagas import engine, testing
from sagas.models import SagaInstance

LAMP = {"seller": "lumen", "article": "lamp", "grams": 900, "price": {"amount": 80_00, "currency": "BRL"}}
BOOK = {"seller": "folio", "article": "book", "grams": 300, "price": {"amount": 45_50, "currency": "BRL"}}
PIANO = {"seller": "tasto", "article": "piano", "grams": 240_000, "price": {"amount": 9, "currency": "BRL"}}


@pytest.mark.parametrize(
    "script",
    [
        # The parcels have ended, each as it could; which of them were sent is told by the tests below.
        "do authorize, tell send-parcels, do capture, completed",
        "do authorize, tell send-parcels, lose capture, ask capture, completed",
        "do authorize, tell send-parcels, drop capture, miss ask capture, do capture, completed",
        "do authorize, tell send-parcels, fail capture, undo authorize, compensated",
        "do authorize, cancel, undo authorize, compensated",
        "fail authorize, undo authorize, compensated",
    ],
)
def test_an_order_as_declared(script):
    assert testing.rehearse(marketplace.MARKETPLACE_ORDER, script) == testing.lines(script)


@pytest.mark.parametrize(
    "script",
    [
        "do reserve, do hand-over, completed",
        "do reserve, lose hand-over, do hand-over, completed",
        "fail reserve, undo reserve, compensated",
        "do reserve, fail hand-over, undo hand-over, undo reserve, compensated",
    ],
)
def test_a_parcel_as_declared(script):
    assert testing.rehearse(marketplace.PARCEL, script) == testing.lines(script)


def test_everything_is_sent_and_charged(world):
    order = world.play(place(LAMP, BOOK))

    assert order.state == "completed"
    assert parcels(order) == [("lamp", "completed"), ("book", "completed")]
    assert charged() == [("hold", 125_50), ("charge", 125_50)]
    assert set(reserved()) == {"lamp of lumen", "book of folio"}
    tracked = [each["facts"]["tracking"] for each in order.facts["shipped"]]
    assert [marketplace.Record.objects.get(key=key).what for key in tracked] == [
        f"{key} to 1 Elm Street" for key in tracked
    ]


def test_a_parcel_that_the_carrier_refuses_goes_back_to_its_seller_and_costs_nothing(world):
    order = world.play(place(LAMP, PIANO, BOOK))

    assert order.state == "completed"
    assert parcels(order) == [("lamp", "completed"), ("piano", "compensated"), ("book", "completed")]
    assert [each["done"] for each in order.facts["shipped"]] == [True, False, True]
    (piano,) = [each for each in order.facts["shipped"] if not each["done"]]
    assert piano["element"] == PIANO
    assert piano["failure"] == {
        "step": "hand-over", "kind": "refused", "message": "The carrier takes no more than 30 kg.",
    }  # fmt: skip
    assert "Elm Street" not in str(order.facts["shipped"])
    assert charged() == [("hold", 125_59), ("charge", 125_50)]
    assert set(reserved()) == {"lamp of lumen", "book of folio"}


def test_what_the_bank_says_was_charged_is_what_the_order_knows(world):
    order = world.play(place(LAMP, PIANO))

    asked = marketplace.find_charge(key=f"{order.pk}.capture")
    assert order.facts["charged"] == asked["charged"] == LAMP["price"]
    assert marketplace.find_charge(key="never.capture") is None


def test_of_two_orders_for_the_last_lamp_one_is_charged_for_it(world):
    orders = [place(LAMP, BOOK, number="1"), place(LAMP, PIANO, number="2")]

    ends = [world.play(order).state for order in orders]

    charges = sorted(amount for what, amount in charged() if what == "charge")
    assert (ends, charges) in [
        (["completed", "compensated"], [125_50]),
        (["completed", "completed"], [45_50, 80_00]),
    ]
    assert set(reserved()) == {"lamp of lumen", "book of folio"}


def test_where_nothing_can_be_sent_the_order_is_refused_and_nothing_is_charged(world):
    marketplace.reserve(key="of another", **{name: LAMP[name] for name in ("seller", "article", "price")})

    order = world.play(place(LAMP, PIANO))

    assert order.state == "compensated"
    assert order.failure["step"] == "send-parcels"
    assert order.failure["message"] == "2 of 2 children are not done."
    assert parcels(order) == [("lamp", "compensated"), ("piano", "compensated")]
    assert charged() == []
    assert reserved() == ["lamp of lumen"]


def test_a_card_without_money_bothers_no_seller(world):
    order = world.play(place(LAMP, card="card-without-money"))

    assert order.state == "compensated"
    assert parcels(order) == charged() == reserved() == []


def test_an_order_that_is_cancelled_while_its_parcels_are_packed_is_recalled_whole(world):
    order = place(LAMP, BOOK)
    for _ in range(100):
        if reserved():
            break
        world.go_on()
    assert reserved()

    engine.cancel(order.pk, actor="alice", reason="changed my mind")
    world.play(order)

    assert order.state == "compensated"
    assert parcels(order) == [("lamp", "compensated"), ("book", "compensated")]
    assert not marketplace.Record.objects.filter(taken_back=False).exists()


def test_what_was_sent_is_recalled_where_the_charge_is_refused(world):
    order = place(LAMP, BOOK)
    marketplace.take_back(key=f"{order.pk}.capture")

    world.play(order)

    assert order.state == "compensated"
    assert parcels(order) == [("lamp", "compensated"), ("book", "compensated")]
    assert not marketplace.Record.objects.filter(taken_back=False).exists()


def test_the_token_of_the_card_is_struck_out(world):
    order = world.play(place(LAMP))

    assert "card-of-alice" not in str(order.facts)


@pytest.mark.parametrize("wanted", [[], [LAMP, BOOK | {"price": {"amount": 9_00, "currency": "USD"}}]])
def test_an_order_has_one_currency(transactional_db, wanted):
    with pytest.raises(ValueError, match="one currency"):
        place(*wanted)
    assert not SagaInstance.objects.exists()


def test_what_is_done_after_it_was_taken_back_is_refused(transactional_db):
    marketplace.take_back(key="1.hand-over")

    with pytest.raises(marketplace.Refused):
        marketplace.hand_over(key="1.hand-over", address="1 Elm Street", grams=1)


def place(*wanted, number="1", card="card-of-alice"):
    return marketplace.place_order(number=number, card=card, address="1 Elm Street", parcels=list(wanted))


def parcels(order):
    """What became of each parcel."""
    rows = SagaInstance.objects.filter(parent_id=order.pk).order_by("parent_item")
    return [(row.facts["article"], row.state) for row in rows]


def charged():
    """What the bank holds, and what it has charged."""
    rows = marketplace.Record.objects.filter(taken_back=False).values_list("what", "amount")
    words = [(what.partition(" ")[0], amount) for what, amount in rows]
    return sorted([each for each in words if each[0] in ("hold", "charge")], reverse=True)


def reserved():
    """What the sellers have put aside."""
    rows = marketplace.Record.objects.filter(taken_back=False, what__contains=" of ")
    return sorted(rows.values_list("what", flat=True))
