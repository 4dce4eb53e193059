"""The database's rows at the end, by plain SQL in one snapshot: dictionaries, named as the columns are."""

import collections
import dataclasses
from collections.abc import Iterable
from typing import Any, LiteralString

import psycopg
from psycopg import rows as psycopg_rows

Row = dict[str, Any]

QUERIES: dict[str, LiteralString] = {
    "keys": (
        "SELECT key, convert_from(body, 'UTF8')::json ->> 'id' AS order_id FROM api_idempotencykey"
        " WHERE endpoint = 'POST /orders' AND body IS NOT NULL ORDER BY id"
    ),
    "orders": (
        "SELECT id::text, number, saga_id::text, reference, customer_name, customer_email, customer_tax_id,"
        " recipient, street, street_number, complement, district, city, state, postal_code, country,"
        " payment_method, total_amount, currency, fulfilled_at, cancelled_at, closed_at"
        " FROM orders_order ORDER BY id"
    ),
    "lines": (
        "SELECT order_id::text, sku, quantity, unit_amount, currency, ships FROM orders_orderline"
        " ORDER BY order_id, position"
    ),
    "sagas": (
        "SELECT id::text, key, version, state, failure, attention, cancel_requested_at, held_at, closed_at,"
        " created_at, finished_at FROM sagas_saga ORDER BY id"
    ),
    "steps": (
        "SELECT saga_id::text, position, name, state, attempts, undo_attempts, error"
        " FROM sagas_step ORDER BY saga_id, position"
    ),
    "events": (
        "SELECT id, saga_id::text, at, kind, subject, from_state, to_state, attempt, actor, data"
        " FROM sagas_event ORDER BY id"
    ),
    "signals": (
        "SELECT source, event_id, step_key, fate, wake_at, compensated_at, attention, attention_at,"
        " settled_at FROM sagas_signal ORDER BY id"
    ),
    "payments": (
        "SELECT id, key, method, status, amount, currency, captured_currency, captured, refunded, mismatch,"
        " undo_requested_at, undone_at FROM payments_payment ORDER BY id"
    ),
    "operations": "SELECT payment_id, kind, amount FROM payments_operation ORDER BY id",
    "products": "SELECT sku, available, reserved, shipped FROM inventory_product ORDER BY sku",
    "reservations": "SELECT key, status FROM inventory_reservation ORDER BY key",
    "movements": (
        "SELECT id, product_id AS sku, reservation_id AS reservation, kind, quantity"
        " FROM inventory_movement ORDER BY id"
    ),
    "series": "SELECT number, next_number FROM invoicing_series ORDER BY number",
    "invoices": (
        'SELECT i.id, i.key, i.kind, i.status, i.series_id AS series, i.number, i.access_key, i.mismatch,'
        ' i.amount, i.currency, s.key AS sale FROM invoicing_invoice i'
        ' LEFT JOIN invoicing_invoice s ON s.id = i.references_id ORDER BY i.id'
    ),
    "shipments": (
        "SELECT key, status, access_key, parcels, mismatch, undo_requested_at, undone_at"
        " FROM shipping_shipment ORDER BY id"
    ),
}  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rows:
    """The tables that the checker reads, in the order of their keys."""

    keys: list[Row]
    orders: list[Row]
    lines: list[Row]
    sagas: list[Row]
    steps: list[Row]
    events: list[Row]
    signals: list[Row]
    payments: list[Row]
    operations: list[Row]
    products: list[Row]
    reservations: list[Row]
    movements: list[Row]
    series: list[Row]
    invoices: list[Row]
    shipments: list[Row]


def read(database: str) -> Rows:
    """All rows, as they were at one moment.

    Raises:
        psycopg.Error: the database is away, or is not this project's.
    """
    with psycopg.connect(database) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        return read_from(connection)


def read_from(connection: psycopg.Connection[Any]) -> Rows:
    """All rows, as this connection's transaction sees them.

    Raises:
        psycopg.Error: the database is away, or is not this project's.
    """
    with connection.cursor(row_factory=psycopg_rows.dict_row) as cursor:
        return Rows(**{name: cursor.execute(query).fetchall() for name, query in QUERIES.items()})


def grouped(rows: Iterable[Row], column: str) -> dict[Any, list[Row]]:
    """Rows by what stands in a column, each group in their order."""
    found = collections.defaultdict(list)
    for row in rows:
        found[row[column]].append(row)
    return found
