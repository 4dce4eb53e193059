"""`manage.py check --deploy` says what would hurt, from the settings alone, with the line to change."""

import base64
import datetime

import pytest
from django.core import checks

from saga_project import broker
from saga_project import checks as project
from saga_project.local import throwaway
from tests.saga_project.test_settings import PRODUCTION

TYPED = "whsec_" + base64.b64encode(b"the bank's secret, which somebody typed").decode()


@pytest.fixture(autouse=True)
def production(settings):
    settings.SECRET_KEY = PRODUCTION["SECRET_KEY"]
    for name in ("PAYMENTS_WEBHOOK_SECRETS", "SHIPPING_WEBHOOK_SECRETS"):
        setattr(settings, name, [PRODUCTION[name]])
    for name in ("PAYMENTS_URL", "INVOICING_URL", "SHIPPING_URL"):
        setattr(settings, name, PRODUCTION[name])
    settings.BROKER = broker.parse(PRODUCTION["BROKER_URL"])
    settings.ALLOWED_HOSTS = [PRODUCTION["ALLOWED_HOSTS"]]
    settings.PLAIN_HTTP = False
    settings.SANDBOX_URL = ""


def found():
    return [finding for finding in project.check_deployment() if finding.level >= checks.WARNING]


def test_what_is_sound_is_left_alone():
    assert found() == []


@pytest.mark.parametrize(
    ("name", "value", "id", "line"),
    [
        ("ALLOWED_HOSTS", ["*"], "project.W008", "ALLOWED_HOSTS="),
        ("ALLOWED_HOSTS", ["localhost", "127.0.0.1"], "project.W008", "ALLOWED_HOSTS="),
        ("WEBHOOKS_TO_PRIVATE_ADDRESSES", True, "project.W009", "WEBHOOKS_TO_PRIVATE_ADDRESSES=0"),
        ("SECRET_KEY", "change-me-change-me-change-me-0123456789-abcdef-xyz", "project.W010", "SECRET_KEY="),
        ("PAYMENTS_WEBHOOK_SECRETS", [TYPED], "project.W011", "PAYMENTS_WEBHOOK_SECRETS=whsec_"),
        ("BROKER", broker.parse("redis://broker.example.com:6379/0"), "project.W012", "BROKER_URL=redis://"),
        (
            "BROKER",
            broker.parse("amqp://guest:guest@mq.example.com/shop"),
            "project.W012",
            "BROKER_URL=amqp://",
        ),
        ("SANDBOX_URL", "http://sandbox.example.com", "project.W013", "SANDBOX_URL"),
        ("INVOICING_URL", "http://fiscal.example.com", "project.W014", "INVOICING_URL=https://fiscal"),
        ("PROVIDER_TIMEOUT", datetime.timedelta(minutes=10), "project.W015", "PROVIDER_TIMEOUT="),
        ("PLAIN_HTTP", True, "project.W016", "PLAIN_HTTP=0"),
    ],
)
def test_what_would_hurt_is_told_with_what_it_does_and_the_line_to_change(settings, name, value, id, line):
    setattr(settings, name, value)

    (one,) = found()

    assert (one.id, one.finding.severity.value) == (id, "warning")
    assert one.finding.effect in one.msg
    assert line in one.hint


def test_no_finding_repeats_a_password(settings):
    settings.BROKER = broker.parse("amqp://guest:guest@mq.example.com/shop")

    assert "guest:guest" not in str(found()[0])


def test_what_the_throw_away_servers_sign_with_is_found_out(settings):
    told = throwaway.environment(place="", database_url="", broker_url="")
    settings.SECRET_KEY = told["SECRET_KEY"]
    settings.PAYMENTS_WEBHOOK_SECRETS = [told["PAYMENTS_WEBHOOK_SECRETS"]]

    assert [one.id for one in found()] == ["project.W010", "project.W011"]
