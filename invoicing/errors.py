"""What may go wrong with an invoice. The docstring is the message, and says what the caller may do."""

from providers import agreement, client


class Refused(client.Refusal):
    """The fiscal authority said no. Asking again will not change its mind."""


class Unavailable(client.Failure):
    """The fiscal authority could not be asked; nothing happened. Try again later with the same key."""


class AccessDenied(client.Denied):
    """The fiscal authority does not let us in; nothing happened. Have a person renew our key."""


class Mismatch(agreement.Mismatch):
    """The fiscal authority tells something else than was asked. Have a person settle it with them."""


class Unknown(client.Failure):
    """The fiscal authority did not answer; it may have happened. Ask with the same key first."""
