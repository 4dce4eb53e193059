"""Pages of other origins may ask the API from a browser, if the settings name them."""

from typing import Any

import pytest
from django.conf import settings as project
from django.test import Client

from tests.orders.conftest import Api

pytestmark = pytest.mark.django_db

SHOP = "https://shop.example"


def preflight(origin: str, method: str = "POST", headers: str = "authorization") -> Any:
    return Client().options(
        "/api/v1/orders",
        headers={
            "Origin": origin,
            "Access-Control-Request-Method": method,
            "Access-Control-Request-Headers": headers,
        },
    )


def test_nobody_may_unless_it_is_named(ana: Api) -> None:
    for answer in (preflight(SHOP), ana.get("/orders", Origin=SHOP)):
        assert "Access-Control-Allow-Origin" not in answer


def test_a_page_that_is_named_may_ask_and_read_what_it_needs(ana: Api, settings: Any) -> None:
    settings.CORS_ALLOWED_ORIGINS = [SHOP]

    asked = preflight(SHOP, headers="authorization, content-type, idempotency-key")
    assert asked.status_code == 200
    assert asked["Access-Control-Allow-Origin"] == SHOP
    assert {"authorization", "content-type", "idempotency-key", "last-event-id"} <= set(
        asked["Access-Control-Allow-Headers"].split(", ")
    )
    assert "PATCH" in asked["Access-Control-Allow-Methods"]
    assert "Access-Control-Allow-Credentials" not in asked

    for answer in (ana.get("/orders", Origin=SHOP), ana.get("/nowhere", Origin=SHOP)):
        assert answer["Access-Control-Allow-Origin"] == SHOP
        assert {"RateLimit", "Retry-After", "ETag"} <= set(
            answer["Access-Control-Expose-Headers"].split(", ")
        )
        assert "origin" in answer["Vary"].lower()


def test_other_pages_and_other_addresses_are_not_opened_by_that(ana: Api, settings: Any) -> None:
    settings.CORS_ALLOWED_ORIGINS = [SHOP]

    assert "Access-Control-Allow-Origin" not in ana.get("/orders", Origin="https://evil.example")
    for path in ("/admin/login/", "/livez", "/metrics"):
        assert "Access-Control-Allow-Origin" not in Client().get(path, headers={"Origin": SHOP})


def test_what_a_page_may_read_is_what_the_description_says_answers_carry() -> None:
    from api import schema

    assert set(project.CORS_EXPOSE_HEADERS) == set(schema.HEADERS) - {"WWW-Authenticate"}
