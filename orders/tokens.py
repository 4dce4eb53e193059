"""Tokens of the API: made once, shown once, kept as a hash."""

import datetime
import hashlib
import secrets
from collections.abc import Collection

from django.contrib.auth import models as auth
from django.db.models import Q, QuerySet, functions
from django.utils import timezone

from orders import models

PREFIX = "ord_"
"""Lets a secret scanner, and a reader of a log, know one when it sees it."""

USED_AT_EVERY = datetime.timedelta(minutes=5)
"""A token's last use is noted this often, so that reading an order does not cost a write."""


def create(
    *,
    user: auth.User,
    name: str,
    scope: str = models.Scope.CUSTOMER,
    lifetime: datetime.timedelta | None = None,
) -> tuple[models.Token, str]:
    """A new token and its secret, which is not to be had again."""
    token = models.Token(user=user, name=name, scope=scope)
    if lifetime is not None:
        token.expires_at = functions.Now() + lifetime
    secret = fill(token)
    token.save(force_insert=True)
    token.refresh_from_db()
    return token, secret


def fill(token: models.Token) -> str:
    """Give a token that is not saved yet a secret, which is returned and not to be had again."""
    secret = PREFIX + secrets.token_urlsafe(32)
    token.digest, token.hint = digest(secret), secret[: len(PREFIX) + 4]
    return secret


def find(secret: str) -> models.Token | None:
    """The live token with this secret, of a user who may still log in."""
    return _live().select_related("user").filter(digest=digest(secret)).first()


def live(token_ids: Collection[int]) -> set[int]:
    """Those of them that still open anything: what goes on for long asks now and then."""
    return set(_live().filter(pk__in=token_ids).values_list("pk", flat=True))


def note_use(token: models.Token) -> None:
    """Write down that it was used, if that was not done a moment ago."""
    if token.used_at is None or timezone.now() - token.used_at > USED_AT_EVERY:
        models.Token.objects.filter(pk=token.pk).update(used_at=functions.Now())


def revoke(*, token: models.Token) -> None:
    """From now on it opens nothing; the row stays, for those who ask what it was."""
    models.Token.objects.filter(pk=token.pk, revoked_at=None).update(revoked_at=functions.Now())


def digest(secret: str) -> str:
    """What is kept of a secret. It holds 256 random bits, so it needs neither salt nor slowness."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _live() -> QuerySet[models.Token]:
    unexpired = Q(expires_at=None) | Q(expires_at__gt=functions.Now())
    return models.Token.objects.filter(unexpired, revoked_at=None, user__is_active=True)
