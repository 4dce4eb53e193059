"""What stands above a row of a service: the order that it belongs to, and what became of that."""

import uuid
from typing import Any

from django import template
from django.db import models

from orders import around

register = template.Library()


@register.simple_tag(takes_context=True)
def order_around(
    context: template.Context, row: models.Model | None, saga_id: uuid.UUID | None
) -> around.Around | None:
    """The order of this row, which is of that saga, for whoever may see sagas; else None."""
    if row is None or row._meta.app_label not in around.APPS:
        return None
    if not hasattr(row, "order_around"):
        user: Any = context["request"].user
        found = None
        if saga_id is not None and user.has_perm("sagas.view_sagainstance"):
            found = around.of(saga_id, customer=user.has_perm("orders.view_order"))
        row.order_around = found  # type: ignore[attr-defined]
    return row.order_around  # type: ignore[attr-defined, no-any-return]
