"""Strict readers of a request's body: what is not understood is refused, never guessed."""

import hashlib
import json
import re

from sandbox import answers

ACCESS_KEY = (r"\d{44}", "44 digits")
CURRENCY = (r"[A-Z]{3}", "three capital letters such as BRL")
# Since July 2026 the root of a CNPJ may have letters; its two check digits never do.
TAX_ID = (r"\d{11}|[0-9A-Z]{12}\d{2}", "the 11 digits of a CPF or the 14 characters of a CNPJ")
SENTENCE = (r"[^\x00-\x1f\x7f\ud800-\udfff]{1,255}", "one line of up to 255 characters")
POSTAL_CODE = (r"\d{5}-?\d{3}", "eight digits such as 01310-100")
AMOUNT_MAX = 10**12


def known(body: answers.Json, *names: str) -> None:
    """Refuse a field that nobody reads: it is a mistake, or something that should not be told."""
    for name in body:
        if name not in names:
            allowed = ", ".join(names) or "it has none"
            raise answers.Invalid(f"{name[:40]!r} is not a field of this request ({allowed}).")


def text(body: answers.Json, name: str, shape: tuple[str, str]) -> str:
    """A string of the given shape (pattern and words for it)."""
    pattern, words = shape
    value = body.get(name)
    if not isinstance(value, str) or not re.fullmatch(pattern, value, re.ASCII):
        raise answers.Invalid(f"{name} must be {words}.")
    return value


def choice(body: answers.Json, name: str, *allowed: str) -> str:
    """One of the allowed words."""
    value = body.get(name)
    if value not in allowed:
        raise answers.Invalid(f"{name} must be {' or '.join(allowed)}.")
    return str(value)


def integer(body: answers.Json, name: str, low: int, high: int) -> int:
    """A whole number within bounds; true and 1.0 are none."""
    value = body.get(name)
    if type(value) is not int or not low <= value <= high:
        raise answers.Invalid(f"{name} must be a whole number from {low} to {high}.")
    return value


def amount(body: answers.Json, name: str) -> int:
    """Money in minor units, more than none."""
    return integer(body, name, 1, AMOUNT_MAX)


def number(body: answers.Json, name: str, low: float, high: float) -> float:
    """A number within bounds."""
    value = body.get(name)
    if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
        raise answers.Invalid(f"{name} must be a number from {low:g} to {high:g}.")
    return float(value)


def fingerprint(body: answers.Json) -> str:
    """Equal for equal requests, whatever the order and spacing of their fields."""
    present = {name: value for name, value in body.items() if value is not None}
    return hashlib.sha256(json.dumps(present, sort_keys=True).encode()).hexdigest()
