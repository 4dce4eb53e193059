"""The description of the API is complete, true and committed."""

import collections.abc
import os
import pathlib
import re
import subprocess
import sys
from typing import Any

import pytest
import yaml
from django.core import management
from django.test import Client
from django.utils import timezone
from drf_spectacular import validation

from api import problems, schema
from api.models import Scope
from inventory import services as inventory
from inventory.management.commands import seed_catalogue
from orders.api import samples
from sagas.engine import transport
from sagas.testing import memory_transport
from tests import callbacks
from tests.orders import fuzz_hooks, web_server
from tests.orders.conftest import Api, member, order
from tests.sandbox.running import Sandbox

ROOT = pathlib.Path(__file__).resolve().parents[2]
HERE = pathlib.Path(__file__).parent


def test_the_committed_description_is_the_one_that_is_served(tmp_path: pathlib.Path) -> None:
    management.call_command("api_docs", into=tmp_path)

    for name in ("openapi.yaml", "problems.md"):
        committed = (ROOT / "docs" / name).read_text()
        assert committed == (tmp_path / name).read_text(), f"docs/{name} is out of date; run `make docs`"
    committed = (ROOT / "docs" / "openapi.yaml").read_text()
    served = Client().get("/api/schema?format=yaml").content
    # The loader in C: the one in Python takes seconds.
    assert yaml.load(committed, yaml.CSafeLoader) == yaml.load(served, yaml.CSafeLoader)


def test_it_is_served_as_json_and_need_not_be_sent_twice() -> None:
    first = Client().get("/api/schema")

    assert first["Content-Type"] == "application/json"
    assert first.json()["openapi"].startswith("3.1")
    again = Client().get("/api/schema", headers={"If-None-Match": first["ETag"]})
    assert again.status_code == 304


def test_it_is_openapi_and_every_reference_leads_somewhere() -> None:
    document = schema.document()
    validation.validate_schema(document)  # type: ignore[no-untyped-call]

    targets = set(references(document))
    assert "#/components/schemas/Message" in targets
    for target in targets:
        place: Any = document
        for name in target.removeprefix("#/").split("/"):
            assert name in place, target
            place = place[name]


def references(part: Any) -> collections.abc.Iterator[str]:
    if isinstance(part, dict):
        yield from [part["$ref"]] if isinstance(part.get("$ref"), str) else []
        part = list(part.values())
    for inner in part if isinstance(part, list) else []:
        yield from references(inner)


def test_every_address_of_the_api_is_described() -> None:
    from orders.api import urls
    from sagas.console.api import urls as of_sagas
    from webhooks.api import urls as of_webhooks

    described = set(schema.document()["paths"])
    there = {
        "/api/v1/" + re.sub(r"<\w+:(\w+)>", r"{\1}", str(pattern.pattern))
        for pattern in [*urls.urlpatterns, *of_sagas.urlpatterns, *of_webhooks.urlpatterns]
    }
    assert there == described


def test_every_operation_names_its_errors_with_an_example_each() -> None:
    for path, methods in schema.document()["paths"].items():
        for method, described in methods.items():
            failures = {status for status in described["responses"] if status >= "400"}
            assert {"400", "406", "500", "503"} <= failures, (method, path)
            for status in failures:
                (media,) = described["responses"][status]["content"].items()
                assert media[0] == problems.MEDIA_TYPE
                assert media[1]["examples"]


def test_generators_of_clients_find_nothing_that_they_trip_over() -> None:
    document = schema.document()
    operations = [described for methods in document["paths"].values() for described in methods.values()]
    messages = [described for methods in document["webhooks"].values() for described in methods.values()]

    # Each is a function of the client, and each tag a module of it, or a class.
    names = [described["operationId"] for described in [*operations, *messages]]
    assert len(set(names)) == len(names)
    tags = {tag for described in operations for tag in described["tags"]}
    assert not tags & {tag for described in messages for tag in described["tags"]}
    assert tags <= {tag["name"] for tag in document["tags"]}
    # `true` and `false` are schemas to JSON Schema, and to few generators.
    for schema_ in schemas(document["components"]["schemas"]):
        for name in ("properties", "patternProperties"):
            assert not any(isinstance(inner, bool) for inner in schema_.get(name, {}).values()), schema_
    assert document["servers"][0]["url"] == "/"
    assert document["components"]["securitySchemes"]["Token"]["scheme"] == "bearer"


def schemas(part: Any) -> collections.abc.Iterator[dict[str, Any]]:
    """Every object in a part of the description."""
    if isinstance(part, dict):
        yield part
    for inner in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        yield from schemas(inner)


def test_the_example_of_an_order_can_be_ordered_from_the_catalogue_that_comes_with_the_stack() -> None:
    assert samples.PRODUCT["sku"] in seed_catalogue.PRODUCTS
    assert seed_catalogue.PRODUCTS[samples.PRODUCT["sku"]] == (
        samples.PRODUCT["name"],
        samples.PRODUCT["price"]["amount"],
    )
    assert samples.ORDER["total"]["amount"] == sum(
        line["quantity"] * line["unit_price"]["amount"] for line in samples.ORDER["lines"]
    )


def test_every_body_has_examples_and_they_are_what_they_are_examples_of() -> None:
    import jsonschema

    components = schema.document()["components"]
    for operation, media in bodies():
        assert media.get("examples"), operation
        for example in media["examples"].values():
            name = example["$ref"].rpartition("/")[2]
            value = components["examples"][name]["value"]
            jsonschema.validate(value, {**media["schema"], "components": components})


def bodies() -> collections.abc.Iterator[tuple[str, dict[str, Any]]]:
    """What is sent, both ways: of each operation, and to merchants."""
    document = schema.document()
    for methods in [*document["paths"].values(), *document["webhooks"].values()]:
        for described in methods.values():
            contents = [answer.get("content", {}) for answer in described["responses"].values()]
            contents.append(described.get("requestBody", {}).get("content", {}))
            for content in contents:
                for media in content.values():
                    yield described.get("operationId", "message"), media


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("fate", ["a bug", "a refund refused", "cancelled"])
def test_what_went_wrong_is_shown_as_described(
    ana: Api, olga: Api, sandbox: Sandbox, settings: Any, fate: str
) -> None:
    kept = memory_transport.MemoryTransport()
    with transport.use(kept):
        body = order()
        if fate == "a bug":
            settings.PAYMENTS_GATEWAY = "payments.gateway.Misspelt"
        if fate == "a refund refused":
            body["payment"]["token"] = "tok_refund_refused"
            body["customer"]["tax_id"] = "00000000191"
        placed = ana.order(body).json()
        if fate == "cancelled":
            ana.post(f"/orders/{placed['id']}/cancel", {"reason": "so"})
        kept.deliver_all()

    is_described("Order", ana.get(f"/orders/{placed['id']}").json())
    is_described("Saga", olga.get(f"/sagas/{placed['saga']['id']}").json())
    is_described("SagaEventPage", olga.get(f"/sagas/{placed['saga']['id']}/events").json())


def is_described(name: str, value: Any) -> None:
    import jsonschema

    components = schema.document()["components"]
    jsonschema.validate(value, {"$ref": f"#/components/schemas/{name}", "components": components})


@pytest.mark.django_db
def test_the_examples_of_callbacks_are_ones_that_are_taken(client: Client) -> None:
    now = timezone.now()
    for service, sample in (("payments", samples.CAPTURED), ("carrier", samples.DELIVERED)):
        headers, body = callbacks.signed(
            kind=sample["type"], key=sample["key"], data=sample["data"], id_=sample["id"], at=now, sent_at=now
        )
        answer = client.post(f"/api/v1/webhooks/{service}", body, "application/json", headers=headers)
        assert answer.status_code == 202, answer.content


@pytest.fixture
def olga(db: None) -> Api:
    """Somebody who may do everything, and a full catalogue."""
    for sku in fuzz_hooks.SKUS:
        inventory.introduce(sku=sku, name=sku, price={"amount": 100, "currency": "BRL"}, quantity=10**6)
    return member("olga", Scope.STAFF, is_staff=True, is_superuser=True)


@pytest.mark.timeout(int(os.environ.get("FUZZ_TIMEOUT", "300")))
@pytest.mark.django_db(transaction=True)
def test_a_live_server_does_what_the_description_says(environment: dict[str, str], olga: Api) -> None:
    """Every operation, with every check: `make fuzz` does the same for longer."""
    brisk = {
        "API_RATE": "1000000",
        "STRANGERS_RATE": "1000000",
        "FOLLOWERS_STAY": "500ms",
        "WEBHOOKS_TO_PRIVATE_ADDRESSES": "0",
    }
    with web_server.running(environment, **brisk) as web:
        answer = fuzz(web.url, olga.secret)

    assert answer.returncode == 0, answer.stdout[-20_000:]


def fuzz(url: str, secret: str) -> subprocess.CompletedProcess[str]:
    """Let schemathesis loose on the server."""
    more: dict[str, Any] = {"SCHEMATHESIS_HOOKS": "tests.orders.fuzz_hooks"}
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "schemathesis.cli",
            "--config-file",
            str(HERE / "schemathesis.toml"),
            "run",
            str(ROOT / "docs" / "openapi.yaml"),
            f"--url={url}",
            f"--header=Authorization: Token {secret}",
            "--checks=all",
            f"--phases={os.environ.get('FUZZ_PHASES', 'examples,fuzzing,stateful')}",
            f"--max-examples={os.environ.get('FUZZ_EXAMPLES', '4')}",
            f"--seed={os.environ.get('FUZZ_SEED', '1')}",
            "--no-color",
            "--continue-on-failure",
            "--workers=1",
            "--no-shrink",
        ],
        cwd=ROOT,
        env={**os.environ, **more},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
