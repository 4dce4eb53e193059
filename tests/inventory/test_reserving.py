"""Goods are set aside, given back and shipped, all lines or none, and none is made or lost (I2)."""

import itertools

import pytest
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext

from inventory import audit, models, services
from tests.inventory import examples
from tests.support import step_functions

pytestmark = pytest.mark.django_db

KEY = "a.reserve-stock"


def test_what_is_reserved_is_available_to_nobody_else():
    examples.stock(mug=10, poster=5)

    assert examples.reserve(KEY, mug=3, poster=5) == {"reserved": 8}

    assert examples.levels("mug") == (7, 3, 0)
    assert examples.levels("poster") == (0, 5, 0)


def test_what_is_released_is_available_again():
    examples.stock(mug=10)
    examples.reserve(KEY, mug=3)

    assert services.release(key=KEY) == {"released": 3}

    assert examples.levels("mug") == (10, 0, 0)


def test_what_is_shipped_is_gone():
    examples.stock(mug=10)
    examples.reserve(KEY, mug=3)

    assert services.ship(key=KEY) == {"shipped": 3}

    assert examples.levels("mug") == (7, 0, 3)


def test_all_functions_lock_products_in_one_order_and_leave_it_to_nobodys_alphabet():
    # Bytes put the hyphen before the letters; many a language leaves it out, and begins with MUGS.
    examples.stock(**{"MUGS": 10, "MUG-STONEWARE": 10})
    wanted = {"MUGS": 1, "MUG-STONEWARE": 1}

    with CaptureQueriesContext(connection) as asked:
        examples.reserve(KEY, **wanted)
        services.release(key=KEY)
        examples.reserve("b", **wanted)
        services.ship(key="b")

    moving = [query["sql"] for query in asked if "inventory_movement (" in query["sql"]]
    assert len(moving) == 4
    for statement in moving:
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN (FORMAT JSON) {statement}")
            (plan,) = cursor.fetchone()[0]
        (locking,) = [node for node in nodes(plan["Plan"]) if node["Node Type"] == "LockRows"]
        (sorting,) = locking["Plans"]
        (key,) = sorting["Sort Key"]
        assert "product.sku" in key
        assert key.endswith('COLLATE "C"')


def nodes(plan):
    """A plan's nodes, from the top down."""
    yield plan
    for below in plan.get("Plans", ()):
        yield from nodes(below)


@pytest.mark.parametrize("wanted", [{"mug": 2, "poster": 6}, {"mug": 11}, {"mug": 1, "unheard-of": 1}])
def test_too_little_of_one_thing_reserves_nothing(wanted):
    examples.stock(mug=10, poster=5)

    with pytest.raises(services.Refused), transaction.atomic():
        examples.reserve(KEY, **wanted)

    assert examples.levels("mug") == (10, 0, 0)
    assert examples.levels("poster") == (5, 0, 0)
    assert not models.Reservation.objects.exists()


def test_a_refusal_cannot_be_committed_by_mistake():
    examples.stock(mug=10, poster=5)

    with transaction.atomic():
        with pytest.raises(services.Refused):
            examples.reserve(KEY, mug=2, poster=6)

        with pytest.raises(transaction.TransactionManagementError):
            models.Product.objects.count()
        transaction.set_rollback(True)


def test_several_lines_of_one_product_are_one():
    examples.stock(mug=10)

    services.reserve(key=KEY, lines=examples.lines(mug=2) + examples.lines(mug=3))

    assert examples.levels("mug") == (5, 5, 0)


@pytest.mark.parametrize("quantity", [0, -1, 1.5, "2", None])
def test_goods_are_not_moved_the_wrong_way(quantity):
    examples.stock(mug=10)

    with pytest.raises(ValueError, match="cannot be reserved"):
        services.reserve(key=KEY, lines=[{"sku": "mug", "quantity": quantity}])


def test_repeating_a_word_changes_nothing():
    examples.stock(mug=10)
    assert examples.reserve(KEY, mug=3) == examples.reserve(KEY, mug=3) == {"reserved": 3}
    assert examples.levels("mug") == (7, 3, 0)

    services.ship(key=KEY)
    assert services.ship(key=KEY) == {"shipped": 0}
    assert examples.reserve(KEY, mug=3) == {"reserved": 3}
    assert examples.levels("mug") == (7, 0, 3)


def test_what_is_shipped_cannot_be_released():
    examples.stock(mug=10)
    examples.reserve(KEY, mug=3)
    services.ship(key=KEY)

    with pytest.raises(services.Refused), transaction.atomic():
        services.release(key=KEY)

    assert examples.levels("mug") == (7, 0, 3)


@pytest.mark.parametrize("before", [None, "release"])
def test_what_is_not_held_cannot_be_shipped(before):
    examples.stock(mug=10)
    if before:
        services.release(key=KEY)

    with pytest.raises(services.Refused), transaction.atomic():
        services.ship(key=KEY)


@step_functions.every_script
def test_every_order_nets_to_nothing(script):
    examples.stock(mug=10, poster=10)

    def do():
        with transaction.atomic():
            examples.reserve(KEY, poster=2, mug=3)

    def undo():
        with transaction.atomic():
            services.release(key=KEY)

    for word in script:
        try:
            {"do": do, "undo": undo}[word]()
        except services.Refused:
            # E5: only an action is refused, and only after its tombstone.
            assert word == "do"
            assert models.Reservation.objects.get().status == models.Status.RELEASED

    assert examples.levels("mug") == (10, 0, 0)
    assert models.Reservation.objects.get().status == models.Status.RELEASED
    moved = models.Movement.objects.filter(reservation_id=KEY, product_id="mug")
    # E1, E2: reserved at most once, and released exactly as often.
    assert [movement.kind for movement in moved] in ([], ["reserved", "released"])
    assert list(audit.within()) == []


def test_no_row_can_say_that_there_is_less_than_nothing():
    examples.stock(mug=10)

    for level in ("available", "reserved", "shipped"):
        with pytest.raises(IntegrityError, match="stock_not_negative"), transaction.atomic():
            models.Product.objects.filter(sku="mug").update(**{level: -1})


@pytest.mark.parametrize(
    "change", ["UPDATE inventory_movement SET quantity = 1", "DELETE FROM inventory_movement"]
)
def test_a_movement_is_neither_changed_nor_deleted(change):
    examples.stock(mug=10)

    with pytest.raises(IntegrityError, match="append-only"), connection.cursor() as cursor:
        cursor.execute(change)


def test_a_product_is_introduced_once():
    examples.stock(mug=10)

    assert not services.introduce(
        sku="mug", name="Another", price={"amount": 1, "currency": "BRL"}, quantity=99
    )

    assert examples.levels("mug") == (10, 0, 0)
    assert services.quote(skus=["mug", "unheard-of"])["mug"].price == {"amount": 1000, "currency": "BRL"}
    assert [product.sku for product in services.catalogue()] == ["mug"]


def test_goods_that_are_received_can_be_reserved():
    examples.stock(mug=0)
    services.receive(sku="mug", quantity=4)

    assert examples.reserve(KEY, mug=4) == {"reserved": 4}
    with pytest.raises(services.Refused), transaction.atomic():
        services.receive(sku="unheard-of", quantity=1)


def test_the_audit_finds_stock_that_does_not_add_up():
    examples.stock(mug=10, poster=10, plant=10)
    for number, sku in itertools.product(range(3), ["mug", "poster", "plant"]):
        examples.reserve(f"{number}.{sku}", **{sku: 1})
    services.release(key="0.mug")
    services.ship(key="1.mug")
    assert list(audit.within()) == []

    models.Product.objects.filter(sku="mug").update(available=9)
    models.Product.objects.filter(sku="poster").update(reserved=4, available=6)
    models.Reservation.objects.filter(key="0.plant").update(status="shipped")

    assert [key for key, _ in audit.within()] == ["mug", "poster", "0.plant"]


def test_a_position_says_whether_goods_are_held():
    examples.stock(mug=10)
    for key in ("held", "released", "shipped"):
        examples.reserve(key, mug=2)
    services.release(key="released")
    services.release(key="tombstone")
    services.ship(key="shipped")

    positions = audit.positions(keys=["held", "released", "shipped", "tombstone", "unheard-of"])

    assert positions == {
        "held": {"in_effect": True, "status": "held", "units": 2},
        "released": {"in_effect": False, "status": "released", "units": 2},
        "shipped": {"in_effect": True, "status": "shipped", "units": 2},
        "tombstone": {"in_effect": False, "status": "released", "units": 0},
    }
