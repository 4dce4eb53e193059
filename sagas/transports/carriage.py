"""What a worker does with a message, where Celery does not carry it: the same for every other transport.

A message brings a saga to a worker, which carries it as far as it may: `engine.carry`. What is left then is
sent on as a message of its own. A message is JSON and says nothing that the row does not say better.
"""

import logging
import threading
import time
import uuid
from collections.abc import Collection
from typing import Any

from django.db import Error, close_old_connections

from sagas import conf, database, engine, errors, limits
from sagas.declaration import states
from sagas.engine import transport

logger = logging.getLogger("sagas")


class WorkerLane:
    """How far one message carries a saga: its own step, and then as `sagas.conf` allows.

    Arguments:
        task_id: of the message.
        worker: who carries it.
        queues: those that this worker serves; steps of other providers are left to theirs.
    """

    def __init__(self, *, task_id: str, worker: str, queues: Collection[str]) -> None:
        self._task_id, self._worker, self._queues = task_id, worker, queues
        self._steps_left = conf.inline_steps()
        self._until = time.monotonic() + conf.inline_time().total_seconds()
        self._taken = 0

    def takes(self, dispatch: transport.Dispatch) -> bool:
        """The message's own step, whatever it is; then those for which there is leave, time and a queue."""
        if not dispatch.messages:
            return False
        if not self._taken:
            return True
        first = dispatch.messages[0]
        anywhere = not first.remote and first.queue not in conf.pinned_queues()
        return (
            conf.inline()
            and dispatch.inline
            and self._taken <= self._steps_left
            and (anywhere or first.queue in self._queues)
            and time.monotonic() < self._until
        )

    def enter(self, dispatch: transport.Dispatch) -> engine.WorkerContext:
        """It goes on with the dispatch's first step."""
        task_id = f"{self._task_id}.{self._taken}" if self._taken else self._task_id
        self._taken += 1
        return engine.WorkerContext(
            task_id=task_id, worker=self._worker, interrupts=(limits.TimeIsUp,), limit=limits.limited
        )

    def turn(self) -> None:
        """A step has failed, and its saga goes back from here: nobody else is told."""


def carry_out(
    dispatch: transport.Dispatch, *, worker: str, queues: Collection[str], task_id: str = ""
) -> None:
    """Carry a saga on, and send what is left.

    What could not be recorded is looked at again: by the lease, or by the sweep.

    Arguments:
        dispatch: the message.
        worker: who carries it.
        queues: those that this worker serves.
        task_id: of the message; by default one is made up.
    """
    if threading.current_thread() is threading.main_thread():
        limits.hold()
    lane = WorkerLane(task_id=task_id or str(uuid.uuid4()), worker=worker, queues=queues)
    try:
        result = engine.carry(dispatch, lane)
    except errors.UnknownSaga as unknown:
        logger.warning("saga %s is left to another worker: %s", dispatch.saga_id, unknown)
        engine.leave_to_others(dispatch.saga_id, dispatch.epoch, dispatch.messages[0].step)
        return
    except (Error, errors.LostRace) as error:
        logger.warning(
            "saga %s could not be recorded, the sweep will see to it", dispatch.saga_id, exc_info=True
        )
        database.let_go(error)
        close_old_connections()
        return
    finally:
        limits.unlimited()
    if result.dispatch is not None and result.dispatch.messages:
        transport.send(result.dispatch)


def as_json(dispatch: transport.Dispatch) -> dict[str, Any]:
    """A dispatch as JSON keeps it."""
    return {
        "saga_id": str(dispatch.saga_id),
        "epoch": dispatch.epoch,
        "name": dispatch.name,
        "direction": dispatch.direction.value,
        "messages": [[one.step, one.queue, one.remote] for one in dispatch.messages[:1]],
        "inline": dispatch.inline,
        "member": dispatch.member,
        "tried": dispatch.tried,
    }


def of_json(said: dict[str, Any]) -> transport.Dispatch:
    """A dispatch from what `as_json` made of it."""
    return transport.Dispatch(
        saga_id=uuid.UUID(said["saga_id"]),
        epoch=said["epoch"],
        name=said["name"],
        direction=states.Direction(said["direction"]),
        messages=tuple(
            transport.Message(step=step, queue=queue, remote=remote)
            for step, queue, remote in said["messages"]
        ),
        inline=said["inline"],
        member=said["member"],
        tried=said["tried"],
    )
