"""What has ended goes from the live tables into the archive: one row for each saga, in one transaction.

1. `run` finds what ended long enough ago, the longest ended first, and moves it batch by batch.
2. A batch is one transaction: lock the sagas, passing over those that somebody has; read all that belongs to
   them; write one row for each; delete what was read. Where a count differs, all of it is rolled back.
3. Left where it is: a saga of which a callback is still to be undone or to be settled by a person, and one
   that another app wants kept (`keep_live`).
4. `restore` is the way back. A callback for an archived saga takes it (`inbox`): to the engine, that saga is
   as any other that has ended.
5. `forget` drops the partitions of whole months.

The database lets nobody else delete an event: only a transaction that says that it moves sagas may, and only
once the saga's row in the archive is there (`sagas/migrations/0010_archive.py`).
"""

import contextlib
import dataclasses
import datetime
import functools
import logging
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

from django.db import connection, transaction
from django.db import models as django_models
from django.db.models import QuerySet

from sagas import database, documents, errors, models, reading
from sagas.engine import sums
from sagas.models import ArchivedSaga, Event, SagaInstance, Signal, StepInstance

logger = logging.getLogger("sagas")

BATCH = 200
"""Sagas of one transaction: some hundred milliseconds, and nobody waits for what has ended."""

BUDGET_S = 20
"""How long one run may take; what is left is the next one's."""

RESTED = datetime.timedelta(hours=1)
"""What was touched so shortly ago stays: a saga that was restored is looked at first."""

LOCK_TIMEOUT_MS = 2000
"""How long a new partition waits for the table, while others would wait behind it."""

_FIRST = datetime.datetime.min.replace(tzinfo=datetime.UTC)

Ended = tuple[datetime.datetime, uuid.UUID]
"""When a saga ended, and its id: their order is that in which they are archived."""

Keeper = Callable[[Collection[uuid.UUID]], Iterable[uuid.UUID]]
"""Told which sagas are to go; which of them must stay for now."""


class Miscounted(errors.SagaError):
    """What was deleted is not what was read; nothing was moved, so look at who else deletes these rows."""


@dataclasses.dataclass(frozen=True)
class _Companion:
    model: type[django_models.Model]
    column: str


_keepers: list[Keeper] = []
_forgetters: list[Callable[[datetime.datetime], object]] = []
_companions: dict[str, _Companion] = {}


def keep_live(keeper: Keeper) -> None:
    """Have another app say which sagas must stay, because its rows still need theirs.

    It is asked under the sagas' locks, with each batch.
    """
    if keeper not in _keepers:
        _keepers.append(keeper)


def take_along(model: type[django_models.Model], *, column: str = "saga_id", name: str = "") -> None:
    """Have another app's rows about a saga go into its document, and come back with it.

    Arguments:
        model: whose rows.
        column: which of its columns names the saga.
        name: what they are called in the document, where documents were written before the model had its
            present name; by default its label.
    """
    _companions[name or model._meta.label_lower] = _Companion(model, column)


def forget_too(forgetter: Callable[[datetime.datetime], object]) -> None:
    """Have another app let go of what is older than that moment, whenever months are forgotten."""
    if forgetter not in _forgetters:
        _forgetters.append(forgetter)


def companions_of(saga_id: uuid.UUID) -> Iterator[tuple[str, QuerySet[Any]]]:
    """Other apps' rows about a live saga, by what they are called in its document."""
    for name, companion in _companions.items():
        yield name, companion.model._default_manager.filter(**{companion.column: saga_id})


# --- Into the archive -----------------------------------------------------------------------------


def run(
    *,
    older_than: datetime.timedelta,
    limit: int | None = None,
    seconds: float = BUDGET_S,
) -> int:
    """Move what ended longer ago than that, until nothing is left of it or the time is up.

    Any number may run at once: none takes what another holds. One that dies has moved whole batches.

    Arguments:
        older_than: counted from the end of each saga, by the database's clock.
        limit: at most so many.
        seconds: begin no further batch after so long.

    Returns:
        How many were moved.
    """
    until = time.monotonic() + seconds
    moved, place = 0, (_FIRST, uuid.UUID(int=0))
    while time.monotonic() < until:
        size = BATCH if limit is None else min(BATCH, limit - moved)
        ended = _next(place, older_than, size) if size > 0 else []
        if not ended:
            break
        for month in sorted({_month(at) for at, _pk in ended}):
            _ensure_partition(month)
        moved += _move_what_can([pk for _at, pk in ended])
        place = ended[-1]
    if moved:
        logger.info("archived %s sagas", moved)
    return moved


def _next(place: Ended, older_than: datetime.timedelta, size: int) -> list[Ended]:
    """The sagas after that place which ended long enough ago, in the order of their ends."""
    given: list[Any] = [older_than, *place, RESTED, older_than, size]
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT coalesce(finished_at, closed_at) AS ended_at, id FROM sagas_saga"
            " WHERE (finished_at IS NOT NULL OR closed_at IS NOT NULL)"
            " AND coalesce(finished_at, closed_at) < statement_timestamp() - %s::interval"
            " AND (coalesce(finished_at, closed_at), id) > (%s::timestamptz, %s::uuid)"
            " AND updated_at < statement_timestamp() - LEAST(%s::interval, %s::interval)"
            " ORDER BY 1, 2 LIMIT %s",
            given,
        )
        return list(cursor.fetchall())


def _move_what_can(saga_ids: Sequence[uuid.UUID]) -> int:
    """Move these sagas; one that cannot be moved stays, and holds up no other.

    Raises:
        django.db.Error: the database is away, or somebody held what was wanted for too long.
    """
    try:
        return _move(saga_ids)
    except Exception as bug:
        if database.is_passing(bug):
            raise
        if len(saga_ids) == 1:
            logger.exception("saga %s could not be archived", saga_ids[0])
            return 0
        return sum(_move_what_can([pk]) for pk in saga_ids)


@contextlib.contextmanager
def _moving() -> Iterator[None]:
    """One transaction, in which the triggers let sagas move; and not in what follows it in another's.

    Triggers of apps ask as well: an event that comes back happened long ago, and is not told once more.
    """
    with transaction.atomic():
        _say("on")
        yield
        _say("off")  # After an error it is rolled back with the rest.


def _say(whether: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('sagas.moving', %s, true)", [whether])


@_moving()
def _move(saga_ids: Sequence[uuid.UUID]) -> int:
    """Move these sagas, but for those that somebody holds and those that must stay."""
    held = SagaInstance.objects.select_for_update(skip_locked=True).filter(pk__in=saga_ids)
    # Read after the locks are had: the row of each saga, and whatever was written under its lock.
    sagas = {row["id"]: row for row in held.values() if row["finished_at"] or row["closed_at"]}
    steps = _by_saga(StepInstance.objects.filter(saga_id__in=sagas).order_by("saga_id", "position"))
    keys = {f"{pk}.{step['name']}": pk for pk, rows in steps.items() for step in rows}
    # Without locks of their own: whoever writes one that rests holds its saga's.
    signals: list[dict[str, Any]] = [*Signal.objects.filter(step_key__in=keys).order_by("id").values()]  # type: ignore[list-item]
    for pk in _must_stay(sagas, keys, signals):
        del sagas[pk]
    if not sagas:
        return 0
    steps = {pk: rows for pk, rows in steps.items() if pk in sagas}
    events = _by_saga(Event.objects.filter(saga_id__in=sagas).order_by("id"))
    theirs = _grouped((keys[row["step_key"]], row) for row in signals if keys[row["step_key"]] in sagas)
    others = {name: _companions_of(companion, sagas) for name, companion in _companions.items()}
    sums.fold_early({pk: rows[-1]["id"] for pk, rows in events.items()})
    ArchivedSaga.objects.bulk_create(
        _row(
            documents.build(
                saga=saga,
                steps=steps.get(pk, []),
                events=events.get(pk, []),
                signals=theirs.get(pk, []),
                others={name: rows[pk] for name, rows in others.items() if pk in rows},
            )
        )
        for pk, saga in sagas.items()
    )
    for name, rows in others.items():
        companion = _companions[name]
        _delete(companion.model, companion.column, list(sagas), _count(rows))
    _delete(Signal, "id", [row["id"] for rows in theirs.values() for row in rows], _count(theirs))
    _delete(Event, "saga_id", list(sagas), _count(events))
    _delete(StepInstance, "saga_id", list(sagas), _count(steps))
    _delete(SagaInstance, "id", list(sagas), len(sagas))
    return len(sagas)


def _must_stay(
    saga_ids: Collection[uuid.UUID], keys: dict[str, uuid.UUID], signals: Iterable[dict[str, Any]]
) -> set[uuid.UUID]:
    """Those with a callback to be undone or settled, children of live sagas, and what others want kept."""
    stay = {
        keys[row["step_key"]]
        for row in signals
        if row["wake_at"] is not None or (row["attention_at"] is not None and row["settled_at"] is None)
    }
    children = SagaInstance.objects.filter(pk__in=saga_ids, parent_id__isnull=False)
    unended = SagaInstance.objects.filter(finished_at=None, closed_at=None).values("pk")
    stay.update(children.filter(parent_id__in=unended).values_list("pk", flat=True))
    for keeper in _keepers:
        stay.update(keeper(saga_ids))
    return stay & set(saga_ids)


def _row(document: documents.Document) -> ArchivedSaga:
    saga = reading.instance(SagaInstance, document["saga"])
    failure = saga.failure or {}
    ended_at = saga.finished_at or saga.closed_at
    assert ended_at is not None, "only what has ended is archived"
    return ArchivedSaga(
        id=saga.pk,
        ended_at=ended_at,
        name=saga.name,
        version=saga.version,
        key=saga.key,
        state=saga.state,
        created_at=saga.created_at,
        finished_at=saga.finished_at,
        closed_at=saga.closed_at,
        failed_step=str(failure.get("step") or "")[:50],
        failed_kind=str(failure.get("kind") or "")[:20],
        failed_error=str(failure.get("error") or "")[:100],
        document=documents.pack(document),
        dictionary=documents.NEWEST_DICTIONARY,
        digest=documents.digest_of(document),
    )


def _by_saga(rows: QuerySet[Any]) -> dict[uuid.UUID, list[dict[str, Any]]]:
    """Rows without the column that all of one saga's have in common."""
    return _grouped((row.pop("saga_id"), row) for row in rows.values())


def _companions_of(
    companion: _Companion, saga_ids: Collection[uuid.UUID]
) -> dict[uuid.UUID, list[dict[str, Any]]]:
    rows = companion.model._default_manager.filter(**{f"{companion.column}__in": saga_ids}).order_by("pk")
    return _grouped((row.pop(companion.column), row) for row in rows.values())


def _grouped(rows: Iterable[tuple[uuid.UUID, dict[str, Any]]]) -> dict[uuid.UUID, list[dict[str, Any]]]:
    found: dict[uuid.UUID, list[dict[str, Any]]] = {}
    for pk, row in rows:
        found.setdefault(pk, []).append(row)
    return found


def _count(rows: dict[uuid.UUID, list[dict[str, Any]]]) -> int:
    return sum(len(of_saga) for of_saga in rows.values())


def _delete(model: type[django_models.Model], column: str, values: Sequence[Any], expected: int) -> None:
    """Delete those rows, which must be as many as were read.

    Raises:
        Miscounted: they are not, and the transaction must be rolled back.
    """
    table = model._meta.db_table
    with connection.cursor() as cursor:
        cursor.execute(f"DELETE FROM {table} WHERE {column} = ANY(%s)", [list(values)])
        if cursor.rowcount != expected:
            raise Miscounted(f"{expected} rows of {table} were read, and {cursor.rowcount} deleted.")


# --- Back again -----------------------------------------------------------------------------------


def restore(saga_id: uuid.UUID | str, *, instead_of: QuerySet[Signal] | None = None) -> bool:
    """Put a saga back into the live tables, as it was; whether it was in the archive.

    What was struck out of it meanwhile stays struck out. It is archived again when it has rested for a while.

    Arguments:
        saga_id: the saga.
        instead_of: callbacks that are deleted first, if it was: it may bring the same ones back.
    """
    with _moving():
        found = ArchivedSaga.around([uuid.UUID(str(saga_id))]).select_for_update().first()
        if found is None:
            return False
        if instead_of is not None:
            instead_of.delete()
        one = reading.opened(found)
        # Touched now, so that the archiver leaves it alone for a while.
        one.saga.updated_at = models.database_now()
        one.saga.save(force_insert=True)
        StepInstance.objects.bulk_create(one.steps)
        Event.objects.bulk_create(one.events, batch_size=1000)  # A statement has room for 65535 values.
        Signal.objects.bulk_create(one.signals)
        for name, others in one.others.items():
            if (companion := _companions.get(name)) is None:
                logger.warning("%s of saga %s are left out: nobody knows them any more", name, found.pk)
                continue
            companion.model._default_manager.bulk_create(
                reading.instance(companion.model, {**row, companion.column: found.pk}) for row in others
            )
        with connection.cursor() as cursor:
            cursor.execute(
                "DELETE FROM sagas_archive WHERE id = %s AND ended_at = %s", [found.pk, found.ended_at]
            )
    logger.info("restored saga %s from the archive", found.pk)
    return True


# --- The whole of it ------------------------------------------------------------------------------


def broken(saga_ids: Collection[uuid.UUID] | None = None) -> Iterator[tuple[ArchivedSaga, str]]:
    """Archived sagas that are not what was archived, each with what is wrong with it.

    Arguments:
        saga_ids: only these; by default all that there are.
    """
    rows = ArchivedSaga.objects.all() if saga_ids is None else ArchivedSaga.around(saga_ids)
    for row in rows.order_by("ended_at").iterator(chunk_size=BATCH):
        if why := _fault(row):
            yield row, why


def _fault(row: ArchivedSaga) -> str:
    try:
        document = documents.unpack(bytes(row.document), row.dictionary)
        saga = document["saga"]
        said = (saga["id"], saga["name"], saga["key"], saga["state"])
    except (KeyError, TypeError, ValueError) as error:
        return f"Its document cannot be opened: {error}"
    if said != (str(row.pk), row.name, row.key, row.state):
        return "Its columns and its document are about different things."
    if not documents.verify(document, bytes(row.digest)):
        return "Its events are not those that were archived: one was changed, left out or put elsewhere."
    return ""


@dataclasses.dataclass(frozen=True, order=True)
class Month:
    """A partition of the archive."""

    first: datetime.date
    sagas: int
    """How many are in it."""

    @property
    def table(self) -> str:
        """The partition's name."""
        return _table(self.first)


def months(*, before: datetime.date | None = None) -> list[Month]:
    """The partitions that there are, the oldest first; only those that end by that day, if one is named."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
            " WHERE i.inhparent = 'sagas_archive'::regclass"
        )
        names = [name for (name,) in cursor.fetchall()]
        found = []
        for name in names:
            year, month = name.removeprefix(_PREFIX).split("_")
            first = datetime.date(int(year), int(month), 1)
            if before is None or _after(first) <= before:
                cursor.execute(f"SELECT count(*) FROM {_table(first)}")
                found.append(Month(first, cursor.fetchone()[0]))
    return sorted(found)


def forget(*, before: datetime.date) -> int:
    """Drop whole months of the archive, those that end by that day; how many sagas that were. For ever.

    With them go callbacks about no saga, and what other apps keep as long (`forget_too`).
    """
    gone = months(before=before)
    if not gone:
        return 0
    until = datetime.datetime.combine(before, datetime.time(), datetime.UTC)
    # Of a saga they would be in its document; these a person settled, and nobody else will ask for them.
    Signal.objects.filter(fate__in=_ABOUT_NO_SAGA, settled_at__lt=until).delete()
    for forgetter in _forgetters:
        forgetter(until)
    with connection.cursor() as cursor:
        for month in gone:
            cursor.execute(f"DROP TABLE {month.table}")
            logger.warning("forgot the archive of %s: %s sagas", month.first.strftime("%Y-%m"), month.sagas)
    return sum(month.sagas for month in gone)


_ABOUT_NO_SAGA = (Signal.Fate.UNMATCHED, Signal.Fate.UNREADABLE)
_PREFIX = "sagas_archive_"


def _table(first: datetime.date) -> str:
    return f"{_PREFIX}{first.year:04}_{first.month:02}"


def _month(at: datetime.datetime) -> datetime.date:
    """The first day of the month of that moment, in UTC."""
    return at.astimezone(datetime.UTC).date().replace(day=1)


def _after(first: datetime.date) -> datetime.date:
    return (first + datetime.timedelta(days=32)).replace(day=1)


@functools.cache
def _bounds(first: datetime.date) -> tuple[str, str]:
    return f"{first.isoformat()} 00:00:00+00", f"{_after(first).isoformat()} 00:00:00+00"


def _ensure_partition(first: datetime.date) -> None:
    """Have the partition of that month, made if it is not there.

    It is made beside the table and attached to it then, which locks out nobody who uses the others.
    """
    table, (begins, ends) = _table(first), _bounds(first)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass(%s)", [table])
        if cursor.fetchone()[0] is not None:
            return
        cursor.execute(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}")
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended('sagas.archive.partition', 0))")
        cursor.execute(f"CREATE TABLE IF NOT EXISTS {table} (LIKE sagas_archive INCLUDING ALL)")
        cursor.execute(
            "SELECT EXISTS (SELECT FROM pg_inherits WHERE inhrelid = %s::regclass)",
            [table],
        )
        if cursor.fetchone()[0]:
            return  # Another made it meanwhile.
        cursor.execute(
            f"CREATE TRIGGER {table}_not_truncated BEFORE TRUNCATE ON {table}"
            " FOR EACH STATEMENT EXECUTE FUNCTION sagas_archive_is_kept()"
        )
        cursor.execute(
            f"ALTER TABLE sagas_archive ATTACH PARTITION {table} FOR VALUES FROM ('{begins}') TO ('{ends}')"
        )
