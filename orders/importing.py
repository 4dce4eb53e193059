"""Orders from a file: each line is held to the rules of the REST API, and placed once however often it comes.

A line has a `key`, which is to it what `Idempotency-Key` is to a request: with the first batch that places it
the key is written down in the same transaction. So an import that was cut off is simply begun again.
"""

import csv
import dataclasses
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from django.contrib.auth import models as auth
from django.db import connection, transaction

from api import idempotency
from orders import errors, services
from orders.api import forms
from sagas import strictjson

ENDPOINT = "import_orders"
"""Under this name the keys are kept, apart from those of requests."""

KEPT_YEARS = 10
"""So long a key is remembered: a file may be found again years later."""

LONGEST_KEY = 100

COLUMNS = (
    "key", "customer.name", "customer.email", "customer.tax_id", "lines", "payment.method", "payment.token",
    "shipping_address.recipient", "shipping_address.street", "shipping_address.number",
    "shipping_address.complement", "shipping_address.district", "shipping_address.city",
    "shipping_address.state", "shipping_address.postal_code", "shipping_address.country",
    "total.amount", "total.currency", "reference",
)  # fmt: skip
"""Of a CSV file; the names are those of the REST API. A cell that is empty is left out."""

LINES_LOOK = 'Write it as SKU:QUANTITY, with spaces between: "MUG-BLUE:2 POSTER-MAP:1".'


class BadFile(Exception):
    """The file as a whole cannot be taken; the message says why, and what to do."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Line:
    """A line of the file, with an order or with what is wrong with it."""

    number: int
    key: str = ""
    order: services.NewOrder | None = None
    fingerprint: str = ""
    faults: tuple[str, ...] = ()


@dataclasses.dataclass(kw_only=True)
class Report:
    """What became of the lines."""

    placed: int = 0
    repeated: int = 0
    """Placed before: by an earlier run, or by another line with the same key and order."""

    wrong: list[Line] = dataclasses.field(default_factory=list)

    def add(self, other: "Report") -> None:
        """Add the counts and the wrong lines of another report."""
        self.placed += other.placed
        self.repeated += other.repeated
        self.wrong += other.wrong


def read(path: pathlib.Path) -> Iterator[Line]:
    """The lines of a file, by its name's ending: .jsonl, or .csv with the columns in its first line.

    Raises:
        BadFile: it is neither, cannot be read, or its columns are not as they should be.
    """
    kinds = {".jsonl": _json_lines, ".csv": _csv_lines}
    kind = kinds.get(path.suffix.lower())
    if kind is None:
        raise BadFile(f"{path.name} is neither .jsonl nor .csv; name it by what it is.")
    try:
        with path.open("rb") as file:
            yield from kind(file)
    except OSError as error:
        raise BadFile(f"{path} cannot be read: {error.strerror}.") from error


def place(lines: Sequence[Line], *, owner: auth.User, report: Report, check: bool = False) -> None:
    """Place a batch in one transaction; what is wrong with some lines keeps no other from being placed.

    With `check` it is only said what would become of them.

    Raises:
        LineFull: so many orders wait that no more are taken. Nothing was placed, nor is anything in the
            report: place the same lines again in a while.
    """
    found = Report(wrong=[line for line in lines if line.faults])
    wanted = _once(lines, found)
    try:
        _place(wanted, owner, found, check=check)
    except errors.NumberTaken:
        _place(wanted, owner, found, check=check)  # Another chance, of a million million.
    report.add(found)


@transaction.atomic
def _place(lines: Sequence[Line], owner: auth.User, report: Report, *, check: bool) -> None:
    before = _known(lines, owner)
    wrong = [
        _with(line, _KEY_REUSED)
        for line in lines
        if before.get(line.key, line.fingerprint) != line.fingerprint
    ]
    new = [line for line in lines if line.key not in before]
    faults = services.faults(orders=[_order(line) for line in new])
    wrong += [_with(new[index], _words(error)) for index, error in faults.items()]
    sound = [line for index, line in enumerate(new) if index not in faults]
    placed = {line.key for line in sound}
    if not check:
        placed = _claim(sound, owner)
        services.place_many(owner=owner, orders=[_order(line) for line in sound if line.key in placed])
    report.placed += len(placed)
    report.repeated += len(lines) - len(wrong) - len(placed)
    report.wrong += wrong


def _once(lines: Sequence[Line], report: Report) -> list[Line]:
    """The sound lines; of several with one key the first."""
    first: dict[str, Line] = {}
    for line in lines:
        if line.faults:
            continue
        kept = first.setdefault(line.key, line)
        if kept is line:
            continue
        if kept.fingerprint == line.fingerprint:
            report.repeated += 1
        else:
            report.wrong.append(_with(line, _KEY_REUSED))
    return list(first.values())


def _order(line: Line) -> services.NewOrder:
    assert line.order is not None, "a line without an order has faults"
    return line.order


def _with(line: Line, fault: str) -> Line:
    return dataclasses.replace(line, faults=(fault,))


_KEY_REUSED = "key: It was used for another order. Use a new key for a new order."


def _words(error: errors.OrderError) -> str:
    """A refusal, with the lines of the order that it is about."""
    positions = getattr(error, "positions", {})
    about = ", ".join(f"lines[{index}] {what}" for index, what in positions.items())
    return f"{about}: {error}" if about else str(error)


# --- Keys -----------------------------------------------------------------------------------------


def _known(lines: Sequence[Line], owner: auth.User) -> dict[str, str]:
    """The fingerprints of those that were placed before, by key."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT key, fingerprint FROM api_idempotencykey"
            " WHERE owner_id = %s AND endpoint = %s AND key = ANY(%s)",
            [owner.pk, ENDPOINT, [line.key for line in lines]],
        )
        return dict(cursor.fetchall())


def _claim(lines: Sequence[Line], owner: auth.User) -> set[str]:
    """The keys that are ours to place; one that another import has meanwhile placed is not.

    In the order of the keys, so that two imports of one file wait for each other instead of blocking.
    """
    ordered = sorted(lines, key=lambda line: line.key)
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO api_idempotencykey"
            " (owner_id, endpoint, key, fingerprint, status, headers, expires_at)"
            " SELECT %s, %s, line.key, line.fingerprint, 202, '{}', now() + make_interval(years => %s)"
            " FROM unnest(%s::text[], %s::text[]) AS line (key, fingerprint)"
            " ON CONFLICT DO NOTHING RETURNING key",
            [
                owner.pk,
                ENDPOINT,
                KEPT_YEARS,
                [line.key for line in ordered],
                [line.fingerprint for line in ordered],
            ],
        )
        return {key for (key,) in cursor.fetchall()}


# --- Reading --------------------------------------------------------------------------------------


def _json_lines(file: Any) -> Iterator[Line]:
    for number, text in enumerate(file, 1):
        if not text.strip():
            continue
        try:
            body = strictjson.loads(text)
        except strictjson.Refused as error:
            yield Line(number=number, faults=(f"This is no JSON that can be taken: {error}.",))
            continue
        yield _line(number, body)


def _csv_lines(file: Any) -> Iterator[Line]:
    rows = csv.DictReader(_text(file), strict=True)
    try:
        columns = list(rows.fieldnames or [])
        unknown = [name for name in columns if name not in COLUMNS]
        if unknown or "key" not in columns or len(set(columns)) < len(columns):
            raise BadFile(
                f"The first line must name the columns, each once, and `key` among them; not {columns}."
                f" Known: {', '.join(COLUMNS)}."
            )
        for row in rows:
            if None in row or None in row.values():
                yield Line(
                    number=rows.line_num,
                    faults=(f"It must have {len(columns)} cells, as the first line has. Quote commas.",),
                )
                continue
            body, fault = _body(row)
            yield Line(number=rows.line_num, faults=(fault,)) if fault else _line(rows.line_num, body)
    except csv.Error as error:
        raise BadFile(f"Line {rows.line_num} is no CSV: {error}. What is before it was taken.") from error
    except UnicodeDecodeError as error:
        raise BadFile("It is not UTF-8 throughout; save it as UTF-8. What is before it was taken.") from error


def _text(file: Any) -> Iterator[str]:
    """Its lines as text; a spreadsheet's mark at the beginning is none of it."""
    for number, line in enumerate(file):
        yield line.decode("utf-8-sig" if not number else "utf-8")


def _body(row: Mapping[str, str]) -> tuple[dict[str, Any], str]:
    """The body that a request would have, or what is wrong."""
    body: dict[str, Any] = {}
    for column, cell in row.items():
        *path, name = column.split(".")
        if cell == "":
            continue
        inner = body
        for part in path:
            inner = inner.setdefault(part, {})
        inner[name] = cell
    if "lines" in body:
        lines = [word.rpartition(":") for word in body["lines"].split()]
        if not all(
            sku and quantity.isascii() and quantity.isdigit() and len(quantity) < 7
            for sku, _, quantity in lines
        ):
            return {}, f"lines: {LINES_LOOK}"
        body["lines"] = [{"sku": sku, "quantity": int(quantity)} for sku, _, quantity in lines]
    total = body.get("total", {})
    if (amount := total.get("amount", "")).isascii() and amount.isdigit() and len(amount) < 17:
        total["amount"] = int(amount)
    if "shipping_address" in body:
        body["shipping_address"].setdefault("country", "BR")
    return body, ""


def _line(number: int, body: Any) -> Line:
    """A line that says what a request says, and its key beside it."""
    if not isinstance(body, dict):
        return Line(number=number, faults=("It must be an object: an order, with its `key`.",))
    key = body.pop("key", None)
    if not isinstance(key, str) or not 0 < len(key.strip()) <= LONGEST_KEY or not key.isprintable():
        fault = (
            f"key: Each line needs a string of 1 to {LONGEST_KEY} characters that is its own in all files."
        )
        return Line(number=number, faults=(fault,))
    form = forms.NewOrder(data=body)
    if not form.is_valid():
        return Line(number=number, key=key.strip(), faults=tuple(_faults(form.errors)))
    return Line(
        number=number,
        key=key.strip(),
        order=services.NewOrder(**form.wish()),
        fingerprint=idempotency.fingerprint(method="IMPORT", path=ENDPOINT, body=body),
    )


def _faults(detail: Any, path: str = "") -> Iterator[str]:
    """Every fault with the path to it, as `customer.tax_id: This must be ...`."""
    if isinstance(detail, dict):
        for name, inner in detail.items():
            here = "" if name == "non_field_errors" else f".{name}" if path else str(name)
            yield from _faults(inner, path + here)
    elif isinstance(detail, list) and any(isinstance(inner, dict | list) for inner in detail):
        for index, inner in enumerate(detail):
            yield from _faults(inner, f"{path}[{index}]")
    elif isinstance(detail, list):
        yield from (f"{path}: {fault}" if path else str(fault) for fault in detail)
    else:
        yield f"{path}: {detail}"
