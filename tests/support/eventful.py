"""Gateways on which something happens between a provider's answer and our writing it down."""

from collections.abc import Callable
from typing import Any, ClassVar

from invoicing import gateway as authority
from payments import gateway as bank
from shipping import gateway as carrier

Event = Callable[[Any], Any]


class _Eventful:
    happens: ClassVar[Event]
    """Is given the answer, and gives the one that is heard."""


class Bank(_Eventful, bank.HttpGateway):
    """A bank."""

    def charge_card(self, **given: Any) -> bank.Charge:
        """Take the amount from a card."""
        return type(self).happens(super().charge_card(**given))


class Authority(_Eventful, authority.HttpGateway):
    """A fiscal authority."""

    def issue(self, **given: Any) -> authority.Authorization:
        """Authorise a document."""
        return type(self).happens(super().issue(**given))


class Carrier(_Eventful, carrier.HttpGateway):
    """A carrier."""

    def book(self, **given: Any) -> carrier.Parcel:
        """Take a parcel."""
        return type(self).happens(super().book(**given))
