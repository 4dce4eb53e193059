"""Requests that make sense, to be varied."""

import itertools

_numbers = itertools.count(1)


def card(token: str = "tok_ok", **changes: object) -> dict:
    return {"method": "card", "token": token, "amount": 18290, "currency": "BRL", **changes}


def pix(**changes: object) -> dict:
    return {"method": "pix", "amount": 18290, "currency": "BRL", "expires_in_s": 600, **changes}


def invoice(**changes: object) -> dict:
    number = next(_numbers)
    return {
        "series": 1,
        "number": number,
        "access_key": f"{number:044}",
        "tax_id": "52998224725",
        "total": 18290,
        "currency": "BRL",
        "kind": "sale",
        **changes,
    }


def return_note(sale: dict, **changes: object) -> dict:
    return invoice(kind="return", references=sale["access_key"], **changes)


def shipment(postal_code: str = "01310-100", **changes: object) -> dict:
    return {"postal_code": postal_code, "reference": f"{next(_numbers):044}", "parcels": 1, **changes}
