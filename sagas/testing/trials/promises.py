"""What a step's functions promise, tried on each: idempotent by key, in any order, at the same time."""

import contextlib
import dataclasses
import functools
import threading
import time
import unittest
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from django.db import connection, transaction

from sagas import database
from sagas.declaration import definition
from sagas.engine import calls, transport
from sagas.models import StepInstance
from sagas.testing import crashes, memory_transport
from sagas.testing.trials import plans, reports, runs, worlds
from sagas.testing.trials.failed import Failed
from sagas.testing.trials.rows import Rows, stage

PATIENCE_S = 10
"""How long two calls at the same time may take."""

PROMISES = (
    "takes effect", "is undone", "is done once", "is undone once", "undo finds nothing", "undo comes first",
    "any order", "a crash", "at the same time", "is asked", "no answer comes", "is rolled back",
)  # fmt: skip
"""What promises may be chosen by."""

SAID = {
    "takes effect": "An action takes effect, and the world shows it.",
    "is undone": "An undo takes back what its action did, and no more.",
    "is done once": "An action takes effect once, however often it is called with its key.",
    "is undone once": "An undo takes effect once, however often it is called.",
    "undo finds nothing": "An undo is content to find nothing, and succeeds.",
    "undo comes first": "An undo leaves a tombstone: an action that comes after it is refused.",
    "any order": "Any order, and any number, of actions and undos nets to nothing, once undone.",
    "a crash": "A process may die within the function: called again it is done once, or undone.",
    "at the same time": "Two calls with one key at the same time are one; a call that is undone while it is "
    "under way is undone.",
    "is asked": "`ask` says None before the action, and its facts after it.",
    "no answer comes": "When no answer comes it may have happened: the saga calls the error `unknown`.",
    "is rolled back": "A local function has no effect outside of the transaction that it runs in.",
}
assert tuple(SAID) == PROMISES

OF_LOCAL = ("takes effect", "is undone", "is rolled back")
"""What the engine needs of a function that runs in its own transaction: it is called exactly once."""


@dataclasses.dataclass(frozen=True, repr=False)
class VerbTrial:
    """A step's functions, and one of their promises."""

    subject: runs.Subject
    place: plans.Place
    promise: str

    def __str__(self) -> str:
        return f"{self.place.name}: {self.promise}"

    def __repr__(self) -> str:
        return f"<{self}>"

    def run(self) -> None:
        """Carry the saga on up to the step, and then call its functions as the promise has it."""
        __tracebackhide__ = True
        with stage(self.subject.saga) as rows:
            failed = _Tried(self, rows).find()
        if failed is not None:
            raise Failed(failed)


def of(subject: runs.Subject, *, local: bool) -> Iterator[VerbTrial]:
    """Every promise of every step that a worker carries out."""
    for place in plans.places(subject.saga):
        if place.step.has_worker:
            for promise in PROMISES:
                if _concerns(promise, place.step, subject, local=local):
                    yield VerbTrial(subject, place, promise)


def _concerns(promise: str, step: definition.Step, subject: runs.Subject, *, local: bool) -> bool:
    if promise == "is rolled back":
        return not step.remote
    if promise == "is asked":
        return step.ask is not None
    if promise == "no answer comes":
        return step.remote and bool(subject.outside)
    if ("undo" in promise or promise == "any order") and step.undo is None:
        return False
    # A wait may be told of when all is undone: then it is undone once more.
    late = promise == "is undone once" and step.wait is not None
    return step.remote or local or late or promise in OF_LOCAL


class _Verb:
    """A step of a saga that has come so far, and calls of its functions, as the engine makes them."""

    def __init__(self, run: runs.Run, step: definition.Step, row: StepInstance) -> None:
        self.run, self.step, self.row = run, step, row
        self.declared = row.saga.definition
        self.calls = 0

    def call(self, function: str) -> Any:
        """Call it: a local one in a transaction, a remote one with none open."""
        self.calls += 1
        functions: dict[str, Callable[[], Any]] = {
            "do": lambda: calls.do(self.step, self.row),
            "undo": lambda: calls.undo(self.declared, self.step, self.row),
            "ask": lambda: calls.ask(self.declared, self.step, self.row),
        }
        number = self.calls
        try:
            with contextlib.nullcontext() if self.step.remote else transaction.atomic():
                answer = functions[function]()
        except crashes.Crash:
            self._note(f"{function}: its process dies", number, fault=True)
            raise
        except Exception as error:
            self._note(f"{function}: raises {runs.said(error)}", number)
            raise
        if function == "do" and isinstance(answer, dict):
            self.row.facts = answer
        nothing = function == "ask" and answer is None
        self._note(f"{function}: {'finds nothing' if nothing else 'goes well'}", number)
        return answer

    def _note(self, what: str, number: int, *, fault: bool = False) -> None:
        self.run.note(what, step=self.step.name, attempt=number, fault=fault)

    def look(self) -> worlds.Seen:
        """The world as it is now."""
        return self.run.watch.look(self.run.names())


class _Broken(Exception):
    """The promise is not kept; the text says how."""


class _AnotherWorld(Exception):
    """The world is another one than when it was first seen what the action does."""


class _Tried:
    """Tries one promise, in as many runs as that takes."""

    def __init__(self, trial: VerbTrial, rows: Rows) -> None:
        self.trial, self.rows = trial, rows
        self.run: runs.Run | None = None
        self.before: worlds.Seen = []
        self.done: worlds.Seen = []

    def find(self) -> str | None:
        """The report of the first, and so the shortest, that is broken; None if it is kept."""
        try:
            return self._broken()
        except _AnotherWorld:
            del self.trial.subject.known[self.trial.place.name]
            self.done = []
            return self._broken()

    def _broken(self) -> str | None:
        try:
            if not self._known():
                self._takes_effect()
            if self.trial.promise != "takes effect":
                getattr(self, "_" + self.trial.promise.replace(" ", "_"))()
        except _Broken as broken:
            assert self.run is not None
            name = f"{self.trial.subject.saga}, {self.trial.place.name}"
            promise, timeline = SAID[self.trial.promise], self.run.outcome.timeline
            return reports.report(
                saga=name, promise=promise, problem=str(broken), wrong=(), timeline=timeline
            )
        return None

    def _known(self) -> bool:
        """Whether it has been seen what the action does; then what that was."""
        known = self.trial.subject.known.get(self.trial.place.name)
        if known is None or self.trial.promise == "takes effect":
            return False
        self.before, self.done = known
        return True

    # --- The promises -------------------------------------------------------------------------------

    def _takes_effect(self) -> None:
        with self._verb() as verb:
            self._well(verb, "do")
            self.done = verb.look()
        if worlds.differences(self.before, self.done):
            self.trial.subject.known[self.trial.place.name] = (self.before, self.done)
            return
        if self.trial.promise != "takes effect":
            raise unittest.SkipTest(f"the world does not show what {self.trial.place.name} does")
        raise _Broken("do went well, and the world looks as before. Say by `world=` what it does.")

    def _is_undone(self) -> None:
        self._sequence("do", "undo")

    def _is_done_once(self) -> None:
        self._sequence("do", "do", wanted="done")
        self._sequence("do", "do", "do", wanted="done")

    def _is_undone_once(self) -> None:
        self._sequence("do", "undo", "undo")

    def _undo_finds_nothing(self) -> None:
        self._sequence("undo")

    def _undo_comes_first(self) -> None:
        self._sequence("undo", "do")

    def _any_order(self) -> None:
        for order in (
            "undo undo do",
            "undo do undo",
            "do undo do",
            "do do undo",
            "do undo do undo",
            "undo do do undo",
        ):
            self._sequence(*order.split())

    def _a_crash(self) -> None:
        """In do, at each commit of it, and then again, or back; and in undo."""
        undoes = self.trial.place.step.undo is not None
        for then in ("do", "undo") if undoes else ("do",):
            self._at_each_commit((), "do", then)
        if undoes:
            self._at_each_commit(("do",), "undo", "undo")

    def _at_each_commit(self, first: Sequence[str], dies: str, then: str) -> None:
        for number in range(1, plans.PLACES):
            for before in (True, False):
                with self._verb() as verb:
                    for function in first:
                        self._well(verb, function)
                    plan = crashes.crash_at(number, before=before, statements=True)
                    with plan as crash, contextlib.suppress(crashes.Crash):
                        verb.call(dies)
                    if not crash.met:
                        return
                    where = f"{'before' if before else 'after'} commit {number} of {dies}"
                    verb.run.note(f"that was {where}", step=verb.step.name, fault=True)
                    self._well(verb, then)
                    how = f"its process died {where}, and {then} was called again"
                    self._stands(verb, "done" if then == "do" else "undone", how)

    def _at_the_same_time(self) -> None:
        self._beside("do", "do", "done")
        if self.trial.place.step.undo is not None:
            self._beside("do", "undo", "undone")
            self._beside("undo", "do", "undone")
            self._beside("undo", "undo", "undone", after="do")

    def _beside(self, first: str, second: str, wanted: str, after: str = "") -> None:
        """The second is called while the first stands at a commit, each in turn."""
        for number in range(1, plans.PLACES):
            for before in (True, False):
                with self._verb() as verb:
                    if after:
                        self._well(verb, after)
                    pair = _Beside(verb, first, second)
                    if not pair.hold_at(number, before=before):
                        return
                    where = f"{'before' if before else 'after'} commit {number}"
                    self._stands(verb, wanted, f"{second} was called while {first} stood {where}")

    def _is_asked(self) -> None:
        with self._verb() as verb:
            if self._well(verb, "ask") is not None:
                raise _Broken("ask tells of something before anything was done.")
        with self._verb() as verb:
            self._well(verb, "do")
            if self._well(verb, "ask") is None:
                raise _Broken("ask says that it never happened, and it has.")

    def _no_answer_comes(self) -> None:
        """From a provider, at each call of it: to do, and to undo."""
        undoes = self.trial.place.step.undo is not None
        for path in self.trial.subject.outside:
            for how in ("lost", "dropped"):
                self._cut(path, how, (), "do", "do")
                if undoes:
                    self._cut(path, how, (), "do", "undo")
                    self._cut(path, how, ("do",), "undo", "undo")

    def _cut(self, path: str, how: str, first: Sequence[str], function: str, then: str) -> None:
        for number in range(1, plans.PLACES):
            met: list[int] = []
            with self._verb() as verb:
                for each in first:
                    self._well(verb, each)
                count = [0]

                def instead(
                    path: str, call: Callable[[], Any], error: Exception, *, verb: _Verb = verb,
                    count: list[int] = count, met: list[int] = met, number: int = number,
                ) -> Any:  # fmt: skip
                    count[0] += 1
                    if count[0] != number:
                        return call()
                    met.append(number)
                    if how == "lost":
                        call()
                    verb.run.note(f"call {number} of {path} is {how}", fault=True)
                    raise error

                with runs.cut(path, self.trial.subject.outside[path], instead):
                    raised = self._raised(verb, function)
                if not met:
                    return
                self._is_named(verb, raised, function, how)
                self._well(verb, then)
                self._stands(verb, "done" if then == "do" else "undone", f"call {number} of {path} was {how}")

    def _is_named(self, verb: _Verb, raised: Exception | None, function: str, how: str) -> None:
        """Whether the declaration takes the error for what it is."""
        if raised is None:
            return
        declared, name = verb.declared, type(raised).__name__
        passing = declared.retry_of(verb.step, undo=function == "undo").on
        if isinstance(raised, tuple(declared.refused)):
            raise _Broken(
                f"{function} got no answer and raised {name}: that is a refusal, and it may have happened."
            )
        if isinstance(raised, (*declared.unknown, *declared.outage, *declared.mismatch)):
            return
        if not isinstance(raised, tuple(passing)):
            raise _Broken(
                f"{function} got no answer and raised {name}, which the declaration does not name: a bug."
            )
        if how == "lost" and function == "do":
            raise _Broken(
                f"do got no answer and raised {name}, which says that it did not happen: name it in"
                " `unknown`, for it may have happened."
            )

    def _is_rolled_back(self) -> None:
        with self._verb() as verb:
            self._rolled_back(verb, "do")
            self._stands(verb, "undone", "do was rolled back")
        if self.trial.place.step.undo is not None:
            with self._verb() as verb:
                self._well(verb, "do")
                self._rolled_back(verb, "undo")
                self._stands(verb, "done", "undo was rolled back")

    def _rolled_back(self, verb: _Verb, function: str) -> None:
        with transaction.atomic():
            self._well(verb, function)
            transaction.set_rollback(True)
        verb.run.note("the transaction is rolled back", step=verb.step.name, fault=True)

    # --- What they are made of ----------------------------------------------------------------------

    def _sequence(self, *functions: str, wanted: str = "undone") -> None:
        """Calls one after the other; an action behind an undo may be refused."""
        with self._verb() as verb:
            undone = False
            for function in functions:
                if function == "do" and undone:
                    self._raised(verb, function)
                elif self.trial.place.step.remote or function == "undo" or not verb.calls:
                    self._well(verb, function)
                else:
                    self._raised(verb, function)
                undone = undone or function == "undo"
            self._stands(verb, wanted, ", ".join(functions) + " were called")

    def _well(self, verb: _Verb, function: str) -> Any:
        try:
            return verb.call(function)
        except Exception as error:
            before = "" if verb.calls == 1 else ", called once more,"
            raise _Broken(f"{function}{before} raised {runs.said(error)}") from None

    def _raised(self, verb: _Verb, function: str) -> Exception | None:
        try:
            verb.call(function)
        except Exception as error:
            return error
        return None

    def _stands(self, verb: _Verb, wanted: str, how: str) -> None:
        """Whether the world is as it is once the action is done, or as it was before."""
        found = verb.look()
        if wanted == "undone" and verb.run.watch.guessed:
            marked = verb.run.watch.marks(found)
            standing = {repr(item) for item in verb.run.watch.marks(self.done)} - {
                repr(item) for item in verb.run.watch.marks(self.before)
            }
            found = [item for item in found if item not in marked or repr(item) in standing]
            expected = [item for item in self.before if item not in verb.run.watch.marks(self.before)]
        else:
            expected = self.done if wanted == "done" else self.before
        if apart := worlds.differences(expected, found):
            said = "as when it is done once" if wanted == "done" else "as before"
            lines = "\n".join(f"  {line}" for line in apart.lines())
            raise _Broken(f"The world is not {said} ({how}):\n{lines}")

    @contextlib.contextmanager
    def _verb(self) -> Iterator[_Verb]:
        """The saga, carried on up to the step, in a world that is as at the beginning."""
        self.rows.put_back()
        subject = self.trial.subject
        self.run = run = runs.Run(subject, halt=self.trial.place.name)
        try:
            run.play()
        except runs.Halt as halt:
            step, row = halt.step, halt.row
        else:
            raise unittest.SkipTest(f"{self.trial.place.name} is never called with these inputs")
        run.outcome.timeline.clear()
        run.who = "the test"
        verb = _Verb(run, step, row)
        before = verb.look()
        if self.done and before != self.before:
            raise _AnotherWorld
        self.before = before
        with transport.use(memory_transport.MemoryTransport()):
            yield verb


class _Beside:
    """Two calls at the same time: the first stands at a commit while the second goes as far as it can."""

    def __init__(self, verb: _Verb, first: str, second: str) -> None:
        self.verb, self.first, self.second = verb, first, second
        self.held, self.go, self.started = threading.Event(), threading.Event(), threading.Event()
        self.pid = 0
        self.commits = 0
        self.failed: list[BaseException] = []
        """What ended a call that the function did not raise: the trial has tried nothing."""

    def hold_at(self, number: int, *, before: bool) -> bool:
        """Whether the first came as far as that commit."""

        def meet(commit: Callable[[], Any]) -> None:
            self.commits += 1
            here = self.commits == number
            if here and before:
                self._stand()
            commit()
            if here and not before:
                self._stand()

        def one() -> None:
            with crashes.at_each_commit(meet, statements=True):
                self._call(self.first)

        first = threading.Thread(target=functools.partial(self._alone, one))
        first.start()
        self._until(lambda: self.held.is_set() or not first.is_alive())
        met = self.held.is_set()
        second = threading.Thread(target=functools.partial(self._alone, self._other))
        if met:
            second.start()
            self._until(lambda: not second.is_alive() or self._waits())
        self.go.set()
        for thread in (first, second) if met else (first,):
            thread.join(PATIENCE_S)
            if thread.is_alive():
                raise _Broken(
                    f"{self.first} and {self.second}, called at the same time, wait for each other."
                )
        if self.failed:
            raise self.failed[0]
        return met

    def _stand(self) -> None:
        self.verb.run.note(f"{self.first} stands at its commit {self.commits}", fault=True)
        self.held.set()
        self.go.wait(PATIENCE_S)

    def _other(self) -> None:
        connection.ensure_connection()
        self.pid = connection.connection.info.backend_pid
        self._call(self.second)

    def _call(self, function: str) -> None:
        try:
            self.verb.call(function)
        except Exception as error:
            if database.is_away(error):
                raise  # It was not tried.
            # What it answers is in the timeline; what came of it, in the world.

    def _alone(self, call: Callable[[], None]) -> None:
        """Call it in a thread, whose end by an error the one that waits for it is to hear of."""
        try:
            call()
        except BaseException as error:
            self.failed.append(error)
        finally:
            connection.close()

    def _waits(self) -> bool:
        """Whether the second waits for a lock that the first holds."""
        with connection.cursor() as cursor:
            cursor.execute("SELECT cardinality(pg_blocking_pids(%s)) > 0", [self.pid])
            return bool(cursor.fetchone()[0])

    @staticmethod
    def _until(holds: Callable[[], bool]) -> None:
        until = time.monotonic() + PATIENCE_S
        while not holds() and time.monotonic() < until:
            time.sleep(0.005)
