"""The name an order goes by among people."""

import secrets

CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Base 32 without I, L, O and U, which are misread as digits or read as words."""

LENGTH = 8
"""Of them, behind `ORD-`."""


def new() -> str:
    """A number for people to say and type, such as ORD-7K3QX9ZD: 40 random bits."""
    return "ORD-" + "".join(secrets.choice(CROCKFORD) for _ in range(LENGTH))
