"""JSON out: for Django REST framework, and for answers that need not be sent twice."""

import hashlib
from typing import Any

from django import http
from django.utils import cache
from rest_framework import renderers

from sagas import strictjson


class JSON(renderers.BaseRenderer):
    """Renders with `strictjson.dumps`."""

    media_type = "application/json"
    format = "json"
    charset = None

    def render(self, data: Any, *args: Any, **kwargs: Any) -> bytes:
        """The body; empty where there is nothing to say."""
        return b"" if data is None else strictjson.dumps(data)


def unless_known(request: http.HttpRequest, body: bytes, **headers: str) -> http.HttpResponse:
    """The body with its ETag, or 304 where the caller has it already."""
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    full = http.HttpResponse(body, headers={"Content-Type": "application/json", "ETag": etag, **headers})
    response = cache.get_conditional_response(request, etag=etag, response=full)
    assert response is not None
    return response


def answer(request: Any, value: Any) -> http.HttpResponse:
    """The value for one caller, with an ETag: 304 where the caller has it already."""
    return unless_known(request._request, strictjson.dumps(value), **{"Cache-Control": "private, no-cache"})
