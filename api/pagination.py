"""Pages by cursor: stable while rows are added, one index scan each, and no count of the table."""

import uuid
from typing import Any

from rest_framework import exceptions, pagination
from rest_framework.request import Request
from rest_framework.response import Response

from api import problems
from api.serializers import Shape


class ByCursor(pagination.CursorPagination):
    """Newest first: a key of version 7 sorts by time and is unique, so it is all that a cursor needs."""

    ordering = "-id"
    page_size = 20
    max_page_size = 100
    page_size_query_param = "limit"

    @classmethod
    def answer(cls, rows: Any, request: Request, shape: type[Shape]) -> Response:
        """The page of these rows that the request asks for."""
        pages = cls()
        page: list[Any] = pages.paginate_queryset(rows, request) or []
        return pages.get_paginated_response([shape.of(row) for row in page])

    def decode_cursor(self, request: Request) -> Any:
        """What the query says, if it is one of ours."""
        try:
            cursor = super().decode_cursor(request)
            if cursor is not None:
                if cursor.position is None:
                    raise ValueError
                self.check(str(cursor.position))
        except (exceptions.NotFound, ValueError):
            allowed = "This must be a cursor from `next` or `previous`."
            fault = {"parameter": "cursor", "detail": allowed, "code": "invalid"}
            raise problems.faulty(problems.INVALID_QUERY, [fault]) from None
        return cursor

    def check(self, position: str) -> None:
        """ValueError where no row can stand at this position."""
        uuid.UUID(position)


class ByNumber(ByCursor):
    """The same for a key that is a number."""

    def check(self, position: str) -> None:
        """A column can hold it."""
        if not position.isascii() or not position.isdigit() or len(position) > 18:
            raise ValueError
