"""Bad input: each a 4xx problem document that names the member and what is allowed; nothing is stored."""

import copy
import gzip
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api import parsing, problems
from api.models import IdempotencyKey
from orders import models
from sagas import models as saga_models
from tests.orders.conftest import Api, order

pytestmark = pytest.mark.django_db

MISSING = object()

# Where, what stands there instead, to which place the fault points, and a word of what is allowed.
FAULTS: list[tuple[str, Any, str, str]] = [
    ("customer", MISSING, "/customer", "object"),
    ("customer", None, "/customer", "object"),
    ("customer", [], "/customer", "object"),
    ("customer", "Ana", "/customer", "object"),
    ("customer/name", MISSING, "/customer/name", "1 to 120"),
    ("customer/name", "", "/customer/name", "1 to 120"),
    ("customer/name", "   ", "/customer/name", "1 to 120"),
    ("customer/name", "x" * 121, "/customer/name", "1 to 120"),
    ("customer/name", 7, "/customer/name", "string"),
    ("customer/name", True, "/customer/name", "string"),
    ("customer/name", ["Ana"], "/customer/name", "string"),
    ("customer/name", "Ana\u0000", "/customer/name", "control"),
    ("customer/name", "Ana\nSouza", "/customer/name", "control"),
    ("customer/name", "Ana \u202eazuoS", "/customer/name", "direction"),
    ("customer/name", "\u2066Ana", "/customer/name", "direction"),
    ("customer/name", "\u200b\u200d", "/customer/name", "be seen"),
    ("customer/name", "\u3164 \u2800", "/customer/name", "be seen"),
    ("customer/name", "\U000e0041\U000e0042", "/customer/name", "be seen"),
    ("customer/email", "ana", "/customer/email", "e-mail"),
    ("customer/email", 7, "/customer/email", "e-mail"),
    ("customer/email", "a" * 250 + "@example.com", "/customer/email", "254"),
    ("customer/tax_id", "12345678901", "/customer/tax_id", "CPF"),
    ("customer/tax_id", "111.111.111-11", "/customer/tax_id", "CPF"),
    ("customer/tax_id", 52998224725, "/customer/tax_id", "CPF"),
    ("customer/tax_id", "", "/customer/tax_id", "CPF"),
    ("customer/age", 40, "/customer/age", "name, email, tax_id"),
    ("lines", MISSING, "/lines", "1 to 100"),
    ("lines", [], "/lines", "1 to 100"),
    ("lines", {}, "/lines", "list"),
    ("lines", "MUG-BLUE", "/lines", "list"),
    ("lines", [{"sku": f"S-{n}", "quantity": 1} for n in range(101)], "/lines", "1 to 100"),
    ("lines/0", 7, "/lines/0", "object"),
    ("lines/0/sku", MISSING, "/lines/0/sku", "1 to 32"),
    ("lines/0/sku", "NO-SUCH", "/lines/0/sku", "/api/v1/products"),
    ("lines/1/sku", "NO-SUCH", "/lines/1/sku", "/api/v1/products"),
    ("lines/0/sku", 7, "/lines/0/sku", "string"),
    ("lines/1/sku", "MUG-BLUE", "/lines/1/sku", "already"),
    ("lines/0/quantity", MISSING, "/lines/0/quantity", "1 to 999"),
    ("lines/0/quantity", 0, "/lines/0/quantity", "1 to 999"),
    ("lines/0/quantity", -1, "/lines/0/quantity", "1 to 999"),
    ("lines/0/quantity", 1000, "/lines/0/quantity", "1 to 999"),
    ("lines/0/quantity", 10**30, "/lines/0/quantity", "1 to 999"),
    ("lines/0/quantity", 1.5, "/lines/0/quantity", "whole"),
    ("lines/0/quantity", "2", "/lines/0/quantity", "whole"),
    ("lines/0/quantity", True, "/lines/0/quantity", "whole"),
    ("lines/0/quantity", None, "/lines/0/quantity", "whole"),
    ("lines/0/price", 1, "/lines/0/price", "sku, quantity"),
    ("payment", MISSING, "/payment", "object"),
    ("payment/method", "boleto", "/payment/method", "card, pix"),
    ("payment/method", 7, "/payment/method", "card, pix"),
    ("payment/method", MISSING, "/payment/method", "card, pix"),
    ("payment/token", MISSING, "/payment/token", "string"),
    ("payment/token", "", "/payment/token", "string"),
    ("payment/token", "x" * 201, "/payment/token", "200"),
    ("payment/token", "4242 4242 4242 4242", "/payment/token", "never the card's number"),
    ("payment/token", "4242424242424242", "/payment/token", "never the card's number"),
    ("payment/token", " 5555-5555-5555-4444 ", "/payment/token", "never the card's number"),
    ("customer/email", "ana@localhost", "/customer/email", "e-mail address"),
    ("payment", {"method": "pix", "token": "tok_ok"}, "/payment/token", "leave it out"),
    ("total", 18290, "/total", "object"),
    ("total", {"amount": 18290}, "/total/currency", "BRL"),
    ("total", {"amount": "18290", "currency": "BRL"}, "/total/amount", "whole number"),
    ("total", {"amount": 182.9, "currency": "BRL"}, "/total/amount", "whole number"),
    ("total", {"amount": -1, "currency": "BRL"}, "/total/amount", "from 0"),
    ("total", {"amount": 18290, "currency": "brl"}, "/total/currency", "BRL"),
    ("shipping_address", MISSING, "/shipping_address", "Line 0 of the order ships"),
    ("shipping_address", None, "/shipping_address", "object"),
    ("shipping_address/state", "XX", "/shipping_address/state", "SP"),
    ("shipping_address/state", "sp", "/shipping_address/state", "SP"),
    ("shipping_address/country", "PT", "/shipping_address/country", "BR"),
    ("shipping_address/country", MISSING, "/shipping_address/country", "BR"),
    ("shipping_address/postal_code", "1310-100", "/shipping_address/postal_code", "CEP"),
    ("shipping_address/postal_code", 1310100, "/shipping_address/postal_code", "CEP"),
    ("shipping_address/street", MISSING, "/shipping_address/street", "1 to 120"),
    ("shipping_address/number", 12, "/shipping_address/number", "string"),
    ("shipping_address/complement", "x" * 121, "/shipping_address/complement", "at most 120"),
    ("shipping_address/planet", "Earth", "/shipping_address/planet", "recipient"),
    ("shipping_address/recipient", "\u00ad\ufeff", "/shipping_address/recipient", "be seen"),
    ("shipping_address/complement", "\u202d12", "/shipping_address/complement", "direction"),
    ("reference", "x" * 65, "/reference", "at most 64"),
    ("reference", 7, "/reference", "string"),
    ("reference", None, "/reference", "string"),
    ("coupon", "FREE", "/coupon", "customer"),
    ("a/b~c", "FREE", "/a~1b~0c", "customer"),
]


@pytest.mark.parametrize(("place", "value", "pointer", "allowed"), FAULTS)
def test_a_fault_is_named_and_nothing_is_stored(
    ana: Api, place: str, value: Any, pointer: str, allowed: str
) -> None:
    answer = ana.order(_with(place, value))

    assert answer.status_code == 422, answer.content
    assert answer["Content-Type"] == "application/problem+json"
    document = answer.json()
    assert document["type"] == "/api/problems/invalid-body"
    assert [fault["pointer"] for fault in document["errors"]] == [pointer]
    assert allowed in document["errors"][0]["detail"]
    assert document["detail"] == f"{pointer}: {document['errors'][0]['detail']}"
    _nothing_is_stored()


def test_all_faults_are_named_at_once(ana: Api) -> None:
    body = order(payment={"method": "pigeon"}, coupon="FREE")
    body["lines"] = [{"sku": "MUG-BLUE", "quantity": 0}, {"sku": "MUG-BLUE"}]

    document = ana.order(body).json()

    assert {fault["pointer"] for fault in document["errors"]} == {
        "/coupon",
        "/payment/method",
        "/lines/0/quantity",
        "/lines/1/quantity",
    }
    first = document["errors"][0]
    assert document["detail"] == f"{first['pointer']}: {first['detail']} 3 more faults are in `errors`."


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"nonsense",
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": 1e999}',
        b'{"a": -1e999}',
        b'{"a": 1, "a": 2}',
        b'{"a": "\\ud800"}',
        b'"\xff"',
        b"\xef\xbb\xbf{}",
        b"[" * 100_000,
        b'{"a": ' + b"[" * 900 + b"]" * 900 + b"}",
        b'{"a": ' * 33 + b"1" + b"}" * 33,
        b'{"a": ' + b"9" * 5000 + b"}",
        "{}".encode("utf-16"),
    ],
)
def test_what_is_not_json_is_refused(ana: Api, body: bytes) -> None:
    answer = ana.post("/orders", body, **{"Idempotency-Key": "key-1"})

    assert answer.status_code == 400, answer.content
    assert answer.json()["type"] == "/api/problems/malformed-body"
    _nothing_is_stored()


@pytest.mark.parametrize("body", ["[]", "7", '"order"', "null", "true"])
def test_what_is_no_object_is_refused(ana: Api, body: str) -> None:
    answer = ana.post("/orders", body, **{"Idempotency-Key": "key-1"})

    assert answer.status_code == 422
    assert answer.json()["errors"] == [
        {"pointer": "", "detail": "This must be an object.", "code": "invalid"}
    ]


def test_a_whole_number_may_be_written_with_a_point(ana: Api) -> None:
    answer = ana.order(_with("lines/0/quantity", 2.0))

    assert answer.status_code == 202
    assert b'"quantity":2,' in answer.content


def test_no_body_is_an_empty_one(ana: Api) -> None:
    answer = ana.post("/orders", b"", **{"Idempotency-Key": "key-1"})

    assert answer.status_code == 422
    faults = [fault["pointer"] for fault in answer.json()["errors"]]
    assert faults == ["/customer", "/lines", "/payment"]


def test_a_body_too_large_is_refused(ana: Api) -> None:
    answer = ana.order(order(reference="x" * (256 * 1024)))

    assert answer.status_code == 413
    assert answer.json()["type"] == "/api/problems/body-too-large"
    assert "262144" in answer.json()["detail"]
    _nothing_is_stored()


def test_another_media_type_is_refused(ana: Api) -> None:
    answer = ana.client.post("/api/v1/orders", {"a": "form"}, headers={"Idempotency-Key": "key-1"})

    assert answer.status_code == 415
    assert answer.json()["type"] == "/api/problems/unsupported-media-type"


def test_a_member_with_a_name_without_end_does_not_make_the_sentence_so(ana: Api) -> None:
    document = ana.order({**order(), "x" * 10_000: 1}).json()

    assert len(document["detail"]) < 300
    assert document["errors"][0]["pointer"] == "/" + "x" * 10_000


@pytest.mark.parametrize("name", ["Zoë 👩\u200d👧", "नमस्\u200dते", "שרה", "e\u0301"])
def test_a_name_with_joiners_and_marks_is_a_name(ana: Api, name: str) -> None:
    assert ana.order(_with("customer/name", name)).status_code == 202


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate, gzip"])
def test_a_body_that_is_compressed_is_refused_as_that(ana: Api, encoding: str) -> None:
    body = gzip.compress(json.dumps(order()).encode())

    refused = [
        ana.post("/orders", body, **{"Idempotency-Key": "key-1", "Content-Encoding": encoding}),
        ana.post("/webhooks/payments", body, **{"Content-Encoding": encoding}),
    ]

    for answer in refused:
        assert answer.status_code == 415
        assert answer.json()["type"] == "/api/problems/unsupported-media-type"
        assert "compressed" in answer.json()["detail"]
        assert answer["Accept-Encoding"] == "identity"
    _nothing_is_stored()
    plain = json.dumps(order())
    assert (
        ana.post("/orders", plain, **{"Idempotency-Key": "key-1", "Content-Encoding": "identity"}).status_code
        == 202
    )


@pytest.mark.parametrize("key", ["", " ", "x" * 201, "é", "a b", '"open', 'mid"dle', '""'])
def test_a_key_that_is_none_is_refused(ana: Api, key: str) -> None:
    answer = ana.order(key=key)

    assert answer.status_code == 400
    assert answer.json()["type"] == "/api/problems/idempotency-key-invalid"
    _nothing_is_stored()


def test_a_customer_of_the_authority_s_blacklist_is_none_of_the_api_s_business(ana: Api) -> None:
    answer = ana.order(_with("customer/tax_id", "00000000191"))

    assert answer.status_code == 202


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
places = st.sampled_from(sorted({place for place, *_ in FAULTS if "~" not in place}))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=places, value=json_values)
def test_nothing_that_can_be_written_in_json_upsets_it(ana: Api, place: str, value: Any) -> None:
    body = json.dumps(_with(place, value))

    answer = ana.post("/orders", body, **{"Idempotency-Key": "key-1"})

    assert answer.status_code in (202, 422, 400)
    for fault in answer.json().get("errors", []):
        assert fault["detail"]
        assert fault["code"]


@settings(deadline=None)
@given(json_values)
def test_the_parser_reads_what_json_writes(value: Any) -> None:
    try:
        text = json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        text = json.dumps(value).encode()
        with pytest.raises(Exception, match="UTF-8"):
            parsing.loads(text)
    else:
        assert parsing.loads(text) == value


@pytest.mark.parametrize(("deep", "read"), [(parsing.DEEPEST, True), (parsing.DEEPEST + 1, False)])
def test_the_parser_reads_no_deeper_than_it_says(deep: int, read: bool) -> None:
    body = b"[" * deep + b"]" * deep
    if read:
        assert parsing.loads(body) is not None
    else:
        with pytest.raises(Exception, match="more than 32 deep"):
            parsing.loads(body)


@given(st.binary(max_size=60))
def test_no_bytes_upset_the_parser(body: bytes) -> None:
    try:
        parsing.loads(body)
    except Exception as error:
        problem = problems.of(error)
        assert problem is not None
        assert problem.kind is problems.MALFORMED_BODY


def _with(place: str, value: Any) -> dict[str, Any]:
    """Ana's order with another value at that place."""
    body = copy.deepcopy(order())
    if place == "a/b~c":
        return body | {place: value}
    *path, name = place.split("/")
    target: Any = body
    for part in path:
        target = target[int(part)] if isinstance(target, list) else target[part]
    if isinstance(target, list):
        target[int(name)] = value
    elif value is MISSING:
        del target[name]
    else:
        target[name] = value
    return body


def _nothing_is_stored() -> None:
    assert not models.Order.objects.exists()
    assert not IdempotencyKey.objects.exists()
    assert not saga_models.SagaInstance.objects.exists()
