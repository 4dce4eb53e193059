"""What `manage.py check` says of the issuer: better now than when the first invoice is refused."""

from typing import Any

from django.conf import settings
from django.core import checks

from invoicing import access_key


def issuer(**kwargs: Any) -> list[checks.CheckMessage]:
    """The settings that go into every access key."""
    errors: list[checks.CheckMessage] = []
    if settings.INVOICING_STATE not in access_key.STATE_CODES:
        errors.append(
            checks.Error(
                f"INVOICING_STATE is {settings.INVOICING_STATE!r}.",
                hint=f"It must be one of {', '.join(sorted(access_key.STATE_CODES))}.",
                id="invoicing.E001",
            )
        )
    if not (settings.INVOICING_CNPJ.isdecimal() and len(settings.INVOICING_CNPJ) == 14):
        errors.append(
            checks.Error(
                f"INVOICING_CNPJ is {settings.INVOICING_CNPJ!r}.",
                hint="It must be the issuer's 14 digits, without punctuation.",
                id="invoicing.E002",
            )
        )
    return errors
