"""A saga's family: the saga of whose step it is a child, and its own children under their steps.

Everything here costs as many statements however many children there are, and none for a saga without any.
"""

import dataclasses
import re
import uuid
from collections.abc import Iterable, Sequence
from typing import Any

from django.db.models import Case, Count, Exists, F, OuterRef, Q, QuerySet, UUIDField, Value, When, Window
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Cast, RowNumber
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from sagas import documents, errors, models, reading
from sagas.console import marks
from sagas.declaration import definition, registry
from sagas.declaration.states import Direction, SagaState
from sagas.engine.kinds import FailureKind
from sagas.reading import ChildrenCounts

SHOWN = 10
"""So many children of a step are named on its saga's page; the list of sagas has them all."""

DEEPEST = 10
"""So far down children of children are followed to the one that a person is called for."""

Row = models.SagaInstance | models.ArchivedSaga


@dataclasses.dataclass(frozen=True, kw_only=True)
class Place:
    """Whose child a saga is, and which of them."""

    parent_id: uuid.UUID
    step: str
    item: int
    """From 0."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parent:
    """The saga of whose step another is a child."""

    saga: models.SagaInstance
    place: Place
    total: int
    """How many children that step has."""

    @property
    def label(self) -> str:
        """Which of its children it is about, in words."""
        return member(self.place.step, self.place.item, self.total)

    @property
    def goes_on(self) -> bool:
        """Whether it still goes forwards, so that it matters to it what its children come to."""
        saga = self.saga
        return not saga.is_final and saga.closed_at is None and saga.direction == Direction.FORWARD

    @property
    def declared(self) -> definition.Child | None:
        """The declaration of that step, if the code still has it."""
        try:
            step = self.saga.definition.step(self.place.step)
        except (errors.UnknownSaga, KeyError):
            return None
        return step if isinstance(step, definition.Child) else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Child:
    """A child as its parent's page names it."""

    row: Any
    """Live or archived."""

    label: str
    """Which of them it is, in words."""

    @property
    def badge(self) -> SafeString:
        """Where it stands."""
        return badge(self.row)

    @property
    def is_archived(self) -> bool:
        """Whether it is in the archive, which says little of it without being opened."""
        return isinstance(self.row, models.ArchivedSaga)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Brood:
    """The children of one step, as the page of its saga shows them."""

    step: models.StepInstance
    counts: ChildrenCounts
    named: Sequence[Child]
    """Some of them: first those that need a person, are being undone, failed, or are under way."""

    @property
    def backward(self) -> bool:
        """Whether they are being undone, or were."""
        return self.step.undo_started_at is not None

    @property
    def words(self) -> str:
        """How many of them stand where."""
        return words(self.counts, backward=self.backward)

    @property
    def short(self) -> str:
        """How many of them are done; on the way back, undone."""
        return first_word(self.counts, backward=self.backward)

    @property
    def more(self) -> int:
        """How many are not named."""
        return self.counts.total - len(self.named)


# --- Words ----------------------------------------------------------------------------------------


def member(step: str, item: int, total: int) -> str:
    """Which of a step's children it is: "deliver 3 of 8"; the step alone where it has one."""
    if total == 1:
        return step
    given = {"step": step, "number": item + 1, "total": total}
    return (_("%(step)s %(number)s of %(total)s") if total else _("%(step)s %(number)s")) % given


def first_word(counts: ChildrenCounts, *, backward: bool = False) -> str:
    """How many of them are done; on the way back, undone."""
    if backward:
        return _("%(n)s of %(total)s undone") % {"n": counts.undone + counts.closed, "total": counts.total}
    return _("%(n)s of %(total)s done") % {"n": counts.done, "total": counts.total}


def words(counts: ChildrenCounts, *, backward: bool = False) -> str:
    """The same, and where the others stand: "3 of 8 done, 1 being undone, 1 needs attention, 3 to come"."""
    said = [first_word(counts, backward=backward)]
    if backward and (n := counts.done):
        said.append(_("%(n)s to be undone") % {"n": n})
    if n := counts.undoing:
        said.append(ngettext("%(n)s is being undone", "%(n)s are being undone", n) % {"n": n})
    if n := counts.attention:
        said.append(ngettext("%(n)s needs attention", "%(n)s need attention", n) % {"n": n})
    if n := counts.running:
        said.append(_("%(n)s under way") % {"n": n})
    if n := counts.coming:
        said.append(_("%(n)s to come") % {"n": n})
    if not backward and (n := counts.undone):
        said.append(ngettext("%(n)s is undone", "%(n)s are undone", n) % {"n": n})
    if n := counts.closed:
        said.append(ngettext("%(n)s was put aside", "%(n)s were put aside", n) % {"n": n})
    return ", ".join(said)


def badge(row: Row) -> SafeString:
    """The state of a saga, with its mark; of a child it is where it stands for its parent."""
    place = reading.child_place(row) if place_of(row) is not None else ""
    if place == "waiting":
        return marks.badge("waiting", _("Done, waits for its parent"))
    if place == "coming":
        return marks.badge("pending", _("To come"))
    return marks.badge("closed" if row.closed_at is not None else row.state)


_KEY = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.([a-z0-9-]+)\.(\d+)")


def without_keys(text: str) -> str:
    """A sentence in which children are named by their keys, with words that people know them by."""
    return _KEY.sub(lambda found: member(found[2], int(found[3]), 0), text)


# --- The parent -----------------------------------------------------------------------------------


def place_of(row: Row) -> Place | None:
    """Whose child it is; None where it is nobody's. Of an archived one only its key says so."""
    if isinstance(row, models.SagaInstance):
        if row.parent_id is None:
            return None
        return Place(parent_id=row.parent_id, step=row.parent_step or "", item=row.parent_item or 0)
    found = _KEY.fullmatch(row.key)
    return found and Place(parent_id=uuid.UUID(found[1]), step=found[2], item=int(found[3]))


def parents(rows: Iterable[Row]) -> dict[uuid.UUID, Parent]:
    """By the child's id, the parents of those of these sagas that have one; live or archived."""
    places = {row.pk: place for row in rows if (place := place_of(row)) is not None}
    if not places:
        return {}
    sagas = reading.in_bulk(place.parent_id for place in places.values())
    return {
        pk: Parent(saga=saga, place=place, total=_total(saga, place.step))
        for pk, place in places.items()
        if (saga := sagas.get(place.parent_id)) is not None
    }


def parent(row: Row) -> Parent | None:
    """The parent of a saga; None where it has none, or that is nowhere any more."""
    return parents([row]).get(row.pk)


def _total(saga: models.SagaInstance, step: str) -> int:
    steps: list[models.StepInstance] = list(saga.steps.all())  # type: ignore[arg-type]
    return next((len(row.child_keys) for row in steps if row.name == step), 0)


# --- The children ---------------------------------------------------------------------------------


def counts(
    steps: Iterable[models.StepInstance], declared: definition.Saga | None
) -> dict[str, ChildrenCounts]:
    """By the name of each of a saga's steps that has children: how many stand where."""
    if declared is None:
        return {}
    names = {step.name for step in declared.children}
    chosen = [step for step in steps if step.name in names]
    return {step: found for (_saga, step), found in reading.children_counts(chosen).items()}


def broods(
    steps: Sequence[models.StepInstance], counted: dict[str, ChildrenCounts], declared: definition.Saga | None
) -> dict[str, Brood]:
    """By step, its children: the counts as they were read, and some of the children by name."""
    chosen = [step for step in steps if step.name in counted]
    if not chosen or declared is None:
        return {}
    named: dict[str, list[Row]] = {step.name: [] for step in chosen}
    for row in _live(chosen[0].saga_id, [step for step in declared.children if step.name in named]):
        named[row.parent_step or ""].append(row)
    archived = [
        key
        for step in chosen
        if len(named[step.name]) < min(SHOWN, counted[step.name].total)
        for key in step.child_keys[: SHOWN - len(named[step.name])]
    ]
    if archived:
        for gone in sorted(reading.archived_children(archived), key=_item):
            place = place_of(gone)
            assert place is not None, "its key says so"
            named[place.step].append(gone)
    return {
        step.name: Brood(
            step=step,
            counts=counted[step.name],
            named=[
                Child(row=row, label=member(step.name, _item(row), counted[step.name].total))
                for row in named[step.name]
            ],
        )
        for step in chosen
    }


def every(steps: Sequence[models.StepInstance], counted: dict[str, ChildrenCounts]) -> dict[str, list[Row]]:
    """By step, all of its children in their order, live or archived; in two statements at most."""
    found: dict[str, list[Row]] = {step: [] for step in counted}
    chosen = [step for step in steps if step.name in counted]
    if not chosen:
        return found
    live = models.SagaInstance.objects.filter(parent_id=chosen[0].saga_id, parent_step__in=list(counted))
    for row in live.defer("facts"):
        found[row.parent_step or ""].append(row)
    if any(len(found[step]) < counts.total for step, counts in counted.items()):
        for gone in reading.archived_children([key for step in chosen for key in step.child_keys]):
            place = place_of(gone)
            if place is not None:
                found[place.step].append(gone)
    return {step: sorted(rows, key=_item) for step, rows in found.items()}


def _item(row: Row) -> int:
    place = place_of(row)
    return place.item if place is not None else 0


def _live(saga_id: uuid.UUID, steps: Sequence[definition.Child]) -> QuerySet[models.SagaInstance]:
    """Some of each step's children, the most urgent first; in one statement for all of the steps."""
    under_way = Q()
    for step in steps:
        under_way |= Q(parent_step=step.name, position__lt=len(step.child.all_steps))
    under_way &= Q(state=SagaState.RUNNING)
    urgency = Case(
        When(state=SagaState.NEEDS_ATTENTION, closed_at=None, then=Value(0)),
        When(state=SagaState.COMPENSATING, then=Value(1)),
        When(Q(failure__isnull=False, closed_at=None) & ~_TURNED_BACK, then=Value(2)),
        When(under_way, epoch__gt=0, then=Value(3)),
        default=Value(4),
    )
    number = Window(RowNumber(), partition_by=F("parent_step"), order_by=["urgency", "parent_item"])
    rows = models.SagaInstance.objects.filter(
        parent_id=saga_id, parent_step__in=[step.name for step in steps]
    ).defer("facts")
    chosen = rows.annotate(urgency=urgency).annotate(number=number).filter(number__lte=SHOWN)
    return chosen.order_by("parent_step", "number")


_TURNED_BACK = Q(cancel_actor=documents.ENGINE, failure__kind=FailureKind.CANCELLED)
"""Children that did not fail: their parent did not want them any more."""


def first_to_fail(
    saga: models.SagaInstance, counted: dict[str, ChildrenCounts]
) -> models.SagaInstance | None:
    """The child that failed by itself, where a saga failed with its children; the first of several."""
    step = (saga.failure or {}).get("step")
    if step not in counted:
        return None
    failed = models.SagaInstance.objects.filter(parent_id=saga.pk, parent_step=step, failure__isnull=False)
    return failed.exclude(_TURNED_BACK).defer("facts").order_by("parent_item").first()


def parse(text: str) -> tuple[uuid.UUID | None, str]:
    """The saga and the step that an address names for `parent`; the step may be left out."""
    saga_id, _dot, step = text.partition(".")
    try:
        return uuid.UUID(saga_id), step
    except ValueError:
        return None, ""


def parents_of(saga_ids: Iterable[uuid.UUID]) -> list[tuple[uuid.UUID, str, int]]:
    """Of which steps of which sagas these live ones are children, and how many of each."""
    rows = models.SagaInstance.objects.filter(pk__in=list(saga_ids), parent_id__isnull=False)
    grouped = rows.values_list("parent_id", "parent_step").annotate(count=Count("pk")).order_by("-count")
    return list(grouped[:SHOWN])


def attach(rows: Sequence[Any]) -> None:
    """Give each of these live sagas its `children`: by step, how many stand where.

    Two statements, or none.
    """
    declared = {
        (saga.name, saga.version): {step.name for step in saga.children} for saga in registry.everything()
    }
    names = {row.pk: declared.get((row.name, row.version), set()) for row in rows}
    wanted = [pk for pk, steps in names.items() if steps]
    found: dict[uuid.UUID, dict[str, ChildrenCounts]] = {row.pk: {} for row in rows}
    if wanted:
        steps = models.StepInstance.objects.filter(saga__in=wanted, name__in=set().union(*names.values()))
        begun = [step for step in steps if step.name in names[step.saga_id]]
        for (saga_id, step), counted in reading.children_counts(begun, archive=False).items():
            found[saga_id][step] = counted
    for row in rows:
        row.children = found[row.pk]


def have_children() -> list[tuple[str, int]]:
    """Name and version of every declared saga of which a step is a saga."""
    return [(saga.name, saga.version) for saga in registry.everything() if saga.children]


# --- One trouble is shown once --------------------------------------------------------------------


def for_a_childs_sake() -> Exists:
    """Of a saga that needs attention: whether a child of it does, and that is the only reason.

    A person is to act at the child; the saga itself goes on as soon as that does.
    """
    child = Cast(KeyTextTransform("child", OuterRef("attention")), UUIDField())
    return Exists(
        models.SagaInstance.objects.filter(pk=child, state=SagaState.NEEDS_ATTENTION, closed_at=None)
    )


def needing_a_person() -> QuerySet[models.SagaInstance]:
    """Sagas at which a person is to act: those that need attention for a reason of their own."""
    rows = models.SagaInstance.objects.filter(state=SagaState.NEEDS_ATTENTION, closed_at=None)
    return rows.exclude(for_a_childs_sake())


def longest_waiting() -> QuerySet[models.SagaInstance]:
    """The same in the order of the moment that is shown of each: since when it needs a person."""
    return needing_a_person().order_by(KeyTextTransform("since", "attention"), "created_at")


def in_need(saga: models.SagaInstance) -> models.SagaInstance | None:
    """The child that keeps a saga from going on, at which a person is to act; it may be a child's child."""
    found = None
    for _number in range(DEEPEST):
        named = (saga.attention or {}).get("child") if saga.state == SagaState.NEEDS_ATTENTION else None
        row = models.SagaInstance.objects.filter(pk=named).defer("facts").first() if named else None
        if row is None or row.state != SagaState.NEEDS_ATTENTION or row.closed_at is not None:
            break
        found = saga = row
    return found
