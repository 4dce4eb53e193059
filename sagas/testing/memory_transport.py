"""A transport in memory: it carries the engine's messages as Celery does, only worse.

A step's message carries the rest of its chain, as in Celery: to lose it is to lose them all. What
goes wrong is chosen by a seeded `random.Random`, so that a run can be had again.
"""

import contextlib
import dataclasses
import datetime
import random
import uuid
from collections.abc import Callable, Sequence

from django.db import Error

from sagas import engine, errors
from sagas.declaration import definition
from sagas.declaration.states import Direction, SagaState, StepState
from sagas.engine import children, pacing, transport
from sagas.models import Event, SagaInstance, StepInstance
from sagas.testing import clocks, crashes


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepMessage:
    """A step's message."""

    dispatch: transport.Dispatch
    number: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChainError:
    """An error callback."""

    saga_id: uuid.UUID
    epoch: int
    step: str | None = None
    """Of a chain of one step that is done at once with others, that step."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LateCompensation:
    """The message that has undone what a late callback tells of."""

    signal_id: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Probe:
    """A probe of a queue."""

    queue: str
    sent_at: datetime.datetime


Message = StepMessage | ChainError | LateCompensation | Probe
"""What the engine sends."""


class MemoryLane:
    """The lane of one message: a worker that serves every queue, and has time."""

    def __init__(self, task_id: str, goes_on: Callable[[], bool]) -> None:
        self.task_id = task_id
        self.goes_on = goes_on
        self.taken = 0

    def takes(self, dispatch: transport.Dispatch) -> bool:
        """Whatever the declaration lets it take, for as long as the test lets it go on."""
        return dispatch.inline and bool(dispatch.messages) and self.goes_on()

    def enter(self, dispatch: transport.Dispatch) -> engine.WorkerContext:
        """It goes on."""
        self.taken += 1
        return engine.WorkerContext(task_id=f"{self.task_id}-{self.taken}", worker="memory")

    def turn(self) -> None:
        """A step has failed: the transport remembers nothing of it."""


class MemoryTransport:
    """A transport in memory: first in, first out, unless told otherwise.

    Arguments:
        inline: asked after each step: whether the same message carries the saga on with the next one. None:
            each step has a message of its own.
        chance: where every accident comes from.
        lose: the share of messages that never arrive.
        double: the share that arrive twice.
        shuffle: whether any message may come next, and not the oldest.
        redeliver: whether the message of a worker that died comes again, as with late acknowledgement.
        full: asked whether a queue is full: whether what begins stands in its line. None: it never is.
    """

    def __init__(
        self,
        *,
        inline: Callable[[], bool] | None = None,
        chance: random.Random | None = None,
        lose: float = 0,
        double: float = 0,
        shuffle: bool = False,
        redeliver: bool = False,
        full: Callable[[], bool] | None = None,
    ) -> None:
        self.chance = chance or random.Random(0)  # noqa: S311 - no secret
        self.inline = inline
        self.lose, self.double = lose, double
        self.shuffle, self.redeliver, self.full = shuffle, redeliver, full
        self.waiting: list[Message] = []
        self.sent: list[Message] = []
        """Everything ever sent: from here a message may come again, an hour late."""
        self.bugs: list[Exception] = []
        """What the engine let out that is neither the database's failure nor a lost race."""

    def send(self, dispatch: transport.Dispatch) -> None:
        """Take in a dispatch as the message of its first step."""
        self.put(StepMessage(dispatch=dispatch))

    def send_many(self, dispatches: Sequence[transport.Dispatch]) -> None:
        """Take in many, in their order."""
        for dispatch in dispatches:
            self.send(dispatch)

    def compensate_late(self, signal_id: int, queue: str) -> None:
        """Take in the message that undoes what a late callback tells of."""
        self.put(LateCompensation(signal_id=signal_id))

    def probe(self, queue: str, sent_at: datetime.datetime) -> None:
        """Take in a probe."""
        self.put(Probe(queue=queue, sent_at=sent_at))

    def backlog(self, *queues: str) -> int | None:
        """As many as fill a queue, or none; and if it was not told what to say, it never says."""
        if self.full is None:
            return None
        return pacing.FULL if self.full() else 0

    def put(self, message: Message) -> None:
        """Take in a message, unless it is lost; or twice."""
        self.sent.append(message)
        if self.chance.random() >= self.lose:
            self.waiting.append(message)
            if self.chance.random() < self.double:
                self.waiting.append(message)

    def deliver(self) -> bool:
        """Deliver a message; False when there is none."""
        if not self.waiting:
            return False
        message = self.waiting.pop(self.chance.randrange(len(self.waiting)) if self.shuffle else 0)
        try:
            self.carry_out(message)
        except crashes.Crash:
            if self.redeliver:
                self.waiting.append(message)
            raise
        return True

    def deliver_all(self) -> None:
        """Deliver until nothing is left."""
        while self.deliver():
            pass

    def play(self, saga: SagaInstance, *, most: int = 1000) -> SagaInstance:
        """Carry messages, and let time pass, until the saga rests, as `rests` has it.

        Arguments:
            saga: is read anew, and is as it then stands.
            most: so many messages and leaps in time, and it has not come to rest.

        Raises:
            AssertionError: it never came to rest; the message says what happened to it.
        """
        for _ in range(most):
            saga.refresh_from_db()
            if not self.waiting and rests(saga):
                return saga
            if not self.deliver():
                clocks.skip()
                engine.sweep()
        events = Event.objects.filter(saga_id=saga.pk).order_by("id")
        happened = [f"{event.kind} {event.subject}".strip() for event in events]
        raise AssertionError(f"{saga} never came to rest: {saga.state} after {', '.join(happened)}")

    def carry_out(self, message: Message) -> None:
        """What a worker does with a message; a chain goes on with a message of its own."""
        match message:
            case StepMessage(dispatch=dispatch, number=number):
                self._step(dispatch, number)
            case ChainError():
                self._chain_error(message)
            case LateCompensation(signal_id=signal_id):
                engine.compensate_late(signal_id)
            case Probe(queue=queue, sent_at=sent_at):
                engine.probe_returned(queue, sent_at, carried_on=self.inline is not None)

    def _chain_error(self, error: ChainError) -> None:
        result = engine.on_chain_error(error.saga_id, error.epoch, error.step)
        lane = self._lane()
        again = dataclasses.replace(error, epoch=error.epoch + 1)
        self._go_on(engine.go_on(result, lane) if lane else result, again)

    def _step(self, dispatch: transport.Dispatch, number: int) -> None:
        lane = self._lane()
        try:
            result = engine.perform(
                dispatch.saga_id,
                epoch=dispatch.epoch,
                step=dispatch.messages[number].step,
                direction=dispatch.direction,
                context=engine.WorkerContext(task_id=f"task-{len(self.sent)}", worker="memory"),
                lane=lane,
            )
        except (Error, errors.LostRace):
            return
        except Exception as bug:
            self.bugs.append(bug)
            result = engine.Result(next=engine.Next.COMPENSATE)
        alone = lane is None or not lane.taken
        if result.next is engine.Next.CONTINUE and alone and number + 1 < len(dispatch.messages):
            self.put(StepMessage(dispatch=dispatch, number=number + 1))
            return
        self._go_on(result, _error_of(dispatch))
        if lane is not None and result.next is not engine.Next.COMPENSATE:
            self._bring_more(dispatch.messages[number].queue, lane)

    def _bring_more(self, queue: str, lane: MemoryLane) -> None:
        """The same message carries a few sagas on that stand in its queue's line."""
        for dispatch in engine.take(queue, 2) if lane.goes_on() else ():
            with contextlib.suppress(Error, errors.LostRace):
                self._go_on(engine.carry(dispatch, lane), _error_of(dispatch))

    def _lane(self) -> MemoryLane | None:
        return MemoryLane(f"task-{len(self.sent)}", self.inline) if self.inline else None

    def _go_on(self, result: engine.Result, error: ChainError) -> None:
        """Where a message ends: the error callback, or the rest as a dispatch of its own."""
        if result.next is engine.Next.COMPENSATE:
            self.put(error)
        elif result.dispatch is not None and result.dispatch.messages:
            self.send(result.dispatch)


def rests(saga: SagaInstance) -> bool:
    """Whether nothing happens to a saga by itself any more but that clocks run out.

    It has ended, needs a person, is held or put aside, or all that is not done of it waits: for a callback,
    for a person's approval, or for children, each of which rests in its turn.
    """
    return _rests(saga) and all(map(rests, SagaInstance.objects.filter(parent_id=saga.pk)))


def _rests(saga: SagaInstance) -> bool:
    stopped = saga.is_final or saga.closed_at is not None or saga.held_at is not None
    if stopped or saga.state == SagaState.NEEDS_ATTENTION or children.waits_for_parent(saga):
        return True
    if saga.parent_id is not None and saga.epoch == 0:
        return saga.in_line_for is None  # Its parent starts it.
    stage = saga.definition.stage_at(saga.position)
    rows = StepInstance.objects.filter(saga_id=saga.pk, position__in=stage.positions)
    if saga.direction == Direction.FORWARD:
        left = rows.exclude(state__in=[StepState.DONE, StepState.SKIPPED])
    else:
        left = rows.filter(state=StepState.UNDOING)
    waits = [_waits(saga, row, stage.steps[row.position - stage.first]) for row in left]
    return bool(waits) and all(waits)


def _waits(saga: SagaInstance, row: StepInstance, declared: definition.Step) -> bool:
    if not isinstance(declared, definition.Child):
        return saga.direction == Direction.FORWARD and row.state == StepState.WAITING
    live = SagaInstance.objects.filter(
        parent_id=saga.pk, parent_step=row.name, finished_at=None, closed_at=None, epoch__gt=0
    )
    begun = row.state in (StepState.WAITING, StepState.UNDOING)
    return begun and not all(map(children.waits_for_parent, live))


def _error_of(dispatch: transport.Dispatch) -> ChainError:
    step = dispatch.messages[0].step if dispatch.member else None
    return ChainError(saga_id=dispatch.saga_id, epoch=dispatch.epoch, step=step)
