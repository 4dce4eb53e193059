import pytest

from tests.sandbox import examples, process
from tests.support import waiting

pytestmark = pytest.mark.integration


def authorize(world, key: str, body: dict) -> None:
    assert world.client.put(f"/fiscal/invoices/{key}", json=body).status_code == 201


def refusal(answer) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def test_an_invoice_is_authorized_once_per_key(world, key):
    body = examples.invoice()

    first = world.client.put(f"/fiscal/invoices/{key}", json=body)
    again = world.client.put(f"/fiscal/invoices/{key}", json=body)

    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json() == world.client.get(f"/fiscal/invoices/{key}").json()
    assert first.json().items() >= {"key": key, "number": body["number"], "status": "authorized"}.items()
    assert first.json()["protocol"]
    assert (
        world.written("invoices", key).items() >= {"number": body["number"], "status": "authorized"}.items()
    )
    assert "52998224725" not in world.client.get("/books").text

    spelled_out = world.client.put(f"/fiscal/invoices/{key}", json=body | {"references": None})
    assert spelled_out.status_code == 200
    other = world.client.put(f"/fiscal/invoices/{key}", json=body | {"total": 1})
    assert refusal(other) == (422, "key_reused")


def test_a_rejected_invoice_leaves_no_trace_and_its_number_free(world, key):
    body = examples.invoice(tax_id="00000000191")

    assert refusal(world.client.put(f"/fiscal/invoices/{key}", json=body)) == (422, "rejected")

    assert world.client.get(f"/fiscal/invoices/{key}").status_code == 404
    assert world.written("invoices", key) is None
    authorize(world, f"{key}.corrected", body | {"tax_id": "52998224725"})


def test_a_number_is_used_once_in_its_series(world, key):
    body = examples.invoice()
    authorize(world, key, body)
    world.client.post(f"/fiscal/invoices/{key}/cancel")

    # A cancelled number stays used (M4).
    other = body | {"access_key": examples.access_key(1, body["number"], code=87654321)}
    assert refusal(world.client.put(f"/fiscal/invoices/{key}.other", json=other)) == (409, "duplicate_number")
    authorize(world, f"{key}.elsewhere", examples.invoice(series=2, number=body["number"]))


@pytest.mark.parametrize("code", range(11))
def test_an_access_key_has_one_right_check_digit(world, key, code):
    body = examples.invoice()
    right = examples.access_key(1, body["number"], code=code)

    for digit in set("0123456789") - {right[-1]}:
        wrong = body | {"access_key": right[:-1] + digit}
        assert refusal(world.client.put(f"/fiscal/invoices/{key}", json=wrong)) == (422, "rejected")
    authorize(world, key, body | {"access_key": right})


def test_an_access_key_as_the_manual_has_it_is_right(world, key):
    # From the taxpayer's manual of the NF-e, where it explains the check digit.
    printed = "52060433009911002506550120000007800267301615"

    authorize(world, key, examples.invoice(series=12, number=780, access_key=printed))


@pytest.mark.parametrize(("series", "number"), [(8, 1001), (7, 1002)])
def test_an_access_key_speaks_of_its_own_series_and_number(world, key, series, number):
    body = examples.invoice(series=7, number=1001, access_key=examples.access_key(series, number))

    assert refusal(world.client.put(f"/fiscal/invoices/{key}", json=body)) == (422, "rejected")


def test_a_number_declared_void_is_never_used(world, key):
    body = examples.invoice()
    void = {"series": 1, "number": body["number"], "reason": "The sale did not come about"}

    answers = [world.client.post("/fiscal/numbers/void", json=void) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [200, 200]
    assert refusal(world.client.put(f"/fiscal/invoices/{key}", json=body)) == (409, "number_voided")
    entries = [entry for entry in world.books()["voided_numbers"] if entry["number"] == body["number"]]
    assert entries == [void]


def test_a_number_in_use_cannot_be_declared_void(world, key):
    body = examples.invoice()
    authorize(world, key, body)

    void = {"series": 1, "number": body["number"], "reason": "The sale did not come about"}
    assert refusal(world.client.post("/fiscal/numbers/void", json=void)) == (409, "duplicate_number")


def test_an_invoice_is_cancelled_in_time(world, key):
    authorize(world, key, examples.invoice())

    answers = [world.client.post(f"/fiscal/invoices/{key}/cancel") for _ in range(2)]

    assert [answer.json()["status"] for answer in answers] == ["cancelled"] * 2
    assert world.written("invoices", key)["status"] == "cancelled"


def test_a_cancellation_before_its_invoice_leaves_a_tombstone(world, key):
    body = examples.invoice()
    for _ in range(2):
        early = world.client.post(f"/fiscal/invoices/{key}/cancel")
        assert (early.status_code, early.json()["status"], early.json()["number"]) == (200, "cancelled", None)

    assert refusal(world.client.put(f"/fiscal/invoices/{key}", json=body)) == (409, "voided")
    assert world.client.get(f"/fiscal/invoices/{key}").json()["number"] is None
    assert world.written("invoices", key) is None
    authorize(world, f"{key}.other", body)


def test_after_the_window_only_a_return_note_undoes_a_sale(data, key):
    with process.running(data, FISCAL_CANCEL_WINDOW_S="0") as world:
        sale = examples.invoice()
        authorize(world, key, sale)

        assert refusal(world.client.post(f"/fiscal/invoices/{key}/cancel")) == (409, "window_closed")

        authorize(world, f"{key}.return", examples.return_note(sale))
        assert (
            world.written("invoices", f"{key}.return").items()
            >= {
                "kind": "return",
                "status": "authorized",
                "references": sale["access_key"],
            }.items()
        )


@pytest.mark.parametrize(("postal_code", "ends"), [("01310-100", "delivered"), ("99999-002", "failed")])
def test_goods_that_left_forbid_the_cancellation(world, key, postal_code, ends):
    sale = examples.invoice()
    authorize(world, key, sale)
    body = examples.shipment(postal_code, reference=sale["access_key"])
    world.client.put(f"/carrier/shipments/{key}", json=body)
    waiting.until(lambda: world.written("shipments", key)["status"] == ends)

    cancel = world.client.post(f"/fiscal/invoices/{key}/cancel")

    assert refusal(cancel) == (409, "goods_in_circulation")
    assert world.written("invoices", key)["status"] == "authorized"
    authorize(world, f"{key}.return", examples.return_note(sale))


def test_goods_that_came_back_did_circulate(world, key):
    sale = examples.invoice()
    authorize(world, key, sale)
    body = examples.shipment("99999-002", reference=sale["access_key"])
    world.client.put(f"/carrier/shipments/{key}", json=body)
    waiting.until(lambda: world.written("shipments", key)["status"] == "failed")
    assert world.client.post(f"/carrier/shipments/{key}/recall").json()["status"] == "returned"

    assert refusal(world.client.post(f"/fiscal/invoices/{key}/cancel")) == (409, "goods_in_circulation")


def test_goods_recalled_before_they_left_allow_the_cancellation(world, key):
    sale = examples.invoice()
    authorize(world, key, sale)
    body = examples.shipment("99999-003", reference=sale["access_key"])
    world.client.put(f"/carrier/shipments/{key}", json=body)
    world.client.post(f"/carrier/shipments/{key}/recall")

    assert world.client.post(f"/fiscal/invoices/{key}/cancel").json()["status"] == "cancelled"


def test_no_more_is_returned_than_was_sold(world, key):
    sale = examples.invoice(total=1000)
    authorize(world, key, sale)

    def give_back(name: str, **changes: object) -> tuple[int, str | None]:
        body = examples.return_note(sale, **changes)
        answer = world.client.put(f"/fiscal/invoices/{key}.{name}", json=body)
        return answer.status_code, answer.json().get("code")

    assert give_back("a", total=1001) == (422, "rejected")
    assert give_back("b", total=1000, currency="USD") == (422, "rejected")
    assert give_back("c", total=600) == (201, None)
    assert give_back("d", total=600) == (422, "rejected")
    assert give_back("e", total=400) == (201, None)
    assert give_back("f", total=1) == (422, "rejected")
    assert refusal(world.client.post(f"/fiscal/invoices/{key}/cancel")) == (409, "goods_in_circulation")


def test_a_return_note_refers_to_an_authorized_sale(world, key):
    sale = examples.invoice()
    returned = examples.return_note(sale)

    assert refusal(world.client.put(f"/fiscal/invoices/{key}.a", json=returned)) == (422, "rejected")
    authorize(world, key, sale)
    world.client.post(f"/fiscal/invoices/{key}/cancel")
    assert refusal(world.client.put(f"/fiscal/invoices/{key}.b", json=returned)) == (422, "rejected")


def test_a_return_is_not_returned(world, key):
    sale = examples.invoice()
    authorize(world, key, sale)
    returned = examples.return_note(sale)
    authorize(world, f"{key}.return", returned)

    again = world.client.put(f"/fiscal/invoices/{key}.again", json=examples.return_note(returned))

    assert refusal(again) == (422, "rejected")


def test_a_return_note_that_was_cancelled_returns_nothing(world, key):
    sale = examples.invoice()
    authorize(world, key, sale)
    authorize(world, f"{key}.return", examples.return_note(sale))
    world.client.post(f"/fiscal/invoices/{key}.return/cancel")

    assert world.client.post(f"/fiscal/invoices/{key}/cancel").json()["status"] == "cancelled"
