"""What BROKER_URL may say, and what Celery is told for it: no broker is asked."""

import os
import ssl
import subprocess
import sys

import pytest

from saga_project import broker
from saga_project.local import runfile
from sagas import celery

NODES = "amqp://saga:secret@a:5672/shop;amqp://saga:secret@b/shop;amqp://saga:secret@c:5673/shop"
SENTINELS = "sentinel://:secret@a:26379/0;sentinel://:secret@b"


@pytest.mark.parametrize(
    ("url", "kind", "hosts"),
    [
        ("redis://:secret@host:6380/2", broker.Kind.VALKEY, [("host", 6380)]),
        ("rediss://host", broker.Kind.VALKEY, [("host", 6379)]),
        ("redis://[::1]:6379/0", broker.Kind.VALKEY, [("::1", 6379)]),
        ("amqps://user:pass%2Fword@host//", broker.Kind.RABBITMQ, [("host", 5671)]),
        (NODES, broker.Kind.RABBITMQ, [("a", 5672), ("b", 5672), ("c", 5673)]),
        (SENTINELS, broker.Kind.SENTINEL, [("a", 26379), ("b", 26379)]),
    ],
)
def test_an_address_says_what_answers_there(url, kind, hosts):
    found = broker.parse(url, master="shop")

    assert (found.kind, found.hosts()) == (kind, hosts)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("host:6379", "address 1: it does not begin with a scheme"),
        ("redis://:secret@a;", "address 2: it does not begin with a scheme"),
        ("sqs://secret@host", "sqs:// is no broker that this project can use"),
        ("memory://", "memory:// is no broker"),
        ("valkey://:secret@host", "is spoken to with redis://"),
        ("valkeys://:secret@host", "is spoken to with rediss://"),
        ("redis://:secret@host:port/0", "its port is no number"),
        ("amqp://u:sec/ret@host:5672//", "its port is no number"),
        ("amqp://:secret@", "names no host"),
        ("amqp://:secret@a b//", "names no host"),
        ("redis://:secret@host/shop", "the number of a database"),
        ("redis://:secret@a/0;redis://:secret@b/0", "several servers of Valkey or Redis"),
        ("redis://:secret@a/0;amqp://:secret@b", "of different kinds (redis, amqp)"),
        ("amqp://:secret@a;amqps://:secret@b", "of different kinds (amqp, amqps)"),
        ("redis+cluster://:secret@a/0", "cannot be the broker"),
        ("rediss+cluster://:secret@a/0", "Use one server (redis://), Sentinel (sentinel://)"),
        ("sentinel://:secret@a", "set BROKER_SENTINEL_MASTER"),
    ],
)
def test_what_cannot_be_the_broker_is_refused_and_no_secret_is_repeated(url, says):
    with pytest.raises(broker.BadAddress) as refused:
        broker.parse(url)

    assert says in str(refused.value)
    assert "BROKER_URL" in str(refused.value)
    assert "sec" not in str(refused.value)


def test_on_rabbitmq_every_queue_is_replicated_and_every_message_confirmed():
    settings = celery.options(broker.parse(NODES).celery_settings()["broker_url"], quorum_queues=True)

    assert settings["task_default_queue_type"] == settings["task_create_missing_queue_type"] == "quorum"
    assert settings["control_queue_exclusive"]
    assert settings["event_queue_exclusive"]
    assert settings["broker_transport_options"]["confirm_publish"]
    assert not settings["worker_enable_prefetch_count_reduction"]


def test_each_process_begins_with_another_node_and_knows_them_all():
    nodes = broker.parse(NODES)
    first = [nodes.celery_settings(begin_with=number)["broker_url"] for number in range(4)]

    assert [url.split(";")[0].partition("@")[2][0] for url in first] == ["a", "b", "c", "a"]
    assert {frozenset(url.split(";")) for url in first} == {frozenset(NODES.split(";"))}


@pytest.mark.integration
def test_the_command_celery_begins_with_another_node_too():
    """It takes BROKER_URL for an option of its own."""
    told = (
        "import os; from celery.bin import celery as command;"
        "command.celery(['--app=saga_project', 'report'], standalone_mode=False);"
        "from saga_project import celery;"
        "wanted = celery.BROKER.celery_settings(begin_with=os.getpid())['broker_url'];"
        "assert 'CELERY_BROKER_URL' not in os.environ;"
        "assert celery.app.conf.broker_read_url == wanted, celery.app.conf.broker_read_url"
    )
    done = subprocess.run(
        [sys.executable, "-c", told],
        env=os.environ | {"BROKER_URL": NODES},
        cwd=runfile.ROOT,
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr


def test_after_a_loss_a_worker_begins_with_the_next_node_of_rabbitmq():
    turned = broker.begun_with_the_next(NODES)

    assert [url.partition("@")[2][0] for url in turned.split(";")] == ["b", "c", "a"]
    assert broker.begun_with_the_next(SENTINELS) == SENTINELS
    assert broker.begun_with_the_next("redis://a/0") == "redis://a/0"


def test_sentinels_are_told_whose_server_they_know_and_have_a_password_of_their_own():
    known = broker.parse(SENTINELS, master="shop", sentinel_password="theirs")

    patient = known.celery_settings()
    hasty = celery.hasty(patient["broker_url"], patient["broker_transport_options"])
    for settings in (patient, hasty):
        options = settings["broker_transport_options"]
        assert (options["master_name"], options["sentinel_kwargs"]["password"]) == ("shop", "theirs")


@pytest.mark.parametrize("url", ["redis://host/0", NODES, SENTINELS])
def test_who_answers_people_gives_a_broker_up_sooner_than_a_worker_does(url):
    patient = celery.options(url)["broker_transport_options"]
    patient |= broker.parse(url, master="shop").celery_settings()["broker_transport_options"]
    options = celery.hasty(url, patient)["broker_transport_options"]
    waits = {name for name in options if name.endswith("timeout")} - {"visibility_timeout"}

    assert waits
    assert all(options[name] < patient[name] for name in waits)
    assert options.get("confirm_publish", True), "as safe as ever"


@pytest.mark.parametrize(
    ("url", "options"),
    [
        (
            "amqps://u:p@a//;amqps://u:p@b//",
            {"cert_reqs": ssl.CERT_REQUIRED, "ca_certs": None, "server_hostname": None},
        ),
        (
            "rediss://:p@a/0",
            {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_ca_certs": None, "ssl_check_hostname": True},
        ),
    ],
)
def test_where_it_speaks_tls_the_certificate_is_checked_and_the_name_in_it(url, options, tmp_path):
    own = tmp_path / "ca.pem"
    own.touch()

    assert broker.parse(url).celery_settings()["broker_use_ssl"] == options
    (trusted,) = {name for name in options if name.endswith("ca_certs")}
    with_own = broker.parse(url, ca_file=str(own)).celery_settings()["broker_use_ssl"]
    assert with_own == options | {trusted: str(own)}
    with pytest.raises(broker.BadAddress, match="there is no file nowhere"):
        broker.parse(url, ca_file="nowhere")
    with pytest.raises(broker.BadAddress, match="BROKER_CA_FILE is set, and BROKER_URL speaks no TLS"):
        broker.parse(url.replace("s://", "://"), ca_file=str(own))
    assert "broker_use_ssl" not in broker.parse(url.replace("s://", "://")).celery_settings()


@pytest.mark.parametrize("told", [{"cluster_enabled": 1}, {"cluster_enabled": "1"}])
def test_a_server_that_is_a_node_of_a_cluster_is_refused(told):
    with pytest.raises(broker.Unfit, match="cluster_enabled:1"):
        broker.check_valkey(told)
    broker.check_valkey({"cluster_enabled": 0})
    broker.check_valkey({})
