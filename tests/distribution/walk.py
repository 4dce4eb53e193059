"""Whoever follows docs/in-your-project.md word by word in an empty folder: its blocks are run in their order.

A block below a line such as `**On Celery**:` is for those who go that way; all others are for everybody.
The names that the page types (`python`, `pip`, `django-admin`, `celery`) are those of one interpreter, which
knows nothing of this checkout.
"""

import contextlib
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import httpx
import psycopg
from psycopg import sql

from saga_project.local import runfile, servers
from tests.support import waiting

PAGE = runfile.ROOT / "docs" / "in-your-project.md"
DATABASE = "shop"
"""As the page names it."""

TERMINAL = re.compile(
    r"(?P<worker>celery |python manage\.py (?:db_worker|saga_worker$))"
    r"|(?P<clock>python manage\.py saga_worker --processes 0)|(?P<web>python manage\.py runserver)"
)
"""What the page has a terminal of its own for."""

BLOCK = re.compile(
    r"(?:^\*\*(?P<way>[^*\n]+)\*\*[^\n]*:\n\n)?^```(?P<language>sh|python)\n(?P<text>.*?)\n```$",
    re.DOTALL | re.MULTILINE,
)
FILE = re.compile(r"# (?P<path>[\w./]+)(?:, (?:(?P<end>at the end)|instead of (?P<instead>\w+)))?")
PASSWORD = "only-for-this-walk"

WAYS = {
    "Valkey": ("On Celery", "On Celery with Valkey"),
    "RabbitMQ": ("On Celery", "On Celery with RabbitMQ"),
    "django.tasks on Django 5.2": ("On `django.tasks`", "On `django.tasks` with Django 5.2"),
    "django.tasks on Django 6": ("On `django.tasks`", "On `django.tasks` with Django 6"),
    "no broker": ("Without a broker",),
}
"""The page's names of each."""

NO_CELERY = """
import importlib.abc
import sys


class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in ("celery", "kombu", "billiard", "amqp", "vine"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Missing())
"""
"""Of an interpreter that has Celery, for who goes a way that needs none."""


class Project:
    """The folder, what runs in it, and its rows."""

    name = DATABASE

    def __init__(
        self,
        folder: pathlib.Path,
        *,
        python: str,
        path: list[str],
        database: str,
        broker: str,
        way: str = "Valkey",
    ) -> None:
        """Make the names that the page types.

        Arguments:
            folder: empty.
            python: the interpreter.
            path: where it finds packages beside its own; the first is where `pip install` puts the wheel.
            database: the URL of a server; a database `shop` is made there, and dropped in the end.
            broker: its URL; empty where there is none.
            way: which of `WAYS`.
        """
        self.way = way
        self.folder, self.server, self.log = folder, database, folder.parent / "walk.log"
        told = psycopg.conninfo.conninfo_to_dict(database)
        names = folder.parent / "bin"
        names.mkdir()
        for name, module in {
            "python": "", "pip": "-m pip", "django-admin": "-m django", "celery": "-m celery",
        }.items():  # fmt: skip
            (names / name).write_text(f'#!/bin/sh\nexec {shlex.quote(python)} {module} "$@"\n')
            (names / name).chmod(0o755)
        if path:
            # The wheel alone: what it needs is there already, and no network is.
            wheel = (
                f'for one in "$@"; do case "$one" in *.whl) exec {shlex.quote(python)} -m pip install --quiet'
            )
            options = f"--no-deps --no-index --disable-pip-version-check --target {shlex.quote(path[0])}"
            (names / "pip").write_text(f'#!/bin/sh\n{wheel} {options} "$one";; esac; done\nexit 1\n')
            if "On Celery" not in WAYS[way]:
                pathlib.Path(path[0]).mkdir(parents=True)
                (pathlib.Path(path[0]) / "sitecustomize.py").write_text(NO_CELERY)
        around = servers.plain_environment()
        around.pop("DJANGO_SETTINGS_MODULE", None)
        self.environment = around | {
            "PATH": f"{names}:{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join(path),
            "PYTHONUNBUFFERED": "1",
            "PGHOST": str(told["host"]), "PGPORT": str(told["port"]), "PGUSER": str(told["user"]),
            "DJANGO_SUPERUSER_USERNAME": "admin",
            "DJANGO_SUPERUSER_EMAIL": "admin@example.com",
            "DJANGO_SUPERUSER_PASSWORD": PASSWORD,
        }  # fmt: skip
        self.environment.pop("BROKER_URL", None)
        if broker:
            self.environment["BROKER_URL"] = broker
        self.port = servers.free_port()
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.commands: dict[str, str] = {}
        self.seconds = 0.0
        """How long it took whoever types as fast as a machine."""

        self.quick_flights = ""
        """trips/services.py, before the airline took its time."""

    @contextlib.contextmanager
    def there(self) -> Iterator["Project"]:
        """While it is: its database is there; at the end it is gone, and so is every process."""
        name = sql.Identifier(self.name)
        with psycopg.connect(self.server, autocommit=True) as server:
            server.execute(sql.SQL("CREATE DATABASE {}").format(name))
            try:
                yield self
            finally:
                for what in list(self.processes):
                    self.kill(what)
                server.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))

    def run(self, command: str, code: int = 0) -> str:
        """What a block says when it is run; it must end with this code."""
        done = subprocess.run(
            ["sh", "-e", "-c", command], cwd=self.folder, env=self.environment, timeout=120,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        with self.log.open("a") as log:
            log.write(f"$ {command}\n{done.stdout}\n")
        assert done.returncode == code, f"{command}\n{done.stdout}"
        return done.stdout

    def start(self, what: str, command: str) -> None:
        """Start what a terminal of its own is for."""
        self.commands[what] = command
        with self.log.open("ab") as log:
            self.processes[what] = subprocess.Popen(
                ["sh", "-c", f"exec {command}"], cwd=self.folder, env=self.environment, stdout=log,
                stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip

    def again(self, what: str) -> None:
        """The same command once more."""
        self.start(what, self.commands[what])

    def kill(self, what: str) -> None:
        """SIGKILL it, and all of its processes."""
        process = self.processes.pop(what)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)

    def write(self, block: str) -> None:
        """A block of Python that says of which file it is: the file, its end, or a function in it."""
        head, _, text = block.partition("\n")
        named = FILE.fullmatch(head)
        assert named, f"of which file is this? {head}"
        file = self.folder / named["path"]
        if named["end"]:
            text = f"{file.read_text()}\n\n{text}"
        elif named["instead"]:
            old = re.compile(rf"^def {named['instead']}\(.*?(?=^\S|\Z)", re.DOTALL | re.MULTILINE)
            text, count = old.subn(lambda _: f"{text.strip()}\n\n\n", file.read_text())
            assert count == 1, head
        file.write_text(f"{text.strip()}\n")

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """What the project's database answers."""
        with psycopg.connect(self.server, dbname=self.name) as connection:
            return connection.execute(query.encode(), values).fetchall()

    def state(self, key: str) -> str:
        """How the saga of that key stands."""
        ((state,),) = self.rows("SELECT state FROM sagas_saga WHERE key = %s", key)
        return str(state)

    def said(self) -> str:
        """All that was said so far, for whoever looks for why it failed."""
        return self.log.read_text()


@contextlib.contextmanager
def follow(wheel: pathlib.Path, place: pathlib.Path, **project: Any) -> Iterator[Project]:
    """Follow the page to its end, and see at each step what it promises."""
    folder = place / "project"
    folder.mkdir(parents=True)
    shutil.copy(wheel, folder)
    with Project(folder, **project).there() as walker:
        began = time.monotonic()
        for block in blocks():
            if block["way"] is None or block["way"] in WAYS[walker.way]:
                _step(walker, block["language"], block["text"])
        _killed_while_the_flight_is_booked(walker)
        walker.seconds = time.monotonic() - began
        yield walker


def blocks() -> list[re.Match[str]]:
    """What the page has to be typed, in its order; each says with whom it is for, or None for everybody."""
    found = list(BLOCK.finditer(PAGE.read_text()))
    known = {name for names in WAYS.values() for name in names}
    assert {block["way"] for block in found} == known | {None}
    return found


def _step(walker: Project, language: str, text: str) -> None:
    if language == "python":
        before = (walker.folder / "trips/services.py").read_text() if "instead of" in text else ""
        walker.write(text)
        if before:
            walker.quick_flights = before
            walker.kill("worker")  # "Start the worker again, so that it knows".
            walker.again("worker")
    elif terminal := TERMINAL.match(text):
        what = next(name for name, found in terminal.groupdict().items() if found)
        walker.start(what, f"{text} {walker.port}" if what == "web" else text)
    elif text == "python manage.py test trips":
        assert re.search(r"^Ran [1-9]\d* tests.*^OK$", walker.run(text), re.DOTALL | re.MULTILINE)
    else:
        walker.run(text, code=4 if "saga watch" in text else 0)


def _killed_while_the_flight_is_booked(walker: Project) -> None:
    waiting.until(
        lambda: walker.rows(
            "SELECT 1 FROM sagas_step s JOIN sagas_saga g ON g.id = s.saga_id WHERE g.key = 'trip-2'"
            " AND s.name = 'book-hotel' AND s.state = 'done'"
        ),
        "the flight is being booked", seconds=30,
    )  # fmt: skip
    walker.kill("worker")
    assert walker.state("trip-2") == "running"
    # The airline is quick again: another five seconds prove nothing more.
    (walker.folder / "trips/services.py").write_text(walker.quick_flights)
    walker.again("worker")
    waiting.until(lambda: walker.state("trip-2") == "completed", "the trip of a killed worker", seconds=60)


def page_of(walker: Project, key: str) -> httpx.Response:
    """The saga's page in the console, as a superuser who has logged in sees it."""
    site = f"http://127.0.0.1:{walker.port}"
    with httpx.Client(base_url=site, follow_redirects=True) as browser:
        end = time.monotonic() + 30
        while True:
            try:
                form = browser.get("/admin/login/")
                break
            except httpx.TransportError:
                assert time.monotonic() < end, walker.said()
                time.sleep(0.05)
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', form.text)
        assert token
        told = {"username": "admin", "password": PASSWORD, "csrfmiddlewaretoken": token[1], "next": "/admin/"}
        inside = browser.post("/admin/login/", data=told, headers={"Referer": site})
        assert 'id="overview-live"' in inside.text
        ((id,),) = walker.rows("SELECT id FROM sagas_saga WHERE key = %s", key)
        listed = browser.get("/admin/sagas/sagainstance/")
        assert listed.status_code == 200
        assert key in listed.text
        page = browser.get(f"/admin/sagas/sagainstance/{id}/change/")
        for style in re.findall(r'href="(/static/sagas/[^"]+)"', page.text):
            assert browser.get(style).status_code == 200, style
        return page
