"""What may go wrong with stock. The docstring is the message, and says what the caller may do."""


class Refused(Exception):
    """The stock does not allow it. Asking again will not change that; somebody must receive goods first."""
