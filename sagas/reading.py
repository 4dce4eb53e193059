"""A saga as it is to be shown: from its rows, or from the archive, with the same classes either way.

What is read from the archive are instances that were never saved, with everything on them that the rows had;
`SagaInstance.archived_at` tells them apart. They are to look at: whoever wants to write restores the saga
first (`sagas.engine.archive`).
"""

import dataclasses
import datetime
import functools
import math
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from django.db import models as django_models
from django.db.models.fields import related_descriptors

from sagas import database, documents, errors, ids
from sagas.declaration import registry
from sagas.declaration.states import SagaState
from sagas.models import CLOCKS_DIFFER, ArchivedSaga, Event, SagaInstance, Signal, StepInstance

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
    have_fetched(saga, "steps", steps)
    have_fetched(saga, "events", events)
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


def have_fetched(saga: SagaInstance, name: str, rows: Sequence[django_models.Model]) -> None:
    """Have the saga's relation answer with these rows, as if they had been fetched beforehand.

    Arguments:
        saga: the row.
        name: of the relation, such as `events`.
        rows: what it answers.
    """
    fetched = getattr(saga, name).get_queryset()
    fetched._result_cache = list(rows)
    fetched._prefetch_done = True
    cache: dict[str, Any] = saga.__dict__.setdefault("_prefetched_objects_cache", {})
    cache[name] = fetched


@functools.lru_cache(maxsize=256)
def _uuid(value: uuid.UUID | str) -> uuid.UUID:
    return value if isinstance(value, uuid.UUID) else uuid.UUID(value)


# --- The children of a step ------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChildrenCounts:
    """How many children of a step stand where. Each is counted once."""

    completed: int = 0
    waiting: int = 0
    """All of their steps are done: they wait for their parent's outcome."""

    running: int = 0
    coming: int = 0
    """They have not begun: their parent starts them when their turn comes."""

    undoing: int = 0
    """They are being undone, or will be."""

    undone: int = 0
    attention: int = 0
    """They need a person."""

    closed: int = 0
    """They were put aside for good."""

    @property
    def total(self) -> int:
        """How many there are."""
        return sum(dataclasses.astuple(self))

    @property
    def done(self) -> int:
        """Of how many all steps are done, whether they have completed or wait for that."""
        return self.completed + self.waiting

    @property
    def live(self) -> int:
        """How many may still move by themselves, or by a person's hand."""
        return self.running + self.coming + self.undoing + self.attention + self.waiting


def children_counts(
    steps: Iterable[StepInstance], *, archive: bool = True
) -> dict[tuple[uuid.UUID, str], ChildrenCounts]:
    """By saga and step, of those of these steps that are sagas of their own: how many of them stand where.

    One statement, however many sagas, steps and children; one more where some are in the archive, and none
    where no step has children. A step that has not begun has none yet, and is left out.

    Arguments:
        steps: of any sagas, live or archived.
        archive: whether to look for those that are not in the live tables any more.
    """
    keys = {(step.saga_id, step.name): step.child_keys for step in steps if step.child_keys}
    found: dict[tuple[uuid.UUID, str], dict[str, int]] = {which: {} for which in keys}
    for parent_id, step, place, count in _places({saga_id for saga_id, _step in keys}):
        if (counts := found.get((parent_id, step))) is not None:
            counts[place] = counts.get(place, 0) + count
    missing = [
        key for which, names in keys.items() if sum(found[which].values()) < len(names) for key in names
    ]
    if missing and archive:
        for row in archived_children(missing).only("key", "state", "closed_at"):
            of, name, _item = row.key.split(".")
            counts = found[uuid.UUID(of), name]
            place = child_place(row)
            counts[place] = counts.get(place, 0) + 1
    return {which: ChildrenCounts(**counts) for which, counts in found.items()}


def archived_children(keys: Sequence[str]) -> django_models.QuerySet[ArchivedSaga]:
    """Those children with these keys, from `StepInstance.child_keys`, that are in the archive."""
    rows = ArchivedSaga.objects.filter(key__in=keys).defer("document", "digest")
    begun = [ids.made_at(uuid.UUID(key.partition(".")[0])) for key in keys]
    known = [at for at in begun if at is not None]
    # A child ended no earlier than its parent began.
    return rows.filter(ended_at__gte=min(known) - CLOCKS_DIFFER) if len(known) == len(keys) else rows


CHILD_KEY = r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\.[a-z0-9-]+\.[0-9]+$"
"""The business key of a child, as its parent gave it: the key of its step, and the element's number."""


def of_parent(parent_id: uuid.UUID, step: str | None = None) -> django_models.Q:
    """The children of a saga, or those of one of its steps, among the sagas that are not in the archive."""
    of_step = django_models.Q() if step is None else django_models.Q(parent_step=step)
    return django_models.Q(parent_id=parent_id) & of_step


def child_keys(parent_id: uuid.UUID, step: str | None = None) -> list[str]:
    """The keys of a saga's children, or of those of one step, wherever they are; none if the saga is gone."""
    parent = in_bulk([parent_id]).get(parent_id)
    steps: list[StepInstance] = [] if parent is None else list(parent.steps.all())  # type: ignore[arg-type]
    return [key for one in steps if step in (None, one.name) for key in one.child_keys]


def keys_of(saga_ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, str]:
    """The business keys of these sagas, wherever they are: two statements at most, and none for none."""
    wanted = set(saga_ids)
    if not wanted:
        return {}
    found = dict(SagaInstance.objects.filter(pk__in=wanted).values_list("pk", "key"))
    if missing := wanted - found.keys():
        found |= dict(ArchivedSaga.around(missing).values_list("pk", "key"))
    return found


def child_place(saga: SagaInstance | ArchivedSaga) -> str:
    """Under which name of `ChildrenCounts` a child is counted."""
    if isinstance(saga, ArchivedSaga):
        return _place(state=saga.state, closed=saga.closed_at is not None)
    return _place(
        state=saga.state,
        closed=saga.closed_at is not None,
        begun=saga.epoch > 0 or saga.in_line_for is not None,
        unwanted=saga.cancel_requested_at is not None,
        all_done=saga.position >= _steps_of(saga.name, saga.version),
    )


def _places(parents: Collection[uuid.UUID]) -> Iterable[tuple[uuid.UUID, str, str, int]]:
    """Parent, step, place and number of their live children, in as many rows as there are ways to stand."""
    if not parents:
        return
    with database.for_reading(SagaInstance).cursor() as cursor:
        cursor.execute(
            "SELECT parent_id, parent_step, name, version, position, state, closed_at IS NOT NULL,"
            " epoch > 0 OR in_line_for IS NOT NULL, cancel_requested_at IS NOT NULL, count(*)"
            " FROM sagas_saga WHERE parent_id = ANY (%s) GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9",
            [list(parents)],
        )
        for parent_id, step, name, version, position, state, closed, begun, unwanted, count in cursor:
            all_done = position >= _steps_of(name, version)
            yield parent_id, step, _place(
                state=state, closed=closed, begun=begun, unwanted=unwanted, all_done=all_done
            ), count  # fmt: skip


def _place(
    *, state: str, closed: bool, begun: bool = True, unwanted: bool = False, all_done: bool = False
) -> str:
    if closed:
        return "closed"
    if state != SagaState.RUNNING:
        return _PLACES[SagaState(state)]
    if all_done:
        return "waiting"
    if unwanted:
        return "undoing"
    return "running" if begun else "coming"


_PLACES = {
    SagaState.COMPLETED: "completed",
    SagaState.COMPENSATING: "undoing",
    SagaState.COMPENSATED: "undone",
    SagaState.NEEDS_ATTENTION: "attention",
}


def _steps_of(name: str, version: int) -> float:
    """How many steps such a saga has; more than any has where the code no longer says."""
    try:
        return len(registry.get(name, version).all_steps)
    except errors.UnknownSaga:
        return math.inf


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
