"""How long does a good order wait beside a provider that works, when some orders are poisoned?

A shop's campaign in virtual time, by a seed: orders come at a steady rate, a share of them is poisoned
(the bank answers 503 for that card, whatever is asked), some are refused by a second provider and have
to be refunded, and the bank is away once for six seconds. The rows, the circuit and the sweep are the
engine's own on a real PostgreSQL; messages are carried in memory, shuffled by the seed.

What counts is the longest time that a good order's charge or refund took from when it was due, or from
when the bank was back; whether a good order was turned back by the bank's absence; and whether the
poisoned orders came to an end.
"""

import dataclasses
import datetime
import json
import logging
import os
import pathlib
import random
import statistics
import time
from typing import Any

from benchmarks import documents

ROOT = pathlib.Path(__file__).resolve().parent.parent
TICK_S = 1.0
"""Beat has the sweep run once a second. What happens within a tick takes no time: however slow the machine
is, the figures are the engine's."""

OUTAGE_S = 6.0
HORIZON_S = 300.0


class Refused(Exception):
    """No, and asking again will not change it."""


class Unavailable(Exception):
    """503."""


@dataclasses.dataclass(kw_only=True)
class Order:
    """An order, and what the campaign sees of it; times in seconds since it began."""

    poisoned: bool
    unlucky: bool
    """Refused by the second provider, and so refunded."""

    begun: float
    charged: float | None = None
    refused: float | None = None
    refunded: float | None = None
    state: str = "running"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """What a campaign showed."""

    longest_wait_s: float
    """Of a good order beside a bank that works."""

    good_turned_back: int
    """Good orders that were turned back, or sent to a person, because the bank was away."""

    poisoned: int
    poisoned_left: int
    """Poisoned orders that had not come to an end."""

    last_end_s: float
    """When the last poisoned order came to its end, since it was begun."""


class Campaign:
    """One campaign, by a seed. Needs a database with the engine's tables, and leaves its rows there.

    Arguments:
        seed: of every chance in it, the engine's jitter included.
        share: of the orders that are poisoned.
        orders: how many come.
        rate: how many come per second.
    """

    def __init__(self, seed: int, *, share: float, orders: int = 60, rate: float = 6.0) -> None:
        from sagas import Retry, Saga, Step
        from sagas.declaration import registry
        from sagas.testing import memory_transport

        self.chance = random.Random(seed)
        random.seed(seed)
        self.share, self.orders, self.rate = share, orders, rate
        self.away_from = self.chance.uniform(2, max(orders / rate - OUTAGE_S / 2, 3))
        self.post = memory_transport.MemoryTransport(chance=self.chance, shuffle=True)
        self.saga = registry.add(
            Saga(
                name=f"poison-{seed}-{round(share * 100)}-{time.time_ns()}",
                steps=[
                    Step("pay", self.charge, undo=self.refund, remote=True, queue="bank"),
                    Step("invoice", self.invoice, undo=self.uninvoice, remote=True, queue="office"),
                ],
                retry=Retry(on=[Unavailable]),
                undo_retry=Retry(on=[Unavailable], attempts=6, cap=datetime.timedelta(seconds=10)),
                refused=[Refused],
            )
        )
        self.book: dict[str, Order] = {}
        self.now_s = 0.0
        """Seconds since it began."""

    def run(self) -> Result:
        """Let all orders come, until every one has ended, or the horizon is reached."""
        from sagas import engine
        from sagas.engine import transport
        from sagas.testing import clocks

        with transport.use(self.post):
            while self.now_s < HORIZON_S:
                began = time.monotonic()
                while len(self.book) < min(self.orders, (self.now_s + TICK_S) * self.rate):
                    self._begin()
                self.post.deliver_all()
                engine.sweep()
                self.post.deliver_all()
                if len(self.book) == self.orders and self._look() == 0:
                    break
                self.now_s += TICK_S
                really_passed_s = time.monotonic() - began
                clocks.pass_time(datetime.timedelta(seconds=TICK_S - really_passed_s))
        self._look()
        return self._result()

    def _begin(self) -> None:
        from django.db import transaction

        from sagas import engine

        with transaction.atomic():
            saga = engine.begin(self.saga, key=f"{len(self.book)}", inputs={}, actor="campaign")
        poisoned = self.chance.random() < self.share
        unlucky = not poisoned and self.chance.random() < 0.2
        self.book[str(saga.pk)] = Order(poisoned=poisoned, unlucky=unlucky, begun=self.now_s)

    def _look(self) -> int:
        """How many have not come to their end: nobody waits for a person here."""
        from sagas import models

        rows = models.SagaInstance.objects.filter(name=self.saga.name).values_list("pk", "state")
        for pk, state in rows:
            order = self.book[str(pk)]
            if state in ("running", "compensating"):
                continue
            if order.state == "running" and order.refunded is None:
                order.refunded = self.now_s
            order.state = state
        return sum(order.state == "running" for order in self.book.values())

    # --- The providers ------------------------------------------------------------------------------

    def _bank(self, key: str) -> Order:
        order = self.book[key.partition(".")[0]]
        if order.poisoned or self.away_from <= self.now_s < self.away_from + OUTAGE_S:
            raise Unavailable("503")
        return order

    def charge(self, *, key: str) -> None:
        """What the bank is asked first."""
        order = self._bank(key)
        order.charged = order.charged or self.now_s

    def refund(self, *, key: str) -> None:
        """What it is asked when the order is turned back."""
        order = self._bank(key)
        order.refunded = order.refunded or self.now_s

    def invoice(self, *, key: str) -> None:
        """The second provider always works, and refuses some."""
        order = self.book[key.partition(".")[0]]
        if order.unlucky:
            order.refused = order.refused or self.now_s
            raise Refused("422")

    def uninvoice(self, *, key: str) -> None:
        """There is never anything to undo."""

    # --- What it showed -----------------------------------------------------------------------------

    def _waited(self, since: float | None, until: float | None) -> float:
        """How long somebody waited who could have been served: without the time that the bank was away."""
        if since is None:
            return 0.0
        done = self.now_s if until is None else until
        away = min(done, self.away_from + OUTAGE_S) - max(since, self.away_from)
        return done - since - max(away, 0.0)

    def _result(self) -> Result:
        good = [order for order in self.book.values() if not order.poisoned]
        bad = [order for order in self.book.values() if order.poisoned]
        waits = [self._waited(order.begun, order.charged) for order in good]
        waits += [self._waited(order.refused, order.refunded) for order in good if order.unlucky]
        wanted = {False: "completed", True: "compensated"}
        return Result(
            longest_wait_s=max(waits),
            good_turned_back=sum(order.state not in (wanted[order.unlucky], "running") for order in good),
            poisoned=len(bad),
            poisoned_left=sum(order.state == "running" for order in bad),
            last_end_s=max([(order.refunded or self.now_s) - order.begun for order in bad], default=0.0),
        )


RATES = (1.0, 3.0, 6.0)


def run(*, seeds: int, orders: int, shares: list[float], write: bool) -> None:
    """Run the campaigns, print what they showed, and write it if asked."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.settings"
    import django

    django.setup()
    from django.core import management

    management.call_command("migrate", run_syncdb=True, verbosity=0)
    # That persons are called for poisoned refunds is expected, and would hide the figures.
    logging.getLogger("sagas").setLevel(logging.CRITICAL)
    answer: dict[str, Any] = {"seeds": seeds, "orders": orders, "shares": {}}
    for share in shares:
        results = []
        for seed in range(1, seeds + 1):
            _clear()
            campaign = Campaign(seed, share=share, orders=orders, rate=RATES[seed % len(RATES)])
            results.append(campaign.run())
            print(f"  {share:4.0%} poisoned, seed {seed:3}: {results[-1].longest_wait_s:5.1f} s")
        answer["shares"][f"{share:.0%}"] = {
            "longest_wait_s": max(result.longest_wait_s for result in results),
            "median_wait_s": statistics.median(result.longest_wait_s for result in results),
            "good_turned_back": sum(result.good_turned_back for result in results),
            "poisoned": sum(result.poisoned for result in results),
            "poisoned_left": sum(result.poisoned_left for result in results),
            "last_end_s": max(result.last_end_s for result in results),
        }
    answer["machine"] = documents.machine()
    print(_table(answer))
    if write:
        (ROOT / "docs" / "benchmarks-poison.json").write_text(json.dumps(answer, indent=2) + "\n")
        documents.write(ROOT / "docs" / "benchmarks.md", "poison", _table(answer))


def _clear() -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(
            "TRUNCATE sagas_saga, sagas_step, sagas_event, sagas_signal, sagas_circuit, sagas_queue CASCADE"
        )


def _table(answer: dict[str, Any]) -> str:
    lines = [
        "| poisoned | longest wait of a good order, s | of the median campaign, s | good orders turned back |"
        " poisoned orders | not ended | the last ended after, s |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {share} | {one['longest_wait_s']:.1f} | {one['median_wait_s']:.1f} | {one['good_turned_back']} |"
        f" {one['poisoned']} | {one['poisoned_left']} | {one['last_end_s']:.0f} |"
        for share, one in answer["shares"].items()
    ]
    return "\n".join(
        [*lines, "", f"{answer['seeds']} campaigns each, of {answer['orders']} orders; {answer['machine']}."]
    )
