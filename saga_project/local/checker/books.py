"""The providers' books: what the bank, the fiscal authority and the carrier say was really done."""

import collections
import dataclasses
import json
import pathlib
from typing import Any

Json = dict[str, Any]

BOOKS = "books.json"

STANDING_PARCELS = ("booked", "handed_over", "delivered")
"""A parcel that is with the customer, or on its way."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Books:
    """All three, as the sandbox shows them at `GET /books` (docs/sandbox.md)."""

    charges: list[Json]
    invoices: list[Json]
    shipments: list[Json]
    voided: set[tuple[int, int]]
    """Series and number of each invoice number that was declared void."""

    def of_sagas(self, kind: str) -> dict[str, list[Json]]:
        """The entries of `charges`, `invoices` or `shipments`, by the saga that their key names."""
        found = collections.defaultdict(list)
        for entry in getattr(self, kind):
            found[saga_of(entry["key"])].append(entry)
        return found


def read(place: pathlib.Path) -> Books:
    """The books that lie in the directory.

    Raises:
        OSError: there are none.
        ValueError: they are not what the sandbox writes.
    """
    told = json.loads((place / BOOKS).read_text())
    try:
        return Books(
            charges=told["charges"],
            invoices=told["invoices"],
            shipments=told["shipments"],
            voided={(entry["series"], entry["number"]) for entry in told["voided_numbers"]},
        )
    except KeyError as missing:
        raise ValueError(f"{BOOKS} has no {missing}") from None


def saga_of(key: str) -> str:
    """The saga that a key at a provider names: what stands before its first dot."""
    return key.partition(".")[0]


def kept(charge: Json) -> int:
    """What the bank has of a charge, in minor units."""
    return int(charge["captured"]) - int(charge["refunded"])
