"""What the clients sent, and what they were told."""

import dataclasses
import datetime
import json
import pathlib
from collections.abc import Iterator
from typing import Any

Json = dict[str, Any]

ACKNOWLEDGED = range(200, 300)
COME_BACK = frozenset({409, 425, 429, *range(500, 600)})
"""Answers that say nothing final of the order: the client is to ask again."""


OVERLOADED = (503, "/api/problems/overloaded")
"""The shop takes no more just now, and has placed nothing by this request."""
NOTHING_SENT = frozenset({"ConnectError", "ConnectTimeout"})
"""What went wrong before the client had anybody to send its request to."""
THROTTLED = 429


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answer:
    """An order as the shop acknowledged it."""

    at: datetime.datetime
    id: str
    number: str
    body: Json


@dataclasses.dataclass(kw_only=True)
class Wanted:
    """An order that a client wanted, with all that it was told of it."""

    key: str
    customer: Any
    bodies: list[Json] = dataclasses.field(default_factory=list)
    """The body of every request for it."""
    answers: list[Answer] = dataclasses.field(default_factory=list)
    """Every acknowledgement."""
    refusals: list[int] = dataclasses.field(default_factory=list)
    """The status of every answer that was a final no."""
    overloaded: bool = False
    """The shop said that it takes no more just now."""
    in_doubt: bool = False
    """A request may have reached the shop, and was not answered by what became of it."""
    cancelled: bool = False
    """The customer asked for its end, whether or not that was answered."""
    paid: bool = False
    """The customer paid its PIX, or tried to."""
    ends: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    """Each end that was seen, and the number of the order that it was seen of."""

    @property
    def body(self) -> Json:
        """What was wanted; of a client that sent different bodies under its key, the first."""
        return self.bodies[0] if self.bodies else {}

    @property
    def turned_away(self) -> bool:
        """The shop took no more, whenever it was asked: the client may go elsewhere, for nothing was placed.

        One that is in doubt may have the order, and has to ask until it is told.
        """
        return self.overloaded and not (self.in_doubt or self.answers or self.refusals)


class Malformed(ValueError):
    """The history is not one: the line and what is wrong with it."""


def read(path: pathlib.Path) -> dict[str, Wanted]:
    """The orders that were wanted, by their key.

    Raises:
        OSError: there is no such file.
        Malformed: a line other than the last is no JSON object, or has no key.
    """
    found: dict[str, Wanted] = {}
    for number, line in _lines(path):
        if not isinstance(line.get("key"), str):
            raise Malformed(f"line {number}: it has no key")
        wanted = found.setdefault(line["key"], Wanted(key=line["key"], customer=line.get("customer")))
        if "end" in line:
            wanted.ends.append((str(line["end"]), str(line.get("order"))))
        elif line.get("what", "place") == "place":
            _placed(wanted, number, line)
        elif line["what"] == "cancel":
            wanted.cancelled = True
        elif line["what"] == "pay":
            wanted.paid = True
        else:
            raise Malformed(f"line {number}: nobody knows what {line['what']!r} is")
    return found


def _placed(wanted: Wanted, number: int, line: Json) -> None:
    if not isinstance(line.get("request"), dict):
        raise Malformed(f"line {number}: it has no request")
    wanted.bodies.append(line["request"])
    status, answer = line.get("status"), line.get("answer")
    if status is None or status in COME_BACK:
        said = answer.get("type") if isinstance(answer, dict) else None
        if (status, said) == OVERLOADED:
            wanted.overloaded = True
        elif status != THROTTLED and line.get("error") not in NOTHING_SENT:
            wanted.in_doubt = True
        return
    if status not in ACKNOWLEDGED:
        wanted.refusals.append(status)
        return
    if not isinstance(answer, dict) or "id" not in answer or "number" not in answer:
        raise Malformed(f"line {number}: an acknowledgement without the order's id and number")
    at = datetime.datetime.fromisoformat(line["at"])
    wanted.answers.append(Answer(at=at, id=answer["id"], number=answer["number"], body=answer))


def _lines(path: pathlib.Path) -> Iterator[tuple[int, Json]]:
    lines = path.read_text().splitlines()
    for number, text in enumerate(lines, 1):
        if not text.strip():
            continue
        try:
            line = json.loads(text)
        except ValueError:
            if number == len(lines):
                return
            raise Malformed(f"line {number}: no JSON") from None
        if not isinstance(line, dict):
            raise Malformed(f"line {number}: no object")
        yield number, line
