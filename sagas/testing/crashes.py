"""A process that dies at its n-th commit, or loses the database there: each n in turn (after SQLite's tests).

A commit is where a crash matters: before it nothing of the transaction has happened, after it all of
it has, and no reply came. Nothing of what would have been done after the commit is done.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from django.db import DEFAULT_DB_ALIAS, OperationalError, connection, connections
from psycopg import pq

from sagas.engine import pipeline

IDLE = pq.TransactionStatus.IDLE
"""psycopg's word for a connection that is in no transaction."""

WRITES = ("INSERT", "UPDATE", "DELETE")
"""What a statement begins with that changes rows."""


class Crash(BaseException):
    """The process is gone. Not an Exception: no code may catch it and tidy up, for the dead do not."""


@dataclasses.dataclass(kw_only=True)
class Plan:
    """When to die, and how far it came."""

    at: int
    """The number of the commit, from 1; 0 is never."""

    before: bool
    """Whether the commit itself is lost, or only the knowledge of it."""

    dead: bool
    """Whether the process dies, or lives and sees its connection break."""

    commits: int = 0

    @property
    def met(self) -> bool:
        """Whether it came as far as that commit."""
        return 0 < self.at <= self.commits


@contextlib.contextmanager
def crash_at(
    commit: int, *, before: bool = False, dead: bool = True, statements: bool = False
) -> Iterator[Plan]:
    """Die at that commit of this thread's connection, counted from here.

    Arguments:
        commit: its number, from 1; 0 is never.
        before: whether the commit itself is lost, or only the knowledge of it.
        dead: whether the process dies, or lives and sees its connection break.
        statements: whether a statement that writes outside of any transaction is a commit as well.
    """
    plan = Plan(at=commit, before=before, dead=dead)

    def commit_or_die(commit: Callable[[], Any]) -> None:
        plan.commits += 1
        if plan.commits != plan.at:
            commit()
            return
        if not before:
            commit()
        _break_off()
        if dead:
            raise Crash
        raise OperationalError("server closed the connection unexpectedly, said the test")

    with at_each_commit(commit_or_die, statements=statements):
        yield plan


@contextlib.contextmanager
def at_each_commit(meet: Callable[[Callable[[], Any]], None], *, statements: bool = False) -> Iterator[None]:
    """Stand in front of every commit of this thread's connection.

    Arguments:
        meet: is called with the commit, in its place.
        statements: whether a statement that writes outside of any transaction is a commit as well.
    """
    wrapper = connections[DEFAULT_DB_ALIAS]
    real, patched = wrapper.commit, "commit" in vars(wrapper)

    def djangos() -> None:
        if wrapper.connection is not None and wrapper.connection.info.transaction_status == IDLE:
            real()  # The engine has sent its COMMIT together with what comes before and after it.
        else:
            meet(real)

    send = pipeline.send

    def engines(connection: Any, statements: Sequence[pipeline.Statement]) -> Any:
        ends = pipeline.COMMIT in statements or pipeline.COMMIT_AND_CHAIN in statements
        if not ends or connection is not wrapper.connection:
            return send(connection, statements)
        answer = []
        meet(lambda: answer.append(send(connection, statements)))
        return answer[0]

    def of_its_own(execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: Any) -> Any:
        if wrapper.in_atomic_block or str(sql).lstrip()[:6].upper() not in WRITES:
            return execute(sql, params, many, context)
        answer = []
        meet(lambda: answer.append(execute(sql, params, many, context)))
        return answer[0]

    # On the instance, in front of the class: other threads' connections are other processes'.
    wrapper.commit = djangos  # type: ignore[method-assign]
    pipeline.send = engines
    try:
        with wrapper.execute_wrapper(of_its_own) if statements else contextlib.nullcontext():
            yield
    finally:
        pipeline.send = send
        if patched:
            wrapper.commit = real  # type: ignore[method-assign]
        else:
            del wrapper.commit


def _break_off() -> None:
    """The connection is gone, and with it what was to be done after the commit."""
    connection.run_on_commit = []
    connection.run_commit_hooks_on_set_autocommit_on = False
    connection.close()
