"""What may go wrong here. The docstring of each is its message."""


class TooMany(Exception):
    """The merchant has as many endpoints as there may be; one has to be deleted first."""


class PortTaken(Exception):
    """Another program listens on the port, or it may not be listened on."""
