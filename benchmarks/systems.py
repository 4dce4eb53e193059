"""The systems that are compared, and what became of the orders that they were given."""

import dataclasses
from typing import Any, Protocol

from benchmarks import measuring, teams

STEPS = 4
REFUSED = "-refused"
"""The end of an order's name whose last step is refused."""

UNDONE = 3
"""Steps that are undone then."""


class System(Protocol):
    """Something that orders can be given to."""

    name: str
    steps: int
    """How many steps an order has."""

    def start(self, field: teams.Field) -> None:
        """Start its processes."""

    def submit(self, order: str) -> None:
        """Give it an order."""

    def left(self, looker: measuring.Looker, prefix: str, orders: int) -> int:
        """How many of so many orders with that prefix have not ended yet."""


def everybody() -> list[System]:
    """The two floors, the one that is as people write it first, and ours."""
    return [Plain(), Floor(), Ours()]


class _Chain:
    """A system whose orders end with a row of the shop."""

    steps = STEPS

    def left(self, looker: measuring.Looker, prefix: str, orders: int) -> int:
        """Those that are neither shipped nor refunded."""
        ended = looker.one(
            "SELECT (SELECT count(DISTINCT key) FROM shop_shipment WHERE key LIKE %(key)s)"
            "     + (SELECT count(DISTINCT key) FROM shop_payment WHERE refunded AND key LIKE %(key)s)",
            {"key": f"{prefix}%"},
        )
        return orders - int(ended)


class Plain(_Chain):
    """A Celery chain on an application with Celery's defaults."""

    name = "plain"

    def start(self, field: teams.Field) -> None:
        """As the documentation of Celery says: no option but how many processes."""
        from benchmarks.shop import plain

        commands = [teams.worker("benchmarks.shop.plain", f"plain-{one}") for one in range(teams.WORKERS)]
        # In the environment, too, where `celery` itself looks for a broker before it asks the application.
        field.enlist(
            self.name,
            commands,
            DJANGO_SETTINGS_MODULE="benchmarks.plain_settings",
            BROKER_URL=plain.BROKER_URL,
        )
        self.app = plain.app

    def submit(self, order: str) -> None:
        """Publish its chain."""
        from benchmarks.shop import plain

        plain.CHAIN.start(order)


class Floor(_Chain):
    """The same chain on this project's application, with its settings."""

    name = "floor"

    def start(self, field: teams.Field) -> None:
        """Workers with the options that ours have."""
        from benchmarks.shop import tasks

        field.enlist(self.name, [_ours(f"floor-{one}", tasks.QUEUE) for one in range(teams.WORKERS)])

    def submit(self, order: str) -> None:
        """Publish its chain."""
        from benchmarks.shop import tasks

        tasks.CHAIN.start(order)


class Ours:
    """A saga, with its sweep."""

    name = "ours"
    steps = STEPS

    def start(self, field: teams.Field) -> None:
        """Workers for its steps, the engine's own tasks and the sweep; and a clock."""
        from sagas import conf

        queues = ",".join(["benchmarks", conf.ENGINE_QUEUE, conf.SWEEP_QUEUE])
        commands = [_ours(f"ours-{one}", queues) for one in range(teams.WORKERS)]
        clock = [*teams.CELERY, "-A", "saga_project", "beat", "-s", str(field.place / "beat"), "-l", "ERROR"]
        field.enlist(self.name, [*commands, clock])

    def submit(self, order: str) -> None:
        """Begin it, in a transaction as one does."""
        from django.db import transaction

        from benchmarks.shop import saga
        from sagas import engine

        with transaction.atomic():
            engine.begin(saga.ORDER, key=order, inputs={"order": order}, actor="bench")

    def left(self, looker: measuring.Looker, prefix: str, orders: int) -> int:
        """Those whose saga has no end: it has one once the last action is committed, for they are one."""
        return int(
            looker.one(
                "SELECT count(*) FROM sagas_saga WHERE name = %s AND key LIKE %s"
                "   AND finished_at IS NULL AND closed_at IS NULL",
                ["bench", f"{prefix}%"],
            )
        )


def _ours(name: str, queues: str) -> list[str]:
    return teams.worker("saga_project", name, "-Q", queues, "--without-gossip", "--without-mingle")


NAMED = """(
    SELECT row.*, row.xmin AS version, coalesce(saga.key, row.key) AS name FROM {table} AS row
    LEFT JOIN sagas_saga AS saga
        ON saga.id = CASE WHEN row.key ~ '^[0-9a-f]{{8}}-' THEN split_part(row.key, '.', 1)::uuid END
)"""
"""The shop's rows with their orders' names: a chain's key is that name, a saga's begins with its id."""


def _named(table: str) -> str:
    return f"{NAMED.format(table=table)} AS {table}"


def ends(looker: measuring.Looker, prefix: str) -> dict[str, float]:
    """When each order that has ended did so: when the transaction of its last action was committed."""
    found = looker.rows(
        "SELECT name, extract(epoch FROM max(pg_xact_commit_timestamp(version)))::float FROM ("
        f" SELECT name, version FROM {_named('shop_shipment')} WHERE name LIKE %(name)s UNION ALL"
        f" SELECT name, version FROM {_named('shop_payment')} WHERE refunded AND name LIKE %(name)s"
        ") AS ended GROUP BY name",
        {"name": f"{prefix}%"},
    )
    return dict(found)


@dataclasses.dataclass(frozen=True)
class Books:
    """What the shop's rows say of the orders with a prefix, once nothing moves any more."""

    orders: int
    ended: int
    lost: int
    """Orders that neither were shipped nor had their money returned."""
    doubled: int
    """Payments, invoices and shipments beyond the first of an order."""
    turned_back: int
    """Orders that were turned back, and nobody had refused them."""
    off_the_shelf: int
    """Pieces that left the shelf and that no shipped order accounts for; of a lost order, perhaps its own."""

    @property
    def right(self) -> bool:
        """Whether each order came to exactly the end that it should."""
        return not (self.lost or self.doubled or self.turned_back or self.off_the_shelf)


def available(looker: measuring.Looker) -> int:
    """All pieces on all shelves."""
    return int(looker.one("SELECT sum(available) FROM shop_stock"))


def books(looker: measuring.Looker, prefix: str, *, orders: int, before: int) -> Books:
    """Count them.

    Arguments:
        looker: who looks.
        prefix: of the orders' names.
        orders: how many there were.
        before: what was on all shelves before.
    """
    name = {"name": f"{prefix}%", "refused": f"%{REFUSED}"}
    doubled = looker.one(
        "SELECT coalesce(sum(n - 1), 0) FROM ("
        + " UNION ALL ".join(
            f"(SELECT count(*) AS n FROM {_named(table)} WHERE name LIKE %(name)s GROUP BY name)"
            for table in ("shop_payment", "shop_invoice", "shop_shipment")
        )
        + ") AS counted",
        name,
    )
    turned_back = looker.one(
        f"SELECT count(DISTINCT name) FROM {_named('shop_payment')}"
        " WHERE refunded AND name LIKE %(name)s AND name NOT LIKE %(refused)s",
        name,
    )
    shipped = looker.one(
        f"SELECT count(DISTINCT name) FROM {_named('shop_shipment')} WHERE name LIKE %(name)s", name
    )
    done = len(ends(looker, prefix))
    return Books(
        orders=orders,
        ended=done,
        lost=orders - done,
        doubled=int(doubled),
        turned_back=int(turned_back),
        off_the_shelf=before - available(looker) - int(shipped),
    )


def doubled_events(looker: measuring.Looker, prefix: str) -> int:
    """By the events of our sagas: actions and undos that are recorded more than once."""
    return int(
        looker.one(
            "SELECT coalesce(sum(n - 1), 0) FROM ("
            " SELECT count(*) AS n"
            " FROM sagas_event AS event JOIN sagas_saga AS saga ON saga.id = event.saga_id"
            " WHERE saga.key LIKE %s AND event.kind IN ('step.done', 'undo.done')"
            " GROUP BY saga.id, event.subject, event.kind) AS counted",
            [f"{prefix}%"],
        )
    )


def between_records(looker: measuring.Looker, prefix: str) -> list[float]:
    """Milliseconds from the record of one step to that of the next, in our sagas with that prefix."""
    found = looker.rows(
        "SELECT extract(epoch FROM at - lag(at) OVER (PARTITION BY saga_id ORDER BY event.id))::float * 1000"
        " FROM sagas_event AS event JOIN sagas_saga AS saga ON saga.id = event.saga_id"
        " WHERE saga.key LIKE %s AND event.kind = 'step.done'",
        [f"{prefix}%"],
    )
    return [took for (took,) in found if took is not None]


def open_shop() -> None:
    """The tables of the shop and of the engine, and full shelves."""
    import django

    django.setup()
    from django.core import management

    from benchmarks.shop import models

    management.call_command("migrate", run_syncdb=True, verbosity=0)
    models.Stock.objects.bulk_create(models.Stock(sku=sku, available=1_000_000) for sku in range(100))


def start(field: teams.Field, systems: list[Any]) -> None:
    """Start the processes of these systems, and wait until all of them listen."""
    from saga_project.celery import app

    for system in systems:
        system.start(field)
    ours = [system for system in systems if system.name in ("floor", "ours")]
    size = teams.WORKERS * teams.CHILDREN
    own = [(system.app, size) for system in systems if hasattr(system, "app")]
    teams.ready(field, [(app, len(ours) * size), *own] if ours else own)
