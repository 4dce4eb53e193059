"""Several statements in one round trip, by libpq's pipeline mode.

psycopg's `Connection.pipeline()` does the same for its cursors, and talks to the server each time that a
statement enters it: that takes more of the processor than the round trips that it saves. Here all statements
of a block enter first. What is used of psycopg is its documented wrapper of libpq (`psycopg.pq`), its
conversion of values (`psycopg.adapt`), its way to wait, and one thing that it does not document: when it has
the server forget all prepared statements (`Prepared`).
"""

import dataclasses
import functools
import itertools
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import psycopg
from psycopg import abc, adapt, errors, generators, pq


@dataclasses.dataclass(frozen=True)
class Statement:
    """A statement, with `%s` for each parameter; one without any begins or ends a transaction."""

    text: str
    parameters: Sequence[Any] = ()


COMMIT = Statement("COMMIT")
COMMIT_AND_CHAIN = Statement("COMMIT AND CHAIN")
ROLLBACK_AND_CHAIN = Statement("ROLLBACK AND CHAIN")
"""Which begin the next transaction at once."""

BETWEEN_STATEMENTS = (pq.TransactionStatus.INTRANS, pq.TransactionStatus.INERROR)
"""In a transaction, whole or failed, that waits for its next statement."""

_BEGIN = Statement("BEGIN")
_FAILED = (pq.ExecStatus.FATAL_ERROR, pq.ExecStatus.PIPELINE_ABORTED)


class Prepared:
    """The statements that are prepared on a connection, which spares the server most of its work on them.

    psycopg prepares statements itself, and after a rollback, one to a savepoint included, it deallocates all
    that there are: then those here are gone too. It tells nobody, so its method that decides so is wrapped.
    Where there is no such method, or its user wants nothing prepared, nothing is.
    """

    def __init__(self, connection: "psycopg.Connection[Any]") -> None:
        self.names: dict[Any, bytes] = {}
        """By text and types of parameters."""

        self._count = 0
        manager: Any = getattr(connection, "_prepared", None)
        clear = getattr(manager, "clear", None)
        self.unused = connection.prepare_threshold is None or clear is None
        if clear is not None:
            # No reference back to the connection: it is to be closed when nobody else holds it.
            manager.clear = functools.partial(self._forget, clear)

    def new_name(self) -> bytes:
        """A name that was never given on this connection."""
        self._count += 1
        return f"sagas_{self._count}".encode()

    def _forget(self, clear: Callable[[], bool]) -> bool:
        deallocates = clear()
        if deallocates:
            self.names.clear()
        return deallocates


_prepared: "weakref.WeakKeyDictionary[psycopg.Connection[Any], Prepared]" = weakref.WeakKeyDictionary()

Row = tuple[Any, ...]


def send(connection: "psycopg.Connection[Any]", statements: Sequence[Statement]) -> list[Row | None]:
    """Carry out the statements one after the other; if one fails, none behind it is carried out.

    Outside a transaction one is begun first, as psycopg does for a connection that does not commit by itself.

    Arguments:
        connection: which is not used by anybody else meanwhile.
        statements: one at least.

    Returns:
        The first row that each of them gave; None for one that gave none.

    Raises:
        psycopg.Error: of the first statement that failed.
    """
    pgconn = connection.pgconn
    wanted = len(statements)
    if pgconn.transaction_status == pq.TransactionStatus.IDLE:
        statements = [_BEGIN, *statements]
    known = _prepared.get(connection)
    if known is None:
        known = _prepared[connection] = Prepared(connection)
    new: dict[Any, bytes] = {}
    transformer = adapt.Transformer(connection)
    pgconn.enter_pipeline_mode()
    try:
        answers = [_enter(pgconn, transformer, statement, known, new) for statement in statements]
        pgconn.pipeline_sync()
        results = connection.wait(_talk(pgconn))
    finally:
        if pgconn.status == pq.ConnStatus.OK:
            pgconn.exit_pipeline_mode()
    for result in results:
        if result.status in _FAILED:
            raise errors.error_from_result(result, encoding=connection.info.encoding)
    known.names.update(new)
    ends = list(itertools.accumulate(answers))
    return [_first_row(transformer, results[end - 1]) for end in ends[-wanted:]]


def _first_row(transformer: abc.Transformer, result: pq.abc.PGresult) -> Row | None:
    if not result.ntuples:
        return None
    transformer.set_pgresult(result)
    return transformer.load_row(0, tuple)


def _enter(
    pgconn: pq.abc.PGconn,
    transformer: abc.Transformer,
    statement: Statement,
    known: Prepared,
    new: dict[Any, bytes],
) -> int:
    """Put a statement into the pipeline; it is prepared first, if this connection prepares any.

    Returns:
        How many results it will have: the last one is its own, one before it is that of its preparation.
    """
    parameters = statement.parameters
    if not parameters:
        # pg_stat_statements loses count of a COMMIT that is prepared.
        pgconn.send_query_params(statement.text.encode(), None)
        return 1
    values = transformer.dump_sequence(parameters, [adapt.PyFormat.AUTO] * len(parameters))
    types, formats = transformer.types, transformer.formats
    if known.unused:
        text = _numbered(statement.text)
        pgconn.send_query_params(text, values, types, formats, pq.Format.BINARY)
        return 1
    key = (statement.text, types)
    name = known.names.get(key) or new.get(key)
    is_new = name is None
    if name is None:
        name = new[key] = known.new_name()
        pgconn.send_prepare(name, _numbered(statement.text), types)
    pgconn.send_query_prepared(name, values, formats, result_format=pq.Format.BINARY)
    return 1 + is_new


@functools.lru_cache(maxsize=256)
def _numbered(text: str) -> bytes:
    """The text with `$1`, `$2` and so on for its parameters, as the server wants it."""
    first, *rest = text.split("%s")
    return (first + "".join(f"${number}{part}" for number, part in enumerate(rest, 1))).encode()


def _talk(pgconn: pq.abc.PGconn) -> Any:
    """Send everything, and wait for the result of each, without the one that says that these are all."""
    yield from generators.send(pgconn)
    results: list[pq.abc.PGresult] = []
    while not results or results[-1].status != pq.ExecStatus.PIPELINE_SYNC:
        results += (yield from generators.fetch_many(pgconn))[:1]
    return results[:-1]
