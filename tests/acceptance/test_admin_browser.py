"""The console in a real browser, under the production policy: wide and narrow, light and dark."""

import datetime
import os
import pathlib
import re
import zoneinfo

import pytest
from django.conf import settings as django_settings
from django.contrib.auth import models as auth
from django.contrib.sessions.backends import db as sessions
from django.db import connection
from playwright.sync_api import expect
from pytest_django import live_server_helper

from invoicing.models import Invoice
from orders.models import Order
from payments.models import Payment
from sagas import engine, models
from sagas.console import bulk, failure_groups, interventions, links, roles
from sagas.console.models import FailureNote
from sagas.engine import transport
from sagas.testing import clocks, memory_transport
from shipping.models import Shipment
from tests.sandbox import running as sandboxes
from tests.support import browser, database, sample_orders

CLIPPED = """[...document.querySelectorAll("table")].filter(table => table.offsetWidth)
    .map(table => table.closest(".scroll, .results, .tabular") ?? table)
    .filter(box => box.scrollWidth > box.clientWidth + 1).map(box => box.className)"""

OVERFLOWING = """[...document.querySelectorAll(".tile, #result_list td")].flatMap(box => {
    const edge = box.getBoundingClientRect().right;
    return [...box.querySelectorAll("strong, .state, time")].filter(
        words => words.scrollWidth > words.clientWidth + 1 && getComputedStyle(words).display !== "inline"
            || words.getBoundingClientRect().right > edge + 1).map(words => words.textContent.trim());
})"""

THE_LIST = "/admin/sagas/sagainstance/"


# Some thirty pages, each loaded and looked at by axe, on a machine that does other things meanwhile.
pytestmark = pytest.mark.timeout(400)


# --- The orders --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    books = tmp_path_factory.mktemp("sandbox")
    with sandboxes.run(books, CARRIER_PACE_S="0.1") as running:
        yield running


@pytest.fixture(scope="module")
def site(django_db_setup, django_db_blocker, world):
    """A server with one saga of every kind, and people of every role; committed, and cleared at the end."""
    # Playwright's loop runs in this thread, which Django would take for asynchronous code.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
    override = pytest.MonkeyPatch()
    for name, path in (("PAYMENTS_URL", "bank"), ("INVOICING_URL", "fiscal"), ("SHIPPING_URL", "carrier")):
        override.setattr(django_settings, name, f"{world.url}/{path}")
    override.setattr(django_settings, "ALLOWED_HOSTS", ["localhost", "127.0.0.1"])
    with django_db_blocker.unblock():
        roles.make()
        server = live_server_helper.LiveServer("127.0.0.1")
        try:
            yield Site(server.url, sample_orders.SampleOrders(world))
        finally:
            server.stop()
            override.undo()
            _clear()
            del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


@pytest.fixture(autouse=True)
def transactional_db(site):
    """In place of pytest-django's, which would clear the samples after each test."""


class Site:
    def __init__(self, url, samples):
        self.url = url
        self.samples = samples
        self.sagas = {name: getattr(samples, name)() for name in sample_orders.KINDS}
        sample_orders.staff()

    def session(self, role):
        """Somebody with that role, already logged in."""
        user, _ = auth.User.objects.get_or_create(username=role.split()[-1], defaults={"is_staff": True})
        user.groups.set([auth.Group.objects.get(name=role)])
        store = sessions.SessionStore()
        store["_auth_user_id"] = str(user.pk)
        store["_auth_user_backend"] = "django.contrib.auth.backends.ModelBackend"
        store["_auth_user_hash"] = user.get_session_auth_hash()
        store.save()
        return store.session_key

    def page(self, name):
        return f"/admin/sagas/sagainstance/{self.sagas[name].pk}/change/"


def _clear():
    keep = {"django_migrations", "django_content_type", "auth_permission", "auth_group",
            "auth_group_permissions", "invoicing_cancellationwindow"}  # fmt: skip
    tables = [name for name in connection.introspection.table_names() if name not in keep]
    with connection.cursor() as cursor:
        # The server's threads are gone, their connections are not.
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    database.empty(*tables)
    connection.close()


@pytest.fixture(scope="module")
def chromium():
    with browser.launched() as launched:
        yield launched


@pytest.fixture
def visit(site, chromium):
    """A tab of somebody with a role; whatever it complains of fails the test."""
    visits = []

    def begin(role=roles.SUPERVISOR, **context):
        context = {"viewport": browser.WIDE, **context}
        one = browser.Visit(chromium, site.url, session=site.session(role) if role else "", **context)
        visits.append(one)
        return one

    yield begin
    for one in visits:
        one.context.close()
    assert [complaint for one in visits for complaint in one.complaints] == []


def addresses(site):
    """Every kind of page that the console has."""
    attention = site.sagas["attention"]
    order = Order.objects.get(saga=attention)
    payment = Payment.objects.get(key=f"{attention.pk}.take-payment")
    invoice = Invoice.objects.get(key=f"{attention.pk}.issue-invoice")
    shipment = Shipment.objects.get(key=f"{site.sagas['completed'].pk}.deliver-order")
    signature = failure_groups.groups(failure_groups.ATTENTION)[0].signature
    return [
        "/admin/",
        "/admin/?window=1h",
        "/admin/sagas/sagainstance/",
        "/admin/sagas/sagainstance/?state=needs_attention",
        f"/admin/sagas/sagainstance/?group=attention:{signature}",
        f"/admin/sagas/sagainstance/?q={order.number}",
        "/admin/sagas/sagainstance/groups/",
        "/admin/sagas/sagainstance/groups/?scope=failed",
        *(site.page(name) for name in sample_orders.KINDS),
        *(
            f"/admin/sagas/sagainstance/{attention.pk}/intervention/{name}/"
            for name in ("resume", "happened", "skip")
        ),
        "/admin/sagas_console/bulkrun/",
        "/admin/sagas/event/",
        "/admin/sagas/queue/",
        "/admin/orders/order/",
        f"/admin/orders/order/{order.pk}/change/",
        f"/admin/payments/payment/{payment.pk}/change/",
        "/admin/payments/payment/",
        "/admin/inventory/product/",
        "/admin/inventory/reservation/",
        f"/admin/inventory/reservation/{attention.pk}.reserve-stock/change/",
        "/admin/shipping/shipment/",
        f"/admin/shipping/shipment/{shipment.pk}/change/",
        "/admin/invoicing/invoice/",
        f"/admin/invoicing/invoice/{invoice.pk}/change/",
        "/admin/sagas_console/consent/",
        "/admin/sagas/signal/",
        "/admin/viewer/",
        "/admin/sagas/circuit/payments/change/",
    ]


# --- Every page -----------------------------------------------------------------------------------


def test_every_page_works_under_the_policy_and_keeps_nobody_out_wide_and_narrow(site, visit, monkeypatch):
    """Each is loaded once, and looked at wide and light, and then narrow and dark.

    What fits depends upon the width, and what can be read upon the colours: two of the four pairs show both.
    """
    monkeypatch.setattr(django_settings, "SAGAS_FOUR_EYES", True)  # Which puts more words on the buttons.
    tab = visit()
    barriers = {}
    for path in addresses(site):
        tab.looks(browser.WIDE, "light")
        it_works_when_it_is_wide(tab, site, path)
        barriers[path, "wide"] = tab.barriers(rows=3)
        tab.looks(browser.NARROW, "dark")
        it_fits_when_it_is_narrow(tab, path)
        barriers[path, "narrow"] = tab.barriers(rows=3)
    assert {which: found for which, found in barriers.items() if found} == {}


@pytest.mark.thorough
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_works_under_the_policy_and_keeps_nobody_out(site, visit, scheme, monkeypatch):
    monkeypatch.setattr(django_settings, "SAGAS_FOUR_EYES", True)
    tab = visit(color_scheme=scheme)
    barriers = {}
    for path in addresses(site):
        it_works_when_it_is_wide(tab, site, path)
        barriers[path] = tab.barriers()
    assert {path: found for path, found in barriers.items() if found} == {}


@pytest.mark.thorough
@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_every_page_fits_a_telephone(site, visit, scheme):
    tab = visit(viewport=browser.NARROW, is_mobile=True, has_touch=True, color_scheme=scheme)
    barriers = {}
    for path in addresses(site):
        response = tab.open(path)

        assert response.url == site.url + path, f"{path} led elsewhere"
        it_fits_when_it_is_narrow(tab, path)
        barriers[path] = tab.barriers()
    assert {path: found for path, found in barriers.items() if found} == {}


def it_works_when_it_is_wide(tab, site, path):
    response = tab.open(path)

    assert response.headers["content-security-policy"].startswith("default-src 'self'"), path
    assert "unsafe" not in response.headers["content-security-policy"], path
    assert response.url == site.url + path, f"{path} led elsewhere"
    assert tab.fits(), f"{path} is wider than the window"
    if path.partition("?")[0] != THE_LIST:
        assert tab.page.evaluate(CLIPPED) == [], f"{path} has tables that must be scrolled sideways"


def it_fits_when_it_is_narrow(tab, path):
    assert tab.fits(), f"{path} is wider than a telephone"
    assert tab.page.evaluate(OVERFLOWING) == [], f"{path} has words that stick out of their tile or cell"
    assert tab.page.evaluate(CLIPPED) == [], f"{path} has tables that must be scrolled sideways"


def test_who_is_not_logged_in_gets_a_login_page_that_works(visit):
    tab = visit(role=None)

    tab.open("/admin/")

    expect(tab.page.locator("#id_username")).to_be_visible()
    assert tab.barriers() == []


def test_what_is_refused_or_absent_is_told_in_a_page_of_the_same_kind(site, visit):
    tab = visit(role=roles.VIEWER)
    for path, status, words in (
        (
            f"/admin/sagas/sagainstance/{site.sagas['waiting'].pk}/intervention/hold/",
            403,
            "You may not do that",
        ),
        ("/admin/sagas/sagainstance/01980000-0000-7000-8000-000000000000/change/", 404, "nothing here"),
    ):
        tab.open(path, status)
        expect(tab.page.locator("h1")).to_contain_text(words)
        assert tab.fits()
        assert tab.barriers() == []
    # The browser itself remarks that the pages were not there; nothing else may be wrong with them.
    tab.complaints[:] = [one for one in tab.complaints if "status of 40" not in one]


# --- Acting ---------------------------------------------------------------------------------------


def fresh(site, name):
    """One more saga of a kind, to be acted upon."""
    return getattr(site.samples, name)()


ACTS = {
    "resume": ("attention", "operator.retry", "Undoing take-payment is tried again."),
    "retry": ("retrying", "operator.retry", "is tried again."),
    "ask": ("waiting", "operator.ask", "The provider is asked what became of deliver-order."),
    "happened": (
        "attention", "operator.resolve",
        "Take-payment counts as undone, on your word. Now: saga “Compensated”, order “Cancelled”.",
    ),
    "did-not-happen": ("attention", "operator.resolve", "Take-payment counts as not undone yet"),
    "compensate": ("waiting", "operator.compensate", "Now: saga “Compensating”, order “Cancelling”."),
    "hold": ("waiting", "operator.hold", "It is held"),
    "release": ("held", "operator.release", "It is released"),
    "extend": ("waiting", "operator.extend", "The deadline is 20"),
    "close": ("attention", "operator.close", "Now: saga “Put aside”, order “Closed”."),
}  # fmt: skip
# No step of the order is optional: skipping is tried in tests/sagas/console/test_admin_interventions.py.
assert set(ACTS) == set(interventions.INTERVENTIONS) - {"skip"}


@pytest.mark.parametrize("name", ACTS)
def test_each_intervention_is_made_by_clicking_through_it(site, visit, name):
    sample, kind, told = ACTS[name]
    saga = fresh(site, sample)
    tab = visit()
    page = tab.page
    with transport.use(memory_transport.MemoryTransport()):
        tab.open(f"/admin/sagas/sagainstance/{saga.pk}/change/")
        page.locator(f"#saga-live a.intervention-{name}").click()
        expect(page.locator(".preview li").first).to_be_visible()
        page.get_by_label(re.compile("Reason|Evidence")).fill("Ticket 12")
        page.locator("button.button-strong").click()
        page.wait_for_url(f"**/{saga.pk}/change/")

    expect(page.locator(".messagelist")).to_contain_text(told)
    event = models.Event.objects.get(saga_id=saga.pk, kind=kind, actor="supervisor")
    assert event.reason == "Ticket 12"
    expect(page.locator(f"#event-{event.pk}")).to_have_count(1)


def test_the_verdict_and_the_preview_say_what_becomes_of_the_money_and_the_key_is_copied(site, visit):
    saga = site.sagas["attention"]
    tab = visit()
    tab.open(f"/admin/sagas/sagainstance/{saga.pk}/intervention/happened/")
    expect(tab.page.locator(".outcome")).to_contain_text(
        "Right after: saga “Compensated”, order “Cancelled”."
    )
    expect(tab.page.locator(".outcome")).to_contain_text("R$ 274.70 counts as returned to the customer.")
    tab.open(site.page("attention"))
    page, verdict = tab.page, tab.page.locator("#part-summary")

    expect(verdict).to_contain_text("Why it was turned back")
    expect(verdict).to_contain_text("still to be returned")
    expect(verdict.locator(".button-strong")).to_have_text("Say that it was undone")
    page.locator("#copy-key").click()

    # Where the browser lets nobody write to the clipboard the key is chosen, so that the keyboard copies it.
    page.wait_for_function(
        "key => (document.getElementById('live-says').textContent + getSelection()).includes(key)",
        arg=f"{saga.pk}.take-payment",
    )


def test_an_intervention_is_made_with_the_keyboard_alone(site, visit):
    saga = fresh(site, "waiting")
    tab = visit()
    tab.open(f"/admin/sagas/sagainstance/{saga.pk}/change/")
    page = tab.page

    assert _tab_to(page, "a.intervention-hold"), "the button is reached with Tab"
    page.keyboard.press("Enter")
    page.wait_for_url("**/intervention/hold/?seen=*")
    assert _tab_to(page, "#id_reason")
    page.keyboard.type("Ticket 12")
    assert _tab_to(page, "button.button-strong")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/{saga.pk}/change/")

    saga.refresh_from_db()
    assert saga.held_at is not None


def _tab_to(page, selector, most=120):
    for _ in range(most):
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return True
        page.keyboard.press("Tab")
    return False


def test_what_is_not_possible_is_disabled_and_says_why(site, visit):
    tab = visit(role=roles.VIEWER)
    tab.open(site.page("waiting"))
    page = tab.page

    page.locator("#interventions-refused summary").click()

    disabled = page.locator(".refused button:disabled")
    expect(disabled).to_have_count(len(interventions.INTERVENTIONS))
    expect(page.locator("#part-interventions a.button-link")).to_have_count(0)
    for number in range(len(interventions.INTERVENTIONS)):
        why = disabled.nth(number).get_attribute("aria-describedby")
        expect(page.locator(f"#{why}")).to_have_text(re.compile(r"\w"))


def test_everything_but_the_live_refresh_works_without_javascript(site, visit):
    saga = fresh(site, "waiting")
    tab = visit(java_script_enabled=False)
    page = tab.page
    tab.open("/admin/")
    page.locator("nav.rooms a", has_text="Sagas").click()
    page.locator("#searchbar").fill(sample_orders.number(saga))
    page.locator("#changelist-search [type=submit]").click()
    page.locator("#result_list tbody th a").first.click()
    expect(page.locator("svg.timeline .bar").nth(3)).to_be_attached()
    page.locator("a.intervention-hold").click()
    page.get_by_label("Reason").fill("Ticket 12")
    page.locator("button.button-strong").click()

    expect(page.locator("#part-summary")).to_contain_text("Held")
    page.locator("#all-events > summary").click()
    page.locator("select[name=actor]").select_option("supervisor")
    page.locator(".filters button").click()
    expect(page.locator(".events tbody tr")).to_have_count(1)


def test_a_page_follows_its_saga_without_losing_the_readers_place(site, visit):
    saga = fresh(site, "waiting")
    tab = visit()
    tab.open(f"/admin/sagas/sagainstance/{saga.pk}/change/")
    page = tab.page
    page.locator("#fold-take-payment > summary").click()
    page.locator("#facts-take-payment summary").click()
    page.locator("#facts-take-payment summary").focus()
    page.locator("#part-attempts").scroll_into_view_if_needed()
    top = page.locator("#part-attempts").bounding_box()["y"]

    engine.hold(saga.pk, seen=engine.look(saga.pk), actor="olga", reason="The customer called")
    page.locator("#part-summary", has_text="olga has held it").wait_for()

    assert page.locator("#facts-take-payment").evaluate("item => item.open")
    assert page.evaluate("document.activeElement.parentElement.id") == "facts-take-payment"
    assert page.locator("#part-attempts").bounding_box()["y"] == pytest.approx(top, abs=3)
    expect(page.locator("#live-says")).to_contain_text("olga has held it")
    assert page.evaluate("performance.getEntriesByType('navigation').length") == 1


def refreshed(page):
    """Another look of the page at the server has ended."""
    page.evaluate("document.querySelector('[data-live]').addEventListener('told', () => window.looks++)")
    before = page.evaluate("window.looks = 0")
    page.wait_for_function("before => window.looks > before", arg=before, timeout=30_000)


def test_the_overview_refreshes_while_one_looks(site, visit):
    fresh(site, "waiting")
    tab = visit()
    tab.open("/admin/")
    page = tab.page
    running = page.locator("a.tile-running strong")
    before = int(running.inner_text())
    page.mouse.move(0, 0)

    fresh(site, "waiting")

    expect(running).to_have_text(str(before + 1), timeout=30_000)
    assert page.evaluate("performance.getEntriesByType('navigation').length") == 1


def test_the_list_refreshes_and_nothing_moves_under_the_pointer(site, visit):
    saga = fresh(site, "waiting")
    tab = visit()
    tab.open("/admin/sagas/sagainstance/?state=live")
    page = tab.page
    rows = page.locator("#result_list tbody tr")
    mine = page.locator(f"#result_list tbody tr:has(a[href*='{saga.pk}'])")
    subject = mine.locator("th")
    subject.hover(position={"x": 2, "y": 2})
    place, before = subject.bounding_box(), rows.count()

    newer = fresh(site, "waiting")
    engine.hold(saga.pk, seen=engine.look(saga.pk), actor="olga", reason="The customer called")

    # Its row is told anew where it stands, and the newer saga waits until the pointer is elsewhere.
    expect(mine).to_contain_text("Held", timeout=30_000)
    expect(page.locator("[data-live-note]")).to_be_visible(timeout=30_000)
    expect(rows).to_have_count(before)
    assert subject.bounding_box()["y"] == pytest.approx(place["y"], abs=1)

    page.mouse.move(0, 0)
    expect(page.locator(f"#result_list tbody tr:has(a[href*='{newer.pk}'])")).to_be_visible(timeout=30_000)
    expect(page.locator("[data-live-note]")).to_be_hidden()


def test_on_a_telephone_the_filters_come_first_and_folded(site, visit):
    tab = visit(viewport=browser.NARROW, is_mobile=True, has_touch=True)
    tab.open("/admin/sagas/sagainstance/?state=live")
    page = tab.page

    expect(page.locator("#filters-fold > summary")).to_have_text("Filter · in use")
    expect(page.locator("#changelist-filter")).to_be_hidden()
    first = page.evaluate("document.querySelector('#filters-fold').getBoundingClientRect().top")
    rows = page.evaluate("document.querySelector('#result_list').getBoundingClientRect().top")
    assert first < rows

    page.locator("#filters-fold > summary").click()
    expect(page.locator("#changelist-filter")).to_be_visible()


def test_what_is_ticked_stays_ticked_and_as_it_was_seen(site, visit):
    saga = fresh(site, "waiting")
    tab = visit()
    tab.open("/admin/sagas/sagainstance/?state=live")
    page = tab.page
    mine = page.locator(f"#result_list tbody tr:has(a[href*='{saga.pk}'])")
    mine.locator("input.action-select").check()
    page.mouse.move(0, 0)

    engine.hold(saga.pk, seen=engine.look(saga.pk), actor="olga", reason="The customer called")
    refreshed(page)

    expect(mine.locator("input.action-select")).to_be_checked()
    expect(mine).not_to_contain_text("Held")

    mine.locator("input.action-select").uncheck()
    page.mouse.move(0, 0)
    expect(mine).to_contain_text("Held", timeout=30_000)
    page.locator("#action-toggle").check()
    expect(mine.locator("input.action-select")).to_be_checked()


SHORT = {"completed": (2400, 4200), "attention": (3200, 6000)}
"""Pixels that a page is high at most, at 1280 and at 390; before the steps folded it was 4970 and 12677."""


@pytest.mark.parametrize("name", SHORT)
def test_what_is_finished_is_folded_so_that_the_page_is_short(site, visit, name):
    for viewport, most in zip((browser.WIDE, browser.NARROW), SHORT[name], strict=True):
        tab = visit(viewport=viewport)
        tab.open(site.page(name))

        assert tab.page.evaluate("document.documentElement.scrollHeight") <= most
        opened = tab.page.locator("details.step-fold[open]")
        expect(opened).to_have_count(0 if name == "completed" else 1)
        fold = tab.page.locator("#fold-reserve-stock")
        expect(fold.locator(".step-body")).to_be_hidden()
        fold.locator("> summary").click()
        expect(fold.locator(".step-body")).to_be_visible()
        assert tab.fits()
        assert tab.barriers() == []


def test_timeline_and_path_stand_side_by_side_and_no_two_labels_of_gaps_collide(site, visit):
    for viewport in (browser.WIDE, browser.NARROW):
        tab = visit(viewport=viewport)
        for name in ("attention", "waiting", "held", "cancelled"):
            tab.open(site.page(name))

            assert tab.page.evaluate(COLLIDING) == [], f"{name} at {viewport['width']}"
        line, path = (tab.page.locator(f"#part-{part}").bounding_box() for part in ("timeline", "graph"))
        assert (line["y"] == path["y"]) == (viewport is browser.WIDE)


COLLIDING = """(() => {
    const labels = [...document.querySelectorAll(".timeline .gap text")];
    const boxes = labels.map(text => text.getBoundingClientRect());
    const picture = document.querySelector(".timeline").getBoundingClientRect();
    const outside = boxes.filter(box => box.left < picture.left - 1 || box.right > picture.right + 1);
    const hit = boxes.filter((a, i) => boxes.some((b, j) => j > i && a.left < b.right && b.left < a.right
        && a.top < b.bottom && b.top < a.bottom));
    return [...outside, ...hit].map(box => box.left);
})()"""


def test_a_filter_that_was_chosen_survives_the_refresh(site, visit):
    saga = fresh(site, "waiting")
    tab = visit()
    tab.open(f"/admin/sagas/sagainstance/{saga.pk}/change/?kind=step.done")
    shown = tab.page.locator(".events tbody tr")
    before = len(shown.all_inner_texts())  # The page is loaded: there is nothing to wait for.
    assert before

    engine.hold(saga.pk, seen=engine.look(saga.pk), actor="olga", reason="wait")
    tab.page.locator("#part-summary", has_text="olga has held it").wait_for()

    expect(shown).to_have_count(before)


def test_a_bulk_run_is_begun_from_a_group_and_followed_to_its_end(site, visit):
    for _ in range(2):
        fresh(site, "attention")
    tab = visit()
    page = tab.page
    tab.open("/admin/sagas/sagainstance/groups/")
    page.locator(".group button[value=resume]").first.click()
    expect(page.locator(".preview")).to_contain_text("Together they are worth R$")
    page.get_by_label("Reason").fill("The bank is back")
    page.locator("button.button-strong").click()
    page.wait_for_url("**/bulkrun/*/change/")

    posted = memory_transport.MemoryTransport()
    with transport.use(posted):
        for _ in range(6):
            bulk.drive()
            posted.deliver_all()
    page.locator("#part-run", has_text="Stopped").wait_for()

    # The bank refuses for good: the first one showed it, and the rest was left alone.
    expect(page.locator("#part-items .state-failed")).to_have_count(1)
    expect(page.locator("#part-items .state-pending").first).to_be_visible()
    assert tab.barriers() == []


# --- Approving ------------------------------------------------------------------------------------

SIGHTS = {
    "wide-light": (browser.WIDE, "light"),
    "narrow-dark": (browser.NARROW, "dark"),
    "wide-dark": (browser.WIDE, "dark"),
    "narrow-light": (browser.NARROW, "light"),
}


def every_sight(first):
    """The test as a page is seen in each of them: by default in the first."""
    marks = {name: () if name == first else pytest.mark.thorough for name in SIGHTS}
    sights = [pytest.param(*sight, id=name, marks=marks[name]) for name, sight in SIGHTS.items()]
    return pytest.mark.parametrize(("width", "scheme"), sights)


@pytest.fixture
def to_approve(site):
    """A saga that waits for a person's yes with two facts, and the viewer is such a person."""
    # Not above: `make screenshots` has the project's own settings, in which there is no sample app.
    from tests.sagas import harness
    from tests.sagas.sample_app import recorder
    from tests.sagas.sample_app import saga as toys

    posted = memory_transport.MemoryTransport()
    with transport.use(posted):
        saga = harness.begin(toys.APPROVED_WITH_FACTS)
        posted.deliver_all()
    recorder.close()
    site.session(roles.VIEWER)
    viewer = auth.User.objects.get(username="viewer")
    viewer.user_permissions.add(auth.Permission.objects.get(codename="approve_toy"))
    yield saga
    viewer.user_permissions.clear()
    if not models.SagaInstance.objects.get(pk=saga.pk).is_final:
        engine.cancel(saga.pk, actor="test", reason="the test is over")
    recorder.close()  # It has a session of its own.


def approved(saga):
    saga.refresh_from_db()
    event = models.Event.objects.get(saga_id=saga.pk, kind="approval.given")
    return event.actor, event.reason, event.data["through"], saga.facts["limit"], saga.facts["note"]


@every_sight("wide-light")
def test_an_approval_is_found_and_given_by_clicking_through_it(visit, to_approve, width, scheme):
    tab = visit(role=roles.VIEWER, viewport=width, color_scheme=scheme)
    page = tab.page
    tab.open("/admin/")
    page.get_by_role("link", name=re.compile("waits? for your approval")).click()
    expect(page.locator("#result_list tbody tr")).to_have_count(1)
    page.locator("#result_list tbody th a").click()
    expect(page.locator("#part-questions")).to_contain_text("whoever has the permission")
    assert tab.fits()
    assert tab.barriers() == []

    with transport.use(memory_transport.MemoryTransport()):
        page.locator("#part-questions a.answer-approve").click()
        expect(page.locator(".preview li").first).to_be_visible()
        assert tab.fits()
        assert tab.barriers() == []
        page.get_by_label("Reason").fill("Known customer")
        page.get_by_label("limit").fill("7")
        page.get_by_label("note").fill("as agreed")
        page.locator("button.button-strong").click()
        page.wait_for_url(f"**/{to_approve.pk}/change/")

    expect(page.locator(".messagelist")).to_contain_text("is approved")
    expect(page.locator("#part-questions")).to_have_count(0)
    assert approved(to_approve) == ("viewer", "Known customer", "console", 7, "as agreed")


@every_sight("narrow-dark")
def test_a_signed_link_approves_without_a_login_and_once(visit, to_approve, width, scheme):
    link = links.make(to_approve.pk, "ok", answer="approve", person="rita")
    tab = visit(role=None, viewport=width, color_scheme=scheme)
    page = tab.page
    response = tab.open(link)
    assert response.headers["content-security-policy"].startswith("default-src 'self'")
    expect(page.locator("main")).to_contain_text("rita")
    assert tab.fits()
    assert tab.barriers() == []

    with transport.use(memory_transport.MemoryTransport()):
        page.get_by_label("Reason").fill("Seen on the train")
        page.get_by_label("limit").fill("7")
        page.get_by_label("note").fill("as agreed")
        page.get_by_role("button", name="Approve").click()
        expect(page.locator("h1")).to_have_text("Thank you")

    assert approved(to_approve) == ("link:rita", "Seen on the train", "link", 7, "as agreed")
    assert tab.barriers() == []
    tab.open(link, 410)
    expect(page.locator("h1")).to_have_text("This link cannot be used")
    assert tab.fits()
    assert tab.barriers() == []
    # The browser itself remarks that the page was not there; nothing else may be wrong with it.
    tab.complaints[:] = [one for one in tab.complaints if "status of 410" not in one]


# --- Whose language, whose clock, whose eyes --------------------------------------------------------


def test_the_first_page_of_a_session_uses_one_time_zone(site, visit):
    tab = visit(role=roles.SUPERVISOR)
    tab.open(site.page("waiting"))
    words = tab.page.locator("body").inner_text()

    assert "America/Sao_Paulo" in words
    assert not re.search(r"\d\d:\d\d:\d\d\.\d{3} UTC", words)
    first = tab.page.locator("#part-summary time").first.inner_text()

    tab.open(site.page("waiting"))
    expect(tab.page.locator("#part-summary time").first).to_have_text(first)


def test_times_are_in_the_viewers_zone_to_the_millisecond(site, visit):
    tab = visit()
    saga = site.sagas["completed"]
    tab.open("/admin/")  # The browser tells its zone here.

    tab.open(site.page("completed"))

    local = saga.created_at.astimezone(zoneinfo.ZoneInfo("America/Sao_Paulo"))
    expect(tab.page.locator("#part-summary time").first).to_have_text(
        local.strftime("%Y-%m-%d %H:%M:%S.") + f"{local.microsecond // 1000:03}"
    )
    expect(tab.page.locator("#user-tools")).to_contain_text("America/Sao_Paulo")


def test_language_and_zone_are_chosen_and_kept(site, visit):
    tab = visit()
    page = tab.page
    tab.open("/admin/viewer/?next=/admin/sagas/sagainstance/")
    page.locator("#language").select_option("pt-br")
    page.locator("#zone").select_option("Asia/Tokyo")
    page.locator("button.button-strong").click()
    page.wait_for_url("**/sagainstance/")

    expect(page.locator("html")).to_have_attribute("lang", "pt-br")
    expect(page.locator("#user-tools")).to_contain_text("Asia/Tokyo")
    tab.open(site.page("attention"))
    expect(page.locator("#part-summary")).to_contain_text("Quem deve agir")
    # The browser's own zone does not win.
    expect(page.locator("#user-tools")).to_contain_text("Asia/Tokyo")


def test_the_theme_is_toggled(site, visit):
    tab = visit(color_scheme="light")
    tab.open(site.page("completed"))
    light = _background(tab.page)

    for _ in range(3):
        tab.page.locator("#user-tools .theme-toggle").click()
        if tab.page.locator("html").get_attribute("data-theme") == "dark":
            break

    assert _background(tab.page) != light


def _background(page):
    return page.evaluate("getComputedStyle(document.body).backgroundColor")


# --- Pictures -------------------------------------------------------------------------------------


@pytest.mark.thorough
def test_screenshots_of_every_important_page(site, visit, request, tmp_path):
    wanted = request.config.getoption("--screenshots", default=None)
    folder = pathlib.Path(wanted) if wanted else tmp_path
    folder.mkdir(parents=True, exist_ok=True)
    if wanted:
        _furnish(site.samples)
    signature = failure_groups.groups(failure_groups.ATTENTION)[0].signature
    FailureNote.objects.update_or_create(
        signature=signature,
        defaults={"text": "The bank refuses refunds after a chargeback; see the runbook.", "actor": "olga"},
    )
    for queue in models.Queue.objects.all():
        queue.probed_at = queue.returned_at = queue.returned_sent_at = models.database_now()
        queue.worker = f"{queue.name}@127.0.0.1"
        queue.save()
    clocks.pass_time(clocks.A_MOMENT)
    pictures = {
        "console-overview": ("/admin/", browser.WIDE, "light"),
        "console-sagas": ("/admin/sagas/sagainstance/", browser.WIDE, "light"),
        "saga-attention": (site.page("attention"), browser.WIDE, "light"),
        "saga-attention-dark": (site.page("attention"), browser.WIDE, "dark"),
        "saga-telephone": (site.page("attention"), browser.NARROW, "light"),
        "failure-groups": ("/admin/sagas/sagainstance/groups/", browser.WIDE, "light"),
        "intervention-preview": (
            f"/admin/sagas/sagainstance/{site.sagas['waiting'].pk}/intervention/compensate/",
            browser.WIDE,
            "light",
        ),
    }  # fmt: skip
    for name, (path, viewport, scheme) in pictures.items():
        tab = visit(viewport=viewport, color_scheme=scheme)
        tab.open("/admin/viewer/")
        tab.open(path)
        tall = {"x": 0, "y": 0, "width": viewport["width"], "height": 2080}
        how = {"full_page": True, "clip": tall} if name.startswith("saga-attention") else {}
        tab.page.screenshot(path=folder / f"{name}.png", **how)

    assert all((folder / f"{name}.png").stat().st_size > 10_000 for name in pictures)


def _furnish(samples):
    """A day's orders, as a shop has them: most go well."""
    for hour in range(23, 0, -1):
        failed = "compensated" if hour % 3 else "cancelled"
        extra = {5: ["attention"], 11: ["compensated"], 17: ["attention", "compensated"]}.get(hour, [])
        for name in ["completed", "completed", failed, *extra]:
            saga = getattr(samples, name)()
            # A delivery took half an hour already; all of them began at the same time.
            by = datetime.timedelta(hours=hour, minutes=0 if name in ("completed", "attention") else 30)
            clocks.pass_time(by, saga.pk)
            sample_orders.set_back(saga, by)
    sample_orders.staff()
