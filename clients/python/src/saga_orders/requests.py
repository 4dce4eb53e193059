"""What both clients send, and how they read what comes back: all of it but the sending itself."""

import dataclasses
import datetime
import json
import re
import uuid
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar
from urllib import parse

import httpx

from saga_orders import decoding, errors, models, webhooks

T = TypeVar("T")

API = "/api/v1"
LONGEST_WAIT_S = 30
"""So long the server lets a request wait for the end of an order."""
SILENCE_S = 60.0
"""A stream says every 15 seconds that it lives: one that is silent for so long does not."""
NUMBER = re.compile(r"[A-Z]{2,4}-[0-9A-Z]{4,12}", re.IGNORECASE)
KEY = re.compile(r"[\x21\x23-\x7e]{1,200}")


def base(url: str) -> str:
    """The API's address, from that of the shop.

    Raises:
        ValueError: it is none.
    """
    parts = parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.query or parts.fragment:
        raise ValueError(f"base_url must be the shop's address, such as https://shop.example, not {url!r}")
    return url.rstrip("/").removesuffix(API) + API


def headers(token: str, language: str | None, agent: str) -> dict[str, str]:
    """Those of every request.

    Raises:
        ValueError: the token cannot be one.
    """
    if not token.isascii() or not token.isprintable() or not token.strip() or " " in token:
        raise ValueError("token must be the API token alone: ord_...")
    told = {"Authorization": f"Bearer {token}", "Accept": "application/json", "User-Agent": agent}
    return told | ({"Accept-Language": language} if language else {})


def path(order: models.Order | uuid.UUID | str) -> str:
    """Where an order is.

    Raises:
        ValueError: it is neither an order's id nor its number.
    """
    id_ = order.id if isinstance(order, models.Order) else order
    if isinstance(id_, str) and NUMBER.fullmatch(id_):
        return f"/orders/{id_.upper()}"
    try:
        return f"/orders/{id_ if isinstance(id_, uuid.UUID) else uuid.UUID(id_)}"
    except ValueError:
        raise ValueError(
            f"{id_!r} is not an order: give an Order, its `id`, or its `number`, such as ORD-7K3QX9ZD"
        ) from None


def key(given: str | None) -> str:
    """The idempotency key: what was given, or a new one.

    Raises:
        ValueError: what was given cannot be one.
    """
    if given is None:
        return str(uuid.uuid4())
    if not KEY.fullmatch(given):
        raise ValueError("idempotency_key must have 1 to 200 visible ASCII characters, and no double quote")
    return given


def new_order(
    *,
    customer: models.Customer,
    lines: Iterable[models.Line],
    payment: models.Card | models.Pix,
    shipping_address: models.Address | None,
    total: models.Money | None,
    reference: str,
) -> bytes:
    """The body that places an order: the same bytes whenever it is sent again."""
    body: dict[str, Any] = {
        "customer": dataclasses.asdict(customer),
        "lines": [dataclasses.asdict(line) for line in lines],
        "payment": dataclasses.asdict(payment),
        "reference": reference,
    }
    if shipping_address is not None:
        body["shipping_address"] = dataclasses.asdict(shipping_address)
    if total is not None:
        body["total"] = dataclasses.asdict(total)
    return json.dumps(body, ensure_ascii=False).encode()


def cancellation(reason: str) -> bytes:
    """The body that cancels an order."""
    return json.dumps({"reason": reason}, ensure_ascii=False).encode()


def query(**parameters: Any) -> dict[str, str | list[str]]:
    """Those parameters that were given; one that is a list is given once for each of its values.

    Raises:
        ValueError: a time has no zone.
    """
    return {name: _written(name, value) for name, value in parameters.items() if value is not None}


def several(wanted: Any) -> list[Any] | None:
    """One word, or several of them, as a list; None where there is none."""
    return ([wanted] if isinstance(wanted, str) else list(wanted or ())) or None


def message_id(message: webhooks.Message | uuid.UUID | str | None) -> str | None:
    """The id of a message.

    Raises:
        ValueError: it is none.
    """
    id_ = message.id if isinstance(message, webhooks.Message) else message
    try:
        return None if id_ is None else str(id_ if isinstance(id_, uuid.UUID) else uuid.UUID(id_))
    except ValueError:
        raise ValueError(f"{id_!r} is not the id of a message: give a Message, or its `id`") from None


def order(answer: httpx.Response) -> models.Order:
    """The order that was answered with."""
    return decoding.decode(models.Order, _json(answer))


def page(answer: httpx.Response, of: type[T]) -> models.Page[T]:
    """The page that was answered with."""
    told = _json(answer)
    results = told.get("results") if isinstance(told, Mapping) else None
    if not isinstance(results, list):
        raise errors.UnexpectedAnswer("/results is missing")
    return models.Page(
        results=tuple(decoding.decode(of, row, f"/results/{index}") for index, row in enumerate(results)),
        next_cursor=_cursor(told.get("next")),
        previous_cursor=_cursor(told.get("previous")),
    )


def log(answer: httpx.Response) -> tuple[list[webhooks.Message], bool]:
    """The messages of a page of the event log, and whether there are more behind them."""
    told = _json(answer)
    results = told.get("results") if isinstance(told, Mapping) else None
    if not isinstance(results, list):
        raise errors.UnexpectedAnswer("/results is missing")
    messages = [webhooks.message(row, f"/results/{index}") for index, row in enumerate(results)]
    return messages, told.get("next") is not None


def lost(error: httpx.RequestError, *, method: str, url: str) -> errors.ConnectionFailed:
    """The error for a request that has no answer."""
    return errors.ConnectionFailed(f"{method} {url}: {type(error).__name__}: {error}".rstrip(": "))


def _json(answer: httpx.Response) -> Any:
    try:
        return json.loads(answer.content)
    except ValueError:
        raise errors.UnexpectedAnswer(
            f"{answer.request.url} answered {answer.status_code}, and what it said is no JSON"
        ) from None


def _cursor(address: Any) -> str | None:
    """The position that a neighbour's address names. The rest of it may be how the server sees itself."""
    if not isinstance(address, str):
        return None
    return parse.parse_qs(parse.urlsplit(address).query).get("cursor", [None])[0]


def _written(name: str, value: Any) -> str | list[str]:
    if isinstance(value, list):
        return [str(one) for one in value]
    if isinstance(value, datetime.datetime):
        if value.tzinfo is None:
            raise ValueError(f"{name} must be an aware datetime, such as datetime.now(UTC)")
        return value.astimezone(datetime.UTC).isoformat().replace("+00:00", "Z")
    return str(value)
