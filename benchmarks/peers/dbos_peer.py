"""DBOS: a workflow of four steps, each a transaction of its own datasource, and its compensation in Python.

A datasource's transaction commits the statement together with the record that the step is done: exactly once.
The queue is polled twenty times a second; by default it is once.

    python -m benchmarks.peers.dbos_peer prepare | work | submit
"""

import os
import sys
import threading
import urllib.parse

import sqlalchemy as sa
from dbos import DBOS, DBOSClient, SQLAlchemyDatasource

from benchmarks.peers import submitter

QUEUE = "orders"
POLLS_EVERY_S = 0.05
AT_ONCE = 8
"""Workflows of one worker, each in a thread."""


class Refused(Exception):
    """The carrier does not go there."""


def address() -> str:
    """DATABASE_URL in SQLAlchemy's spelling, which wants a socket's directory among the options."""
    url = urllib.parse.urlsplit(os.environ["DATABASE_URL"])
    place, _, port = url.netloc.rpartition("@")[2].rpartition(":")
    options = urllib.parse.urlencode({"host": urllib.parse.unquote(place), "port": port})
    return f"postgresql://{url.username}@{url.path}?{options}"


def main(what: str) -> None:
    """Make the tables, work, or submit."""
    if what == "submit":
        client = DBOSClient(system_database_url=address())
        submitter.serve(
            lambda name: client.enqueue(
                {"queue_name": QUEUE, "workflow_name": "order", "workflow_id": name, "app_version": "1"}, name
            )
        )
        return
    DBOS(
        config={
            "name": "peer",
            "system_database_url": address(),
            "application_version": "1",
            "executor_id": str(os.getpid()),
            "log_level": "ERROR",
            "max_executor_threads": AT_ONCE,
        }
    )
    _declare(SQLAlchemyDatasource.create(address()))
    DBOS.launch()
    DBOS.register_queue(QUEUE, worker_concurrency=AT_ONCE, polling_interval_sec=POLLS_EVERY_S)
    if what == "work":
        threading.Event().wait()
    DBOS.destroy()


def _declare(shop: SQLAlchemyDatasource) -> None:
    def step(name: str, statement: str) -> object:
        @shop.transaction(name=name, isolation_level="READ COMMITTED")
        def run(order: str) -> None:
            if name == "dispatch" and order.endswith("-refused"):
                raise Refused(order)
            shelf = sum(order.encode()) % 100
            shop.sql_session().execute(sa.text(statement), {"key": order, "shelf": shelf})

        return run

    # As the ORM writes them for the others.
    charge = step("charge", "INSERT INTO shop_payment (key, amount, refunded) VALUES (:key, 100, false)")
    refund = step("refund", "UPDATE shop_payment SET refunded = true WHERE key = :key")
    reserve = step(
        "reserve",
        "UPDATE shop_stock SET available = available - 1 WHERE sku = :shelf AND available > 0 AND :key > ''",
    )
    release = step(
        "release", "UPDATE shop_stock SET available = available + 1 WHERE sku = :shelf AND :key > ''"
    )
    issue = step("issue", "INSERT INTO shop_invoice (key, cancelled) VALUES (:key, false)")
    cancel = step("cancel", "UPDATE shop_invoice SET cancelled = true WHERE key = :key")
    dispatch = step("dispatch", "INSERT INTO shop_shipment (key) VALUES (:key)")

    @DBOS.workflow(name="order")
    def order(name: str) -> None:
        undos = []
        try:
            for action, undo in ((charge, refund), (reserve, release), (issue, cancel)):
                action(name)
                undos.append(undo)
            dispatch(name)
        except Refused:
            for undo in reversed(undos):
                undo(name)


if __name__ == "__main__":
    main(sys.argv[1])
