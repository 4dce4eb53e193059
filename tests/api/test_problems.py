"""Every error is a problem document (RFC 9457), with an id that is also in the logs."""

import re
from typing import Any

import httpx
import pytest
from django.test import Client, RequestFactory
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from api import problems, throttling, tokens
from api.models import Scope, Token
from tests.orders import web_server
from tests.orders.conftest import Api, member, order
from tests.support import waiting

pytestmark = pytest.mark.django_db

NOBODY = "0190a0a0-0000-7000-8000-000000000000"


def test_without_a_token_nothing_is_told() -> None:
    answer = Client().get("/api/v1/orders")

    _is_problem(answer, 401, "not-authenticated")
    assert answer["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "Token", "TOKEN"])
def test_a_token_is_shown_as_every_client_does_or_by_its_name(ana: Api, scheme: str) -> None:
    answer = Client().get("/api/v1/orders", headers={"Authorization": f"{scheme} {ana.secret}"})

    assert answer.status_code == 200


@pytest.mark.parametrize(
    "authorization",
    ["Token", "Token ", "Token nonsense", "Token é", "Bearer x", "Token a b", "Basic YTpi"],
)
def test_a_wrong_token_is_no_token(authorization: str) -> None:
    answer = Client().get("/api/v1/orders", headers={"Authorization": authorization})

    _is_problem(answer, 401, "not-authenticated")


def test_another_s_order_is_not_there(ana: Api, bob: Api) -> None:
    path = f"/orders/{ana.order().json()['id']}"

    for answer in (
        bob.get(path),
        bob.get(f"{path}/events"),
        bob.post(f"{path}/cancel", {"reason": "mine is better"}),
        ana.get(f"/orders/{NOBODY}"),
    ):
        _is_problem(answer, 404, "not-found")
    assert ana.get(path).json()["status"] == "pending"


def test_the_api_s_own_root_is_no_page() -> None:
    for path in ("/api", "/api/", "/api/v1", "/api/v1/"):
        _is_problem(Client().get(path), 404, "not-found")
    assert Client().get("/apiary")["Content-Type"].startswith("text/html")


@pytest.mark.parametrize(
    "path",
    [
        "/orders/7",
        "/orders/",
        "/products/",
        "/orders/ORD-7K3QX9ZD/",
        "/nowhere",
        "/orders/../orders",
        "/sagas/x/retry",
    ],
)
def test_an_address_that_leads_nowhere_is_a_problem_too(ana: Api, path: str) -> None:
    _is_problem(ana.get(path), 404, "not-found")


@pytest.mark.parametrize("method", ["get", "post"])
def test_an_address_with_a_slash_too_many_is_told_so(ana: Api, method: str) -> None:
    for path in ("/api/v1/orders", "/api/problems"):
        document = _is_problem(getattr(ana.client, method)(f"{path}/"), 404, "not-found")
        assert document["detail"].endswith(f"Without the slash at its end there is: {path}.")
    assert "slash" not in _is_problem(ana.get("/nowhere/"), 404, "not-found")["detail"]


def test_a_method_that_is_not_taken_comes_with_those_that_are(ana: Api) -> None:
    for answer in (ana.delete("/orders"), ana.client.options("/api/v1/orders")):
        _is_problem(answer, 405, "method-not-allowed")
        assert set(answer["Allow"].split(", ")) == {"GET", "HEAD", "POST"}


@pytest.mark.parametrize("path", ["schema", "docs", "problems", "problems/not-found"])
@pytest.mark.parametrize("method", ["post", "put", "patch", "delete", "options"])
def test_a_page_is_only_looked_at(path: str, method: str) -> None:
    answer = getattr(Client(enforce_csrf_checks=True), method)(f"/api/{path}")

    _is_problem(answer, 405, "method-not-allowed")
    assert answer["Allow"] == "GET, HEAD"
    assert Client().head(f"/api/{path}").status_code == 200


def test_an_answer_in_another_form_is_not_to_be_had(ana: Api) -> None:
    _is_problem(ana.get("/orders", Accept="application/xml"), 406, "not-acceptable")


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=101",
        "limit=1.0",
        "limit=٣",
        "limit=",
        "cursor=nonsense",
        "cursor=é",
        "cursor=LWFiYw==",
        "status=lost",
        "created_from=yesterday",
        "created_to=0001-01-01",
        "created_from=2026-13-01",
        "number=%00",
        "reference=",
        "colour=blue",
        "limit=1&limit=2",
        "reference=a&reference=a",
        "status=",
        "status=pending&status=lost",
        "created_from=2026-02-01&created_to=2026-01-31",
        "updated_from=soon",
    ],
)
def test_a_query_that_makes_no_sense_names_its_parameter(ana: Api, query: str) -> None:
    answer = ana.get(f"/orders?{query}")

    document = _is_problem(answer, 400, "invalid-query")
    assert [fault["parameter"] for fault in document["errors"]] == [query.partition("=")[0]]
    assert document["errors"][0]["detail"]
    assert document["detail"] == f"{query.partition('=')[0]}: {document['errors'][0]['detail']}"


def test_a_parameter_that_stands_twice_is_told_so(ana: Api) -> None:
    (fault,) = ana.get("/orders?limit=1&limit=2").json()["errors"]

    assert fault == {"parameter": "limit", "detail": "This stands 2 times; give it once.", "code": "repeated"}


@pytest.mark.parametrize("scope", [Scope.CUSTOMER, Scope.MERCHANT])
def test_a_token_of_another_scope_is_told_which_it_takes(catalogue: None, scope: str) -> None:
    answer = member("carol", scope).get("/sagas")

    document = _is_problem(answer, 403, "not-permitted")
    assert "staff" in document["detail"]


def test_who_asks_too_much_is_told_when_to_come_back(ana: Api, settings: Any) -> None:
    settings.API_RATE, settings.API_BURST = 1, 3
    for _ in range(3):
        assert ana.get("/orders").status_code == 200

    answer = ana.get("/orders")

    _is_problem(answer, 429, "throttled")
    assert answer["Retry-After"] == "1"
    # One's other tokens have their own allowance.
    _, secret = tokens.create(user=ana.user, name="another")
    assert Api(ana.user, secret).get("/orders").status_code == 200


def test_each_answer_says_what_is_left_of_the_token_s_allowance(ana: Api, settings: Any) -> None:
    # It comes back so slowly that a slow machine gets nothing back meanwhile.
    settings.API_RATE, settings.API_BURST = 0.001, 4

    answers = [ana.get("/orders"), ana.get("/orders?limit=0"), ana.get(f"/orders/{NOBODY}"), ana.order()]
    assert [answer.status_code for answer in answers] == [200, 400, 404, 202]
    refused = ana.get("/orders")

    assert refused.status_code == 429
    left = [re.fullmatch(r'"token";r=(\d+);t=(\d+)', answer["RateLimit"]) for answer in [*answers, refused]]
    assert [int(match[1]) for match in left if match] == [3, 2, 1, 0, 0]
    back = [int(match[2]) for match in left if match]
    assert all(1000 * n - 1000 < seconds <= 1000 * n for n, seconds in enumerate(back[:4], 1))
    for answer in [*answers, refused]:
        assert answer["RateLimit-Policy"] == '"token";q=4;w=4000'
    assert "RateLimit" not in Client().get("/api/v1/orders")


def test_an_answer_that_has_waited_is_not_counted_again(ana: Api, settings: Any) -> None:
    settings.API_RATE, settings.API_BURST = 0.001, 2
    token = Token.objects.get(user=ana.user)
    asked = RequestFactory().get("/api/v1/orders")
    left = []
    for scope in ({}, {"has_waited": True}, {"has_waited": True}, {}, {"has_waited": True}):
        asked.scope = scope  # type: ignore[attr-defined]
        assert throttling.PerToken().allow_request(Request(asked, authenticators=[_Known(token)]), None)
        left.append(throttling.headers(asked)["RateLimit"][:11])

    assert left == ['"token";r=1', '"token";r=1', '"token";r=1', '"token";r=0', '"token";r=0']


class _Known(BaseAuthentication):
    """Whoever has this token."""

    def __init__(self, token: Token) -> None:
        self.token = token

    def authenticate(self, request: Request) -> Any:
        return self.token.user, self.token


def test_wrong_tokens_are_counted_by_address(ana: Api, settings: Any) -> None:
    settings.STRANGERS_RATE, settings.STRANGERS_BURST = 1, 2
    headers = {"Authorization": "Token nonsense"}
    answers = [Client().get("/api/v1/orders", headers=headers) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [401, 401, 429]
    # Whoever has a right one is not kept out with them.
    assert ana.get("/orders").status_code == 200


def test_a_bug_is_a_problem_that_says_nothing_of_itself(ana: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    from inventory import services

    def broken() -> None:
        raise RuntimeError("the password is swordfish")

    monkeypatch.setattr(services, "catalogue", broken)
    ana.client.raise_request_exception = False

    answer = ana.get("/products")

    _is_problem(answer, 500, "internal-error")
    assert b"swordfish" not in answer.content


def test_the_request_s_id_is_in_the_answer_and_may_be_the_caller_s_own(ana: Api) -> None:
    own = ana.get("/nowhere", **{"X-Request-Id": "checkout-42.retry-1"})
    given = ana.get("/nowhere")
    forged = ana.get("/nowhere", **{"X-Request-Id": "x\tINFO all is well"})

    assert own["X-Request-Id"] == own.json()["request_id"] == "checkout-42.retry-1"
    assert re.fullmatch(r"[0-9a-f-]{36}", given["X-Request-Id"])
    assert re.fullmatch(r"[0-9a-f-]{36}", forged["X-Request-Id"])


@pytest.mark.django_db(transaction=True)
def test_the_request_s_id_is_in_the_logs_of_a_real_server(web: web_server.Web) -> None:
    httpx.get(f"{web.url}/api/v1/nowhere", headers={"X-Request-Id": "checkout-42.retry-1"})

    waiting.until(lambda: any("[checkout-42.retry-1]" in line for line in list(web.log)), "it is logged")


@pytest.mark.django_db(transaction=True)
def test_without_its_database_a_server_says_when_to_come_back(environment: dict[str, str]) -> None:
    nowhere = environment["DATABASE_URL"].replace("postgresql://", "postgresql://nobody:x@", 1)
    away = re.sub(r"@.*", "@127.0.0.1:9/none", nowhere)
    with web_server.running(environment | {"DATABASE_URL": away}, workers=1) as web:
        answer = httpx.get(f"{web.url}/api/v1/orders", headers={"Authorization": "Token nonsense"})
        ready = httpx.get(f"{web.url}/readyz")

    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "2"
    assert answer.json()["type"] == "/api/problems/unavailable"
    assert ready.status_code == 503
    assert ready.json()["checks"]["database"] == "unreachable"


def test_outside_the_api_django_s_own_pages_are_served() -> None:
    answer = Client().get("/nowhere")

    assert answer.status_code == 404
    assert answer["Content-Type"].startswith("text/html")


def test_every_answer_has_the_content_security_policy(ana: Api) -> None:
    for answer in (ana.get("/orders"), ana.get("/nowhere"), Client().get("/livez")):
        policy = answer["Content-Security-Policy"]
        assert "default-src 'self'" in policy
        assert "unsafe" not in policy


@pytest.mark.parametrize("kind", problems.KINDS.values(), ids=lambda kind: kind.slug)
def test_every_type_resolves_to_a_page(kind: problems.Kind) -> None:
    page = Client().get(kind.type)

    assert page.status_code == 200
    assert kind.title in page.content.decode()


def test_all_of_it_is_listed(ana: Api) -> None:
    listing = Client().get("/api/problems").content.decode()

    for kind in problems.KINDS.values():
        assert kind.type in listing
    _is_problem(ana.client.get("/api/problems/none-such"), 404, "not-found")


def test_what_is_raised_names_a_kind_that_is_documented(ana: Api) -> None:
    assert ana.order(order(reference=7)).json()["type"] in {kind.type for kind in problems.KINDS.values()}


def _is_problem(answer: Any, status: int, slug: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.content
    assert answer["Content-Type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    assert document["type"] == f"/api/problems/{slug}"
    assert document["status"] == status
    assert document["title"] == problems.KINDS[slug].title
    assert document["detail"]
    assert document["instance"] == answer.wsgi_request.path
    assert document["request_id"] == answer["X-Request-Id"]
    return document
