"""`manage.py doctor` finds what was planted on real parts, and nothing where all is well."""

import contextlib
import json
import os
import re
import subprocess
import sys

import psycopg
import pytest
import redis
from django.db import connection
from django.db.migrations import recorder

from saga_project import celery, queues
from saga_project.local import replication, runfile, servers
from sagas import conf, doctor, models, workers
from sagas.declaration import registry
from tests.acceptance import processes
from tests.saga_project.test_settings import PRODUCTION
from tests.sagas import harness
from tests.sagas.conftest import transactional_db  # noqa: F401 - a fixture
from tests.sagas.sample_app import saga as toys
from tests.support import clusters, database, waiting

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

SECRETS = ("SECRET_KEY", "PAYMENTS_WEBHOOK_SECRETS", "SHIPPING_WEBHOOK_SECRETS", "ALLOWED_HOSTS")


@pytest.fixture
def primary(transactional_db):  # noqa: F811 - the fixture
    """A copy of this worker's test database, on a server that loses nothing."""
    with clusters.place() as home, (home / "log").open("wb") as log:
        name = str(connection.settings_dict["NAME"])
        node = replication.Node(home / "node", name="alpha", password="a-password-for-tests", database=name)
        try:
            node.copy_from(database.environment()["DATABASE_URL"], follow=False)
            node.start(log)
            yield node
        finally:
            node.stop()
            node.discard()


@pytest.fixture
def broker_url(tmp_path):
    """A broker of this test's own: something is planted in the one that all tests share."""
    server = servers.Valkey(tmp_path / "valkey", durable=False)
    server.start()
    try:
        yield server.url
    finally:
        server.stop()


def ask(*arguments, **told):
    """What `manage.py doctor` says, and its exit code."""
    said = subprocess.run(
        [sys.executable, "manage.py", "doctor", *arguments],
        cwd=runfile.ROOT, env=database.environment(**told), capture_output=True, text=True,
    )  # fmt: skip
    assert "Traceback" not in said.stderr, said.stderr
    return said.returncode, said.stdout


def test_a_sound_installation_leaves_nothing_to_find_and_what_is_planted_in_it_is_found(
    primary, broker_url, tmp_path
):
    sound = {name: PRODUCTION[name] for name in SECRETS} | {
        "DJANGO_SETTINGS_MODULE": "saga_project.settings",
        "DATABASE_URL": primary.url,
        "BROKER_URL": broker_url,
        "PLAIN_HTTP": "0",
    }
    with processes.worker(tmp_path, queues=processes.shop(), children=1, **sound):
        with psycopg.connect(primary.url, autocommit=True) as link:
            swept = "SELECT 1 FROM sagas_heartbeat"
            waiting.until(lambda: link.execute(swept).fetchone(), "beat and a worker run")
        code, text = ask("--json", **sound)
        letter = json.loads(text)

        assert letter["findings"] == []
        assert code == 0
        assert letter["left_out"] == []
        looked_at = {one["examination"] for one in letter["well"]}
        assert {"PostgreSQL", "Migrations", "The sweep", "Broker and workers", "Standbys"} <= looked_at

        primary.configure(synchronous_standby_names="FIRST 1 (nobody)")
        try:
            code, text = ask(
                **sound
                | {
                    "BROKER_URL": "redis://:nobody@127.0.0.1:9/0",
                    "DEBUG": "1",
                    "SECRET_KEY": "django-insecure-change-me",
                    "DATABASE_TRANSACTION_POOLING": "1",
                    "DATABASE_REPLICA_URL": primary.url,
                }
            )
        finally:
            primary.configure(synchronous_standby_names="")

    assert code == 1
    planted = {
        "project.D002": "ALTER SYSTEM SET synchronous_standby_names = ''",
        "sagas.D010": "correct its address",
        "project.D010": "BROKER_URL: 127.0.0.1:9",
        "project.D008": "Have it lead to one, or unset it.",
        "project.W004": "DATABASE_DIRECT_URL",
        "project.W005": "ALTER ROLE ... SET",
        "project.W007": "Unset it",
        "project.W010": "SECRET_KEY=$(",
        "security.W018": "DEBUG=0",
    }
    assert "Not examined:\n   Kind of the broker: no broker." in text
    assert "nobody@" not in text, "no password is repeated"
    for id, line in planted.items():
        assert id in text
        assert line in text[text.index(id) :].partition("\n\n")[0], id


# --- Planted one beside the other ---------------------------------------------------------------------

SKEW_S = 300
OLD_QUEUE = "invoicing-of-old"


@pytest.fixture
def sick_worker(transactional_db, valkey, tmp_path):  # noqa: F811 - the fixture
    """A worker whose clock is off, that hoards messages; no beat, nobody on one queue."""
    served = [name for name in queues.everything() if name != "invoicing"]
    with (tmp_path / "worker.log").open("wb") as log:
        process = subprocess.Popen(
            [
                sys.executable, "-m", "tests.acceptance.skewed", str(SKEW_S), "--app=saga_project", "worker",
                f"--queues={','.join(served)}", "--concurrency=1", "--without-gossip", "--without-mingle",
                "--hostname=sick@test", "--prefetch-multiplier=4",
            ],
            cwd=runfile.ROOT, env=database.environment(), stdout=log, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        try:
            waiting.until(lambda: celery.app.control.ping(timeout=1), "the worker answers", seconds=120)
            yield
        finally:
            process.terminate()
            process.wait(60)


@contextlib.contextmanager
def unapplied(app):
    """The newest migration of an app as if it had not been applied."""
    kept = recorder.MigrationRecorder(connection)
    name = max(name for label, name in kept.applied_migrations() if label == app)
    kept.record_unapplied(app, name)
    try:
        yield name
    finally:
        kept.record_applied(app, name)


@contextlib.contextmanager
def evicting():
    """A broker that throws queues away when its memory is full. No other test asks this server for it."""
    with redis.Redis.from_url(os.environ["BROKER_URL"]) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        try:
            yield
        finally:
            client.config_set("maxmemory-policy", "noeviction")


def test_each_of_what_is_planted_is_found_with_what_it_does_and_the_line_to_change(sick_worker, monkeypatch):
    gone = harness.begin(toys.LOCAL)
    models.SagaInstance.objects.filter(pk=gone.pk).update(version=99)
    registry.add(toys.saga("toy-undeployed", toys.local("a", queue="toys")))
    celery.app.send_task("orders.clear-up", queue=OLD_QUEUE)
    asked_at = models.database_now() - 2 * conf.SILENT_AFTER
    for queue in ("payments", "invoicing"):
        models.Queue.objects.create(name=queue, probed_at=asked_at, unanswered_since=asked_at)
    monkeypatch.setitem(celery.app.conf, "task_always_eager", True)
    letters = []

    def answered():
        letters.append(doctor.examine())
        return any("sick@test" in one.what for _, one in letters[-1].findings)

    with unapplied("orders") as migration, evicting():
        # A worker that is kept from the processor for longer than it is waited for is not there, this time.
        waiting.until(answered, "the worker answers in time", seconds=120)
    letter = letters[-1]

    planted = {
        # The server of the tests was started so, as one would that forgets what it was told.
        ("sagas.D002", "fsync is off"): "Take fsync out of the server's command line",
        ("sagas.D002", "full_page_writes is off"): "Take full_page_writes out of the server's",
        ("sagas.D002", "synchronous_commit is off"): "Take synchronous_commit out of the",
        ("sagas.D007", "sick@test: its clock is "): "timedatectl",
        ("sagas.D008", migration): "manage.py migrate",
        ("sagas.D009", "Nobody ever swept"): "celery --app=saga_project.celery beat",
        ("sagas.D011", "No worker listens on the queue invoicing"): "worker --queues=invoicing",
        ("sagas.D012", "sick@test takes 4 messages at a time"): "worker_prefetch_multiplier = 1",
        ("sagas.D014", "toy-undeployed 1"): "Deploy this version there",
        ("sagas.D015", f"Messages wait in the queue {OLD_QUEUE} (1)"): f"worker --queues={OLD_QUEUE}",
        ("sagas.D017", "A message has waited in the queue payments for"): "a quorum queue gives nothing out",
        ("sagas.E011", "toy-local version 99"): "Keep the old declaration",
        ("sagas.E020", "task_always_eager is on"): "task_always_eager = False",
        ("project.D015", "allkeys-lru"): "maxmemory-policy noeviction",
    }
    found = [finding for _, finding in letter.findings]
    for (id, what), line in planted.items():
        ones = [one for one in found if one.id == id and what in one.what]
        assert len(ones) == 1, (id, what, [one.what for one in found])
        (one,) = ones
        assert line in one.change
        assert one.effect
    (clock,) = (one.what for one in found if one.what.startswith("sick@test: its clock is "))
    # At least so much: for as long as the answer took its clock went on.
    assert SKEW_S - workers.PATIENCE.total_seconds() <= int(re.findall(r"(\d+) s ahead", clock)[0]) <= SKEW_S
    assert letter.left_out == []
    assert [one.what for one in found if one.id == "sagas.D011"] == [
        "No worker listens on the queue invoicing."
    ]
    assert [one for one in found if one.id == "sagas.D017" and "invoicing" in one.what] == []
    assert conf.SWEEP_QUEUE not in [one.what for one in found if one.id == "sagas.D015"]
