"""The fiscal authority, behind the few calls that this service needs. The settings choose who makes them."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol, cast

from django.conf import settings
from django.utils import module_loading

from invoicing import errors
from providers import callbacks, client, reading

TOO_LATE = frozenset({"window_closed", "goods_in_circulation"})
"""The authority's codes for: a cancellation is not to be had any more, return the goods instead."""


NUMBER_IN_USE = "duplicate_number"
"""The authority's code for: this number cannot be voided, it is authorised."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Document:
    """A document as it goes to the authority."""

    series: int
    number: int
    access_key: str
    tax_id: str = dataclasses.field(repr=False)
    amount: int
    currency: str
    kind: str
    references: str | None = None
    """The access key of the sale that a return note takes back."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Authorization:
    """A document as the authority has it."""

    status: str
    """`authorized` or `cancelled`."""
    protocol: str
    key: str = ""
    series: int | None = None
    number: int | None = None
    access_key: str = ""
    kind: str = ""
    references: str = ""
    amount: int | None = None
    currency: str = ""
    """What the document says; empty, or None, where the authority does not say, as of one that never was."""


class Gateway(Protocol):
    """What an authority must be able to do. Each may raise Refused, Unavailable, Unknown or AccessDenied.

    What it answers is what the authority said, as it is: the service holds it against what was asked.
    """

    def issue(self, *, key: str, document: Document) -> Authorization:
        """Authorise a document; with a key already used, say what that came to."""

    def cancel(self, *, key: str) -> Authorization:
        """Cancel it. Refused with a code of `TOO_LATE` where the law does not allow it any more."""

    def void_number(self, *, series: int, number: int, reason: str) -> None:
        """Declare that a number was not used and never will be."""

    def ask(self, *, key: str) -> Authorization | None:
        """What became of the document with that key; None if there is none."""


class HttpGateway:
    """The fiscal authority over HTTP, as docs/services.md describes it."""

    def __init__(self) -> None:
        self._provider = client.Provider(
            url=settings.INVOICING_URL,
            refused=errors.Refused,
            unavailable=errors.Unavailable,
            unknown=errors.Unknown,
            denied=errors.AccessDenied,
        )

    def issue(self, *, key: str, document: Document) -> Authorization:
        """Authorise a document; with a key already used, say what that came to."""
        order = {
            "series": document.series,
            "number": document.number,
            "access_key": document.access_key,
            "tax_id": document.tax_id,
            "total": document.amount,
            "currency": document.currency,
            "kind": document.kind,
        }
        if document.references:
            order["references"] = document.references
        return _authorization(self._provider.call("PUT", "invoices", key, json=order))

    def cancel(self, *, key: str) -> Authorization:
        """Cancel it. Refused with a code of `TOO_LATE` where the law does not allow it any more."""
        return _authorization(self._provider.call("POST", "invoices", key, "cancel", json={}))

    def void_number(self, *, series: int, number: int, reason: str) -> None:
        """Declare that a number was not used and never will be."""
        order = {"series": series, "number": number, "reason": reason}
        self._provider.call("POST", "numbers", "void", json=order)

    def ask(self, *, key: str) -> Authorization | None:
        """What became of the document with that key; None if there is none."""
        found = self._provider.find("invoices", key)
        return None if found is None else _authorization(found)


def chosen() -> Gateway:
    """The gateway that the settings name."""
    return cast(Gateway, module_loading.import_string(settings.INVOICING_GATEWAY)())


def read(data: Mapping[str, Any]) -> Authorization:
    """What became of a document, from what the authority says of it.

    Raises:
        Unclear: it makes no sense, or is more than a row can keep.
    """
    status = reading.text(data, "status", longest=16)
    if status not in ("authorized", "cancelled"):
        raise reading.Unclear("status must be authorized or cancelled")
    # What a document says is told of each that there is; of one that never was, nothing is.
    there = status == "authorized" or data.get("number") is not None
    return Authorization(
        status=status,
        protocol=reading.text(data, "protocol", longest=64),
        key=reading.text(data, "key", longest=callbacks.KEY_LENGTH + len(".return")),
        series=reading.whole(data, "series") if there else None,
        number=reading.whole(data, "number") if there else None,
        access_key=reading.text(data, "access_key", longest=64),
        kind=reading.text(data, "kind", longest=16),
        references=reading.text(data, "references", longest=64),
        amount=reading.whole(data, "total") if there else None,
        currency=reading.currency(data, "currency"),
    )


def _authorization(answer: Mapping[str, Any]) -> Authorization:
    try:
        return read(answer)
    except reading.Unclear as error:
        # It may have been authorised; what it came to must be asked again (U1).
        raise errors.Unknown(f"The fiscal authority's answer cannot be understood: {error}.") from error
