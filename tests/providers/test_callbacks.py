"""Callbacks are believed only if the provider signed them, and signed them just now."""

import datetime
import json
from typing import Any

import hypothesis
import pytest
import standardwebhooks
from hypothesis import strategies

from providers import callbacks

SECRET = "whsec_YSBzZWNyZXQgZm9yIHRlc3Rz"
OTHER_SECRET = "whsec_YW5vdGhlciBzZWNyZXQgb2YgdGVzdHM="
NOW = datetime.datetime(2026, 3, 14, 15, 9, 26, tzinfo=datetime.UTC)
CONTENT = {
    "id": "evt_1",
    "type": "pix.paid",
    "key": "0199c2e0.take-payment",
    "occurred_at": "2026-03-14T15:09:20+00:00",
    "data": {"captured": 18290},
}


def signed(
    content: Any = CONTENT, *, at: datetime.datetime = NOW, secret: str = SECRET, id_: str = "evt_1"
) -> tuple[dict[str, str], bytes]:
    """A callback as an independent implementation of the scheme signs it."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    signature = standardwebhooks.Webhook(secret).sign(id_, at, body.decode("latin-1"))
    timestamp = str(int(at.timestamp()))
    return {"webhook-id": id_, "webhook-timestamp": timestamp, "webhook-signature": signature}, body


def read(headers: dict[str, str], body: bytes) -> callbacks.Event:
    return callbacks.read(headers=headers, body=body, now=NOW, secrets=[SECRET])


def test_what_the_provider_signed_is_read():
    event = read(*signed())

    assert (event.id, event.kind, event.key) == ("evt_1", "pix.paid", "0199c2e0.take-payment")
    assert event.occurred_at == NOW - datetime.timedelta(seconds=6)
    assert event.data == {"captured": 18290}


def test_headers_may_be_written_in_any_case():
    headers, body = signed()

    assert read({name.title(): value for name, value in headers.items()}, body).id == "evt_1"


def test_one_of_several_signatures_is_enough_while_a_secret_is_changed():
    headers, body = signed()
    other, _ = signed(secret=OTHER_SECRET)
    both = f"{other['webhook-signature']} v2,unheard-of {headers['webhook-signature']}"

    assert read(headers | {"webhook-signature": both}, body).id == "evt_1"


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
@pytest.mark.parametrize("value", [None, "", "x", "é", "v1,", "v1,AAAA"])
def test_a_header_that_is_missing_or_changed_is_refused(name, value):
    headers, body = signed()
    if value is None:
        del headers[name]
    else:
        headers[name] = value

    with pytest.raises(callbacks.BadCallback):
        read(headers, body)


def test_while_a_secret_is_changed_the_old_and_the_new_are_good():
    for secret in (SECRET, OTHER_SECRET):
        headers, body = signed(secret=secret)
        event = callbacks.read(headers=headers, body=body, now=NOW, secrets=[OTHER_SECRET, SECRET])

        assert event.id == "evt_1"


def test_without_a_secret_nothing_is_believed():
    with pytest.raises(callbacks.Forged):
        callbacks.read(**dict(zip(("headers", "body"), signed(), strict=True)), now=NOW, secrets=[])


def test_another_secret_is_refused():
    with pytest.raises(callbacks.BadCallback):
        read(*signed(secret=OTHER_SECRET))


@hypothesis.given(strategies.data())
def test_a_body_changed_in_any_byte_is_refused(data):
    headers, body = signed()
    place = data.draw(strategies.integers(0, len(body) - 1))
    byte = data.draw(strategies.integers(0, 255).filter(lambda other: other != body[place]))

    with pytest.raises(callbacks.BadCallback):
        read(headers, body[:place] + bytes([byte]) + body[place + 1 :])


@pytest.mark.parametrize("minutes", [-6, 6, -60 * 24, 60 * 24])
def test_an_old_one_may_be_a_replay_and_one_from_the_future_is_no_better(minutes):
    with pytest.raises(callbacks.BadCallback):
        read(*signed(at=NOW + datetime.timedelta(minutes=minutes)))


@pytest.mark.parametrize("minutes", [-4, 4])
def test_clocks_may_differ_a_little(minutes):
    assert read(*signed(at=NOW + datetime.timedelta(minutes=minutes))).id == "evt_1"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not JSON",
        b"[1]",
        b"null",
        b"[" * 100_000,
        {},
        CONTENT | {"type": 7},
        CONTENT | {"type": ""},
        CONTENT | {"type": "t" * 41},
        CONTENT | {"type": "pix\x00paid"},
        CONTENT | {"data": {"captured": 10**30}},
        CONTENT | {"data": {"name": "\x00"}},
        json.dumps(CONTENT).replace("18290", "1e999").encode(),
        json.dumps(CONTENT).replace("18290", '"\\ud800"').encode(),
        CONTENT | {"key": None},
        CONTENT | {"key": ""},
        CONTENT | {"key": "k" * 101},
        CONTENT | {"key": "nul\x00"},
        CONTENT | {"data": []},
        CONTENT | {"occurred_at": "yesterday"},
        CONTENT | {"occurred_at": "2026-03-14T15:09:20"},
        {name: value for name, value in CONTENT.items() if name != "occurred_at"},
    ],
)
def test_signed_nonsense_is_refused_all_the_same(content):
    with pytest.raises(callbacks.BadCallback):
        read(*signed(content))


@pytest.mark.parametrize("id_", ["", "e" * 101, "evt\t1"])
def test_an_id_that_does_not_fit_is_refused(id_):
    with pytest.raises(callbacks.BadCallback) as refused:
        read(*signed(id_=id_))

    assert refused.value.id.startswith("sha256."), "by which it is known again"


def test_signed_nonsense_is_known_again_by_its_id():
    with pytest.raises(callbacks.BadCallback) as refused:
        read(*signed(b"nonsense"))

    assert (refused.value.signed, refused.value.id) == (True, "evt_1")


def test_a_secret_that_is_none_is_a_mistake_of_ours():
    with pytest.raises(ValueError, match="whsec_"):
        callbacks.read(headers={}, body=b"", now=NOW, secrets=["not base64!"])
