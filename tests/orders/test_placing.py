"""Placing an order over HTTP."""

import pytest

from inventory.models import Product
from orders import models
from sagas import models as saga_models
from tests.orders.conftest import Api, order

pytestmark = pytest.mark.django_db


def test_an_order_is_taken_at_once_and_worked_on_behind(ana: Api) -> None:
    answer = ana.order()

    assert answer.status_code == 202, answer.content
    body = answer.json()
    assert answer["Location"] == f"/api/v1/orders/{body['id']}"
    assert body["number"].startswith("ORD-")
    assert body["status"] == "pending"
    assert body["total"] == {"amount": 2 * 4590 + 9110, "currency": "BRL"}
    assert body["lines"][0] == {
        "sku": "MUG-BLUE",
        "name": "Blue mug",
        "quantity": 2,
        "unit_price": {"amount": 4590, "currency": "BRL"},
        "ships": True,
    }
    assert body["payment"]["method"] == "card"
    assert body["payment"]["key"] == f"{body['saga']['id']}.take-payment"
    assert [step["name"] for step in body["saga"]["steps"]] == [
        "review-order",
        "take-payment",
        "reserve-stock",
        "issue-invoice",
        "deliver-order",
    ]
    assert body["reference"] == "cart-7"
    assert body["created_at"] <= body["updated_at"]

    # What was answered can be read again, and by its owner only.
    assert ana.get(f"/orders/{body['id']}").json() == body


def test_the_card_s_token_is_nowhere_but_in_what_the_saga_is_given(ana: Api) -> None:
    answer = ana.order()

    assert b"tok_ok" not in answer.content
    row = models.Order.objects.get()
    assert "tok_ok" not in str(models.Order.objects.values().get())
    assert saga_models.SagaInstance.objects.get(pk=row.saga_id).facts["payment"]["token"] == "tok_ok"


def test_an_order_belongs_to_the_trace_of_its_request(ana: Api) -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    for key, given in {"traced": trace, "nonsense": "of-no-trace", "none": None}.items():
        headers = {"Idempotency-Key": key} | ({"traceparent": given} if given else {})
        assert ana.post("/orders", order(), **headers).status_code == 202

    kept = saga_models.SagaInstance.objects.order_by("pk").values_list("traceparent", flat=True)
    assert list(kept) == [trace, None, None]


def test_an_order_needs_a_key(ana: Api) -> None:
    answer = ana.post("/orders", order())

    assert answer.status_code == 400
    assert answer["Content-Type"] == "application/problem+json"
    assert answer.json()["type"] == "/api/problems/idempotency-key-missing"
    assert not models.Order.objects.exists()


TOTAL = {"amount": 2 * 4590 + 9110, "currency": "BRL"}


def test_an_order_at_the_total_that_its_owner_expects_is_placed(ana: Api) -> None:
    answer = ana.order(order(total=TOTAL))

    assert answer.status_code == 202, answer.content
    assert answer.json()["total"] == TOTAL


@pytest.mark.parametrize(
    "expected", [TOTAL | {"amount": TOTAL["amount"] - 1}, TOTAL | {"currency": "USD"}, TOTAL | {"amount": 0}]
)
def test_an_order_at_another_total_is_refused_and_uses_no_key_up(
    ana: Api, expected: dict[str, object]
) -> None:
    answer = ana.order(order(total=expected))

    assert answer.status_code == 422
    refused = answer.json()
    assert refused["type"] == "/api/problems/total-differs"
    assert (refused["expected"], refused["total"]) == (expected, TOTAL)
    assert f"comes to {TOTAL['amount']} BRL" in refused["detail"]
    assert not models.Order.objects.exists()
    assert not saga_models.SagaInstance.objects.exists()

    # As after every refusal: the customer agrees to the new total, and the same key places it, once.
    placed = ana.order(order(total=TOTAL))
    again = ana.order(order(total=TOTAL))
    assert (placed.status_code, again.content) == (202, placed.content)
    assert again["Idempotency-Replayed"] == "true"
    assert models.Order.objects.count() == 1


def test_a_price_that_has_changed_meanwhile_is_noticed(ana: Api) -> None:
    Product.objects.filter(sku="MUG-BLUE").update(price_amount=4990)

    refused = ana.order(order(total=TOTAL)).json()

    assert refused["total"]["amount"] == TOTAL["amount"] + 800


def test_a_number_that_is_taken_is_not_given_twice(ana: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    first = ana.order().json()
    field = models.Order._meta.get_field("number")
    given = iter([first["number"], "ORD-00000001"])
    monkeypatch.setattr(field, "_get_default", lambda: next(given))

    second = ana.order(key="key-2")

    assert second.status_code == 202
    assert second.json()["number"] == "ORD-00000001"


def test_what_is_answered_is_kept_out_of_everybody_s_caches(ana: Api) -> None:
    for answer in (ana.order(), ana.get("/orders"), ana.get("/products"), ana.get("/nowhere")):
        assert "store" in answer["Cache-Control"]


def test_a_head_or_options_request_costs_nobody_a_thread(ana: Api) -> None:
    path = f"/api/v1/orders/{ana.order().json()['id']}"

    assert ana.client.head(f"{path}/events").content == b""
    assert ana.client.head(path).status_code == 200
    assert ana.client.options(path).status_code == 405
