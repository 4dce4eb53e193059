"""What is not understood is refused, and nothing is written."""

import json
import socket

import pytest

from tests.sandbox import examples

CARD, PIX = examples.card(), examples.pix()
INVOICE, SHIPMENT = examples.invoice(), examples.shipment()
NOTHING = object()


@pytest.mark.parametrize(
    ("path", "body", "field", "value"),
    [
        ("/bank/charges", CARD, "method", "cash"),
        ("/bank/charges", CARD, "method", ["card"]),
        ("/bank/charges", CARD, "method", NOTHING),
        ("/bank/charges", CARD, "token", NOTHING),
        ("/bank/charges", CARD, "token", ""),
        ("/bank/charges", CARD, "token", "tok ok"),
        ("/bank/charges", CARD, "token", "t" * 101),
        ("/bank/charges", CARD, "token", 7),
        ("/bank/charges", CARD, "amount", NOTHING),
        ("/bank/charges", CARD, "amount", 0),
        ("/bank/charges", CARD, "amount", -1),
        ("/bank/charges", CARD, "amount", 1.5),
        ("/bank/charges", CARD, "amount", 100.0),
        ("/bank/charges", CARD, "amount", "100"),
        ("/bank/charges", CARD, "amount", True),
        ("/bank/charges", CARD, "amount", 10**13),
        ("/bank/charges", CARD, "amount", 10**400),
        ("/bank/charges", CARD, "currency", "brl"),
        ("/bank/charges", CARD, "currency", "BRL\n"),
        ("/bank/charges", CARD, "currency", None),
        ("/bank/charges", CARD, "expires_in_s", 60),
        ("/bank/charges", CARD, "customer", "Ada"),
        ("/bank/charges", PIX, "expires_in_s", NOTHING),
        ("/bank/charges", PIX, "expires_in_s", 0),
        ("/bank/charges", PIX, "expires_in_s", 10**400),
        ("/bank/charges", PIX, "expires_in_s", float("nan")),
        ("/bank/charges", PIX, "expires_in_s", float("inf")),
        ("/bank/charges", PIX, "token", "tok_ok"),
        ("/fiscal/invoices", INVOICE, "series", -1),
        ("/fiscal/invoices", INVOICE, "series", 1000),
        ("/fiscal/invoices", INVOICE, "number", 0),
        ("/fiscal/invoices", INVOICE, "number", 10**9),
        ("/fiscal/invoices", INVOICE, "access_key", "1" * 43),
        ("/fiscal/invoices", INVOICE, "access_key", "١" * 44),
        ("/fiscal/invoices", INVOICE, "tax_id", "529.982.247-25"),
        ("/fiscal/invoices", INVOICE, "tax_id", ""),
        ("/fiscal/invoices", INVOICE, "total", 0),
        ("/fiscal/invoices", INVOICE, "kind", "gift"),
        ("/fiscal/invoices", INVOICE, "kind", "return"),
        ("/fiscal/invoices", INVOICE, "references", "1" * 44),
        ("/fiscal/invoices", INVOICE, "email", "ada@example.com"),
        ("/carrier/shipments", SHIPMENT, "postal_code", "0131-0100"),
        ("/carrier/shipments", SHIPMENT, "postal_code", 1310100),
        ("/carrier/shipments", SHIPMENT, "reference", "abc"),
        ("/carrier/shipments", SHIPMENT, "parcels", 0),
        ("/carrier/shipments", SHIPMENT, "parcels", []),
        ("/carrier/shipments", SHIPMENT, "recipient", "Ada"),
    ],
)
def test_a_wrong_field_is_named(world, key, path, body, field, value):
    changed = {name: value for name, value in (body | {field: value}).items() if value is not NOTHING}
    content = json.dumps(changed)

    answer = world.client.put(f"{path}/{key}", content=content)

    assert answer.status_code == 400, answer.text
    assert answer.json()["code"] == "invalid"
    # Of a sale that claims to be a return note it is the reference that is missing.
    named = "references" if (field, value) == ("kind", "return") else field
    assert named in answer.json()["message"]
    assert world.client.get(f"{path}/{key}").status_code == 404


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"number": 1, "reason": "x"}, "series"),
        ({"series": 1, "reason": "x"}, "number"),
        ({"series": 1, "number": 1}, "reason"),
        ({"series": 1, "number": 1, "reason": ""}, "reason"),
        ({"series": 1, "number": 1, "reason": "x" * 256}, "reason"),
        ({"series": 1, "number": 1, "reason": "\ud800"}, "reason"),
        ({"series": 1, "number": 1, "reason": "x", "why": 1}, "why"),
    ],
)
def test_a_number_is_not_voided_by_mistake(world, body, field):
    answer = world.client.post("/fiscal/numbers/void", content=json.dumps(body))

    assert (answer.status_code, answer.json()["code"]) == (400, "invalid")
    assert field in answer.json()["message"]


@pytest.mark.parametrize(
    "path", ["/bank/charges/{}/refund", "/fiscal/invoices/{}/cancel", "/carrier/shipments/{}/recall"]
)
def test_an_undo_that_is_not_understood_leaves_no_tombstone(world, key, path):
    answer = world.client.post(path.format(key), json={"surprise": 1})

    assert (answer.status_code, answer.json()["code"]) == (400, "invalid")
    assert all(tombstone["key"] != key for tombstone in world.books()["tombstones"])


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"[]",
        b"7",
        b"null",
        b'"x"',
        b"\xff",
        b"[" * 20_000,
        b'{"amount": ' + b"1" * 5000 + b"}",
        b" " * 70_000,
    ],
)
def test_a_body_that_is_no_object_of_json_is_refused(world, key, content):
    answer = world.client.put(f"/bank/charges/{key}", content=content)

    assert (answer.status_code, answer.json()["code"]) == (400, "invalid")
    assert world.client.get(f"/bank/charges/{key}").status_code == 404


@pytest.mark.parametrize("quoted", ["%20", "a%0Ab", "%C3%A9", "k" * 201, "a%00"])
def test_a_key_is_of_visible_characters(world, quoted):
    answer = world.client.put(f"/bank/charges/{quoted}", json=examples.card())

    assert (answer.status_code, answer.json()["code"]) == (400, "invalid")


def test_a_key_may_have_any_visible_character_when_it_is_quoted(world):
    answer = world.client.put("/bank/charges/a%2Fb%3Fc%23d%25", json=examples.card())

    assert (answer.status_code, answer.json()["key"]) == (201, "a/b?c#d%")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/", 404, "no_such_path"),
        ("GET", "/bank/charges/", 404, "no_such_path"),
        ("GET", "/bank/charges/a/b", 404, "no_such_path"),
        ("GET", "/books/", 404, "no_such_path"),
        ("POST", "/books", 405, "method_not_allowed"),
        ("DELETE", "/bank/charges/a", 405, "method_not_allowed"),
        ("GET", "/reset", 405, "method_not_allowed"),
        ("OPTIONS", "/books", 501, "bad_request"),
    ],
)
def test_a_wrong_path_or_method_is_said_so(world, method, path, status, code):
    answer = world.client.request(method, path)

    assert (answer.status_code, answer.json()["code"]) == (status, code)


@pytest.mark.parametrize(
    "raw",
    [
        b"nonsense\r\n\r\n",
        b"GET //[ HTTP/1.1\r\n\r\n",
        b"PUT /bank/charges/raw HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"PUT /bank/charges/raw HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"PUT /bank/charges/raw HTTP/1.1\r\nContent-Length: 999999\r\n\r\n",
        b"PUT /a HTTP/1.1\r\nContent-Length: 99999\r\n\r\nPOST /bank/charges/raw/refund HTTP/1.1\r\n\r\n",
        b"PUT /bank/charges/raw HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /bank/charges/raw/refund HTTP/1.1\r\nContent-Length: 2\r\n\r\n",
        b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n",
    ],
)
def test_bytes_that_are_no_request_harm_nobody(world, raw):
    with socket.create_connection(("127.0.0.1", world.port), timeout=10) as connection:
        connection.sendall(raw)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk

    assert b'"code"' in answer
    assert b" 500 " not in answer
    # Half an undo is no undo.
    assert world.client.get("/bank/charges/raw").status_code == 404
    assert world.client.get("/healthz").json() == {"status": "ok"}
