"""The pages of a saga with children and of these, in a real browser: wide and narrow, light and dark."""

import pathlib

import pytest
from django.urls import reverse
from playwright.sync_api import expect

from sagas import engine
from tests.acceptance.test_stages_browser import (  # noqa: F401 - chromium and visit are fixtures
    STICKS_OUT,
    chromium,
    visit,
)
from tests.sagas.console import admin_client, kin
from tests.support import browser

pytestmark = pytest.mark.timeout(240)

LIST = "/admin/sagas/sagainstance/"


def pages(saga):
    """Every page on which a family is told of."""
    done, in_need, coming = (kin.children(saga)[number] for number in (0, 3, 7))
    return {
        "parent": admin_client.page(saga),
        "done": admin_client.page(done),
        "in-need": admin_client.page(in_need),
        "coming": admin_client.page(coming),
        "children": f"{LIST}?parent={saga.pk}.deliver",
        "sagas": f"{LIST}?family=no-children",
        "overview": "/admin/",
        "compensate": reverse("admin:sagas_saga_intervention", args=[saga.pk, "compensate"]),
        "run": reverse("admin:sagas_saga_children", args=[saga.pk, "deliver", "resume"]),
    }


# What fits depends upon the width, and what can be read upon the colours: two of the four pairs show both.
@pytest.mark.parametrize(
    ("viewport", "scheme"),
    [pytest.param(browser.WIDE, "light", marks=pytest.mark.thorough), (browser.NARROW, "dark")],
    ids=["wide", "narrow"],
)
def test_the_pages_of_a_family_fit_and_keep_nobody_out(visit, monkeypatch, viewport, scheme):  # noqa: F811
    saga = kin.mixed(monkeypatch)
    tab = visit(viewport=viewport, color_scheme=scheme)

    for name, address in pages(saga).items():
        tab.open(address)
        if name == "parent":
            tab.page.locator("#children-deliver > summary").click()
            expect(tab.page.locator(".children > li")).to_have_count(8)

        assert tab.fits(), name
        assert tab.barriers() == [], name
        for text in tab.page.locator("svg.graph .node").all():
            assert text.evaluate(STICKS_OUT) == [], name


def test_one_walks_from_a_parent_to_the_child_in_need_and_back(visit, monkeypatch):  # noqa: F811
    saga = kin.mixed(monkeypatch)
    child = kin.children(saga)[3]
    tab = visit()
    page = tab.page
    tab.open(admin_client.page(saga))

    page.locator("#part-summary").get_by_role("link", name="See to deliver 4 of 8").click()

    page.wait_for_url(f"**{admin_client.page(child)}")
    expect(page.locator("a.intervention-resume")).to_be_visible()
    crumbs = page.locator(".breadcrumbs")
    expect(crumbs).to_contain_text("step deliver 4 of 8")
    crumbs.get_by_role("link", name="order-1001").click()
    page.wait_for_url(f"**{admin_client.page(saga)}")
    page.locator("#children-deliver > summary").click()
    first = page.locator(".children > li").first
    expect(first).to_contain_text("deliver 4 of 8")
    first.get_by_role("link").click()
    page.wait_for_url(f"**{admin_client.page(child)}")


def test_the_counts_follow_the_children_while_one_looks(visit, monkeypatch):  # noqa: F811
    saga = kin.mixed(monkeypatch)
    tab = visit()
    page = tab.page
    tab.open(admin_client.page(saga))
    page.locator("#children-deliver > summary").click()
    expect(page.locator("#children-deliver > summary")).to_contain_text("3 of 8 done")

    key = f"{kin.children(saga)[4].pk}.send"
    kin.deliver(
        lambda: engine.receive(source="world", event_id="1", key=key, facts={"settled": True}) and saga
    )

    expect(page.locator("#children-deliver > summary")).to_contain_text("6 of 8 done", timeout=30_000)
    expect(page.locator("svg.timeline .row-note")).to_have_text("6 of 8 done")
    # What was unfolded stays so.
    expect(page.locator(".children > li").first).to_be_visible()


def test_screenshots_of_a_family(visit, monkeypatch, request, tmp_path):  # noqa: F811
    wanted = request.config.getoption("--screenshots", default=None)
    folder = pathlib.Path(wanted) if wanted else tmp_path
    saga = kin.mixed(monkeypatch)
    tab = visit()
    tab.open(admin_client.page(saga))
    tab.page.locator("#children-deliver > summary").click()
    expect(tab.page.locator(".children > li")).to_have_count(8)

    tall = {"x": 0, "y": 0, "width": browser.WIDE["width"], "height": 1500}
    tab.page.screenshot(path=folder / "saga-children.png", full_page=True, clip=tall)

    assert (folder / "saga-children.png").stat().st_size > 10_000
