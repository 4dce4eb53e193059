"""What `manage.py doctor` examines of the engine: its database, its declarations, its broker, its workers.

Nothing here knows what the sagas are about.
"""

import collections
import dataclasses
import datetime
from collections.abc import Callable, Iterator

from django.core import checks as system
from django.db import Error, connection
from django.db.migrations import executor
from django.db.models import Count

from sagas import checks, conf, database, doctor, models, workers
from sagas.dbrules import halves
from sagas.declaration import registry, states

CROWDED = 0.8
"""Of the connections that PostgreSQL allows: a worker that is started then may find none left."""

KEPT_BYTES = 1 << 30
"""So much WAL that is kept for nobody is worth a word."""

CLOCKS_DIFFER = datetime.timedelta(seconds=2)
"""Machines with a time service differ by milliseconds."""

CLOCKS_DIFFER_GRAVELY = datetime.timedelta(minutes=1)
"""Signatures with a time in them are good for five minutes (Standard Webhooks)."""

doctor.effects |= {
    "sagas.E011": "No worker can carry these on: each ends in front of a person, with what it has paid and"
    " reserved.",
    "sagas.W001": "A saga that could be turned back ends in front of a person instead.",
    "sagas.W007": "The saga turns back while its step may still wait.",
    "sagas.E012": "No message is sent, and every saga stands still.",
}
doctor.told_better |= {"sagas.W003", "sagas.W004"}


# --- Settings and declarations ----------------------------------------------------------------------


@doctor.examination("Settings")
def settings() -> Iterator[doctor.Said]:
    """All that `manage.py check --deploy` looks at, and that needs no database."""
    found = [*doctor.of_checks(system.run_checks(include_deployment_checks=True))]
    yield from found
    if not found:
        yield "check --deploy finds nothing"


# --- PostgreSQL -------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Setting:
    """A setting of PostgreSQL's with values that hurt."""

    tell: Callable[..., doctor.Finding]
    id: str
    name: str
    sound: str
    hurts: frozenset[str]
    effect: str


_OFF = frozenset({"off"})
_HURT = (
    _Setting(
        tell=doctor.error, id="sagas.D002", name="fsync", sound="on", hurts=_OFF,
        effect="After a crash of its host the whole database may be damaged, and every saga in it lost.",
    ),
    _Setting(
        tell=doctor.error, id="sagas.D002", name="full_page_writes", sound="on", hurts=_OFF,
        effect="A crash while a page is written leaves half of it: rows of sagas are damaged or lost.",
    ),
    _Setting(
        tell=doctor.error, id="sagas.D002", name="synchronous_commit", sound="on", hurts=_OFF,
        effect="A crash loses what was committed last: a step was done, money taken, and no row knows of it.",
    ),
    _Setting(
        tell=doctor.warning, id="sagas.D003", name="autovacuum", sound="on", hurts=_OFF,
        effect="The rows of live sagas change all the time: their tables swell, and each step takes longer.",
    ),
    _Setting(
        tell=doctor.warning, id="sagas.D004", name="default_transaction_isolation", sound="read committed",
        hurts=frozenset({"read uncommitted", "repeatable read", "serializable"}),
        effect="Workers that meet at one row fail instead of waiting for each other, and steps are put off.",
    ),
)  # fmt: skip


@doctor.examination("PostgreSQL", proves="database")
def postgresql() -> Iterator[doctor.Said]:
    """Whether it answers, keeps what it is given, and has room for who connects."""
    try:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT name, setting, source FROM pg_settings WHERE name = ANY(%s)",
                [[*(one.name for one in _HURT), "max_connections", "superuser_reserved_connections"]],
            )
            told = {name: (value, source) for name, value, source in cursor.fetchall()}
            cursor.execute("SELECT split_part(current_setting('server_version'), ' ', 1)")
            (version,) = cursor.fetchone()
            cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'")
            (used,) = cursor.fetchone()
    except Error as error:
        raise doctor.Away(_no_database(error)) from error
    for one in _HURT:
        value, source = told[one.name]
        if value in one.hurts:
            yield one.tell(
                one.id,
                what=f"PostgreSQL's {one.name} is {value}, by its {source}.",
                effect=one.effect,
                change=database.put_right(one.name, one.sound, source),
            )
    most = int(told["max_connections"][0]) - int(told["superuser_reserved_connections"][0])
    yield from crowd(used, most)
    yield from _kept()
    yield f"{version}, {used} of {most} connections are used"
    yield from _this_clock()


def _no_database(error: Error) -> doctor.Finding:
    return doctor.error(
        "sagas.D001",
        what=f"PostgreSQL cannot be used: {doctor.first_line(error)}",
        effect="No saga is begun, and none goes on.",
        change="Start it, or correct its address, DATABASES in the settings.",
    )


def crowd(used: int, most: int) -> Iterator[doctor.Finding]:
    """Whether there is room for another connection.

    Arguments:
        used: connections of clients.
        most: how many there may be.
    """
    if used >= CROWDED * most:
        yield doctor.warning(
            "sagas.D005",
            what=f"{used} of {most} connections of PostgreSQL are used.",
            effect="A process that finds none left begins no saga, and its steps wait until one is free.",
            change=f"ALTER SYSTEM SET max_connections = {2 * most}; and restart it; or run fewer processes,"
            " or a"
            " pooler in front of it.",
        )


def _kept() -> Iterator[doctor.Finding]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT slot_name, pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn) FROM pg_replication_slots"
            " WHERE NOT active AND pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn) > %s",
            [KEPT_BYTES],
        )
        slots = cursor.fetchall()
    for name, kept in slots:
        yield doctor.error(
            "sagas.D006",
            what=f"The replication slot {name} is used by nobody, and keeps {kept / (1 << 30):.1f} GB of"
            " WAL.",
            effect="It grows until the disk is full; then PostgreSQL stops, and with it every saga.",
            change=f"Start who reads it, or SELECT pg_drop_replication_slot('{name}');",
        )


def _this_clock() -> Iterator[doctor.Said]:
    skew = database.clock_skew()
    if abs(skew) > CLOCKS_DIFFER:
        yield _clock("This host", skew)
    else:
        yield "its clock and this host's agree"


def _clock(whose: str, skew: datetime.timedelta) -> doctor.Finding:
    seconds = skew.total_seconds()
    return (doctor.error if abs(skew) > CLOCKS_DIFFER_GRAVELY else doctor.warning)(
        "sagas.D007",
        what=f"{whose}: its clock is {abs(seconds):.0f} s {'ahead of' if seconds > 0 else 'behind'} the"
        " database's.",
        effect="Sagas go by the database's clock and go on. Signatures with a time in them, those of"
        " callbacks and"
        " webhooks, are refused where it is off by minutes, and logs cannot be put in order.",
        change="Have the host's time set by a service: `timedatectl set-ntp true`.",
    )


@doctor.examination("Migrations", proves="tables", needs={"database"})
def migrations() -> Iterator[doctor.Said]:
    """Whether the schema is what this code expects."""
    graph = (plan := executor.MigrationExecutor(connection)).loader.graph
    # Those that wait for the end of the version before are not missing while it runs.
    now, _ = halves.split(graph, [one for one, _ in plan.migration_plan(graph.leaf_nodes())])
    missing = [f"{one.app_label}.{one.name}" for one in now]
    finding = doctor.error(
        "sagas.D008",
        what=f"Migrations are not applied ({len(missing)}): {_some(missing)}.",
        effect="What needs them fails: sagas are not begun, and steps are put off.",
        change="manage.py migrate",
    )
    if missing and not checks.migrated(connection.alias):
        raise doctor.Away(finding)
    if missing:
        yield finding
    else:
        yield "all are applied"


@doctor.examination("Declarations", needs={"database", "tables"})
def declarations() -> Iterator[doctor.Said]:
    """Whether the code that runs here knows every live saga, and what else `check --database` finds."""
    messages = system.run_checks(tags=[system.Tags.database], databases=[connection.alias])
    yield from doctor.of_checks(messages)
    live = collections.Counter({(name, version): count for name, version, count in _live()})
    declared = workers.declared()
    if live and live.keys() <= declared.keys():
        counts = [f"{name} {version} ({count} live)" for (name, version), count in sorted(live.items())]
        yield f"all that live are declared: {_some(counts)}"
    elif not live:
        yield "no saga is live"


def _live() -> list[tuple[str, int, int]]:
    live = models.SagaInstance.objects.filter(state__in=states.LIVE, closed_at=None)
    return [*live.values_list("name", "version").annotate(count=Count("id")).order_by()]


@doctor.examination("The sweep", needs={"database", "tables"})
def sweep() -> Iterator[doctor.Said]:
    """Whether beat sends it and a worker takes it."""
    now, swept = models.database_now(), models.Heartbeat.last_sweep().first()
    if swept is not None and now - swept <= conf.sweep_is_late_after():
        yield f"came {max(now - swept, datetime.timedelta(0)).total_seconds():.0f} s ago: beat runs"
        return
    live = sum(count for *_, count in _live())
    yield doctor.error(
        "sagas.D009",
        what="Nobody ever swept."
        if swept is None
        else f"Nobody has swept since {swept:%Y-%m-%d %H:%M:%S} UTC.",
        effect=f"What is lost, late or due stands still: retries, timers, deadlines ({live} sagas are live).",
        change=f"Run beat, once: {_celery()} beat; and a worker on {conf.SWEEP_QUEUE}:"
        f" {_worker(conf.SWEEP_QUEUE)}",
    )


# --- The broker and the workers -----------------------------------------------------------------------


@doctor.examination("Broker and workers", proves="broker")
def broker_and_workers() -> Iterator[doctor.Said]:
    """Whether the broker answers, who listens on which queue, and what these workers are."""
    if not conf.uses_celery():
        yield f"another transport carries the messages: {conf.transport()}"
        return
    try:
        with workers.connected() as link:
            names = set(workers.queues())
            rows = _rows()
            try:
                found = workers.ask(link)
                lying = workers.waiting(link, rows.names | names)
            except link.channel_errors as error:
                yield _refusing(error)
                return
            except link.connection_errors as error:
                raise workers.BrokerAway(str(error)) from error
    except workers.BrokerAway as away:
        raise doctor.Away(_no_broker(away)) from away
    yield "the broker answers"
    yield from _unheard(found, names, rows.heard)
    yield from _stuck(found, rows.silent)
    yield from _of_each(found)
    for queue, count in lying.items():
        if queue not in names:
            yield doctor.warning(
                "sagas.D015",
                what=f"Messages wait in the queue {queue} ({count}), which no declared step and no task"
                " names.",
                effect="Nobody takes them. Where they are a saga's, the sweep sends it again to the queue"
                " that it has now; other tasks in it are not done.",
                change=f"Have it emptied by a worker of the version that filled it ({_worker(queue)}), or"
                " delete it.",
            )
    if found:
        yield f"workers that answer ({len(found)}): {_some([worker.name for worker in found])}"


def _no_broker(away: workers.BrokerAway) -> doctor.Finding:
    return doctor.error(
        "sagas.D010",
        what=f"The broker does not answer: {doctor.first_line(away)}",
        effect="Sagas are begun and written down, and none goes on until it is back.",
        change="Start it, or correct its address, CELERY_BROKER_URL in the settings.",
    )


def _refusing(error: Exception) -> doctor.Finding:
    return doctor.error(
        "sagas.D016",
        what=f"The broker answers, and refuses what is asked of it: {doctor.first_line(error)}",
        effect="No worker can be asked, and messages may be refused, too: sagas are begun, and none goes on.",
        change="CELERY_BROKER_URL in the settings, to a server that takes messages, and an account that may"
        " send them.",
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Rows:
    """What the database knows of queues."""

    names: set[str] = dataclasses.field(default_factory=set)
    heard: dict[str, str] = dataclasses.field(default_factory=dict)
    """Who took of those of which one took lately."""

    silent: dict[str, datetime.timedelta] = dataclasses.field(default_factory=dict)
    """For how long nobody has taken of those in which a probe waits for somebody."""


def _rows() -> _Rows:
    try:
        now, rows = models.database_now(), [*models.Queue.objects.order_by("name")]
    except Error:
        return _Rows()  # Of which another examination tells.
    silences = {row.name: row.silence(now) for row in rows}
    return _Rows(
        names=set(silences),
        heard={
            row.name: row.worker for row in rows
            if row.heard_at is not None and now - row.heard_at <= conf.SILENT_AFTER
        },
        silent={name: length for name, length in silences.items() if length and length > conf.SILENT_AFTER},
    )  # fmt: skip


def _stuck(found: list[workers.Worker], silent: dict[str, datetime.timedelta]) -> Iterator[doctor.Finding]:
    """Queues at which a worker listens, and through which nothing comes."""
    for queue, length in silent.items():
        if at := [worker.name for worker in found if queue in worker.queues]:
            yield doctor.error(
                "sagas.D017",
                what=f"A message has waited in the queue {queue} for {length.total_seconds():.0f} s, and"
                f" nobody took any meanwhile, though {_some(at)} listens.",
                effect="Sagas that come there wait.",
                change="Look at the broker: a quorum queue gives nothing out while a majority of its nodes is"
                " away. Else the worker hangs: restart it.",
            )


def _unheard(found: list[workers.Worker], names: set[str], heard: dict[str, str]) -> Iterator[doctor.Finding]:
    served = {queue for worker in found for queue in worker.queues}
    answered = {worker.name for worker in found}
    silent = [
        queue for queue in sorted(names - served)
        # One that took of it lately and did not answer is there, and has much to do.
        if queue not in heard or heard[queue] in answered
    ]  # fmt: skip
    if not found and len(silent) > 1:
        yield doctor.error(
            "sagas.D011",
            what="No worker answers: nobody listens on any queue.",
            effect="Sagas are begun and written down, and none goes on.",
            change=_worker(",".join(silent)),
        )
        return
    at = collections.defaultdict[str, set[str]](set)
    for saga in registry.everything():
        for step in saga.all_steps:
            if step.has_worker:
                at[step.queue].add(f"{saga.name} at {step.name}")
    for queue in silent:
        waits = f"Sagas that come there wait: {_some(sorted(at[queue]))}." if at[queue] else _WAITS.get(queue)
        yield doctor.error(
            "sagas.D011",
            what=f"No worker listens on the queue {queue}.",
            effect=waits or "What is sent there waits.",
            change=_worker(queue),
        )


_WAITS = {
    conf.SWEEP_QUEUE: "What is lost, late or due stands still: retries, timers, deadlines.",
    conf.ENGINE_QUEUE: "Sagas whose step failed turn back only when the sweep finds them.",
    conf.ARCHIVE_QUEUE: "What has ended stays in the live tables, which grow.",
    conf.BULK_QUEUE: "Operators' bulk runs stand still.",
}


def _of_each(found: list[workers.Worker]) -> Iterator[doctor.Finding]:
    mine, live = workers.declared(), {(name, version) for name, version, _ in _live_or_none()}
    own = database.clock_skew() if connection.connection is not None else datetime.timedelta(0)
    for worker in found:
        if not worker.understood:
            yield doctor.warning(
                "sagas.D014",
                what=f"{worker.name} runs an engine that cannot say which sagas it knows.",
                effect="Sagas of a newer version than its own are put off by it.",
                change="Deploy this version there, and restart it.",
            )
            continue
        if abs(worker.ahead + own) > CLOCKS_DIFFER:
            yield _clock(worker.name, worker.ahead + own)
        if worker.prefetch == 0 or worker.prefetch > worker.children:
            yield doctor.warning(
                "sagas.D012",
                what=f"{worker.name} takes {worker.prefetch or 'any number of'} messages at a time, and"
                " works on"
                f" {worker.children}.",
                effect=checks.HOARDS,
                change="worker_prefetch_multiplier = 1 in the settings of the Celery application; restart"
                " it.",
            )
        if other := {
            one for one in mine.keys() | worker.declared.keys() if mine.get(one) != worker.declared.get(one)
        }:
            halted = other & live - worker.declared.keys()
            yield (doctor.error if halted else doctor.warning)(
                "sagas.D014",
                what=f"{worker.name} runs other declarations than this code: "
                f"{_some([f'{name} {version}' for name, version in sorted(other)])}.",
                effect="Live sagas need them, and it cannot carry these on." if halted
                else "While a deployment is under way that is as it should be; after it a worker was"
                " forgotten.",
                change="Deploy this version there, and restart it: workers first, then the web.",
            )  # fmt: skip


def _live_or_none() -> list[tuple[str, int, int]]:
    try:
        return _live()
    except Error:
        return []  # Of which another examination tells.


def _celery() -> str:
    return f"celery --app={conf.celery_path()}"


def _worker(queue: str) -> str:
    return f"{_celery()} worker --queues={queue}"


def _some(names: list[str], most: int = 5) -> str:
    """The first of them, and how many more there are."""
    more = [f"and {len(names) - most} more"] if len(names) > most else []
    return ", ".join([*names[:most], *more])
