"""Whatever carries the messages: an order is fulfilled, one that fails is undone in reverse, a worker that is
killed amid a step is replaced, and a message that comes twice does nothing twice. What comes by the clock is
done: bulk runs, traces, the archive.

One set of tests for each transport, in a project of its own with real workers and PostgreSQL.
"""

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import uuid

import psycopg
import pytest
from psycopg import sql

from saga_project.local import runfile
from tests.support import collector as collectors
from tests.support import waiting

SETTINGS = """
import datetime
import os
from psycopg import conninfo
told = conninfo.conninfo_to_dict(os.environ["DATABASE_URL"])
SECRET_KEY = "x" * 50
INSTALLED_APPS = [
    "django.contrib.auth", "django.contrib.contenttypes", "sagas", "sagas.console", "shop.trips",
]
DATABASES = {"default": {
    "ENGINE": "django.db.backends.postgresql",
    "NAME": told["dbname"], "USER": told["user"], "PASSWORD": told.get("password", ""),
    "HOST": told["host"], "PORT": told["port"],
}}
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
SAGAS_GRACE = datetime.timedelta(seconds=1)
SAGAS_OTLP_ENDPOINT = os.environ["COLLECTOR"]
"""

CELERY = """
import os
import celery
app = celery.Celery("shop", broker=os.environ["BROKER_URL"])
app.conf.broker_transport_options = {"global_keyprefix": os.environ["KEY_PREFIX"]}
app.conf.task_default_queue = "sagas"
app.autodiscover_tasks()
from sagas.celery import configure
configure(app)
"""

SERVICES = """
import os
import pathlib
import sys
import time

HERE = pathlib.Path(__file__).parent


class Refused(Exception):
    pass


class Unavailable(Exception):
    pass


def note(line):
    with (HERE / "calls").open("a") as calls:
        calls.write(line + "\\n")


def book(*, key, wish):
    note(f"do {key}")
    if wish == "slow" and not (HERE / "go").exists():
        (HERE / "pid").write_text(f"{os.getpid()} {os.getpgid(0)}")
        while not (HERE / "go").exists():
            time.sleep(0.02)


def drive(*, key, wish):
    note(f"do {key}")


def fly(*, key, wish):
    if "celery" in sys.modules:
        (HERE / "celery").touch()
    if wish == "stuck":
        (HERE / "stuck").write_text(key.partition(".")[0])
    if wish in ("full", "stuck"):
        raise Refused("no seat")
    note(f"do {key}")


def cancel(*, key):
    if (HERE / "stuck").exists() and key.startswith((HERE / "stuck").read_text()):
        raise TypeError("a bug")
    note(f"undo {key}")
"""

SAGA = """
from sagas import Retry, Saga, Step
from shop.trips import services

TRIP = Saga(
    name="trip",
    inputs=["wish"],
    steps=[
        Step("book-hotel", services.book, undo=services.cancel, inputs=["wish"], queue="trips"),
        Step("book-car", services.drive, undo=services.cancel, inputs=["wish"], queue="cars", remote=True),
        Step("book-flight", services.fly, undo=services.cancel, inputs=["wish"], queue="trips"),
    ],
    retry=Retry(on=[services.Unavailable]),
    refused=[services.Refused],
)
"""

BEGIN = """
import sys
import django
django.setup()
from django.db import transaction
from sagas import engine
from sagas.engine import transport
from shop.trips.saga import TRIP
sent = []
if sys.argv[2:]:
    # Every message of this process is sent so many times, or not at all.
    named, times = transport.current(), int(sys.argv[2])
    class Faulty:
        def __getattr__(self, name):
            return getattr(named, name)
        def send(self, dispatch):
            for _ in range(times):
                named.send(dispatch)
        def send_many(self, dispatches):
            named.send_many([*dispatches] * times)
    transport._others.append(Faulty())
for wish in sys.argv[1].split(","):
    with transaction.atomic():
        engine.begin(TRIP, key=wish, inputs={"wish": wish.partition("-")[0]})
"""

BULK = """
import django
django.setup()
from sagas import models
from sagas.console import bulk
stuck = models.SagaInstance.objects.filter(state="needs_attention").values_list("pk", flat=True)
bulk.begin(chosen=bulk.look(stuck), intervention="resume", actor="olga", reason="Ticket 12")
"""

A_YEAR = """
import datetime
import django
django.setup()
from sagas.testing import clocks
clocks.pass_time(datetime.timedelta(days=365))
"""

QUEUES = "trips,cars,sagas"


class Carried:
    """How a project's messages are carried: what its settings say, and which processes it runs.

    `below`: of `saga_worker`, how many processes the one above makes.
    """

    def __init__(self, settings, workers, sweeper=None, needs="", below=0):
        self.settings, self.workers, self.sweeper, self.needs = settings, workers, sweeper, needs
        self.below = below


TICKS = "sagas-sweep,sagas-bulk,sagas-traces,sagas-archive"

TRANSPORTS = {
    "celery": Carried(
        'SAGAS_CELERY_APP = "shop.celery.app"\n',
        ["celery", "--app=shop.celery", "worker", "--concurrency=1", f"--queues={QUEUES},{TICKS}"],
        ["celery", "--app=shop.celery", "beat", "--schedule=beat"],
    ),
    "postgres": Carried(
        'SAGAS_TRANSPORT = "sagas.transports.postgres.PostgresTransport"\n',
        ["django", "saga_worker", f"--queues={QUEUES}", "--processes=1"],
        below=2,
    ),
    "django.tasks": Carried(
        'SAGAS_TRANSPORT = "sagas.transports.django_tasks.DjangoTasksTransport"\n'
        'INSTALLED_APPS += ["django_tasks_db"]\n'
        'TASKS = {"default": {"BACKEND": "django_tasks_db.DatabaseBackend", "QUEUES": []}}\n',
        ["django", "db_worker", f"--queue-name={QUEUES}", "--interval=0.1"],
        ["django", "saga_worker", "--processes=0"],
        needs="django_tasks_db",
        below=1,
    ),
}


class Project:
    def __init__(self, folder, environment, carried, collector):
        self.folder, self.environment, self.carried = folder, environment, carried
        self.collector, self.stack = collector, None
        self.saga_workers = []
        self.trips = folder / "shop" / "trips"

    def run(self, *command):
        ran = subprocess.run(
            [sys.executable, *command], cwd=self.folder, env=self.environment, capture_output=True, text=True
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr

    def start(self, name, command):
        log = self.stack.enter_context((self.folder / f"{name}.log").open("wb"))
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=self.folder, env=self.environment, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
        self.stack.callback(_end, process)
        if "saga_worker" in command:
            self.saga_workers.append(process)

    def began(self, *wishes, sent=1):
        self.run("-c", BEGIN, ",".join(wishes), str(sent))

    def rows(self, query, *values):
        with psycopg.connect(self.environment["DATABASE_URL"]) as connection:
            return connection.execute(query, values).fetchall()

    def ended(self, *wishes, as_one_of=("completed", "compensated")):
        """The sagas' states, once all of them have ended."""

        def states():
            found = dict(self.rows("SELECT key, state FROM sagas_saga"))
            return found if all(found[wish] in as_one_of for wish in wishes) else None

        return waiting.until(states, f"{wishes} end")

    def calls(self, wish):
        ((saga,),) = self.rows("SELECT id FROM sagas_saga WHERE key = %s", wish)
        lines = (self.trips / "calls").read_text().splitlines()
        return [line.replace(f"{saga}.", "") for line in lines if str(saga) in line]


def _end(process):
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(20)


@pytest.fixture(params=[pytest.param("celery", marks=pytest.mark.thorough), "postgres", "django.tasks"])
def project(request, environment, tmp_path):
    """A project whose messages are carried so, with two workers."""
    carried = TRANSPORTS[request.param]
    if carried.needs:
        pytest.importorskip(carried.needs)
    folder = tmp_path
    texts = {
        "settings.py": SETTINGS + carried.settings, "celery.py": CELERY, "__init__.py": "",
        "trips/__init__.py": "", "trips/services.py": SERVICES, "trips/saga.py": SAGA,
    }  # fmt: skip
    for name, text in texts.items():
        path = folder / "shop" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    name = f"shop_{uuid.uuid4().hex}"
    url, _, _ = environment["DATABASE_URL"].rpartition("/")
    place = os.pathsep.join([str(folder), str(runfile.ROOT), *sys.path])
    with psycopg.connect(environment["DATABASE_URL"], autocommit=True) as server:
        server.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        there = {
            "DATABASE_URL": f"{url}/{name}", "KEY_PREFIX": f"{name}.", "PYTHONPATH": place,
            "DJANGO_SETTINGS_MODULE": "shop.settings",
        }  # fmt: skip
        try:
            with collectors.running() as collector, contextlib.ExitStack() as stack:
                shop = Project(folder, environment | there | {"COLLECTOR": collector.url}, carried, collector)
                shop.stack = stack
                shop.run("-m", "django", "migrate", "--verbosity=0")
                for number in range(2):
                    shop.start(f"worker-{number}", _named(carried.workers, number))
                if carried.sweeper:
                    shop.start("sweeper", carried.sweeper)
                yield shop
        finally:
            server.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def _named(command, number):
    return [*command, f"--hostname=worker-{number}@shop"] if command[0] == "celery" else command


DONE = ["do book-hotel", "do book-car", "do book-flight"]


UNDONE = ["do book-hotel", "do book-car", "undo book-car", "undo book-hotel"]


def test_every_saga_ends_as_it_should_though_messages_come_twice_and_a_worker_is_killed(project):
    project.began("slow", "good", "full", "stuck")
    project.began("good-twice", "full-twice", sent=2)
    pid = project.trips / "pid"
    waiting.until(lambda: pid.exists() and pid.read_text().count(" "), "the slow step has begun")
    _, group = pid.read_text().split()

    # The whole of that worker, amid the step.
    os.killpg(int(group), signal.SIGKILL)
    (project.trips / "go").touch()

    states = project.ended("slow", "good", "full", "good-twice", "full-twice")
    assert {wish for wish, state in states.items() if state == "completed"} == {"slow", "good", "good-twice"}
    # Another one has done the step again, and the rest once.
    assert project.calls("slow") == ["do book-hotel", *DONE]
    # Each step once, however often it is sent.
    assert project.calls("good") == project.calls("good-twice") == DONE
    # The way back is the way forth, from the end.
    assert project.calls("full") == project.calls("full-twice") == UNDONE
    # A project that does without Celery need not have it.
    assert (project.trips / "celery").exists() == (project.carried is TRANSPORTS["celery"])
    if project.carried is not TRANSPORTS["celery"]:
        _whoever_is_killed_below_a_saga_worker_is_replaced(project)
    _what_comes_by_the_clock_is_done(project)


def _whoever_is_killed_below_a_saga_worker_is_replaced(project):
    """Also the process for what comes by the clock; the sweep, which is the one above's, goes on."""
    above = [process.pid for process in project.saga_workers if process.poll() is None]
    assert above
    first = {pid: _processes_below(project, pid) for pid in above}
    for pid in set().union(*first.values()):
        os.kill(pid, signal.SIGKILL)

    # Only a sweep finds it.
    project.began("good-lost", sent=0)
    assert project.ended("good-lost")["good-lost"] == "completed"

    for pid in above:
        _processes_below(project, pid, other_than=first[pid])


def _processes_below(project, above, other_than=frozenset()):
    """The ids of those that it has made, once there are as many as there should be and none of the others."""
    listed = pathlib.Path(f"/proc/{above}/task/{above}/children")

    def below():
        made = {int(pid) for pid in listed.read_text().split()}
        return made if len(made) == project.carried.below and made.isdisjoint(other_than) else None

    return waiting.until(below, f"{project.carried.below} processes below {above}, none of {other_than}")


def _what_comes_by_the_clock_is_done(project):
    """An operator's bulk run, the traces, and where no beat keeps the archive, that."""
    project.ended("stuck", as_one_of=["needs_attention"])
    (project.trips / "stuck").unlink()
    project.run("-c", BULK)
    assert project.ended("stuck")["stuck"] == "compensated"

    def run():
        return project.rows("SELECT state FROM sagas_console_bulk_run") == [("finished",)]

    waiting.until(run, "the bulk run is over")
    waiting.until(lambda: len(project.collector.by_name()["saga trip"]) >= 6, "every saga is a trace")
    if project.carried is not TRANSPORTS["celery"]:
        # One that comes later looks at once, and no sooner than all others after a minute.
        project.run("-c", A_YEAR)
        project.start("archiver", ["django", "saga_worker", "--processes=0"])
        archived = "SELECT 1 FROM sagas_archive WHERE key = 'good'"
        waiting.until(lambda: project.rows(archived), "it is in the archive")
