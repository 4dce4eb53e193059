"""Whatever carries the messages: an order is fulfilled, one that fails is undone in reverse, a worker that is
killed amid a step is replaced, and a message that comes twice does nothing twice.

One set of tests for each transport, in a project of its own with real workers and PostgreSQL.
"""

import contextlib
import os
import signal
import subprocess
import sys
import uuid

import psycopg
import pytest
from psycopg import sql

from saga_project.local import runfile
from tests.support import waiting

SETTINGS = """
import datetime
import os
from psycopg import conninfo
told = conninfo.conninfo_to_dict(os.environ["DATABASE_URL"])
SECRET_KEY = "x" * 50
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "sagas", "shop.trips"]
DATABASES = {"default": {
    "ENGINE": "django.db.backends.postgresql",
    "NAME": told["dbname"], "USER": told["user"], "PASSWORD": told.get("password", ""),
    "HOST": told["host"], "PORT": told["port"],
}}
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
SAGAS_GRACE = datetime.timedelta(seconds=1)
"""

CELERY = """
import os
import celery
app = celery.Celery("shop", broker=os.environ["BROKER_URL"])
app.conf.beat_schedule = {"sweep": {"task": "sagas.sweep", "schedule": 1.0}}
app.conf.broker_transport_options = {"global_keyprefix": os.environ["KEY_PREFIX"]}
app.conf.task_default_queue = "sagas"
app.conf.task_acks_late = True
app.conf.worker_prefetch_multiplier = 1
app.autodiscover_tasks()
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
    if wish == "full":
        raise Refused("no seat")
    note(f"do {key}")


def cancel(*, key):
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
if sys.argv[2:] == ["twice"]:
    # Every message of this process is sent a second time.
    named = transport.current()
    class Twice:
        def __getattr__(self, name):
            return getattr(named, name)
        def send(self, dispatch):
            named.send(dispatch)
            named.send(dispatch)
        def send_many(self, dispatches):
            named.send_many([*dispatches, *dispatches])
    transport._others.append(Twice())
for wish in sys.argv[1].split(","):
    with transaction.atomic():
        engine.begin(TRIP, key=wish, inputs={"wish": wish.partition("-")[0]})
"""

QUEUES = "trips,cars,sagas"


class Carried:
    """How a project's messages are carried: what its settings say, and which processes it runs."""

    def __init__(self, settings, workers, sweeper=None, needs=""):
        self.settings, self.workers, self.sweeper, self.needs = settings, workers, sweeper, needs


TRANSPORTS = {
    "celery": Carried(
        'SAGAS_CELERY_APP = "shop.celery.app"\n',
        ["celery", "--app=shop.celery", "worker", "--concurrency=1", f"--queues={QUEUES},sagas-sweep"],
        ["celery", "--app=shop.celery", "beat", "--schedule=beat"],
    ),
    "postgres": Carried(
        'SAGAS_TRANSPORT = "sagas.transports.postgres.PostgresTransport"\n',
        ["django", "saga_worker", f"--queues={QUEUES}", "--processes=1"],
    ),
    "django.tasks": Carried(
        'SAGAS_TRANSPORT = "sagas.transports.django_tasks.DjangoTasksTransport"\n'
        'INSTALLED_APPS += ["django_tasks_db"]\n'
        'TASKS = {"default": {"BACKEND": "django_tasks_db.DatabaseBackend", "QUEUES": []}}\n',
        ["django", "db_worker", f"--queue-name={QUEUES}", "--interval=0.1"],
        ["django", "saga_worker", "--processes=0"],
        needs="django_tasks_db",
    ),
}


class Project:
    def __init__(self, folder, environment, carried):
        self.folder, self.environment, self.carried = folder, environment, carried
        self.trips = folder / "shop" / "trips"

    def run(self, *command):
        ran = subprocess.run(
            [sys.executable, *command], cwd=self.folder, env=self.environment, capture_output=True, text=True
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr

    def start(self, stack, name, command):
        log = stack.enter_context((self.folder / f"{name}.log").open("wb"))
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=self.folder, env=self.environment, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
        stack.callback(_end, process)
        return process

    def began(self, *wishes, twice=False):
        self.run("-c", BEGIN, ",".join(wishes), *(["twice"] if twice else []))

    def ended(self, *wishes):
        """The sagas' states, once all of them have ended."""

        def states():
            with psycopg.connect(self.environment["DATABASE_URL"]) as rows:
                found = dict(rows.execute("SELECT key, state FROM sagas_saga").fetchall())
            return found if all(found[wish] in ("completed", "compensated") for wish in wishes) else None

        return waiting.until(states, f"{wishes} end")

    def calls(self, wish):
        with psycopg.connect(self.environment["DATABASE_URL"]) as rows:
            ((saga,),) = rows.execute("SELECT id FROM sagas_saga WHERE key = %s", [wish]).fetchall()
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
        shop = Project(folder, environment | there, carried)
        try:
            with contextlib.ExitStack() as stack:
                shop.run("-m", "django", "migrate", "--verbosity=0")
                for number in range(2):
                    shop.start(stack, f"worker-{number}", _named(carried.workers, number))
                if carried.sweeper:
                    shop.start(stack, "sweeper", carried.sweeper)
                yield shop
        finally:
            server.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def _named(command, number):
    return [*command, f"--hostname=worker-{number}@shop"] if command[0] == "celery" else command


DONE = ["do book-hotel", "do book-car", "do book-flight"]


UNDONE = ["do book-hotel", "do book-car", "undo book-car", "undo book-hotel"]


def test_every_saga_ends_as_it_should_though_messages_come_twice_and_a_worker_is_killed(project):
    project.began("slow", "good", "full")
    project.began("good-twice", "full-twice", twice=True)
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
