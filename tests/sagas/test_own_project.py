"""A project of one's own, which has nothing but the engine: what `check` says there, and that a saga runs."""

import contextlib
import os
import subprocess
import sys
import uuid

import psycopg
import pytest
from psycopg import sql

from saga_project.local import runfile
from tests.support import waiting

SETTINGS = """
import os
from psycopg import conninfo
told = conninfo.conninfo_to_dict(os.environ["DATABASE_URL"])
SECRET_KEY = "x" * 50
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "sagas"]
DATABASES = {"default": {
    "ENGINE": "django.db.backends.postgresql",
    "NAME": told["dbname"], "USER": told["user"], "PASSWORD": told.get("password", ""),
    "HOST": told["host"], "PORT": told["port"],
}}
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
"""
CELERY = """
import os
import celery
app = celery.Celery("shop", broker=os.environ["BROKER_URL"])
"""
CONFIGURED = """
from sagas.celery import configure
configure(app)
"""
PERIODIC = """
@app.on_after_finalize.connect
def periodic(sender, **_):
    sender.add_periodic_task(1.0, sender.signature("sagas.sweep"))
"""
CONSOLE = """
INSTALLED_APPS += ["sagas.console"]
"""
APP = 'SAGAS_CELERY_APP = "shop.celery.app"'


@pytest.fixture
def shop(tmp_path, environment):
    """The project's folder, and the environment of its processes."""
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "__init__.py").touch()
    place = {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(runfile.ROOT)])}
    return tmp_path, environment | place | {"DJANGO_SETTINGS_MODULE": "shop.settings"}


@pytest.fixture
def check(shop):
    """Runs `django-admin check` with what is added to the settings and to the Celery application."""
    folder, environment = shop

    def run(*, settings="", celery=""):
        (folder / "shop" / "settings.py").write_text(SETTINGS + settings)
        (folder / "shop" / "celery.py").write_text(CELERY + celery)
        return subprocess.run(
            [sys.executable, "-m", "django", "check", "--fail-level", "WARNING"],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
        )

    return run


def test_without_a_celery_application_no_process_starts_and_the_line_to_write_is_said(check):
    said = check()

    assert said.returncode != 0
    assert "ImproperlyConfigured" in said.stderr
    assert "sagas.E012: no Celery application is known that carries sagas." in said.stderr
    assert "Call sagas.celery.configure(app) at the end of your celery.py" in said.stderr
    assert f"such as {APP}." in said.stderr


def test_an_application_that_is_only_named_is_told_of_the_function_that_configures_it(check):
    said = check(settings=APP, celery="")

    assert said.returncode != 0
    assert "(sagas.W012) The Celery application shop was not configured for sagas" in said.stderr
    assert "(sagas.W002) Nothing in the beat_schedule of shop starts the sweep" in said.stderr
    assert "Call sagas.celery.configure(app) at the end" in said.stderr


@pytest.mark.parametrize(
    ("settings", "celery"),
    [(APP, CONFIGURED), (APP + CONSOLE, CONFIGURED), (APP, PERIODIC + CONFIGURED)],
)
def test_that_function_and_the_name_of_the_application_are_all_that_it_needs(check, settings, celery):
    said = check(settings=settings, celery=celery)

    assert (said.returncode, said.stderr) == (0, "")


def test_where_the_project_imports_its_application_not_even_the_name_is_needed(check, shop):
    folder, _ = shop
    (folder / "shop" / "__init__.py").write_text("from shop.celery import app")

    said = check(celery=CONFIGURED)

    assert (said.returncode, said.stderr) == (0, "")


# --- A saga of its own, without the console ---------------------------------------------------------

TRIPS = {
    "settings.py": SETTINGS
    + f"""
import datetime
{APP}
INSTALLED_APPS += ["shop.trips"]
SAGAS_GRACE = datetime.timedelta(seconds=1)
SAGAS_TRANSPORT = os.environ.get("SAGAS_TRANSPORT", "sagas.tasks.CeleryTransport")
""",
    "celery.py": CELERY
    + """
app.conf.broker_transport_options = {"global_keyprefix": os.environ["KEY_PREFIX"]}
app.conf.task_default_queue = "sagas"
app.autodiscover_tasks()
"""
    + CONFIGURED,
    "trips/__init__.py": "",
    "trips/services.py": """
import sys


class Unavailable(Exception):
    pass


def reserve(*, key, nights):
    return {"room": 100 + nights}


def charge(*, key, room):
    return {"receipt": f"{key} {room}", "knows_the_console": "sagas.console" in sys.modules}


def release(*, key):
    pass


def refund(*, key):
    pass
""",
    "trips/saga.py": """
from sagas import Retry, Saga, Step
from shop.trips import services

TRIP = Saga(
    name="trip",
    inputs=["nights"],
    steps=[
        Step("reserve-room", services.reserve, undo=services.release, inputs=["nights"], outputs=["room"]),
        Step("charge-card", services.charge, undo=services.refund, inputs=["room"], remote=True),
    ],
    retry=Retry(on=[services.Unavailable]),
)
""",
    "nowhere.py": """
class Nowhere:
    def send(self, dispatch):
        pass
""",
}

BEGIN = """
import sys
import django
django.setup()
from django.db import transaction
from sagas import engine
from shop.trips.saga import TRIP
with transaction.atomic():
    engine.begin(TRIP, key=sys.argv[1], inputs={"nights": 3})
"""


@pytest.fixture
def trips(shop):
    """The project with an app that declares a saga, and a database of its own: its folder and environment."""
    folder, environment = shop
    for name, text in TRIPS.items():
        path = folder / "shop" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    name = f"shop_{uuid.uuid4().hex}"
    url, _, _ = environment["DATABASE_URL"].rpartition("/")
    with psycopg.connect(environment["DATABASE_URL"], autocommit=True) as server:
        server.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        yield folder, environment | {"DATABASE_URL": f"{url}/{name}", "KEY_PREFIX": f"{name}."}
        server.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@contextlib.contextmanager
def worker(folder, environment):
    """A Celery worker with beat in it, which takes the steps, the sweep and the engine's own messages."""
    command = [
        sys.executable, "-m", "celery", "--app=shop.celery", "worker", "--beat", "--concurrency=1",
        "--queues=shop,sagas,sagas-sweep", f"--schedule={folder}/beat",
    ]  # fmt: skip
    with (folder / "worker.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


def test_a_saga_runs_on_a_real_worker_where_the_console_is_left_out(trips):
    folder, environment = trips

    def run(*command, **more):
        subprocess.run([sys.executable, *command], cwd=folder, env=environment | more, check=True)

    run("-m", "django", "migrate", "--verbosity=0")
    run("-c", BEGIN, "sent")
    # The message of this one is lost on its way: only the sweep can bring the saga to its end.
    run("-c", BEGIN, "lost", SAGAS_TRANSPORT="shop.nowhere.Nowhere")

    with worker(folder, environment), psycopg.connect(environment["DATABASE_URL"], autocommit=True) as rows:

        def ended():
            return rows.execute(
                "SELECT key FROM sagas_saga WHERE state = 'completed' ORDER BY key"
            ).fetchall()

        waiting.until(lambda: len(ended()) == 2, "two trips", seconds=60)

        facts = rows.execute("SELECT facts FROM sagas_step WHERE name = 'charge-card'").fetchall()
        assert [one["receipt"].endswith("103") for (one,) in facts] == [True, True]
        assert [one["knows_the_console"] for (one,) in facts] == [False, False]
        tables = rows.execute(
            "SELECT tablename FROM pg_tables WHERE tablename LIKE 'sagas_console%'"
        ).fetchall()
        assert tables == []
