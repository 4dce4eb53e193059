"""`make brokers`: brokers that fail over, and a soak, with what each costs. Not part of `make test`.

A load of toy sagas, begun at a steady pace by a process that publishes as the web does; two workers; and what
happens to the broker meanwhile. All figures are taken from the rows.
"""

import contextlib
import datetime
import itertools
import json
import os
import re
import signal
import statistics
import threading
import time

import pytest
import redis
from django.db import connections

from saga_project import broker, celery
from saga_project.local import rabbitmq, sentinel, servers
from sagas import celery as sagas_celery
from sagas import haste, models
from sagas.engine import transport
from tests.acceptance import processes, test_rabbitmq
from tests.sagas import harness, rules
from tests.sagas.conftest import rows, transactional_db  # noqa: F401 - fixtures
from tests.sagas.sample_app import saga as toys
from tests.support import waiting

pytestmark = [pytest.mark.integration, pytest.mark.timeout(3600), pytest.mark.usefixtures("rows")]

EVERY_S = float(os.environ.get("EVERY_S", "0.5"))
"""A saga begins so often."""

MINUTES = float(os.environ.get("MINUTES", "3"))
"""How long the soak takes for each kind of worker."""


class Load:
    """Sagas that begin one after another, in a thread of their own."""

    def __init__(self, script="", saga=toys.MIXED, every_s=EVERY_S):
        self.script, self.saga, self.every_s = script, saga, every_s
        self.begun = []
        self.took = []
        self.faults = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()

    def _run(self):
        try:
            while not self._over.wait(self.every_s):
                began = time.monotonic()
                self.begun.append(harness.begin(self.saga, self.script))
                self.took.append((models.database_now(), time.monotonic() - began))
        finally:
            connections.close_all()

    def note(self, what):
        """Something happens to the broker now."""
        self.faults.append((what, models.database_now()))
        print(f"{datetime.datetime.now():%H:%M:%S} {what}", flush=True)

    def flows(self):
        """Wait until a saga that began after the last fault has ended by itself, and a little longer."""
        since = self.faults[-1][1]
        waiting.until(
            lambda: models.SagaInstance.objects.filter(
                created_at__gt=since, finished_at__isnull=False
            ).first(),
            "orders flow again",
            seconds=180,
        )
        time.sleep(5)

    def report(self):
        """Wait until all have ended, check each, and print a line for each fault."""
        left = models.SagaInstance.objects.filter(finished_at=None)
        waiting.until(lambda: not left.exists(), "all have ended", seconds=300)
        print(f"\n{len(self.begun)} sagas, one every {EVERY_S:g} s")
        print("| fault | seconds until a saga begun after it ended | longest way of a saga | longest begin |")
        print("|---|--:|--:|--:|")
        ways = list(models.SagaInstance.objects.values_list("created_at", "finished_at"))
        bounds = [*(at for _, at in self.faults), models.database_now()]
        for (what, at), until in zip(self.faults, bounds[1:], strict=True):
            within = [(a, z) for a, z in ways if at <= a < until]
            flowed = min(((z - at).total_seconds() for _, z in within), default=float("nan"))
            before = [(a, z) for a, z in ways if a < until and z >= at]
            longest = max(((z - a).total_seconds() for a, z in before), default=float("nan"))
            kept = max((s for a, s in self.took if at <= a <= until), default=float("nan"))
            print(f"| {what} | {flowed:.1f} | {longest:.1f} | {kept:.2f} |", flush=True)
        usual = [(z - a).total_seconds() for a, z in ways if not self.faults or z < self.faults[0][1]]
        if usual:
            print(f"before the first fault a saga took {statistics.median(usual):.2f} s (median)")
        for saga in self.begun:
            saga.refresh_from_db()
            assert saga.state == "completed"
            rules.check(saga)
            assert set(harness.books(saga).values()) == {(1, 0)}, "each step once"
        print(f"all {len(self.begun)} completed, each step once", flush=True)


@contextlib.contextmanager
def publishing_to(url, **more):
    """Publish as the web does."""
    with test_rabbitmq.publishing_to(url, **more):
        in_haste(broker.parse(url, **more))
        with transport.use(haste.Hasty(transport.current(), threads=4)):
            yield


def in_haste(known):
    options = test_rabbitmq.settings_of(known)["broker_transport_options"]
    celery.app.conf.update(sagas_celery.hasty(known.celery_settings()["broker_url"], options))


@contextlib.contextmanager
def three_nodes(place, *, workers):
    """Three nodes of RabbitMQ, so many workers, the first with beat in it, and where the nodes log."""
    cluster = rabbitmq.Cluster(place / "rabbitmq", hosts=[rabbitmq.Host()] * 3, settings={"net_ticktime": 8})
    with contextlib.ExitStack() as undo, (place / "log").open("wb") as log:
        undo.callback(cluster.stop)
        cluster.start(log)
        undo.enter_context(publishing_to(cluster.url))
        for number in range(workers):
            undo.enter_context(processes.worker(place, beat=not number, BROKER_URL=cluster.url))
        yield cluster, log


def test_three_nodes_of_rabbitmq(tmp_path):
    with three_nodes(tmp_path, workers=2) as (cluster, log):
        with Load() as load:
            waiting.until(lambda: models.SagaInstance.objects.filter(state="completed").count() > 5)
            for number, node in enumerate(cluster.nodes, 1):
                load.note(f"node {number} of 3 is killed")
                node.kill()
                load.flows()
                node.start(log)
                load.note(f"node {number} is back")
                load.flows()
            load.note("nodes 1 and 2 are killed: no majority, for 10 s")
            for node in cluster.nodes[:2]:
                node.kill()
            time.sleep(10)
            load.note("they start again")
            for node in cluster.nodes[:2]:
                node.launch(log)
            for node in cluster.nodes[:2]:
                node.wait(log)
            load.flows()
        load.report()
        queues = cluster.nodes[0].queues()

    stay = [queue for queue in queues if not queue["exclusive"]]
    assert {queue["type"] for queue in stay} == {"quorum"}
    assert {len(queue["members"]) for queue in stay} == {3}
    print(f"{len(stay)} queues, each a quorum queue on three nodes")


def test_a_node_of_rabbitmq_that_hangs(tmp_path):
    """All that works is connected to it: one worker, with beat."""
    with three_nodes(tmp_path, workers=1) as (cluster, _):
        with Load() as load:
            waiting.until(lambda: models.SagaInstance.objects.filter(state="completed").count() > 5)
            port = re.findall(r"Connected to amqp://.*:(\d+)/", (tmp_path / "worker.log").read_text())[-1]
            (node,) = [node for node in cluster.nodes if node.port == int(port)]
            load.note("the worker's node hangs (SIGSTOP)")
            os.kill(node.process.pid, signal.SIGSTOP)
            try:
                load.flows()
            finally:
                os.kill(node.process.pid, signal.SIGCONT)
            load.note("it goes on")
            load.flows()
        load.report()


def test_valkey_with_sentinels(tmp_path):
    guarded = sentinel.Guarded(tmp_path / "valkey")
    env = {"BROKER_URL": guarded.url, "BROKER_SENTINEL_MASTER": guarded.MASTER}
    with contextlib.ExitStack() as undo, (tmp_path / "log").open("wb") as log:
        undo.callback(guarded.stop)
        guarded.start(log)
        undo.enter_context(publishing_to(guarded.url, master=guarded.MASTER))
        for beat in (True, False):
            undo.enter_context(processes.worker(tmp_path, beat=beat, **env))
        with Load() as load:
            waiting.until(lambda: models.SagaInstance.objects.filter(state="completed").count() > 5)
            for _ in range(3):
                load.note("the server is killed")
                victim = guarded.kill_master()
                load.flows()
                victim.launch(log)
                load.note("it is back, as a replica")
                load.flows()
        load.report()


CHILDREN = 4
FAULT_EVERY_S = 12
AS_CELERY_HAS_IT = ("worker.enable_prefetch_count_reduction=1",)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [("valkey", ()), ("rabbitmq", ()), ("rabbitmq", AS_CELERY_HAS_IT)],
    ids=["valkey", "rabbitmq", "rabbitmq as Celery has it"],
)
def test_soak(tmp_path, kind, settings):
    """A worker of four whose broker is cut off, or killed, again and again: what does it prefetch?"""
    with contextlib.ExitStack() as undo, (tmp_path / "log").open("wb") as log:
        trial = (OnRabbitMQ if kind == "rabbitmq" else OnValkey)(tmp_path, log)
        undo.callback(trial.stop)
        trial.start()
        undo.enter_context(publishing_to(trial.url))
        rest = processes.toys(without=["toys"])
        undo.enter_context(processes.worker(tmp_path, queues=rest, BROKER_URL=trial.url))
        undo.enter_context(
            processes.worker(
                tmp_path,
                queues=["toys"],
                children=CHILDREN,
                beat=False,
                settings=settings,
                BROKER_URL=trial.url,
            )
        )
        seen, faults, until = [], 0, time.monotonic() + MINUTES * 60
        with Load("stay a", toys.LOCAL, every_s=0.15) as load:
            while time.monotonic() < until:
                time.sleep(FAULT_EVERY_S * 2 / 3)
                faults += 1
                trial.kill() if faults % 4 == 0 else trial.cut_off()
                time.sleep(FAULT_EVERY_S / 3)
                seen.append(trial.prefetch())
                print(f"{datetime.datetime.now():%H:%M:%S} fault {faults}: prefetches {seen[-1]}", flush=True)
        ended(load)
        trial.settle()
        seen.append(trial.prefetch())
        busiest = strength()
        print(
            f"| {kind} {' '.join(settings)} | {faults} | {MINUTES:g} | {len(load.begun)} | {seen[0]} |"
            f" {min(seen)} to {max(seen)} | {seen[-1]} | {busiest} of {CHILDREN} |",
            flush=True,
        )
    assert max(seen) <= CHILDREN, "none is hoarded"


def ended(load):
    left = models.SagaInstance.objects.filter(finished_at=None)
    waiting.until(lambda: not left.exists(), "all have ended", seconds=300)
    for saga in load.begun:
        saga.refresh_from_db()
        assert saga.state == "completed"


def strength():
    """How many steps the worker carried out at once, at most, while many waited; each sleeps for 0.3 s."""
    sagas = [harness.begin(toys.ONE, "stay a") for _ in range(60)]
    left = models.SagaInstance.objects.filter(finished_at=None)
    waiting.until(lambda: not left.exists(), "all have ended", seconds=120)
    moments = []
    for step in models.StepInstance.objects.filter(saga__in=sagas):
        moments += [(step.started_at, 1), (step.finished_at, -1)]
    return max(itertools.accumulate(change for _, change in sorted(moments)))


class OnValkey:
    def __init__(self, place, log):
        self.server, self.log = servers.Valkey(place / "valkey"), log

    def start(self):
        self.server.start(self.log)
        self.url = self.server.url

    def stop(self):
        self.server.stop()

    def cut_off(self):
        with redis.Redis.from_url(self.server.url) as client:
            client.client_kill_filter(_type="normal", skipme=True)
            client.client_kill_filter(_type="pubsub")

    def kill(self):
        self.server.process.kill()
        self.server.process.wait()
        time.sleep(1)
        self.server.start(self.log)

    def prefetch(self):
        """As the worker says: kombu takes no more messages than that."""
        return asked()

    def settle(self):
        waiting.until(lambda: asked() is not None, "the worker answers")


class OnRabbitMQ:
    def __init__(self, place, log):
        self.cluster, self.log = rabbitmq.Cluster(place / "rabbitmq"), log
        (self.node,) = self.cluster.nodes

    def start(self):
        self.cluster.start(self.log)
        self.url = self.cluster.url

    def stop(self):
        self.cluster.stop()

    def cut_off(self):
        self.node.control("close_all_connections", "a trial")

    def kill(self):
        self.node.kill()
        time.sleep(1)
        self.node.start(self.log)

    def prefetch(self):
        """As the broker says, which decides."""

        def of_toys():
            told = json.loads(
                self.node.control("list_consumers", "queue_name", "prefetch_count", "--formatter=json")
            )
            return [row["prefetch_count"] for row in told if row["queue_name"] == "toys"]

        (count,) = waiting.until(of_toys, "the worker listens again", seconds=90)
        return count

    def settle(self):
        self.prefetch()


def asked():
    """What the worker of toys says of itself."""

    def told():
        with contextlib.suppress(Exception):  # The broker may have gone once more.
            stats = celery.app.control.inspect(timeout=2).stats() or {}
            found = [
                one["prefetch_count"] for one in stats.values() if one["pool"]["max-concurrency"] == CHILDREN
            ]
            return [count for count in found if isinstance(count, int)]
        return None

    (count,) = waiting.until(told, "the worker answers", seconds=90)
    return count
