"""A saga as it is to be shown: from its rows, or from the archive, with the same classes either way.

What is read from the archive are instances that were never saved, with everything on them that the rows had;
`SagaInstance.archived_at` tells them apart. They are to look at: whoever wants to write restores the saga
first (`sagas.engine.archive`).
"""

import dataclasses
import datetime
import functools
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from django.db import models as django_models
from django.db.models.fields import related_descriptors

from sagas import documents
from sagas.models import ArchivedSaga, Event, SagaInstance, Signal, StepInstance

_Model = TypeVar("_Model", bound=django_models.Model)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Archived:
    """A saga out of the archive, with all that belongs to it."""

    saga: SagaInstance
    """Its `steps.all()` and `events.all()` ask no database."""

    steps: list[StepInstance]
    events: list[Event]
    signals: list[Signal]
    others: Mapping[str, Sequence[Mapping[str, Any]]]
    """Rows of other apps, by what these call them."""

    archived_at: datetime.datetime


def archived(saga_id: uuid.UUID | str) -> Archived | None:
    """A saga out of the archive; None where it is not there, live sagas among them."""
    return archived_in_bulk([_uuid(saga_id)]).get(_uuid(saga_id))


def archived_in_bulk(saga_ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, Archived]:
    """Those of these sagas that are in the archive, in one statement; in none where none is asked for."""
    wanted = list(saga_ids)
    return {row.pk: opened(row) for row in ArchivedSaga.around(wanted)} if wanted else {}


def in_bulk(saga_ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, SagaInstance]:
    """These sagas with their steps, wherever they are; what is nowhere is left out."""
    wanted = set(saga_ids)
    found = {row.pk: row for row in SagaInstance.objects.filter(pk__in=wanted).prefetch_related("steps")}
    return found | {pk: one.saga for pk, one in archived_in_bulk(wanted - found.keys()).items()}


def opened(row: ArchivedSaga) -> Archived:
    """What a row of the archive holds.

    Raises:
        KeyError, ValueError: its document cannot be opened.
    """
    document = documents.unpack(bytes(row.document), row.dictionary)
    saga = instance(SagaInstance, document["saga"])
    saga.archived_at = row.archived_at
    steps = [instance(StepInstance, {**step, "saga_id": row.pk}) for step in document["steps"]]
    events = [instance(Event, {**event, "saga_id": row.pk}) for event in documents.events_of(document)]
    for step in steps:
        step.saga = saga
    for event in events:
        event.saga = saga
    _have_fetched(saga, "steps", steps)
    _have_fetched(saga, "events", events)
    return Archived(
        saga=saga,
        steps=steps,
        events=events,
        signals=[instance(Signal, signal) for signal in document["signals"]],
        others=document["others"],
        archived_at=row.archived_at,
    )


def instance(model: type[_Model], row: Mapping[str, Any]) -> _Model:
    """A row of a document as an instance: what is missing was null, or a column that there was not yet."""
    values = {}
    for field in model._meta.concrete_fields:
        if field.attname in row:
            values[field.attname] = field.to_python(row[field.attname])
        elif field.null:
            values[field.attname] = None
        elif field.has_default():
            values[field.attname] = field.get_default()
    return model(**values)


def _have_fetched(saga: SagaInstance, name: str, rows: Sequence[django_models.Model]) -> None:
    """Have the saga's relation answer with these rows, as if they had been fetched beforehand."""
    fetched = getattr(saga, name).get_queryset()
    fetched._result_cache = list(rows)
    fetched._prefetch_done = True
    cache: dict[str, Any] = saga.__dict__.setdefault("_prefetched_objects_cache", {})
    cache[name] = fetched


@functools.lru_cache(maxsize=256)
def _uuid(value: uuid.UUID | str) -> uuid.UUID:
    return value if isinstance(value, uuid.UUID) else uuid.UUID(value)


# --- For rows of other apps that are about a saga --------------------------------------------------


class _Wherever:
    """Where the saga's row is not there, the archive is asked; once for all rows that are prefetched."""

    def get_object(self, instance: django_models.Model) -> Any:
        """The saga of one row.

        Raises:
            SagaInstance.DoesNotExist: it is nowhere.
        """
        try:
            return super().get_object(instance)  # type: ignore[misc]
        except SagaInstance.DoesNotExist:
            found = archived(getattr(instance, self.field.attname))  # type: ignore[attr-defined]
            if found is None:
                raise
            return found.saga

    def get_prefetch_querysets(
        self, instances: Sequence[django_models.Model], querysets: Any = None
    ) -> tuple[Any, ...]:
        """The sagas of many rows: live ones in one statement, and the others in one more."""
        rows, *rest = super().get_prefetch_querysets(instances, querysets)  # type: ignore[misc]
        live = list(rows)
        wanted = {getattr(row, self.field.attname) for row in instances}  # type: ignore[attr-defined]
        missing = wanted - {saga.pk for saga in live} - {None}
        return [*live, *(one.saga for one in archived_in_bulk(missing).values())], *rest


class _Foreign(_Wherever, related_descriptors.ForwardManyToOneDescriptor):  # type: ignore[type-arg]
    pass


class _OneToOne(_Wherever, related_descriptors.ForwardOneToOneDescriptor):  # type: ignore[type-arg]
    pass


class SagaForeignKey(django_models.ForeignKey[SagaInstance, SagaInstance]):
    """A key to a saga that may have gone to the archive: no constraint, and it is read from there.

    Join with it, and what you find are live sagas; fetch it with `prefetch_related`, and you find all.
    """

    forward_related_accessor_class = _Foreign

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{**options, "db_constraint": False})

    def deconstruct(self) -> tuple[str, str, Any, Any]:
        """To migrations it is an ordinary key."""
        name, _path, args, kwargs = super().deconstruct()
        return name, "django.db.models.ForeignKey", args, kwargs


class SagaOneToOneField(django_models.OneToOneField[SagaInstance, SagaInstance]):
    """The same, of which a saga has one at most."""

    forward_related_accessor_class = _OneToOne

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{**options, "db_constraint": False})

    def deconstruct(self) -> tuple[str, str, Any, Any]:
        """To migrations it is an ordinary key."""
        name, _path, args, kwargs = super().deconstruct()
        return name, "django.db.models.OneToOneField", args, kwargs
