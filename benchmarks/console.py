"""Is the console as quick when a million sagas have ended as when a few have?

Rows are written by SQL, as if a year's orders had gone through: nine in ten fulfilled, the others turned
back, a few stuck or under way; of a thousand one is a parent of eight. The newest ten thousand have all of
their events, the others one each; every tenth order has its rows at the services, and a callback. Each page
is then asked for as a supervisor, through Django and all of its middleware; only the wire is missing. What
counts is whether a page takes longer with more rows behind it.
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
FEW = 1000
TOLD_WHOLE = 10_000
"""Of so many sagas, the newest, all events are written: more than any page reads."""

PARENT, CHILD = "bench-delivery", "bench-parcel"
LIST = "/admin/sagas/sagainstance/"

PAGES = {
    "overview, 24 hours": "/admin/",
    "overview, 7 days": "/admin/?window=7d",
    "metrics": "/metrics",
    "list, newest first": LIST,
    "list, its last page": f"{LIST}?p=20",
    "list, all columns": f"{LIST}?columns=%(columns)s",
    "list of what needs attention": f"{LIST}?state=needs_attention",
    "list of what is live": f"{LIST}?state=live",
    "list by step": f"{LIST}?step=issue-invoice",
    "list by error": f"{LIST}?error=bug",
    "list by age": f"{LIST}?begun=1h",
    "list by days": f"{LIST}?from=%(day)s&until=%(day)s",
    "list by amount": f"{LIST}?amount=10000-100000",
    "list by a rare amount": f"{LIST}?amount=1000000-",
    "list by definition": f"{LIST}?definition=order-fulfilment.1",
    "list without children": f"{LIST}?family=no-children",
    "list of children": f"{LIST}?family=children",
    "list of a parent's children": f"{LIST}?parent=%(parent)s",
    "list, sorted by state": f"{LIST}?o=2",
    "list, sorted by state, from the end": f"{LIST}?o=-2",
    "list, sorted by amount": f"{LIST}?o=-5",
    "list, sorted by duration": f"{LIST}?o=-7",
    "list of a failure group": f"{LIST}?group=failed:%(group)s",
    "search by order number": f"{LIST}?q=%(number)s",
    "search by saga id": f"{LIST}?q=%(saga)s",
    "search by tax id": f"{LIST}?q=%(tax_id)s",
    "failure groups, waiting": f"{LIST}groups/",
    "failure groups, failed": f"{LIST}groups/?scope=failed",
    "a saga's page": f"{LIST}%(saga)s/change/",
    "the page of a saga with children": f"{LIST}%(parent)s/change/",
    "a child's page": f"{LIST}%(child)s/change/",
    "list of callbacks": "/admin/sagas/signal/",
    "list of events": "/admin/sagas/event/",
    "list of steps": "/admin/sagas/stepinstance/",
    "list of orders": "/admin/orders/order/",
    "an order's page": "/admin/orders/order/%(order)s/change/",
    "list of payments": "/admin/payments/payment/",
    "list of shipments": "/admin/shipping/shipment/",
    "list of invoices": "/admin/invoicing/invoice/",
    "list of reservations": "/admin/inventory/reservation/",
}


def run(*, sagas: int, write: bool) -> None:
    """Measure with a thousand rows, then with all of them; print, and write if asked."""
    prepare()
    answer: dict[str, Any] = {"sagas": {"few": FEW, "many": sagas}, "milliseconds": {}, "blocks": {}}
    for size, number in (("few", FEW), ("many", sagas)):
        fill(number)
        took, blocks = _measure()
        for page in took:
            answer["milliseconds"].setdefault(page, {})[size] = took[page]
            answer["blocks"].setdefault(page, {})[size] = blocks[page]
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
    _declare_a_family()

    settings.ALLOWED_HOSTS = [*settings.ALLOWED_HOSTS, "testserver"]
    management.call_command("migrate", verbosity=0)


def _declare_a_family() -> None:
    """A saga with children, which the project has none of."""
    from sagas import ForEach, Retry, Saga, Step
    from sagas.declaration import registry

    if not registry.versions(PARENT):
        send = Step("send", _send, undo=_recall, inputs=["parcel"])
        parcel = Saga(name=CHILD, inputs=["parcel"], steps=[send], retry=Retry(on=[]))
        send_all = ForEach("send-all", of="parcels", saga=parcel)
        registry.add(parcel)
        registry.add(Saga(name=PARENT, inputs=["parcels"], steps=[send_all], retry=Retry(on=[])))


def _send(*, key: str, parcel: str) -> None:
    """Never called: the rows are written by SQL."""


def _recall(*, key: str) -> None:
    """The same."""


def _measure() -> tuple[dict[str, float], dict[str, int]]:
    """Of each page, milliseconds, and the blocks that it has PostgreSQL look at."""
    from django.contrib.auth import models as auth

    from api import tokens
    from api.models import Scope
    from orders import models
    from sagas.console import failure_groups
    from sagas.console.admin import saga_list
    from sagas.models import SagaInstance

    order = models.Order.objects.order_by("-id")[10]
    child = SagaInstance.objects.filter(name=CHILD).order_by("-created_at")[0]
    known = {
        "number": order.number,
        "saga": order.saga_id,
        "order": order.pk,
        "tax_id": order.customer_tax_id,
        "parent": child.parent_id,
        "child": child.pk,
        "group": failure_groups.groups(failure_groups.FAILED)[0].signature,
        "columns": ".".join(saga_list.COLUMNS + saga_list.MORE_COLUMNS),
        "day": f"{order.created_at:%Y-%m-%d}",
    }
    shop, _ = auth.User.objects.get_or_create(username="bench", is_staff=True, is_superuser=True)
    _token, secret = tokens.create(user=shop, name="bench", scope=Scope.STAFF)
    took, blocks = _pages(PAGES, known, authorization=f"Token {secret}")
    return took, blocks


def pages(addresses: dict[str, str], known: dict[str, Any], **headers: str) -> dict[str, float]:
    """The median of some rounds, in milliseconds, for each page; the first round only warms up."""
    return _pages(addresses, known, **headers)[0]


def _pages(
    addresses: dict[str, str], known: dict[str, Any], **headers: str
) -> tuple[dict[str, float], dict[str, int]]:
    from django.contrib.auth import models as auth
    from django.test import Client

    supervisor, _ = auth.User.objects.get_or_create(username="bench", is_staff=True, is_superuser=True)
    client = Client(headers={"x-forwarded-proto": "https", **headers})
    client.force_login(supervisor)
    took: dict[str, list[float]] = {page: [] for page in addresses}
    blocks: dict[str, list[int]] = {page: [] for page in addresses}
    for number in range(ROUNDS + 1):
        for page, address in addresses.items():
            before = _blocks()
            began = time.perf_counter()
            answered = client.get(address % known if "%(" in address else address, secure=True)
            if answered.status_code != 200:
                raise SystemExit(f"{page}: {address} answered {answered.status_code}.")
            if number:
                took[page].append((time.perf_counter() - began) * 1000)
                blocks[page].append(_blocks() - before)
    # An autovacuum beside a round is counted, too: the least is the page's own.
    least = {page: min(rounds) for page, rounds in blocks.items()}
    return {page: round(statistics.median(rounds), 1) for page, rounds in took.items()}, least


def _blocks() -> int:
    """How many blocks of 8 KB PostgreSQL has looked at for this connection, in memory or on disk."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_force_next_flush()")
        cursor.execute("SELECT blks_read + blks_hit FROM pg_stat_database WHERE datname = current_database()")
        return int(cursor.fetchone()[0])


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
_PARENT = _SAGA.replace("to_hex(n)", "to_hex(n - n %% 1000 + 199)")
_N = "generate_series(%(from)s::int, %(to)s::int) AS n"
_BEGAN = "now() - (%(to)s::int - n) * interval '30 s'"
_FAMILY = "n %% 1000 BETWEEN 199 AND 207"
_ROWS = [
    # n mod 1000: 0 needs attention, 1 is under way, below 100 was turned back, the others went well;
    # 199 is a parent, and the eight behind it are its children.
    f"""
    INSERT INTO sagas_saga (id, name, version, fingerprint, key, state, direction, position, epoch, facts,
        dispatches, cancel_reason, cancel_actor, wake_at, failure, attention, created_at, finished_at,
        parent_id, parent_step, parent_item, counted_as)
    SELECT {_SAGA},
        CASE WHEN kind = 199 THEN '{PARENT}' WHEN child THEN '{CHILD}' ELSE 'order-fulfilment' END,
        CASE WHEN kind = 199 OR child THEN 1 ELSE %(version)s END, %(fingerprint)s,
        CASE WHEN child THEN {_PARENT}::text || '.send-all.' || kind - 200 ELSE {_SAGA}::text END,
        CASE WHEN kind = 0 THEN 'needs_attention' WHEN kind = 1 THEN 'running'
             WHEN kind < 100 THEN 'compensated' ELSE 'completed' END,
        CASE WHEN kind = 1 OR kind >= 100 THEN 1 ELSE -1 END,
        CASE WHEN kind < 100 OR kind = 199 OR child THEN 1 ELSE 4 END, 1, '{{}}', 1, '', '',
        CASE WHEN kind < 2 THEN now() + interval '1 day' END,
        CASE WHEN kind <> 1 AND kind < 100 THEN jsonb_build_object('step', step, 'kind', error, 'error',
             initcap(error), 'message', 'It was ' || error || '.', 'attempt', 1, 'clock', NULL) END,
        CASE WHEN kind = 0 THEN jsonb_build_object('step', step, 'why', step || ' cannot be undone: no.',
             'advice', 'See to it.', 'since', now()) END,
        began, CASE WHEN kind > 1 THEN began + interval '1 minute' END,
        CASE WHEN child THEN {_PARENT} END, CASE WHEN child THEN 'send-all' END,
        CASE WHEN child THEN kind - 200 END, CASE WHEN child THEN 'done' END
    FROM (
        SELECT n, n %% 1000 AS kind, n %% 1000 BETWEEN 200 AND 207 AS child, {_BEGAN} AS began,
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
        1, 0, 1, '', '', {_BEGAN} + place * interval '10 s', {_BEGAN} + place * interval '10 s'
            + CASE WHEN place = 1 AND n %% 10 = 0 THEN interval '5 s' ELSE interval '200 ms' END
    FROM {_N}, unnest(%(steps)s::text[]) WITH ORDINALITY AS s (step, place) WHERE NOT {_FAMILY}
    """,
    f"""
    INSERT INTO sagas_step (saga_id, position, name, state, attempts, undo_attempts, fence, task_id, worker,
        started_at, finished_at, facts)
    SELECT {_SAGA}, 0, CASE WHEN n %% 1000 = 199 THEN 'send-all' ELSE 'send' END, 'done',
        CASE WHEN n %% 1000 = 199 THEN 0 ELSE 1 END, 0, 1, '', '', {_BEGAN}, {_BEGAN} + interval '1 s',
        CASE WHEN n %% 1000 = 199 THEN '{{"children": 8}}'::jsonb END
    FROM {_N} WHERE {_FAMILY}
    """,
    f"""
    INSERT INTO sagas_event (saga_id, kind, subject, from_state, to_state, actor, reason, data, at)
    SELECT {_SAGA}, 'saga.begun', '', '', 'running', 'shop', '', '{{}}', {_BEGAN}
    FROM {_N}
    """,
    # An attempt of 200 ms; of every tenth the first step waits for five seconds.
    f"""
    INSERT INTO sagas_event (saga_id, kind, subject, from_state, to_state, actor, reason, data, at)
    SELECT {_SAGA}, e.kind, step, '', e.state, 'engine', '', '{{"worker": "bench@host", "task_id": "x"}}',
        {_BEGAN} + place * interval '10 s' + e.after
    FROM generate_series(greatest(%(from)s::int, %(to)s::int - {TOLD_WHOLE}), %(to)s::int) AS n,
        unnest(%(steps)s::text[]) WITH ORDINALITY AS s (step, place),
        (VALUES ('step.started', 'running', interval '0', false, false),
                ('step.waiting', 'waiting', interval '200 ms', true, false),
                ('step.done', 'done', interval '200 ms', false, true),
                ('step.done', 'done', interval '5 s', true, false)) AS e (kind, state, after, waits, quick)
    WHERE NOT {_FAMILY} AND n %% 1000 >= 100
        AND (NOT e.waits OR place = 1 AND n %% 10 = 0) AND (NOT e.quick OR place <> 1 OR n %% 10 <> 0)
    """,
    f"""
    INSERT INTO orders_order (id, number, owner_id, saga_id, reference, customer_name, customer_email,
        customer_tax_id, recipient, street, street_number, complement, district, city, state, postal_code,
        country, payment_method, total_amount, currency, cancel_reason, created_at)
    SELECT {_SAGA}, 'ORD-' || lpad(n::text, 8, '0'), auth_user.id, {_SAGA}, '', 'Alice', 'alice@example.com',
        lpad(n::text, 11, '0'), 'Alice', 'Rua das Flores', '12', '', '', 'São Paulo', 'SP', '01310-100', 'BR',
        'card', 1000 + n %% 50000, 'BRL', '', {_BEGAN}
    FROM {_N}, auth_user WHERE auth_user.username = 'shop' AND NOT {_FAMILY}
    """,
    f"""
    INSERT INTO payments_payment (key, method, status, amount, currency, captured_currency, captured,
        refunded, provider_ref, refusal, pix_copy_paste, created_at)
    SELECT {_SAGA}::text || '.take-payment', 'card', 'captured', 1000 + n %% 50000, 'BRL', 'BRL',
        1000 + n %% 50000, 0, 'ch_' || n, '', '', {_BEGAN}
    FROM {_N} WHERE n %% 10 = 0 AND n %% 1000 >= 100
    """,
    f"""
    INSERT INTO inventory_reservation (key, status, created_at)
    SELECT {_SAGA}::text || '.reserve-stock', 'held', {_BEGAN}
    FROM {_N} WHERE n %% 10 = 0 AND n %% 1000 >= 100
    """,
    f"""
    INSERT INTO shipping_shipment (key, status, access_key, parcels, tracking, refusal, created_at)
    SELECT {_SAGA}::text || '.deliver-order', 'delivered', '', 1, 'BR' || n, '', {_BEGAN}
    FROM {_N} WHERE n %% 10 = 0 AND n %% 1000 >= 100
    """,
    f"""
    INSERT INTO sagas_signal (source, event_id, step_key, kind, fate, compensation_attempts,
        compensation_error, received_at)
    SELECT 'carrier', 'evt_' || n, {_SAGA}::text || '.deliver-order', 'delivered', 'applied', 0, '', {_BEGAN}
    FROM {_N} WHERE n %% 10 = 0 AND n %% 1000 >= 100
    """,
]


def _table(answer: dict[str, Any]) -> str:
    few, many = (f"{answer['sagas'][size]:,}" for size in ("few", "many"))
    lines = [
        f"| page | ms, {few} sagas | ms, {many} sagas | blocks, {few} | blocks, {many} |",
        "|---|---|---|---|---|",
    ]
    for page, took in answer["milliseconds"].items():
        blocks = answer["blocks"][page]
        lines.append(
            f"| {page} | {took['few']:.0f} | {took['many']:.0f} | {blocks['few']:,} | {blocks['many']:,} |"
        )
    return "\n".join([*lines, "", f"{answer['machine']}."])
