"""Is the console as quick when a million sagas have ended as when a few have?

Rows are written by SQL, as if a year's orders had gone through: nine in ten fulfilled, the others turned
back, a few stuck or under way. Each page is then asked for as a supervisor, through Django and all of its
middleware; only the wire is missing. What counts is whether a page takes longer with more rows behind it.
"""

import contextlib
import importlib
import json
import os
import pathlib
import statistics
import time
from collections.abc import Iterator
from typing import Any

from benchmarks import documents

ROOT = pathlib.Path(__file__).resolve().parent.parent
ROUNDS = 5
LIST = "/admin/sagas/sagainstance/"

PAGES = {
    "overview": "/admin/",
    "list, newest first": LIST,
    "list of what needs attention": f"{LIST}?state=needs_attention",
    "list by step": f"{LIST}?step=issue-invoice",
    "list by error": f"{LIST}?error=bug",
    "list by age": f"{LIST}?begun=1h",
    "list by amount": f"{LIST}?amount=10000-100000",
    "search by order number": f"{LIST}?q=%(number)s",
    "search by saga id": f"{LIST}?q=%(saga)s",
    "search by tax id": f"{LIST}?q=%(tax_id)s",
    "failure groups": f"{LIST}groups/",
    "a saga's page": f"{LIST}%(saga)s/change/",
    "list of orders": "/admin/orders/order/",
}


def run(*, sagas: int, write: bool) -> None:
    """Measure with a thousandth of the rows, then with all of them; print, and write if asked."""
    prepare()
    few = max(sagas // 1000, 100)
    answer: dict[str, Any] = {"sagas": {"few": few, "many": sagas}, "milliseconds": {}}
    for size, number in (("few", few), ("many", sagas)):
        fill(number)
        for page, took in _measure().items():
            answer["milliseconds"].setdefault(page, {})[size] = took
    answer["machine"] = documents.machine()
    print(_table(answer))
    if write:
        (ROOT / "docs" / "benchmarks-console.json").write_text(json.dumps(answer, indent=2) + "\n")
        documents.write(ROOT / "docs" / "benchmarks.md", "console", _table(answer))


def prepare() -> None:
    """Be as a web process is, with its own way to connect, on a database that is migrated."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "saga_project.settings"
    from django.conf import settings
    from django.core import management

    importlib.import_module("saga_project.asgi")

    settings.ALLOWED_HOSTS = [*settings.ALLOWED_HOSTS, "testserver"]
    management.call_command("migrate", verbosity=0)


def _measure() -> dict[str, float]:
    from orders import models

    order = models.Order.objects.order_by("-id")[10]
    known = {"number": order.number, "saga": order.saga_id, "tax_id": order.customer_tax_id}
    return pages(PAGES, known)


def pages(addresses: dict[str, str], known: dict[str, Any], **headers: str) -> dict[str, float]:
    """The median of some rounds, in milliseconds, for each page; the first round only warms up."""
    from django.contrib.auth import models as auth
    from django.test import Client

    supervisor, _ = auth.User.objects.get_or_create(username="bench", is_staff=True, is_superuser=True)
    client = Client(headers={"x-forwarded-proto": "https", **headers})
    client.force_login(supervisor)
    took: dict[str, list[float]] = {page: [] for page in addresses}
    for number in range(ROUNDS + 1):
        for page, address in addresses.items():
            began = time.perf_counter()
            answered = client.get(address % known if "%(" in address else address, secure=True)
            if answered.status_code != 200:
                raise SystemExit(f"{page}: {address} answered {answered.status_code}.")
            if number:
                took[page].append((time.perf_counter() - began) * 1000)
    return {page: round(statistics.median(rounds), 1) for page, rounds in took.items()}


@contextlib.contextmanager
def unhurried() -> Iterator[None]:
    """Statements may take as long as they do: a million rows are not written within a request's limit."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 0")
        try:
            yield
        finally:
            cursor.execute("RESET statement_timeout")


def fill(up_to: int) -> None:
    """Write sagas with their steps, an event each and their orders, until there are so many."""
    from django.db import connection

    from sagas.declaration import registry

    declared = registry.get("order-fulfilment", 1)
    with unhurried(), connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO auth_user (username, password, first_name, last_name, email, is_staff, is_active,"
            " is_superuser, date_joined) VALUES ('shop', '', '', '', '', false, true, false, now())"
            " ON CONFLICT (username) DO NOTHING"
        )
        cursor.execute("SELECT count(*) FROM sagas_saga")
        (already,) = cursor.fetchone()
        parameters = {
            "from": already + 1,
            "to": up_to,
            "version": declared.version,
            "fingerprint": declared.fingerprint,
            "steps": [step.name for step in declared.all_steps],
        }
        for statement in _ROWS:
            cursor.execute(statement, parameters)
        cursor.execute("ANALYZE")


_SAGA = "('00000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid"
_N = "generate_series(%(from)s::int, %(to)s::int) AS n"
_ROWS = [
    # n mod 1000: 0 needs attention, 1 is under way, below 100 was turned back, the others went well.
    f"""
    INSERT INTO sagas_saga (id, name, version, fingerprint, key, state, direction, position, epoch, facts,
        dispatches, cancel_reason, cancel_actor, wake_at, failure, attention, created_at, finished_at)
    SELECT {_SAGA}, 'order-fulfilment', %(version)s, %(fingerprint)s, {_SAGA}::text,
        CASE WHEN kind = 0 THEN 'needs_attention' WHEN kind = 1 THEN 'running'
             WHEN kind < 100 THEN 'compensated' ELSE 'completed' END,
        CASE WHEN kind = 1 OR kind >= 100 THEN 1 ELSE -1 END,
        CASE WHEN kind < 100 THEN 1 ELSE 4 END, 1, '{{}}', 1, '', '',
        CASE WHEN kind < 2 THEN now() + interval '1 day' END,
        CASE WHEN kind <> 1 AND kind < 100 THEN jsonb_build_object('step', step, 'kind', error, 'error',
             initcap(error), 'message', 'It was ' || error || '.', 'attempt', 1, 'clock', NULL) END,
        CASE WHEN kind = 0 THEN jsonb_build_object('step', step, 'why', step || ' cannot be undone: no.',
             'advice', 'See to it.', 'since', now()) END,
        began, CASE WHEN kind > 1 THEN began + interval '1 minute' END
    FROM (
        SELECT n, n %% 1000 AS kind, now() - (%(to)s::int - n) * interval '30 s' AS began,
            (%(steps)s::text[])[1 + n %% 4] AS step,
            (ARRAY['refused', 'transient', 'bug'])[1 + n %% 3] AS error
        FROM {_N}
    ) AS rows
    """,
    f"""
    INSERT INTO sagas_step (saga_id, position, name, state, attempts, undo_attempts, fence, task_id, worker,
        started_at, finished_at)
    SELECT {_SAGA}, place - 1, step,
        CASE WHEN n %% 1000 >= 100 THEN 'done' WHEN n %% 1000 < 2 THEN 'pending' ELSE 'undone' END,
        1, 0, 1, '', '', now() - interval '2 s', now() - interval '1 s'
    FROM {_N}, unnest(%(steps)s::text[]) WITH ORDINALITY AS s (step, place)
    """,
    f"""
    INSERT INTO sagas_event (saga_id, kind, subject, from_state, to_state, actor, reason, data)
    SELECT {_SAGA}, 'saga.begun', '', '', 'running', 'shop', '', '{{}}'
    FROM {_N}
    """,
    f"""
    INSERT INTO orders_order (id, number, owner_id, saga_id, reference, customer_name, customer_email,
        customer_tax_id, recipient, street, street_number, complement, district, city, state, postal_code,
        country, payment_method, total_amount, currency, cancel_reason, created_at)
    SELECT {_SAGA}, 'ORD-' || lpad(n::text, 8, '0'), auth_user.id, {_SAGA}, '', 'Alice', 'alice@example.com',
        lpad(n::text, 11, '0'), 'Alice', 'Rua das Flores', '12', '', '', 'São Paulo', 'SP', '01310-100', 'BR',
        'card', 1000 + n %% 50000, 'BRL', '', now() - (%(to)s::int - n) * interval '30 s'
    FROM {_N}, auth_user WHERE auth_user.username = 'shop'
    """,
]


def _table(answer: dict[str, Any]) -> str:
    few, many = (f"{answer['sagas'][size]:,}" for size in ("few", "many"))
    lines = [f"| milliseconds for | {few} sagas | {many} sagas |", "|---|---|---|"]
    lines += [
        f"| {page} | {took['few']:.0f} | {took['many']:.0f} |"
        for page, took in answer["milliseconds"].items()
    ]
    return "\n".join([*lines, "", f"{answer['machine']}."])
