"""Who asks, and what they may do."""

from typing import Any

from django.contrib.auth.models import User
from rest_framework import authentication, exceptions, permissions
from rest_framework.request import Request

from api import models, throttling, tokens

SCHEME = "Bearer"
"""What a 401 asks for."""

KEYWORDS = frozenset({"bearer", "token"})
"""What may stand before a token: `Bearer`, which every client knows by itself, or `Token`."""


class TokenAuthentication(authentication.BaseAuthentication):
    """`Authorization: Bearer ...`, or `Token ...`, which means the same."""

    def authenticate(self, request: Request) -> tuple[Any, models.Token] | None:
        """The token's user and the token; None where no token is shown."""
        keyword, _, secret = request.headers.get("Authorization", "").partition(" ")
        if keyword.lower() not in KEYWORDS:
            return None
        token = tokens.find(secret.strip())
        if token is None:
            throttling.stranger(request)
            raise exceptions.AuthenticationFailed(
                "This token is unknown, has expired or was revoked, or its user may no longer use it."
            )
        tokens.note_use(token)
        return token.user, token

    def authenticate_header(self, request: Request) -> str:
        """What a 401 asks for."""
        return SCHEME


class HasScope(permissions.BasePermission):
    """The token has one of the scopes that the view names in `scopes`."""

    def has_permission(self, request: Request, view: Any) -> bool:
        """Whether it has; the message says what was needed."""
        if not isinstance(request.auth, models.Token):
            return False
        scopes: frozenset[str] = view.scopes
        self.message = f"This needs a token with the scope {' or '.join(sorted(scopes))}."
        return request.auth.scope in scopes


ANY_SCOPE = frozenset(models.Scope.values)
STAFF = frozenset({models.Scope.STAFF.value})


def caller(request: Request) -> User:
    """Whose token it is."""
    assert isinstance(request.user, User), "this view lets in callers without a token"
    return request.user


def token(request: Request) -> models.Token:
    """Their token."""
    assert isinstance(request.auth, models.Token), "this view lets in callers without a token"
    return request.auth


def sees_everything(request: Request) -> bool:
    """Whether the caller may see everybody's orders: with a staff token, which dies when its user leaves."""
    return isinstance(request.auth, models.Token) and request.auth.scope == models.Scope.STAFF
