"""A campaign: customers order, the nemesis strikes by its plan, all becomes quiet, and is judged."""

import asyncio
import collections
import contextlib
import dataclasses
import json
import pathlib
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import IO, Any

import httpx
import rich.box
import rich.console
import rich.live
import rich.table
import rich.text

from saga_project.local import breaking, ledger, load, release, runfile, servers, supervisor
from saga_project.local.chaos import faults, plan, rules, world

RUN = runfile.ROOT / ".run" / "chaos"

HEALED_WITHIN_S = 300.0
"""A slow machine takes its time to start programs; but a fault that is never healed ends the campaign."""

SAMPLE_EVERY_S = 0.5
SAYS_EVERY_S = 10.0

Json = dict[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to be done."""

    seed: int = 7
    minutes: float = 3
    """How long orders are placed, and faults made."""
    per_second: float = 5
    """Orders."""
    every_s: float = 2
    """One fault in so many seconds, on average."""
    faults: tuple[str, ...] = tuple(faults.FAULTS)
    quiet_within_s: float = 30
    """So long after the last fault is healed and the last order placed, every order has ended."""
    longest_line: int = 0
    """With so many orders in a line the shop takes no more (`SAGAS_LONGEST_LINE`); 0: it takes them all."""
    without: str = ""
    """The safeguard that is taken away, for a negative control (`saga_project.local.maimed`)."""

    @property
    def command(self) -> str:
        """What repeats it."""
        own = [f"FAULTS={','.join(self.faults) or 'none'}"] if self.faults != tuple(faults.FAULTS) else []
        usual = Plan()
        options = [
            f"--{name.replace('_', '-')} {getattr(self, attribute):g}"
            for name, attribute in OPTIONS.items()
            if getattr(self, attribute) != getattr(usual, attribute)
        ]
        options += [f"--without {self.without}"] if self.without else []
        more = [f'ARGS="{" ".join(options)}"'] if options else []
        return " ".join(["make chaos", f"SEED={self.seed}", f"MINUTES={self.minutes:g}", *own, *more])


OPTIONS = {
    "per_second": "per_second",
    "every": "every_s",
    "quiet_within": "quiet_within_s",
    "longest_line": "longest_line",
}
"""Of the command line, and what each is of a plan."""


@dataclasses.dataclass(kw_only=True)
class Struck:
    """What became of a blow; times are seconds after the beginning."""

    blow: plan.Blow
    at_s: float
    healed_s: float | None = None
    told: str = ""
    """What was broken and felt."""
    why_not: str = ""
    """Why nothing was broken, where that is so."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sample:
    """How the orders fared at one moment."""

    at_s: float
    wanted: int
    unacknowledged: int
    under_way: int
    """Acknowledged, and not seen to have ended."""
    failing: float
    """The share of the requests since the last sample that failed."""


class Campaign:
    """One run."""

    def __init__(
        self, wanted: Plan, run: pathlib.Path, keeper: supervisor.Supervisor, console: rich.console.Console
    ) -> None:
        self.plan = wanted
        self.keeper = keeper
        self.console = console
        self.book = ledger.Ledger()
        self.world = world.World(
            run,
            keeper,
            without=wanted.without,
            second_beat="two-beats" in wanted.faults,
            longest_line=wanted.longest_line,
        )
        self.left_out = {name: why for name, why in faults.left_out().items() if name in wanted.faults}
        self.blows = plan.made(
            seed=wanted.seed,
            seconds=wanted.minutes * 60,
            every_s=wanted.every_s,
            kinds=[faults.FAULTS[name].kind for name in wanted.faults if name not in self.left_out],
        )
        self.struck: list[Struck] = []
        self.samples: list[Sample] = []
        self.customers: load.Customers | None = None
        self._began = 0.0
        self._requests_seen = 0

    # --- The whole of it -------------------------------------------------------------------------

    def run(self) -> Json:
        """Start everything, strike, judge; the report.

        Raises:
            Failed, NotStarted, NoBinaries: something did not start.
            Stopped: somebody asked to stop.
        """
        started = time.monotonic()
        self.world.start()
        self.keeper.say(f"all is up after {time.monotonic() - started:.0f} s")
        for name, why in self.left_out.items():
            self.keeper.say(f"{name} is left out: {why}")
        with (self.world.run / "history.jsonl").open("w") as history:
            self._history = history
            self.customers = self._customers(history)
            try:
                return asyncio.run(self._campaign())
            finally:
                self.customers.stop()

    def _customers(self, history: IO[str]) -> load.Customers:
        return load.Customers(
            self.book,
            shop_url=self.world.shop_url,
            sandbox_url=self.world.sandbox_url,
            token=self.world.env["API_TOKEN"],
            seed=self.plan.seed,
            per_second=self.plan.per_second,
            people=load.crowd(self.plan.seed, rules.shares()),
            staff_token=self.world.env["STAFF_TOKEN"],
            history=history,
        )

    async def _campaign(self) -> Json:
        assert self.customers
        self._began = time.time()
        self.customers.begin()
        async with self._looked_after():
            await self._strike()
            self.customers.enough()
            calm_s = self._now()
            self.keeper.say("nobody orders any more and nothing is broken any more; what is under way ends")
            await self._settle()
            quiet_s = max(0.0, max((self._ended(one) for one in self._taken()), default=0.0) - calm_s)
            found, books = await self._judge()
        return self._report(found, calm_s, quiet_s, books)

    # --- Striking --------------------------------------------------------------------------------

    async def _strike(self) -> None:
        """Every blow at its time, side by side; comes back when all is whole and the time is over."""
        async with asyncio.timeout(self.plan.minutes * 60 + HEALED_WITHIN_S), asyncio.TaskGroup() as tasks:
            for blow in self.blows:
                await asyncio.sleep(max(0.0, blow.at_s - self._now()))
                tasks.create_task(self._one(blow))
            await asyncio.sleep(max(0.0, self.plan.minutes * 60 - self._now()))

    async def _one(self, blow: plan.Blow) -> None:
        struck = Struck(blow=blow, at_s=self._now())
        self.struck.append(struck)
        act = faults.FAULTS[blow.kind].act(self.world, blow)
        async with contextlib.aclosing(act):
            try:
                struck.told = await anext(act)
                struck.at_s = self._now()
                await asyncio.sleep(blow.lasts_s)
                async for told in act:
                    struck.told = told or struck.told
            except faults.DidNothing as nothing:
                struck.why_not = str(nothing)
        struck.healed_s = self._now()
        told = f"not struck: {struck.why_not}" if struck.why_not else struck.told
        self.keeper.say(f"{struck.at_s:6.1f} s  {blow.kind} ({blow.target}), {blow.lasts_s:.1f} s: {told}")

    # --- Looking on ------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _looked_after(self) -> AsyncIterator[None]:
        """Meanwhile what ends is started again, and the terminal tells how the orders fare."""
        async with asyncio.TaskGroup() as tasks:
            with self._live() as show:
                task = tasks.create_task(self._tend(show))
                try:
                    yield
                finally:
                    task.cancel()

    async def _tend(self, show: "rich.live.Live | None") -> None:
        assert self.customers
        said_at = sampled_at = time.monotonic()
        while True:
            if self.keeper.stop_asked:
                raise supervisor.Stopped
            self.keeper.tend()
            self.customers.check()
            now = time.monotonic()
            if now > sampled_at + SAMPLE_EVERY_S:
                sampled_at = now
                self._sample()
                if show:
                    show.update(self._shown())
            if not show and now > said_at + SAYS_EVERY_S:
                said_at = now
                self.keeper.say(f"{self._now():6.1f} s  {self._counts()}")
            await asyncio.sleep(0.1)

    @contextlib.contextmanager
    def _live(self) -> Any:
        if not self.console.is_terminal:
            yield None
            return
        with rich.live.Live(
            self._shown(), console=self.console, refresh_per_second=4, transient=True
        ) as shown:
            yield shown

    def _sample(self) -> None:
        recent = self.book.requests[self._requests_seen :]
        self._requests_seen += len(recent)
        wanted = self.book.wanted
        self.samples.append(
            Sample(
                at_s=self._now(),
                wanted=len(wanted),
                unacknowledged=sum(1 for one in wanted if one.unacknowledged),
                under_way=sum(1 for one in wanted if one.acknowledged_at and not one.seen_ended_at),
                failing=sum(1 for one in recent if one.failure) / len(recent) if recent else 0.0,
            )
        )

    def _counts(self) -> str:
        if not self.samples:
            return "the first orders are placed"
        last = self.samples[-1]
        nothing = sum(1 for one in self.struck if one.why_not)
        return (
            f"{last.wanted} orders wanted, {last.unacknowledged} not acknowledged,"
            f" {last.under_way} under way;"
            f" {len(self.struck) - nothing} of {len(self.blows)} faults have struck, {nothing} broke nothing"
        )

    def _shown(self) -> rich.table.Table:
        """What the terminal shows while it runs."""
        shown = rich.table.Table(box=rich.box.SIMPLE_HEAD, pad_edge=False, show_header=False)
        shown.add_column(justify="right", style="bold", no_wrap=True)
        shown.add_column()
        shown.add_row("time", f"{self._now() if self._began else 0:.0f} of {self.plan.minutes * 60:.0f} s")
        shown.add_row("orders", self._counts())
        shown.add_row("under way", _sparks([sample.under_way for sample in self.samples[-100:]]))
        shown.add_row("requests failing", _sparks([sample.failing for sample in self.samples[-100:]], 1.0))
        open_ones = [f"{one.blow.kind} ({one.blow.target})" for one in self.struck if one.healed_s is None]
        shown.add_row("broken now", rich.text.Text(", ".join(open_ones) or "nothing", style="red"))
        return shown

    # --- Judging ---------------------------------------------------------------------------------

    async def _settle(self) -> None:
        patience = time.monotonic() + breaking.SETTLES_WITHIN_S
        while time.monotonic() < patience and not breaking.have_settled(self.book):
            await asyncio.sleep(0.1)

    async def _judge(self) -> tuple[rules.Judgement, Json]:
        """The rules, once what comes after the end of an order has come too: a late payment goes back."""
        patience = time.monotonic() + 60
        providers = self.world.run / "providers"
        providers.mkdir(exist_ok=True)
        while True:
            self._history.flush()
            audit = json.loads(await asyncio.to_thread(self._manage_audit))
            books = await asyncio.to_thread(breaking.books, self.world.sandbox_url)
            (providers / "books.json").write_text(json.dumps(books))
            found = await asyncio.to_thread(
                rules.judge,
                history=self.world.run / "history.jsonl",
                database=self.world.postgres.url,
                providers=providers,
                audit=audit,
            )
            if found.holds or time.monotonic() > patience:
                return found, await asyncio.to_thread(breaking.versions, self.world.postgres.url)
            await asyncio.sleep(3)

    def _manage_audit(self) -> str:
        return self.world.manage("audit", "--json", codes=(0, 1))

    def _report(self, found: rules.Judgement, calm_s: float, quiet_s: float, versions: Json) -> Json:
        """The run, as it is kept."""
        struck = [one for one in self.struck if not one.why_not]
        ended = [one for one in self.book.wanted if one.seen_ended_at]
        bars = [
            *({"rule": rule.told, "name": rule.name, "broken": len(rule.broken)} for rule in found.rules),
            {
                "name": "quiet",
                "rule": f"Every order has ended within {self.plan.quiet_within_s:g} s of the last fault and"
                " the last order.",
                "broken": int(quiet_s > self.plan.quiet_within_s or len(ended) < len(self._taken())),
            },
        ]
        if any(one.blow.kind == "rolled-out" for one in struck):
            told = f"Orders of version {release.VERSION} were placed after it was rolled out."
            missing = int(not versions.get(str(release.VERSION)))
            bars.append({"name": "rolled out", "rule": told, "broken": missing})
        took = sorted(self._ended(one) + self._began - one.wanted_at for one in ended)
        return {
            **breaking.figures(self.plan, self.book, versions),
            "holds": not any(bar["broken"] for bar in bars),
            "rules": bars,
            "wrong": [told for rule in found.rules for told in rule.broken],
            "kinds_of_wrong": found.kinds,
            "gave_up": found.gave_up,
            "turned_away": found.turned_away,
            "acknowledged": sum(1 for one in self.book.wanted if one.acknowledged_at),
            "ended": len(ended),
            "median_s": round(took[len(took) // 2], 1) if took else None,
            "ended_per_second": round(len(ended) / max(map(self._ended, ended)), 1) if ended else 0,
            "longest_s": round(took[-1], 1) if took else None,
            "faults": len(struck),
            "broke_nothing": len(self.struck) - len(struck),
            "left_out": self.left_out,
            "calm_after_s": round(calm_s, 1),
            "quiet_after_s": round(quiet_s, 1),
            "kinds": self._kinds(),
            "strikes": [
                dataclasses.asdict(one.blow)
                | {"struck_s": round(one.at_s, 2), "healed_s": round(one.healed_s or calm_s, 2)}
                | {"told": one.told, "why_not": one.why_not}
                for one in self.struck
            ],
            "samples": [
                [round(value, 3) for value in dataclasses.astuple(sample)] for sample in self.samples
            ],
        }

    def _kinds(self) -> list[Json]:
        made = collections.Counter(one.blow.kind for one in self.struck)
        struck = collections.Counter(one.blow.kind for one in self.struck if not one.why_not)
        return [
            {
                "name": name,
                "group": fault.kind.group,
                "told": fault.kind.told,
                "made": made[name],
                "struck": struck[name],
                "left_out": self.left_out.get(name, ""),
            }
            for name, fault in faults.FAULTS.items()
            if name in self.plan.faults
        ]

    def keep(self) -> None:
        """All that was seen, beside the logs: for whoever wants to know why a rule was broken."""
        seen = [
            dataclasses.asdict(one) | {"fate": one.fate.name, "ids": sorted(one.ids)}
            for one in self.book.wanted
        ]
        (self.world.run / "orders.json").write_text(json.dumps(seen, indent=1) + "\n")

    def _now(self) -> float:
        return time.time() - self._began

    def _taken(self) -> list[ledger.Wanted]:
        """Those whose customers did not go elsewhere."""
        return [one for one in self.book.wanted if not one.turned_away]

    def _ended(self, one: ledger.Wanted) -> float:
        """When it ended, after the beginning; of one that was not seen to end, now."""
        return (one.ended_at or one.seen_ended_at or time.time()) - self._began


def _sparks(values: Sequence[float], most: float | None = None) -> str:
    """The values as a line of bars."""
    top = most or max([*values, 1])
    return "".join(" ▁▂▃▄▅▆▇█"[min(8, round(value / top * 8))] for value in values)


def run(wanted: Plan, place: pathlib.Path, console: rich.console.Console) -> tuple[int, Json | None]:
    """The whole campaign: the exit code, and the report where it came so far."""
    keeper = breaking.keeper(place, console)
    if keeper is None:
        return 1, None
    campaign = Campaign(wanted, place, keeper, console)
    campaign.world.discard()
    kept = None
    try:
        kept = campaign.run()
    except* supervisor.Stopped:
        pass
    except* (
        supervisor.Failed,
        servers.NotStarted,
        servers.NoBinaries,
        release.NotMade,
        httpx.HTTPError,
        TimeoutError,
    ) as errors:
        for error in _each(errors):
            keeper.say(f"The campaign did not come to its end. {type(error).__name__}: {error}")
    finally:
        keeper.say("stopping")
        faults.go_on(campaign.world)
        keeper.stop()
    if kept is None:
        campaign.world.keep()
        return 1, None
    campaign.keep()
    console.print(table(kept))
    if kept["holds"]:
        campaign.world.discard()
        console.print(
            f"[bold green]Every bar was held[/]: {kept['orders']} orders and {kept['faults']} faults; quiet"
            f" after {kept['quiet_after_s']:g} s."
        )
    else:
        campaign.world.keep()
        console.print("[bold red]A bar was missed.[/]", *kept["wrong"][:40], sep="\n  ", highlight=False)
        console.print(f"The logs are in {place / 'log'}, and the data beside them.", soft_wrap=True)
    return (0 if kept["holds"] else 1), kept


def _each(errors: BaseExceptionGroup) -> Iterator[BaseException]:
    """The errors themselves, out of the groups in groups that the task groups made of them."""
    for error in errors.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _each(error)
        else:
            yield error


def table(kept: Json) -> rich.table.Table:
    """The rules for the terminal."""
    shown = rich.table.Table(box=rich.box.SIMPLE_HEAD, pad_edge=False)
    shown.add_column("Rule")
    shown.add_column("Broken", justify="right")
    for bar in kept["rules"]:
        shown.add_row(bar["rule"], str(bar["broken"]), style="bold red" if bar["broken"] else None)
    return shown
