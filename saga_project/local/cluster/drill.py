"""The drill: a cluster under a steady load of orders, a fault every minute or so, and the verdict."""

import collections
import dataclasses
import json
import os
import pathlib
import random
import shutil
import time
from typing import IO, Any

import httpx
import rich.box
import rich.console
import rich.table

from saga_project.local import breaking, checker, ledger, load, release, runfile, servers, supervisor
from saga_project.local.cluster import failover, faults, hosts, network, verdict

RUN = runfile.ROOT / ".run" / "cluster"

SAYS_EVERY_S = 10

HISTORY = "history.jsonl"
"""What the customers were told, for the checker."""

LIMITS = {
    # A PIX whose callback was lost is asked about soon, and a silent carrier too.
    "PIX_LIMIT": "2m",
    "PIX_POLL": "5s",
    "DELIVERY_POLL": "10s",
}

Json = dict[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What the drill does."""

    seed: int = 7
    minutes: float = 8
    """How long orders are placed."""
    faults: tuple[str, ...] = tuple(faults.FAULTS)
    per_second: float = 2
    """Orders."""
    shape: hosts.Shape = hosts.WHOLE

    @property
    def slot_s(self) -> float:
        """From one fault to the next; before the first one half as long passes."""
        return self.minutes * 60 / (len(self.faults) + 0.5)

    @property
    def hold_s(self) -> float:
        """How long what is broken stays broken, where that is chosen."""
        return self.slot_s / 3

    @property
    def command(self) -> str:
        """What repeats it."""
        own = [f"FAULTS={','.join(self.faults) or 'none'}"] if self.faults != tuple(faults.FAULTS) else []
        options = [f"--per-second {self.per_second:g}"] if self.per_second != Plan.per_second else []
        options += ["--small"] if self.shape is hosts.SMALL else []
        rate = [f'ARGS="{" ".join(options)}"'] if options else []
        return " ".join(["make cluster", f"SEED={self.seed}", f"MINUTES={self.minutes:g}", *own, *rate])


class Drill:
    """One run."""

    def __init__(self, plan: Plan, run: pathlib.Path, keeper: supervisor.Supervisor) -> None:
        self.plan = plan
        self.keeper = keeper
        self.book = ledger.Ledger()
        self.cluster = hosts.Cluster(run, keeper, network.Network(run), plan.shape)
        self.witness = failover.Witness(self.cluster.pair, self.cluster.pooler, keeper.say)
        self.customers: load.Customers | None = None
        self._said_at = 0.0

    def run(self) -> Json:
        """Start the cluster, disturb it, judge; the report.

        Raises:
            Failed, NotStarted, NoBinaries: something did not start.
            Stopped: somebody asked to stop.
            DidNothing: a fault broke nothing.
        """
        with (self.cluster.run / HISTORY).open("w", buffering=1) as history:
            try:
                return self._run(history)
            finally:
                self.witness.stop()
                if self.customers:
                    self.customers.stop()

    def _run(self, history: IO[str]) -> Json:
        began_at = time.monotonic()
        self.cluster.start()
        self.keeper.say(f"the cluster is up after {time.monotonic() - began_at:.0f} s")
        self.customers = load.Customers(
            self.book,
            shop_url=self.cluster.shop_url,
            sandbox_url=self.cluster.sandbox_url,
            token=self.cluster.env["API_TOKEN"],
            seed=self.plan.seed,
            per_second=self.plan.per_second,
            history=history,
        )
        self.witness.begin()
        self.customers.begin()
        self._disturb()
        self.customers.enough()
        return self._judge()

    def _disturb(self) -> None:
        """One fault after the other."""
        chance = random.Random(self.plan.seed)  # noqa: S311 - Chance, not secrecy.
        self._wait(self.plan.slot_s / 2)
        for name in self.plan.faults:
            slot_ends = time.monotonic() + self.plan.slot_s
            fault = faults.FAULTS[name](self.cluster, self.witness, chance)
            strike = ledger.Strike(name=fault.name, told=fault.told, bar_s=fault.bar_s, struck_at=time.time())
            self.book.strikes.append(strike)
            self.keeper.say(f"--- {fault.name} ({fault.told})")
            fault.strike()
            self._wait(self.plan.hold_s)
            fault.heal()
            strike.healed_at = time.time()
            self.keeper.say(f"    whole again after {strike.healed_at - strike.struck_at:.0f} s")
            self._wait(max(slot_ends - time.monotonic(), self.plan.hold_s))

    def _wait(self, seconds: float) -> None:
        """Let time pass, look after what runs, and say how the orders fare."""
        ends = time.monotonic() + seconds
        while (left := ends - time.monotonic()) > 0:
            self._tend()
            time.sleep(min(0.2, max(left, 0)))

    def _tend(self) -> None:
        if self.keeper.stop_asked:
            raise supervisor.Stopped
        self.keeper.tend()
        self.witness.check()
        assert self.customers
        self.customers.check()
        if time.monotonic() > self._said_at + SAYS_EVERY_S:
            self._said_at = time.monotonic()
            self.keeper.say(f"    {self._counts()}")

    def _counts(self) -> str:
        wanted = list(self.book.wanted)
        recent = [
            request for request in list(self.book.requests) if request.ended_at > time.time() - SAYS_EVERY_S
        ]
        failed = collections.Counter(request.failure for request in recent if request.failure)
        told = ", ".join(f"{count} {failure}" for failure, count in failed.most_common())
        under_way = sum(1 for one in wanted if one.acknowledged_at and not one.seen_ended_at)
        waits = sum(1 for one in wanted if one.unacknowledged)
        return (
            f"{len(wanted)} orders wanted, {waits} not acknowledged, {under_way} under way; of the last"
            f" {len(recent)} requests {sum(failed.values())} failed{f' ({told})' if told else ''}"
        )

    def _judge(self) -> Json:
        """Wait until all has ended, and hold the books against it."""
        self.keeper.say("nobody orders any more; what is under way ends")
        patience = time.monotonic() + breaking.SETTLES_WITHIN_S
        while time.monotonic() < patience and not breaking.have_settled(self.book):
            self._wait(0.5)
        until = time.time()
        while True:
            # A payment that came too late is on its way back when its order has long ended.
            found = self._look(until)
            if found.is_clean or time.monotonic() > patience:
                break
            self._wait(5)
        self._keep()
        versions = breaking.versions(self.cluster.pair.primary.url)
        if "rolled-out" in self.plan.faults and not versions.get(str(release.VERSION)):
            found = dataclasses.replace(found, wrong=[*found.wrong, "no order of the new version was placed"])
        return report(self.plan, found, self.book, versions)

    def _keep(self) -> None:
        """All that was seen, beside the logs: for whoever wants to know why a bar was missed."""
        seen = dataclasses.asdict(self.book) | {"wanted": []}
        for one in self.book.wanted:
            seen["wanted"].append(dataclasses.asdict(one) | {"fate": one.fate.name, "ids": sorted(one.ids)})
        (self.cluster.run / "ledger.json").write_text(json.dumps(seen, indent=1) + "\n")

    def _look(self, until: float) -> verdict.Verdict:
        audit = json.loads(self.cluster.manage("audit", "--json", codes=(0, 1)))
        providers = self.cluster.run / "providers"
        providers.mkdir(exist_ok=True)
        (providers / "books.json").write_text(json.dumps(breaking.books(self.cluster.sandbox_url)))
        report = checker.check(self.cluster.run / HISTORY, self.cluster.pair.primary.url, providers)
        return verdict.judge(self.book, orders=self._orders(), report=report, audit=audit, until=until)

    def _orders(self) -> list[Json]:
        headers = {"Authorization": f"Token {self.cluster.env['API_TOKEN']}"}
        found: list[Json] = []
        with httpx.Client(
            base_url=self.cluster.shop_url, headers=headers, timeout=30, trust_env=False
        ) as http:
            page: str | None = "/api/v1/orders?limit=100"
            while page:
                answer = http.get(page).raise_for_status().json()
                found += answer["results"]
                page = answer["next"]
        return found


def report(plan: Plan, found: verdict.Verdict, book: ledger.Ledger, versions: Json) -> Json:
    """The run, as it is kept."""
    return {
        **breaking.figures(plan, book, versions),
        "holds": found.holds,
        "wrong": found.wrong,
        "rows": [dataclasses.asdict(row) for row in found.rows],
    }


def table(kept: Json) -> rich.table.Table:
    """The report for the terminal."""
    shown = rich.table.Table(box=rich.box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for number, header in enumerate(verdict.HEADERS):
        shown.add_column(header, justify="right" if number else "left")
    for row in rows(kept):
        shown.add_row(*verdict.cells(row), style=None if row.holds else "bold red")
    return shown


def rows(kept: Json) -> list[verdict.Row]:
    """The rows of a report that was kept."""
    return [verdict.Row(**row) for row in kept["rows"]]


def run(plan: Plan, place: pathlib.Path, console: rich.console.Console) -> tuple[int, Json | None]:
    """The whole drill: the exit code, and the report where it came so far."""
    keeper = breaking.keeper(place, console)
    if keeper is None:
        return 1, None
    discard(place)
    os.environ.update(LIMITS)
    drill = Drill(plan, place, keeper)
    kept = None
    try:
        kept = drill.run()
    except supervisor.Stopped:
        pass
    except (
        supervisor.Failed,
        servers.NotStarted,
        servers.NoBinaries,
        faults.DidNothing,
        release.NotMade,
    ) as error:
        keeper.say(f"The drill did not come to its end. {error}")
    finally:
        keeper.say("stopping")
        keeper.stop()
    if kept is None:
        return 1, None
    console.print(table(kept))
    if kept["wrong"]:
        console.print("[bold red]A bar was missed[/]:", *kept["wrong"], sep="\n  ", highlight=False)
        console.print(f"The logs are in {place / 'log'}, and the data beside them.")
    else:
        discard(place)
        console.print(
            f"[bold green]Every bar was held[/]: of {kept['orders']} orders none is lost, doubled or out of"
            " balance."
        )
    return (0 if kept["holds"] else 1), kept


def discard(place: pathlib.Path) -> None:
    """Delete what a drill in this directory kept, but for its logs and its report."""
    servers.Postgres(place / "postgres" / "alpha").discard()
    servers.Postgres(place / "postgres" / "beta").discard()
    for name in ("postgres", "rabbitmq", "pgbouncer", "sandbox", "proxy", "release-2"):
        path = place / name
        shutil.rmtree(path.resolve(), ignore_errors=True)
        if path.is_symlink():
            path.unlink()
