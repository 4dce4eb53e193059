"""The access key of an NF-e: 44 digits that say who issued which invoice, from where and when.

    cUF AAMM CNPJ mod serie nNF tpEmis cNF cDV
      2    4   14   2     3   9      1   8   1

Everybody who handles the goods reads the invoice by it, so its last digit checks the others.
"""

import datetime

MODEL = "55"
"""NF-e, the invoice for goods."""

NORMAL_EMISSION = "1"
"""Authorised before use, as opposed to the kinds for when the authority is down."""

STATE_CODES = {
    "RO": 11, "AC": 12, "AM": 13, "RR": 14, "PA": 15, "AP": 16, "TO": 17,
    "MA": 21, "PI": 22, "CE": 23, "RN": 24, "PB": 25, "PE": 26, "AL": 27, "SE": 28, "BA": 29,
    "MG": 31, "ES": 32, "RJ": 33, "SP": 35,
    "PR": 41, "SC": 42, "RS": 43,
    "MS": 50, "MT": 51, "GO": 52, "DF": 53,
}  # fmt: skip
"""IBGE's numbers of the 27 states (cUF)."""

LENGTH = 44

assert len(STATE_CODES) == 27


def compose(*, state: str, issued_on: datetime.date, cnpj: str, series: int, number: int, code: int) -> str:
    """The access key. `code` (cNF) is any eight digits but the number's, to make keys hard to guess."""
    body = (
        f"{STATE_CODES[state]:02}{issued_on:%y%m}{cnpj:0>14}{MODEL}"
        f"{series:03}{number:09}{NORMAL_EMISSION}{code:08}"
    )
    if len(body) != LENGTH - 1:
        raise ValueError("A part of the access key is too long.")
    return body + check_digit(body)


def check_digit(body: str) -> str:
    """The digit that checks the others: modulo 11, weights 2 to 9 from the right, over and over."""
    total = sum(int(digit) * (2 + place % 8) for place, digit in enumerate(reversed(body)))
    return str(0 if total % 11 < 2 else 11 - total % 11)


def is_valid(key: str) -> bool:
    """Whether these are 44 digits of which the last checks the others."""
    return len(key) == LENGTH and key.isdecimal() and key[-1] == check_digit(key[:-1])
