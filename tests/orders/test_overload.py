"""While too many orders wait, no more are taken: who is told so loses nothing, and may come again or go."""

import collections.abc
import contextlib
import pathlib
import types
import uuid
from typing import Any

import pytest
from django.core.management import call_command

from orders import models
from orders.management.commands import import_orders
from saga_project.local import ledger, load
from saga_project.local.checker import history
from sagas import models as sagas
from sagas.testing import memory_transport
from tests.orders import web_server
from tests.orders.conftest import Api
from tests.orders.test_importing import jsonl, keyed
from tests.support import waiting

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def line(settings: Any) -> sagas.SagaInstance:
    """An order that waits for its first step, in a line that may have one."""
    settings.SAGAS_LONGEST_LINE = 1
    return sagas.SagaInstance.objects.create(
        name="order-fulfilment",
        version=1,
        fingerprint="f",
        key=str(uuid.uuid4()),
        wake_at=sagas.database_now(),
        in_line_for="payments",
    )


def it_moves_on(line: sagas.SagaInstance) -> None:
    """A worker has taken it."""
    sagas.SagaInstance.objects.filter(pk=line.pk).update(in_line_for=None)


def test_an_order_is_turned_back_and_placed_when_it_comes_again(
    ana: Api, broker: memory_transport.MemoryTransport, line: sagas.SagaInstance
) -> None:
    refused = ana.order(key="cart-8")

    assert refused.status_code == 503
    assert 10 <= int(refused.headers["Retry-After"]) <= 20
    assert refused.json()["type"] == "/api/problems/overloaded"
    assert not models.Order.objects.exists()
    it_moves_on(line)
    placed = ana.order(key="cart-8")
    assert placed.status_code == 202
    assert "Idempotency-Replayed" not in placed.headers


def test_those_who_were_turned_back_together_are_not_asked_to_come_back_together(
    ana: Api, broker: memory_transport.MemoryTransport, line: sagas.SagaInstance
) -> None:
    assert len({ana.order(key=f"cart-{number}").headers["Retry-After"] for number in range(20)}) > 1


def test_who_asks_again_for_an_order_that_was_placed_gets_the_first_answer(
    ana: Api, broker: memory_transport.MemoryTransport, line: sagas.SagaInstance
) -> None:
    it_moves_on(line)
    placed = ana.order(key="cart-8")
    sagas.SagaInstance.objects.filter(pk=line.pk).update(in_line_for="payments")

    again = ana.order(key="cart-8")

    assert (again.status_code, again.content) == (202, placed.content)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert ana.get(f"/orders/{placed.json()['id']}").status_code == 200
    assert ana.order(key="cart-9").status_code == 503


def test_an_import_waits_until_orders_are_taken_and_places_each_once(
    ana: Api,
    broker: memory_transport.MemoryTransport,
    line: sagas.SagaInstance,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits: list[float] = []

    def a_while(seconds: float) -> None:
        assert not models.Order.objects.exists()
        waits.append(seconds)
        if sum(waits) > import_orders.SAY_AGAIN_S:
            it_moves_on(line)

    monkeypatch.setattr(import_orders, "time", types.SimpleNamespace(sleep=a_while))
    path = jsonl(tmp_path / "orders.jsonl", keyed("a"), keyed("b"), keyed("a"))

    call_command("import_orders", str(path), "--owner", "ana")

    said = capsys.readouterr()
    assert said.out.strip() == "2 placed, 1 placed before, 0 wrong."
    assert set(waits) == {import_orders.LOOK_AGAIN_S}
    assert said.err.count("It waits, from line 1 on: 1 or more sagas wait for a worker of payments") == 2
    assert models.Order.objects.count() == 2


@pytest.mark.parametrize(
    ("patient_for_s", "requests"), [(0, 1), (float("inf"), 2)], ids=["goes at once", "comes again"]
)
def test_a_customer_who_is_told_so_comes_again_for_as_long_as_it_has_patience_and_then_goes_elsewhere(
    patient_for_s: float,
    requests: int,
    ana: Api,
    line: sagas.SagaInstance,
    environment: dict[str, str],
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(load, "PATIENT_FOR_S", patient_for_s)
    book = ledger.Ledger()
    told = tmp_path / "history.jsonl"
    with (
        web_server.running(environment, workers=1, SAGAS_LONGEST_LINE="1") as web,
        told.open("w") as written,
        _ordering(book, web, ana, written) as customers,
    ):

        def served() -> list[ledger.Wanted]:
            customers.check()
            return [one for one in book.wanted if one.requests == requests and not one.in_doubt]

        def gone() -> list[ledger.Wanted]:
            return [one for one in served() if one.turned_away]

        found = waiting.until(served if patient_for_s else gone, "some were served")

    assert not any(one.turned_away for one in book.wanted) or not patient_for_s
    assert not any(one.acknowledged_at or one.refused for one in found)
    assert not any(request.failure == "503" for request in book.requests if request.what == "place")
    known = history.read(told)
    assert all(known[one.key].turned_away for one in found)
    assert not models.Order.objects.exists()


@contextlib.contextmanager
def _ordering(
    book: ledger.Ledger, web: web_server.Web, ana: Api, written: Any
) -> collections.abc.Iterator[load.Customers]:
    customers = load.Customers(
        book,
        shop_url=web.url,
        sandbox_url=web.url,
        token=ana.secret,
        seed=1,
        per_second=5,
        history=written,
    )
    customers.begin()
    try:
        yield customers
    finally:
        customers.stop()
