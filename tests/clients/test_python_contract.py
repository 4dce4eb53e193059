"""The Python client knows all that the API tells: its problems, its members, its words."""

import ast
import dataclasses
import pathlib
import runpy
import typing
from typing import Any

import httpx
import pytest
import yaml

import saga_orders
from api import problems
from saga_orders import decoding, errors, models, webhooks

ROOT = pathlib.Path(__file__).resolve().parents[2]
PYTHON = ROOT / "clients" / "python"
SCHEMAS = yaml.safe_load((ROOT / "docs/openapi.yaml").read_text())["components"]["schemas"]

OPERATIONS = {
    "listOrders", "createOrder", "getOrder", "followOrder", "cancelOrder", "listProducts", "listEvents",
}  # fmt: skip
"""Of those that it has."""


def test_every_problem_of_its_operations_is_an_error_of_its_own() -> None:
    paths = yaml.safe_load((ROOT / "docs/openapi.yaml").read_text())["paths"]
    answers = [
        answer
        for path in paths.values()
        for operation in path.values()
        if isinstance(operation, dict) and operation.get("operationId") in OPERATIONS
        for answer in operation["responses"].values()
    ]
    told = {
        example.lower()
        for answer in answers
        for example in answer.get("content", {}).get("application/problem+json", {}).get("examples", {})
    }

    assert len(told) > 10
    for slug in told:
        kind = problems.KINDS[slug]
        assert type(errors.of(httpx.Response(kind.status, json=kind.example))) is not errors.Problem, slug
    assert set(errors.BY_KIND) <= set(problems.KINDS)


@pytest.mark.parametrize("kind", problems.listed(), ids=lambda kind: kind.slug)
def test_every_problem_is_read_whole(kind: problems.Kind) -> None:
    answer = httpx.Response(kind.status, json=kind.example, headers={"Retry-After": "3"})

    error = errors.of(answer)

    assert type(error) is errors.BY_KIND.get(kind.slug, type(error))
    assert error.kind == kind.slug
    assert error.title == kind.title
    assert error.request_id == kind.example["request_id"]
    assert len(error.faults) == len(kind.example.get("errors", []))
    assert error.retry_after == 3
    assert error.passing == (kind.status in (429, 500, 503) or kind.slug == "idempotency-key-in-progress")


READ: dict[str, Any] = {
    "Order": models.Order,
    "OrderedLine": models.OrderedLine,
    "OrderPayment": models.Payment,
    "Pix": models.PixCode,
    "OrderInvoice": models.Invoice,
    "OrderShipment": models.Shipment,
    "OrderSaga": models.Saga,
    "OrderStep": models.Step,
    "OrderFailure": models.Failure,
    "StepError": models.StepError,
    "Next": models.Next,
    "Money": models.Money,
    "Product": models.Product,
}


@pytest.mark.parametrize("name", READ)
def test_what_is_read_is_what_the_description_promises(name: str) -> None:
    schema = SCHEMAS[name]
    kinds = typing.get_type_hints(READ[name])
    needed = {field.name for field in dataclasses.fields(READ[name]) if field.default is dataclasses.MISSING}

    assert needed <= set(schema["required"])
    for member in needed:
        words = schema["properties"][member].get("enum")
        known = _words(kinds[member])
        assert not words or not known or set(words) - {None} == known, member


def _words(kind: Any) -> set[str]:
    """The words of a `Literal`, optional or not."""
    if typing.get_origin(kind) is typing.Literal:
        return set(typing.get_args(kind))
    return {word for inner in typing.get_args(kind) for word in _words(inner)}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("Line", models.Line),
        ("Customer", models.Customer),
        ("Address", models.Address),
        ("ExpectedTotal", models.Money),
    ],
)
def test_what_is_sent_is_what_the_description_takes(name: str, kind: Any) -> None:
    assert {field.name for field in dataclasses.fields(kind)} == set(SCHEMAS[name]["properties"])


def test_the_descriptions_examples_are_read() -> None:
    from orders.api import samples

    order = decoding.decode(models.Order, samples.CANCELLED_ORDER)

    assert order.failure == models.Failure(
        step="take-payment", kind="cancelled", message="The order was cancelled on request."
    )


def test_the_synchronous_half_is_made_of_the_asynchronous_one() -> None:
    made = runpy.run_path(str(PYTHON / "make_sync.py"))["sync"](
        (PYTHON / "src/saga_orders/async_client.py").read_text()
    )
    kept = (PYTHON / "src/saga_orders/client.py").read_text()

    assert ast.dump(ast.parse(kept)) == ast.dump(ast.parse(made)), "run `make client`"
    assert "await" not in kept
    assert "async" not in kept.replace("async_client", "")


def test_all_that_is_public_is_listed() -> None:
    public = {
        name
        for module in (errors, models, webhooks)
        for name, found in vars(module).items()
        if isinstance(found, type) and found.__module__ == module.__name__
    }

    assert public <= set(saga_orders.__all__)
    assert [name for name in saga_orders.__all__ if not hasattr(saga_orders, name)] == []
