"""Tokens of the API: made once, shown once, kept as a hash."""

import datetime
import hashlib
import secrets
from collections.abc import Collection

from django.conf import settings
from django.contrib.auth import models as auth
from django.db.models import Q, QuerySet, functions
from django.utils import timezone
from django.utils.translation import gettext as _

from api import models

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


def refusal(*, maker: auth.User | None, user: auth.User, scope: str) -> str:
    """Why this person may not make such a token for that user; empty where they may.

    Nobody hands out what they do not have: a token does whatever its user may do, and one of the staff's
    shows everybody's orders and sagas.

    Arguments:
        maker: who wants to make it; None at the shell, where one may do everything anyway.
    """
    if not user.is_active:
        return _("This user may not log in, so the token would open nothing.")
    if scope == models.Scope.STAFF and not user.is_staff:
        return _("This user does not belong to the staff, so the token would open nothing.")
    if maker is None or maker.is_superuser:
        return ""
    if user != maker:
        return _("Only a superuser makes tokens for others; make one for yourself.")
    if scope == models.Scope.STAFF and not maker.has_perms(settings.STAFF_TOKENS_SHOW):
        return _("A staff token shows everybody's orders and sagas, which you may not see.")
    return ""


def may_revoke(*, actor: auth.User, token: models.Token) -> bool:
    """Whether this person may: their own; others' with `api.change_token`; superusers' as one of them."""
    if actor.is_superuser or token.user_id == actor.pk:
        return True
    return not token.user.is_superuser and actor.has_perm("api.change_token")


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
    """Tokens that open something now. One of the staff's opens nothing once its user has left the staff."""
    unexpired = Q(expires_at=None) | Q(expires_at__gt=functions.Now())
    entitled = ~Q(scope=models.Scope.STAFF) | Q(user__is_staff=True)
    return models.Token.objects.filter(unexpired, entitled, revoked_at=None, user__is_active=True)
