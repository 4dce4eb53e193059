"""A real browser, and a watch over what it complains of and where it goes."""

import contextlib
import shutil

import pytest
from axe_playwright_python import sync_playwright as axe
from playwright import sync_api

ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 390, "height": 844}

AT_REST = """() => document.getAnimations().every(
    one => one.playState !== "running" || one.effect.getComputedTiming().endTime === Infinity)"""
"""Whether no colour is on its way to another."""

TOLERABLE = {"minor", "moderate"}
"""What axe finds and calls no worse than this is looked at by people, not by tests."""


def executable():
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    pytest.fail("No Chromium was found: run .ci/browser, which installs one or says how.")


@contextlib.contextmanager
def launched():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable(), args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


class Visit:
    """One visitor's tab: opens pages, and remembers every complaint and every foreign address."""

    def __init__(self, browser, url, *, session="", **context):
        self.url = url
        self.context = browser.new_context(locale="en-GB", timezone_id="America/Sao_Paulo", **context)
        if session:
            self.context.add_cookies([{"name": "sessionid", "value": session, "url": url}])
        self.page = self.context.new_page()
        self.page.set_default_timeout(10_000)
        self.complaints = []
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", self._asked)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.context.close()

    def _heard(self, message):
        if message.type in ("error", "warning"):
            self.complaints.append(f"{self.page.url}: {message.text}")

    def _asked(self, request):
        if not request.url.startswith((self.url, "data:", "blob:")):
            self.complaints.append(f"{self.page.url} asked for {request.url}")

    def open(self, path, status=200):
        response = self.page.goto(self.url + path)
        assert response.status == status, f"{path}: {response.status}"
        return response

    def looks(self, viewport, scheme):
        """Have the tab that wide, and those colours, from now on."""
        self.page.set_viewport_size(viewport)
        self.page.emulate_media(color_scheme=scheme)
        self.page.wait_for_function(AT_REST)

    def fits(self):
        """Whether nothing sticks out at the side."""
        wide = self.page.evaluate("document.documentElement.scrollWidth")
        return wide <= self.page.viewport_size["width"]

    def barriers(self, *, rows=None):
        """What axe finds that keeps people out; of a list, if it says so, in so many rows."""
        # Axe reads imported style sheets by ways of its own, of which the policy complains.
        before = list(self.complaints)
        # Whether a word can be read it asks of all that may lie above it: that takes seconds for a long list.
        left_out = {"exclude": [[f"#result_list tbody tr:nth-child(n + {rows + 1})"]]} if rows else None
        found = axe.Axe().run(self.page, left_out).response["violations"]
        self.complaints[:] = before
        return [_told(one) for one in found if one["impact"] not in TOLERABLE]


def _told(violation):
    nodes = [f"{node['html'][:160]} {node['failureSummary'][:240]}" for node in violation["nodes"][:2]]
    return f"{violation['id']} ({violation['impact']}), {len(violation['nodes'])} times: {nodes}"
