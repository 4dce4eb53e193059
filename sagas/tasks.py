"""The only file of the engine that speaks Celery: steps as tasks, chains, the error callback, the sweep.

Celery is the fast path and nothing more: every task asks the row whether it is still wanted, and
whatever Celery loses, doubles, delays or reorders, the row and the sweep put right. No countdown,
eta, retry() or result backend is used on a saga's messages; why is in docs/architecture.md.
"""

import datetime
import functools
import itertools
import logging
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import celery
from celery import signals
from celery.exceptions import OperationalError
from celery.worker import control
from django.db import Error, close_old_connections, connections

from sagas import conf, database, engine, errors, fast_lane, housekeeping, limits, ticks, tracing, workers
from sagas.celery import Reliable
from sagas.declaration import registry, states
from sagas.engine import archive, late_compensation, transport

logger = logging.getLogger("sagas")

app: celery.Celery = conf.celery_app()

control.inspect_command(name=workers.COMMAND)(workers.tell)


class CeleryTransport:
    """Carries the engine's dispatches as Celery messages."""

    def send(self, dispatch: transport.Dispatch) -> None:
        """Publish the dispatch's steps as a chain whose every link has the error callback."""
        _publish(dispatch)

    def send_many(self, dispatches: Sequence[transport.Dispatch]) -> None:
        """Publish many as one pipeline where the broker can take them so, as Redis and Valkey can.

        kombu collects them, and does not try again what fails then: a connection that died meanwhile, say.
        So they are published one by one after that. Twice is as good as once.
        """
        try:
            with app.producer_or_acquire() as producer, producer.batch():
                for dispatch in dispatches:
                    _publish(dispatch, producer=producer)
        except OperationalError:
            logger.info("%s sagas could not be published at once: now one by one", len(dispatches))
            for dispatch in dispatches:
                _publish(dispatch)

    def compensate_late(self, signal_id: int, queue: str) -> None:
        """Publish the compensation of a late callback."""
        app.send_task("sagas.compensate-late", kwargs={"signal_id": signal_id}, queue=queue)

    def probe(self, queue: str, sent_at: datetime.datetime) -> None:
        """Publish a probe."""
        app.send_task(
            "sagas.probe-returned", kwargs={"queue": queue, "sent_at": sent_at.isoformat()}, queue=queue
        )

    def backlog(self, *queues: str) -> int:
        """How many nobody has taken yet, as the broker says when a queue is declared; a missing one is made.

        Redis and Valkey are asked for the length of each list instead: kombu would ask eight times for each,
        and workers ask after each saga of a line.
        """
        with app.producer_or_acquire() as producer:
            channel = producer.channel
            if hasattr(channel, "conn_or_acquire"):
                with channel.conn_or_acquire() as client, client.pipeline(transaction=False) as pipeline:
                    for queue in queues:
                        pipeline.llen(queue)
                    return sum(pipeline.execute())
            # Not passively: a queue that is missing would cost the channel, and the count of the others.
            declared: list[Any] = [app.amqp.queues[name].bind(channel).queue_declare() for name in queues]
            return sum(queue.message_count for queue in declared)


def _publish(dispatch: transport.Dispatch, **options: Any) -> None:
    """Publish a dispatch's steps as a chain whose every link has the error callback.

    The callback is bound and immutable: so Celery sends it as a message of its own. One that
    takes several arguments would be called inside the failing worker, and its errors be lost. Celery's
    own `chain` does the same, but takes no producer, and so cannot be one of many in a pipeline.
    """
    undo = dispatch.direction == states.Direction.BACKWARD
    who = {"saga_id": str(dispatch.saga_id), "epoch": dispatch.epoch}
    about = who | ({"step": dispatch.messages[0].step} if dispatch.member else {})
    callback = app.signature("sagas.on-chain-error", kwargs=about, immutable=True, queue=conf.ENGINE_QUEUE)
    first, *rest = [
        app.signature(
            fast_lane.task_name(dispatch.name, message.step, undo=undo),
            kwargs=who,
            immutable=True,
            queue=message.queue,
            link_error=[callback],
        )
        for message in dispatch.messages
    ]
    # Celery's own counter decides nothing here; Flower shows it, and so tells which attempt this is.
    first.apply_async(chain=rest[::-1], retries=dispatch.tried, **options)


@app.task(name=conf.SWEEP_TASK, base=ticks.Tick, queue=conf.SWEEP_QUEUE)
def sweep() -> None:
    """Send on what is due, for no longer than half the time until the next tick."""
    housekeeping.sweep()


@app.task(
    name=conf.ARCHIVE_TASK,
    base=ticks.Tick,
    queue=conf.ARCHIVE_QUEUE,
    soft_time_limit=4 * archive.BUDGET_S,
    time_limit=4 * archive.BUDGET_S + conf.HARD_LIMIT_MARGIN_S,
)
def archive_what_has_ended() -> None:
    """Move sagas that ended long ago into the archive, for a while; and let go of what is older still."""
    housekeeping.archive()


SYSTEMS = {"amqp": "rabbitmq", "amqps": "rabbitmq", "redis": "redis", "rediss": "redis", "valkey": "valkey"}
"""OpenTelemetry's name of the messaging system, by the broker's scheme. Celery is none."""

if tracing.on():

    @app.task(
        name=conf.TRACES_TASK,
        base=ticks.Tick,
        queue=conf.TRACES_QUEUE,
        soft_time_limit=60,
        time_limit=60 + conf.HARD_LIMIT_MARGIN_S,
    )
    def send_traces() -> None:
        """Send the traces of what has ended; while the collector is away nobody but this waits for it."""
        tracing.run(broker=SYSTEMS.get(str(app.conf.broker_url).partition("://")[0], ""))


@app.task(
    name="sagas.compensate-late",
    base=Reliable,
    soft_time_limit=late_compensation.LEASE.seconds,
    time_limit=late_compensation.LEASE.seconds + conf.HARD_LIMIT_MARGIN_S,
)
def compensate_late(*, signal_id: int) -> None:
    """Undo once more what a late callback tells of."""
    engine.compensate_late(signal_id)


# One comes every second for each queue: no more for Flower than a tick is.
@app.task(name="sagas.probe-returned", base=Reliable, bind=True, send_events=False)
def probe_returned(self: Any, *, queue: str, sent_at: str) -> None:
    """A probe came through."""
    at, worker = datetime.datetime.fromisoformat(sent_at), self.request.hostname or ""
    engine.probe_returned(queue, at, worker, carried_on=conf.inline())


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
CROWDED = 8
"""With so many messages in a queue, one that is new there waits in any case, and a little more is no harm."""

BRINGS_ONE_IN = 4
"""Of so many messages in a crowd one brings a saga of the line: four fifths of the work are their own.

With every message it would be a half, and live sagas that came at half of what the workers do beside all else
stayed behind for as long as the line stood (`docs/benchmarks.md`, backlog).
"""

MOST_TAKEN = 8
"""So many of a line a worker takes at a time, however quickly they go: its neighbours are to find some."""

_lines: set[str] = set()
"""The queues in whose line sagas stood when this process last knew."""

_of_a_crowd = itertools.count(1)
"""Counts the messages of this process that ended while a crowd waited behind them."""


def _queue_of(request: Any) -> str:
    """The queue that a message came from."""
    return (request.delivery_info or {}).get("routing_key") or ""


def _give_a_sign(request: Any) -> None:
    """Say that a worker takes from the queue that this message came from, once a second in each process."""
    queue = _queue_of(request)
    if queue and time.monotonic() >= _signs.get(queue, 0.0):
        _signs[queue] = time.monotonic() + SIGN_EVERY_S
        if engine.heard(queue, request.hostname or ""):
            _lines.add(queue)
        else:
            _lines.discard(queue)


def _carry_out(task: Any, step: str, direction: states.Direction, *, saga_id: str, epoch: int) -> Any:
    """One step's task: ask the row, do as it says, and go on; then let the chain go on, or end it.

    The chain that Celery sends on is that of the message. Where the lane went beyond its first step, what is
    left is published as a chain of its own.
    """
    request = task.request
    own = fast_lane.context(request.id or "", request.hostname or "")
    lane = fast_lane.TaskLane(task) if conf.inline() else None

    def perform() -> engine.Result:
        try:
            return engine.perform(
                saga_id, epoch=epoch, step=step, direction=direction, context=own, lane=lane
            )
        except errors.UnknownSaga as unknown:
            return _left_to_others(unknown, saga_id, epoch, step)

    result = _recorded(task, saga_id, step, perform)
    taken = lane.ended() if lane is not None else []
    if result.next is engine.Next.COMPENSATE:
        failed = fast_lane.step_failed(taken[-1].name if taken else task.name)
        failed.inline = [one.values() for one in taken]
        if _queue_of(request) in _lines:
            _send_next(_queue_of(request))  # This one ends here, and the way back comes first.
        raise failed
    brings = lane is not None and _queue_of(request) in _lines
    if result.next is engine.Next.STOP or taken or brings:
        # Ends the chain as a success, without the error callback; `Ignore` would leave Flower lying.
        request.chain = None
    if not request.chain and result.dispatch is not None and result.dispatch.messages:
        transport.send(result.dispatch)
    if lane is None:
        return fast_lane.Told([])
    if not request.chain:
        _bring_more(task, lane)
    return fast_lane.Told(lane.ended())


def _bring_more(task: Any, lane: fast_lane.TaskLane) -> None:
    """While sagas stand in the line of the message's queue, carry some of them on as well.

    For as long as the lane lasts and no message waits for this worker. Those that wait come first, and will
    go on with the line; but where many do, one message in `BRINGS_ONE_IN` brings one of those in the line, so
    that the line never stands still, and those that wait come up again. If no message waits in the line's own
    queue at the end, one of the line is sent: those of other queues do not come back to it.
    """
    queue = _queue_of(task.request)
    if queue in _lines and lane.after_a_rest:
        # Others may be at rest as well, and take this one; if not, it is one message.
        _send_next(queue)
    most, newest, has_shared = 1, False, False
    while queue in _lines and lane.lasts:
        waiting, began = transport.backlog(*fast_lane.served_queues()) or 0, time.monotonic()
        if 0 < waiting < CROWDED or (waiting and has_shared):
            break
        if waiting and next(_of_a_crowd) % BRINGS_ONE_IN:
            break
        has_shared = True
        taken = _taken(queue, most, newest=newest)
        newest = not newest
        if not taken:
            _lines.discard(queue)
            return
        for dispatch in taken:
            lane.begin_another()
            carry = functools.partial(engine.carry, dispatch, lane)
            result = _recorded(task, str(dispatch.saga_id), "a saga of the line", carry)
            if result.dispatch is not None and result.dispatch.messages:
                transport.send(result.dispatch)
        each_s = (time.monotonic() - began) / len(taken)
        most = max(min(int(conf.line_delay().total_seconds() / each_s), MOST_TAKEN), 1)
    if queue in _lines and not transport.backlog(queue):
        _send_next(queue)


def _send_next(queue: str) -> None:
    """Send the first of a queue's line on its way; whoever takes it carries others of the line after it."""
    for dispatch in _taken(queue, 1):
        transport.send(dispatch)


def _taken(queue: str, most: int, *, newest: bool = False) -> list[transport.Dispatch]:
    """Some of a queue's line; none where the database is away, which is no failure of the message's saga."""
    try:
        return engine.take(queue, most, newest=newest)
    except Error as error:
        logger.warning("the line of %s could not be read, the sweep will see to it", queue, exc_info=True)
        database.let_go(error)
        close_old_connections()
        return []


def _undo_chain(task: Any, *, saga_id: str, epoch: int, step: str | None = None) -> Any:
    """The error callback: ask the row what is to be done, and begin to do it.

    `step` is there where the chain was that of a single step, which was done at once with others.
    """
    lane = fast_lane.TaskLane(task) if conf.inline() else None

    def ask() -> engine.Result:
        try:
            result = engine.on_chain_error(saga_id, epoch, step)
        except errors.UnknownSaga as unknown:
            logger.warning(NOT_OURS, saga_id, "its error callback", unknown)
            return engine.Result(next=engine.Next.STOP)  # What it found out the sweep finds out as well.
        return result if lane is None else engine.go_on(result, lane)

    result = _recorded(task, saga_id, "the error callback", ask)
    if result.next is engine.Next.COMPENSATE:
        # It was a false alarm, and a step failed after it: now the saga does turn round.
        result = _recorded(
            task, saga_id, "the error callback", lambda: engine.on_chain_error(saga_id, epoch + 1, step)
        )
    if result.dispatch is not None and result.dispatch.messages:
        transport.send(result.dispatch)
    return fast_lane.Told(lane.ended() if lane is not None else [])


NOT_OURS = "saga %s: %s is left to another worker: %s"


def _left_to_others(unknown: Exception, saga_id: str, epoch: int, step: str) -> engine.Result:
    """While a deployment rolls out a message may come to a worker without its saga's version (D1)."""
    logger.warning(NOT_OURS, saga_id, step, unknown)
    engine.leave_to_others(saga_id, epoch, step)
    return engine.Result(next=engine.Next.STOP)


@signals.task_unknown.connect
def leave_unknown_step(name: str, message: Any, **_: Any) -> None:
    """The same for a step of which this worker has not even the task: Celery would drop its message."""
    step = name.removesuffix(".undo").rpartition(".")[2]
    try:
        _, about, *_ = message.payload
        saga_id, epoch = about["saga_id"], about["epoch"]
    except (TypeError, ValueError, KeyError):
        return  # It is no step's.
    try:
        engine.leave_to_others(saga_id, epoch, step)
    except (Error, errors.SagaError):
        logger.warning("saga %s: %s is left to the sweep", saga_id, step, exc_info=True)
    finally:
        # The pool's processes are made from this one, and must not inherit its connection.
        connections.close_all()


def _recorded(task: Any, saga_id: str, what: str, carry_out: Callable[[], engine.Result]) -> engine.Result:
    """What the engine says is next; where it could not record anything, the sweep says so later."""
    try:
        _give_a_sign(task.request)
        return carry_out()
    except (Error, errors.LostRace) as error:
        # What was not recorded will be looked at again: by the lease, or by the sweep.
        logger.warning(
            "saga %s: %s could not be recorded, the sweep will see to it", saga_id, what, exc_info=True
        )
        database.let_go(error)
        close_old_connections()
        return engine.Result(next=engine.Next.STOP)
    finally:
        limits.unlimited()


def _register() -> None:
    """One task for every declared step and direction, under its stable name; and the error callback."""
    for saga in registry.everything():
        for step in (step for step in saga.all_steps if step.has_worker):
            for undo in (False, True):
                if undo and step.undo is None:
                    continue
                direction = states.Direction.BACKWARD if undo else states.Direction.FORWARD
                run = functools.partial(_carry_out, step=step.name, direction=direction)
                limit = fast_lane.message_limit(saga.name)
                _task(fast_lane.task_name(saga.name, step.name, undo=undo), run, limit)
    _task("sagas.on-chain-error", _undo_chain, fast_lane.longest_message())


def _task(name: str, run: Any, longest: datetime.timedelta) -> None:
    """Register a task; the limits of each step in it are kept by the lane, those here are the message's."""
    if name in app.tasks:
        return  # Another version of the saga has a step of that name: the row says which is meant.

    soft = math.ceil(longest.total_seconds())
    hard = soft + conf.HARD_LIMIT_MARGIN_S

    @app.task(
        name=name,
        base=Reliable,
        bind=True,
        soft_time_limit=soft,
        time_limit=hard,
        # That a saga compensates is business: it is logged as one line, without a traceback.
        throws=(errors.StepFailed,),
        Request=fast_lane.StepRequest,
        # Its text is read by the main process, and must reach it whole.
        resultrepr_maxsize=1_000_000,
    )
    def step(self: Any, *, saga_id: str, epoch: int) -> Any:
        return run(self, saga_id=saga_id, epoch=epoch)


@signals.task_failure.connect
def let_go(exception: BaseException | None = None, **_: Any) -> None:
    """Any task that finds the database away leaves no connection to it behind."""
    database.let_go(exception)


_register()
