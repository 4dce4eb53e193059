"""What reads strings from outside takes what it should, and is upset by nothing."""

import base64
import datetime
import string
from collections.abc import Callable
from typing import Any
from urllib import parse

import pytest
from django.http import QueryDict
from django.test import RequestFactory
from hypothesis import given
from hypothesis import strategies as st
from rest_framework import serializers as drf
from rest_framework.request import Request

from api import fields, idempotency, pagination, parsing, problems, serializers
from orders.api import forms
from sagas.console.api import forms as console
from webhooks.api import forms as webhooks

VISIBLE = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) != '"')
BARE = st.text(VISIBLE, min_size=1, max_size=200)


def attempt(call: Callable[[], Any]) -> tuple[Any, problems.Problem | None]:
    """What it answers, or why it refuses to."""
    try:
        return call(), None
    except problems.Problem as problem:
        return None, problem


def faults(field: Any, text: str) -> list[str]:
    """What the field has against it."""
    try:
        field.run_validation(text)
    except drf.ValidationError as error:
        return [str(fault) for fault in error.detail]
    return []


def request(**headers: str) -> Request:
    return Request(RequestFactory(headers=headers).get("/api/v1/orders"))


def query(text: str) -> Request:
    return Request(RequestFactory().get(f"/api/v1/orders?{text}"))


@given(BARE)
def test_a_bare_key_is_itself(key: str) -> None:
    assert idempotency.read(request(**{"Idempotency-Key": key})) == key


@given(st.text(VISIBLE + ' "', min_size=1, max_size=90))
def test_a_quoted_key_is_what_stands_between_the_quotes(key: str) -> None:
    quoted = '"' + key.replace("\\", "\\\\").replace('"', '\\"') + '"'

    assert idempotency.read(request(**{"Idempotency-Key": quoted})) == key


@given(st.text(max_size=300))
def test_no_key_upsets_the_reader(header: str) -> None:
    key, refusal = attempt(lambda: idempotency.read(request(**{"Idempotency-Key": header})))
    if refusal:
        assert refusal.kind is problems.KEY_INVALID
    else:
        assert 1 <= len(key) <= idempotency.LONGEST
        assert key.isascii()
        assert key.isprintable()


@given(
    st.text()
    | st.binary().map(lambda raw: base64.b64encode(raw).decode())
    | st.text().map(lambda position: base64.b64encode(parse.urlencode({"p": position}).encode()).decode())
)
@pytest.mark.parametrize(
    "pages", [pagination.ByCursor(), *[cls() for cls in pagination.ByCursor.__subclasses__()]]
)
def test_no_cursor_upsets_the_pages(pages: pagination.ByCursor, cursor: str) -> None:
    bare = QueryDict(mutable=True)
    bare["cursor"] = cursor
    cursor_, refusal = attempt(lambda: pages.decode_cursor(query(bare.urlencode())))
    if refusal:
        assert refusal.kind is problems.INVALID_QUERY
    else:
        assert "\0" not in str(cursor_.position)


@given(st.dictionaries(st.text(max_size=20), st.text(max_size=40), max_size=4))
@pytest.mark.parametrize("form", [forms.OrderQuery, console.SagaQuery, forms.Wait, webhooks.DeliveryQuery])
def test_no_query_upsets_the_forms(form: type[serializers.Form], values: dict[str, str]) -> None:
    bare = QueryDict(mutable=True)
    bare.update(values)
    asked, refusal = attempt(lambda: serializers.read_query(form, query(bare.urlencode())))
    if refusal:
        assert refusal.kind is problems.INVALID_QUERY
        assert {fault["parameter"] for fault in refusal.errors} <= set(values)
    else:
        assert set(asked) == set(values)


@given(st.integers(0, 999_999), st.sampled_from("smhd"))
def test_an_age_is_so_many_of_its_units(number: int, unit: str) -> None:
    seconds = {"s": 1, "m": 60, "h": 3600, "d": 86400}[unit]

    assert fields.Age().to_internal_value(f"{number}{unit}") == datetime.timedelta(seconds=number * seconds)


@given(
    st.datetimes(
        datetime.datetime(1901, 1, 2),
        datetime.datetime(2199, 12, 30),
        timezones=st.integers(-720, 840).map(lambda m: datetime.timezone(datetime.timedelta(minutes=m))),
    )
)
def test_a_time_is_read_as_it_was_written(at: datetime.datetime) -> None:
    assert fields.Instant().to_internal_value(at.isoformat()) == at


@given(st.text(string.printable))
def test_no_text_upsets_the_fields(text: str) -> None:
    kinds: list[Any] = [
        fields.Text(max_length=20), forms.Customer().fields["tax_id"], forms.Address().fields["postal_code"],
        fields.Email(), webhooks.Address(), fields.Age(), fields.Instant(),
        fields.Choice(["a"]), fields.Flag(), fields.Whole(min_value=0, max_value=9),
        fields.Number(min_value=0, max_value=9),
    ]  # fmt: skip
    for field in kinds:
        for fault in faults(field, text):
            assert fault.startswith("This must"), type(field)


@given(st.binary(max_size=200))
def test_what_is_read_back_is_what_was_sent(body: bytes) -> None:
    stream = RequestFactory().post("/", body, content_type="application/octet-stream")

    assert parsing.read(stream, {}) == body
