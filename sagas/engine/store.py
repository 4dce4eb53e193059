"""Reading under the lock, and writing a transition as one statement: rows and events together.

1. `lock` takes the saga's row and one of its steps, and reads them only then (D7): a `UnitOfWork`.
2. The unit of work collects what is to become of them, along the table of transitions, and the effects.
3. Its `commit` writes one conditional UPDATE of each row and one INSERT of the events, in a single
   statement: either all of it happens or none, and one round trip pays for it. Then come the effects.

Workers go through many short transactions in a row. `Transactions` sends what ends one of them together with
what begins the next, so that a step costs one round trip beside those of its own function.
"""

import contextlib
import dataclasses
import datetime
import functools
import json
import logging
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from django.db import DataError, connection, transaction
from django.db import models as django_models
from django.db.models import functions as database_functions
from psycopg.types import json as psycopg_json

from sagas import database, errors, models
from sagas.declaration import definition, stages, states, validation
from sagas.engine import circuits, pipeline, sums, transport
from sagas.engine.kinds import EventKind
from sagas.engine.pipeline import Statement

logger = logging.getLogger("sagas")

_Model = TypeVar("_Model", bound=django_models.Model)

SagaInstance = models.SagaInstance
StepInstance = models.StepInstance


@dataclasses.dataclass(frozen=True)
class After:
    """A moment on the database's clock: so long after the statement writes it (D9)."""

    delay: datetime.timedelta = datetime.timedelta(0)


NOW = After()

GUARD_FAILED = "22012"
"""PostgreSQL's code for a division by zero."""


def lock(saga_id: uuid.UUID | str, step: str | None = None, *, facts: bool = True) -> "UnitOfWork":
    """Lock a saga's row, and the named step's or that at its position (the last step's, if all are done).

    Arguments:
        saga_id: the instance.
        step: the step's name.
        facts: whether the saga's facts are read as well; if not, they are once somebody asks for them.

    Returns:
        The unit of work: the rows as they are while this transaction holds their locks.

    Raises:
        NotFound: there is no such instance or step.
    """
    with connection.cursor() as cursor:
        if step is None:
            # Which step is at its position can only be asked once no other session changes it: a join
            # that had to wait for the lock would look for the step that was at its old one.
            cursor.execute("SELECT 1 FROM sagas_saga WHERE id = %s FOR UPDATE", [saga_id])
        cursor.execute(
            _lock_sql(step is not None, facts=facts), [step, saga_id] if step is not None else [saga_id]
        )
        return UnitOfWork(*_locked(cursor.fetchone(), saga_id, step, facts=facts)[:3])


def lock_all(saga_ids: Sequence[uuid.UUID], transactions: "Transactions") -> list["UnitOfWork"]:
    """The same for several, whose rows this transaction has locked, each at the step at its position.

    Arguments:
        saga_ids: the instances, in the order that is wanted.
        transactions: where what they write waits, until it is flushed.
    """
    with connection.cursor() as cursor:
        cursor.execute(_lock_sql(False, many=True), [list(saga_ids)])
        rows = {row[0]: row for row in cursor.fetchall()}
    # The first column is the id.
    found = [_locked(rows.get(saga_id), saga_id, None) for saga_id in saga_ids]
    return [UnitOfWork(*one[:3], transactions) for one in found]


def _locked(
    row: tuple[Any, ...] | None, saga_id: uuid.UUID | str, step: str | None, *, facts: bool = True
) -> tuple[models.SagaInstance, models.StepInstance, datetime.datetime, tuple[Any, ...]]:
    """The rows and the time that a lock gave, and what else was asked with it."""
    if row is None:
        raise errors.NotFound(f"There is no saga {saga_id}" + (f" with a step {step}." if step else "."))
    first = len(_columns(SagaInstance, facts=facts))
    second = first + len(_columns(StepInstance))
    saga = _from_row(SagaInstance, row[:first], facts=facts)
    instance = _from_row(StepInstance, row[first:second])
    instance.saga = saga
    return saga, instance, row[second], row[second + 1 :]


class Transactions:
    """Transactions of a worker, one after the other, with as few round trips as they take.

    What a unit of work writes waits here, and is sent together with the COMMIT that ends its transaction;
    and that together with the BEGIN and the lock of the next one, as libpq's pipeline mode allows. The
    statements, their order and what each of them sees are what they would be one by one. If one fails, the
    server carries out none of those behind it, the COMMIT included.

    Django thinks that it is all one `atomic` block. So it is only done where nobody else stands around that
    block, and nothing waits for its commit; elsewhere each transaction ends as Django ends it.
    """

    def __init__(self) -> None:
        self._unsent: list[Statement] = []

    @classmethod
    @contextlib.contextmanager
    def begin(cls) -> Iterator["Transactions"]:
        """Begin the first one; the last one is committed at the end of the block, or rolled back by an error.

        Raises:
            LostRace: what was to be written with the last commit no longer held; it is rolled back.
        """
        with transaction.atomic():
            transactions = cls()
            yield transactions
            transactions._finish()

    @property
    def outermost(self) -> bool:
        """Whether this block is Django's outermost."""
        return len(connection.atomic_blocks) == 1

    @property
    def alone(self) -> bool:
        """Whether it is, and nobody waits for its commit."""
        return self.outermost and not connection.run_on_commit

    def lock(self, saga_id: uuid.UUID | str, step: str, *, inbox: str | None = None) -> "UnitOfWork":
        """Lock a saga's row and the named step's, as the first statement of a transaction.

        Arguments:
            saga_id: the instance.
            step: the step's name.
            inbox: the step's key, if it is to be asked, once both are locked, whether a callback lies there
                for it.

        Raises:
            NotFound: there is no such instance or step.
        """
        lock = _lock_statement(saga_id, step)
        if inbox is None:
            return self._unit_of_work(send([lock])[0], saga_id, step)
        row, found = send([lock, Statement(_STORED, [inbox, models.Signal.Fate.STORED])])
        work = self._unit_of_work(row, saga_id, step)
        work.inbox_is_empty = found is None
        return work

    def trust(
        self, saga: models.SagaInstance, step: models.StepInstance, now: datetime.datetime
    ) -> "UnitOfWork":
        """Take the rows for what a claim has left, without reading them; the write finds out if they are.

        It holds only if the claim's fence still stands, the saga is in the same epoch, and nobody has asked
        for its end meanwhile: then what anybody else may have written decides nothing here.

        Arguments:
            saga: as it was after the claim.
            step: the same.
            now: the database's time, as near as the worker knows.
        """
        return UnitOfWork(saga, step, now, self, unread=True)

    def turn(self, saga_id: uuid.UUID | str, step: str) -> "UnitOfWork":
        """Commit, begin the next transaction, and lock: all of it in one round trip. Only if `alone`.

        Raises:
            LostRace: what was to be written no longer held; nothing was committed.
            NotFound: there is no such instance or step.
        """
        rows = send([*self._take(), pipeline.COMMIT_AND_CHAIN, _lock_statement(saga_id, step)])
        return self._unit_of_work(rows[-1], saga_id, step)

    @property
    def can_start_over(self) -> bool:
        """Whether it can be rolled back here: by nobody else, and while no statement is under way."""
        raw = connection.connection
        return (
            self.outermost and raw is not None and raw.info.transaction_status in pipeline.BETWEEN_STATEMENTS
        )

    def start_over(self, saga_id: uuid.UUID | str, step: str) -> "UnitOfWork":
        """Roll back, begin the next transaction, and lock. Only if `can_start_over`.

        psycopg hears nothing of it, and so keeps what it has prepared: after a rollback of its own it would
        have the server forget all of that.

        Raises:
            NotFound: there is no such instance or step.
        """
        self._take()
        connection.run_on_commit = []
        transaction.set_rollback(False)
        rows = send([pipeline.ROLLBACK_AND_CHAIN, _lock_statement(saga_id, step)])
        return self._unit_of_work(rows[-1], saga_id, step)

    def _unit_of_work(self, row: pipeline.Row | None, saga_id: uuid.UUID | str, step: str) -> "UnitOfWork":
        saga, instance, now, more = _locked(row, saga_id, step)
        work = UnitOfWork(saga, instance, now, self)
        work.open_circuits = circuits.read(*more)
        return work

    def defer(self, statement: Statement) -> None:
        """Have it sent with the commit of this transaction."""
        self._unsent.append(statement)

    def flush(self) -> None:
        """Send what waits, because something else in this transaction comes after it."""
        if unsent := self._take():
            send(unsent)

    def _take(self) -> list[Statement]:
        unsent, self._unsent = self._unsent, []
        return unsent

    def _finish(self) -> None:
        if not connection.needs_rollback and (unsent := self._take()):
            # Django's own commit then finds that there is nothing left to do.
            send([*unsent, pipeline.COMMIT] if self.alone else unsent)


def send(statements: Sequence[Statement]) -> list[pipeline.Row | None]:
    """Carry out the statements in one round trip; the first row that each of them gave.

    Raises:
        LostRace: a row was no longer in the state that it was read in.
        django.db.Error: what else the database says.
    """
    connection.ensure_connection()
    if connection.queries_logged:
        connection.queries_log.extend({"sql": one.text, "time": ""} for one in statements)
    with _guarded(), connection.wrap_database_errors:
        return pipeline.send(connection.connection, statements)


@contextlib.contextmanager
def _guarded() -> Iterator[None]:
    """The guard of a write that no longer held, under its name.

    Raises:
        LostRace: a row was no longer in the state that it was read in.
    """
    try:
        yield
    except DataError as error:
        if database.sqlstate(error) == GUARD_FAILED:
            raise errors.LostRace from error
        raise


Hook = Callable[..., object]
"""Called with the saga's `key`, and those of its facts that it takes by name."""


def call_hook(hook: Hook, *, key: str, facts: Mapping[str, Any]) -> None:
    """Call a hook with the saga's key and the facts that it names.

    One that is not there, because its step was left out or never done, is what the hook has as its default;
    None without any.
    """
    defaults = validation.defaults(hook)
    names = [name for name in validation.parameters(hook) if name in facts or name not in defaults]
    hook(key=key, **{name: facts.get(name) for name in names})


class UnitOfWork:
    """A saga's row and one of its steps under their locks, and what is to become of them.

    The unit of work is M. Fowler's (Patterns of Enterprise Application Architecture): it collects, and one
    `commit` writes.
    """

    def __init__(
        self,
        saga: models.SagaInstance,
        step: models.StepInstance,
        now: datetime.datetime,
        transactions: Transactions | None = None,
        *,
        unread: bool = False,
    ) -> None:
        self.saga = saga
        self.step = step
        self._transactions = transactions
        self._unread = (saga.epoch, step.fence) if unread else None
        self.now = now
        """The database's time when the lock was had."""

        self.open_circuits: circuits.Open | None = None
        """As they stood when the lock was asked for, if they were asked for with it."""

        self.inbox_is_empty = False
        """Whether it is known that no callback is stored for the step; none comes while the lock is held."""

        self.waited: datetime.timedelta | None = None
        """How long the message of the attempt at hand was under way: the next event of its step says so."""

        self.onward: transport.Dispatch | None = None
        """What a worker may carry on with once this is written, where its own chain does not lead there."""

        self._saga_was, self._step_was = saga.state, step.state
        self._saga_set: dict[str, Any] = {}
        self._step_set: dict[str, Any] = {}
        self._aside: dict[int, tuple[models.StepInstance, str, dict[str, Any]]] = {}
        self._members: tuple[stages.Stage, list[models.StepInstance]] | None = None
        self._events: list[list[Any]] = []
        self._more: list[Callable[[], object]] = []
        self._told: list[Callable[[], object]] = []
        self._hooks: list[Hook] = []
        self._notices: list[Hook] = []
        self._dispatches: list[transport.Dispatch] = []
        self._alerts: list[tuple[Any, ...]] = []
        self._unneeded: list[str] = []
        self._also: list[Statement] = []

    @property
    def declared(self) -> definition.Saga:
        """The saga's declaration.

        Raises:
            UnknownSaga: its version is no longer declared.
        """
        return self.saga.definition

    @property
    def declared_step(self) -> definition.Step:
        """The step's declaration.

        Raises:
            UnknownSaga: the saga's version is no longer declared.
        """
        return self.saga.definition.all_steps[self.step.position]

    @property
    def forward(self) -> bool:
        """Whether the saga goes forwards."""
        return self.saga.direction == states.Direction.FORWARD

    # --- Several steps ----------------------------------------------------------------------------

    @property
    def stage(self) -> stages.Stage:
        """The stage that the saga is at; the last one, if all are done.

        Raises:
            UnknownSaga: the saga's version is no longer declared.
        """
        return self.declared.stage_at(min(self.saga.position, len(self.declared.all_steps) - 1))

    @property
    def cursor(self) -> models.SagaInstance | models.StepInstance:
        """The row that says which message of the step at hand is under way, and when to look after it."""
        return self.step if self.step.is_member else self.saga

    def set_cursor(self, **fields: Any) -> None:
        """Set fields of that row."""
        if self.step.is_member:
            self.set_step(**fields)
        else:
            self.set(**fields)

    def no_later_than_deadline(self, delay: datetime.timedelta) -> After:
        """So long from now, or at the deadline where that comes first and this row is what looks after it."""
        deadline = self.saga.deadline_at
        if deadline is None or self.step.is_member:
            return After(delay)
        return After(max(min(delay, deadline - self.now), datetime.timedelta(0)))

    def members(self, stage: stages.Stage) -> list[models.StepInstance]:
        """The rows of a stage's steps, in their order. None is written without the lock of the saga.s row."""
        if self._members is None or self._members[0] is not stage:
            if self._transactions is not None:
                self._transactions.flush()
            found = StepInstance.objects.filter(saga=self.saga.pk, position__in=stage.positions)
            rows = [self._known(row) for row in found.order_by("position")]
            self._members = stage, rows
        return self._members[1]

    def below(self, position: int) -> list[models.StepInstance]:
        """The rows of the saga's steps below that position, the last one first, as they will be written."""
        found = StepInstance.objects.filter(saga=self.saga.pk, position__lt=position)
        return [self._known(row) for row in found.order_by("-position")]

    def _known(self, row: models.StepInstance) -> models.StepInstance:
        if row.pk == self.step.pk:
            return self.step
        if row.pk in self._aside:
            return self._aside[row.pk][0]
        row.saga = self.saga
        return row

    @contextlib.contextmanager
    def at(self, step: models.StepInstance) -> Iterator[None]:
        """Have another of the saga's steps be the one at hand for as long.

        Arguments:
            step: one of `members`.
        """
        before = self.step
        self._turn_to(step)
        try:
            yield
        finally:
            self._turn_to(before)

    def _turn_to(self, step: models.StepInstance) -> None:
        if step is self.step:
            return
        self._aside[self.step.pk] = self.step, self._step_was, self._step_set
        self.step, self._step_was, self._step_set = self._aside.pop(step.pk, (step, step.state, {}))

    # --- What is to become of the rows ------------------------------------------------------------

    def set(self, **fields: Any) -> None:
        """Set fields of the saga's row."""
        self._saga_set.update(fields)
        self._assign(self.saga, fields)

    def set_step(self, **fields: Any) -> None:
        """Set fields of the step's row."""
        self._step_set.update(fields)
        self._assign(self.step, fields)

    def transition(self, to: states.SagaState, kind: EventKind, **event: Any) -> None:
        """Take the saga along the table of transitions, and say so in an event.

        Raises:
            NotAllowed: the table has no such transition.
        """
        was = states.SagaState(self.saga.state)
        if to not in states.SAGA_TRANSITIONS[was]:
            raise errors.NotAllowed(f"A saga does not go from {was} to {to}.", state=was)
        self.note(kind, from_state=was, to_state=to, **event)
        self.set(state=to)

    def transition_step(self, to: states.StepState, kind: EventKind, **event: Any) -> None:
        """Take the step along the table of transitions, and say so in an event.

        Raises:
            NotAllowed: the table has no such transition.
            LostRace: the same, where the rows were taken for what a claim had left.
        """
        was = states.StepState(self.step.state)
        if to not in states.STEP_TRANSITIONS[was]:
            if self._unread:
                raise errors.LostRace
            raise errors.NotAllowed(f"A step does not go from {was} to {to}.", state=was)
        self.note(kind, subject=self.step.name, from_state=was, to_state=to, **event)
        self.set_step(state=to)
        if self.step.asked_at is not None and to != states.StepState.WAITING:
            self.set_step(asked_at=None)  # Nobody is asked any more.

    def note(
        self,
        kind: str,
        *,
        subject: str = "",
        from_state: str = "",
        to_state: str = "",
        attempt: int | None = None,
        actor: str = "engine",
        reason: str = "",
        data: dict[str, Any] | None = None,
    ) -> None:
        """Append an event."""
        if self.waited is not None and subject:
            # What tells of a failure is that failure, word for word.
            data = data or sums.wait_of(self.waited)
            self.waited = None
        self._events.append(
            [self.saga.pk, kind, subject, from_state, to_state, attempt, actor, reason, data or {}]
        )

    def forget(self, secrets: Iterable[str]) -> None:
        """Have secrets struck from the rows of the steps that put them out, once these rows are written."""
        if names := self.declared.secret_outputs.intersection(secrets):
            self.do(functools.partial(_forget, self.saga.pk, sorted(names)))

    # --- Circuits ---------------------------------------------------------------------------------

    def admitted(self, queue: str, *, untried: bool, take: bool) -> bool:
        """Whether the service lets the saga through now, as `circuits.admits` has it."""
        # What was read with the lock holds for an attempt that is made at once, and for nothing later.
        known = self.open_circuits if take else None
        return circuits.admits(queue, self.saga.pk, untried=untried, take=take, known=known)

    def found_unavailable(
        self,
        queue: str,
        *,
        troubled_since: datetime.datetime | None,
        error: dict[str, Any],
        outage: bool,
    ) -> bool:
        """Count that the saga found the service unavailable, as `circuits.failed` does: whether it is out."""
        return circuits.failed(queue, self.saga.pk, troubled_since=troubled_since, error=error, outage=outage)

    # --- Effects ----------------------------------------------------------------------------------

    def drop_callbacks(self, keys: Sequence[str]) -> None:
        """Note callbacks that are stored for the steps with these keys as known: they are not needed."""
        self._unneeded += keys

    def also(self, statement: Statement) -> None:
        """Have a statement that changes other rows carried out as a part of the one that writes these."""
        self._also.append(statement)

    def count(self, metric: sums.Metric, *labels: str) -> None:
        """Count one, in this transaction, whether or not anything else is written in it."""
        statement = sums.count(metric, *labels)
        if self._transactions is not None:
            self._transactions.defer(statement)
        else:
            send([statement])

    def do(self, more: Callable[[], object]) -> None:
        """Have more done in this transaction, once the rows are written; its failure rolls all of it back."""
        self._more.append(more)

    def after_commit(self, told: Callable[[], object]) -> None:
        """Have it called once the transaction has committed; a failure is logged and changes nothing.

        However often the same is asked for in one transaction, it is called once.
        """
        self._told.append(told)

    def call(self, hook: Hook | None) -> None:
        """Have a hook called in this transaction, which its failure rolls back."""
        if hook is not None:
            self._hooks.append(hook)

    def tell(self, hook: Hook | None) -> None:
        """Have a hook called in this transaction, whose failure is logged and changes nothing."""
        if hook is not None:
            self._notices.append(hook)

    def send(self, dispatch: transport.Dispatch) -> None:
        """Have messages sent once the transaction has committed."""
        self._dispatches.append(dispatch)

    def alert(self, message: str, *arguments: Any) -> None:
        """Have an error logged once the transaction has committed: a person is called."""
        self._alerts.append((message, *arguments))

    # --- Commit -----------------------------------------------------------------------------------

    @property
    def collected(self) -> bool:
        """Whether there is anything to write."""
        aside = any(fields for _, _, fields in self._aside.values())
        return bool(self._saga_set or self._step_set or self._events or aside)

    def commit(self) -> None:
        """Make everything that was collected so, in this order; nothing is left collected after it.

        1. The rows and their events, in one statement. A worker's `Transactions` send it with the COMMIT, if
           nothing comes in between.
        2. Callbacks that are not needed any more, and what else is to be written.
        3. Hooks, in the same transaction.
        4. After the transaction has committed: messages, alerts, and who else is to be told.

        Raises:
            LostRace: a row was no longer in the state that it was read in. Under the lock this
                cannot happen; if it did, nothing is written and the transaction is rolled back.
            Exception: what a hook raised. The transaction must be rolled back.
        """
        self._write()
        if self._transactions is not None and (self._unneeded or self._more or self._hooks or self._notices):
            self._transactions.flush()
        if self._unneeded:
            stored = models.Signal.objects.filter(step_key__in=self._unneeded, fate=models.Signal.Fate.STORED)
            stored.update(fate=models.Signal.Fate.NOTED, matched_at=database_functions.Now())
        more, hooks, notices = self._more, self._hooks, self._notices
        dispatches, alerts, told = self._dispatches, self._alerts, self._told
        self._more, self._hooks, self._notices, self._unneeded = [], [], [], []
        self._dispatches, self._alerts, self._told = [], [], []
        for write in more:
            write()
        for hook in hooks:
            call_hook(hook, key=self.saga.key, facts=self.saga.facts)
        for hook in notices:
            try:
                with transaction.atomic():
                    call_hook(hook, key=self.saga.key, facts=self.saga.facts)
            except Exception:
                logger.exception("the hook that tells of a saga's need for attention met a bug")
        for dispatch in dispatches:
            transport.after_commit(dispatch)
        for alert in alerts:
            transaction.on_commit(functools.partial(logger.error, *alert))
        for tell in told:
            _once_committed(tell)

    def _write(self) -> None:
        parts: list[str] = []
        params: list[Any] = []
        # A guard that does not hold divides by zero: so nothing that is sent behind it happens either.
        guard = "1 / (SELECT count(*) FROM g) = 1"
        update = self._update(SagaInstance, {**self._saga_set, "updated_at": NOW}, params)
        params += [self.saga.pk, self._saga_was]
        as_claimed = ""
        if self._unread:
            as_claimed = " AND epoch = %s AND cancel_requested_at IS NULL"
            params.append(self._unread[0])
        # Not "=", for which there is an index: where many have just come to be in a state, after an outage or
        # in a large family, the planner does not know of them yet, and each write would read all of them.
        is_still = "state IS NOT DISTINCT FROM %s"
        parts.append(f"g AS ({update} WHERE id = %s AND {is_still}{as_claimed} RETURNING id)")
        if self._step_set:
            update = self._update(StepInstance, self._step_set, params)
            params += [self.step.pk, self._step_was]
            held = ""
            if self._unread:
                held = " AND fence = %s"
                params.append(self._unread[1])
            parts.append(f"s AS ({update} WHERE id = %s AND state = %s{held} RETURNING id)")
            guard += " AND 1 / (SELECT count(*) FROM s) = 1"
        for number, (row, was, fields) in enumerate(self._aside.values()):
            if fields:
                update = self._update(StepInstance, fields, params)
                params += [row.pk, was]
                parts.append(f"s{number} AS ({update} WHERE id = %s AND state = %s RETURNING id)")
                guard += f" AND 1 / (SELECT count(*) FROM s{number}) = 1"
        for number, other in enumerate(self._also):
            parts.append(f"a{number} AS ({other.text})")
            params += other.parameters
        if self._events:
            rows = ", ".join(["(%s::uuid, %s, %s, %s, %s, %s::int, %s, %s, %s::jsonb)"] * len(self._events))
            for event in self._events:
                params += [*event[:-1], psycopg_json.Jsonb(event[-1])]
            body = f"{_INSERT_EVENTS} SELECT * FROM (VALUES {rows}) AS v WHERE {guard}"
        else:
            body = f"SELECT 1 WHERE {guard}"
        statement = Statement(f"WITH {', '.join(parts)} {body}", params)
        self._carry_out(statement)
        self._saga_was, self._step_was = self.saga.state, self.step.state
        self._saga_set, self._step_set, self._events, self._also = {}, {}, [], []
        self._aside = {pk: (row, row.state, {}) for pk, (row, _, _) in self._aside.items()}

    def _carry_out(self, statement: Statement) -> None:
        if self._transactions is not None:
            self._transactions.defer(statement)
        else:
            send([statement])

    def _update(self, model: type[django_models.Model], fields: dict[str, Any], params: list[Any]) -> str:
        assignments = []
        for name, value in fields.items():
            placeholder, parameter = _expression(value, name in _json_columns(model))
            assignments.append(f"{name} = {placeholder}")
            params += parameter
        return f"UPDATE {model._meta.db_table} SET {', '.join(assignments)}"

    def _assign(self, row: django_models.Model, fields: dict[str, Any]) -> None:
        for name, value in fields.items():
            setattr(row, name, self.now + value.delay if isinstance(value, After) else value)


def _forget(saga_id: uuid.UUID, names: list[str]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE sagas_step SET facts = facts - %s::text[] WHERE saga_id = %s AND facts ?| %s::text[]",
            [names, saga_id, names],
        )


def _once_committed(tell: Callable[[], object]) -> None:
    """Have it called after the commit, unless the same will be, whatever becomes of open savepoints."""
    still = set(connection.savepoint_ids)
    if not any(known == tell and savepoints <= still for savepoints, known, *_ in connection.run_on_commit):
        transaction.on_commit(tell, robust=True)


def begin(
    sagas: Sequence[models.SagaInstance],
    *,
    grace: datetime.timedelta,
    line_look: datetime.timedelta,
    actor: str,
    not_before: datetime.datetime | None = None,
) -> None:
    """Write new instances of one declaration, their steps and their first events, in one statement.

    Where several begin the same keys at once, each takes them in the same order, and waits for the other.

    Arguments:
        sagas: which are to be sent at once (`epoch` 1), or stand in a line (`in_line_for`), or neither: the
            sweep looks at those at once; at children, which their parent starts, later. Steps before their
            position are left out.
        grace: how soon the sweep asks after the message of one that is sent.
        line_look: how soon the sweep looks at one that stands in a line, or that its parent starts.
        actor: who asked for them, for the events.
        not_before: when they are to start, if that is later than now.

    Raises:
        AlreadyLive: live sagas of that name have some of the keys, or one stands twice among them. The
            others are written: where there are any, the transaction must go back to before them.
    """
    if not sagas:
        return
    ordered = sorted(sagas, key=lambda saga: saga.key)
    first = ordered[0]
    declared = first.definition
    names = [step.name for step in declared.all_steps]
    parameters: list[Any] = [
        first.name, first.version, first.fingerprint, first.state, first.direction, first.traceparent,
        not_before, line_look, declared.deadline, grace, not_before, declared.deadline,
        [saga.pk for saga in ordered], [saga.key for saga in ordered],
        [psycopg_json.Jsonb(saga.facts) for saga in ordered], [saga.in_line_for for saga in ordered],
        [saga.parent_id for saga in ordered], [saga.parent_step for saga in ordered],
        [saga.parent_item for saga in ordered], [saga.counted_as for saga in ordered],
        [saga.position for saga in ordered],
        [int(saga.epoch > 0 and saga.in_line_for is None) for saga in ordered],
        states.StepState.SKIPPED, states.StepState.PENDING, list(range(len(names))), names, actor,
    ]  # fmt: skip
    further = [saga for saga in ordered if saga.position]
    if further:
        parameters += [
            EventKind.STEP_SKIPPED, states.StepState.PENDING, states.StepState.SKIPPED,
            [saga.pk for saga in further], [psycopg_json.Jsonb(_left_out(saga)) for saga in further],
        ]  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute(_BEGIN_FURTHER if further else _BEGIN, parameters)
        rows = {saga_id: times for saga_id, *times in cursor.fetchall()}
    if live := [saga.key for saga in sagas if saga.pk not in rows]:
        raise errors.AlreadyLive(_live(first.name, live), keys=live)
    for saga in sagas:
        for name, value in zip(_BEGUN, rows[saga.pk], strict=True):
            setattr(saga, name, value)
        saga._state.adding = False


def refuse_live(name: str, keys: Sequence[str]) -> None:
    """Say of which of these keys a saga is live already.

    Raises:
        AlreadyLive: of some.
    """
    live = models.SagaInstance.objects.filter(
        name=name, key__in=keys, finished_at__isnull=True, closed_at__isnull=True
    )
    if found := sorted(live.values_list("key", flat=True)):
        raise errors.AlreadyLive(_live(name, found), keys=found)


def _left_out(saga: models.SagaInstance) -> list[dict[str, Any]]:
    """The steps before its position, each with the facts for which it is left out."""
    declared = saga.definition
    return [
        {
            "step": step.name,
            "facts": {
                each.fact: bool(saga.facts.get(each.fact)) for each in declared.stage_at(n).conditions[0]
            },
        }
        for n, step in enumerate(declared.all_steps[: saga.position])
    ]


def _live(name: str, keys: Sequence[str]) -> str:
    if len(keys) == 1:
        return f"A live saga {name} has the key {keys[0]!r}."
    return f"Live sagas {name} have the keys {', '.join(map(repr, keys))}."


def _expression(value: Any, is_json: bool) -> tuple[str, list[Any]]:
    if isinstance(value, After):
        return ("clock_timestamp() + %s", [value.delay]) if value.delay else ("clock_timestamp()", [])
    if is_json and value is not None:
        return "%s", [psycopg_json.Jsonb(value)]
    return "%s", [value]


_BEGUN = ("created_at", "updated_at", "epoch", "dispatches", "dispatched_at", "wake_at", "deadline_at")
"""What the database says of a saga that has begun."""

_LEFT_OUT = """
    UNION ALL
    SELECT g.id, %s, one.said ->> 'step', %s, %s, 'engine', '', one.said - 'step'
    FROM g JOIN unnest(%s::uuid[], %s::jsonb[]) AS further (id, left_out) ON further.id = g.id,
        jsonb_array_elements(further.left_out) AS one (said)
"""
"""Of sagas that stand behind their first steps: an event for each step before their position."""


def _begin_sql(left_out: str) -> str:
    return f"""
WITH g AS (
    INSERT INTO sagas_saga (
        name, version, fingerprint, state, direction, traceparent, position, epoch, dispatches, dispatched_at,
        wake_at, deadline_at, id, key, facts, in_line_for, parent_id, parent_step, parent_item, counted_as,
        cancel_reason, cancel_actor
    )
    SELECT %s, %s, %s, %s, %s, %s, position, sent, sent, CASE sent WHEN 1 THEN now() END,
        COALESCE(%s::timestamptz, now()) + CASE WHEN sent = 0 AND (line IS NOT NULL OR parent IS NOT NULL)
            THEN LEAST(%s::interval, %s) WHEN sent = 1 THEN %s ELSE '0' END,
        COALESCE(%s::timestamptz, now()) + %s, id, key, facts, line, parent, parent_step, parent_item,
        counted, '', ''
    FROM unnest(
        %s::uuid[], %s::text[], %s::jsonb[], %s::text[], %s::uuid[], %s::text[], %s::int[], %s::text[],
        %s::int[], %s::int[]
    ) AS given (id, key, facts, line, parent, parent_step, parent_item, counted, position, sent)
    ON CONFLICT (name, key) WHERE finished_at IS NULL AND closed_at IS NULL DO NOTHING
    RETURNING *
), s AS (
    INSERT INTO sagas_step (
        saga_id, position, name, state, finished_at, attempts, undo_attempts, fence, task_id, worker
    )
    SELECT g.id, step.position, step.name, CASE WHEN step.position < g.position THEN %s ELSE %s END,
        CASE WHEN step.position < g.position THEN now() END, 0, 0, 0, '', ''
    FROM g, unnest(%s::int[], %s::text[]) AS step (position, name)
), e AS (
    INSERT INTO sagas_event (saga_id, kind, subject, from_state, to_state, actor, reason, data)
    SELECT g.id, 'saga.begun', '', '', g.state, %s, '', CASE WHEN g.parent_id IS NULL THEN '{{}}'::jsonb
        ELSE jsonb_build_object('parent', g.parent_id, 'step', g.parent_step, 'item', g.parent_item) END
    FROM g
    {left_out}
)
SELECT id, {", ".join(_BEGUN)} FROM g
"""


_BEGIN, _BEGIN_FURTHER = _begin_sql(""), _begin_sql(_LEFT_OUT)

_INSERT_EVENTS = (
    "INSERT INTO sagas_event (saga_id, kind, subject, from_state, to_state, attempt, actor, reason, data)"
)


def storable(facts: Any) -> dict[str, Any]:
    """The facts as a row can keep them.

    Raises:
        BadFacts: they are not JSON, or not what PostgreSQL takes for it.
    """
    try:
        kept = {} if facts is None else dict(facts)
        text = json.dumps(kept, allow_nan=False, ensure_ascii=False)
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise errors.BadFacts(f"These facts cannot be kept: {error}") from error
    if "\\u0000" in text:
        raise errors.BadFacts("These facts cannot be kept: there is a NUL in them.")
    return kept


@functools.cache
def _columns(model: type[django_models.Model], *, facts: bool = True) -> list[str]:
    columns = [str(field.column) for field in model._meta.concrete_fields]
    return [column for column in columns if facts or column != "facts"]


@functools.cache
def _json_columns(model: type[django_models.Model]) -> dict[str, int]:
    return {
        str(field.column): index
        for index, field in enumerate(model._meta.concrete_fields)
        if isinstance(field, django_models.JSONField)
    }


_STORED = "SELECT 1 FROM sagas_signal WHERE step_key = %s AND fate = %s LIMIT 1"


def _lock_statement(saga_id: uuid.UUID | str, step: str) -> Statement:
    """The lock of a worker, which wants to know of the circuits too before it makes an attempt.

    If it has to wait for the lock, they are told as they were before. That is good enough: one may open at
    any time between the look at it and the call.
    """
    return Statement(_lock_sql(True, f", {circuits.open_for('g.id::text')}"), [step, saga_id])


@functools.cache
def _lock_sql(named: bool, more: str = "", *, facts: bool = True, many: bool = False) -> str:
    saga = ", ".join(f"g.{column}" for column in _columns(SagaInstance, facts=facts))
    step = ", ".join(f"s.{column}" for column in _columns(StepInstance))
    which = (
        "s.name = %s"
        if named
        else "s.position = LEAST(g.position, (SELECT max(position) FROM sagas_step WHERE saga_id = g.id))"
    )
    # Both rows are locked, not only the instance's: after a wait PostgreSQL reads anew only the
    # rows that it locks, and a step read from the older snapshot would be a lie (D7).
    return (
        f"SELECT {saga}, {step}, clock_timestamp(){more} FROM sagas_saga g"
        f" JOIN sagas_step s ON s.saga_id = g.id AND {which}"
        f" WHERE g.id = {'ANY (%s)' if many else '%s'} FOR UPDATE OF g, s"
    )


def _from_row(model: type[_Model], row: tuple[Any, ...], *, facts: bool = True) -> _Model:
    """The row as its model, as `Model.from_db` makes it, without the signals that nobody here listens to."""
    instance = model.__new__(model)
    instance._state = django_models.base.ModelState()
    instance._state.adding, instance._state.db = False, "default"
    fields = instance.__dict__
    fields.update(zip(_columns(model, facts=facts), row, strict=True))
    for name in _json_columns(model):
        if isinstance(fields.get(name), str):
            fields[name] = json.loads(fields[name])
    return instance
