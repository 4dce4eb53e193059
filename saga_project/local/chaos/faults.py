"""What the nemesis does: each kind of fault strikes, tells what it broke, lasts, and is healed.

A kind is an asynchronous generator of two halves. It strikes and yields what was broken, in a few words; it
is resumed when the fault has lasted as long as was planned, heals, and may yield what was felt meanwhile.
Where nothing was broken it raises `DidNothing`, and the fault counts as not struck.
"""

import asyncio
import contextlib
import dataclasses
import datetime
import email.utils
import functools
import json
import os
import pathlib
import random
import re
import signal
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any, TypeVar

import httpx
import psycopg
import redis

from saga_project.local import release, supervisor
from saga_project.local.chaos import disks, plan, proxy, world

Acts = AsyncGenerator[str, None]
Act = Callable[[world.World, plan.Blow], Acts]

Answer = TypeVar("Answer")


class DidNothing(Exception):
    """A fault was made, and nothing was broken by it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fault:
    """A kind of fault, and how it is done."""

    kind: plan.Kind
    act: Act


FAULTS: dict[str, Fault] = {}
"""By name."""


def fault(
    name: str,
    group: str,
    *,
    targets: tuple[str, ...],
    lasts_s: tuple[float, float] = (0.0, 0.0),
    weight: int = 2,
    holds: Callable[[str], frozenset[str]] | None = None,
    once: bool = False,
    rests_s: float = plan.STANDS_S,
) -> Callable[[Act], Act]:
    """Make a generator a kind of fault; what it does, its docstring says."""

    def made(act: Act) -> Act:
        told = " ".join((act.__doc__ or "").split())
        FAULTS[name] = Fault(
            kind=plan.Kind(
                name=name,
                told=told,
                targets=targets,
                lasts_s=lasts_s,
                weight=weight,
                holds=holds or (lambda target: frozenset({target})),
                once=once,
                rests_s=rests_s,
                group=group,
            ),
            act=act,
        )
        return act

    return made


def left_out() -> dict[str, str]:
    """Which faults cannot be made here, and why."""
    reasons: dict[str, str] = {}
    if not disks.are_possible():
        told = "a small disk is mounted as root on Linux only"
        reasons |= {"broker-disk-full": told, "database-log-full": told}
    return reasons


PROCESSES, SERVERS, MESSAGES, LINKS, PROVIDERS, MACHINES = (
    "Processes", "PostgreSQL and the broker", "Messages and callbacks", "Links", "Providers",
    "Clocks, disks, releases",
)  # fmt: skip

PROGRAMS = (*world.WORKERS, "web", "beat")

COMES_BACK_S = 8.0
"""So long a program that was killed is left alone afterwards: it has to start."""

# --- Processes --------------------------------------------------------------------------------


@fault("killed", PROCESSES, targets=(*PROGRAMS, *world.WORKERS), weight=5, rests_s=COMES_BACK_S)
async def killed(there: world.World, blow: plan.Blow) -> Acts:
    """SIGKILL to the main process of a worker, the web server or beat, which is then started again."""
    yield await _ended(_pid(there, blow.target), f"{blow.target}: process")


@fault("child-killed", PROCESSES, targets=(*world.WORKERS, "web"), weight=6)
async def child_killed(there: world.World, blow: plan.Blow) -> Acts:
    """SIGKILL to one child of a worker or of the web server."""
    yield await _ended(_child(there, blow), f"{blow.target}: child")


@fault("stopped", PROCESSES, targets=(*PROGRAMS, *world.WORKERS), lasts_s=(1.0, 12.0), weight=5)
async def stopped(there: world.World, blow: plan.Blow) -> Acts:
    """SIGSTOP to a worker, the web server or beat with all their processes, and SIGCONT later."""
    pids = _tree(_pid(there, blow.target))
    async for told in _stopped(blow.target, pids):
        yield told


@fault("child-stopped", PROCESSES, targets=world.WORKERS, lasts_s=(1.0, 15.0), weight=4)
async def child_stopped(there: world.World, blow: plan.Blow) -> Acts:
    """SIGSTOP to one child of a worker, in the middle of what it does, and SIGCONT later."""
    async for told in _stopped(blow.target, [_child(there, blow)]):
        yield told


@fault("two-beats", PROCESSES, targets=("beat2",), lasts_s=(4.0, 12.0), weight=2, rests_s=20.0)
async def two_beats(there: world.World, blow: plan.Blow) -> Acts:
    """A second beat runs beside the first, as when a host is slow to let go."""
    log = there.run / "log" / "beat2.log"
    start = log.stat().st_size
    there.keeper.launch_again(there.program("beat2"))
    try:
        await _until(lambda: SENT in _since(log, start), "the second beat sent nothing", 30)
        yield ""
    finally:
        await asyncio.to_thread(there.keeper.halt, "beat2", signals=("SIGKILL",))
    yield f"beat2 sent {_since(log, start).count(SENT)} ticks, too"


SENT = " sent. id->"
"""What beat logs of each task."""


# --- PostgreSQL and the broker ----------------------------------------------------------------


@fault("database-killed", SERVERS, targets=("postgres",), weight=2, rests_s=COMES_BACK_S)
async def database_killed(there: world.World, blow: plan.Blow) -> Acts:
    """SIGKILL to PostgreSQL's postmaster; it is started again and recovers."""
    yield await _ended(_pid(there, "postgres"), "postmaster")


@fault("database-stopped", SERVERS, targets=("postgres",), lasts_s=(1.0, 6.0), weight=3)
async def database_stopped(there: world.World, blow: plan.Blow) -> Acts:
    """SIGSTOP to PostgreSQL with all its backends, and SIGCONT later."""
    async for told in _stopped("postgres", _tree(_pid(there, "postgres"))):
        yield told


@fault("backend-terminated", SERVERS, targets=("postgres",), weight=6, rests_s=1.0)
async def backend_terminated(there: world.World, blow: plan.Blow) -> Acts:
    """`pg_terminate_backend` of a random session, in the middle of what it does."""
    chance = _chance(blow)

    def strike() -> str:
        with _database(there) as link:
            found = link.execute(
                "SELECT pid, state FROM pg_stat_activity WHERE datname = current_database()"
                " AND backend_type = 'client backend' AND pid <> pg_backend_pid() ORDER BY pid"
            ).fetchall()
            if not found:
                raise DidNothing("nobody is connected")
            pid, state = chance.choice(found)
            (done,) = link.execute("SELECT pg_terminate_backend(%s)", [pid]).fetchone() or (False,)
            if not done:
                raise DidNothing(f"backend {pid} had ended")
            return f"backend {pid} ({state}) terminated"

    yield await _asked(strike)


@fault("backend-killed", SERVERS, targets=("postgres",), weight=1, rests_s=4.0)
async def backend_killed(there: world.World, blow: plan.Blow) -> Acts:
    """SIGKILL to a random backend: PostgreSQL ends all sessions and recovers."""
    chance = _chance(blow)

    def strike() -> str:
        with _database(there) as link:
            found = link.execute(
                "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend'"
                " AND pid <> pg_backend_pid() ORDER BY pid"
            ).fetchall()
        if not found:
            raise DidNothing("nobody is connected")
        (pid,) = chance.choice(found)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            return f"backend {pid} ended by SIGKILL"
        raise DidNothing(f"backend {pid} had ended")

    yield await _asked(strike)


@fault("broker-killed", SERVERS, targets=("valkey",), weight=2, rests_s=COMES_BACK_S)
async def broker_killed(there: world.World, blow: plan.Blow) -> Acts:
    """SIGKILL to the broker: it loses what it had not yet written, up to a second's messages."""
    yield await _ended(_pid(there, "valkey"), "process")


@fault("broker-stopped", SERVERS, targets=("valkey",), lasts_s=(1.0, 8.0), weight=3)
async def broker_stopped(there: world.World, blow: plan.Blow) -> Acts:
    """SIGSTOP to the broker, and SIGCONT later."""
    async for told in _stopped("valkey", [_pid(there, "valkey")]):
        yield told


@fault("broker-emptied", SERVERS, targets=("valkey",), weight=3, rests_s=1.0)
async def broker_emptied(there: world.World, blow: plan.Blow) -> Acts:
    """FLUSHALL: every message is gone, those in workers' hands and the queues' bindings too."""

    def strike() -> str:
        with _broker(there) as broker:
            keys, messages = broker.dbsize(), sum(_waiting(there, broker).values())
            in_hand = broker.hlen("unacked")
            broker.flushall()
        if not keys:
            raise DidNothing("there was nothing in it")
        return f"{keys} keys, {messages} messages waiting and {in_hand} in hand"

    yield await _asked(strike)


# --- Messages and callbacks -------------------------------------------------------------------


@fault("message-dropped", MESSAGES, targets=("messages",), weight=4, rests_s=0.5)
async def message_dropped(there: world.World, blow: plan.Blow) -> Acts:
    """A message that waits in a queue is taken out and thrown away."""
    yield await _asked(lambda: _of_waiting(there, blow, least=1, deed=_drop))


@fault("message-doubled", MESSAGES, targets=("messages",), weight=4, rests_s=0.5)
async def message_doubled(there: world.World, blow: plan.Blow) -> Acts:
    """A message that waits in a queue is put in a second time."""
    yield await _asked(lambda: _of_waiting(there, blow, least=1, deed=_double))


@fault("messages-reordered", MESSAGES, targets=("messages",), weight=3, rests_s=0.5)
async def messages_reordered(there: world.World, blow: plan.Blow) -> Acts:
    """The messages of a queue are put in another order."""
    yield await _asked(lambda: _of_waiting(there, blow, least=2, deed=_reorder))


@fault("message-delayed", MESSAGES, targets=("messages",), lasts_s=(2.0, 12.0), weight=3, rests_s=0.5)
async def message_delayed(there: world.World, blow: plan.Blow) -> Acts:
    """A message that waits in a queue is taken out, and put back later: after the sweep has sent another."""
    taken: list[tuple[str, bytes]] = []

    def take(broker: Any, queue: str, chance: random.Random) -> str:
        message = broker.rpop(queue)
        if message is None:
            return ""
        taken.append((queue, message))
        return f"one of {_said(queue)} held back"

    yield await _asked(lambda: _of_waiting(there, blow, least=1, deed=take))
    ((queue, message),) = taken

    def put_back() -> str:
        with _broker(there) as broker:
            broker.lpush(queue, message)
        return f"one of {_said(queue)} came {blow.lasts_s:.0f} s late"

    yield await _asked_patiently(put_back)


@fault("callbacks-dropped", MESSAGES, targets=("callbacks",), lasts_s=(2.0, 6.0), weight=3)
async def callbacks_dropped(there: world.World, blow: plan.Blow) -> Acts:
    """Of the providers' callbacks half are never sent."""
    async for told in _chances(there, blow, {"drop_webhook_rate": 0.5}):
        yield told


@fault("callbacks-doubled", MESSAGES, targets=("callbacks",), lasts_s=(2.0, 6.0), weight=3)
async def callbacks_doubled(there: world.World, blow: plan.Blow) -> Acts:
    """The providers' callbacks come twice."""
    async for told in _chances(there, blow, {"duplicate_webhook_rate": 1.0}):
        yield told


@fault(
    "callbacks-reordered",
    MESSAGES,
    targets=("sandbox-web",),
    lasts_s=(3.0, 8.0),
    weight=3,
    holds=lambda target: frozenset({f"link {target}"}),
)
async def callbacks_reordered(there: world.World, blow: plan.Blow) -> Acts:
    """Each of the providers' callbacks is up to three seconds late, one overtaking the other."""
    async for told in _mode(there, blow, proxy.Mode.SLOW, low_ms=0, high_ms=1500):
        yield told


# --- Links ------------------------------------------------------------------------------------


def _link(target: str) -> frozenset[str]:
    return frozenset({f"link {target}"})


@fault("link-slow", LINKS, targets=world.LINKS, lasts_s=(2.0, 8.0), weight=6, holds=_link)
async def link_slow(there: world.World, blow: plan.Blow) -> Acts:
    """What passes over a link is late by 20 to 120 ms, each piece by another time."""
    async for told in _mode(there, blow, proxy.Mode.SLOW, low_ms=20, high_ms=120):
        yield told


@fault("link-reset", LINKS, targets=world.LINKS, lasts_s=(0.1, 1.5), weight=7, holds=_link)
async def link_reset(there: world.World, blow: plan.Blow) -> Acts:
    """Every connection of a link is reset, and new ones at their first byte for a moment."""
    async for told in _mode(there, blow, proxy.Mode.RESET):
        yield told


@fault("link-half-open", LINKS, targets=world.LINKS, lasts_s=(2.0, 10.0), weight=5, holds=_link)
async def link_half_open(there: world.World, blow: plan.Blow) -> Acts:
    """The far side of each connection of a link is closed, and the near side hears nothing of it."""
    async for told in _mode(there, blow, proxy.Mode.HALF_OPEN):
        yield told


@fault("link-black-hole", LINKS, targets=world.LINKS, lasts_s=(2.0, 10.0), weight=5, holds=_link)
async def link_black_hole(there: world.World, blow: plan.Blow) -> Acts:
    """What is sent over a link is swallowed, on open connections and on new ones."""
    async for told in _mode(there, blow, proxy.Mode.BLACK_HOLE):
        yield told


# --- Providers --------------------------------------------------------------------------------


@fault("provider-errors", PROVIDERS, targets=("errors",), lasts_s=(2.0, 8.0), weight=4)
async def provider_errors(there: world.World, blow: plan.Blow) -> Acts:
    """The providers answer a third of the requests with 503."""
    async for told in _chances(there, blow, {"error_rate": 0.33}):
        yield told


@fault("replies-lost", PROVIDERS, targets=("replies",), lasts_s=(2.0, 8.0), weight=4)
async def replies_lost(there: world.World, blow: plan.Blow) -> Acts:
    """The providers do what they are asked, and of every third answer the connection breaks before it."""
    async for told in _chances(there, blow, {"lost_reply_rate": 0.33}):
        yield told


@fault("provider-slow", PROVIDERS, targets=("slowness",), lasts_s=(2.0, 8.0), weight=3)
async def provider_slow(there: world.World, blow: plan.Blow) -> Acts:
    """The providers take 0.2 to 2 seconds for each answer."""
    async for told in _chances(there, blow, {"latency_ms": [200, 2000]}):
        yield told


@fault(
    "provider-outage",
    PROVIDERS,
    targets=tuple(f"worker-{name}" for name in world.PROVIDERS),
    lasts_s=(3.0, 10.0),
    weight=4,
    holds=_link,
)
async def provider_outage(there: world.World, blow: plan.Blow) -> Acts:
    """The bank, the fiscal authority or the carrier cannot be reached."""
    async for told in _mode(there, blow, proxy.Mode.RESET):
        yield told


@fault("providers-killed", PROVIDERS, targets=("sandbox",), weight=1, rests_s=COMES_BACK_S)
async def providers_killed(there: world.World, blow: plan.Blow) -> Acts:
    """SIGKILL to the sandbox: all three providers are away until they have started again with their books."""
    yield await _ended(_pid(there, "sandbox"), "process")
    # It has forgotten which faults were on.
    await _asked_patiently(lambda: _said_nothing(there.set_rates))


# --- Clocks, disks, releases ------------------------------------------------------------------

JUMPS_S = (-3600, -300, -45, 45, 150, 3600, 86_400)


@fault("clock-jumped", MACHINES, targets=PROGRAMS, lasts_s=(4.0, 10.0), weight=6)
async def clock_jumped(there: world.World, blow: plan.Blow) -> Acts:
    """The clock of a worker, the web server or beat jumps: an hour back, a day ahead, or less."""
    pid = _pid(there, blow.target)
    if not there.clocks[blow.target].is_gone_by(pid):
        raise DidNothing(f"{blow.target} goes by the machine's clock")
    by = _chance(blow).choice(JUMPS_S)
    log = there.run / "log" / f"{blow.target}.log"
    start = log.stat().st_size
    there.clocks[blow.target].set(by)
    yield f"{blow.target}: {by:+d} s"
    try:
        felt = await _asked(lambda: _off_by(there, blow.target, start))
    finally:
        there.clocks[blow.target].set(0)
    if abs(felt - by) > 15:
        raise DidNothing(f"{blow.target} had the time all the while")
    yield f"{blow.target}: {by:+d} s, and went by it"


@fault("broker-disk-full", MACHINES, targets=("valkey",), lasts_s=(2.0, 6.0), weight=2)
async def broker_disk_full(there: world.World, blow: plan.Blow) -> Acts:
    """The disk of the broker is full: it takes no more messages."""
    disk = there.valkey.disk
    assert disk

    def strike() -> str:
        disk.fill()
        patience = time.monotonic() + 8
        with _broker(there) as broker:
            while time.monotonic() < patience:
                try:
                    broker.set("chaos-ballast", b"x" * 4096)
                except redis.ResponseError as refusal:
                    return f"it refuses what is written: {str(refusal)[:60]}"
                time.sleep(0.1)
        raise DidNothing("it took what was written all the same")

    try:
        yield await _asked(strike)
    finally:
        disk.relieve()


@fault("database-log-full", MACHINES, targets=("postgres",), lasts_s=(1.0, 4.0), weight=1, rests_s=10.0)
async def database_log_full(there: world.World, blow: plan.Blow) -> Acts:
    """The disk of the database's log is full: PostgreSQL ends, and recovers when there is room."""
    disk = there.postgres.disk
    assert disk

    def strike() -> str:
        disk.fill()
        try:
            with _database(there) as link:
                for _ in range(40):
                    link.execute("SELECT pg_logical_emit_message(false, 'chaos', repeat('x', 10000))")
                    link.execute("SELECT pg_switch_wal()")
        except psycopg.OperationalError as end:
            return f"PostgreSQL gave up: {str(end).splitlines()[0][:80]}"
        raise DidNothing("it found room all the same")

    try:
        yield await asyncio.to_thread(strike)
    finally:
        disk.relieve()


@fault(
    "rolled-out",
    MACHINES,
    targets=("release 2",),
    weight=1,
    once=True,
    rests_s=40.0,
    holds=lambda _: frozenset({*world.WORKERS, "web", "beat", "beat2"}),
)
async def rolled_out(there: world.World, blow: plan.Blow) -> Acts:
    """A new release with a version 3 of the order's saga: workers one after the other, beat, then web."""
    yield ""
    code = await asyncio.to_thread(release.make, there.run / "release-2")
    there.code = code
    await asyncio.to_thread(there.manage, "migrate", "--no-input")
    for name in (*world.WORKERS, "beat", "web"):
        log = there.run / "log" / f"{name}.log"
        await asyncio.to_thread(there.keeper.halt, name)
        start = log.stat().st_size
        program = there.program(name)
        there.keeper.launch_again(program)
        is_ready = functools.partial(_is_ready, program, log, start)
        await _until(is_ready, f"{name} is not ready", 240)
    yield f"every program runs the release with version {release.VERSION}"


# --- How ---------------------------------------------------------------------------------------


async def _stopped(name: str, pids: list[int]) -> Acts:
    began = {pid: supervisor.start_of(pid) for pid in pids}
    struck = [pid for pid in pids if _signalled(pid, signal.SIGSTOP)]
    try:
        if not struck:
            raise DidNothing(f"{name} had ended")
        await _until(lambda: all(_state(pid) in ("T", "") for pid in struck), f"{name} goes on")
        yield f"{name}: {len(struck)} processes stand still"
    finally:
        for pid in struck:
            if supervisor.start_of(pid) == began[pid]:
                _signalled(pid, signal.SIGCONT)


async def _chances(there: world.World, blow: plan.Blow, rates: dict[str, Any]) -> Acts:
    """Random faults of the sandbox, which counts them."""
    (name,) = rates
    before = (await _asked(there.struck)).get(name, 0)
    there.rates[blow.number] = rates | {"seed": blow.seed}
    await _asked(lambda: _said_nothing(there.set_rates))
    yield ""
    told = await _asked_patiently(there.struck)
    del there.rates[blow.number]
    await _asked_patiently(lambda: _said_nothing(there.set_rates))
    # One that was started again meanwhile counts from zero.
    count = told.get(name, 0) - (before if told.get(name, 0) >= before else 0)
    if not count:
        raise DidNothing("nobody asked or was told anything meanwhile")
    yield f"{count} times"


async def _mode(there: world.World, blow: plan.Blow, mode: proxy.Mode, **more: float) -> Acts:
    """A link in that mode, and how often a connection felt it."""
    await there.proxy.change(blow.target, mode, seed=blow.seed, **more)
    yield ""
    count = await there.proxy.change(blow.target, proxy.Mode.WHOLE)
    if not count:
        raise DidNothing(f"nothing passed over {blow.target} meanwhile")
    yield f"{blow.target}: felt {count} times"


Deed = Callable[[Any, str, random.Random], str]
"""Done to a queue of the broker; what was done, or nothing where a worker took the messages first."""


def _of_waiting(there: world.World, blow: plan.Blow, *, least: int, deed: Deed) -> str:
    """Do something with the messages of a queue in which so many wait.

    Where they are taken as fast as they come, the workers are held for a moment.
    """
    chance = _chance(blow)
    held: list[int] = []
    with _broker(there) as broker:
        try:
            began = time.monotonic()
            while time.monotonic() < began + 4:
                found = [queue for queue, count in _waiting(there, broker).items() if count >= least]
                if found and (told := deed(broker, chance.choice(sorted(found)), chance)):
                    return told
                if not held and time.monotonic() > began + 0.3:
                    held = [pid for name in world.WORKERS if (pid := there.pid(name))]
                    held = [pid for pid in held if _state(pid) != "T" and _signalled(pid, signal.SIGSTOP)]
                time.sleep(0.005)
            raise DidNothing(f"no queue had {least} messages")
        finally:
            for pid in held:
                _signalled(pid, signal.SIGCONT)


def _drop(broker: Any, queue: str, chance: random.Random) -> str:
    return f"one of {_said(queue)}" if broker.rpop(queue) is not None else ""


def _double(broker: Any, queue: str, chance: random.Random) -> str:
    message = broker.lindex(queue, -1)
    if message is None:
        return ""
    told = json.loads(message)
    # Of its own to the broker's client, as one that was sent twice; the same task to Celery.
    told["properties"]["delivery_tag"] = str(uuid.UUID(int=chance.getrandbits(128)))
    broker.lpush(queue, json.dumps(told))
    return f"one of {_said(queue)}"


def _reorder(broker: Any, queue: str, chance: random.Random) -> str:
    with broker.pipeline() as together:
        together.lrange(queue, 0, -1)
        together.delete(queue)
        messages, _ = together.execute()
    if len(messages) < 2:
        if messages:
            broker.rpush(queue, *messages)
        return ""
    other = list(reversed(messages)) if len(messages) == 2 else chance.sample(messages, len(messages))
    broker.rpush(queue, *other)
    return f"{len(messages)} of {_said(queue)}"


def _waiting(there: world.World, broker: Any) -> dict[str, int]:
    """How many messages wait in each queue, and in each of its priorities."""
    with broker.pipeline(transaction=False) as together:
        names = [f"{queue}{suffix}" for queue in there.queues for suffix in PRIORITIES]
        for name in names:
            together.llen(name)
        return dict(zip(names, together.execute(), strict=True))


PRIORITIES = ("", *(f"\x06\x16{number}" for number in (3, 6, 9)))
"""How Celery's transport names the lists of a queue."""


def _said(queue: str) -> str:
    return queue.partition("\x06")[0]


def _off_by(there: world.World, name: str, log_start: int) -> float:
    """How far the clock of a program is off, in seconds, as its answers or its log show."""
    if name == "web":
        answer = httpx.get(f"{there.shop_url}/livez", timeout=5, trust_env=False)
        shown = email.utils.parsedate_to_datetime(answer.headers["date"])
    else:
        found = STAMP.findall(_since(there.run / "log" / f"{name}.log", log_start))
        if not found:
            raise DidNothing(f"{name} said nothing meanwhile")
        shown = datetime.datetime.fromisoformat(found[-1]).astimezone(datetime.UTC)
    return shown.timestamp() - time.time()


STAMP = re.compile(r"^\[?(\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d)", re.MULTILINE)
"""The time before a line of a log."""


@contextlib.contextmanager
def _database(there: world.World) -> Iterator["psycopg.Connection[Any]"]:
    with psycopg.connect(there.postgres.url, autocommit=True, connect_timeout=2) as link:
        yield link


@contextlib.contextmanager
def _broker(there: world.World) -> Iterator[Any]:
    with redis.Redis.from_url(there.valkey.url, socket_timeout=3, socket_connect_timeout=2) as broker:
        yield broker


AWAY = (psycopg.OperationalError, psycopg.InterfaceError, redis.RedisError, httpx.HTTPError, OSError)
"""What somebody raises who asks what another fault has just broken."""


async def _asked(ask: Callable[[], Answer]) -> Answer:
    """Ask without holding up the others.

    Raises:
        DidNothing: who was asked is broken already.
    """
    try:
        return await asyncio.to_thread(ask)
    except AWAY as error:
        raise DidNothing(f"away already ({type(error).__name__})") from error


async def _asked_patiently(ask: Callable[[], Answer]) -> Answer:
    """The same, but wait until who is asked is there again."""
    while True:
        try:
            return await asyncio.to_thread(ask)
        except AWAY:
            await asyncio.sleep(0.3)


async def _ended(pid: int, what: str) -> str:
    """End a process at once; what was ended, in words.

    Raises:
        DidNothing: it had ended by itself, or lives on.
    """
    began = supervisor.start_of(pid)
    if not _signalled(pid, signal.SIGKILL):
        raise DidNothing(f"{what} {pid} had ended")
    await _until(lambda: supervisor.start_of(pid) != began, "it survived SIGKILL")
    return f"{what} {pid} ended by SIGKILL"


async def _until(come: Callable[[], bool], otherwise: str, seconds: float = 5) -> None:
    patience = time.monotonic() + seconds
    while not come():
        if time.monotonic() > patience:
            raise DidNothing(otherwise)
        await asyncio.sleep(0.02)


def _said_nothing(deed: Callable[[], None]) -> str:
    deed()
    return ""


def _chance(blow: plan.Blow) -> random.Random:
    return random.Random(blow.seed)  # noqa: S311 - Chance, not secrecy.


def _pid(there: world.World, name: str) -> int:
    pid = there.pid(name)
    if pid is None:
        raise DidNothing(f"{name} does not run at this moment")
    return pid


def _child(there: world.World, blow: plan.Blow) -> int:
    children = _children().get(_pid(there, blow.target), [])
    # A main process has helpers that start children, too; who works is a Python like itself.
    if not children:
        raise DidNothing(f"{blow.target} has no children at this moment")
    return _chance(blow).choice(sorted(children))


def _tree(pid: int) -> list[int]:
    children, found, left = _children(), [pid], [pid]
    while left:
        more = children.get(left.pop(), [])
        found += more
        left += more
    return found


def _children() -> dict[int, list[int]]:
    """The children of every process."""
    found: dict[int, list[int]] = {}
    for place in pathlib.Path("/proc").iterdir():
        if place.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (place / "stat").read_text().rpartition(")")[2].split()
                found.setdefault(int(fields[1]), []).append(int(place.name))
    return found


def _state(pid: int) -> str:
    """As /proc has it: T stands still; empty for one that has ended."""
    with contextlib.suppress(OSError):
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return ""


def _signalled(pid: int, number: signal.Signals) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
        return True
    return False


def _is_ready(program: supervisor.Program, log: pathlib.Path, log_start: int) -> bool:
    return program.ready(_since(log, log_start))


def _since(log: pathlib.Path, start: int) -> str:
    with log.open("rb") as file:
        file.seek(start)
        return file.read().decode(errors="replace")


def go_on(there: world.World) -> None:
    """Let everything go on that stands still, so that it can be told to stop."""
    for pid in supervisor.processes(there.run).values():
        for one in _tree(pid):
            if _state(one) == "T":
                _signalled(one, signal.SIGCONT)
