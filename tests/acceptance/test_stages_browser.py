"""The page of a saga that is more than a list, in a real browser: wide and narrow, light and dark."""

import os

import pytest
from django.contrib.auth import models as auth
from django.contrib.sessions.backends import db as sessions
from django.db import connection
from playwright.sync_api import expect

from sagas.console import roles
from sagas.declaration import definition
from sagas.engine import transport
from sagas.testing import memory_transport
from tests.sagas.console import admin_client
from tests.sagas.sample_app import recorder
from tests.sagas.sample_app import saga as toys
from tests.support import browser

pytestmark = pytest.mark.timeout(240)

DAY = definition.DAY

REVIEW = definition.Approval("review-order", when="risky", permission="orders.review_order", limit=2 * DAY)

SHOP = toys.saga(
    "toy-shop",
    toys.local("check-customer"),
    REVIEW,
    toys.at_once("secure", toys.remote("take-payment"), toys.local("reserve-stock")),
    toys.remote("issue-invoice", when="taxable"),
    toys.at_once(
        "hand-over",
        toys.waits("deliver-first-parcel", **toys.ASK),
        toys.remote("deliver-second-parcel"),
        toys.local("write-to-customer"),
        toys.local("count", when="taxable"),
    ),
    toys.local("book", **toys.RETRIABLE),
    inputs=["risky", "taxable"],
)


MANY = toys.saga(
    "toy-many-hands",
    toys.at_once(
        "many",
        toys.local("reserve-stock"),
        toys.remote("take-the-payment"),
        definition.Approval("review-order", permission="orders.review_order", limit=2 * DAY, persons=2),
        toys.local("write-to-customer"),
        toys.remote("count"),
    ),
    toys.local("book"),
)

STICKS_OUT = """node => {
    const box = node.querySelector("rect").getBoundingClientRect();
    return [...node.querySelectorAll("text")].filter(text => text.getBoundingClientRect().right > box.right)
        .map(text => text.textContent);
}"""
"""Of a node of the graph, its texts that are wider than it."""


@pytest.fixture(scope="module")
def chromium(django_db_setup, django_db_blocker):
    # Playwright's loop runs in this thread, which Django would take for asynchronous code.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
    with browser.launched() as launched:
        with django_db_blocker.unblock():
            connection.close()  # Another module's browser may have ended the session of this loop.
        yield launched
    recorder.close()  # It has a session of its own.
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        # The tests' own session belongs to that loop, which is over.
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    connection.close()
    del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


@pytest.fixture
def visit(transactional_db, live_server, chromium):
    """A tab of a supervisor; whatever it complains of fails the test."""
    roles.make()
    user = auth.User.objects.create(username="supervisor", is_staff=True)
    user.groups.set([auth.Group.objects.get(name=roles.SUPERVISOR)])
    store = sessions.SessionStore()
    store["_auth_user_id"] = str(user.pk)
    store["_auth_user_backend"] = "django.contrib.auth.backends.ModelBackend"
    store["_auth_user_hash"] = user.get_session_auth_hash()
    store.save()
    visits = []

    def begin(**context):
        context = {"viewport": browser.WIDE, **context}
        visits.append(browser.Visit(chromium, live_server.url, session=store.session_key, **context))
        return visits[-1]

    yield begin
    for one in visits:
        one.context.close()
    assert [complaint for one in visits for complaint in one.complaints] == []


def asked():
    """It waits for a person's yes or no."""
    return admin_client.begin(SHOP, "do check-customer", risky=True, taxable=True)


def at_work():
    """One of two is done, and the other failed once; the approval was left out."""
    return admin_client.begin(SHOP, "do check-customer, flake take-payment", messages=3)


def handed_over():
    """Two stages are done, or wait; the invoice was left out."""
    return admin_client.begin(SHOP, "do check-customer, begin deliver-first-parcel")


def undone():
    """The second stage failed, and everything is undone."""
    return admin_client.begin(SHOP, "do check-customer, fail write-to-customer", risky=False, taxable=True)


def three_rows():
    """Five at once, one of them an approval; nobody knows whether the payment was taken."""
    return admin_client.begin(MANY, "lose take-the-payment")


KINDS = [asked, at_work, handed_over, undone, three_rows]


# What fits depends upon the width, and what can be read upon the colours: two of the four pairs show both.
@pytest.mark.parametrize(
    ("viewport", "scheme"),
    [(browser.WIDE, "light"), pytest.param(browser.NARROW, "dark", marks=pytest.mark.thorough)],
    ids=["wide", "narrow"],
)
def test_the_pages_of_sagas_with_stages_fit_and_keep_nobody_out(visit, viewport, scheme):
    tab = visit(viewport=viewport, color_scheme=scheme)
    for make in KINDS:
        saga = make()

        tab.open(admin_client.page(saga))

        assert tab.fits(), make.__name__
        assert tab.barriers() == [], make.__name__
        for text in tab.page.locator("svg.graph .node").all():
            assert text.evaluate(STICKS_OUT) == [], make.__name__


def test_a_step_of_several_at_once_is_settled_by_clicking_through_it(visit):
    saga = three_rows()
    tab = visit()
    page = tab.page
    tab.open(admin_client.page(saga))
    expect(page.locator("svg.graph .lanes")).to_have_count(1)
    expect(page.locator("svg.graph .node.current:not(.undo)")).to_have_count(2)
    expect(page.locator("svg.graph .person")).to_have_count(1)
    expect(page.locator(".step.in-stage")).to_have_count(5)

    with transport.use(memory_transport.MemoryTransport()):
        page.locator("[data-step=take-the-payment] a.intervention-happened").click()
        expect(page.locator(".preview")).to_contain_text("when these are done as well: review-order")
        page.get_by_label("Evidence").fill("Ticket 12")
        page.locator("button.button-strong").click()
        page.wait_for_url(f"**/{saga.pk}/change/")

    expect(page.locator(".messagelist")).to_contain_text("counts as done, on your word")
    expect(page.locator("#part-summary")).to_contain_text("Steps done at once in “many”: 4 of 5.")
    assert saga.steps.get(name="take-the-payment").state == "done"


def test_a_step_that_was_left_out_is_grey_and_says_why(visit):
    tab = visit()
    tab.open(admin_client.page(handed_over()))
    page = tab.page

    expect(page.locator(".step.left-out", has_text="review-order")).to_contain_text(
        "Left out: “risky” is not true."
    )
    expect(page.locator("svg.graph .node-skipped")).to_have_count(3)
    expect(page.locator("svg.graph .node-note").first).to_be_visible()
