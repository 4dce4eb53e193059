"""The books: one SQLite file that outlives the process, however it ends."""

import collections.abc
import contextlib
import datetime
import pathlib
import sqlite3
import threading
import time

SCHEMA = """
CREATE TABLE IF NOT EXISTS charges (
    key TEXT PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    fingerprint TEXT NOT NULL,
    method TEXT NOT NULL CHECK (method IN ('card', 'pix')),
    token TEXT,
    status TEXT NOT NULL
        CHECK (status IN ('captured', 'pending', 'cancelled', 'refunded', 'expired', 'declined')),
    amount INTEGER NOT NULL CHECK (amount > 0),
    currency TEXT NOT NULL,
    captured INTEGER NOT NULL DEFAULT 0 CHECK (captured IN (0, amount)),
    refunded INTEGER NOT NULL DEFAULT 0 CHECK (refunded BETWEEN 0 AND captured),
    copy_paste TEXT,
    expires_at REAL,
    created_at REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS refunds (
    idempotency_key TEXT PRIMARY KEY,
    charge TEXT NOT NULL REFERENCES charges (key),
    amount INTEGER NOT NULL CHECK (amount > 0),
    created_at REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS invoices (
    key TEXT PRIMARY KEY,
    fingerprint TEXT NOT NULL,
    series INTEGER NOT NULL,
    number INTEGER NOT NULL,
    access_key TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL CHECK (kind IN ('sale', 'return')),
    refers_to TEXT,
    total INTEGER NOT NULL CHECK (total > 0),
    currency TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('authorized', 'cancelled')),
    protocol TEXT NOT NULL UNIQUE,
    authorized_at REAL NOT NULL,
    UNIQUE (series, number)
);
CREATE INDEX IF NOT EXISTS invoices_refers_to ON invoices (refers_to);
CREATE TABLE IF NOT EXISTS voided_numbers (
    series INTEGER NOT NULL,
    number INTEGER NOT NULL,
    reason TEXT NOT NULL,
    voided_at REAL NOT NULL,
    PRIMARY KEY (series, number)
);
CREATE TABLE IF NOT EXISTS shipments (
    key TEXT PRIMARY KEY,
    fingerprint TEXT NOT NULL,
    postal_code TEXT NOT NULL,
    reference TEXT NOT NULL,
    tracking TEXT NOT NULL UNIQUE,
    parcels INTEGER NOT NULL DEFAULT 1,
    status TEXT NOT NULL
        CHECK (status IN ('booked', 'handed_over', 'delivered', 'failed', 'recalled', 'returned')),
    handed_over_at REAL,
    booked_at REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS shipments_reference ON shipments (reference);
CREATE TABLE IF NOT EXISTS tombstones (
    provider TEXT NOT NULL CHECK (provider IN ('bank', 'fiscal', 'carrier')),
    key TEXT NOT NULL,
    at REAL NOT NULL,
    PRIMARY KEY (provider, key)
);
CREATE TABLE IF NOT EXISTS failures (
    what TEXT NOT NULL,
    key TEXT NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (what, key)
);
CREATE TABLE IF NOT EXISTS agenda (
    entry INTEGER PRIMARY KEY,
    at REAL NOT NULL,
    what TEXT NOT NULL,
    key TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS agenda_at ON agenda (at);
CREATE TABLE IF NOT EXISTS webhooks (
    id TEXT PRIMARY KEY,
    type TEXT NOT NULL,
    key TEXT NOT NULL,
    path TEXT NOT NULL,
    body TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('queued', 'delivered', 'dropped', 'given_up')),
    copies INTEGER NOT NULL DEFAULT 1,
    attempts INTEGER NOT NULL DEFAULT 0,
    next_at REAL,
    last TEXT,
    occurred_at REAL NOT NULL,
    delivered_at REAL
);
CREATE INDEX IF NOT EXISTS webhooks_due ON webhooks (next_at) WHERE state = 'queued';
"""
CHANGES = (
    "ALTER TABLE shipments ADD COLUMN parcels INTEGER NOT NULL DEFAULT 1",
    "ALTER TABLE tombstones RENAME COLUMN house TO provider",
)
"""What books of an older version lack."""

TABLES = (
    "refunds",  # First, for it refers to charges.
    "charges",
    "invoices",
    "voided_numbers",
    "shipments",
    "tombstones",
    "failures",
    "agenda",
    "webhooks",
)


class Books:
    """The one connection to the file and the one lock before it.

    Work under the lock takes well under a millisecond, so a queue before it is shorter than what
    SQLite's own busy waiting would cost a crowd.
    """

    def __init__(self, folder: pathlib.Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(
            folder / "books.sqlite3", timeout=0.5, isolation_level=None, check_same_thread=False
        )
        self._connection.row_factory = sqlite3.Row
        # Exclusive: of two processes that write the same books neither would know what the other did.
        self._connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        self._connection.execute("PRAGMA journal_mode = WAL")
        # A killed process loses nothing; only a power cut may cost the last moments.
        self._connection.execute("PRAGMA synchronous = NORMAL")
        self._connection.execute("PRAGMA foreign_keys = ON")
        self._connection.executescript(SCHEMA)
        for change in CHANGES:
            with contextlib.suppress(sqlite3.OperationalError):  # These books have it already.
                self._connection.execute(change)
        self.listeners: list[threading.Event] = []
        """Set after every change: who waits for work looks again."""

    @contextlib.contextmanager
    def transaction(self) -> collections.abc.Iterator[sqlite3.Connection]:
        """All of it is written, or, if an exception leaves the block, nothing."""
        with self._lock:
            before = self._connection.total_changes
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")
            changed = self._connection.total_changes != before
        if changed:
            for listener in self.listeners:
                listener.set()

    def clear(self) -> None:
        """Begin anew with empty books."""
        with self.transaction() as page:
            for table in TABLES:
                page.execute(f"DELETE FROM {table}")  # noqa: S608 - The names are the constants above.

    def close(self) -> None:
        """Write everything to the one file and close it for good.

        The lock is kept: a thread that still wants something waits for the end of the process, for
        its failing on closed books would look like a fault.
        """
        self._lock.acquire()
        self._connection.close()


def bury(page: sqlite3.Connection, provider: str, key: str) -> None:
    """Leave a tombstone: whatever comes under this key later is refused (E4, E5)."""
    page.execute("INSERT OR IGNORE INTO tombstones VALUES (?, ?, ?)", (provider, key, time.time()))


def buried(page: sqlite3.Connection, provider: str, key: str) -> bool:
    """Whether the undo came first."""
    found = page.execute("SELECT 1 FROM tombstones WHERE provider = ? AND key = ?", (provider, key))
    return found.fetchone() is not None


def fail_first(page: sqlite3.Connection, times: int, what: str, key: str) -> bool:
    """Whether this attempt is among the first `times`, which fail."""
    row = page.execute("SELECT count FROM failures WHERE what = ? AND key = ?", (what, key)).fetchone()
    count = row["count"] if row else 0
    if count >= times:
        return False
    page.execute("INSERT OR REPLACE INTO failures VALUES (?, ?, ?)", (what, key, count + 1))
    return True


def plan(page: sqlite3.Connection, at: float, what: str, key: str) -> None:
    """Put on the agenda what the clock shall do by itself."""
    page.execute("INSERT INTO agenda (at, what, key) VALUES (?, ?, ?)", (at, what, key))


def last(page: sqlite3.Connection, table: str) -> int:
    """The highest number of a row in a table; 0 if there is none."""
    row = page.execute(f"SELECT coalesce(max(rowid), 0) AS last FROM {table}").fetchone()  # noqa: S608 - As above.
    return int(row["last"])


def iso(at: float) -> str:
    """A time as JSON has it."""
    moment = datetime.datetime.fromtimestamp(at, datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
