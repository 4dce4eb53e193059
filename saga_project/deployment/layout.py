"""The workers of an installation: one for each queue that the declared sagas and the tasks name."""

import dataclasses
import datetime

from saga_project import celery, queues
from saga_project.local import stack
from sagas import conf, engine
from sagas.declaration import registry

GRACE_MARGIN_S = 15
"""Between the hard time limit of a task and the moment at which its worker is killed: to record the outcome,
to acknowledge the message, and to end the worker's processes."""

LONGEST_MESSAGE = datetime.timedelta(minutes=10)
"""The longest that a message is thought to be under way before the sweep asks after it."""

LEAST, MOST = 2, 10
"""Replicas of a worker that is scaled: with two, one host may die; ten are a bound, not a measure."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Worker:
    """The worker of a queue."""

    queue: str
    processes: int
    """Tasks that one replica carries out at once."""

    hard_limit_s: int
    """The longest that a task of this queue may take; then its process is killed."""

    steps: tuple[tuple[str, int, str], ...]
    """The declared steps whose messages come here: saga, version, step."""

    @property
    def is_for_traces(self) -> bool:
        """Whether it only sends traces: nobody misses it where they are not wanted."""
        return self.queue == conf.TRACES_QUEUE

    @property
    def grace_s(self) -> int:
        """How long it has to end after SIGTERM: longer than any of its tasks may take."""
        return self.hard_limit_s + GRACE_MARGIN_S

    @property
    def is_scaled(self) -> bool:
        """Whether the rows say how many replicas there should be: those of the services are."""
        return bool(self.steps)

    @property
    def replicas(self) -> int:
        """How many there are at least."""
        return LEAST if self.is_scaled else 1


def workers() -> list[Worker]:
    """One for each queue that a step is routed to, that a task is bound to, or that beat sends to."""
    return [
        Worker(
            queue=queue,
            processes=stack.OTHER_PROCESSES.get(queue, stack.PROCESSES),
            hard_limit_s=_hard_limit_s(queue),
            steps=tuple(
                sorted(
                    (saga.name, saga.version, step.name)
                    for saga in registry.everything()
                    for step in saga.all_steps
                    if step.has_worker and step.queue == queue
                )
            ),
        )
        for queue in queues.everything()
    ]


def horizon() -> datetime.timedelta:
    """By when the sweep looks at the latest at a saga that a message or a worker is under way for."""
    longest = max(step.timeout for saga in registry.everything() for step in saga.all_steps)
    return max(LONGEST_MESSAGE, longest + engine.LEASE_MARGIN)


def _hard_limit_s(queue: str) -> int:
    """Of all tasks that may come there. A local step and the engine's own tasks may come to any queue."""
    elsewhere: dict[str, str] = {
        entry["task"]: entry["options"]["queue"]
        for entry in celery.app.conf.beat_schedule.values()
        if "queue" in entry.get("options", {})
    }
    limits = [
        task.time_limit
        for name, task in celery.app.tasks.items()
        if (getattr(task, "queue", None) or elsewhere.get(name, queue)) == queue
    ]
    return int(max(limit for limit in limits if limit is not None))
