"""What is only ever appended to, or never deleted, stays: TRUNCATE is refused like DELETE, whoever asks."""

import pytest
from django.db import DatabaseError, connection, transaction

pytestmark = pytest.mark.django_db

KEPT = {
    "sagas_archive",
    "sagas_event",
    "payments_operation",
    "inventory_movement",
    "shipping_trackingevent",
    "invoicing_invoice",
    "orders_erasure",
}

BEFORE, DELETES, TRUNCATES = 2, 8, 32
"""Bits of pg_trigger.tgtype."""


def tables_with_a_trigger(what):
    """Tables of ours with a trigger before that, which can refuse it."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT relname FROM pg_trigger JOIN pg_class c ON c.oid = tgrelid"
            # Of the archive's partitions each has its own; another test sees to them.
            " WHERE NOT tgisinternal AND NOT relispartition AND tgenabled = 'O' AND tgtype & %s = %s",
            [BEFORE | what, BEFORE | what],
        )
        return {name for (name,) in cursor.fetchall()}


def test_every_table_that_keeps_its_rows_is_one_of_these():
    assert tables_with_a_trigger(DELETES) == tables_with_a_trigger(TRUNCATES) == KEPT


@pytest.mark.parametrize("table", sorted(KEPT))
def test_a_table_that_keeps_its_rows_cannot_be_truncated(table):
    with pytest.raises(DatabaseError, match="TRUNCATE is refused"), transaction.atomic():
        execute(f"TRUNCATE {table} CASCADE")


@pytest.mark.parametrize(
    "parent", ["sagas_saga", "payments_payment", "inventory_product", "shipping_shipment"]
)
def test_nor_can_a_table_that_it_refers_to(parent):
    with pytest.raises(DatabaseError, match="TRUNCATE is refused"), transaction.atomic():
        execute(f"TRUNCATE {parent} CASCADE")


def execute(sql):
    with connection.cursor() as cursor:
        cursor.execute(sql)
