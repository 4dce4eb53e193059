"""The two systems that are compared, and what the servers count."""

from collections.abc import Sequence
from typing import Any

import redis
from django.conf import settings
from django.db import connection, transaction

from benchmarks.shop import models, saga, tasks
from sagas import engine
from sagas import models as rows


class Floor:
    """A plain Celery chain."""

    name = "floor"

    def submit(self, order: str) -> None:
        """Publish its chain."""
        tasks.start(order)

    def ended(self, prefix: str) -> int:
        """Shipped, or refunded."""
        shipped = models.Shipment.objects.filter(key__startswith=prefix).count()
        return shipped + models.Payment.objects.filter(key__startswith=prefix, refunded=True).count()


class Ours:
    """A saga."""

    name = "ours"

    def submit(self, order: str) -> None:
        """Begin it, in a transaction as one does."""
        with transaction.atomic():
            engine.begin(saga.ORDER, key=order, inputs={"order": order}, actor="bench")

    def submit_many(self, orders: Sequence[str]) -> None:
        """Begin many, a few hundred in each transaction."""
        for first in range(0, len(orders), 300):
            with transaction.atomic():
                items = [(order, {"order": order}) for order in orders[first : first + 300]]
                engine.begin_many(saga.ORDER, items, actor="bench")

    def ended(self, prefix: str) -> int:
        """Completed, or compensated."""
        return rows.SagaInstance.objects.filter(key__startswith=prefix, finished_at__isnull=False).count()


def counters() -> dict[str, float]:
    """Statements and transactions of PostgreSQL and commands of Valkey, without those that only look."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT coalesce(sum(calls), 0) FROM pg_stat_statements"
            " WHERE query NOT LIKE '%%COUNT(%%' AND query NOT LIKE '%%pg_stat%%'"
        )
        (statements,) = cursor.fetchone()
        cursor.execute(
            "SELECT coalesce(sum(calls), 0) FROM pg_stat_statements WHERE query ~* '^(commit|rollback)'"
        )
        (transactions,) = cursor.fetchone()
    stats: dict[str, Any] = _broker().info("commandstats")
    commands = sum(command["calls"] for name, command in stats.items() if not name.startswith("cmdstat_info"))
    return {
        "statements": float(statements),
        "transactions": float(transactions),
        "broker_commands": float(commands),
    }


def listening() -> int:
    """How many workers' processes there are: each holds a connection open once it has done anything."""
    from saga_project.celery import app

    replies = app.control.inspect(timeout=1).stats() or {}
    return sum(len(reply["pool"]["processes"]) for reply in replies.values())


def _broker() -> Any:
    return redis.Redis.from_url(settings.CELERY_BROKER_URL)
