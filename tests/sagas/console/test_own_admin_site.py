"""The console in a project with an admin of its own: another site, its own head, another language.

In a process of its own: nothing of the shop's settings and templates is there.
"""

import os
import subprocess
import sys

import pytest

from saga_project.local import runfile
from tests.sagas.test_own_project import SETTINGS
from tests.support import database

ADMIN = """
DEBUG = True
ROOT_URLCONF = "shop.urls"
ALLOWED_HOSTS = ["testserver"]
INSTALLED_APPS = [
    "shop.apps.OwnAdmin", *INSTALLED_APPS, "django.contrib.messages", "django.contrib.sessions",
    "django.contrib.staticfiles", "sagas.console", "shop.trips",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [{
    "BACKEND": "django.template.backends.django.DjangoTemplates",
    "DIRS": [os.path.join(os.path.dirname(__file__), "templates")],
    "APP_DIRS": True,
    "OPTIONS": {"context_processors": [
        "django.template.context_processors.request",
        "django.contrib.auth.context_processors.auth",
        "django.contrib.messages.context_processors.messages",
    ]},
}]
SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
STATIC_URL = "/static/"
LANGUAGE_CODE = os.environ["LANGUAGE"]
USE_THOUSAND_SEPARATOR = True
TIME_ZONE = "Asia/Kathmandu"
SAGAS_TRANSPORT = "sagas.transports.postgres.PostgresTransport"
"""

FILES = {
    "__init__.py": "",
    "settings.py": SETTINGS + ADMIN,
    "apps.py": """
from django.contrib.admin.apps import AdminConfig


class OwnAdmin(AdminConfig):
    default_site = "shop.site.Site"
""",
    "site.py": """
from django.contrib.admin import AdminSite


class Site(AdminSite):
    site_header = "Our own house"
    enable_nav_sidebar = False
""",
    "urls.py": """
import os

from django.contrib import admin
from django.urls import path

site = admin.site
if os.environ["NAMED"]:
    # A second site, and the only one that is mounted: it has what the apps registered with the first.
    from shop.site import Site

    site = Site(name=os.environ["NAMED"])
    for model, model_admin in admin.site._registry.items():
        site.register(model, type(model_admin))
site.index_template = "sagas/index.html"
urlpatterns = [path("house/", site.urls)]
""",
    "templates/admin/base_site.html": """
{% extends "admin/base.html" %}
{% block title %}{{ title }}{% endblock %}
{% block branding %}<p id="house">The head of our own house</p>{% endblock %}
{% block extrahead %}<meta name="house" content="ours">{% endblock %}
""",
    "trips/__init__.py": "",
    "trips/services.py": """
class Refused(Exception):
    pass


def book(*, key, wish):
    pass


def fly(*, key, wish):
    raise Refused("no seat")


def cancel(*, key):
    if not key.endswith("book-hotel"):
        return
    raise TypeError("a bug in the undo")
""",
    "trips/saga.py": """
from sagas import Retry, Saga, Step
from shop.trips import services

TRIP = Saga(
    name="trip",
    inputs=["wish"],
    steps=[
        Step("book-hotel", services.book, undo=services.cancel, inputs=["wish"]),
        Step("book-flight", services.fly, undo=services.cancel, inputs=["wish"]),
    ],
    retry=Retry(on=[]),
    refused=[services.Refused],
)
""",
    "look.py": """
import collections
import html
import re
import unittest

import django

django.setup()
from django.contrib.auth.models import User
from django.contrib.staticfiles import finders
from django.db import transaction
from django.test import Client, utils

from sagas import engine
from sagas.console import bulk
from sagas.engine.transport import use
from sagas.testing import memory_transport
from shop.trips.saga import TRIP

utils.setup_test_environment()


class Looked(unittest.TestCase):
    def test_every_page_of_the_console_to_which_a_link_leads(self):
        messages = memory_transport.MemoryTransport()
        with use(messages):
            with transaction.atomic():
                stuck = engine.begin(TRIP, key="stuck", inputs={"wish": "some"}, actor="me")
            messages.play(stuck)
            with transaction.atomic():
                engine.begin(TRIP, key="waits", inputs={"wish": "some"}, actor="me")
        self.assertEqual(stuck.state, "needs_attention")
        run = bulk.begin(chosen=bulk.look([stuck.pk]), intervention="resume", actor="me", reason="x")

        client = Client()
        user = User.objects.create_superuser("in-their-own-house")
        self.addCleanup(user.delete)
        client.force_login(user)
        page = f"/house/sagas/sagainstance/{stuck.pk}/change/"
        wanted = collections.deque(["/house/", page, f"/house/sagas_console/bulkrun/{run.pk}/change/"])
        seen = {}
        while wanted and len(seen) < 150:
            address = wanted.popleft()
            path = address.partition("#")[0]
            kind = re.sub("[?].*", "", path)
            if path in seen or list(seen.values()).count(kind) >= 4:
                continue
            seen[path] = kind
            response = client.get(path, follow=True)
            self.assertEqual(response.status_code, 200, path)
            if "text/html" not in response["Content-Type"]:
                continue
            text = response.text
            self.assertIn('id="house"', text, path)
            if "sagas" in path:
                self.assertIn('name="house"', text, path)
            here = response.redirect_chain[-1][0] if response.redirect_chain else path
            for link in re.findall('href="([^"]+)"', text):
                link = html.unescape(link)
                if link.startswith("?"):
                    link = here.partition("?")[0] + link
                if "/sagas" in link and link.startswith("/house/") and "logout" not in link:
                    wanted.append(link)
                elif link.startswith("/static/sagas/"):
                    self.assertIsNotNone(finders.find(link.removeprefix("/static/")), link)
        kinds = set(seen.values())
        self.assertGreater(len(kinds), 12, kinds)
        for name in ("groups", "resume", "bulkrun", "signal", "queue", "circuit", "archivedsaga"):
            self.assertTrue(any(name in kind for kind in kinds), (name, kinds))
        self.assertIn("sagas/console.css", client.get(page).text)
        first = client.get("/house/").text
        self.assertIn('id="overview-live"', first)
        self.assertIn(f"sagainstance/{stuck.pk}/", first)
        self.assertIn("/house/auth/user/", first)


unittest.main()
""",
}


@pytest.mark.parametrize(("language", "named"), [("de", ""), ("pt-br", "backstage")])
def test_every_page_of_the_console_is_there_under_its_head(rows, tmp_path, language, named):
    for name, text in FILES.items():
        path = tmp_path / "shop" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    around = {
        "PYTHONPATH": os.pathsep.join([str(tmp_path), str(runfile.ROOT)]),
        "DJANGO_SETTINGS_MODULE": "shop.settings",
        "LANGUAGE": language,
        "NAMED": named,
    }

    looked = subprocess.run(
        [sys.executable, "-m", "shop.look"],
        cwd=tmp_path, env=database.environment(**around), capture_output=True, text=True,
    )  # fmt: skip

    assert looked.returncode == 0, looked.stdout + looked.stderr
