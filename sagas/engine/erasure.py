"""Personal data is struck out of sagas that have ended, live or archived; what happened to them stays known.

1. `strike` takes one saga: what its declaration hides goes whole, wherever it stands, and so does every text
   in which one of the person's values is found: an error's message, an operator's reason, an event's data.
2. Of an event nothing else changes: the database lets a transaction that says that it strikes put the mark
   `STRUCK` in the place of an actor, of a reason or of a member of `data`, once the saga has ended.
3. In the archive the chain over the events still holds, with the digest that it had (`sagas.documents`).
4. `strike_elsewhere` takes what is of no saga: circuits, callbacks about nothing of ours, and what other apps
   keep (`strike_too`).

Whose data it is, and which sagas are theirs, is for the app to say whose sagas they are.
"""

import contextlib
import functools
import re
import unicodedata
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

from django.db import connection, transaction
from django.db import models as django_models
from django.utils.translation import gettext_noop

from sagas import documents, errors, reading
from sagas.engine import archive
from sagas.models import ArchivedSaga, Circuit, Event, SagaInstance, Signal, StepInstance

STRUCK = documents.STRUCK
"""What stands where a value was struck out."""

SHORTEST = 4
"""Characters of a text that is looked for: shorter ones stand everywhere."""

NOT_ENDED = gettext_noop("It has not ended.")
CALLBACK_OPEN = gettext_noop("A callback of it is still to be undone, or waits for a person.")

_OURS = frozenset({
    "step", "kind", "at", "since", "clock", "attempt", "error", "late", "frames", "worker", "task_id",
    "fence", "seen", "intervention", "state", "waited_ms",
})  # fmt: skip
"""Names under which the engine itself writes: no person's value, whatever it looks like."""

_OF_FACTS = ("facts", "data", "arguments")
"""Columns in which a name that the declaration hides may stand."""


class Values:
    """The texts by which a person is found, compared without regard to capitals and accents.

    Arguments:
        texts: found wherever they stand; one of digits only, where no further digit stands beside it.
        words: found where they stand as words, such as the parts of a name.
    """

    def __init__(self, texts: Iterable[str], *, words: Iterable[str] = ()) -> None:
        patterns = {self._anywhere(text) for text in map(_folded, texts) if len(text) >= SHORTEST}
        patterns |= {rf"\b{re.escape(word)}\b" for word in map(_folded, words) if len(word) >= SHORTEST}
        self._pattern = re.compile("|".join(sorted(patterns)) or r"(?!)")

    @staticmethod
    def _anywhere(text: str) -> str:
        return rf"(?<!\d){text}(?!\d)" if text.isdecimal() else re.escape(text)

    def stand_in(self, text: str) -> bool:
        """Whether one of them does."""
        return self._pattern.search(_folded(text)) is not None

    def struck(self, value: Any) -> Any:
        """The same JSON, with every text and number struck out in which one of them stands."""
        if isinstance(value, dict):
            if any(self.stand_in(name) for name in value):
                return STRUCK
            return {name: self.struck(inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [self.struck(inner) for inner in value]
        return STRUCK if self._is_one(value) else value

    def _is_one(self, value: Any) -> bool:
        return isinstance(value, str | int) and not isinstance(value, bool) and self.stand_in(str(value))


def _folded(text: str) -> str:
    apart = unicodedata.normalize("NFKD", text.casefold())
    return "".join(letter for letter in apart if not unicodedata.combining(letter)).strip()


# --- One saga --------------------------------------------------------------------------------------


def strike(saga_id: uuid.UUID | str, *, values: Values, callbacks_whole: bool = False) -> None:
    """Strike out of a saga and its children, wherever they are, what is hidden or holds one of the values.

    Again changes nothing. It leaves no event: an archived history takes none, so whoever calls it keeps the
    record of it, in the same transaction.

    Arguments:
        saga_id: the saga.
        values: the person's.
        callbacks_whole: strike all that callbacks told and their undoing met, whomever it names: for a saga
            that was struck before, when the person's values were known for the last time.

    Raises:
        NotInTransaction: it was called outside transaction.atomic().
        NotAllowed: the saga has not ended, or a callback of it is still open.
        Damaged: its document in the archive is not what was archived, and was left alone.
        NotFound: there is no such saga.
    """
    if not connection.in_atomic_block:
        raise errors.NotInTransaction("Personal data is struck out in one transaction with its record.")
    pk = uuid.UUID(str(saga_id))
    chosen = functools.partial(_decider, values=values, callbacks_whole=callbacks_whole)
    family = _children_of(pk)
    with _striking():
        # The archiver may take it away between one look and the other, and a late callback bring it back.
        if not (_strike_live(pk, chosen) or _strike_archived(pk, chosen) or _strike_live(pk, chosen)):
            raise errors.NotFound
        for child in family:
            strike(child, values=values, callbacks_whole=callbacks_whole)


def _children_of(pk: uuid.UUID) -> list[uuid.UUID]:
    """A saga's children, live or archived."""
    steps: list[StepInstance] = list(StepInstance.objects.filter(saga_id=pk))
    if not steps and (found := reading.archived(pk)):
        steps = found.steps
    keys = [key for step in steps for key in step.child_keys]
    archived = ArchivedSaga.objects.filter(key__in=keys) if keys else ArchivedSaga.objects.none()
    live = SagaInstance.objects.filter(parent_id=pk).values_list("pk", flat=True)
    return [*live, *archived.values_list("pk", flat=True)]


def why_not(saga_ids: Collection[uuid.UUID]) -> dict[uuid.UUID, str]:
    """Of these sagas, those of which nothing can be struck out yet, each with the reason."""
    live = SagaInstance.objects.filter(pk__in=saga_ids)
    unended = live.filter(finished_at=None, closed_at=None)
    found = dict.fromkeys(unended.values_list("pk", flat=True), NOT_ENDED)
    children_live = SagaInstance.objects.filter(parent_id__in=saga_ids, finished_at=None, closed_at=None)
    found |= dict.fromkeys(filter(None, children_live.values_list("parent_id", flat=True)), NOT_ENDED)
    steps = StepInstance.objects.filter(saga_id__in=set(saga_ids) - found.keys())
    ended = {f"{pk}.{name}": pk for pk, name in steps.values_list("saga_id", "name")}
    for key in _open(ended):
        found[ended[key]] = CALLBACK_OPEN
    return found


class Damaged(errors.SagaError):
    """This archived saga is not what was archived: `manage.py saga verify` says how. It was left alone."""


@contextlib.contextmanager
def _striking() -> Iterator[None]:
    """Part of a transaction, in which the triggers let values be struck out; and not in what follows it."""
    with transaction.atomic():
        _say("on")
        yield
        _say("off")  # After an error it is rolled back with the rest.


def _say(whether: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('sagas.striking', %s, true)", [whether])


def _open(step_keys: Collection[str]) -> list[str]:
    """Those of the steps of which a callback is still to be undone, or to be settled by a person."""
    unsettled = django_models.Q(attention_at__isnull=False, settled_at=None)
    rows = Signal.objects.filter(django_models.Q(wake_at__isnull=False) | unsettled, step_key__in=step_keys)
    return list(rows.values_list("step_key", flat=True))


_Decider = Callable[[documents.Path, Any], bool]
_Choice = Callable[[frozenset[str] | None], _Decider]
"""Which values go, for a saga whose declaration hides these names."""


def _strike_live(pk: uuid.UUID, chosen: _Choice) -> bool:
    """Whether it is in the live tables; then it is struck there."""
    saga = SagaInstance.objects.select_for_update().filter(pk=pk).first()
    if saga is None:
        return False
    if why := why_not([pk]).get(pk):
        raise errors.NotAllowed(why, state=saga.state)
    steps = StepInstance.objects.filter(saga_id=pk)
    keys = [f"{pk}.{name}" for name in steps.values_list("name", flat=True)]
    others = dict(archive.companions_of(pk))
    document = documents.build(
        saga=SagaInstance.objects.filter(pk=pk).values()[0],
        steps=_rows(steps),
        events=_rows(Event.objects.filter(saga_id=pk)),
        signals=_rows(Signal.objects.filter(step_key__in=keys)),
        others={name: _rows(rows) for name, rows in others.items()},
    )
    struck = documents.strike(document, chosen(_hidden(saga)))
    _write(SagaInstance, [document["saga"]], [struck["saga"]])
    _write(StepInstance, document["steps"], struck["steps"])
    _write(Event, list(documents.events_of(document)), list(documents.events_of(struck)))
    _write(Signal, document["signals"], struck["signals"])
    for name, rows in others.items():
        _write(rows.model, document["others"][name], struck["others"][name])
    return True


def _rows(rows: django_models.QuerySet[Any]) -> list[dict[str, Any]]:
    return list(rows.order_by("pk").values())


def _write(
    model: type[django_models.Model], before: list[dict[str, Any]], after: list[dict[str, Any]]
) -> None:
    """Have each row be as it is after; only the columns that differ, and no row where none does."""
    for old, new in zip(before, after, strict=True):
        if changed := {name: value for name, value in new.items() if old[name] != value}:
            model._default_manager.filter(pk=old[model._meta.pk.attname]).update(**changed)


def _strike_archived(pk: uuid.UUID, chosen: _Choice) -> bool:
    """Whether it is in the archive; then it is struck there."""
    row = ArchivedSaga.around([pk]).select_for_update().first()
    if row is None:
        return False
    document = documents.unpack(bytes(row.document), row.dictionary)
    hidden = _hidden(SagaInstance(name=row.name, version=row.version))
    struck = documents.strike(document, chosen(hidden))
    if not documents.verify(struck, bytes(row.digest)):
        raise Damaged(saga=str(pk))
    if struck != document:
        ArchivedSaga.objects.filter(pk=pk, ended_at=row.ended_at).update(
            document=documents.pack(struck), dictionary=documents.NEWEST_DICTIONARY
        )
    return True


def _hidden(saga: SagaInstance) -> frozenset[str] | None:
    """The names that its declaration hides; None where the code has it no longer, so that none is known."""
    try:
        return saga.definition.hidden
    except errors.UnknownSaga:
        return None


_DEPTH: Mapping[str, int] = {"saga": 1, "steps": 2, "signals": 2, "events": 2, "others": 3}
"""How many parts of a path in a document come before the column."""


_TOLD = ("facts", "refused", "mismatch", "compensation_error", "attention")
"""Columns of a callback in which its sender's words stand."""


def _decider(hidden: frozenset[str] | None, *, values: Values, callbacks_whole: bool) -> _Decider:
    """What is to be struck out of a document: as `documents.strike` asks."""

    def decide(path: documents.Path, value: Any) -> bool:
        place = _DEPTH[path[0]]
        column, inside, name = path[place], path[place + 1 :], path[-1]
        words = name == "error" and isinstance(value, str) and " " in value  # And no error's class.
        ours = name in _OURS and "facts" not in path[place:] and not words
        told = column in _TOLD if path[0] == "signals" else words and path[0] == "events"
        if callbacks_whole and told and not isinstance(value, dict | list | bool):
            return True
        if inside and column in _OF_FACTS and not ours and (hidden is None or name in hidden):
            return True
        if isinstance(value, dict):
            return any(values.stand_in(member) for member in value)
        return not ours and not isinstance(value, list) and values.struck(value) != value

    return decide


# --- What is of no saga ----------------------------------------------------------------------------

_strikers: list[Callable[[Values], object]] = []


def strike_too(striker: Callable[[Values], object]) -> None:
    """Have another app strike, with `strike_elsewhere`, what it keeps that belongs to no single saga."""
    if striker not in _strikers:
        _strikers.append(striker)


@transaction.atomic
def strike_elsewhere(values: Values) -> None:
    """Strike what holds one of the values and is of no single saga: it is read whole, and is little."""
    strike_columns(Circuit.objects.all(), ["error"], values)
    about_no_saga = Signal.objects.filter(fate__in=[Signal.Fate.UNMATCHED, Signal.Fate.UNREADABLE])
    written = ["facts", "refused", "mismatch", "compensation_error", "attention", "settled_by", "settlement"]
    strike_columns(about_no_saga, written, values)
    for striker in _strikers:
        striker(values)


def strike_columns(rows: django_models.QuerySet[Any], columns: Collection[str], values: Values) -> int:
    """Strike values out of columns, whether they stand there as a text or inside JSON.

    Arguments:
        rows: those to look through.
        columns: names of their columns.
        values: what is struck out, as `strike_too` and `strike_elsewhere` are given it.

    Returns:
        How many rows had one.
    """
    found = 0
    for row in rows.values("pk", *columns).iterator():
        changed = {name: new for name in columns if (new := values.struck(row[name])) != row[name]}
        if changed:
            # Only what was read is written over: what somebody writes meanwhile is news.
            same = {name: row[name] for name in changed}
            found += rows.model._default_manager.filter(pk=row["pk"], **same).update(**changed)
    return found
