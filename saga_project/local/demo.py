"""`make demo`: orders of every fate on real parts, then a crowd under random faults, then the audit.

On servers and ports of its own, so that it runs beside `make up`. It talks to the shop as any client
does, over HTTP; only the worker's death and the emptied broker are its own doing. It ends with 0 only
if every order came to the end that was foretold and the books agree.
"""

import collections
import collections.abc
import concurrent.futures
import contextlib
import datetime
import os
import pathlib
import signal
import subprocess
import sys
import time
import uuid
from typing import Any

import httpx
import redis
import rich.box
import rich.console
import rich.progress
import rich.table

from saga_project.local import fates, recording, report, runfile, servers, stack, supervisor

RUN = runfile.ROOT / ".run" / "demo"

REPORT = RUN / "report.html"
"""What is left of a run, until the next one."""

LIMITS = {
    # Short, so that the silent carrier and the unpaid PIX are seen to their end.
    "PIX_LIMIT": "15s",
    "PIX_POLL": "3s",
    "DELIVERY_LIMIT": "25s",
    "DELIVERY_POLL": "3s",
}

SEED = 7

FAULTS: dict[str, Any] = {
    "error_rate": 0.05,
    "lost_reply_rate": 0.05,
    "latency_ms": [5, 60],
    "duplicate_webhook_rate": 0.2,
    "drop_webhook_rate": 0.1,
    "seed": SEED,
}

CROWD = 200

FINAL = ("fulfilled", "cancelled", "attention")
UNDER_WAY = ("pending", "cancelling")

PATIENCE_S = {"fates": 60, "crowd": 110}
"""What a slow machine may need; here it takes a third of that."""

MARKS = {
    "done": ("green", "✓", "done"),
    "undone": ("yellow", "↶", "undone"),
    "failed": ("red", "✗", "failed"),
    "stuck": ("magenta", "!", "refused"),
}

Json = dict[str, Any]


class Shop:
    """The shop as its clients see it, and the outside world beside it."""

    def __init__(self, env: dict[str, str]) -> None:
        self._sandbox = env["SANDBOX_URL"]
        self._http, self._staff = (
            httpx.Client(
                base_url=f"{env['WEB_URL']}/api/v1",
                headers={"Authorization": f"Token {env[token]}"},
                timeout=30,
                limits=httpx.Limits(max_connections=40),
            )
            for token in ("API_TOKEN", "STAFF_TOKEN")
        )

    def place(self, wish: Json, key: str) -> httpx.Response:
        """Place an order; told to come back later, come back later."""
        while True:
            answer = self._http.post("/orders", json=wish, headers={"Idempotency-Key": key})
            if answer.status_code not in (409, 429):
                answer.raise_for_status()
                return answer
            time.sleep(float(answer.headers.get("Retry-After", 1)))

    def cancel(self, order_id: str, reason: str) -> None:
        """Ask for the end of an order."""
        self._http.post(f"/orders/{order_id}/cancel", json={"reason": reason}).raise_for_status()

    def review(self, order: Json, answer: str) -> None:
        """What one of the shop's people does who is asked whether it accepts an order."""
        what, reason = fates.REVIEWS[answer]
        body = {"step": fates.review(order), "reason": reason}
        self._staff.post(f"/sagas/{order['saga']['id']}/{what}", json=body).raise_for_status()

    def orders(self) -> dict[str, Json]:
        """All of the caller's orders, by id."""
        found: dict[str, Json] = {}
        page: str | None = "/orders?limit=100"
        while page:
            answer = self._http.get(page).raise_for_status().json()
            found |= {order["id"]: order for order in answer["results"]}
            page = answer["next"]
        return found

    def sagas(self) -> dict[str, Json]:
        """All sagas, as the shop's own people see them, by id."""
        found: dict[str, Json] = {}
        page: str | None = "/sagas?limit=100"
        while page:
            answer = self._staff.get(page).raise_for_status().json()
            found |= {saga["id"]: saga for saga in answer["results"]}
            page = answer["next"]
        return found

    def products(self) -> list[str]:
        """What the shop has most of, so that a crowd does not sell it out; and it goes in a parcel."""
        answer = self._http.get("/products?limit=100").raise_for_status().json()
        shipped = [product for product in answer["results"] if product["ships"]]
        plenty = sorted(shipped, key=lambda product: -product["available"])
        return [product["sku"] for product in plenty[:8]]

    def pay_pix(self, key: str) -> None:
        """What a customer does in the bank's app."""
        httpx.post(f"{self._sandbox}/pix/{key}/pay", timeout=30).raise_for_status()

    def set_faults(self, faults: Json) -> None:
        """Turn random faults of the outside world on, or with nothing off."""
        httpx.post(f"{self._sandbox}/faults", json=faults, timeout=30).raise_for_status()

    def books(self) -> Json:
        """What the bank, the fiscal authority and the carrier have written down themselves."""
        books: Json = httpx.get(f"{self._sandbox}/books", timeout=30).raise_for_status().json()
        return books


class Demo:
    """One run: what was placed, and what is wrong with it."""

    def __init__(self, shop: Shop, env: dict[str, str], console: rich.console.Console) -> None:
        self.shop = shop
        self.env = env
        self.console = console
        self.placed: dict[str, fates.Fate] = {}
        self.orders: dict[str, Json] = {}
        self.wrong: list[str] = []
        self.disasters: list[report.Disaster] = []
        self._meddled: set[str] = set()
        self._products = shop.products()

    def place(self, fate: fates.Fate) -> None:
        """Place an order with this fate."""
        sku = self._products[len(self.placed) % len(self._products)]
        key, wish = f"demo-{uuid.uuid4()}", fates.body(fate, sku)
        if fate.meddle == "send twice":
            with concurrent.futures.ThreadPoolExecutor(2) as pool:
                first, second = pool.map(lambda _: self.shop.place(wish, key), range(2))
            self.expect(first.content == second.content, "two submissions with one key: two answers")
        else:
            first = self.shop.place(wish, key)
        self.placed[first.json()["id"]] = fate

    def follow(
        self,
        title: str,
        ids: list[str],
        *,
        patience_s: float,
        strike: collections.abc.Callable[[int], None] = lambda ended: None,
    ) -> None:
        """Look on, with a progress bar, until these orders have come to an end.

        Meanwhile the customers meddle, and `strike` is told how many have ended.
        """
        patience = time.monotonic() + patience_s
        with _Progress(self.console, title, len(ids)) as progress:
            while True:
                self.orders = self.shop.orders()
                counts = collections.Counter(self.orders[id_]["status"] for id_ in ids)
                ended = sum(counts[status] for status in FINAL)
                progress.show(ended, counts)
                if ended == len(ids) and not self._customers_busy():
                    return
                if time.monotonic() > patience:
                    late = [self.orders[id_]["number"] for id_ in ids if not self._has_ended(id_)]
                    self.wrong.append(f"{title}: not ended after {patience_s:g} s: {', '.join(late)}")
                    return
                strike(ended)
                for id_, fate in self.placed.items():
                    self._meddle(self.orders[id_], fate)
                time.sleep(0.5)

    def _has_ended(self, id_: str) -> bool:
        return self.orders[id_]["status"] in FINAL

    def expect(self, holds: bool, otherwise: str) -> None:
        """Note what does not hold."""
        if not holds:
            self.wrong.append(otherwise)

    def _meddle(self, order: Json, fate: fates.Fate) -> None:
        """What the customer does, or the shop, once the order has come to the point where it can be done."""
        id_, key, age_s = order["id"], order["payment"]["key"], _age_s(order)
        waits = order["payment"]["status"] == "awaiting_payment"
        under_way = order["shipment"] is not None and order["shipment"]["status"] == "in_transit"
        match fate.meddle:
            case _ if id_ in self._meddled:
                return
            case _ if fate.review and fates.review(order):
                self.shop.review(order, fate.review)
            case "pay" if waits:
                self.shop.pay_pix(key)
            case "pay late" if waits and age_s > 6:
                self.shop.pay_pix(key)
            case "cancel" if under_way:
                self.shop.cancel(id_, "The customer has changed their mind.")
            case "cancel, then pay" if waits:
                self.shop.cancel(id_, "The customer has changed their mind.")
                return  # And pays when that is done.
            case "cancel, then pay" if order["status"] == "cancelled":
                self.shop.pay_pix(key)
            case _:
                return
        self._meddled.add(id_)

    def _customers_busy(self) -> bool:
        """Whether a customer still means to do something to an order that has ended."""
        return any(
            fate.meddle == "cancel, then pay" and id_ not in self._meddled
            for id_, fate in self.placed.items()
        )

    def check_fates(self, ids: list[str]) -> None:
        """Each of these orders came to exactly the end that was foretold."""
        for id_ in ids:
            order, fate = self.orders[id_], self.placed[id_]
            became = fates.became(order)
            self.expect(
                order["status"] in fate.ends and became == fate.steps,
                f"{fate.name}: {order['status']} with {became}, not {fate.ends} with {fate.steps}",
            )

    def check_crowd(self, crowd: list[str]) -> None:
        """Nobody in the crowd is left in the middle, and the faults have changed nobody's fate."""
        for id_ in crowd:
            order, fate = self.orders[id_], self.placed[id_]
            self.expect(
                order["status"] in fate.ends,
                f"{order['number']} ({fate.name}): {order['status']}, not {' or '.join(fate.ends)}",
            )

    def check_money(self) -> None:
        """The bank's own books: the total of what was fulfilled, nothing of what was cancelled (M1).

        A payment that came too late is on its way back when its order has long ended (M3), so the books
        get a little time.
        """
        patience = time.monotonic() + 20
        while (faults := self._money_faults()) and time.monotonic() < patience:
            time.sleep(0.5)
        self.wrong += faults

    def _money_faults(self) -> list[str]:
        charges = {charge["key"]: charge for charge in self.shop.books()["charges"]}
        faults = []
        for id_ in self.placed:
            order = self.orders[id_]
            charge = charges.get(order["payment"]["key"], {"captured": 0, "refunded": 0})
            kept, total = charge["captured"] - charge["refunded"], order["total"]["amount"]
            due = {"fulfilled": total, "cancelled": 0}.get(order["status"], kept)
            if kept != due:
                faults.append(f"{order['number']}: the bank holds {kept}, it should hold {due}")
        return faults

    def write_report(self, path: pathlib.Path, fated: list[str], crowd: list[str]) -> None:
        """A page with the orders on a time line."""
        sagas = self.shop.sagas()

        def rows(ids: list[str]) -> list[report.Row]:
            return [
                report.Row(
                    number=self.orders[id_]["number"],
                    name=self.placed[id_].name,
                    ended=self.orders[id_]["status"],
                    saga=sagas[self.orders[id_]["saga"]["id"]],
                )
                for id_ in ids
            ]

        report.write(path, fated=rows(fated), crowd=rows(crowd), disasters=self.disasters)

    def fate_table(self, ids: list[str]) -> rich.table.Table:
        """One line per order: what was done and undone, how it ended, and how long that took."""
        table = rich.table.Table(
            box=rich.box.SIMPLE_HEAD,
            pad_edge=False,
            collapse_padding=True,
            caption="✓ done  ↶ done, then undone  ✗ failed, nothing to undo  ! undo refused",
            caption_justify="left",
        )
        is_wide = self.console.width >= 100
        for title in (*(["Order"] if is_wide else []), "Fate", *fates.STEPS, "Ended"):
            table.add_column(title.capitalize(), no_wrap=True)
        if is_wide:
            table.add_column("Time", justify="right", no_wrap=True)
        for id_ in ids:
            order = self.orders[id_]
            table.add_row(
                *([order["number"]] if is_wide else []),
                self.placed[id_].name,
                *(_mark(word, is_wide) for word in fates.became(order)),
                _coloured(order["status"]),
                *([f"{_took_s(order):.1f} s"] if is_wide else []),
            )
        return table

    def crowd_table(self, ids: list[str]) -> rich.table.Table:
        """One line per fate in the crowd."""
        table = rich.table.Table(box=rich.box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
        table.add_column("Fate in the crowd", no_wrap=True)
        for title in ("Orders", "Fulfilled", "Cancelled", "Other", "Median", "Longest"):
            table.add_column(title, justify="right", no_wrap=True)
        by_fate: dict[str, list[Json]] = collections.defaultdict(list)
        for id_ in ids:
            by_fate[self.placed[id_].name].append(self.orders[id_])
        for name in [fate.name for _, fate in fates.CROWD]:
            orders = by_fate[name]
            counts = collections.Counter(order["status"] for order in orders)
            times = sorted(_took_s(order) for order in orders)
            other = len(orders) - counts["fulfilled"] - counts["cancelled"]
            table.add_row(
                name,
                *(str(number) for number in (len(orders), counts["fulfilled"], counts["cancelled"], other)),
                f"{times[len(times) // 2]:.1f} s",
                f"{times[-1]:.1f} s",
            )
        return table


class _Progress:
    """A bar, and counts where there is room: alive on a terminal, a line now and then in a file."""

    def __init__(self, console: rich.console.Console, title: str, of: int) -> None:
        self._console = console
        self._title = title
        self._of = of
        self._said_at = 0.0
        self._bar = rich.progress.Progress(
            rich.progress.TextColumn("[bold]{task.description}[/]"),
            rich.progress.BarColumn(),
            rich.progress.MofNCompleteColumn(),
            rich.progress.TimeElapsedColumn(),
            *([rich.progress.TextColumn("{task.fields[counts]}")] if console.width >= 120 else []),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task(title, total=of, counts="")

    def __enter__(self) -> "_Progress":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, ended: int, counts: collections.Counter[str]) -> None:
        text = ", ".join(f"{counts[status]} {status}" for status in (*FINAL, *UNDER_WAY) if counts[status])
        self._bar.update(self._task, completed=ended, counts=text)
        if not self._console.is_terminal and (ended == self._of or time.monotonic() > self._said_at + 5):
            self._said_at = time.monotonic()
            self._console.print(f"{self._title}: {ended} of {self._of} ended; {text}")


def run(console: rich.console.Console) -> int:
    """The whole demo; 0 if every rule held."""
    begun_at = time.monotonic()
    with _stack(console) as env:
        demo = Demo(Shop(env), env, console)
        console.print(f"The stack is up after {time.monotonic() - begun_at:.0f} s.")
        console.print(FATES_TEXT, highlight=False)
        for fate in fates.FATES:
            demo.place(fate)
        fated = list(demo.placed)
        soon = [id_ for id_ in fated if not demo.placed[id_].takes_long]
        demo.follow("One order of each fate", soon, patience_s=PATIENCE_S["fates"])
        crowd = _crowd(demo)
        demo.check_fates(fated)
        demo.check_crowd(crowd)
        demo.check_money()
        console.print(demo.fate_table(fated))
        console.print(demo.crowd_table(crowd))
        _audit(demo)
        demo.write_report(REPORT, fated, crowd)
    seconds = time.monotonic() - begun_at
    if demo.wrong:
        console.print(f"[bold red]Not every rule held[/] ({seconds:.0f} s):", *demo.wrong, sep="\n  ")
        console.print(f"The logs are in {RUN / 'log'}.")
        return 1
    console.print(
        f"[bold green]Every rule held[/]: {len(demo.placed)} orders, each completed whole or undone whole"
        f" or waiting for a person, and every book agrees ({seconds:.0f} s).",
        soft_wrap=True,
    )
    where = REPORT.relative_to(runfile.ROOT)
    console.print(f"\nThe orders on a time line: {where}", highlight=False, soft_wrap=True)
    console.print(NEXT, highlight=False)
    return 0


FATES_TEXT = (
    "\nOne order of each fate. What is ordered decides what will go wrong, such as a card that is declined,"
    " a tax id that the fiscal authority rejects, or an address where nothing can be delivered."
)

CROWD_TEXT = (
    f"\nThe order whose carrier never reports goes on meanwhile. Now {CROWD} orders at once, under random"
    f" faults: of the calls to bank, fiscal authority and carrier {FAULTS['error_rate']:.0%} fail and"
    f" {FAULTS['lost_reply_rate']:.0%} lose their reply; {FAULTS['duplicate_webhook_rate']:.0%} of the"
    f" callbacks come twice and {FAULTS['drop_webhook_rate']:.0%} never. A worker will be killed, and the"
    " broker emptied."
)

NEXT = """
Try it yourself: `make up` starts such a stack and keeps it. It prints where the
console and Flower are, and who may log in. Then, in another shell:

  . .run/env
  pretty() { python3 -m json.tool --no-ensure-ascii; }
  curl -sS "$WEB_URL/api/v1/products?limit=3" -H "Authorization: Token $API_TOKEN" | pretty
  curl -sS "$WEB_URL/api/v1/orders" -H "Authorization: Token $API_TOKEN" | pretty
  curl -sS "$SANDBOX_URL/books" | pretty

README.md, "Try it", has a request that places an order, and others that go wrong.
"""


def _crowd(demo: Demo) -> list[str]:
    """Two hundred orders at once, under random faults; a worker dies, and the broker forgets everything."""
    people = fates.crowd(CROWD, seed=SEED)
    demo.console.print(CROWD_TEXT, highlight=False)
    demo.shop.set_faults(FAULTS)
    before = list(demo.placed)
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        list(pool.map(demo.place, people))
    disasters: list[tuple[float, str, collections.abc.Callable[[], None]]] = [
        (0.2, "A worker dies (SIGKILL)", lambda: _kill_worker("payments")),
        (0.5, "The broker forgets everything (FLUSHALL)", lambda: _empty_broker(demo.env)),
    ]

    def strike(ended: int) -> None:
        while disasters and ended >= disasters[0][0] * len(ids):
            _, what, befall = disasters.pop(0)
            befall()
            demo.disasters.append(report.Disaster(what=what, at=datetime.datetime.now(datetime.UTC)))
            demo.console.print(f"[yellow]{what}[/] when {ended} of {len(ids)} orders had ended.")

    ids = [id_ for id_ in demo.placed if id_ not in before or demo.placed[id_].takes_long]
    demo.follow("A crowd under random faults", ids, patience_s=PATIENCE_S["crowd"], strike=strike)
    demo.shop.set_faults({})
    demo.expect(not disasters, "the crowd had ended before everything was broken that was to be broken")
    return [id_ for id_ in demo.placed if id_ not in before]


def _kill_worker(queue: str) -> None:
    # The whole process group: neither the worker nor its pool gets to say goodbye.
    os.killpg(supervisor.processes(RUN)[queue], signal.SIGKILL)


def _empty_broker(env: dict[str, str]) -> None:
    with redis.Redis.from_url(env["BROKER_URL"]) as client:
        client.flushall()


def _audit(demo: Demo) -> None:
    done = subprocess.run(
        [sys.executable, "manage.py", "audit"],
        cwd=runfile.ROOT,
        env=os.environ | demo.env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    told = done.stdout + (done.stderr if done.returncode else "")
    demo.console.print(told.rstrip(), highlight=False, markup=False)
    demo.expect(done.returncode == 0, f"manage.py audit ended with {done.returncode}")


@contextlib.contextmanager
def _stack(console: rich.console.Console) -> collections.abc.Iterator[dict[str, str]]:
    """The stack on free ports, with empty books; gone at the end, whatever happens.

    It hangs on a pipe: if this process dies, the stack sees the end of it and stops.
    """
    web, flower, sandbox = (servers.free_port() for _ in range(3))
    stack.Stack(run=RUN, web_port=web, flower_port=flower, sandbox_port=sandbox).discard()
    RUN.mkdir(parents=True)
    ours = {
        "RUN_DIR": str(RUN),
        "WEB_PORT": str(web),
        "FLOWER_PORT": str(flower),
        "SANDBOX_PORT": str(sandbox),
    }
    # Nobody's own servers: the demo empties the broker.
    around = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "BROKER_URL")}
    with (RUN / "output").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "saga_project.local.stack", "up", "--while-open"],
            cwd=runfile.ROOT,
            env=around | LIMITS | ours,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        with console.status("Starting PostgreSQL, Valkey, the sandbox, web, workers, beat and Flower ..."):
            while not (RUN / "env").exists():
                if process.poll() is not None:
                    raise SystemExit(f"The stack did not start:\n{_tail(RUN / 'output')}")
                time.sleep(0.1)
        yield runfile.read(RUN / "env")
    finally:
        with console.status("Stopping ..."):
            assert process.stdin
            process.stdin.close()
            process.wait()


def _tail(path: pathlib.Path) -> str:
    return "\n".join(path.read_text(errors="replace").splitlines()[-30:])


def _age_s(order: Json) -> float:
    return (datetime.datetime.now(datetime.UTC) - _instant(order["created_at"])).total_seconds()


def _took_s(order: Json) -> float:
    return (_instant(order["updated_at"]) - _instant(order["created_at"])).total_seconds()


def _instant(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text)


def _mark(word: str, is_wide: bool) -> str:
    if word == "-":
        return ""
    colour, sign, text = MARKS.get(word, ("red", "?", word))
    return f"[{colour}]{sign} {text}[/]" if is_wide else f"[{colour}]{sign}[/]"


def _coloured(status: str) -> str:
    colour = {"fulfilled": "green", "cancelled": "yellow", "attention": "magenta"}.get(status, "red")
    return f"[{colour}]{status}[/]"


def main(arguments: list[str]) -> int:
    """Run it; with `--record FILE` its terminal is left in that file, as a picture that moves."""
    match arguments:
        case []:
            # A file has no width; a log of eighty columns would break every line of the tables.
            return run(rich.console.Console(width=None if sys.stdout.isatty() else 120))
        case ["--record", path]:
            # Lines that are drawn over one another, as those of a progress bar, make no picture of lines.
            console = recording.Recorder(force_terminal=False)
            code = run(console)
            if code == 0:
                pathlib.Path(path).write_text(console.picture("make demo"), encoding="utf-8")
            return code
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
