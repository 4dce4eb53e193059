"""One run of a saga, on the engine and the database, with faults: what came of it, and how."""

import contextlib
import dataclasses
import datetime
import importlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeVar

from django.db import DatabaseError, connection, transaction

from sagas import engine, errors
from sagas.declaration import definition, registry
from sagas.declaration.states import Direction, SagaState, StepState
from sagas.engine import calls, transport
from sagas.models import Event, SagaInstance, Signal, StepInstance
from sagas.testing import clocks, crashes, memory_transport
from sagas.testing.trials import faults, worlds

MOST = 1500
"""So many messages, sweeps and answers: then it has not come to an end."""

RESUMES = 4
"""How often an operator has a saga that needs attention tried again, each time when all is healed."""

Function = Literal["do", "undo", "ask"]
AnyFault = TypeVar("AnyFault", bound=faults.Fault)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Subject:
    """What is tried."""

    saga: definition.Saga
    begin: Callable[[], object] | None = None
    inputs: Mapping[str, Any] | None = None
    furnish: Callable[[], object] | None = None
    world: worlds.World | None = None
    told: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    outside: Mapping[str, type[Exception] | Exception] = dataclasses.field(default_factory=dict)
    check: Callable[[SagaInstance], object] | None = None
    known: dict[object, Any] = dataclasses.field(default_factory=dict, compare=False)
    """What runs without a fault came to: one is enough for many trials, in the same world."""

    def start(self) -> object:
        """Begin the saga."""
        if self.begin is not None:
            return self.begin()
        with transaction.atomic():
            return engine.begin(
                self.saga, key=f"trial-{self.saga.name}"[:100], inputs=dict(self.inputs or {}), actor="trial"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """A line of a timeline."""

    after: datetime.timedelta
    who: str
    step: str = ""
    attempt: int | None = None
    what: str
    fault: bool = False


@dataclasses.dataclass(kw_only=True)
class Outcome:
    """What came of a run."""

    ends: str = ""
    """The saga's state; empty where it never began."""

    before: worlds.Seen = dataclasses.field(default_factory=list)
    after: worlds.Seen = dataclasses.field(default_factory=list)
    problem: str = ""
    """What is wrong whatever was expected: it never ends, or a function met a bug."""

    partial: bool = False
    """Whether it is completed though some of its children are not."""

    met: set[faults.Fault] = dataclasses.field(default_factory=set)
    """The faults that came to happen."""

    timeline: list[Entry] = dataclasses.field(default_factory=list)


class Halt(BaseException):
    """The run is stopped where a function would be called: somebody else calls it."""

    def __init__(self, step: definition.Step, row: StepInstance) -> None:
        self.step, self.row = step, row


class Bug(Exception):
    """A bug, says the trial."""


class Run:
    """One run.

    Arguments:
        subject: what is tried.
        wrong: what goes wrong.
        inline: whether a message carries the saga on for as long as it goes.
        halt: the step whose first `do` is not called: `Halt` is raised in its place.
    """

    def __init__(
        self, subject: Subject, wrong: Sequence[faults.Fault] = (), *, inline: bool = False, halt: str = ""
    ) -> None:
        self.subject, self.wrong, self.halt = subject, tuple(wrong), halt
        self.broker = _Broker(self, inline=(lambda: True) if inline else None)
        self.watch = worlds.Watch(subject.world, subject.saga)
        self.saga: SagaInstance | None = None
        self.outcome = Outcome()
        self.shifted = datetime.timedelta(0)
        self.who = "the test"
        self.workers = 1
        self.deliveries = 0
        self.resumes = 0
        self.spoken: set[str] = set()
        self.meddled: set[faults.Fault] = set()
        self._called: Counter[tuple[str, str]] = Counter()
        self._read_to = 0
        self._plans: list[tuple[faults.Commit, crashes.Plan]] = []

    def play(self) -> Outcome:
        """From the beginning to the end."""
        if self.subject.furnish is not None:
            self.subject.furnish()
        self.outcome.before = self.watch.look()
        last = Event.objects.order_by("-id").values_list("id", flat=True).first()
        self._read_to = last or 0
        try:
            with transport.use(self.broker), self._hooked(), self._crashing():
                self._begin()
                if self.saga is not None:
                    self.carry_on()
                    self._come_again()
        finally:
            self._read_events()
        self._conclude()
        return self.outcome

    # --- From the beginning to the end --------------------------------------------------------------

    def _begin(self) -> None:
        self.note(f"begins {self.subject.saga.name}")
        if self.of(faults.Commit):
            with self._survived():
                self.subject.start()
        else:
            self.subject.start()
        found = SagaInstance.objects.filter(name=self.subject.saga.name, parent_id=None, finished_at=None)
        self.saga = found.order_by("-created_at").first()
        self._read_events()

    def carry_on(self) -> None:
        """Carry messages, answer what is waited for, let time pass, until it has ended."""
        for _ in range(MOST):
            assert self.saga is not None
            self.saga.refresh_from_db()
            if self._over():
                return
            with self._survived():
                self._go_on()
            self._read_events()
        assert self.saga is not None
        self.outcome.problem = self.outcome.problem or f"It never comes to an end: it is {self.saga.state}."

    def _over(self) -> bool:
        saga = self.saga
        assert saga is not None
        if self.outcome.problem:
            return True
        if not saga.is_final or self.broker.waiting or self.broker.held or self._late_callers():
            return False
        return not Signal.objects.filter(wake_at__isnull=False).exists()

    def _go_on(self) -> None:
        if self.broker.waiting:
            self._meddle()
            if self.broker.waiting:
                self.deliveries += 1
                self.who = f"worker {self.workers}"
                self.broker.deliver()
            return
        assert self.saga is not None
        if self.broker.held and (self.broker.swept or self.saga.is_final):
            self.broker.release()
        elif self.saga.is_final and (late := self._late_callers()):
            self._tell(*late[0])
        elif self.saga.is_final or not self._speak():
            self._sweep()

    def _sweep(self) -> None:
        if self.saga is not None and self.saga.state == SagaState.NEEDS_ATTENTION:
            self._resume()
            return
        self.who = "the sweep"
        left = clocks.until_due()
        if left is None:
            assert self.saga is not None
            self.outcome.problem = f"It is {self.saga.state}, and nobody will ever look at it again."
            return
        self.pass_time(left + clocks.A_MOMENT)
        engine.sweep()
        self.broker.swept = True

    def _resume(self) -> None:
        assert self.saga is not None
        self.who = "an operator"
        why = (self.saga.attention or {}).get("step") or "it"
        self.resumes += 1
        if self.resumes > RESUMES:
            self._read_events()
            again = f"It needs attention because of {why}, however often it is resumed"
            self.outcome.problem = f"{bug} {again}." if (bug := self._bug()) else again + self._said()
            return
        child = self._needy_child()
        with contextlib.suppress(errors.NotAllowed, errors.MovedOn):
            engine.resume(child.pk, seen=engine.look(child.pk), actor="operator", reason="all is well again")

    def _needy_child(self) -> SagaInstance:
        """The saga that needs a person: a child before its parent."""
        needy = [one for one in self.family() if one.state == SagaState.NEEDS_ATTENTION]
        return needy[-1]

    def _said(self) -> str:
        assert self.saga is not None
        events = Event.objects.filter(saga__in=[one.pk for one in self.family()], data__has_key="error")
        last = events.order_by("-id").first()
        if last is None:
            return "."
        return f": {last.subject} raised {last.data['error']}: {last.data.get('message', '')}"

    def _meddle(self) -> None:
        """What somebody else does just before the next message."""
        for fault in self.of(faults.Meanwhile):
            if fault.number == self.deliveries + 1 and fault not in self.meddled:
                self.meddled.add(fault)
                self.meet(fault)
                if fault.what == "cancel":
                    self.cancel()
                else:
                    self.who = "the clock"
                    assert self.saga is not None
                    self.note("the deadline passes", fault=True)
                    back = self.saga.direction == Direction.BACKWARD
                    declared = self.subject.saga
                    self.pass_time(declared.undo_deadline if back else declared.deadline)
                    engine.sweep()

    def cancel(self) -> None:
        """Its owner does not want it any more."""
        assert self.saga is not None
        self.who = "its owner"
        try:
            engine.cancel(self.saga.pk, actor="owner", reason="changed my mind")
            self.note("cancels it", fault=True)
        except errors.TooLate:
            self.note("cancels it: too late", fault=True)

    def _come_again(self) -> None:
        for fault in self.of(faults.Again):
            assert self.saga is not None
            self.meet(fault)
            self.who = "the broker"
            self.note("delivers every message once more", fault=True)
            for message in list(self.broker.sent):
                with self._survived():
                    self.broker.carry_out(message)
            with self._survived():
                self.broker.deliver_all()

    def _conclude(self) -> None:
        outcome = self.outcome
        if self.saga is not None:
            self.saga.refresh_from_db()
            outcome.ends = self.saga.state
            outcome.partial = any(one.state != SagaState.COMPLETED for one in self.family()[1:])
        outcome.after = self.watch.look(self.names())
        if self.broker.bugs and not outcome.problem:
            outcome.problem = f"The engine met {self.broker.bugs[0]!r}."
        if not outcome.problem:
            outcome.problem = self._bug()
        if not outcome.problem and self.subject.check is not None and self.saga is not None:
            try:
                self.subject.check(self.saga)
            except AssertionError as failed:
                outcome.problem = f"It is {outcome.ends}, and the test's own check fails: {failed}"

    def _bug(self) -> str:
        """What a function raised that the declaration does not name, if one did."""
        about = Event.objects.filter(saga__in=[one.pk for one in self.family()], data__kind="bug")
        for event in about.order_by("id"):
            if event.data.get("error") != Bug.__name__:
                function = "undo" if event.kind.startswith("undo.") else "do"
                return (
                    f"{function} of {event.subject} raised {event.data.get('error')}, which the declaration"
                    f" does not name: {event.data.get('message', '').rstrip('.')}."
                )
        return ""

    # --- Those who answer ---------------------------------------------------------------------------

    def _speak(self) -> bool:
        """Whether somebody outside had something to say to it, or to a child."""
        assert self.saga is not None
        if not memory_transport.rests(self.saga) or self.saga.state == SagaState.NEEDS_ATTENTION:
            return False
        return any(self._speak_to(one) for one in self.family())

    def _speak_to(self, saga: SagaInstance) -> bool:
        if saga.direction != Direction.FORWARD or saga.state != SagaState.RUNNING:
            return False
        waiting = StepInstance.objects.filter(saga_id=saga.pk, state=StepState.WAITING)
        for row in waiting.order_by("position"):
            step = saga.definition.step(row.name)
            place = self.place(row)
            how = next((fault for fault in self.of(faults.Told) if fault.step == place), None)
            if isinstance(step, definition.Child) or row.key in self.spoken:
                continue
            if how is not None and how.how == "never":
                self._meet_once(how, "says nothing")
                continue
            if isinstance(step, definition.Approval):
                self._answer(saga, row, place, how)
            elif how is not None and how.how == "late":
                self.meet(how)
                self.cancel()
            else:
                self._tell(row, how)
            # Whoever was not heard, because the one who listened died, says it again.
            self.spoken.add(row.key)
            return True
        return False

    def _answer(self, saga: SagaInstance, row: StepInstance, place: str, how: faults.Told | None) -> None:
        self.who = "a person"
        if how is not None and how.how == "no":
            self.meet(how)
            self.note("says no", step=place, fault=True)
            engine.refuse(saga.pk, row.name, actor="somebody", reason="no, says the trial")
            return
        step = saga.definition.step(row.name)
        given = self.subject.told.get(place, {})
        facts = given(key=row.key) if callable(given) else given
        self.note("says yes", step=place)
        for number in range(getattr(step, "persons", 1)):
            engine.approve(saga.pk, row.name, actor=f"person {number + 1}", facts=dict(facts or {}))

    def _late_callers(self) -> list[tuple[StepInstance, faults.Told]]:
        """Those who say what is not wanted any more."""
        late = [fault for fault in self.of(faults.Told) if fault.how == "late" and fault in self.outcome.met]
        rows = [*StepInstance.objects.filter(saga_id__in=[one.pk for one in self.family()])] if late else []
        return [
            (row, fault)
            for fault in late
            for row in rows
            if self.place(row) == fault.step
            and row.key in self.spoken
            and f"late {row.key}" not in self.spoken
        ]

    def _tell(self, row: StepInstance, how: faults.Told | None) -> None:
        """Have the callback come that ends a wait."""
        self.who = "the provider"
        place = self.place(row)
        late = how is not None and how.how == "late"
        if late:
            self.spoken.add(f"late {row.key}")
        if how is not None and how.how == "no":
            self.meet(how)
            self.note("says that it will not come", step=place, fault=True)
            engine.receive(
                source="trial", event_id=f"{row.key} no", key=row.key, refused="no, says the trial"
            )
            return
        self.note("says that it has happened", step=place, fault=how is not None)
        self._say(row, place, "1")
        if how is not None and how.how == "twice":
            self.meet(how)
            self.note("says it again", step=place, fault=True)
            self._say(row, place, "1")
            self.note("says it under another id", step=place, fault=True)
            self._say(row, place, "2")

    def _say(self, row: StepInstance, place: str, event_id: str) -> None:
        given = self.subject.told.get(place, {})
        facts = given(key=row.key) if callable(given) else given
        if facts is None:
            return  # It has told the engine itself.
        step = SagaInstance.objects.get(pk=row.saga_id).definition.step(row.name)
        assert step.wait is not None, "only a step with a wait waits"
        facts = {step.wait.until: True, **facts}
        engine.receive(source="trial", event_id=f"{row.key} {event_id}"[:100], key=row.key, facts=facts)

    # --- The functions ------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _hooked(self) -> Iterator[None]:
        """The trial stands between the engine and the functions, and between these and their providers."""
        do, undo, ask = calls.do, calls.undo, calls.ask

        def to_do(step: definition.Step, row: StepInstance) -> Any:
            return self._call("do", row.saga.definition, step, row, lambda: do(step, row))

        def to_undo(declared: definition.Saga, step: definition.Step, row: StepInstance) -> Any:
            return self._call("undo", declared, step, row, lambda: undo(declared, step, row))

        def to_ask(declared: definition.Saga, step: definition.Step, row: StepInstance) -> Any:
            return self._call("ask", declared, step, row, lambda: ask(declared, step, row))

        calls.do, calls.undo, calls.ask = to_do, to_undo, to_ask
        try:
            with contextlib.ExitStack() as stack:
                for path, error in self.subject.outside.items():
                    stack.enter_context(cut(path, error, self._outside))
                yield
        finally:
            calls.do, calls.undo, calls.ask = do, undo, ask

    def _outside(self, path: str, call: Callable[[], Any], error: Exception) -> Any:
        self._called["outside", path] += 1
        for fault in self.of(faults.Outside):
            if fault.path == path and fault.time == self._called["outside", path]:
                self.meet(fault)
                if fault.how == "lost":
                    call()
                self.note(str(fault), fault=True)
                raise error
        return call()

    def _call(
        self, function: Function, declared: definition.Saga, step: definition.Step, row: StepInstance,
        real: Callable[[], Any],
    ) -> Any:  # fmt: skip
        place = self.place(row)
        if self.halt == place and function == "do":
            raise Halt(step, row)
        self._called[function, place] += 1
        time = self._called[function, place]
        wrong = next(
            (
                fault
                for fault in self.of(faults.Answer)
                if (fault.function, fault.step) == (function, place) and fault.time in (0, time)
            ),
            None,
        )
        attempt = time
        if wrong is None:
            return self._well(function, step, row, place, attempt, real)
        self.meet(wrong)
        answer = wrong.answer
        if answer.startswith("outlive"):
            self.note(f"{function}: takes longer than its lease", step=place, attempt=attempt, fault=True)
            self._lose_the_lease(declared, step, cancelled="cancelled" in answer)
            answer = "outlive"
        if answer in ("lose", "perish", "perish, cancelled", "outlive"):
            result = self._well(function, step, row, place, attempt, real)
        if answer == "perish, cancelled":
            who = self.who
            self.cancel()
            self.who = who
        self.note(f"{function} {faults.ANSWERS[answer]}", step=place, attempt=attempt, fault=True)
        if answer in ("die", "perish", "perish, cancelled"):
            raise crashes.Crash
        if answer == "outlive":
            return result
        error = error_for(answer, declared, step, undo=function == "undo")
        raise error

    def _well(
        self, function: Function, step: definition.Step, row: StepInstance, place: str, attempt: int,
        real: Callable[[], Any],
    ) -> Any:  # fmt: skip
        try:
            result = real()
        except Exception as error:
            self.note(f"{function}: raises {said(error)}", step=place, attempt=attempt)
            raise
        nothing = function == "ask" and result is None
        self.note(f"{function}: {'finds nothing' if nothing else 'goes well'}", step=place, attempt=attempt)
        early = next((f for f in self.of(faults.Told) if f.step == place and f.how == "early"), None)
        if function == "do" and early is not None and row.key not in self.spoken:
            self.spoken.add(row.key)
            self.meet(early)
            who = self.who
            self._tell(row, early)
            self.who = who
        return result

    def _lose_the_lease(self, declared: definition.Saga, step: definition.Step, *, cancelled: bool) -> None:
        """It takes longer than its lease; meanwhile all the others go on, to the end."""
        who, workers = self.who, self.workers
        self.workers += 1
        lease = (
            registry.timeout(declared.name, step.name) + engine.LEASE_MARGIN + datetime.timedelta(seconds=1)
        )
        if cancelled:
            self.cancel()
        self.who = "the clock"
        self.pass_time(lease)
        engine.sweep()
        self._read_events()
        self.carry_on()
        self.who, self.workers = who, workers

    # --- Who dies -----------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _crashing(self) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            self._plans = [
                (
                    fault,
                    stack.enter_context(
                        crashes.crash_at(fault.number, before=fault.before, dead=fault.dead, statements=True)
                    ),
                )
                for fault in self.of(faults.Commit)
            ]
            yield

    @contextlib.contextmanager
    def _survived(self) -> Iterator[None]:
        """Whoever dies, the others go on."""
        try:
            yield
        except crashes.Crash:
            self._see_crashes()
            self.note("is gone, with all that it had not committed", fault=True)
            self.workers += 1
        except DatabaseError as error:
            self._see_crashes()
            self.note(f"breaks off: {said(error)}", fault=True)
        except (errors.NotAllowed, errors.MovedOn, errors.LostRace) as error:
            self.note(f"is told: {error}")
        else:
            self._see_crashes()

    def _see_crashes(self) -> None:
        for fault, plan in self._plans:
            if plan.met and fault not in self.outcome.met:
                self.meet(fault)
                self.note(str(fault), fault=True)

    # --- The report ---------------------------------------------------------------------------------

    def of(self, kind: type[AnyFault]) -> Iterable[AnyFault]:
        """The faults of that kind."""
        return [fault for fault in self.wrong if isinstance(fault, kind)]

    def meet(self, fault: faults.Fault) -> None:
        """It came to happen."""
        self.outcome.met.add(fault)

    def _meet_once(self, fault: faults.Told, what: str) -> None:
        if fault not in self.outcome.met:
            self.meet(fault)
            self.who = "the provider"
            self.note(what, step=fault.step, fault=True)

    def note(self, what: str, *, step: str = "", attempt: int | None = None, fault: bool = False) -> None:
        """Add a line to the timeline."""
        self.outcome.timeline.append(
            Entry(after=self.shifted, who=self.who, step=step, attempt=attempt, what=what, fault=fault)
        )

    def _read_events(self) -> None:
        if connection.in_atomic_block:
            return
        new = Event.objects.filter(id__gt=self._read_to).order_by("id")
        for event in new:
            self._read_to = event.pk
            moved = f"{event.from_state or 'new'} -> {event.to_state}" if event.to_state else ""
            if not event.subject and event.to_state:
                self.note(f"the saga is {event.to_state}")
            elif event.kind.startswith(
                ("undo.retry", "undo.failed", "step.retry", "step.failed", "step.unknown")
            ):
                kind = event.data.get("kind", "")
                why = "" if kind == event.to_state else kind
                self.note(f"{event.kind}: {moved} {why}".rstrip(), step=event.subject, attempt=event.attempt)

    def pass_time(self, by: datetime.timedelta) -> None:
        """Let so much time pass."""
        clocks.pass_time(by)
        self.shifted += by

    def family(self) -> list[SagaInstance]:
        """The saga, its children, and theirs."""
        if self.saga is None:
            return []
        found = [SagaInstance.objects.get(pk=self.saga.pk)]
        if not self.subject.saga.children:
            return found
        for one in found:
            found += SagaInstance.objects.filter(parent_id=one.pk).order_by("parent_step", "parent_item")
        return found

    def names(self) -> dict[str, str]:
        """What stands for each id in a snapshot."""
        named: dict[str, str] = {}
        for one in self.family():
            above = named.get(str(one.parent_id), "{saga}")
            named[str(one.pk)] = f"{above}.{one.parent_step}.{one.parent_item}" if one.parent_id else "{saga}"
        return named

    def place(self, row: StepInstance) -> str:
        """How faults name a step: after the steps of its parents, without which child it is."""
        words, saga = [row.name], SagaInstance.objects.get(pk=row.saga_id)
        while saga.parent_id is not None:
            words.append(saga.parent_step or "")
            saga = SagaInstance.objects.get(pk=saga.parent_id)
        return ".".join(reversed(words))


class _Broker(memory_transport.MemoryTransport):
    """Messages in memory, of which those are lost, doubled or held back that the faults name."""

    def __init__(self, run: Run, *, inline: Callable[[], bool] | None) -> None:
        super().__init__(inline=inline, redeliver=True)
        self.run = run
        self.held: list[memory_transport.Message] = []
        self.swept = False
        """Whether the sweep has come since a message was held back."""

        self.probes: dict[str, memory_transport.Probe] = {}
        self.queues = _queues(run.subject.saga)

    def probe(self, queue: str, sent_at: datetime.datetime) -> None:
        """It says whether a queue has a worker, and is no part of a saga: it comes back by itself."""
        if queue in self.queues:
            self.probes[queue] = memory_transport.Probe(queue=queue, sent_at=sent_at)

    def deliver(self) -> bool:
        """Deliver a message; probes have come back by then."""
        while self.probes:
            self.carry_out(self.probes.popitem()[1])
        return super().deliver()

    def put(self, message: memory_transport.Message) -> None:
        """Take in a message, as the faults have it."""
        self.sent.append(message)
        number = len(self.sent)
        for fault in self.run.of(faults.Message):
            if fault.number in (0, number):
                self.run.meet(fault)
                self.run.note(f"message {number} is {fault.how}", fault=True)
                if fault.how == "doubled":
                    self.waiting += [message, message]
                elif fault.how == "held back":
                    self.held.append(message)
                    self.swept = False
                return
        self.waiting.append(message)

    def release(self) -> None:
        """What was held back arrives at last."""
        self.waiting += self.held
        self.held = []


def _queues(saga: definition.Saga) -> set[str]:
    """Where the saga's steps are carried out, and those of its children."""
    own = {step.queue for step in saga.all_steps if step.has_worker}
    return own.union(*(_queues(step.child) for step in saga.children))


def said(error: Exception) -> str:
    """An error in one line."""
    return f"{type(error).__name__}: {error}".partition("\n")[0]


def error_for(answer: str, declared: definition.Saga, step: definition.Step, *, undo: bool) -> Exception:
    """The error that says so, of those that the declaration names; a bug where it names none."""
    if answer == "break":
        return Bug("a bug, says the trial")
    named = errors_of(answer, declared, step, undo=undo)
    return made(named[0]) if named else Bug("nothing says so, so it is a bug")


def errors_of(
    answer: str, declared: definition.Saga, step: definition.Step, *, undo: bool
) -> list[type[Exception]]:
    """The errors of the declaration that mean that answer, and nothing that is looked at before."""
    before = (*declared.refused, *declared.outage, *declared.mismatch)
    if answer == "fail":
        return list(declared.refused)
    if answer in ("lose", "drop"):
        return [each for each in declared.unknown if not issubclass(each, before)]
    if answer == "flake":
        on = declared.retry_of(step, undo=undo).on
        return [each for each in on if not issubclass(each, (*before, *declared.unknown))]
    return []


def made(kind: type[Exception] | Exception) -> Exception:
    """An error of that class, whatever its constructor wants."""
    if isinstance(kind, Exception):
        return kind
    try:
        return kind("says the trial")
    except TypeError:
        return kind.__new__(kind, "says the trial")


@contextlib.contextmanager
def cut(
    path: str, error: type[Exception] | Exception, instead: Callable[[str, Callable[[], Any], Exception], Any]
) -> Iterator[None]:
    """Stand between the services and a function that calls a provider.

    Arguments:
        path: where it is found when it is called, such as `trips.bank.charge` or `trips.bank.Client.post`.
        error: what it raises when no answer comes.
        instead: is called with the path, the call and that error.

    Raises:
        ValueError: there is no such thing.
    """
    owner, name = _owner(path)
    real = getattr(owner, name)
    own = name in vars(owner)
    before = vars(owner).get(name)

    def call(*args: Any, **given: Any) -> Any:
        return instead(path, lambda: real(*args, **given), made(error))

    def method(self: Any, *args: Any, **given: Any) -> Any:
        return instead(path, lambda: real(self, *args, **given), made(error))

    static = isinstance(before, staticmethod | classmethod)
    replaced = staticmethod(call) if static else method if isinstance(owner, type) else call
    setattr(owner, name, replaced)
    try:
        yield
    finally:
        if own:
            setattr(owner, name, before)
        else:
            delattr(owner, name)


def _owner(path: str) -> tuple[Any, str]:
    words = path.split(".")
    for length in range(len(words) - 1, 0, -1):
        try:
            found: Any = importlib.import_module(".".join(words[:length]))
        except ModuleNotFoundError:
            continue
        for word in words[length:-1]:
            found = getattr(found, word)
        if hasattr(found, words[-1]):
            return found, words[-1]
    raise ValueError(f"There is no {path!r} that a trial could stand in for.")
