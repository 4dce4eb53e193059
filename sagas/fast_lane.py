"""The fast lane of a Celery worker: it goes on with a saga's next step in the task of the one before.

A message costs the worker, the broker and both their clients more than most steps do. So one message carries
a saga as far as the worker may take it: steps that are local wherever the saga is, remote ones only where the
worker serves their queue. What is no longer one task each is given back to each step here: its own limits of
time, its own place in Flower, and its turn beside other sagas.
"""

import dataclasses
import datetime
import functools
import json
import math
import time
import weakref
from collections.abc import Sequence
from typing import Any

from celery import signals
from celery.exceptions import SoftTimeLimitExceeded
from celery.worker import request
from kombu import asynchronous

from sagas import conf, engine, errors, limits
from sagas.declaration import registry, states
from sagas.engine import transport


def task_name(saga: str, step: str, *, undo: bool) -> str:
    """The registered, stable name of a step's task, as Flower shows it."""
    return f"{saga}.{step}" + (".undo" if undo else "")


# --- How far ---------------------------------------------------------------------------------------


@dataclasses.dataclass(kw_only=True)
class InlineStep:
    """A step that had no message of its own, as the worker's main process tells Flower of it."""

    task_id: str
    """The message's, and its number in the task. It cannot be revoked; the message's can."""

    name: str
    retries: int
    saga_id: str
    epoch: int
    began_at: float
    """In seconds since 1970, by this machine's clock, as in all of Celery's events."""

    runtime_s: float = 0.0
    failed: str = ""
    """The error, if it failed."""

    def values(self) -> list[Any]:
        """In the order of the fields."""
        return [getattr(self, name) for name in _FIELDS]


REST_S = 0.05
"""A process that had nothing to do for so long was at rest: the next message had not been waiting for it."""

_busy_until = -math.inf
"""When this process was at the end of its last task."""


class TaskLane:
    """The lane of one task: what it may still take, and what it has taken.

    Arguments:
        task: the bound task whose message is carried out.
    """

    def __init__(self, task: Any) -> None:
        self._taken: list[InlineStep] = []
        self._task_id: str = task.request.id or ""
        self._worker: str = task.request.hostname or ""
        self._steps_left = conf.inline_steps()
        now = time.monotonic()
        self.after_a_rest = now - _busy_until > REST_S
        """Whether this process had nothing to do before."""

        self._until = now + conf.inline_time().total_seconds()

    def takes(self, dispatch: transport.Dispatch) -> bool:
        """Whether the dispatch's first step is for this worker, and the budget lasts."""
        if not (dispatch.inline and self._steps_left > 0 and dispatch.messages):
            return False
        first = dispatch.messages[0]
        anywhere = not first.remote and first.queue not in conf.pinned_queues()
        return (anywhere or first.queue in served_queues()) and time.monotonic() < self._until

    def enter(self, dispatch: transport.Dispatch) -> engine.WorkerContext:
        """It goes on with the dispatch's first step."""
        now = time.time()
        self._end(now)
        self._steps_left -= 1
        undo = dispatch.direction == states.Direction.BACKWARD
        step = InlineStep(
            task_id=f"{self._task_id}.{len(self._taken) + 1}",
            name=task_name(dispatch.name, dispatch.messages[0].step, undo=undo),
            retries=dispatch.tried,
            saga_id=str(dispatch.saga_id),
            epoch=dispatch.epoch,
            began_at=now,
        )
        self._taken.append(step)
        return context(step.task_id, self._worker)

    @property
    def lasts(self) -> bool:
        """Whether there is time left."""
        return time.monotonic() < self._until

    def begin_another(self) -> None:
        """One more saga is carried: it may take as many steps as the first."""
        self._steps_left = conf.inline_steps()

    def turn(self) -> None:
        """The last of the steps has failed, and its saga goes back from here."""
        if self._taken:
            self._taken[-1].failed = repr(step_failed(self._taken[-1].name))

    def ended(self) -> list[InlineStep]:
        """What it has taken, now that the last of it has ended."""
        global _busy_until
        self._end(time.time())
        _busy_until = time.monotonic()
        return self._taken

    def _end(self, now: float) -> None:
        if self._taken and not self._taken[-1].runtime_s:
            self._taken[-1].runtime_s = now - self._taken[-1].began_at


def step_failed(task: str) -> errors.StepFailed:
    """What a step's task fails with when its saga turns round."""
    return errors.StepFailed(f"{task} failed and the saga compensates; its row says why.")


def context(task_id: str, worker: str) -> engine.WorkerContext:
    """What carries out a step: the task, the worker, and its hold on a function that takes too long."""
    return engine.WorkerContext(
        task_id=task_id, worker=worker, interrupts=(SoftTimeLimitExceeded,), limit=limits.limited
    )


@functools.cache
def served_queues() -> frozenset[str]:
    """The queues that this worker takes messages from, as it was started."""
    return frozenset(conf.celery_app().amqp.queues.consume_from)


# --- Limits of time --------------------------------------------------------------------------------


@signals.worker_process_init.connect
def this_is_a_pool_process(**_: Any) -> None:
    """Celery's own limits of time are those of a message; a step's own are kept in its process.

    Only in a prefork pool: no other process can be ended without ending its neighbours.
    """
    limits.hold(SoftTimeLimitExceeded)


def longest_message() -> datetime.timedelta:
    """The longest that any message may take: the error callback's too, which may carry any saga."""
    names = {saga.name for saga in registry.everything()}
    return max((message_limit(name) for name in names), default=conf.inline_time())


def message_limit(saga: str) -> datetime.timedelta:
    """The longest that a message of the saga may take: the lane's time, and the longest step begun in it."""
    steps = [step for version in registry.versions(saga) for step in version.all_steps]
    return conf.inline_time() + max(step.timeout for step in steps)


# --- Flower ----------------------------------------------------------------------------------------


class Told:
    """A task's result: what it carried out beyond its own step, for the main process and for Flower."""

    def __init__(self, taken: list[InlineStep]) -> None:
        self.taken = taken

    def __repr__(self) -> str:
        # Celery hands results on to the main process as their repr.
        return json.dumps([step.values() for step in self.taken])


class StepRequest(request.Request):
    """What a worker's main process knows of a message: it tells Flower of the message's inline steps too.

    They are told when the message has ended, through the dispatcher that gathers the events of all messages,
    so that they cost the broker no command.
    """

    _failed_inline: tuple[InlineStep, ...] = ()

    def __init__(self, message: Any, **options: Any) -> None:
        super().__init__(message, **options)
        _gather(self._eventer)  # type: ignore[attr-defined]  # The stubs lack it.

    def send_event(self, type: str, **fields: Any) -> None:
        """Tell of the message's own step, then of those that followed it in the same task."""
        if type == "task-succeeded":
            taken = [InlineStep(**_named(values)) for values in json.loads(fields["result"])]
            # Flower shows what followed where it shows a task's result.
            fields["result"] = ", ".join(["done", *(step.name for step in taken)]) if taken else "None"
            fields["runtime"] = max(fields["runtime"] - sum(step.runtime_s for step in taken), 0.0)
            super().send_event(type, **fields)
            self._tell(taken)
        elif type == "task-failed" and self._failed_inline:
            # It is the last of the steps in this task that failed, and not the message's own.
            own_s = self._failed_inline[0].began_at - (self.time_start or self._failed_inline[0].began_at)
            super().send_event("task-succeeded", result="None", runtime=max(own_s, 0.0))
            self._failed_inline[-1].failed = fields["exception"]
            self._tell(self._failed_inline, traceback=fields["traceback"])
        else:
            super().send_event(type, **fields)

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> Any:
        """Know which step it was that failed."""
        error = getattr(exc_info.exception, "exc", exc_info.exception)
        if isinstance(error, errors.StepFailed):
            self._failed_inline = tuple(InlineStep(**_named(values)) for values in error.inline)
        return super().on_failure(exc_info, send_failed_event=send_failed_event, return_ok=return_ok)

    def _tell(self, taken: Sequence[InlineStep], traceback: str = "") -> None:
        """Received, started, and succeeded or failed; only of the message's own saga is there a traceback."""
        eventer: Any = self._eventer  # type: ignore[attr-defined]  # The stubs lack it.
        if not (taken and eventer and eventer.enabled):
            return
        for step in taken:
            eventer.send(
                "task-received",
                uuid=step.task_id,
                name=step.name,
                args="()",
                kwargs=repr({"saga_id": step.saga_id, "epoch": step.epoch}),
                root_id=self.root_id or self.id,
                parent_id=self.id,
                retries=step.retries,
                eta=None,
                expires=None,
                timestamp=step.began_at,
            )
            eventer.send("task-started", uuid=step.task_id, timestamp=step.began_at)
            ended_at = step.began_at + step.runtime_s
            if step.failed:
                eventer.send(
                    "task-failed",
                    uuid=step.task_id,
                    exception=step.failed,
                    traceback=traceback,
                    timestamp=ended_at,
                )
            else:
                eventer.send(
                    "task-succeeded",
                    uuid=step.task_id,
                    result="None",
                    runtime=step.runtime_s,
                    timestamp=ended_at,
                )


GATHERED_S = 0.1
"""So long the events of a worker that carries sagas wait for each other."""


def _gather(eventer: Any) -> None:
    """Have a worker's events wait for each other from now on, before they are published.

    Celery publishes them at each turn of the worker's loop, which is several times for each message.
    """
    at_once = getattr(eventer, "on_send_buffered", None)
    if at_once is None or eventer in _gathers:
        return  # Only a worker with an event loop has anything that publishes later.
    waits = False

    def later() -> None:
        nonlocal waits
        loop = asynchronous.get_event_loop()
        if not waits and loop is not None:
            waits = True
            loop.call_later(GATHERED_S, publish)

    def publish() -> None:
        nonlocal waits
        waits = False
        at_once()

    _gathers.add(eventer)
    eventer.on_send_buffered = later


_gathers: "weakref.WeakSet[Any]" = weakref.WeakSet()

_FIELDS = [field.name for field in dataclasses.fields(InlineStep)]


def _named(values: Sequence[Any]) -> dict[str, Any]:
    return dict(zip(_FIELDS, values, strict=True))
