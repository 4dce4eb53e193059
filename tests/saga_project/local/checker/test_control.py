"""The negative control: without sweep, fences or tombstones a campaign fails, and the checker says so.

Three orders, to each of which something happens that one of the safeguards is there for, at the worst
moment: on the real database, with real providers, the engine's messages in memory. With all safeguards
nothing is wrong.
"""

import datetime
import json
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connection, transaction

from inventory import services as inventory
from saga_project.local import checker, maimed
from sagas import engine
from sagas.engine import calls, transport
from sagas.models import SagaInstance
from sagas.testing import clocks, memory_transport
from tests.orders.conftest import (  # noqa: F401 - fixtures
    Api,
    _fast_sandbox,
    ana,
    catalogue,
    order,
    world,
)
from tests.sandbox.running import Sandbox
from tests.support import database

pytestmark = pytest.mark.django_db(transaction=True)

BREAKS = {"sweep": "ended", "fences": "one-worker-at-a-time", "tombstones": "invoice-taken-back"}
LEASE = datetime.timedelta(seconds=40)
"""Longer than any worker has a step for itself."""
ROUNDS = 10
"""So many times as much passes; an order ends within five."""


def pass_time(by: datetime.timedelta) -> None:
    """So much time passes, in the event log as well, which nobody but a test may rewrite."""
    clocks.pass_time(by)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        cursor.execute("UPDATE sagas_event SET at = at - %s", [by])


class Campaign:
    """Orders of a client, and what happens to them."""

    def __init__(
        self, client: Api, kept: memory_transport.MemoryTransport, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.client = client
        self.kept = kept
        self.lines: list[dict[str, Any]] = []
        self._meanwhile: dict[str, Callable[[], None]] = {}
        call = calls.call

        def interrupted(attempt: Any) -> Any:
            if not attempt.undo and (happen := self._meanwhile.pop(attempt.step.name, None)):
                happen()
            return call(attempt)

        monkeypatch.setattr(calls, "call", interrupted)

    def order(self, key: str, token: str = "tok_ok") -> dict[str, Any]:
        """An order is placed; of what goes in no parcel, so that it ends with its invoice."""
        lines = [{"sku": "EBOOK-TEA", "quantity": 1}]
        body = order(lines=lines, payment={"method": "card", "token": token}, reference=key)
        answer = self.client.order(body, key)
        told: dict[str, Any] = answer.json()
        self._write(key=key, request=body, attempt=1, status=answer.status_code, answer=told)
        return told

    def _write(self, **line: Any) -> None:
        self.lines.append({"at": "2026-01-01T00:00:00+00:00", "customer": 1, "error": None} | line)

    def at(self, step: str, happen: Callable[[], None]) -> None:
        """Have this happen when the step's worker is about to call its provider, once."""
        self._meanwhile[step] = happen

    def carry_on(self) -> None:
        """Messages are carried out, and time passes, for as long as either does anything."""
        for _ in range(ROUNDS):
            self.kept.deliver_all()
            if not SagaInstance.objects.filter(finished_at=None).exists():
                return
            pass_time(LEASE)
            engine.sweep()

    def a_message_comes_twice(self) -> None:
        """While its worker is at the payment, another one gets the same message."""
        self.order("twice")
        self.at("take-payment", self._again)
        self.carry_on()

    def _again(self) -> None:
        messages = [one for one in self.kept.sent if isinstance(one, memory_transport.StepMessage)]
        self.kept.waiting.insert(0, messages[-1])
        self.kept.deliver()

    def a_provider_fails_for_a_while(self) -> None:
        """An attempt fails, and is to be made again after a pause."""
        self.order("flaky", "tok_flaky")
        self.carry_on()

    def a_worker_is_frozen(self) -> None:
        """It wakes up when its order has long been cancelled, and has its invoice issued."""
        told = self.order("frozen")

        def cancelled() -> None:
            self.client.post(f"/orders/{told['id']}/cancel", {"reason": "Changed my mind."})
            self._write(key="frozen", what="cancel", status=202)
            self.carry_on()

        self.at("issue-invoice", cancelled)
        self.carry_on()

    def check(self, place: pathlib.Path, sandbox: Sandbox) -> checker.Report:
        """What the checker finds, by the files and the database alone."""
        history = place / "history.jsonl"
        history.write_text("".join(json.dumps(line) + "\n" for line in self.lines))
        (place / "books.json").write_text(json.dumps(sandbox.books()))
        return checker.check(history, database.environment()["DATABASE_URL"], place)


@pytest.fixture
def campaign(
    ana: Api,  # noqa: F811 - the fixture
    world: Sandbox,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Campaign]:
    price = {"amount": 2990, "currency": "BRL"}
    inventory.introduce(sku="EBOOK-TEA", name="Tea, e-book", price=price, quantity=10, ships=False)
    kept = memory_transport.MemoryTransport()
    with transport.use(kept):
        yield Campaign(ana, kept, monkeypatch)


def _run(campaign: Campaign) -> None:
    campaign.a_message_comes_twice()
    campaign.a_provider_fails_for_a_while()
    campaign.a_worker_is_frozen()


def test_with_all_safeguards_nothing_is_wrong(
    campaign: Campaign,
    world: Sandbox,  # noqa: F811
    tmp_path: pathlib.Path,
) -> None:
    _run(campaign)

    report = campaign.check(tmp_path, world)
    assert not report.broken, str(report)
    assert report.ends == {"fulfilled": 2, "cancelled": 1}


@pytest.mark.parametrize("without", maimed.WAYS)
def test_without_one_of_them_the_campaign_fails(
    campaign: Campaign,
    world: Sandbox,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: pathlib.Path,
    without: str,
) -> None:
    maimed.WAYS[without](monkeypatch.setattr)

    _run(campaign)

    report = campaign.check(tmp_path, world)
    print(f"without its {without}:\n{report}")
    assert BREAKS[without] in report.broken, str(report)
