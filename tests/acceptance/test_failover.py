"""A primary and its synchronous standby: orders while it takes over, and pages that are read from it."""

import contextlib
import re
import threading
import time

import httpx
import pytest
from django.contrib.auth import models as auth
from django.db import Error, connection

from api import tokens
from inventory import services as inventory
from orders import audit
from sagas import models as sagas
from tests.acceptance import processes
from tests.acceptance.test_neighbours import place, state
from tests.orders import web_server
from tests.sandbox import running as sandboxes
from tests.support import clusters, database, waiting

pytestmark = [pytest.mark.timeout(300), pytest.mark.django_db(transaction=True)]


@pytest.fixture(scope="module")
def copies(django_db_setup, django_db_blocker):
    with django_db_blocker.unblock(), clusters.pair() as pair:
        yield pair


@pytest.fixture
def pair(copies, transactional_db, monkeypatch):
    """Both nodes, in the place of the server that all tests share."""
    connection.close()
    hosts = {
        "HOST": ",".join(one.address for one in copies.nodes),
        "PORT": ",".join(str(one.port) for one in copies.nodes),
        "PASSWORD": copies.nodes[0].password,
    }
    for name, value in hosts.items():
        monkeypatch.setitem(connection.settings_dict, name, value)
    for sku in ("MUG-BLUE", "POSTER-MAP"):
        inventory.introduce(sku=sku, name=sku, price={"amount": 4590, "currency": "BRL"}, quantity=1000)
    try:
        yield copies
    finally:
        connection.close()
        if copies.standby.process is None:
            copies.rejoin()


@pytest.fixture
def world(tmp_path, settings):
    with sandboxes.run(tmp_path / "sandbox", CARRIER_PACE_S="0.05") as running:
        running.point(settings)
        settings.SANDBOX_URL = running.url
        yield running


@contextlib.contextmanager
def anew():
    """What fails leaves no connection behind, as at the end of a request."""
    try:
        yield
    except Error:
        connection.close()


# --- Failover -------------------------------------------------------------------------------------


@pytest.mark.thorough  # The small drill has a primary that is lost, too.
def test_no_order_is_lost_or_doubled_when_the_standby_takes_over(pair, world, tmp_path):
    urls = {
        "PAYMENTS_URL": f"{world.url}/bank",
        "INVOICING_URL": f"{world.url}/fiscal",
        "SHIPPING_URL": f"{world.url}/carrier",
        "DATABASE_URL": pair.url,
        "DELIVERY_POLL": "500ms",
    }
    told, over = [], threading.Event()

    def customer():
        """Places one order after the other; who hears an error has not been told of any."""
        while not over.is_set():
            with anew():
                told.append(place("MUG-BLUE"))
            time.sleep(0.3)
        connection.close()

    def ended(orders):
        with anew():
            return all(state(order) == "completed" for order in orders)

    with processes.worker(tmp_path, queues=processes.shop(), children=3, **urls):
        orders = threading.Thread(target=customer)
        orders.start()
        try:
            waiting.until(lambda: told and ended(told[:1]), "orders are under way")
            acknowledged = len(told)
            pair.kill_primary()
            pair.promote()
            waiting.until(lambda: len(told) > acknowledged + 1, "orders are taken again")
        finally:
            over.set()
            orders.join()
        connection.close()
        waiting.until(lambda: ended(told), "each that was acknowledged ends", seconds=90)
        live = sagas.SagaInstance.objects.filter(finished_at=None)
        waiting.until(lambda: not live.exists(), "so do those whose acknowledgement was lost")

    assert connection.connection.info.port == pair.primary.port
    assert not sagas.Event.objects.filter(kind__in=["saga.attention", "saga.compensating"]).exists()
    assert not sagas.Event.objects.filter(data__kind="bug").exists()
    assert audit.run().discrepancies == []


# --- The replica ----------------------------------------------------------------------------------


@contextlib.contextmanager
def heard(pair, tmp_path):
    """The statements that reach the standby meanwhile."""
    log = next(iter(pair.standby.home.parent.glob("log")))
    pair.standby.configure(log_statement="all")
    waiting.until(lambda: pair.standby.ask("SHOW log_statement")[0] == "all")
    begin, told = log.stat().st_size, []
    yield told
    # It writes in the order in which it is asked.
    pair.standby.ask("SELECT 'the end of it'")
    waiting.until(lambda: "the end of it" in log.read_bytes()[begin:].decode())
    text = log.read_bytes()[begin:].decode()
    told += [
        line for line in re.findall(r"LOG:  (?:statement|execute [^:]*): (.*)", text) if "sagas_" in line
    ]


VIEWS = [("sagas", "view_sagainstance"), ("sagas", "view_signal"), ("orders", "view_order")]


def logged_in(web, name):
    user, fresh = auth.User.objects.get_or_create(username=name, defaults={"is_staff": True})
    if fresh:
        user.set_password("a long word for tests")
        user.is_superuser = name == "olga"  # Who may decide; vera only looks.
        user.save()
        for app, codename in VIEWS:
            user.user_permissions.add(
                auth.Permission.objects.get(codename=codename, content_type__app_label=app)
            )
    client = httpx.Client(base_url=web.url, follow_redirects=True, timeout=60)
    client.get("/admin/login/")
    said = client.post(
        "/admin/login/?next=/admin/viewer/",
        data={
            "username": name,
            "password": "a long word for tests",
            "csrfmiddlewaretoken": client.cookies["csrftoken"],
        },
        headers={"Referer": f"{web.url}/admin/login/"},
    )
    assert said.status_code == 200
    assert "sessionid" in client.cookies
    return client


AS_OF = re.compile(r'data-part="as-of">as of (\d\d:\d\d:\d\d)')


def test_who_looks_is_shown_the_standby_and_who_decides_never(pair, tmp_path):
    order = place("MUG-BLUE")
    told = {
        "DATABASE_URL": pair.url,
        "DATABASE_REPLICA_URL": pair.standby.url,
        "DATABASE_REPLICA_MAX_LAG": "3s",
    }
    saga = f"/admin/sagas/sagainstance/{order.saga_id}"

    def commit():
        """As the sweep does, each second: what is replayed then is from now."""
        pair.primary.ask("SELECT pg_logical_emit_message(true, 'tick', '')")
        pair.await_standby()

    def as_of(path):
        """The page, once it is the standby's: a machine that is busy may be slower than its bound."""

        def look():
            commit()
            page = vera.get(path)
            assert page.status_code == 200
            return page if AS_OF.search(page.text) else None

        return waiting.until(look, f"{path} is read from the standby")

    with web_server.running(database.environment(**told), workers=1) as web, contextlib.ExitStack() as leave:
        vera = leave.enter_context(contextlib.closing(logged_in(web, "vera")))
        olga = leave.enter_context(contextlib.closing(logged_in(web, "olga")))

        _, secret = tokens.create(user=auth.User.objects.get(username="olga"), name="tests", scope="staff")
        headers = {"Authorization": f"Token {secret}"}
        for path in ("/admin/", "/admin/sagas/sagainstance/", "/admin/sagas/signal/", "/admin/orders/order/"):
            with heard(pair, tmp_path) as statements:
                as_of(path)
            assert statements, path
        with heard(pair, tmp_path) as statements:
            commit()
            assert 'sagas_live{state="running"}' in vera.get("/metrics", headers=headers).text
        assert statements

        with heard(pair, tmp_path) as statements:
            commit()
            pages = [olga.get("/admin/sagas/sagainstance/"), olga.get(f"{saga}/change/")]
            pages.append(olga.get(f"{saga}/intervention/hold/"))
            form = dict(re.findall(r'name="(seen|csrfmiddlewaretoken)" value="([^"]*)"', pages[-1].text))
            held = olga.post(
                f"{saga}/intervention/hold/",
                data={**form, "reason": "a look"},
                headers={"Referer": f"{web.url}{saga}/intervention/hold/"},
            )
            pages.append(held)
            pages.append(olga.get(f"/api/v1/orders/{order.pk}", headers=headers))
            pages.append(olga.get(f"/api/v1/sagas/{order.saga_id}", headers=headers))
        assert {page.status_code for page in pages} == {200}
        assert not AS_OF.search(pages[0].text), "what olga decides on is the primary's"
        assert sagas.SagaInstance.objects.get(pk=order.saga_id).held_at is not None
        assert statements == [], "neither pages to decide on, nor previews, nor the API"

        pair.standby.ask("SELECT pg_wal_replay_pause()")
        try:
            late = waiting.until(
                lambda: (page := vera.get("/admin/")) and not AS_OF.search(page.text) and page
            )
            assert late.status_code == 200, "a standby that lags is left alone"
        finally:
            pair.standby.ask("SELECT pg_wal_replay_resume()")
        as_of("/admin/")

        pair.primary.configure(synchronous_standby_names="")
        pair.standby.kill()
        gone = vera.get("/admin/sagas/sagainstance/")
        assert gone.status_code == 200
        assert not AS_OF.search(gone.text)
        assert "MUG" in gone.text or str(order.saga_id)[-12:] in gone.text
