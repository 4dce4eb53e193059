"""What may go wrong with a payment. The docstring is the message, and says what the caller may do."""

from providers import agreement, callbacks, client

BadCallback = callbacks.BadCallback


class Refused(client.Refusal):
    """The bank said no. Asking again will not change its mind."""


class Unavailable(client.Failure):
    """The bank could not be asked; nothing happened. Try again later with the same key."""


class AccessDenied(client.Denied):
    """The bank does not let us in; nothing happened. Have a person renew our key; no order is to blame."""


class Mismatch(agreement.Mismatch):
    """The bank tells something else than was asked. Have a person settle it with the bank."""


class Unknown(client.Failure):
    """The bank did not answer; it may have happened. Ask with the same key first."""
