"""A shop of an older version as it was kept: its code, a database with live orders, its providers' books.

What is in `v0_4_0/` was made by `python -m tests.upgrades.make_dump`, which says how.
"""

import contextlib
import datetime
import json
import lzma
import os
import pathlib
import signal
import sqlite3
import subprocess
import sys
import tarfile
import time

import httpx
import psycopg
from psycopg import sql

from tests.support import waiting

PLACE = pathlib.Path(__file__).parent / "v0_4_0"
CODE, DATABASE, BOOKS, NOTES = (
    PLACE / name for name in ("code.tar.xz", "database.sql.xz", "books.sql.xz", "notes.json")
)
ROOT = PLACE.parent.parent.parent
QUEUES = (
    "payments,inventory,invoicing,shipping,webhooks,sagas,sagas-sweep,sagas-bulk,sagas-archive,sagas-traces"
)

SETTLED = datetime.timedelta(seconds=40)
"""The dump was made so long ago: leases of workers that died with it are over."""


def unpack(place):
    """The code of then, in a directory of its own."""
    with tarfile.open(CODE) as archive:
        archive.extractall(place, filter="data")
    return place


def notes():
    """When the dump was made, whose token is in it, and what is to become of each order, by its reference."""
    return json.loads(NOTES.read_text())


@contextlib.contextmanager
def database(server_url, name):
    """A database with the dump in it, brought up to now; it is gone afterwards."""

    def administer(statement):
        with psycopg.connect(server_url, autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(sql.Identifier(name)))

    administer("DROP DATABASE IF EXISTS {} WITH (FORCE)")
    administer("CREATE DATABASE {}")
    try:
        url = f"{server_url.rpartition('/')[0]}/{name}"
        with psycopg.connect(url) as connection:
            connection.execute(_text(DATABASE))
        with psycopg.connect(url) as connection:
            _bring_up_to_now(connection, _since_then())
        yield url
    finally:
        administer("DROP DATABASE {} WITH (FORCE)")


def books(folder):
    """The providers' books of then, brought up to now. Parcels move at once."""
    folder.mkdir()
    with contextlib.closing(sqlite3.connect(folder / "books.sqlite3")) as page:
        page.executescript(_text(BOOKS))
        tables = [name for (name,) in page.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            for _, column, kind, *_ in page.execute(f"PRAGMA table_info({table})").fetchall():
                if kind == "REAL":
                    by = _since_then().total_seconds()
                    page.execute(f"UPDATE {table} SET {column} = {column} + ?", [by])
        page.execute("UPDATE agenda SET at = ? WHERE what = 'shipment.move'", [time.time()])
        page.commit()
    return folder


def _since_then():
    made = datetime.datetime.fromisoformat(notes()["made_at"])
    return datetime.datetime.now(datetime.UTC) - made - SETTLED


def _text(path):
    return lzma.decompress(path.read_bytes()).decode()


def _bring_up_to_now(connection, by):
    """Every moment in every table, past the triggers that would refuse it: the dump is of just now."""
    connection.execute("SET LOCAL session_replication_role = replica")
    found = connection.execute(
        "SELECT c.relname, array_agg(a.attname::text)"
        " FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid"
        " WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND NOT a.attisdropped"
        " AND a.atttypid = 'timestamptz'::regtype GROUP BY c.relname"
    )
    for table, columns in found.fetchall():
        later = sql.SQL(", ").join(
            sql.SQL("{0} = {0} + {1}").format(sql.Identifier(column), sql.Literal(by)) for column in columns
        )
        connection.execute(sql.SQL("UPDATE {} SET {}").format(sql.Identifier(table), later))


# --- Processes, of the code in a directory ----------------------------------------------------------


class Process:
    """One, with its log."""

    def __init__(self, code, name, module, environment):
        self.log_file = pathlib.Path(environment["LOGS"]) / f"{name}.log"
        with self.log_file.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *module],
                cwd=code,
                env=environment | told(code),
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def log(self):
        return self.log_file.read_text(errors="replace")

    def await_log(self, words):
        """Wait until it has said so."""
        waiting.until(lambda: words in self.log or self.process.poll() is not None, words, seconds=120)
        assert self.process.poll() is None, self.log[-3000:]

    def drain(self):
        """Ask it to go, and wait until it has ended what it was at: its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(90)

    def kill(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(30)


def told(code):
    """What makes a process run that code, and nothing of the tests."""
    return {
        "PYTHONPATH": str(code),
        "DJANGO_SETTINGS_MODULE": "saga_project.settings",
        "PYTHONUNBUFFERED": "1",
    }


@contextlib.contextmanager
def worker(code, name, environment):
    """A worker for all queues, which sweeps."""
    module = [
        "celery", "--app=saga_project", "--no-color", "worker", f"--queues={QUEUES}", "--concurrency=3",
        "--beat", f"--schedule={environment['LOGS']}/beat-{name}", "--loglevel=INFO",
        "--without-gossip", "--without-mingle", f"--hostname={name}@upgrade",
    ]  # fmt: skip
    process = Process(code, name, module, environment)
    try:
        yield process
    finally:
        process.kill()


@contextlib.contextmanager
def web(code, name, environment, port):
    """A web server."""
    module = ["saga_project.web", f"--port={port}", "--workers=1"]
    process = Process(code, name, module, environment | {"WEB_THREADS": "4"})
    try:
        yield process
    finally:
        process.kill()


def manage(code, environment, *arguments):
    """A command of that code, to its end: what it says."""
    done = run(code, environment, *arguments)
    assert done.returncode == 0, f"{arguments} of {code}: {done.stdout}{done.stderr}"
    return done.stdout


def run(code, environment, *arguments, patience_s=180):
    """The same, however it ends."""
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=code, env=environment | told(code), capture_output=True, text=True, timeout=patience_s,
    )  # fmt: skip


class Client:
    """A customer's shop: it orders, and looks what became of it."""

    def __init__(self, port, token):
        self.http = httpx.Client(
            base_url=f"http://127.0.0.1:{port}/api/v1",
            headers={"Authorization": f"Token {token}"},
            timeout=30,
        )

    def answers(self):
        with contextlib.suppress(httpx.TransportError):
            return self.http.get("/orders", params={"limit": 1}).status_code == 200
        return False

    def order(self, reference, **how):
        """Order a mug, again under the same key while a migration holds a lock; the answer must be yes."""
        return waiting.until(lambda: self._try_to_order(reference, dict(how)), reference)

    def _try_to_order(self, reference, how):
        tax_id, postal_code = how.pop("tax_id", "529.982.247-25"), how.pop("postal_code", "01310-100")
        answer = self.http.post(
            "/orders",
            headers={"Idempotency-Key": reference},
            json={
                "customer": {"name": "Ana Souza", "email": "ana@example.com", "tax_id": tax_id},
                "lines": [{"sku": "MUG-STONEWARE", "quantity": 1}],
                "payment": how or {"method": "card", "token": "tok_ok"},
                "shipping_address": {
                    "recipient": "Ana Souza", "street": "Rua das Flores", "number": "12-A",
                    "city": "São Paulo", "state": "SP", "postal_code": postal_code, "country": "BR",
                },
                "reference": reference,
            },
        )  # fmt: skip
        if answer.status_code == 503 and answer.json()["type"].endswith("/busy"):
            return None
        assert answer.status_code in (200, 201, 202), answer.text
        return answer.json()

    def statuses(self):
        """What became of each order, by its reference."""
        found, page = {}, "/orders?limit=100"
        while page:
            shown = self.http.get(page).json()
            found |= {order["reference"]: order["status"] for order in shown["results"]}
            page = shown["next"]
        return found
