"""JSON out, for Django REST framework."""

from typing import Any

from rest_framework import renderers

from orders import wire


class JSON(renderers.BaseRenderer):
    """Renders with `wire.dumps`."""

    media_type = "application/json"
    format = "json"
    charset = None

    def render(self, data: Any, *args: Any, **kwargs: Any) -> bytes:
        """The body; empty where there is nothing to say."""
        return b"" if data is None else wire.dumps(data)
