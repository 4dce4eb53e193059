"""Requests that make sense, to be varied."""

import itertools

_numbers = itertools.count(1)


def card(token: str = "tok_ok", **changes: object) -> dict:
    return {"method": "card", "token": token, "amount": 18290, "currency": "BRL", **changes}


def pix(**changes: object) -> dict:
    return {"method": "pix", "amount": 18290, "currency": "BRL", "expires_in_s": 600, **changes}


def invoice(*, series: int = 1, number: int | None = None, **changes: object) -> dict:
    number = number or next(_numbers)
    return {
        "series": series,
        "number": number,
        "access_key": access_key(series, number),
        "tax_id": "52998224725",
        "total": 18290,
        "currency": "BRL",
        "kind": "sale",
        **changes,
    }


def access_key(series: int, number: int, code: int = 12345678) -> str:
    body = f"3526111234567800019555{series:03}{number:09}1{code:08}"
    weighted = sum(int(digit) * (2 + place % 8) for place, digit in enumerate(reversed(body)))
    return f"{body}{(0, 0, *range(9, 0, -1))[weighted % 11]}"


def return_note(sale: dict, **changes: object) -> dict:
    return invoice(kind="return", references=sale["access_key"], **changes)


def shipment(postal_code: str = "01310-100", **changes: object) -> dict:
    return {"postal_code": postal_code, "reference": f"{next(_numbers):044}", "parcels": 1, **changes}
