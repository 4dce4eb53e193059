import time

import httpx
import pytest

from tests.sandbox import examples, process
from tests.support import waiting

pytestmark = pytest.mark.integration

# --- Cards --------------------------------------------------------------------------------------


def test_a_card_is_charged_once_however_often_it_is_asked(world, key):
    first = world.client.put(f"/bank/charges/{key}", json=examples.card())
    again = world.client.put(f"/bank/charges/{key}", json=examples.card())

    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json() == world.client.get(f"/bank/charges/{key}").json()
    assert first.json() | {"id": "ch_"} == {
        "key": key,
        "id": "ch_",
        "method": "card",
        "status": "captured",
        "amount": 18290,
        "currency": "BRL",
        "captured": 18290,
        "refunded": 0,
    }

    entry = world.written("charges", key)
    assert entry.items() >= {"amount": 18290, "currency": "BRL", "captured": 18290, "refunded": 0}.items()


def test_a_key_stands_for_one_request_only(world, key):
    world.client.put(f"/bank/charges/{key}", json=examples.card())

    other = world.client.put(f"/bank/charges/{key}", json=examples.card(amount=1))

    assert (other.status_code, other.json()["code"]) == (422, "key_reused")
    assert world.written("charges", key)["captured"] == 18290


def test_what_was_never_charged_is_not_found(world, key):
    answer = world.client.get(f"/bank/charges/{key}")

    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("token", "code"), [("tok_declined", "card_declined"), ("4111111111111111", "unknown_token")]
)
def test_a_declined_card_gives_nothing_now_or_later(world, key, token, code):
    answers = [world.client.put(f"/bank/charges/{key}", json=examples.card(token)) for _ in range(2)]

    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(402, code)] * 2
    assert world.client.get(f"/bank/charges/{key}").json()["status"] == "declined"
    assert token not in world.client.get("/books").text

    undone = world.client.post(f"/bank/charges/{key}/refund")
    assert (undone.status_code, undone.json()["status"]) == (200, "declined")
    assert world.written("charges", key).items() >= {"captured": 0, "refunded": 0}.items()


def test_flaky_works_the_third_time(world, key):
    statuses = []
    for _ in range(4):
        answer = world.client.put(f"/bank/charges/{key}", json=examples.card("tok_flaky"))
        statuses.append(answer.status_code)
        if answer.status_code == 503:
            assert answer.json()["code"] == "unavailable"
            assert world.written("charges", key) is None

    assert statuses == [503, 503, 201, 200]


def test_a_lost_reply_is_a_charge_that_a_query_finds(world, key):
    with pytest.raises(httpx.RemoteProtocolError):
        world.client.put(f"/bank/charges/{key}", json=examples.card("tok_lost_reply"))

    assert world.client.get(f"/bank/charges/{key}").json()["status"] == "captured"
    assert world.client.put(f"/bank/charges/{key}", json=examples.card("tok_lost_reply")).status_code == 200
    assert world.written("charges", key)["captured"] == 18290


def test_down_never_charges_but_can_be_voided(world, key):
    for _ in range(4):
        answer = world.client.put(f"/bank/charges/{key}", json=examples.card("tok_down"))
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert world.client.get(f"/bank/charges/{key}").status_code == 404

    undone = world.client.post(f"/bank/charges/{key}/refund")

    assert (undone.status_code, undone.json()["status"]) == (200, "voided")
    assert world.written("charges", key) is None


def test_slow_takes_two_seconds_once(world, key):
    began = time.monotonic()
    first = world.client.put(f"/bank/charges/{key}", json=examples.card("tok_slow"))
    took = time.monotonic() - began
    assert (first.status_code, first.json()["status"]) == (201, "captured")
    assert took >= 2

    began = time.monotonic()
    assert world.client.put(f"/bank/charges/{key}", json=examples.card("tok_slow")).status_code == 200
    assert time.monotonic() - began < 2


def test_a_void_overtakes_a_slow_charge(world, key):
    with pytest.raises(httpx.ReadTimeout):
        world.client.put(f"/bank/charges/{key}", json=examples.card("tok_slow"), timeout=0.3)
    assert world.client.post(f"/bank/charges/{key}/refund").json()["status"] == "voided"

    # Asked again it takes its two seconds, so by its answer the first one is through as well.
    late = world.client.put(f"/bank/charges/{key}", json=examples.card("tok_slow"))

    assert (late.status_code, late.json()["code"]) == (409, "voided")
    assert world.written("charges", key) is None


def test_what_is_no_test_token_is_not_even_written_down(data, key):
    # For it may be the number of somebody's real card.
    with process.running(data) as world:
        world.client.put(f"/bank/charges/{key}", json=examples.card("4111111111111111"))

    content = b"".join(path.read_bytes() for path in data.iterdir())
    assert key.encode() in content
    assert b"4111111111111111" not in content


# --- Refunds ------------------------------------------------------------------------------------


def test_a_refund_gives_everything_back_once(world, key):
    world.client.put(f"/bank/charges/{key}", json=examples.card())

    answers = [world.client.post(f"/bank/charges/{key}/refund") for _ in range(3)]

    assert [answer.status_code for answer in answers] == [200] * 3
    assert answers[0].json() == answers[2].json()
    assert answers[0].json()["status"] == "refunded"
    assert world.written("charges", key).items() >= {"captured": 18290, "refunded": 18290}.items()


def test_a_refund_before_its_charge_leaves_a_tombstone(world, key):
    assert world.client.post(f"/bank/charges/{key}/refund").status_code == 200
    assert world.client.post(f"/bank/charges/{key}/refund").status_code == 200

    late = world.client.put(f"/bank/charges/{key}", json=examples.card())

    assert (late.status_code, late.json()["code"]) == (409, "voided")
    assert world.client.get(f"/bank/charges/{key}").json()["status"] == "voided"
    assert world.written("charges", key) is None
    assert {"provider": "bank", "key": key} in world.books()["tombstones"]


def test_a_charge_that_was_refunded_stays_so_when_it_is_asked_again(world, key):
    world.client.put(f"/bank/charges/{key}", json=examples.card())
    world.client.post(f"/bank/charges/{key}/refund")

    again = world.client.put(f"/bank/charges/{key}", json=examples.card())

    assert (again.status_code, again.json()["status"]) == (200, "refunded")
    assert world.written("charges", key)["refunded"] == 18290


def test_a_flaky_refund_works_the_fourth_time(world, key):
    world.client.put(f"/bank/charges/{key}", json=examples.card("tok_refund_flaky"))

    answers = [world.client.post(f"/bank/charges/{key}/refund") for _ in range(5)]

    assert [answer.status_code for answer in answers] == [503, 503, 503, 200, 200]
    assert world.written("charges", key)["refunded"] == 18290


def test_a_refused_refund_is_refused_for_good(world, key):
    world.client.put(f"/bank/charges/{key}", json=examples.card("tok_refund_refused"))

    answers = [world.client.post(f"/bank/charges/{key}/refund") for _ in range(5)]

    assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(409, "refund_refused")}
    assert world.written("charges", key).items() >= {"captured": 18290, "refunded": 0}.items()


def test_a_part_is_given_back_once_per_idempotency_key(world, key):
    world.client.put(f"/bank/charges/{key}", json=examples.card())

    def refund(amount: int | None, name: str) -> tuple[int, object]:
        body = {} if amount is None else {"amount": amount}
        answer = world.client.post(
            f"/bank/charges/{key}/refund", json=body, headers={"Idempotency-Key": f"{key}.{name}"}
        )
        return answer.status_code, answer.json().get("refunded", answer.json().get("code"))

    assert refund(100, "first") == (200, 100)
    assert refund(100, "first") == (200, 100)
    assert refund(200, "first") == (422, "key_reused")
    assert refund(100, "second") == (200, 200)
    assert refund(18091, "third") == (409, "refund_exceeds_capture")
    assert refund(None, "rest") == (200, 18290)
    assert refund(1, "fourth") == (409, "refund_exceeds_capture")


def test_a_part_without_an_idempotency_key_is_refused(world, key):
    world.client.put(f"/bank/charges/{key}", json=examples.card())

    answer = world.client.post(f"/bank/charges/{key}/refund", json={"amount": 1})

    assert (answer.status_code, answer.json()["code"]) == (400, "invalid")
    assert world.written("charges", key)["refunded"] == 0


# --- PIX ----------------------------------------------------------------------------------------


def test_a_pix_is_pending_until_it_is_paid(world, key):
    asked = world.client.put(f"/bank/charges/{key}", json=examples.pix())
    assert asked.status_code == 201
    assert asked.json().items() >= {"status": "pending", "captured": 0}.items()
    assert asked.json()["pix"]["copy_paste"].startswith("000201")
    assert asked.json()["pix"]["expires_at"].endswith("Z")

    paid = [world.client.post(f"/pix/{key}/pay") for _ in range(2)]

    assert [answer.status_code for answer in paid] == [200, 200]
    assert paid[0].json() == paid[1].json() == world.client.get(f"/bank/charges/{key}").json()
    assert paid[0].json().items() >= {"status": "captured", "captured": 18290}.items()


def test_a_pix_not_yet_paid_is_cancelled(world, key):
    world.client.put(f"/bank/charges/{key}", json=examples.pix())

    assert world.client.post(f"/bank/charges/{key}/refund").json()["status"] == "cancelled"
    assert world.client.put(f"/bank/charges/{key}", json=examples.pix()).json()["status"] == "cancelled"


def test_a_pix_expires_by_itself(world, key):
    world.client.put(f"/bank/charges/{key}", json=examples.pix(expires_in_s=0.05))

    waiting.until(lambda: world.client.get(f"/bank/charges/{key}").json()["status"] == "expired")
    assert world.client.post(f"/bank/charges/{key}/refund").json()["status"] == "expired"


def test_only_what_is_still_pending_expires(data, key):
    paid, cancelled, last = f"{key}.paid", f"{key}.cancelled", f"{key}.last"
    with process.running(data) as world:
        for one in (paid, cancelled, last):
            world.client.put(f"/bank/charges/{one}", json=examples.pix())
        world.client.post(f"/pix/{paid}/pay")
        world.client.post(f"/bank/charges/{cancelled}/refund")

        world.hurry()
        waiting.until(lambda: world.written("charges", last)["status"] == "expired")

        assert world.written("charges", paid)["status"] == "captured"
        assert world.written("charges", cancelled)["status"] == "cancelled"


@pytest.mark.parametrize("gave_up", ["cancelled", "expired"])
def test_money_that_comes_too_late_is_taken_and_can_be_given_back(world, key, gave_up):
    expires_in_s = 0.05 if gave_up == "expired" else 600
    world.client.put(f"/bank/charges/{key}", json=examples.pix(expires_in_s=expires_in_s))
    if gave_up == "cancelled":
        world.client.post(f"/bank/charges/{key}/refund")
    waiting.until(lambda: world.client.get(f"/bank/charges/{key}").json()["status"] == gave_up)

    late = world.client.post(f"/pix/{key}/pay")
    assert late.json().items() >= {"status": "captured", "captured": 18290, "refunded": 0}.items()

    undone = world.client.post(f"/bank/charges/{key}/refund")
    assert undone.json().items() >= {"status": "refunded", "captured": 18290, "refunded": 18290}.items()

    # Paid once and given back: the code is used up.
    again = world.client.post(f"/pix/{key}/pay")
    assert again.json()["status"] == "refunded"


def test_a_pix_pays_itself_where_the_world_is_set_up_so(data, key):
    cancelled = f"{key}.cancelled"
    with process.running(data, PIX_AUTOPAY_AFTER_S="0.05") as world:
        assert world.client.put(f"/bank/charges/{key}", json=examples.pix()).json()["status"] == "pending"
        waiting.until(lambda: world.written("charges", key)["captured"] == 18290)

        world.stop()
        world.environment["PIX_AUTOPAY_AFTER_S"] = "3600"
        world.start()
        last = f"{key}.last"
        for one in (cancelled, last):
            world.client.put(f"/bank/charges/{one}", json=examples.pix())
        world.client.post(f"/bank/charges/{cancelled}/refund")
        world.hurry("pix.pay")
        waiting.until(lambda: world.written("charges", last)["captured"] == 18290)
        assert world.written("charges", cancelled).items() >= {"status": "cancelled", "captured": 0}.items()


def test_only_a_pix_is_paid_by_hand(world, key):
    assert world.client.post(f"/pix/{key}/pay").status_code == 404

    world.client.put(f"/bank/charges/{key}", json=examples.card())

    answer = world.client.post(f"/pix/{key}/pay")
    assert (answer.status_code, answer.json()["code"]) == (409, "not_pix")
