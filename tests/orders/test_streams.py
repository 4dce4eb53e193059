"""An order's progress as server-sent events: nothing missed, nothing twice, whatever is cut."""

import collections.abc
import concurrent.futures
import contextlib
import json
import time
from typing import Any

import httpx
import pytest
from django.db import connection

from api import tokens
from api.models import Token
from orders import models
from sagas.testing import memory_transport
from tests.orders import web_server
from tests.orders.conftest import Api, deliver, order
from tests.sandbox.running import Sandbox
from tests.support import waiting

pytestmark = pytest.mark.django_db(transaction=True)

BRISK = {"FOLLOWERS_HEARTBEAT": "200ms"}
PATIENT = {"FOLLOWERS_HEARTBEAT": f"{web_server.PATIENCE_S}s"}


def test_each_transition_is_told_as_it_happens_and_the_end_ends_the_stream(
    web: web_server.Web, ana: Api, sandbox: Sandbox, broker: memory_transport.MemoryTransport
) -> None:
    shown = ana.order().json()
    with web.client(ana) as client:
        with stream(client, shown) as told:
            assert next(told)["data"]["status"] == "pending"
            started = time.monotonic()
            broker.deliver_all()
            seen = [next(told) for _ in range(7)]
            deliver(ana, shown)
            seen += list(told)
            assert time.monotonic() - started < web_server.PATIENCE_S / 2, "no heartbeat was needed"

        assert [_line(message) for message in seen] == [
            "take-payment running",
            "take-payment done",
            "reserve-stock done",
            "issue-invoice running",
            "issue-invoice done",
            "deliver-order running",
            "deliver-order waiting",
            "deliver-order done",
            "fulfilled",
        ]
        ids = [int(message["id"]) for message in seen]
        assert ids == sorted(set(ids))

        # Who has seen it all is told not to come back.
        over = client.get(f"/orders/{shown['id']}/events", headers={"Last-Event-ID": seen[-1]["id"]})
        assert over.status_code == 204


def test_a_client_cut_off_after_every_event_misses_none_and_gets_none_twice(
    web: web_server.Web, ana: Api, sandbox: Sandbox, broker: memory_transport.MemoryTransport
) -> None:
    shown = ana.order(order(payment={"method": "card", "token": "tok_declined"})).json()
    with (
        web.client(ana) as client,
        concurrent.futures.ThreadPoolExecutor(1) as pool,
    ):
        work = pool.submit(_then_close, broker.deliver_all)
        seen: list[dict[str, Any]] = []
        while not seen or _line(seen[-1]) != "cancelled":
            with stream(client, shown, after=seen[-1]["id"] if seen else "") as told:
                seen.append(next(told))
        work.result()

        with stream(client, shown) as told:
            whole = list(told)
    assert seen == whole


def test_a_listener_cut_off_misses_none(
    web: web_server.Web, ana: Api, sandbox: Sandbox, broker: memory_transport.MemoryTransport
) -> None:
    shown = ana.order().json()
    with web.client(ana) as client, stream(client, shown) as told:
        next(told)
        assert 1 <= _cut_listeners() <= 2, "one for each process that serves"
        broker.deliver_all()
        deliver(ana, shown)

        seen = [_line(message) for message in told]

    assert seen[0] == "take-payment running"
    assert seen[-1] == "fulfilled"
    assert len(seen) == len(set(seen)) == 9


def test_many_streams_of_a_process_share_one_listener(web: web_server.Web, ana: Api) -> None:
    shown = [ana.order(key=f"key-{n}").json() for n in range(6)]
    with web.client(ana) as client, contextlib.ExitStack() as stack:
        # Kept, for an iterator that nothing refers to any more takes its connection with it.
        followed_by = [stack.enter_context(stream(client, one)) for one in shown]
        for told in followed_by:
            next(told)

        assert 1 <= len(_listeners()) <= 2, "two processes serve"
        followed = models.Follower.objects.filter(saga_id__in=[one["saga"]["id"] for one in shown])
        assert followed.count() == 6


def test_a_stream_on_which_nothing_happens_says_so(environment: dict[str, str], ana: Api) -> None:
    shown = ana.order().json()
    with (
        web_server.running(environment | BRISK, workers=1) as web,
        web.client(ana) as client,
        client.stream("GET", f"/orders/{shown['id']}/events") as answer,
    ):
        lines = answer.iter_lines()

        assert next(line for line in lines if line.startswith(":")) == ": still here"


def test_who_leaves_is_forgotten(environment: dict[str, str], ana: Api) -> None:
    shown = ana.order().json()
    followers = models.Follower.objects.filter(saga_id=shown["saga"]["id"])
    before = set(_listeners())
    with web_server.running(environment | BRISK, workers=1) as web, web.client(ana) as client:
        with stream(client, shown) as told:
            next(told)
            assert followers.count() == 1
            assert set(_listeners()) > before

        waiting.until(lambda: not followers.exists(), "nobody follows any more")
        waiting.until(lambda: set(_listeners()) <= before, "nobody listens any more")


def test_streams_are_bounded(environment: dict[str, str], ana: Api) -> None:
    shown = ana.order().json()
    with (
        web_server.running(environment | PATIENT, workers=1, FOLLOWERS_PER_PROCESS="1") as web,
        web.client(ana) as client,
        contextlib.ExitStack() as stack,
    ):
        path, refused = f"/orders/{shown['id']}/events", []
        for _ in range(20):
            answer = stack.enter_context(client.stream("GET", path))
            if answer.status_code == 503:
                refused.append(answer)
        open_ones = 20 - len(refused)

        # The server goes on with everything else.
        assert client.get("/orders").status_code == 200
        assert open_ones == 1
        assert refused[0].headers["Retry-After"] == "2"
        assert json.loads(refused[0].read())["type"] == "/api/problems/unavailable"


def test_one_who_follows_everything_leaves_room_for_others(
    environment: dict[str, str], ana: Api, bob: Api
) -> None:
    hers, his = ana.order().json(), bob.order().json()
    with (
        web_server.running(environment | PATIENT, workers=1, FOLLOWERS_PER_CALLER="1") as web,
        web.client(ana) as greedy,
        web.client(bob) as other,
        contextlib.ExitStack() as stack,
    ):
        path = f"/orders/{hers['id']}"
        answers = [stack.enter_context(greedy.stream("GET", f"{path}/events")) for _ in range(20)]
        refused = [answer for answer in answers if answer.status_code != 200]
        assert len(refused) == 19
        assert {answer.status_code for answer in refused} == {429}
        assert refused[0].headers["Retry-After"] == "2"
        assert json.loads(refused[0].read())["type"] == "/api/problems/throttled"

        with stream(other, his) as told:
            assert _line(next(told)) == "pending"


def test_a_stream_ends_with_its_token(environment: dict[str, str], ana: Api) -> None:
    shown = ana.order().json()
    with web_server.running(environment | BRISK, workers=1) as web, web.client(ana) as client:
        with stream(client, shown) as told:
            next(told)
            tokens.revoke(token=Token.objects.get())

            assert list(told) == []
        assert client.get(f"/orders/{shown['id']}").status_code == 401


def test_no_stream_costs_a_notification_when_nobody_follows(
    ana: Api, broker: memory_transport.MemoryTransport
) -> None:
    import psycopg

    shown = ana.order().json()
    with psycopg.connect(_url(), autocommit=True) as link:
        link.execute("LISTEN orders")
        ana.post(f"/orders/{shown['id']}/cancel", {"reason": "so"})

        assert list(link.notifies(timeout=0.2)) == []


def test_the_stream_tells_why_a_step_failed(
    web: web_server.Web, ana: Api, sandbox: Sandbox, broker: memory_transport.MemoryTransport
) -> None:
    shown = ana.order(order(payment={"method": "card", "token": "tok_declined"})).json()
    broker.deliver_all()
    with web.client(ana) as client, stream(client, shown) as told:
        failed = next(message for message in told if message["data"].get("to") == "failed")

    assert failed["event"] == "step"
    assert failed["data"]["error"]["kind"] == "refused"
    assert "tok_declined" not in str(failed)


@pytest.mark.parametrize("header", ["x", "-1", "1.5", "9" * 19, "é"])
def test_a_last_event_id_that_is_none_is_refused(ana: Api, header: str) -> None:
    shown = ana.order().json()

    answer = ana.get(f"/orders/{shown['id']}/events", **{"Last-Event-ID": header})

    assert answer.status_code == 400


def test_waiting_for_the_end_answers_when_it_comes(
    web: web_server.Web, ana: Api, sandbox: Sandbox, broker: memory_transport.MemoryTransport
) -> None:
    shown = ana.order().json()
    broker.deliver_all()
    with (
        web.client(ana) as client,
        concurrent.futures.ThreadPoolExecutor(1) as pool,
    ):
        answer = pool.submit(client.get, f"/orders/{shown['id']}?wait=25")
        waiting.until(lambda: models.Follower.objects.exists(), "it waits")
        deliver(ana, shown)

        assert answer.result(20).json()["status"] == "fulfilled"


def test_waiting_has_an_end_of_its_own(web: web_server.Web, ana: Api) -> None:
    shown = ana.order().json()
    with web.client(ana) as client:
        started = time.monotonic()
        answer = client.get(f"/orders/{shown['id']}?wait=1")

    assert answer.json()["status"] == "pending"
    assert 0.9 < time.monotonic() - started < 10


def test_where_too_many_wait_the_answer_comes_at_once_and_says_when_to_ask_again(
    environment: dict[str, str], ana: Api
) -> None:
    path = f"/orders/{ana.order().json()['id']}"
    for bound in ("FOLLOWERS_PER_PROCESS", "FOLLOWERS_PER_CALLER"):
        with web_server.running(environment | {bound: "0"}, workers=1) as web, web.client(ana) as client:
            answer = client.get(f"{path}?wait=30")

            assert answer.json()["status"] == "pending"
            assert answer.headers["Retry-After"] == "1"
            assert "Retry-After" not in client.get(path).headers


def test_where_nothing_can_wait_the_answer_comes_at_once_as_well(ana: Api) -> None:
    """Under a WSGI server, such as `manage.py runserver`."""
    path = f"/orders/{ana.order().json()['id']}"

    assert ana.get(f"{path}?wait=30")["Retry-After"] == "1"
    assert ana.get(f"{path}/events").status_code == 503


@pytest.mark.parametrize("wait", ["31", "-1", "soon", ""])
def test_nobody_waits_too_long(ana: Api, wait: str) -> None:
    answer = ana.get(f"/orders/{ana.order().json()['id']}?wait={wait}")

    assert answer.status_code == 400
    assert answer.json()["errors"][0]["parameter"] == "wait"


@contextlib.contextmanager
def stream(
    client: httpx.Client, shown: dict[str, Any], after: str = ""
) -> collections.abc.Iterator[collections.abc.Iterator[dict[str, Any]]]:
    """The messages of an order's stream, read as the standard says."""
    headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": after} if after else {})
    with client.stream("GET", f"/orders/{shown['id']}/events", headers=headers) as answer:
        assert answer.status_code == 200
        assert answer.headers["Content-Type"] == "text/event-stream"
        yield web_server.messages(answer.iter_lines())


def _line(message: dict[str, Any]) -> str:
    data = message["data"]
    return str(data["status"]) if message["event"] == "order" else f"{data['step']} {data['to']}"


def _then_close(work: collections.abc.Callable[[], None]) -> None:
    try:
        work()
    finally:
        connection.close()


def _listeners() -> list[int]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query = 'LISTEN orders'"
        )
        return [row[0] for row in cursor.fetchall()]


def _cut_listeners() -> int:
    found = _listeners()
    with connection.cursor() as cursor:
        for pid in found:
            cursor.execute("SELECT pg_terminate_backend(%s)", [pid])
    return len(found)


def _url() -> str:
    settings = connection.settings_dict
    place = str(settings["HOST"]).replace("/", "%2F")
    return f"postgresql://{settings['USER']}@{place}:{settings['PORT']}/{settings['NAME']}"


def test_a_stream_is_no_json(ana: Api) -> None:
    shown = ana.order().json()

    answer = ana.get(f"/orders/{shown['id']}/events", Accept="application/json")

    assert answer.status_code == 406
    assert answer["Content-Type"] == "application/problem+json"
