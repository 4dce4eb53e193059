"""Pages of a list that is never counted to its end."""

from typing import Any

from django.core import paginator
from django.utils.functional import cached_property

AT_MOST = 1000
"""Rows that are counted, and so can be paged through; older ones are found by searching and filtering."""


class Bounded(paginator.Paginator):  # type: ignore[type-arg]
    """Counts no further than AT_MOST: a million rows cost what a thousand do."""

    @cached_property
    def count(self) -> int:
        """How many there are, or AT_MOST where there are more."""
        rows: Any = self.object_list
        return int(rows.order_by()[:AT_MOST].values("pk").count())

    @property
    def bounded(self) -> bool:
        """Whether there may be more than can be paged through."""
        return self.count >= AT_MOST
