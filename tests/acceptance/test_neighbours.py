"""A neighbour who holds what orders need, or a server that takes no writes: time is all it costs."""

import contextlib

import psycopg
import pytest
from django.contrib.auth import models as auth
from django.core.management import call_command
from django.db import connection

from inventory import models as stock
from inventory import services as inventory
from orders import audit, services
from saga_project.local import servers
from sagas import models as sagas
from tests.acceptance import processes
from tests.sandbox import running as sandboxes
from tests.support import waiting

pytestmark = pytest.mark.timeout(300)

BRISK = {"WORKER_LOCK_TIMEOUT": "300ms", "DELIVERY_POLL": "1s"}


@pytest.fixture
def world(tmp_path, settings):
    """Providers of this test's own; parcels arrive at once, and the carrier is asked for them."""
    with sandboxes.run(tmp_path / "sandbox", CARRIER_PACE_S="0.05") as running:
        running.point(settings)
        settings.SANDBOX_URL = running.url
        yield running


@pytest.fixture
def worker(tmp_path, world):
    """A worker for every queue of the shop."""
    urls = {
        "PAYMENTS_URL": f"{world.url}/bank",
        "INVOICING_URL": f"{world.url}/fiscal",
        "SHIPPING_URL": f"{world.url}/carrier",
    }
    with processes.worker(tmp_path, queues=processes.shop(), children=3, **BRISK, **urls) as running:
        yield running


@pytest.fixture
def catalogue():
    for sku, price in {"MUG-BLUE": 4590, "POSTER-MAP": 9110}.items():
        inventory.introduce(sku=sku, name=sku, price={"amount": price, "currency": "BRL"}, quantity=1000)


def place(sku):
    owner, _ = auth.User.objects.get_or_create(username="ana")
    return services.place(
        owner=owner,
        customer=services.Customer(name="Ana Souza", email="ana@example.com", tax_id="52998224725"),
        wishes=[services.Wish(sku=sku, quantity=1)],
        payment=services.Payment(method="card", token="tok_ok"),
        address=services.Address(
            recipient="Ana Souza", street="Rua das Flores", number="12", city="São Paulo", state="SP",
            postal_code="01310-100",
        ),
    )  # fmt: skip


def session(**options):
    """Another host's connection to this database."""
    told = connection.settings_dict
    return psycopg.connect(
        host=told["HOST"], port=told["PORT"], user=told["USER"], dbname=told["NAME"], **options
    )


def state(order):
    return sagas.SagaInstance.objects.get(pk=order.saga_id).state


def kinds(order):
    return list(
        sagas.Event.objects.filter(saga_id=order.saga_id).order_by("id").values_list("kind", flat=True)
    )


@pytest.mark.django_db(transaction=True)
def test_a_host_that_vanished_with_the_row_of_a_product_makes_its_orders_late_and_turns_none_back(
    world, worker, catalogue
):
    with session() as vanished:
        vanished.execute("UPDATE inventory_product SET name = name WHERE sku = 'MUG-BLUE'")
        mugs = [place("MUG-BLUE") for _ in range(8)]
        poster, regretted = place("POSTER-MAP"), place("MUG-BLUE")

        for order in [*mugs, regretted]:
            waiting.until(lambda o=order: kinds(o).count("step.late") >= 2, "it waits for the mug's row")
        waiting.until(lambda: state(poster) == "completed", "other goods are sold meanwhile")
        services.cancel(order_id=regretted.pk, owner=regretted.owner, reason="it takes too long")
        waiting.until(lambda: state(regretted) == "compensated", "one that is late can be cancelled")
        assert {state(order) for order in mugs} == {"running"}

        # The settings of every session say so; this one says it shorter, then nothing ever again.
        vanished.execute("SET idle_in_transaction_session_timeout = '200ms'")
        waiting.until(lambda: all(state(order) == "completed" for order in mugs), "they go on")
        with pytest.raises(psycopg.Error):
            vanished.execute("SELECT 1")

    for order in mugs:
        assert "saga.compensating" not in kinds(order)
        assert world.charge(f"{order.saga_id}.take-payment")["refunded"] == 0
    assert stock.Product.objects.get(sku="MUG-BLUE").shipped == len(mugs)
    assert audit.run().discrepancies == []


@pytest.fixture
def own_server(tmp_path, django_db_blocker, monkeypatch):
    """A PostgreSQL of this test's own in the place of the one that all tests share."""
    server = servers.Postgres(tmp_path / "postgres", durable=False)
    place = str(server._socket())
    with django_db_blocker.unblock(), (tmp_path / "postgres.log").open("wb") as log:
        connection.close()
        server.start(log)
        for name, value in {"HOST": place, "PORT": "5432", "NAME": server.database, "USER": "saga"}.items():
            monkeypatch.setitem(connection.settings_dict, name, value)
        try:
            call_command("migrate", verbosity=0)
            yield server
        finally:
            connection.close()
            server.stop()
            server.discard()


@contextlib.contextmanager
def demoted():
    """The server takes no writes, as a primary that became a standby; sessions stay open all the same."""
    with session(autocommit=True) as operator:
        operator.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        operator.execute("SELECT pg_reload_conf()")
        try:
            yield
        finally:
            operator.execute("ALTER SYSTEM RESET default_transaction_read_only")
            operator.execute("SELECT pg_reload_conf()")


@pytest.mark.thorough
def test_a_server_that_takes_no_writes_for_a_while_is_the_database_being_away(
    own_server, world, worker, catalogue, tmp_path
):
    log = tmp_path / "worker.log"
    before = [place("MUG-BLUE") for _ in range(20)]
    waiting.until(lambda: sum(state(order) == "completed" for order in before) >= 2, "they are under way")
    with demoted():
        waiting.until(lambda: "in a read-only transaction" in log.read_text(), "a worker met it")
        waiting.until(lambda: "session is read-only" in log.read_text(), "and looked for another server")
    connection.close()
    orders = [*before, place("POSTER-MAP")]

    waiting.until(lambda: all(state(order) == "completed" for order in orders), "every one ends")

    assert not sagas.Event.objects.filter(kind__in=["saga.attention", "saga.compensating"]).exists()
    assert not sagas.Event.objects.filter(data__kind="bug").exists(), "nobody took it for a bug"
    assert audit.run().discrepancies == []
