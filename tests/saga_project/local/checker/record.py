"""`python -m tests.saga_project.local.checker.record`: a short campaign on a real stack, kept in recorded/.

Run it anew when a table that the checker reads gets other columns. It takes two minutes.
"""

import concurrent.futures
import datetime
import json
import pathlib
import threading
import time
from typing import Any

import httpx
import psycopg
import rich.console

from saga_project.local import demo, fates

HERE = pathlib.Path(__file__).parent / "recorded"

TABLES = {
    "api_idempotencykey": ["id", "endpoint", "key", "body"],
    "orders_order": [
        "id", "number", "saga_id", "reference", "customer_name", "customer_email", "customer_tax_id",
        "recipient", "street", "street_number", "complement", "district", "city", "state", "postal_code",
        "country", "payment_method", "total_amount", "currency", "fulfilled_at", "cancelled_at", "closed_at",
    ],
    "orders_orderline": [
        "order_id", "position", "sku", "quantity", "unit_amount", "currency", "ships",
    ],
    "sagas_saga": [
        "id", "key", "version", "state", "failure", "attention", "cancel_requested_at", "held_at",
        "closed_at", "created_at", "finished_at",
    ],
    "sagas_step": [
        "saga_id", "position", "name", "state", "attempts", "undo_attempts", "error",
    ],
    "sagas_event": [
        "id", "saga_id", "at", "kind", "subject", "from_state", "to_state", "attempt", "actor", "data",
    ],
    "sagas_signal": [
        "id", "source", "event_id", "step_key", "fate", "wake_at", "compensated_at", "attention",
        "attention_at", "settled_at",
    ],
    "payments_payment": [
        "id", "key", "method", "status", "amount", "currency", "captured_currency", "captured", "refunded",
        "mismatch", "undo_requested_at", "undone_at",
    ],
    "payments_operation": ["id", "payment_id", "kind", "amount"],
    "inventory_product": ["sku", "available", "reserved", "shipped"],
    "inventory_reservation": ["key", "status"],
    "inventory_movement": ["id", "product_id", "reservation_id", "kind", "quantity"],
    "invoicing_series": ["number", "next_number"],
    "invoicing_invoice": [
        "id", "key", "kind", "status", "series_id", "number", "access_key", "mismatch", "amount",
        "currency", "references_id",
    ],
    "shipping_shipment": [
        "id", "key", "status", "access_key", "parcels", "mismatch", "undo_requested_at", "undone_at",
    ],
}  # fmt: skip
"""The columns that the checker reads."""

SLOW = ("PIX, never paid", "bank is down", "carrier never reports", "dear, and accepted")
"""Fates that would only have to be waited for."""

Json = dict[str, Any]


def everybody() -> list[fates.Fate]:
    """Who orders, in this order."""
    return [fate for fate in fates.FATES if fate.name not in SLOW]


class Clients:
    """Customers who order, and write down what they are told."""

    def __init__(self, env: dict[str, str]) -> None:
        self.shop = demo.Shop(env)
        self.http = httpx.Client(
            base_url=f"{env['WEB_URL']}/api/v1", headers={"Authorization": f"Token {env['API_TOKEN']}"}
        )
        self.lines: list[Json] = []
        self.lock = threading.Lock()

    def write(self, **line: Any) -> None:
        with self.lock:
            self.lines.append({"at": datetime.datetime.now(datetime.UTC).isoformat(), **line})

    def order(self, number: int, fate: fates.Fate, sku: str) -> None:
        """Order, do what the fate wants, and look until it has ended."""
        key = f"recorded-{number}"
        body = fates.body(fate, sku) | {"reference": key}
        # One in five does not hear the first answer, and asks again.
        order: Json = {}
        for attempt in (1, 2) if number % 5 == 0 or fate.meddle == "send twice" else (1,):
            answer = self.http.post("/orders", json=body, headers={"Idempotency-Key": key})
            heard = attempt == 2 or number % 5
            order = answer.raise_for_status().json()
            self.write(
                customer=number, key=key, request=body, attempt=attempt,
                status=answer.status_code if heard else None, error=None if heard else "ReadTimeout",
                answer=order if heard else None,
            )  # fmt: skip
        acted = ""
        patience = time.monotonic() + 60
        while order["status"] not in ("fulfilled", "cancelled", "closed", "attention"):
            assert time.monotonic() < patience, (fate.name, order)
            order = self.http.get(f"/orders/{order['id']}").raise_for_status().json()
            waits = order["payment"]["status"] == "awaiting_payment"
            moves = order["shipment"] is not None and order["shipment"]["status"] == "in_transit"
            if fate.review and not acted and fates.review(order):
                self.shop.review(order, fate.review)
                acted = "review"
            elif fate.meddle in ("cancel", "cancel, then pay") and not acted and (waits or moves):
                self.http.post(f"/orders/{order['id']}/cancel", json={"reason": "Changed my mind."})
                self.write(customer=number, key=key, what="cancel", status=202)
                acted = "cancel"
            elif fate.meddle.startswith("pay") and waits and not acted:
                self.shop.pay_pix(order["payment"]["key"])
                self.write(customer=number, key=key, what="pay", status=200)
                acted = "pay"
            time.sleep(0.2)
        self.write(key=key, order=order["number"], end=order["status"])
        if fate.meddle == "cancel, then pay":
            self.shop.pay_pix(order["payment"]["key"])
            self.write(customer=number, key=key, what="pay", status=200)


def main() -> None:
    """Record, and write it down."""
    HERE.mkdir(exist_ok=True)
    with demo._stack(rich.console.Console()) as env:
        clients = Clients(env)
        skus = clients.shop.products()[:3]
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            list(pool.map(clients.order, range(30), everybody(), [skus[i % 3] for i in range(30)]))
        with psycopg.connect(env["DATABASE_URL"], autocommit=True) as connection:
            _wait_for_rest(connection)
            tables = {table: _table(connection, table, columns) for table, columns in TABLES.items()}
        books = clients.shop.books()
    lines = sorted(clients.lines, key=lambda line: line["at"])
    (HERE / "history.jsonl").write_text("".join(_json(line) + "\n" for line in lines))
    (HERE / "books.json").write_text(
        "{\n" + ",\n".join(f"{_json(name)}: {_rows(rows)}" for name, rows in books.items()) + "\n}\n"
    )
    (HERE / "tables.json").write_text(
        "{\n"
        + ",\n".join(
            f'{_json(name)}: {{"columns": {_json(columns)}, "rows": {_rows(rows)}}}'
            for name, (columns, rows) in tables.items()
        )
        + "\n}\n"
    )


def _wait_for_rest(connection: psycopg.Connection[Any]) -> None:
    """Until no late payment is still to be given back."""
    patience = time.monotonic() + 60
    late = (
        "SELECT (SELECT count(*) FROM sagas_signal WHERE fate = 'late' AND compensated_at IS NOT NULL) = 1"
        " AND NOT EXISTS (SELECT FROM payments_payment"
        " WHERE undone_at IS NULL AND undo_requested_at IS NOT NULL"
        " AND key NOT IN (SELECT saga_id || '.' || name FROM sagas_step WHERE state = 'undo_failed'))"
    )
    while connection.execute(late).fetchone() != (True,):
        assert time.monotonic() < patience, "it does not come to rest"
        time.sleep(0.2)


def _table(
    connection: psycopg.Connection[Any], table: str, columns: list[str]
) -> tuple[dict[str, str], list[Json]]:
    types = dict(
        connection.execute(
            "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute"
            " WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped",
            [table],
        ).fetchall()
    )
    named = ", ".join(f'"{column}"' for column in columns)
    found = connection.execute(f"SELECT to_jsonb(t) FROM (SELECT {named} FROM {table} ORDER BY 1) t")
    return {column: types[column] for column in columns}, [row for (row,) in found]


def _rows(rows: list[Any]) -> str:
    return "[" + ",".join("\n" + _json(row) for row in rows) + "]"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


if __name__ == "__main__":
    main()
