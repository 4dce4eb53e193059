"""How often a password may be tried at the admin's door: by address and by account, in PostgreSQL.

A password is tried against two allowances: that of the address it comes from, and that of the account it is
for. The address's comes first and fills more slowly, so that a stranger at one address cannot use up an
account's. A browser in which that account logged in before carries a signed cookie and has an allowance of
its own instead of both: an attacker who tries to keep a user out keeps out new browsers only, and these only
for as long as the attempts go on. (The device cookies of OWASP's authentication cheat sheet.)
"""

import hashlib
import logging
import math
from typing import Any

from django import http
from django.conf import settings
from django.contrib.admin import forms
from django.contrib.auth import get_user_model
from django.core import exceptions, signing
from django.utils.translation import gettext as _

from api import throttling

logger = logging.getLogger(__name__)

COOKIE = "login_device"
SALT = "saga_project.logins"
REMEMBERED_S = 90 * 24 * 3600
"""For so long after its last login a browser is known."""

ACCOUNT_FILLS = 4
"""So many times faster than an address's allowance does an account's fill: five addresses or more have to
try all the time before a new browser is kept out."""


class Form(forms.AdminAuthenticationForm):
    """Django's form, which does not look at the password after too many attempts."""

    wait_s = 0
    """When to come back; 0 where the attempt was admitted."""

    def clean(self) -> dict[str, Any]:
        """Count the attempt, and only then look at the password."""
        assert self.request is not None, "the admin's login view passes its request"
        name = self.cleaned_data.get("username")
        self.wait_s = _admit(self.request, name or "")
        if self.wait_s:
            self.request.login_wait_s = self.wait_s  # type: ignore[attr-defined]
            told = _("Too many attempts. Try again in %(seconds)s seconds.") % {"seconds": self.wait_s}
            raise exceptions.ValidationError(told, code="throttled")
        return super().clean()


def finish(request: http.HttpRequest, response: http.HttpResponse) -> http.HttpResponse:
    """What the answer to an attempt says beside the page: when to come back, or that the browser is known."""
    wait_s = getattr(request, "login_wait_s", 0)
    if wait_s:
        response.status_code = 429
        response["Retry-After"] = str(wait_s)
    elif request.method == "POST" and request.user.is_authenticated and response.status_code == 302:
        response.set_cookie(
            COOKIE,
            signing.dumps(_digest(request.user.get_username()), salt=SALT),
            max_age=REMEMBERED_S,
            secure=settings.SESSION_COOKIE_SECURE,
            httponly=True,
            samesite="Lax",
        )
    return response


def _admit(request: http.HttpRequest, name: str) -> int:
    """Count an attempt at this account; 0 if it may be made, or the seconds after which to come back."""
    account = _digest(name)
    slow = 1 / settings.LOGINS_EVERY.total_seconds()
    cookie = request.COOKIES.get(COOKIE, "")
    if _opened_before(cookie, account):
        allowances = [(f"login-device:{_digest(cookie)}", slow)]
    else:
        address = request.META.get("REMOTE_ADDR", "")
        allowances = [(f"login-address:{address}", slow), (f"login-account:{account}", slow * ACCOUNT_FILLS)]
    for key, rate in allowances:
        wait_s = throttling.admit(key=key, rate=rate, burst=settings.LOGINS_BURST)
        if wait_s:
            # People type their passwords where their names belong, so the log has no name (A3).
            user = get_user_model().objects.filter(username=name).only("pk").first()
            logger.warning(
                "too many logins as %s from %s: %s is used up for %s s",
                f"user {user.pk}" if user else "nobody we know",
                request.META.get("REMOTE_ADDR", "?"),
                key.partition(":")[0],
                math.ceil(wait_s),
            )
            return wait_s
    return 0


def _opened_before(cookie: str, account: str) -> bool:
    try:
        return bool(cookie) and signing.loads(cookie, salt=SALT, max_age=REMEMBERED_S) == account
    except signing.BadSignature:
        return False


def _digest(text: str) -> str:
    return hashlib.sha256(text.lower().encode(errors="replace")).hexdigest()[:32]
