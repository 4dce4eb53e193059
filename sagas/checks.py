"""System checks: a wrong declaration is `sagas.E00n` with a hint, not an error at three in the morning."""

from collections.abc import Sequence
from typing import Any

from django.core import checks
from django.db import connections

from sagas import models, registry, states


def check_declarations(**_: Any) -> list[checks.CheckMessage]:
    """Report every declaration that was refused at import (E001 to E010), and doubtful ones (W001)."""
    found: list[checks.CheckMessage] = [
        checks.Error(problem.message, hint=problem.hint, obj=bad.name, id=problem.id)
        for bad in registry.refused
        for problem in bad.problems
    ]
    found += [
        checks.Warning(
            f"{step.name} is undone with less patience than it is done.",
            hint="An undo must succeed in the end: give undo_retry at least as many attempts.",
            obj=saga.name,
            id="sagas.W001",
        )
        for saga in registry.everything()
        for step in saga.steps
        if step.undo and saga.retry_of(step, undo=True).attempts < saga.retry_of(step, undo=False).attempts
    ]
    return found


def check_live_versions(databases: Sequence[str] | None = None, **_: Any) -> list[checks.CheckMessage]:
    """Report live instances whose version is no longer declared, or declared otherwise (E011)."""
    if not databases or models.SagaInstance._meta.db_table not in _tables(databases[0]):
        return []
    declared = {(saga.name, saga.version): saga.fingerprint for saga in registry.everything()}
    live = (
        models.SagaInstance.objects.using(databases[0])
        .filter(state__in=states.LIVE, closed_at=None)
        .values_list("name", "version", "fingerprint")
        .distinct()
    )
    return [
        checks.Error(
            f"Live instances began with {name} version {version}, which is no longer declared as it was.",
            hint="Keep the old declaration beside the new one until none of its instances is live.",
            obj=name,
            id="sagas.E011",
        )
        for name, version, fingerprint in live
        if declared.get((name, version)) != fingerprint
    ]


def _tables(database: str) -> list[str]:
    """The tables that are there: before the first migration there are none to look into."""
    return connections[database].introspection.table_names()
