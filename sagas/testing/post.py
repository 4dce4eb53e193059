"""A post office in memory: it carries the engine's messages as Celery does, only worse.

A step's message carries the rest of its chain, as in Celery: to lose it is to lose them all. What
goes wrong is chosen by a seeded `random.Random`, so that a run can be had again.
"""

import dataclasses
import datetime
import random
import uuid

from django.db import Error

from sagas import engine, errors, transport
from sagas.testing import crashes


@dataclasses.dataclass(frozen=True, kw_only=True)
class Leg:
    """A step's message."""

    errand: transport.Errand
    number: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class TakeUp:
    """An error callback."""

    saga_id: uuid.UUID
    epoch: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Remedy:
    """The remedy of a late callback."""

    signal_id: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Probe:
    """A probe of a queue."""

    queue: str
    sent_at: datetime.datetime


Message = Leg | TakeUp | Remedy | Probe


class Post:
    """A transport in memory: first in, first out, unless told otherwise.

    Arguments:
        chance: where every accident comes from.
        lose: the share of messages that never arrive.
        double: the share that arrive twice.
        shuffle: whether any message may come next, and not the oldest.
        redeliver: whether the message of a worker that died comes again, as with late acknowledgement.
    """

    def __init__(
        self,
        *,
        chance: random.Random | None = None,
        lose: float = 0,
        double: float = 0,
        shuffle: bool = False,
        redeliver: bool = False,
    ) -> None:
        self.chance = chance or random.Random(0)  # noqa: S311 - no secret
        self.lose, self.double = lose, double
        self.shuffle, self.redeliver = shuffle, redeliver
        self.waiting: list[Message] = []
        self.sent: list[Message] = []
        """Everything ever sent: from here a message may come again, an hour late."""
        self.bugs: list[Exception] = []
        """What the engine let out that is neither the database's failure nor a lost race."""

    def send(self, errand: transport.Errand) -> None:
        """Take in an errand as the message of its first step."""
        self.put(Leg(errand=errand))

    def remedy(self, signal_id: int, queue: str) -> None:
        """Take in a remedy."""
        self.put(Remedy(signal_id=signal_id))

    def probe(self, queue: str, sent_at: datetime.datetime) -> None:
        """Take in a probe."""
        self.put(Probe(queue=queue, sent_at=sent_at))

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

    def carry_out(self, message: Message) -> None:
        """What a worker does with a message; a chain goes on with a message of its own."""
        match message:
            case Leg(errand=errand, number=number):
                self._step(errand, number)
            case TakeUp(saga_id=saga_id, epoch=epoch):
                engine.take_up(saga_id, epoch)
            case Remedy(signal_id=signal_id):
                engine.remedy(signal_id)
            case Probe(queue=queue, sent_at=sent_at):
                engine.echo(queue, sent_at)

    def _step(self, errand: transport.Errand, number: int) -> None:
        try:
            result = engine.perform(
                errand.saga_id,
                epoch=errand.epoch,
                step=errand.legs[number].step,
                direction=errand.direction,
                bearer=engine.Bearer(task_id=f"task-{len(self.sent)}", worker="post"),
            )
        except (Error, errors.LostRace):
            return
        except Exception as bug:
            self.bugs.append(bug)
            result = engine.Result(verdict=engine.Verdict.TURNED)
        if result.verdict is engine.Verdict.TURNED:
            self.put(TakeUp(saga_id=errand.saga_id, epoch=errand.epoch))
        elif result.verdict is engine.Verdict.GO_ON:
            if number + 1 < len(errand.legs):
                self.put(Leg(errand=errand, number=number + 1))
            elif result.errand is not None and result.errand.legs:
                self.send(result.errand)
