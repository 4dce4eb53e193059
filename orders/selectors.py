"""Reading orders, a fixed number of statements each."""

import uuid

from django.db.models import Prefetch, QuerySet

from orders import models
from sagas import models as saga_models


def orders() -> QuerySet[models.Order]:
    """Orders with all that is shown of them: three statements, however many there are."""
    steps = saga_models.StepInstance.objects.order_by("position")
    return models.Order.objects.select_related("saga").prefetch_related(
        Prefetch("lines", models.OrderLine.objects.order_by("position")), Prefetch("saga__steps", steps)
    )


def access_key(step_key: str) -> str | None:
    """The access key of the invoice in the saga that a step's key belongs to; None where there is none."""
    try:
        saga_id = uuid.UUID(step_key.partition(".")[0])
    except ValueError:
        return None
    facts = saga_models.SagaInstance.objects.filter(pk=saga_id).values_list("facts__access_key", flat=True)
    return facts.first()
