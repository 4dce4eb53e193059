"""What may go wrong with an invoice. The docstring is the message, and says what the caller may do."""

from providers import client


class Refused(client.Refusal):
    """The fiscal authority said no. Asking again will not change its mind."""


class Unavailable(client.Failure):
    """The fiscal authority could not be asked; nothing happened. Try again later with the same key."""


class Unknown(client.Failure):
    """The fiscal authority did not answer; it may have happened. Ask with the same key first."""
