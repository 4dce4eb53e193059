"""Whether this process lives, and whether it can do its work."""

import contextlib
import socket

from django import http
from django.conf import settings
from django.db import Error, connection
from django.db.migrations import executor
from django.views.decorators import cache, csrf
from django.views.decorators import http as methods

from saga_project import broker
from sagas import database, models
from sagas.console import health as engine_health
from sagas.dbrules import halves

TIMEOUT_S = 1.0


@cache.never_cache
@csrf.csrf_exempt
@methods.require_safe
def live(request: http.HttpRequest) -> http.HttpResponse:
    """Answer 200: a process that does not answer is to be restarted."""
    return http.JsonResponse({"status": "ok"})


@cache.never_cache
@csrf.csrf_exempt
@methods.require_safe
def ready(request: http.HttpRequest) -> http.HttpResponse:
    """It can take orders: 503 while the database is away, takes no writes, or is not migrated.

    Without the broker it still can: orders are written down, and worked on when the broker is back. A
    missing broker is said, as `degraded`, and does not take this process out of rotation. Neither does it
    that nobody sweeps, so that what is lost is not sent again.
    """
    checks = {"database": _database(), "migrations": "unknown", "broker": _broker(), "sweep": "unknown"}
    if checks["database"] == "ok":
        checks["migrations"] = _migrations()
    able = checks["database"] == checks["migrations"] == "ok"
    if able:
        checks["sweep"] = _sweep()
    well = checks["broker"] == checks["sweep"] == "ok"
    status = "unavailable" if not able else "ok" if well else "degraded"
    return http.JsonResponse({"status": status, "checks": checks}, status=200 if able else 503)


def _database() -> str:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SHOW transaction_read_only")
            (read_only,) = cursor.fetchone()
    except Error as error:
        database.let_go(error)
        return "unreachable"
    if read_only == "on":
        # A standby, which was the primary when this connection was made: the next one looks for the primary.
        connection.close()
        return "read-only"
    return "ok"


_migrated = False


def _migrations() -> str:
    # Once they are applied they stay applied, so the question is asked until it is answered with yes.
    global _migrated
    if not _migrated:
        found = executor.MigrationExecutor(connection)
        graph = found.loader.graph
        unapplied = [migration for migration, _ in found.migration_plan(graph.leaf_nodes())]
        # What waits until no process runs the version before keeps this one from nothing.
        _migrated = not halves.split(graph, unapplied)[0]
    return "ok" if _migrated else "pending"


def _sweep() -> str:
    """Whether the sweep ran lately."""
    swept = engine_health.swept(models.database_now())
    return "never" if swept is None else "late" if engine_health.is_late(swept) else "ok"


def _broker() -> str:
    """Whether something listens where the broker should be: at one of its addresses."""
    for host in broker.parse(settings.CELERY_BROKER_URL, master=settings.BROKER.master).hosts():
        with contextlib.suppress(OSError), socket.create_connection(host, timeout=TIMEOUT_S):
            return "ok"
    return "unreachable"
