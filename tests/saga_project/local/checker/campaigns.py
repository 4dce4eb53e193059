"""The recorded campaign: in a database without any constraint, so that every fault can be planted in it."""

import contextlib
import json
import pathlib
import uuid
from collections.abc import Iterator
from typing import Any

import psycopg
from psycopg import conninfo

from saga_project.local.checker import books, history, report, rows, world
from tests.saga_project.local.checker import record

Json = dict[str, Any]


@contextlib.contextmanager
def database(server: str) -> Iterator[str]:
    """A database of its own on that server, with the recorded rows; gone at the end."""
    name = f"checker_{uuid.uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
        try:
            place = conninfo.make_conninfo(server, dbname=name)
            with psycopg.connect(place) as empty:
                _load(empty)
            yield place
        finally:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def _load(connection: psycopg.Connection[Any]) -> None:
    recorded = json.loads((record.HERE / "tables.json").read_text())
    for table, content in recorded.items():
        columns = ", ".join(f'"{name}" {kind}' for name, kind in content["columns"].items())
        connection.execute(f"CREATE TABLE {table} ({columns})")
        connection.execute(
            f"INSERT INTO {table} SELECT * FROM jsonb_populate_recordset(NULL::{table}, %s::jsonb)",
            [json.dumps(content["rows"])],
        )


class Campaign:
    """What is known of a campaign, where a test may change all of it; nothing of that is kept.

    Arguments:
        connection: to a database with the rows, in a transaction that is rolled back.
        place: a directory for the files.
    """

    def __init__(self, connection: psycopg.Connection[Any], place: pathlib.Path) -> None:
        self.connection = connection
        self.place = place
        text = (record.HERE / "history.jsonl").read_text()
        self.lines: list[Json] = [json.loads(line) for line in text.splitlines()]
        self.books: Json = json.loads((record.HERE / "books.json").read_text())

    def check(self) -> report.Report:
        """What the checker says of it as it stands now."""
        self.write()
        known = history.read(self.place / "history.jsonl")
        found = rows.read_from(self.connection)
        return report.judge(world.World(known, found, books.read(self.place)))

    def write(self) -> None:
        """Write the files."""
        text = "".join(json.dumps(line) + "\n" for line in self.lines)
        (self.place / "history.jsonl").write_text(text)
        (self.place / books.BOOKS).write_text(json.dumps(self.books))

    # --- What a fault is planted in ---------------------------------------------------------------

    def sql(self, text: str, *parameters: Any) -> None:
        """Change rows: at least one, or the fault would not be planted."""
        assert self.connection.execute(text, parameters).rowcount > 0, text

    def saga(self, fate: str) -> str:
        """The saga of the order with that fate."""
        row = self.connection.execute(
            "SELECT o.saga_id::text FROM orders_order o JOIN api_idempotencykey k"
            " ON convert_from(k.body, 'UTF8')::json ->> 'id' = o.id::text WHERE k.key = %s",
            [self.key(fate)],
        ).fetchone()
        assert row, fate
        saga_id: str = row[0]
        return saga_id

    def key(self, fate: str) -> str:
        """The client's key of the order with that fate."""
        number = [one.name for one in record.everybody()].index(fate)
        return f"recorded-{number}"

    def told(self, fate: str) -> list[Json]:
        """What the client wrote down of its requests for that order."""
        return [line for line in self.lines if line["key"] == self.key(fate) and "request" in line]

    def held(self, kind: str, fate: str) -> Json:
        """The first entry in the providers' books about that order."""
        found: Json = next(one for one in self.books[kind] if one["key"].startswith(self.saga(fate)))
        return found
