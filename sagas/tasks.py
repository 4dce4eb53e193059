"""The only file of the engine that speaks Celery: steps as tasks, chains, the error callback, the sweep.

Celery is the fast path and nothing more: every task asks the row whether it is still wanted, and
whatever Celery loses, doubles, delays or reorders, the row and the sweep put right. No countdown,
eta, retry() or result backend is used on a saga's messages; why is in docs/architecture.md.
"""

import datetime
import functools
import logging
import math
import time
from typing import Any

import celery
from celery import signals
from celery.exceptions import SoftTimeLimitExceeded
from django.db import Error, close_old_connections, connections

from sagas import conf, database, engine, errors, ticks
from sagas.declaration import registry, states
from sagas.engine import late_compensation, sweeping, transport

logger = logging.getLogger("sagas")

app: celery.Celery = conf.celery_app()

HARD_LIMIT_MARGIN_S = 5
"""Between the soft limit, which the function can feel, and the hard one, which kills its process."""


class CeleryTransport:
    """Carries the engine's dispatches as Celery messages."""

    def send(self, dispatch: transport.Dispatch) -> None:
        """Publish the dispatch's steps as a chain whose every link has the error callback.

        The callback is bound and immutable: so Celery sends it as a message of its own. One that
        takes several arguments would be called inside the failing worker, and its errors be lost.
        """
        undo = dispatch.direction == states.Direction.BACKWARD
        who = {"saga_id": str(dispatch.saga_id), "epoch": dispatch.epoch}
        links = [
            app.signature(
                task_name(dispatch.name, message.step, undo=undo),
                kwargs=who,
                immutable=True,
                queue=message.queue,
            )
            for message in dispatch.messages
        ]
        # Celery's own counter decides nothing here; Flower shows it, and so tells which attempt this is.
        links[0].set(retries=dispatch.tried)  # type: ignore[call-arg]  # The stubs lack this option of apply_async.
        callback = app.signature("sagas.on-chain-error", kwargs=who, immutable=True, queue=conf.ENGINE_QUEUE)
        celery.chain(*links, app=app).apply_async(link_error=[callback])

    def compensate_late(self, signal_id: int, queue: str) -> None:
        """Publish the compensation of a late callback."""
        app.send_task("sagas.compensate-late", kwargs={"signal_id": signal_id}, queue=queue)

    def probe(self, queue: str, sent_at: datetime.datetime) -> None:
        """Publish a probe."""
        app.send_task(
            "sagas.probe-returned", kwargs={"queue": queue, "sent_at": sent_at.isoformat()}, queue=queue
        )


def task_name(saga: str, step: str, *, undo: bool) -> str:
    """The registered, stable name of a step's task, as Flower shows it."""
    return f"{saga}.{step}" + (".undo" if undo else "")


@app.task(name=conf.SWEEP_TASK, base=ticks.Tick, queue=conf.SWEEP_QUEUE, ignore_result=True)
def sweep() -> None:
    """Send on what is due, batch by batch."""
    while engine.sweep() >= sweeping.BATCH:
        pass


@app.task(name="sagas.on-chain-error", bind=True, ignore_result=True)
def on_chain_error(self: Any, *, saga_id: str, epoch: int) -> None:
    """The error callback: ask the row what is to be done."""
    _give_a_sign(self.request)
    engine.on_chain_error(saga_id, epoch)


@app.task(
    name="sagas.compensate-late",
    ignore_result=True,
    soft_time_limit=late_compensation.LEASE.seconds,
    time_limit=late_compensation.LEASE.seconds + HARD_LIMIT_MARGIN_S,
)
def compensate_late(*, signal_id: int) -> None:
    """Undo once more what a late callback tells of."""
    engine.compensate_late(signal_id)


@app.task(name="sagas.probe-returned", bind=True, ignore_result=True)
def probe_returned(self: Any, *, queue: str, sent_at: str) -> None:
    """A probe came through."""
    engine.probe_returned(queue, datetime.datetime.fromisoformat(sent_at), self.request.hostname or "")


@signals.worker_ready.connect
def worker_is_ready(sender: Any, **_: Any) -> None:
    """Say that this worker listens: the next sweep then asks what the broker has forgotten meanwhile."""
    try:
        for queue in sender.app.amqp.queues.consume_from:
            engine.heard(queue, sender.hostname)
    except Error:
        logger.warning("it could not be written down that this worker listens", exc_info=True)
    finally:
        # The pool's processes are made from this one, and must not inherit its connection.
        connections.close_all()


SIGN_EVERY_S = 1.0
_signs: dict[str, float] = {}


def _give_a_sign(request: Any) -> None:
    """Say that a worker takes from the queue that this message came from, once a second in each process."""
    queue = (request.delivery_info or {}).get("routing_key")
    if queue and time.monotonic() >= _signs.get(queue, 0.0):
        _signs[queue] = time.monotonic() + SIGN_EVERY_S
        engine.heard(queue, request.hostname or "")


def _carry_out(task: Any, step: str, direction: states.Direction, *, saga_id: str, epoch: int) -> None:
    """One step's task: ask the row, do as it says, and let the chain go on or end."""
    request = task.request
    context = engine.WorkerContext(
        task_id=request.id or "", worker=request.hostname or "", interrupts=(SoftTimeLimitExceeded,)
    )
    try:
        _give_a_sign(request)
        result = engine.perform(saga_id, epoch=epoch, step=step, direction=direction, context=context)
    except (Error, errors.LostRace) as error:
        # What was not recorded will be looked at again: by the lease, or by the sweep.
        logger.warning(
            "saga %s: %s could not be recorded, the sweep will see to it", saga_id, step, exc_info=True
        )
        database.let_go(error)
        close_old_connections()
        result = engine.Result(next=engine.Next.STOP)
    if result.next is engine.Next.COMPENSATE:
        raise errors.StepFailed(f"{step} failed and the saga compensates; its row says why.")
    if result.next is engine.Next.STOP:
        # Ends the chain as a success, without the error callback; `Ignore` would leave Flower lying.
        request.chain = None
    elif not request.chain and result.dispatch is not None and result.dispatch.messages:
        transport.send(result.dispatch)


def _register() -> None:
    """One task for every declared step and direction, under its stable name."""
    for saga in registry.everything():
        for step in saga.steps:
            for undo in (False, True):
                if undo and step.undo is None:
                    continue
                direction = states.Direction.BACKWARD if undo else states.Direction.FORWARD
                run = functools.partial(_carry_out, step=step.name, direction=direction)
                soft = registry.timeout(saga.name, step.name).total_seconds()
                _task(task_name(saga.name, step.name, undo=undo), run, soft)


def _task(name: str, run: Any, soft_limit_s: float) -> None:
    if name in app.tasks:
        return  # Another version of the saga has a step of that name: the row says which is meant.

    soft = math.ceil(soft_limit_s)
    hard = soft + HARD_LIMIT_MARGIN_S

    # That a saga compensates is business: it is logged as one line, without a traceback.
    expected = (errors.StepFailed,)

    @app.task(
        name=name, bind=True, ignore_result=True, soft_time_limit=soft, time_limit=hard, throws=expected
    )
    def step(self: Any, *, saga_id: str, epoch: int) -> None:
        run(self, saga_id=saga_id, epoch=epoch)


@signals.task_failure.connect
def let_go(exception: BaseException | None = None, **_: Any) -> None:
    """Any task that finds the database away leaves no connection to it behind."""
    database.let_go(exception)


_register()
