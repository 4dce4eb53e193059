"""Pages by cursor: stable while rows are added, one index scan each, and no count of the table."""

import base64
import binascii
import uuid
from typing import Any

from rest_framework import pagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils import urls

from orders.api import problems

OLDER, NEWER = "-", "+"
"""Where a cursor leads from the row that it names."""


class ByCursor(pagination.BasePagination):
    """Newest first: a key of version 7 sorts by time and is unique, so it is all that a cursor needs."""

    page_size = 20
    max_page_size = 100
    field = "id"
    descending = True

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> list[Any]:
        """One page; one row more is read, to see whether there is another page."""
        limit, self.request = self._limit(request), request
        way, position = self._cursor(request)
        back = way == NEWER
        if position is not None:
            past = "lt" if self.descending != back else "gt"
            queryset = queryset.filter(**{f"{self.field}__{past}": position})
        order = "-" if self.descending != back else ""
        rows = list(queryset.order_by(f"{order}{self.field}")[: limit + 1])
        page, more = rows[:limit], len(rows) > limit
        if back:
            page.reverse()
        self.older = self._link(OLDER, page[-1]) if page and (more or back) else None
        self.newer = self._link(NEWER, page[0]) if page and (more if back else position is not None) else None
        return page

    def get_paginated_response(self, data: Any) -> Response:
        """The page with the addresses of its neighbours."""
        return Response({"next": self.older, "previous": self.newer, "results": data})

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        """The same, for the schema."""
        link = {"type": ["string", "null"], "format": "uri", "description": "null at the end."}
        return {
            "type": "object",
            "required": ["next", "previous", "results"],
            "properties": {"next": link, "previous": link, "results": schema},
        }

    def position(self, text: str) -> Any:
        """The value of the field that a cursor names; ValueError where it is none."""
        return uuid.UUID(text)

    def _limit(self, request: Request) -> int:
        wish = request.query_params.get("limit", str(self.page_size))
        if not (wish.isascii() and wish.isdigit() and 1 <= int(wish[:6]) <= self.max_page_size):
            raise invalid("limit", f"This must be a whole number from 1 to {self.max_page_size}.")
        return int(wish)

    def _cursor(self, request: Request) -> tuple[str, Any]:
        cursor = request.query_params.get("cursor")
        if cursor is None:
            return OLDER, None
        try:
            text = base64.urlsafe_b64decode(cursor.encode("ascii")).decode()
            if text[:1] not in (OLDER, NEWER):
                raise ValueError
            return text[:1], self.position(text[1:])
        except (ValueError, binascii.Error):
            raise invalid("cursor", "This must be a cursor from `next` or `previous`.") from None

    def _link(self, way: str, row: Any) -> str:
        value = row[self.field] if isinstance(row, dict) else getattr(row, self.field)
        cursor = base64.urlsafe_b64encode(f"{way}{value}".encode()).decode()
        link: str = urls.replace_query_param(self.request.build_absolute_uri(), "cursor", cursor)
        return link


def invalid(parameter: str, allowed: str) -> problems.Problem:
    """A query parameter that is not acceptable."""
    return problems.Problem(
        problems.INVALID_QUERY,
        f"{parameter}: {allowed}",
        errors=[{"parameter": parameter, "detail": allowed, "code": "invalid"}],
    )
