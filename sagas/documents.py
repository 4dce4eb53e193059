"""A saga that has ended, as one document: packed for the archive, and chained so that it can be proved.

Pure: it needs nothing but Python. It is given rows as mappings of columns, and what it answers is JSON.

1. `build` makes the document of the rows. A column that is null is left out.
2. `digest_of` is the head of a chain over its events: each event's hash is SHA-256 of the hash before it and
   of the event as canonical JSON. In that, every value that people or providers may have written (the actor,
   the reason, each member of `data`) is replaced by a commitment: SHA-256 of sixteen random bytes of its
   own, the salt, and of the value. The salt stands in the document beside the value.
3. So a value can be struck out later without breaking the chain: `strike` deletes it with its salt, and
   leaves the commitment, from which nobody can find the value again, however few it might have been.
4. `pack` compresses the document with a preset dictionary, for such documents are small and alike.

The chain proves the events, their order and their number. What stands in `saga`, `steps`, `signals` and
`others` is not part of it: the events tell what became of these.
"""

import base64
import copy
import datetime
import hashlib
import json
import secrets
import uuid
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

Document = dict[str, Any]
Row = Mapping[str, Any]
Path = tuple[str, ...]
"""Where a value stands, such as `("steps", "pay", "facts", "card")`, or `("events", "17", "reason")`."""

FORMAT = 1
"""Of the documents that are built now; raised when their shape changes."""

STRUCK = "(struck out)"
"""What is read where a value was struck out."""

ENGINE = "engine"
"""The actor that is nobody: it is no value of anybody's, and is chained as it is."""

SALT_BYTES = 16


# --- Building and packing -------------------------------------------------------------------------


def build(
    *,
    saga: Row,
    steps: Iterable[Row],
    events: Iterable[Row],
    signals: Iterable[Row] = (),
    others: Mapping[str, Iterable[Row]] | None = None,
) -> Document:
    """The document of a saga and of all that belongs to it.

    Arguments:
        saga: the saga's columns.
        steps: those of its steps, in their order.
        events: those of its events, in the order of happening.
        signals: those of its callbacks.
        others: rows of other apps that are about it, by what they call them.
    """
    return {
        "format": FORMAT,
        "saga": _plain(saga),
        "steps": [_plain(row) for row in steps],
        "events": [_salted(_plain(row)) for row in events],
        "signals": [_plain(row) for row in signals],
        "others": {name: [_plain(row) for row in rows] for name, rows in (others or {}).items()},
    }


def pack(document: Document, dictionary: int | None = None) -> bytes:
    """The document as bytes.

    Arguments:
        document: as `build` made it.
        dictionary: the number of the dictionary, which must be kept beside the bytes; the newest by default.
    """
    packer = zlib.compressobj(
        level=9, zdict=_DICTIONARIES[NEWEST_DICTIONARY if dictionary is None else dictionary]
    )
    return (
        packer.compress(json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode())
        + packer.flush()
    )


def unpack(packed: bytes, dictionary: int) -> Document:
    """The document that was packed with the dictionary of that number.

    Raises:
        KeyError: there is no such dictionary.
        ValueError: these are not the bytes of a document.
    """
    opener = zlib.decompressobj(zdict=_DICTIONARIES[dictionary])
    try:
        document: Document = json.loads(opener.decompress(packed) + opener.flush())
    except zlib.error as error:
        raise ValueError(f"These bytes are no document: {error}") from error
    return document


def events_of(document: Document) -> Iterator[dict[str, Any]]:
    """Its events as their columns were; a value that was struck out says so."""
    for event in document["events"]:
        opened = {**event, "actor": _opened(event["actor"]), "reason": _opened(event["reason"])}
        opened["data"] = {name: _opened(value) for name, value in event["data"].items()}
        yield opened


# --- The chain ------------------------------------------------------------------------------------


def digest_of(document: Document) -> bytes:
    """The head of the chain over its events, which begins with the saga's id."""
    head = hashlib.sha256(_canonical({"saga": document["saga"]["id"]})).digest()
    for event in document["events"]:
        head = hashlib.sha256(head + _canonical(_committed(event))).digest()
    return head


def verify(document: Document, digest: bytes) -> bool:
    """Whether its events are those, and as many and in that order, over which the chain was made."""
    try:
        return secrets.compare_digest(digest_of(document), digest)
    except (KeyError, TypeError, ValueError, AttributeError):
        return False  # It has not even the shape of one.


def strike(document: Document, should_strike: Callable[[Path, Any], bool]) -> Document:
    """The same document without the values that are to be struck out; its chain still holds.

    Facts, failures and callbacks lose what was chosen, however deep it stands. A member of an event's `data`
    is committed to as a whole, and is struck out whole if anything in it was chosen.

    Arguments:
        document: the document, which is left as it is.
        should_strike: told where a value stands, and the value; whether it is to be struck out.
    """
    struck = copy.deepcopy(document)
    for name in _FREE["saga"]:
        _strike_member(struck["saga"], name, ("saga",), should_strike)
    for step in struck["steps"]:
        for name in _FREE["steps"]:
            _strike_member(step, name, ("steps", step["name"]), should_strike)
    for signal in struck["signals"]:
        for name in _FREE["signals"]:
            _strike_member(signal, name, ("signals", str(signal["id"])), should_strike)
    for kind, rows in struck["others"].items():
        for row in rows:
            for name in [name for name in row if name not in ("id", "saga_id")]:
                _strike_member(row, name, ("others", kind, str(row.get("id", ""))), should_strike)
    for event in struck["events"]:
        _strike_event(event, ("events", str(event["id"])), should_strike)
    return struck


_FREE: Mapping[str, tuple[str, ...]] = {
    "saga": ("facts", "failure", "attention", "cancel_reason", "cancel_actor"),
    "steps": ("facts", "error", "worker"),
    "signals": (
        "facts",
        "refused",
        "mismatch",
        "compensation_error",
        "attention",
        "settled_by",
        "settlement",
    ),
}
"""The columns whose values people or providers wrote."""


def _strike_member(
    row: dict[str, Any], name: str, path: Path, should_strike: Callable[[Path, Any], bool]
) -> None:
    if row.get(name) not in (None, ""):
        row[name] = _without(row[name], (*path, name), should_strike)


def _without(value: Any, path: Path, should_strike: Callable[[Path, Any], bool]) -> Any:
    if should_strike(path, value):
        return STRUCK
    if isinstance(value, dict):
        return {name: _without(inner, (*path, name), should_strike) for name, inner in value.items()}
    if isinstance(value, list):
        return [_without(inner, (*path, str(place)), should_strike) for place, inner in enumerate(value)]
    return value


def _strike_event(event: dict[str, Any], path: Path, should_strike: Callable[[Path, Any], bool]) -> None:
    for name in ("actor", "reason"):
        event[name] = _struck(event[name], (*path, name), should_strike)
    for name, kept in event["data"].items():
        event["data"][name] = _struck(kept, (*path, "data", name), should_strike)


def _struck(kept: Any, path: Path, should_strike: Callable[[Path, Any], bool]) -> Any:
    if isinstance(kept, list) and _without(kept[0], path, should_strike) != kept[0]:
        return {"struck": _commitment(kept)}
    return kept


# --- One event ------------------------------------------------------------------------------------

# In a document the value of an event is one of three:
#   a text                nobody's: the engine as the actor, or an empty reason; chained as it is
#   [value, salt]         somebody's, and kept
#   {"struck": "5f0c…"}   somebody's, and struck out: only the commitment is left


def _salted(event: dict[str, Any]) -> dict[str, Any]:
    actor, reason = event.get("actor", ENGINE), event.get("reason", "")
    return {
        **event,
        "actor": actor if actor == ENGINE else _keep(actor),
        "reason": reason if reason == "" else _keep(reason),
        "data": {name: _keep(value) for name, value in (event.get("data") or {}).items()},
    }


def _keep(value: Any) -> list[Any]:
    return [value, base64.b64encode(secrets.token_bytes(SALT_BYTES)).decode().rstrip("=")]


def _opened(kept: Any) -> Any:
    if isinstance(kept, list):
        return kept[0]
    return STRUCK if isinstance(kept, dict) else kept


def _committed(event: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **event,
        "actor": _chained(event["actor"]),
        "reason": _chained(event["reason"]),
        "data": {name: _chained(value) for name, value in event["data"].items()},
    }


def _chained(kept: Any) -> Any:
    if isinstance(kept, str):
        return kept
    return {"commitment": kept["struck"] if isinstance(kept, dict) else _commitment(kept)}


def _commitment(kept: list[Any]) -> str:
    value, salt = kept
    salted = base64.b64decode(salt + "=" * (-len(salt) % 4), validate=True) + _canonical(value)
    return hashlib.sha256(salted).hexdigest()


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _plain(row: Row) -> dict[str, Any]:
    """A row's columns as JSON has them; what is null is left out."""
    return {name: _jsonable(value) for name, value in row.items() if value is not None}


def _jsonable(value: Any) -> Any:
    if isinstance(value, datetime.datetime):
        return value.astimezone(datetime.UTC).isoformat()
    return str(value) if isinstance(value, uuid.UUID) else value


# --- The dictionaries -----------------------------------------------------------------------------

NEWEST_DICTIONARY = 1

# What is likely stands last: near the end it is found at the least cost. A dictionary is never changed, for
# what was packed with it can be opened with nothing else: a better one gets a number of its own.
_DICTIONARIES: Mapping[int, bytes] = {
    1: (
        b'"others":{"sagas_console.approval":[{"intervention":"compensate","seen":":backwa'
        b'rd:undo_failed:1","arguments":{},"asked_at":"","state":"approved","decided_by":"'
        b'","decision":"'
        b'{"source":"callback","event_id":"evt_","step_key":"","kind":"","facts":{},"fate"'
        b':"applied","received_at":"","matched_at":"","compensation_attempts":0,"compensat'
        b'ion_error":"","mismatch":"","attention":"","settled_by":"","settlement":""'
        b"noted late unmatched mismatch cancelled "
        b'"kind":"operator.compensate" operator.resolve operator.retry operator.hold opera'
        b'tor.release operator.close operator.asked operator.approved "data":{"seen":[":fo'
        b'rward:waiting:1","happened":["facts":["deadline_at":['
        b'"kind":"cancel.requested","kind":"signal.late","kind":"signal.compensated","kind'
        b'":"saga.attention","kind":"saga.resumed","kind":"step.reopened","kind":"undo.lat'
        b'e","kind":"undo.retry","kind":"undo.failed","kind":"step.late","kind":"step.aske'
        b'd","kind":"step.unknown","kind":"step.retry"'
        b'"failure":{"step":"","kind":"refused","error":"Refused","message":"","attempt":1'
        b',"clock":null,"at":"","late":0}'
        b'"error":{"step":"","kind":"transient","error":"Unavailable","message":"","attemp'
        b't":'
        b" transient unknown timeout bug mismatch outage cancelled operator attempt budget"
        b" wait lease deadline "
        b'"data":{"kind":["refused",""],"error":["Refused",""],"message":["'
        b'"],"attempt":[1,""],"clock":[null,""],"at":["202'
        b'{"format":1,"saga":{"id":"01","name":"","version":1,"fingerprint":"","key":"01",'
        b'"state":"compensated","direction":-1,"position":0,"epoch":2,'
        b'"facts":{"customer":{"name":"","email":"@example.com"},"total":{"amount":0,"curr'
        b'ency":""},"lines":[{"name":"","quantity":1}],"address":{"street":"","number":"",'
        b'"city":"","state":"","postal_code":"","country":""},"id":"","reference":"","numb'
        b'er":'
        b'"state":"completed","direction":1,"position":4,"epoch":1,"facts":{'
        b'"parked_rank":0,"dispatches":1,"deadline_at":"202","resumes":0,"cancel_reason":"'
        b'","cancel_actor":"","created_at":"202","updated_at":"202","finished_at":"202"},"'
        b'steps":['
        b'"state":"undone","attempts":1,"undo_attempts":1,"undo_started_at":"202","undone_'
        b'at":"202","state":"skipped","state":"failed",'
        b'{"id":1,"saga_id":"01","position":0,"name":"","state":"done","attempts":1,"undo_'
        b'attempts":0,"excused":0,"undo_excused":0,"fence":1,"facts":{},"started_at":"202"'
        b',"finished_at":"202","task_id":"","worker":"worker@"},'
        b'{"position":1,"name":"","worker":"celery@"},{"position":2,"name":"","worker":""}'
        b',{"position":3,"name":"","worker":""}],"events":['
        b'"saga_id":"01","at":"202","kind":"saga.begun","subject":"","from_state":"","to_s'
        b'tate":"running","actor":"engine","reason":"","data":{}},'
        b'"kind":"saga.compensating","subject":"","from_state":"running","to_state":"compe'
        b'nsating","kind":"undo.started","subject":"","from_state":"done","to_state":"undo'
        b'ing","kind":"undo.done","subject":"","from_state":"undoing","to_state":"undone",'
        b'"kind":"saga.compensated","subject":"","from_state":"compensating","to_state":"c'
        b'ompensated",'
        b'"kind":"step.failed","subject":"","from_state":"running","to_state":"failed","ki'
        b'nd":"signal.applied","subject":"","actor":["callback",""],"data":{"source":["cal'
        b'lback",""],"event_id":["'
        b'"kind":"step.waiting","subject":"","from_state":"running","to_state":"waiting","'
        b'kind":"step.done","subject":"","from_state":"waiting","to_state":"done",'
        b'"kind":"step.done","subject":"","from_state":"running","to_state":"done","attemp'
        b't":1,"actor":"engine","reason":"","data":{}},{"id":'
        b'"kind":"saga.completed","subject":"","from_state":"running","to_state":"complete'
        b'd","actor":"engine","reason":"","data":{}}],"signals":[],"others":{}}'
        b'","kind":"step.done","subject":"","from_state":"pending","to_state":"done","atte'
        b'mpt":1,"actor":"engine","reason":"","data":{}},{"id":'
        b'+00:00","kind":"step.started","subject":"","from_state":"pending","to_state":"ru'
        b'nning","attempt":1,"actor":"engine","reason":"","data":{"worker":["worker@'
        b'"],"task_id":["","fence":[1,""]},"saga_id":"01","at":"2026-'
    ),
}
