"""The same request twice is one order and one answer (D8)."""

import concurrent.futures
import json

import httpx
import psycopg
import pytest
from django.db import connection

from api import idempotency
from api.models import IdempotencyKey
from orders import models
from sagas import models as saga_models
from tests.orders import web_server
from tests.orders.conftest import Api, member, order
from tests.support import locks, waiting


@pytest.mark.django_db
def test_a_repeated_request_gets_the_first_answer_to_the_byte(ana: Api) -> None:
    first, second = ana.order(), ana.order()

    assert second.status_code == 202
    assert second.content == first.content
    assert second["Location"] == first["Location"]
    assert second["Content-Type"] == first["Content-Type"]
    assert second["Idempotency-Replayed"] == "true"
    assert "Idempotency-Replayed" not in first
    assert models.Order.objects.count() == 1


@pytest.mark.django_db
def test_the_first_answer_is_given_even_when_the_order_has_moved_on(ana: Api) -> None:
    first = ana.order()
    ana.post(f"/orders/{first.json()['id']}/cancel", {"reason": "changed my mind"})

    second = ana.order()

    assert second.content == first.content
    assert second.json()["status"] == "pending"


@pytest.mark.django_db
def test_spaces_and_the_order_of_names_make_no_other_request(ana: Api) -> None:
    first = ana.order()
    shuffled = json.dumps(dict(reversed(order().items())), indent=4)

    second = ana.post("/orders", shuffled, **{"Idempotency-Key": "key-1"})

    assert second.content == first.content


@pytest.mark.django_db
@pytest.mark.parametrize(("bare", "quoted"), [("key-1", '"key-1"'), ("a\\b", '"a\\\\b"')])
def test_a_key_is_the_same_with_quotes_and_without(ana: Api, bare: str, quoted: str) -> None:
    assert ana.order(key=bare).content == ana.order(key=quoted).content


@pytest.mark.django_db
def test_another_request_under_the_same_key_is_refused(ana: Api) -> None:
    ana.order()

    answer = ana.order(order(reference="cart-8"))

    assert answer.status_code == 422
    assert answer.json()["type"] == "/api/problems/idempotency-key-reused"
    assert models.Order.objects.count() == 1


@pytest.mark.django_db
def test_a_key_is_its_caller_s_own(ana: Api, bob: Api) -> None:
    hers, his = ana.order(), bob.order()

    assert hers.json()["id"] != his.json()["id"]
    assert "Idempotency-Replayed" not in his


@pytest.mark.django_db
def test_a_key_holds_for_all_tokens_of_one_user(ana: Api) -> None:
    from api import tokens

    _, secret = tokens.create(user=ana.user, name="another")

    assert Api(ana.user, secret).order().content == ana.order().content


@pytest.mark.django_db
def test_a_refused_request_uses_no_key_up(ana: Api) -> None:
    assert ana.order(order(lines=[{"sku": "NO-SUCH", "quantity": 1}])).status_code == 422

    answer = ana.order()

    assert answer.status_code == 202
    assert "Idempotency-Replayed" not in answer


@pytest.mark.django_db
def test_an_expired_key_is_a_new_one(ana: Api) -> None:
    first = ana.order().json()
    _expire()

    again = ana.order(order(reference="cart-8"))

    assert again.status_code == 202
    assert again.json()["id"] != first["id"]
    # And it is kept from now on.
    assert ana.order(order(reference="cart-8")).content == again.content


@pytest.mark.django_db
def test_expired_keys_are_purged_and_others_are_not(ana: Api) -> None:
    ana.order(key="old")
    _expire()
    ana.order(key="new")

    assert idempotency.purge() == 1
    assert [row.key for row in IdempotencyKey.objects.all()] == ["new"]


@pytest.mark.django_db(transaction=True)
def test_fifty_identical_requests_at_once_are_one_order(web: web_server.Web, catalogue: None) -> None:
    ana = member("ana")
    with web.client(ana) as client:

        def place(_: int) -> httpx.Response:
            return client.post("/orders", json=order(), headers={"Idempotency-Key": "one"})

        with concurrent.futures.ThreadPoolExecutor(50) as crowd:
            answers = list(crowd.map(place, range(50)))
            # Told to come back shortly, a client does so with the same request.
            late = [place(0) for answer in answers if answer.status_code == 409]

    placed = [answer for answer in answers if answer.status_code != 409] + late
    assert {answer.status_code for answer in placed} == {202}
    assert len({answer.content for answer in placed}) == 1
    assert [answer.headers.get("Idempotency-Replayed") for answer in placed].count(None) == 1
    assert models.Order.objects.count() == 1
    assert saga_models.SagaInstance.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_while_the_first_is_at_work_the_second_is_told_to_come_back(
    environment: dict[str, str], catalogue: None
) -> None:
    ana = member("ana")
    with psycopg.connect(environment["DATABASE_URL"]) as first:
        first.execute(
            "INSERT INTO api_idempotencykey (owner_id, endpoint, key, fingerprint, headers, expires_at)"
            " VALUES (%s, 'POST /orders', 'one', '', '{}', now() + '1 hour')",
            [ana.user.pk],
        )

        waited = ana.order(key="one")

        assert waited.status_code == 409
        assert waited["Retry-After"] == "1"
        assert waited.json()["type"] == "/api/problems/idempotency-key-in-progress"

        # The first fails after all: then it never was.
        first.rollback()
    assert ana.order(key="one").status_code == 202
    assert models.Order.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_server_that_dies_between_the_order_and_its_answer_leaves_nothing_behind(
    environment: dict[str, str], catalogue: None
) -> None:
    ana = member("ana")
    request = {"json": order(), "headers": {"Idempotency-Key": "one"}}
    with (
        web_server.running(environment, workers=1) as web,
        web.client(ana) as client,
        concurrent.futures.ThreadPoolExecutor(1) as pool,
        psycopg.connect(environment["DATABASE_URL"]) as blocker,
    ):
        # The key, the saga and the order are written, the lines are not: there the server dies.
        blocker.execute("LOCK TABLE orders_orderline IN EXCLUSIVE MODE")
        answer = pool.submit(client.post, "/orders", **request)
        holder = blocker.info.backend_pid
        (dead,) = waiting.until(lambda: locks.waiters(holder), "the request waits for the lines' table")
        web.kill()
        assert isinstance(answer.exception(timeout=10), httpx.TransportError)
        blocker.rollback()
    waiting.until(lambda: not _is_there(dead), "the dead server's transaction is gone")
    assert not IdempotencyKey.objects.exists()
    assert not saga_models.SagaInstance.objects.exists()

    with web_server.running(environment, workers=1) as web, web.client(ana) as client:
        again = client.post("/orders", **request)

    assert again.status_code == 202
    assert "Idempotency-Replayed" not in again.headers
    assert models.Order.objects.count() == 1


def _expire() -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE api_idempotencykey SET expires_at = now() - interval '1 second'")


def _is_there(pid: int) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT FROM pg_stat_activity WHERE pid = %s", [pid])
        return cursor.fetchone() is not None
