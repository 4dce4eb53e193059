"""Lists, pages, filters, ETags; and what each request costs."""

import datetime
import uuid
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from api.models import Scope
from inventory import services as inventory
from orders import models, selectors
from sagas import models as saga_models
from tests.orders.conftest import Api, member, order

pytestmark = pytest.mark.django_db


def place(api: Api, count: int, **changes: Any) -> list[dict[str, Any]]:
    """So many orders, oldest first."""
    return [api.order(order(**changes), key=str(uuid.uuid4())).json() for _ in range(count)]


def ids(answer: Any) -> list[str]:
    assert answer.status_code == 200, answer.content
    return [row["id"] for row in answer.json()["results"]]


# --- Pages ---------------------------------------------------------------------------------------


def test_a_list_is_newest_first_and_one_s_own(ana: Api, bob: Api) -> None:
    placed = [one["id"] for one in place(ana, 3)]
    place(bob, 1)

    assert ids(ana.get("/orders")) == placed[::-1]


def test_staff_see_everybody_s(ana: Api, bob: Api) -> None:
    both = [place(ana, 1)[0]["id"], place(bob, 1)[0]["id"]]

    assert ids(member("olga", Scope.STAFF, is_staff=True).get("/orders")) == both[::-1]


def test_pages_follow_each_other_there_and_back(ana: Api) -> None:
    placed = [one["id"] for one in place(ana, 7)][::-1]

    pages = [ana.get("/orders?limit=3")]
    while link := pages[-1].json()["next"]:
        pages.append(follow(ana, link))
    assert [ids(page) for page in pages] == [placed[:3], placed[3:6], placed[6:]]

    back = [pages[-1]]
    while link := back[-1].json()["previous"]:
        back.append(follow(ana, link))
    assert [ids(page) for page in back] == [placed[6:], placed[3:6], placed[:3]]


def test_a_page_stays_what_it_is_while_orders_are_placed(ana: Api) -> None:
    placed = [one["id"] for one in place(ana, 4)][::-1]
    first = ana.get("/orders?limit=2")
    newer = place(ana, 3)

    second = follow(ana, first.json()["next"])

    assert ids(second) == placed[2:]
    assert ids(follow(ana, second.json()["previous"])) == placed[:2]
    assert newer[-1]["id"] == ids(ana.get("/orders"))[0]


def test_an_empty_list_is_a_page_too(ana: Api) -> None:
    assert ana.get("/orders").json() == {"next": None, "previous": None, "results": []}


def test_a_page_keeps_its_filters(ana: Api) -> None:
    place(ana, 2, reference="mine")
    place(ana, 1, reference="other")
    place(ana, 2, reference="mine")

    first = ana.get("/orders?reference=mine&limit=3")
    second = follow(ana, first.json()["next"])

    assert len(ids(first)) == 3
    assert len(ids(second)) == 1
    assert {row["reference"] for row in first.json()["results"] + second.json()["results"]} == {"mine"}


def follow(api: Api, link: str) -> Any:
    return api.client.get(link.removeprefix("http://testserver"))


# --- Filters -------------------------------------------------------------------------------------


def test_orders_are_found_by_status_reference_number_and_day(ana: Api) -> None:
    pending, cancelled = place(ana, 2)
    other = place(ana, 1, reference="cart-8")[0]
    ana.post(f"/orders/{cancelled['id']}/cancel", {"reason": "so"})
    today = datetime.datetime.now(datetime.UTC).date()
    yesterday, tomorrow = today - datetime.timedelta(days=1), today + datetime.timedelta(days=1)

    assert ids(ana.get("/orders?status=cancelled")) == [cancelled["id"]]
    assert ids(ana.get("/orders?status=pending")) == [other["id"], pending["id"]]
    assert ids(ana.get("/orders?status=fulfilled")) == []
    assert ids(ana.get("/orders?status=cancelled&status=pending")) == [
        other["id"],
        cancelled["id"],
        pending["id"],
    ]
    assert ids(ana.get("/orders?status=cancelled&status=fulfilled")) == [cancelled["id"]]
    assert ids(ana.get("/orders?status=pending&status=attention")) == [other["id"], pending["id"]]
    assert ids(ana.get("/orders?reference=cart-8")) == [other["id"]]
    assert ids(ana.get(f"/orders?number={pending['number'].lower()}")) == [pending["id"]]
    assert len(ids(ana.get(f"/orders?created_from={yesterday}&created_to={tomorrow}"))) == 3
    assert ids(ana.get(f"/orders?created_to={yesterday}")) == []
    assert ids(ana.get(f"/orders?created_from={tomorrow}T00:00:00Z")) == []
    assert ids(ana.get("/orders?created_from=1905-01-01&status=cancelled")) == [cancelled["id"]]


def test_an_order_s_id_may_be_written_in_capitals(ana: Api) -> None:
    placed = place(ana, 1)[0]

    assert ana.get(f"/orders/{placed['id'].upper()}").json()["id"] == placed["id"]


def test_an_order_is_found_by_its_number_too(ana: Api, bob: Api) -> None:
    placed = place(ana, 1)[0]

    for number in (placed["number"], placed["number"].lower()):
        assert ana.get(f"/orders/{number}").json()["id"] == placed["id"]
        assert bob.get(f"/orders/{number}").status_code == 404
    cancelled = ana.post(f"/orders/{placed['number']}/cancel", {"reason": "so"})
    assert cancelled.status_code == 202
    assert cancelled.json()["id"] == placed["id"]
    assert bob.get(f"/orders/{placed['number']}/events").status_code == 404


def test_what_has_changed_since_a_time_is_found_whether_it_goes_on_or_has_ended(ana: Api) -> None:
    going, ended, moved = place(ana, 3)
    old = saga_models.database_now() - datetime.timedelta(days=3)
    ana.post(f"/orders/{ended['id']}/cancel", {"reason": "so"})
    sagas = saga_models.SagaInstance.objects
    sagas.filter(pk__in=[going["saga"]["id"], ended["saga"]["id"]]).update(updated_at=old)
    models.Order.objects.filter(pk=ended["id"]).update(cancelled_at=old)
    models.Order.objects.update(created_at=old)
    shown = {row["id"]: row["updated_at"] for row in ana.get("/orders").json()["results"]}

    assert ids(ana.get(f"/orders?updated_from={shown[moved['id']]}")) == [moved["id"]]
    assert ids(ana.get(f"/orders?updated_from={shown[ended['id']]}")) == [
        moved["id"],
        ended["id"],
        going["id"],
    ]
    later = old + datetime.timedelta(seconds=1)
    assert ids(ana.get(f"/orders?updated_from={later:%Y-%m-%dT%H:%M:%S.%fZ}")) == [moved["id"]]
    # One whose saga is in the archive has ended, and when is its own to know.
    assert ids(ana.get(f"/orders?updated_from={old:%Y-%m-%dT%H:%M:%S.%fZ}&status=cancelled")) == [ended["id"]]


def test_what_has_changed_is_looked_for_by_an_index(ana: Api) -> None:
    rows = selectors.chosen(
        models.Order.objects.filter(owner=ana.user), {"updated_from": saga_models.database_now()}
    )
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
    plan = rows.explain()

    assert "orders_order_ended" in plan


# --- ETags ---------------------------------------------------------------------------------------


def test_what_has_not_changed_is_not_sent_again(ana: Api) -> None:
    path = f"/orders/{place(ana, 1)[0]['id']}"
    first = ana.get(path)

    same = ana.get(path, **{"If-None-Match": first["ETag"]})
    assert same.status_code == 304
    assert same.content == b""
    assert same["ETag"] == first["ETag"]

    ana.post(f"{path}/cancel", {"reason": "so"})
    changed = ana.get(path, **{"If-None-Match": first["ETag"]})
    assert changed.status_code == 200
    assert changed["ETag"] != first["ETag"]
    assert "private" in changed["Cache-Control"]


# --- Products ------------------------------------------------------------------------------------


def test_products_are_listed_by_sku_page_by_page(ana: Api) -> None:
    inventory.introduce(sku="A-LAMP", name="Lamp", price={"amount": 100, "currency": "BRL"}, quantity=3)

    first = ana.get("/products?limit=2").json()
    second = follow(ana, first["next"]).json()

    assert [row["sku"] for row in first["results"]] == ["A-LAMP", "MUG-BLUE"]
    assert first["results"][0] == {
        "sku": "A-LAMP",
        "name": "Lamp",
        "price": {"amount": 100, "currency": "BRL"},
        "available": 3,
        "ships": True,
    }
    assert [row["sku"] for row in second["results"]] == ["POSTER-MAP"]
    assert second["next"] is None


# --- What it costs -------------------------------------------------------------------------------

# Of each request, two statements are for the token and for its allowance.
COSTS: list[tuple[str, str, int]] = [
    ("an order", "/orders/{order}", 2 + 4),
    ("a page of orders", "/orders?limit=50", 2 + 4),
    ("a filtered page", "/orders?status=pending&reference=cart-7&limit=50", 2 + 4),
    ("a page of several statuses", "/orders?status=pending&status=cancelled&limit=50", 2 + 4),
    ("a page of what has changed", "/orders?updated_from=2026-01-01&limit=50", 2 + 4),
    ("an order by its number", "/orders/{number}", 2 + 4),
    ("the event log", "/events", 2 + 1),
    ("an empty page", "/orders?reference=none-such", 2 + 1),
    ("a page of products", "/products", 2 + 1),
    ("a page of sagas", "/sagas?limit=50", 2 + 4),
    ("a filtered page of sagas", "/sagas?state=running&step=take-payment&limit=50", 2 + 4),
    ("a saga", "/sagas/{saga}", 2 + 4),
    ("a saga's events", "/sagas/{saga}/events", 2 + 2),
    ("the endpoints", "/webhook-endpoints", 2 + 1),
]


@pytest.mark.parametrize(("what", "path", "statements"), COSTS, ids=[what for what, *_ in COSTS])
def test_reading_costs_the_same_however_much_there_is(
    catalogue: None, what: str, path: str, statements: int
) -> None:
    olga = member("olga", Scope.STAFF, is_staff=True)
    one = place(olga, 1)[0]
    path = path.format(order=one["id"], number=one["number"], saga=one["saga"]["id"])
    olga.get(path)

    with counted() as few:
        assert olga.get(path).status_code == 200
    place(olga, 9)
    with counted() as many:
        assert olga.get(path).status_code == 200

    assert len(few) == len(many) == statements, [query["sql"] for query in many]


def test_placing_costs_the_same_however_long_the_order_is(ana: Api) -> None:
    inventory.introduce(sku="A-LAMP", name="Lamp", price={"amount": 100, "currency": "BRL"}, quantity=3)
    place(ana, 1)

    with counted() as short:
        place(ana, 1, lines=[{"sku": "MUG-BLUE", "quantity": 1}])
    with counted() as long:
        place(
            ana, 1,
            lines=[{"sku": sku, "quantity": 1} for sku in ("MUG-BLUE", "POSTER-MAP", "A-LAMP")],
        )  # fmt: skip

    # Token, allowance; savepoint of the test around: lock timeout, key, prices, saga, order, lines, the
    # four statements that read it back, the answer kept.
    assert len(short) == len(long)
    assert len(long) <= 17, [query["sql"] for query in long]


def test_a_replay_costs_next_to_nothing(ana: Api) -> None:
    ana.order()

    with counted() as statements:
        ana.order()

    assert len(statements) <= 7, [query["sql"] for query in statements]


def test_a_cancellation_costs_a_fixed_number_of_statements(ana: Api) -> None:
    first, second = place(ana, 2)
    ana.post(f"/orders/{first['id']}/cancel", {"reason": "so"})

    with counted() as statements:
        ana.post(f"/orders/{second['id']}/cancel", {"reason": "so"})

    assert len(statements) <= 22, [query["sql"] for query in statements]


def test_a_page_of_a_hundred_full_orders_is_bounded_in_size(ana: Api) -> None:
    for number in range(100):
        inventory.introduce(
            sku=f"S-{number:03}", name="x" * 120, price={"amount": 1, "currency": "BRL"}, quantity=1
        )
    lines = [{"sku": f"S-{number:03}", "quantity": 1} for number in range(100)]
    answer = ana.order(order(lines=lines))

    assert answer.status_code == 202
    assert len(answer.content) < 32 * 1024


@pytest.mark.parametrize("table", ["orders_order", "sagas_saga"])
def test_a_page_is_found_by_an_index(ana: Api, table: str) -> None:
    """However many there are: the plan reads the rows in the order of the page and stops."""
    queryset = {
        "orders_order": models.Order.objects.filter(owner=ana.user).order_by("-id")[:21],
        "sagas_saga": saga_models.SagaInstance.objects.order_by("-id")[:21],
    }[table]
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute("SET LOCAL enable_sort = off")
        cursor.execute(
            "EXPLAIN " + str(queryset.values("id").query).replace(f"= {ana.user.pk}", f"= '{ana.user.pk}'")
        )
        plan = "\n".join(row[0] for row in cursor.fetchall())

    assert "Index" in plan
    assert "Sort" not in plan


def counted() -> CaptureQueriesContext:
    return CaptureQueriesContext(connection)
