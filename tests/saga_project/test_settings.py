"""What a process says of its environment before it does anything else."""

import base64
import os
import re
import runpy
import subprocess
import sys
from unittest import mock

import pytest
from django.core.exceptions import ImproperlyConfigured

from saga_project.local import runfile

pytestmark = pytest.mark.integration

PRODUCTION = {
    "SECRET_KEY": "kWq0sR7m1vXc9ZpT4yHn8uGd2bFe6jLa3oQi5tVx_NrMzBwCsY",
    "PAYMENTS_WEBHOOK_SECRETS": f"whsec_{base64.b64encode(bytes(range(128, 160))).decode()}",
    "SHIPPING_WEBHOOK_SECRETS": f"whsec_{base64.b64encode(bytes(range(160, 192))).decode()}",
    "DATABASE_URL": "postgresql://shop:secret@db.example.com:5432/shop",
    "BROKER_URL": "rediss://:secret@broker.example.com:6379/0",
    "PAYMENTS_URL": "https://bank.example.com",
    "INVOICING_URL": "https://fiscal.example.com",
    "SHIPPING_URL": "https://carrier.example.com",
    "ALLOWED_HOSTS": "shop.example.com",
}
REQUIRED = [
    "SECRET_KEY", "PAYMENTS_WEBHOOK_SECRETS", "SHIPPING_WEBHOOK_SECRETS", "DATABASE_URL", "BROKER_URL",
    "PAYMENTS_URL", "INVOICING_URL", "SHIPPING_URL",
]  # fmt: skip


def manage(tmp_path, *command, stdout=subprocess.PIPE, **environment):
    """`manage.py` with nothing around it but this environment."""
    around = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return subprocess.run(
        [sys.executable, "manage.py", *command],
        cwd=runfile.ROOT,
        env=around | {"RUN_DIR": str(tmp_path)} | environment,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
    )


def settings_of(**environment):
    """The settings as a process reads them that has nothing around it but this environment."""
    with mock.patch.dict(os.environ, environment, clear=True):
        return runpy.run_path(str(runfile.ROOT / "saga_project" / "settings.py"))


def test_who_has_read_enough_of_what_it_prints_may_leave(tmp_path):
    read_end, write_end = os.pipe()
    os.close(read_end)
    with os.fdopen(write_end) as nobody_reads:
        said = manage(tmp_path, "help", stdout=nobody_reads, **PRODUCTION)

    assert (said.returncode, said.stderr) == (1, "")


def test_a_production_environment_leaves_nothing_to_warn_of(tmp_path):
    said = manage(tmp_path, "check", "--deploy", "--fail-level", "WARNING", **PRODUCTION)

    assert said.returncode == 0, said.stderr


@pytest.mark.parametrize("name", REQUIRED)
@pytest.mark.parametrize("how", ["missing", "empty"])
def test_without_what_it_needs_no_process_starts(name, how):
    rest = {known: value for known, value in PRODUCTION.items() if known != name}

    with pytest.raises(ImproperlyConfigured, match=f"{name} is not set"):
        settings_of(**rest, **({name: ""} if how == "empty" else {}))


def test_what_it_refuses_it_says_in_a_sentence_and_ends(tmp_path):
    rest = {known: value for known, value in PRODUCTION.items() if known != "SECRET_KEY"}
    said = manage(tmp_path, "check", **rest)

    assert said.returncode != 0
    assert "SECRET_KEY is not set" in said.stderr
    assert "Traceback" not in said.stderr


@pytest.mark.parametrize(
    "secret",
    [
        "abc",
        "whsec_",
        "whsec_not base64",
        "whsec_c2hvcnQ=",
        PRODUCTION["PAYMENTS_WEBHOOK_SECRETS"][6:],
        PRODUCTION["PAYMENTS_WEBHOOK_SECRETS"] + ",whsec_c2hvcnQ=",
        PRODUCTION["PAYMENTS_WEBHOOK_SECRETS"] + ",",
    ],
)
def test_a_secret_that_could_be_guessed_is_refused_and_not_repeated(secret):
    told = "PAYMENTS_WEBHOOK_SECRETS must be whsec_ and the base64 of 24 bytes or more"
    with pytest.raises(ImproperlyConfigured, match=told) as refused:
        settings_of(**PRODUCTION | {"PAYMENTS_WEBHOOK_SECRETS": secret})

    assert f"{secret!r}" not in str(refused.value)


def test_a_secret_that_bank_and_carrier_share_is_refused():
    bank = PRODUCTION["PAYMENTS_WEBHOOK_SECRETS"]
    both = f"{PRODUCTION['SHIPPING_WEBHOOK_SECRETS']},{bank}"
    told = "PAYMENTS_WEBHOOK_SECRETS and SHIPPING_WEBHOOK_SECRETS have a secret in common"
    with pytest.raises(ImproperlyConfigured, match=told) as refused:
        settings_of(**PRODUCTION | {"SHIPPING_WEBHOOK_SECRETS": both})

    assert bank not in str(refused.value)


def test_while_a_secret_is_changed_two_of_them_are_well():
    new = f"whsec_{base64.b64encode(bytes(range(64, 96))).decode()}"
    changing = {"PAYMENTS_WEBHOOK_SECRETS": f"{new}, {PRODUCTION['PAYMENTS_WEBHOOK_SECRETS']}"}

    assert settings_of(**PRODUCTION | changing)["PAYMENTS_WEBHOOK_SECRETS"] == [
        new, PRODUCTION["PAYMENTS_WEBHOOK_SECRETS"],
    ]  # fmt: skip


ASK = """
from django.test import Client
for path in ("/livez", "/api/v1/orders", "/admin/login/"):
    answer = Client(headers={"host": "shop.example.com"}).get(path)
    print(answer.status_code, answer.headers.get("Location", "-"))
secure = Client(headers={"host": "shop.example.com"})
print(secure.get("/livez", secure=True).headers["Strict-Transport-Security"])
"""


def test_a_production_environment_is_spoken_to_by_https_only(tmp_path):
    said = manage(tmp_path, "shell", "--no-imports", "--command", ASK, **PRODUCTION)

    assert said.stdout.splitlines()[-4:] == [
        "200 -",
        "301 https://shop.example.com/api/v1/orders",
        "301 https://shop.example.com/admin/login/",
        "max-age=3600",
    ]


@pytest.mark.parametrize(("name", "value"), [("API_RATE", "0"), ("API_BURST", "-5"), ("EMAIL_PORT", "many")])
def test_a_number_that_makes_no_sense_is_refused_and_says_what_would(name, value):
    told = f"{name} is '{value}'; it must be a whole number, 1 or more."
    with pytest.raises(ImproperlyConfigured, match=re.escape(told)):
        settings_of(**PRODUCTION | {name: value})


def test_a_web_process_has_every_statement_planned_for_the_values_it_asks_with(environment):
    """A worker's few are planned once; what people filter by is rare or common, and is planned as such."""
    prints = "print(db.connection.cursor() and db.connection.connection.prepare_threshold)"
    asked = {
        "a web process": "import saga_project.asgi; from django import db; " + prints,
        "a worker": "import django; django.setup(); from django import db; " + prints,
    }
    said = {
        who: subprocess.run(
            [sys.executable, "-c", code], cwd=runfile.ROOT, env=environment, capture_output=True, text=True
        ).stdout.strip()
        for who, code in asked.items()
    }

    assert said == {"a web process": "None", "a worker": "3"}


@pytest.mark.parametrize("wrong", ["BRL", "BRL:10.00", "brl:1000", "BRL:1000,BRL:2000", "BRL:-1"])
def test_a_limit_that_is_no_whole_amount_of_a_currency_is_refused(wrong):
    told = f"ORDER_REVIEW_ABOVE is {wrong!r}; it must be currencies with minor units"
    with pytest.raises(ImproperlyConfigured, match=re.escape(told)):
        settings_of(**PRODUCTION, ORDER_REVIEW_ABOVE=wrong)


@pytest.mark.parametrize(
    ("said", "read"), [("", {}), ("BRL:500000, USD:100000", {"BRL": 500000, "USD": 100000})]
)
def test_a_limit_is_read_for_each_currency(said, read):
    assert settings_of(**PRODUCTION, ORDER_REVIEW_ABOVE=said)["ORDER_REVIEW_ABOVE"] == read
