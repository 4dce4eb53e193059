"""On RabbitMQ every queue is a quorum queue, and what such a queue gives up the rows know."""

import contextlib
import json
import logging
import os
import signal

import amqp
import pytest
from celery import beat
from django.db import connection, transaction
from kombu import pools

from saga_project import broker, celery, examinations, queues
from saga_project.local import rabbitmq, servers
from sagas import celery as sagas_celery
from sagas import doctor, haste, models, workers
from sagas.engine import pacing, transport
from tests.acceptance import processes
from tests.acceptance.test_flower import flower
from tests.sagas import harness, rules
from tests.sagas.conftest import rows, transactional_db  # noqa: F401 - fixtures
from tests.sagas.sample_app import saga as toys
from tests.support import certificates, locks, waiting

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300), pytest.mark.usefixtures("rows")]

DONE_ONCE = (1, 0)


ELSEWHERE = "127.0.0.2"
"""Leads to this machine too, and is not in the certificate."""


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    """A certificate for 127.0.0.1 and no other."""
    return certificates.make(tmp_path_factory.mktemp("tls"), "127.0.0.1")


@pytest.fixture(scope="module")
def tls_ports():
    return {"127.0.0.1": servers.free_port(), ELSEWHERE: servers.free_port()}


@pytest.fixture(scope="module")
def node(tmp_path_factory, tls, tls_ports):
    """One node of RabbitMQ for the tests of this module."""
    try:
        rabbitmq.check_binaries()
    except servers.NoBinaries as missing:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(missing))
    home = tmp_path_factory.mktemp("rabbitmq")
    listeners = {
        f"listeners.ssl.{number}": f"{address}:{port}"
        for number, (address, port) in enumerate(tls_ports.items(), 1)
    }
    files = {"cacertfile": tls.authority, "certfile": tls.certificate, "keyfile": tls.key}
    options = {f"ssl_options.{name}": path for name, path in files.items()}
    cluster = rabbitmq.Cluster(home, settings=listeners | options)
    with (home / "log").open("wb") as log:
        try:
            cluster.start(log)
            yield cluster.nodes[0]
        finally:
            cluster.stop()
            cluster.discard()


@pytest.fixture
def url(node):
    """The node's address, with no queue on it; this process publishes to it."""
    with node.connect() as session:
        for queue in (*queues.everything(), "nobodys"):
            session.channel().queue_delete(queue)
    with publishing_to(node.url):
        yield node.url


@pytest.fixture
def by_tls(node, tls_ports):
    """The node's address by TLS, at the one address or the other."""
    return lambda address: node.url.replace("amqp:", "amqps:").replace(
        f"127.0.0.1:{node.port}", f"{address}:{tls_ports[address]}"
    )


@contextlib.contextmanager
def publishing_to(url, **more):
    wanted = settings_of(broker.parse(url, **more))
    before = {
        name: celery.app.conf[name] for name in (*wanted, "broker_use_ssl", "task_publish_retry_policy")
    }
    try:
        configure(wanted)
        yield
    finally:
        configure(before)


def settings_of(known):
    """What the project's application has of a broker: the engine's settings, and its own."""
    own = known.celery_settings()
    wanted = sagas_celery.options(own["broker_url"], quorum_queues=True)
    return (
        wanted
        | own
        | {"broker_transport_options": wanted["broker_transport_options"] | own["broker_transport_options"]}
    )


def configure(settings):
    # All that is made of the settings is made anew, the pools too.
    pools.reset()
    celery.app._pool = None
    for name in ("amqp", "control", "events"):
        celery.app.__dict__.pop(name, None)
    celery.app.conf.update(settings)
    # How full the queues of another broker were says nothing of this one's: else what begins first may stand
    # in a line that no sweep serves here.
    pacing._rooms.clear()


def test_orders_run_by_tls_too_and_no_queue_that_stays_is_a_classic_one(url, node, tls, by_tls, tmp_path):
    assert transport.current().backlog("toys", "world") == 0, "there are no such queues yet: no error"
    sagas = [harness.begin(toys.MIXED) for _ in range(5)]
    # A queue that is missing takes nothing from the count of the others.
    # It counts a message a moment after it has confirmed it.
    waiting.until(lambda: transport.current().backlog("toys", "world", "nobodys") == 5, "they are counted")

    secure = {"BROKER_URL": by_tls("127.0.0.1"), "BROKER_CA_FILE": str(tls.authority)}
    with processes.worker(tmp_path, **secure), flower(BROKER_URL=url):
        all_ended(*sagas)
        answers = waiting.until(lambda: celery.app.control.ping(timeout=1), "the worker answers")
        for name in celery.app.conf.beat_schedule:
            tick(name)
        found = node.queues()

    assert len(answers) == 1
    stay = [queue for queue in found if not queue["exclusive"]]
    assert {queue["type"] for queue in stay} == {"quorum"}
    assert all(queue["durable"] for queue in stay)
    assert {"toys", "world", "sagas", "sagas-sweep", "webhooks"} <= {queue["name"] for queue in stay}
    assert not [queue for queue in found if "delayed" in queue["name"]]
    assert len(found) - len(stay) >= 2, "remote control and events have theirs, for as long as they last"


def test_by_tls_who_answers_must_be_who_is_meant_and_be_vouched_for(by_tls, tls):
    here, elsewhere = by_tls("127.0.0.1"), by_tls(ELSEWHERE)
    for url, ca_file, says in [
        (elsewhere, tls.authority, f"IP address mismatch, certificate is not valid for '{ELSEWHERE}'"),
        (here, "", "self-signed certificate in certificate chain|unable to get local issuer"),
    ]:
        with (
            publishing_to(url, ca_file=str(ca_file)),
            pytest.raises(workers.BrokerAway, match=says),
            workers.connected(),
        ):
            pass

    # Each node is looked for under its own name, the second one too.
    with publishing_to(f"{elsewhere};{here}", ca_file=str(tls.authority)), workers.connected() as link:
        assert link.connection.server_properties["product"] == "RabbitMQ"
        assert link.connection.sock.cipher()


def tick(name, scheduler=None):
    scheduler = scheduler or beat.Scheduler(celery.app, lazy=True)
    entry = scheduler.Entry(name=name, app=celery.app, **celery.app.conf.beat_schedule[name])
    return scheduler.apply_async(entry, advance=False, producer=scheduler.producer)


@pytest.mark.usefixtures("url")
def test_beat_sends_on_although_its_connection_was_cut(node):
    scheduler = beat.Scheduler(celery.app, lazy=True)
    assert tick("sagas-sweep", scheduler) is not None
    assert tick("sagas-sweep", scheduler) is None, "one waits"
    node.control("close_all_connections", "a trial")
    with node.connect() as session:
        assert session.channel().queue_purge("sagas-sweep") == 1

    assert tick("sagas-sweep", scheduler) is not None


def all_ended(*sagas):
    pks = [saga.pk for saga in sagas]
    left = models.SagaInstance.objects.filter(pk__in=pks, finished_at=None)
    waiting.until(lambda: not left.exists(), "all have ended")
    for saga in sagas:
        saga.refresh_from_db()
        assert saga.state == "completed"
        rules.check(saga)


def test_a_message_that_is_dropped_after_too_many_deliveries_is_met_by_the_sweep(url, node, tmp_path):
    # RabbitMQ 4 has a limit of 20 where nobody says another; 3.10 has none.
    node.control("set_policy", "few", ".*", json.dumps({"delivery-limit": 0}), "--apply-to", "queues")
    saga = harness.begin(toys.LOCAL)
    first = saga.epoch
    # Whoever takes it dies before the row is asked: it waits for the row, which is held here.
    with holding(saga), processes.worker(tmp_path, children=1, beat=False, BROKER_URL=url) as worker:
        waiting.until(locks.waiters, "the message is in a worker's hand")
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()
        end_who_waits_for_us()
    waiting.until(lambda: not in_queue(node, "toys"), "RabbitMQ has dropped it")

    with processes.worker(tmp_path, BROKER_URL=url):
        all_ended(saga)

    assert saga.epoch > first, "it was sent again"
    assert set(harness.books(saga).values()) == {DONE_ONCE}


@contextlib.contextmanager
def holding(saga):
    with transaction.atomic():
        models.SagaInstance.objects.select_for_update().get(pk=saga.pk)
        yield


def end_who_waits_for_us():
    """The server does not see that the client is dead while it waits for a lock."""

    def none_is_left():
        waits = locks.waiters()
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(pid) FROM unnest(%s::int[]) AS pid", [waits])
        return not waits

    waiting.until(none_is_left, "nobody waits")


def in_queue(node, name):
    """How many messages it holds, those under way too."""
    (queue,) = [queue for queue in node.queues() if queue["name"] == name]
    return queue["messages"]


def test_a_queue_of_another_type_is_found_and_ends_the_worker_which_says_what_to_do(
    url, node, settings, tmp_path, caplog, monkeypatch
):
    with node.connect() as session:
        session.channel().queue_declare("toys", durable=True, auto_delete=False)

    settings.BROKER = broker.parse(url)
    models.Queue.objects.create(name="nobodys")
    celery.app.send_task("orders.clear-up", queue="nobodys")
    found = {finding.id: finding for _, finding in doctor.examine().findings}
    assert found["project.D012"].what == "The queue toys is there, and is not a quorum queue."
    assert "rabbitmqctl delete_queue toys" in found["project.D012"].change
    assert found["sagas.D015"].what.startswith("Messages wait in the queue nobodys (1)")
    assert found["sagas.D011"].what == "No worker answers: nobody listens on any queue."
    with node.connect() as session, pytest.raises(amqp.NotFound):
        # Who only looks makes no queue.
        session.channel().queue_declare("invoicing", passive=True)

    with processes.worker(tmp_path, beat=False, BROKER_URL=url) as worker:
        assert worker.wait(60) != 0
    log = (tmp_path / "worker.log").read_text()
    assert "The queue 'toys' is there, and is not a quorum queue" in log
    assert "rabbitmqctl delete_queue toys" in log
    assert "Traceback" not in log

    # A web process tries each time here, and says so once, however many order.
    monkeypatch.setattr(haste, "LEFT_ALONE_S", 0.0)
    caplog.clear()
    with transport.use(haste.Hasty(transport.current(), threads=1)):
        for _ in range(3):
            harness.begin(toys.LOCAL)
    (told,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "rabbitmqctl delete_queue toys" in told.getMessage()
    assert told.exc_info is None

    with node.connect() as session:
        session.channel().queue_delete("toys")
        session.channel().queue_declare("toys", exclusive=True)
        (held,) = [said for said in examinations.kind() if not isinstance(said, str)]
        assert (held.id, "RESOURCE_LOCKED" in held.what) == ("project.D013", True)
    assert [said for said in examinations.kind() if not isinstance(said, str)] == []

    saga = harness.begin(toys.LOCAL)
    assert saga.state == "running", "who begins a saga is not kept by it"
