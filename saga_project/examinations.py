"""What `manage.py doctor` examines of this project: the way to PostgreSQL, standbys, the broker's kind."""

import contextlib
import socket
from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.db import Error

from saga_project import broker, checks, postgres, queues
from sagas import database, doctor, models, workers

CONNECT_S = 2.0
"""How long a node of the broker may take to answer."""

LAG_S = 10.0
"""A standby that is behind by so much would lose so much if nobody waits for it, or holds up who does."""

OLDEST_RABBITMQ = (3, 10)
"""What the tests run on; before it quorum queues have no message TTL and no delivery limit by policy."""

doctor.effects |= {
    "project.W001": "Steps that wait for a lock count as too slow, and cost an attempt.",
    "project.W002": "A step that waits for a lock is interrupted, and costs its order an attempt.",
    "project.W003": "PostgreSQL ends the transaction of a step that computes for long: the step begins anew.",
    "project.W004": "A client that follows its order hears of nothing until the next heartbeat.",
    "project.W005": "A host that vanishes in a transaction keeps its locks: orders wait for it for hours.",
    "project.W006": "No order is taken and none goes on, where a process goes by it.",
    "project.W007": "Every order costs more of the database's time.",
    "project.E001": "No process starts so, and orders wait; one that did would take its own errors for the"
    " step's.",
    "project.E002": "Clients that follow an order hear of nothing, and a migration may be cut short.",
    "security.W009": "Who guesses it signs in as an operator, and moves money.",
    "security.W018": "Every error shows settings, and rows of customers, to whoever causes it.",
    "security.W020": "Every request is refused.",
}

doctor.lines |= {
    "security.W009": "SECRET_KEY=$(python -c 'import secrets; print(secrets.token_urlsafe(50))')",
    "security.W018": "DEBUG=0, or leave it out.",
    "security.W020": "ALLOWED_HOSTS=shop.example.com",
}

# All four come from one line, PLAIN_HTTP, of which project.W016 tells.
doctor.told_better |= {"security.W004", "security.W008", "security.W012", "security.W016"}


@doctor.examination("The way to PostgreSQL")
def way() -> Iterator[doctor.Said]:
    """Whether each URL leads where it is taken to lead: a pooler in between, prepared for or not."""
    found = [*doctor.of_checks(checks.of_ways())]
    yield from found
    if not found:
        pooled = (
            "transactions share connections" if settings.DATABASE_TRANSACTION_POOLING else "sessions are kept"
        )
        yield f"DATABASE_URL leads where the settings say: {pooled}"


@doctor.examination("Standbys", needs={"database"})
def standbys() -> Iterator[doctor.Said]:
    """Who follows the primary, and whether a commit waits for them."""
    found = postgres.durability()
    # Who may not see them has empty words for all that they are.
    seen = all(one.state for one in found.followers)
    if not seen:
        yield doctor.warning(
            "project.D001",
            what="This role may not see how the standbys are.",
            effect="Nobody is told when a failover would lose orders.",
            change="GRANT pg_monitor TO the role in DATABASE_URL;",
        )
        return
    wanted = found.synchronous_standby_names
    several = "," in str(
        postgres.parse(settings.DATABASE_DIRECT_URL or settings.DATABASE_URL).get("host", "")
    )
    if found.waits_for_nobody:
        yield doctor.error(
            "project.D002",
            what=f"Commits wait for a synchronous standby ({wanted}), and none is there.",
            effect="Nothing is committed: placing an order hangs, and so does every step.",
            change="Start the standby; or, knowing that a failover then loses orders:"
            " ALTER SYSTEM SET synchronous_standby_names = ''; SELECT pg_reload_conf();",
        )
    elif wanted and found.synchronous_commit in ("off", "local"):
        yield doctor.error(
            "project.D003",
            what=f"There is a synchronous standby ({wanted}), and synchronous_commit is"
            f" {found.synchronous_commit}.",
            effect="A failover loses the orders that were confirmed last, and what was paid for them.",
            change=database.put_right("synchronous_commit", "on", found.synchronous_commit_by),
        )
    elif found.followers and not wanted:
        yield doctor.warning(
            "project.D004",
            what="A standby follows, and no commit waits for it.",
            effect="A failover loses the orders that were confirmed last, and what was paid for them.",
            change="ALTER SYSTEM SET synchronous_standby_names = 'FIRST 1 (NAME)'; SELECT"
            " pg_reload_conf(); with the"
            " standby's application_name.",
        )
    if several and not found.followers and not found.waits_for_nobody:
        yield doctor.warning(
            "project.D005",
            what="DATABASE_URL names several hosts, and no standby follows this one.",
            effect="If it fails nobody takes over, and no order is taken.",
            change="Start the standby, or have it follow: primary_conninfo in its settings.",
        )
    for one in found.followers:
        lag = one.replay_lag.total_seconds() if one.replay_lag is not None else 0.0
        if one.state != "streaming" or lag > LAG_S:
            yield doctor.warning(
                "project.D006",
                what=f"The standby {one.name or 'without a name'} is behind: {one.state}, {lag:.0f} s.",
                effect="After a failover it takes as long until orders go on; and what reads from it is as"
                " old.",
                change="Look at its log, its disk and the network in between.",
            )
    if not found.followers and not wanted:
        yield "none, and nobody waits for one: what is lost with this host is lost"
    elif found.followers:
        yield ", ".join(f"{one.name} {one.state} ({one.sync_state})" for one in found.followers)


@doctor.examination("Replica", needs={"database"})
def replica() -> Iterator[doctor.Said]:
    """Whether what people read from is there, a standby, and fresh."""
    if not settings.DATABASE_REPLICA_URL:
        return
    effect = "The console's lists and the metrics are read from the primary, beside the orders."
    try:
        found = postgres.replica()
        lag = found.lag(models.database_now())
    except Error as error:
        yield doctor.warning(
            "project.D007",
            what=f"The replica does not answer: {doctor.first_line(error)}",
            effect=effect,
            change="Start it, or correct DATABASE_REPLICA_URL.",
        )
        return
    if not found.is_standby:
        yield doctor.warning(
            "project.D008", what="DATABASE_REPLICA_URL does not lead to a standby.",
            effect=effect, change="Have it lead to one, or unset it.",
        )  # fmt: skip
    elif lag is None:
        yield "it has replayed nothing yet"
    elif lag > settings.DATABASE_REPLICA_MAX_LAG:
        yield doctor.warning(
            "project.D009",
            what=f"The replica is {lag.total_seconds():.0f} s behind,"
            f" and DATABASE_REPLICA_MAX_LAG is {settings.DATABASE_REPLICA_MAX_LAG.total_seconds():g} s.",
            effect=effect,
            change="Look at its log, its disk and the network in between; or raise DATABASE_REPLICA_MAX_LAG.",
        )
    else:
        yield f"{lag.total_seconds():.0f} s behind"


# --- The broker ---------------------------------------------------------------------------------------


@doctor.examination("Nodes of the broker")
def nodes() -> Iterator[doctor.Said]:
    """Whether something listens at each of its addresses."""
    hosts = settings.BROKER.hosts()
    away = [host for host in hosts if not _listens(host)]
    nobody = len(away) == len(hosts)
    for name, port in away:
        yield (doctor.error if nobody else doctor.warning)(
            "project.D010",
            what=f"{settings.BROKER.kind.value}: nobody answers at {name}:{port}.",
            effect=(
                "Orders are taken, and none goes on."
                if nobody
                else "Orders go on with the others; with one more gone there may be no majority."
            ),
            change=f"Start it, or correct BROKER_URL: {name}:{port}.",
        )
    if not away:
        yield f"{settings.BROKER.kind.value}: {len(hosts)} of {len(hosts)} addresses answer"


def _listens(host: tuple[str, int]) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(host, timeout=CONNECT_S):
        return True
    return False


@doctor.examination("Kind of the broker", needs={"broker"})
def kind() -> Iterator[doctor.Said]:
    """What only RabbitMQ, or only Valkey and Redis, can have wrong."""
    with workers.connected() as link:
        if settings.BROKER.kind is broker.Kind.RABBITMQ:
            yield from _rabbitmq(link)
        else:
            with link.default_channel.conn_or_acquire() as client:
                yield from _valkey(client)


def _rabbitmq(link: Any) -> Iterator[doctor.Said]:
    told = link.connection.server_properties
    version = str(told.get("version", ""))
    yield from age(version)
    counts = {"quorum": 0, "missing": 0}
    for name in queues.everything():
        answer = _queue(link, name)
        if isinstance(answer, str):
            counts[answer] += 1
        else:
            yield answer
    yield f"RabbitMQ {version}, {counts['quorum']} quorum queues, {counts['missing']} not made yet"


def age(version: str) -> Iterator[doctor.Finding]:
    """Whether RabbitMQ is older than what this was tried on.

    Arguments:
        version: as the server says it: `3.10.8`.
    """
    if tuple(int(part) for part in version.split(".")[:2] if part.isdigit()) < OLDEST_RABBITMQ:
        yield doctor.warning(
            "project.D011",
            what=f"RabbitMQ is {version}, and 3.10 is the oldest that this was tried on.",
            effect="Messages of orders may be handed out late or not at all; the sweep sends them again.",
            change="Upgrade it.",
        )


def _queue(link: Any, name: str) -> doctor.Finding | str:
    """`quorum` or `missing`, or what is wrong with the queue. Nothing is made or changed."""
    queue = _declared(name)
    for passive in (True, False):
        # A channel for each: the broker closes the one on which it refuses something.
        with link.channel() as channel:
            try:
                queue.bind(channel).queue_declare(passive=passive)
            except link.channel_errors as error:
                code, text = getattr(error, "code", None), str(error)
                if code == 404 and passive and "no queue" in text:
                    return "missing"
                if code == 406:
                    return doctor.error(
                        "project.D012",
                        what=f"The queue {name} is there, and is not a quorum queue.",
                        effect="A worker that is to listen on it ends at its start, and orders wait there."
                        " Its"
                        " messages are lost with the node that has it.",
                        change=f"rabbitmqctl delete_queue {name}, with the workers stopped;"
                        " docs/operations.md, 'From classic to quorum queues'.",
                    )
                return doctor.error(
                    "project.D013",
                    what=f"The queue {name} cannot be used: {text}",
                    effect="Orders that come to it wait until the sweep can send them.",
                    change="Have whoever holds it for itself let it go, or start the node on which it lies.",
                )
    return "quorum"


def _declared(name: str) -> Any:
    """The queue as the project declares it."""
    from saga_project import celery

    return celery.app.amqp.queues[name]


def _valkey(client: Any) -> Iterator[doctor.Said]:
    told = client.info()
    policy = told.get("maxmemory_policy", "noeviction")
    try:
        broker.check_valkey(told)
    except broker.Unfit as unfit:
        yield doctor.error(
            "project.D014", what=str(unfit),
            effect="Workers and beat end at their start, and orders wait.",
            change="BROKER_URL=redis://, of one server; or sentinel://, or amqp://.",
        )  # fmt: skip
    if policy != "noeviction":
        yield doctor.warning(
            "project.D015",
            what=f"The broker's maxmemory-policy is {policy}.",
            effect="When its memory is full it throws queues away: orders stand still until the sweep"
            " sends them again.",
            change="maxmemory-policy noeviction in its configuration, or CONFIG SET maxmemory-policy"
            " noeviction",
        )
    if told.get("role") == "slave":
        yield doctor.error(
            "project.D016",
            what="The server at BROKER_URL is a replica, which takes no messages.",
            effect="No order goes on.",
            change="BROKER_URL to its primary, or to Sentinels (sentinel://), which know it.",
        )
    yield f"{told.get('valkey_version') or told.get('redis_version')}, {policy}"
