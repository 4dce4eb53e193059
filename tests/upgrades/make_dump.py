"""`python -m tests.upgrades.make_dump COMMIT`: keeps a shop of an older version, for the test beside it.

COMMIT is that version's; the one that is kept is "Version 0.4.0", 95799ec. Run it in a clone that has the
commit, and commit what it writes into `v0_4_0/`:

1. `code.tar.xz`: the packages that a worker and a web server of then run.
2. `database.sql.xz`: pg_dump of a database that they wrote, with an order in each state that an upgrade may
   find; they were killed before it, so that attempts are under way of which nobody knows what came of them.
3. `books.sql.xz`: the books of the sandbox's providers at that moment.
4. `notes.json`: when that was, a customer's token (of a database that is thrown away), and what is to become
   of each order.
"""

import contextlib
import datetime
import io
import json
import lzma
import os
import pathlib
import sqlite3
import subprocess
import sys
import tarfile
import tempfile

import psycopg

from saga_project.local import servers, throwaway
from tests.sandbox import running as sandboxes
from tests.support import waiting
from tests.upgrades import kept

PACKAGES = [
    "manage.py", "api", "backoffice", "inventory", "invoicing", "orders", "payments", "providers",
    "saga_project", "sagas", "shipping", "webhooks",
]  # fmt: skip
NOT_NEEDED = {"locale", "static"}
"""Directories in them without which workers, the API and migrations run."""

TOKEN = (
    "from django.contrib.auth.models import User; from api import tokens;"
    "print(tokens.create(user=User.objects.create_user('customer'), name='kept', scope='customer')[1])"
)

ORDERS = {
    "declined": ({"method": "card", "token": "tok_declined"}, "cancelled"),
    "pix": ({"method": "pix"}, "fulfilled"),
    "delivery": ({}, "fulfilled"),
    "attention": ({"method": "card", "token": "tok_refund_refused", "tax_id": "000.000.001-91"}, "attention"),
    "retrying": ({"method": "card", "token": "tok_down"}, "cancelled"),
    "compensating": (
        {"method": "card", "token": "tok_refund_flaky", "tax_id": "000.000.001-91"},
        "cancelled",
    ),
    "charging": ({"method": "card", "token": "tok_slow"}, "fulfilled"),
    "placed": ({}, "fulfilled"),
}
"""How each is ordered, and what is to become of it after the upgrade."""


def main(commit: str) -> None:
    """Keep all four."""
    kept.PLACE.mkdir(exist_ok=True)
    _keep_code(commit)
    with tempfile.TemporaryDirectory() as temporary:
        place = pathlib.Path(temporary)
        code = kept.unpack(place / "code")
        # No parcel moves before the upgrade.
        with sandboxes.run(place / "books", CARRIER_PACE_S="86400") as sandbox:
            token, dump = _live(code, place, sandbox)
        made_at = datetime.datetime.now(datetime.UTC)
        with contextlib.closing(sqlite3.connect(place / "books" / "books.sqlite3")) as page:
            _write(kept.BOOKS, "\n".join(page.iterdump()))
    _write(kept.DATABASE, "\n".join(filter(_is_for_everybody, dump.splitlines())))
    kept.NOTES.write_text(
        json.dumps(
            {
                "commit": commit,
                "made_at": made_at.isoformat(),
                "token": token,
                "orders": {name: ends for name, (_, ends) in ORDERS.items()},
            },
            indent=2,
        )
        + "\n"
    )


def _live(code: pathlib.Path, place: pathlib.Path, sandbox: sandboxes.Sandbox) -> tuple[str, str]:
    """The shop of then, in business until it is killed: a customer's token, and the database as text."""
    environment = {
        **os.environ,
        "LOGS": str(place),
        "PAYMENTS_URL": f"{sandbox.url}/bank",
        "INVOICING_URL": f"{sandbox.url}/fiscal",
        "SHIPPING_URL": f"{sandbox.url}/carrier",
    }
    kept.manage(code, environment, "migrate", "--verbosity=0")
    kept.manage(code, environment, "seed_catalogue")
    token = kept.manage(code, environment, "shell", "-c", TOKEN).split()[-1]
    _write_orders(code, environment, token)
    dump = subprocess.run(
        [
            servers.postgres_binaries() / "pg_dump", "--inserts", "--rows-per-insert=100", "--no-owner",
            "--no-privileges", environment["DATABASE_URL"],
        ],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    return token, dump


def _write_orders(code: pathlib.Path, environment: dict[str, str], token: str) -> None:
    """Have the old processes work on all of them, and kill them where each stands as it is to be found."""
    port = servers.free_port()
    client = kept.Client(port, token)
    with kept.web(code, "web", environment, port), kept.worker(code, "worker", environment) as worker:
        waiting.until(client.answers, "the web server answers")
        worker.await_log(" ready.")

        def place(name: str, comes_to) -> None:
            order = client.order(name, **ORDERS[name][0])
            waiting.until(lambda: comes_to(client.http.get(f"/orders/{order['id']}").json()), name)

        def ended(order) -> bool:
            return order["status"] in ("fulfilled", "cancelled", "attention")

        place("declined", ended)
        place("attention", ended)
        for name in ("pix", "delivery"):
            client.order(name, **ORDERS[name][0])
        waiting.until(lambda: {"pix", "delivery"} <= _waiting(environment), "both wait")
        for name in ("compensating", "retrying"):
            client.order(name, **ORDERS[name][0])
        waiting.until(lambda: "compensating" in _in_state(environment, "compensating"), "it goes back")
        client.order("charging", **ORDERS["charging"][0])
        waiting.until(lambda: "charging" in _at_work(environment), "the bank is at it")
        worker.kill()
        client.order("placed")
        found = {
            "waiting": _waiting(environment), "compensating": _in_state(environment, "compensating"),
            "attention": _in_state(environment, "needs_attention"), "at work": _at_work(environment),
            "running": _in_state(environment, "running"),
        }  # fmt: skip
        print(json.dumps({name: sorted(which) for name, which in found.items()}, indent=2))
        assert found["waiting"] == {"pix", "delivery"}
        assert found["compensating"] == {"compensating"}
        assert found["attention"] == {"attention"}
        assert found["at work"] == {"charging"}
        assert found["running"] == {"pix", "delivery", "retrying", "charging", "placed"}


def _waiting(environment: dict[str, str]) -> set[str]:
    return _found(
        environment, "EXISTS (SELECT FROM sagas_step s WHERE s.saga_id = g.id AND s.state = 'waiting')"
    )


def _in_state(environment: dict[str, str], state: str) -> set[str]:
    return _found(environment, f"g.state = '{state}'")


def _at_work(environment: dict[str, str]) -> set[str]:
    return _found(
        environment, "EXISTS (SELECT FROM sagas_step s WHERE s.saga_id = g.id AND s.lease_until IS NOT NULL)"
    )


def _found(environment: dict[str, str], which: str) -> set[str]:
    """The references of the orders whose saga is such."""
    with psycopg.connect(environment["DATABASE_URL"]) as connection:
        rows = connection.execute(
            f"SELECT o.reference FROM orders_order o JOIN sagas_saga g ON g.id = o.saga_id WHERE {which}"
        )
        return {reference for (reference,) in rows.fetchall()}


def _keep_code(commit: str) -> None:
    whole = subprocess.run(["git", "archive", commit, *PACKAGES], capture_output=True, check=True).stdout
    with (
        tarfile.open(fileobj=io.BytesIO(whole)) as found,
        tarfile.open(kept.CODE, "w:xz", preset=9 | lzma.PRESET_EXTREME) as archive,
    ):
        for member in found:
            if not NOT_NEEDED & set(pathlib.PurePosixPath(member.name).parts):
                archive.addfile(member, found.extractfile(member) if member.isfile() else None)


def _is_for_everybody(line: str) -> bool:
    """Whether any PostgreSQL from 14 on takes the line, from any client."""
    return not line.startswith(("\\", "SET transaction_timeout"))


def _write(path: pathlib.Path, text: str) -> None:
    path.write_bytes(lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME))


if __name__ == "__main__":
    if throwaway.MARK not in os.environ or len(sys.argv) != 2:
        sys.exit(
            "Run it with servers of its own:"
            " python -m saga_project.local.throwaway python -m tests.upgrades.make_dump COMMIT"
        )
    main(sys.argv[1])
