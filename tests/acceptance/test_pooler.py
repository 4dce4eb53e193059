"""Behind PgBouncer that shares connections between transactions: prepared for it, and not."""

import itertools
import subprocess
import sys
import threading

import psycopg
import pytest

from inventory import services as inventory
from orders import audit
from saga_project import checks, examinations, postgres
from saga_project.local import runfile
from sagas import models as sagas
from tests.acceptance import processes
from tests.orders import conftest as orders
from tests.orders import web_server
from tests.sandbox import running as sandboxes
from tests.support import clusters, database, waiting

pytestmark = [pytest.mark.timeout(300), pytest.mark.django_db(transaction=True)]

SESSIONS = 3
"""Fewer than processes and threads that want one."""

ORDERS = 12

FATES = {
    "fulfilled": {},
    "cancelled": {"payment": {"method": "card", "token": "tok_declined"}},
}


@pytest.fixture(scope="module")
def bouncer(django_db_setup, django_db_blocker):
    with django_db_blocker.unblock(), clusters.pooler(size=SESSIONS) as server:
        yield server


@pytest.fixture
def world(tmp_path, settings):
    with sandboxes.run(tmp_path / "sandbox", CARRIER_PACE_S="0.05") as running:
        running.point(settings)
        settings.SANDBOX_URL = running.url
        yield running


# --- Prepared -------------------------------------------------------------------------------------


def test_orders_end_and_streams_hear_of_it_with_more_processes_than_sessions(bouncer, world, tmp_path):
    for sku in ("MUG-BLUE", "POSTER-MAP"):
        inventory.introduce(sku=sku, name=sku, price={"amount": 4590, "currency": "BRL"}, quantity=1000)
    ana = orders.member("ana")
    urls = {f"{name}_URL": f"{world.url}/{place}" for name, place in sandboxes_of().items()}
    # A heartbeat would find what no notification told.
    told = {**clusters.behind(bouncer), **urls, "DELIVERY_POLL": "500ms", "FOLLOWERS_HEARTBEAT": "10m"}
    with (
        processes.worker(tmp_path, queues=processes.shop(), children=4, **told),
        web_server.running(database.environment(**told), workers=2) as web,
        web.client(ana) as client,
    ):
        placed = [
            client.post("/orders", json=orders.order(**changes), headers={"Idempotency-Key": f"key-{number}"})
            for number, changes in enumerate(itertools.islice(itertools.cycle(FATES.values()), ORDERS))
        ]
        assert {answer.status_code for answer in placed} == {202}
        last = placed[-2].json()
        with client.stream("GET", f"/orders/{last['id']}/events", timeout=60) as stream:
            heard = [message["data"] for message in web_server.messages(stream.iter_lines())]
        live = sagas.SagaInstance.objects.filter(finished_at=None)
        waiting.until(lambda: not live.exists(), "all of them end")
        fates = [client.get(f"/orders/{answer.json()['id']}").json()["status"] for answer in placed]
        served_by = sessions_by_pooler(bouncer)

    assert heard[-1]["status"] == "fulfilled"
    assert fates == list(itertools.islice(itertools.cycle(FATES), ORDERS))
    assert served_by <= SESSIONS
    assert not sagas.Event.objects.filter(data__kind="bug").exists()
    log = (tmp_path / "worker.log").read_text()
    assert "prepared statement" not in log
    assert "could not be recorded" not in log
    assert audit.run().discrepancies == []


def sandboxes_of():
    return {"PAYMENTS": "bank", "INVOICING": "fiscal", "SHIPPING": "carrier"}


def sessions_by_pooler(server):
    """How many sessions PgBouncer has with PostgreSQL: those of this database that came by no direct URL."""
    with server._console() as console:
        rows = console.execute("SHOW SERVERS").fetchall()
    return len(rows)


def test_the_checks_find_nothing_wrong_but_the_limits_that_a_pooler_keeps_back(bouncer, settings):
    assert found(settings, clusters.behind(bouncer)) == {"project.W005"}


def test_a_direct_url_that_is_none_and_a_switch_without_a_pooler_are_told(bouncer, settings):
    told = clusters.behind(bouncer)

    assert "project.E002" in found(settings, {**told, "DATABASE_DIRECT_URL": bouncer.url})
    assert "project.W007" in found(settings, {**told, "DATABASE_URL": told["DATABASE_DIRECT_URL"]})
    nobody = "postgresql://saga@127.0.0.1:9/saga"
    assert "project.W006" in found(settings, {**told, "DATABASE_URL": nobody})


def found(settings, told):
    """The ids of what the checks find where this is set."""
    for name, value in told.items():
        setattr(settings, name, value)
    return {one.id for one in checks.check_session(databases=["default"])}


def test_the_doctor_names_a_pooler_that_nobody_prepared_for_and_the_switch(bouncer, settings):
    settings.DATABASE_URL = bouncer.url

    (found,) = [said for said in examinations.way() if not isinstance(said, str)]

    assert found.id == "project.E001"
    assert "Set DATABASE_TRANSACTION_POOLING=1" in found.change
    assert found.effect


# --- Unprepared -----------------------------------------------------------------------------------

CELERY = ["-m", "celery", "--app=saga_project", "worker", "--concurrency=1", "--queues=sagas"]
SETUP = "import django; django.setup(); from saga_project import postgres; "
ENTERED = """
from django.db import connection
from sagas import database
for _ in range(2):
    try:
        connection.ensure_connection()
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            direct = connection.connection.info.backend_pid == cursor.fetchone()[0]
            print("past the pooler" if direct else "by it")
    except Exception as error:
        print(database.is_away(error), error)
"""


def test_who_was_not_told_of_the_pooler_does_not_start_and_says_what_to_change(bouncer):
    told = database.environment(DATABASE_URL=bouncer.url)
    prepared = database.environment(**clusters.behind(bouncer))
    said = run({
        "worker": (CELERY, told),
        "web": (["-m", "saga_project.web", "--port=0"], told),
        "check": (["manage.py", "check", "--database", "default"], told),
        # It began before its database was there: then no connection is made, as if nobody answered.
        "early": (["-c", f"{SETUP}postgres.assume('worker')\n{ENTERED}"], told),
        "command, prepared": (["-c", f"{SETUP}\n{ENTERED}"], prepared),
        "worker, prepared": (["-c", f"{SETUP}postgres.assume('worker')\n{ENTERED}"], prepared),
    })  # fmt: skip

    for who in ("worker", "web", "check"):
        code, text = said[who]
        assert code != 0, who
        assert "Set DATABASE_TRANSACTION_POOLING=1, and DATABASE_DIRECT_URL" in text
        assert "Traceback" not in text
    refused = said["early"][1].splitlines()
    assert [line.split()[0] for line in refused] == ["True", "True"], "the database is away for it"
    assert "DATABASE_TRANSACTION_POOLING=1" in refused[0]
    assert said["command, prepared"] == (0, "past the pooler\npast the pooler\n")
    assert said["worker, prepared"] == (0, "by it\nby it\n")


def run(commands):
    """What each command says, and with which code it ends; all at once."""
    started = {
        name: subprocess.Popen(
            [sys.executable, *command], cwd=runfile.ROOT, env=told, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        for name, (command, told) in commands.items()
    }  # fmt: skip
    try:
        said = {name: process.communicate(timeout=90)[0] for name, process in started.items()}
        return {name: (process.returncode, said[name]) for name, process in started.items()}
    finally:
        for process in started.values():
            process.kill()


# --- What is in between ---------------------------------------------------------------------------


def test_without_a_pooler_none_is_found():
    assert postgres.pooling(parameters(database.environment()["DATABASE_URL"])) == "none"


@pytest.mark.parametrize("mode", ["session", "statement"])
def test_a_pooler_that_keeps_sessions_is_no_trouble_and_one_that_keeps_no_transaction_is(mode):
    with clusters.pooler(mode) as server:
        assert postgres.pooling(parameters(server.url)) == mode

    assert postgres.refusal_of("session", prepared=False) == ""
    assert "pool_mode" in postgres.refusal_of("statement", prepared=True)


def test_a_pooler_is_found_whatever_others_do_there(bouncer):
    """Others take the sessions and give them back all the time."""
    over = threading.Event()

    def ask():
        with psycopg.connect(bouncer.url, autocommit=True, prepare_threshold=None) as link:
            while not over.is_set():
                link.execute("SELECT pg_sleep(0.001)")

    crowd = [threading.Thread(target=ask) for _ in range(2 * SESSIONS)]
    for one in crowd:
        one.start()
    try:
        found = [postgres.pooling(parameters(bouncer.url)) for _ in range(30)]
    finally:
        over.set()
        for one in crowd:
            one.join()

    assert set(found) == {"transaction"}


def parameters(url):
    return postgres.url_parameters(url)
