"""Migrations in two halves, so that the code of the version before runs on the schema of the next one.

`0031_pre_x` only adds what the old code does not notice; it is applied while that code runs. `0032_post_x`
takes away, renames or tightens; it is applied when no process runs the old code any more. The names are those
of procrastinate, https://procrastinate.readthedocs.io/en/stable/howto/production/migrations.html.
"""

import re
from collections.abc import Iterable

from django.db.migrations import Migration
from django.db.migrations.graph import MigrationGraph

NAMED = re.compile(r"^\d{4}_(?P<half>pre|post)_")
"""How the name of a migration says which half it is."""


def is_post(name: str) -> bool:
    """Whether a migration of that name wants that no process runs the version before any more."""
    named = NAMED.match(name)
    return named is not None and named["half"] == "post"


def split(graph: MigrationGraph, plan: Iterable[Migration]) -> tuple[list[Migration], list[Migration]]:
    """What of a plan may be applied while the version before runs, and what waits for its end.

    Arguments:
        graph: of all migrations.
        plan: those that are to be applied, in their order.

    Returns:
        Both, in their order. One that builds on a post half waits with it, whatever its name.
    """
    now: list[Migration] = []
    later: list[Migration] = []
    waits: set[tuple[str, str]] = set()
    for migration in plan:
        key = (migration.app_label, migration.name)
        above = {parent.key for parent in graph.node_map[key].parents}
        if is_post(migration.name) or above & waits:
            waits.add(key)
            later.append(migration)
        else:
            now.append(migration)
    return now, later
