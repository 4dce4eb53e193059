"""A shop of 0.4.0 with live orders is upgraded while it runs, and goes back: its own code beside today's."""

import contextlib
import signal
import threading

import psycopg
import pytest

from saga_project.local import servers
from tests.sandbox import running as sandboxes
from tests.support import database, waiting
from tests.upgrades import kept


@pytest.fixture
def shop(valkey, django_db_setup, django_db_blocker, tmp_path):
    """The environment of its processes, its providers, and the port of its web server."""
    with django_db_blocker.unblock():
        around = database.environment(LOGS=str(tmp_path), SAGAS_SWEEP_EVERY="200ms", SAGAS_GRACE="2s")
    _, _, name = around["DATABASE_URL"].rpartition("/")
    port = servers.free_port()
    with (
        kept.database(around["DATABASE_URL"], f"{name}_upgraded") as url,
        sandboxes.run(
            kept.books(tmp_path / "books"), CARRIER_PACE_S="0.1", WEBHOOK_TARGET=f"http://127.0.0.1:{port}"
        ) as providers,
    ):
        told = {
            "DATABASE_URL": url,
            "PAYMENTS_URL": f"{providers.url}/bank",
            "INVOICING_URL": f"{providers.url}/fiscal",
            "SHIPPING_URL": f"{providers.url}/carrier",
            "SANDBOX_URL": providers.url,
            # What is told while no web server listens is asked for.
            "PIX_POLL": "1s",
            "DELIVERY_POLL": "1s",
        }
        yield around | told, providers, port


APPLIED = "SELECT app FROM django_migrations WHERE name = %s"


class Customers:
    """They order all the time, one after the other; none is turned away for good."""

    def __init__(self, client, name="meanwhile"):
        self.client = client
        self.name = name
        self.placed = []
        self.refused = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._order, daemon=True)

    def _order(self):
        while not self._over.is_set():
            reference = f"{self.name}-{len(self.placed)}"
            try:
                self.client.order(reference)
            except Exception as error:
                self.refused.append(error)
                return
            self.placed.append(reference)
            self._over.wait(0.4)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join(60)

    def wait_for_more(self, number=2):
        """Until so many more have ordered."""
        before = len(self.placed)
        waiting.until(lambda: self.refused or len(self.placed) >= before + number, "they order", seconds=90)
        assert self.refused == []


@pytest.mark.timeout(420)
@pytest.mark.parametrize(
    "goes_back", [False, pytest.param(True, marks=pytest.mark.thorough)], ids=["and stays", "and goes back"]
)
def test_a_live_shop_of_0_4_0_is_upgraded_and_every_order_ends_well(shop, tmp_path, goes_back):
    environment, providers, port = shop
    told = kept.notes()
    old, new = kept.unpack(tmp_path / "old"), kept.ROOT
    client = kept.Client(port, told["token"])
    with contextlib.ExitStack() as processes:
        run = processes.enter_context
        old_worker = run(kept.worker(old, "old", environment))
        old_web = run(kept.web(old, "old-web", environment, port))
        old_worker.await_log(" ready.")
        waiting.until(client.answers, "the old shop is open", seconds=90)
        with Customers(client) as customers:
            customers.wait_for_more()

            # 1. The schema, while only old code runs, which works on.
            kept.manage(new, environment, "migrate_pre", "--verbosity=0")
            customers.wait_for_more()
            assert asked(environment, APPLIED, "0022_stages") == [("sagas",)]
            assert old_worker.process.poll() is None

            # 2. Workers: old and new ones stand at the same queues; then the old ones go.
            new_worker = run(kept.worker(new, "new", environment))
            new_worker.await_log(" ready.")
            customers.wait_for_more(4)
            assert old_worker.drain() == 0

            # 3. The web, last: who is placed from now on begins with today's declaration.
            customers.wait_for_more()
        # uvicorn of one process ends by the signal that asked it to, when it has answered what it had begun.
        assert old_web.drain() in (0, -signal.SIGTERM)
        new_web = run(kept.web(new, "new-web", environment, port))
        waiting.until(client.answers, "the new shop is open", seconds=90)
        client.order("new", postal_code="01310-100")
        client.order(LIVE, method="pix")

        pay(environment, providers, "pix")
        ends = told["orders"] | dict.fromkeys([*customers.placed, "new"], "fulfilled")
        waiting.until(lambda: but(LIVE, client.statuses()) == ends, "all end as they are to", seconds=120)
        assert "Traceback" not in old_worker.log + old_web.log
        assert asked(environment, VERSION, key_of(environment, "new")) == [(2,)]

        if not goes_back:
            pay(environment, providers, LIVE)
            waiting.until(lambda: client.statuses() == ends | {LIVE: "fulfilled"}, LIVE, seconds=90)
            kept.manage(new, environment, "audit")
            return

        # 4. Back to the old code, on the schema that stays: the web first. It says what it does not know.
        refused = kept.run(old, environment, "check", "--database", "default")
        assert (refused.returncode, "sagas.E011" in refused.stderr) == (1, True), refused.stderr
        assert new_web.drain() in (0, -signal.SIGTERM)
        old_web = run(kept.web(old, "old-web-again", environment, port))
        old_worker = run(kept.worker(old, "old-again", environment))
        waiting.until(client.answers, "the old shop is open again", seconds=90)
        with Customers(client, "back") as back:
            old_worker.await_log(" ready.")
            back.wait_for_more()

            # 5. A worker of the new code stays until what only it knows has ended.
            pay(environment, providers, LIVE)
            live = key_of(environment, LIVE)
            # A message that the old worker takes is lost, and sent again later each time.
            waiting.until(lambda: asked(environment, STATE, live) == [("completed",)], LIVE, seconds=200)
            assert new_worker.drain() == 0
            back.wait_for_more()
        ends |= dict.fromkeys([*back.placed, LIVE], "fulfilled")
        waiting.until(lambda: client.statuses() == ends, "the old code ends them all", seconds=90)
        assert asked(environment, VERSION, key_of(environment, back.placed[-1])) == [(1,)]
        kept.manage(new, environment, "audit")


LIVE = "new-pix"
"""An order that the new code has begun, and that waits when the old one comes back."""

VERSION = "SELECT version FROM sagas_saga WHERE id = %s"
STATE = "SELECT state FROM sagas_saga WHERE id = %s"


def but(reference, statuses):
    return {name: status for name, status in statuses.items() if name != reference}


def pay(environment, providers, reference):
    providers.post(f"/pix/{key_of(environment, reference)}.take-payment/pay")


def key_of(environment, reference):
    """An order's saga."""
    ((saga_id,),) = asked(environment, "SELECT saga_id FROM orders_order WHERE reference = %s", reference)
    return saga_id


def asked(environment, question, *about):
    with psycopg.connect(environment["DATABASE_URL"]) as connection:
        return connection.execute(question, about).fetchall()
