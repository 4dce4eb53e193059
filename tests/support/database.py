"""This test's database: told to the processes that a test starts, and emptied after it."""

import os
from collections.abc import Callable
from typing import Any

from django.contrib.auth import models as auth
from django.core.management import color
from django.db import connection, transaction
from django.test import TransactionTestCase

from tests.postgres import base

ROLES = {"auth_group", "auth_group_permissions"}
"""What the engine's console fills after its migrations, and administrators change."""


def environment(**more: str) -> dict[str, str]:
    """The environment of such a process: our own, this worker's test database, and what else it needs."""
    settings = connection.settings_dict
    place = str(settings["HOST"]).replace("/", "%2F")
    url = f"postgresql://{settings['USER']}@{place}:{settings['PORT']}/{settings['NAME']}"
    return {**os.environ, "DATABASE_URL": url, **more}


def empty_anew(*tables: str) -> None:
    """Delete these tables' rows by a new session, which is left to the next test.

    It knows these tables then: to learn of them costs as much as a short test. Nothing else is kept in it,
    neither a setting nor a plan.
    """
    connection.close()
    empty(*tables)


def empty(*tables: str) -> None:
    """Delete all rows of these tables, past the triggers that refuse to: nobody else may."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        # A test leaves few rows; TRUNCATE makes new files of every table and of its indexes.
        cursor.execute(base.emptying(tables))


def flush() -> Callable[[Any], None]:
    """What Django does after a transactional test, in less time than such a test takes.

    Django empties the tables, and then makes content types, permissions and roles as after a migration. Here
    they stay, and roles that a test has changed are put back. To be called when the database is as new.
    """
    tables = connection.introspection.django_table_names(only_existing=True, include_views=False)
    statements = connection.ops.sql_flush(color.no_style(), [name for name in tables if name not in ROLES])
    before = _roles()

    def flush(case: TransactionTestCase) -> None:
        connection.ops.execute_sql_flush(statements)
        if _roles() != before:
            groups, permissions = before
            with transaction.atomic():
                auth.Group.objects.all().delete()
                auth.Group.objects.bulk_create(auth.Group(**one) for one in groups)
                May.objects.bulk_create(May(**one) for one in permissions)

    return flush


May = auth.Group.permissions.through


def _roles() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    return list(auth.Group.objects.order_by("pk").values()), list(May.objects.order_by("pk").values())
