"""Refusing those who ask too much."""

from typing import Any

from django.conf import settings
from rest_framework import exceptions, throttling
from rest_framework.request import Request

from orders import models
from orders import throttling as rules


class PerToken(throttling.BaseThrottle):
    """Every token has its own allowance; one user's other tokens are not affected."""

    def allow_request(self, request: Request, view: Any) -> bool:
        """Whether it has any left."""
        if not isinstance(request.auth, models.Token):
            return True
        key = f"token:{request.auth.pk}"
        self._wait = rules.admit(key=key, rate=settings.API_RATE, burst=settings.API_BURST)
        return self._wait == 0

    def wait(self) -> float:
        """Seconds until it has."""
        return self._wait


def stranger(request: Request) -> None:
    """Count a wrong token or a wrong signature; an address that sent too many learns no more than that."""
    address = request.META.get("REMOTE_ADDR", "")
    key = f"address:{address}"
    wait = rules.admit(key=key, rate=settings.STRANGERS_RATE, burst=settings.STRANGERS_BURST)
    if wait:
        raise exceptions.Throttled(wait)
