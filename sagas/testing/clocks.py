"""Time that passes when the test says so: the engine's clocks are columns, and are set back.

Everything that decides is compared with the database's clock (D9). To set every moment on the rows
back by an hour is the same as an hour that passed, and takes none.
"""

import datetime
import uuid

from django.db import connection, models

from sagas.models import Circuit, Queue, SagaInstance, Signal, StepInstance

A_MOMENT = datetime.timedelta(milliseconds=1)


def pass_time(by: datetime.timedelta, saga_id: uuid.UUID | str | None = None) -> None:
    """Let so much time pass, for everything or for one saga."""
    if saga_id is not None:
        _set_back(SagaInstance, by, pk=saga_id)
        _set_back(StepInstance, by, saga_id=saga_id)
    else:
        _set_back(SagaInstance, by)
        _set_back(StepInstance, by)
        _set_back(Signal, by)
        _set_back(Queue, by)
        _set_back(Circuit, by)


def until_due() -> datetime.timedelta | None:
    """How long until the sweep has something to do for a saga or a callback; None if it never will."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT GREATEST(min(wake_at) - clock_timestamp(), interval '0') FROM ("
            " SELECT wake_at FROM sagas_saga WHERE held_at IS NULL AND closed_at IS NULL"
            " UNION ALL SELECT wake_at FROM sagas_signal) AS due"
        )
        row: tuple[datetime.timedelta | None] = cursor.fetchone()
    return row[0]


def skip() -> bool:
    """Let time pass until the next thing is due; False when nothing ever will be."""
    left = until_due()
    if left is not None:
        pass_time(left + A_MOMENT)
    return left is not None


def _set_back(model: type[models.Model], by: datetime.timedelta, **which: object) -> None:
    moments = [field for field in model._meta.concrete_fields if isinstance(field, models.DateTimeField)]
    earlier = {field.name: models.F(field.name) - by for field in moments}
    model._default_manager.filter(**which).update(**earlier)
