"""Lines: what is due, or begins while its queue is full, is taken in turn, several with one message."""

import datetime
import itertools

import celery
import pytest
from django.db import transaction

from sagas import engine, errors, fast_lane, models, tasks
from sagas.declaration import registry
from sagas.engine import pacing, sweeping, transport
from sagas.testing import clocks, memory_transport
from sagas.transports import postgres
from tests.sagas import harness, rules
from tests.sagas.sample_app import saga as toys

SECOND = datetime.timedelta(seconds=1)
MINUTE = datetime.timedelta(minutes=1)
HOUR = datetime.timedelta(hours=1)


def lose_everything(sagas):
    """The messages of all these are gone, and it is known."""
    models.SagaInstance.objects.filter(pk__in=[saga.pk for saga in sagas]).update(
        dispatched_at=None, wake_at=models.database_now() - MINUTE
    )


def sent_on(broker, sagas):
    """How many of them have been sent again."""
    ids = {saga.pk for saga in sagas}
    return sum(m.dispatch.saga_id in ids and m.dispatch.epoch > 1 for m in harness.step_messages(broker))


def test_what_is_due_is_sent_as_its_queue_takes_it_and_live_ones_come_in_between(broker):
    due = [harness.begin(toys.ONE) for _ in range(70)]
    broker.waiting.clear()
    lose_everything(due)
    at_first = models.Queue._meta.get_field("line_batch").default

    for _ in range(9):
        engine.sweep()
    assert sent_on(broker, due) == at_first, "nobody takes anything, so no more is sent"

    live = harness.begin(toys.ONE)
    before = len(broker.waiting)
    while any(
        isinstance(m, memory_transport.StepMessage) and m.dispatch.saga_id == live.pk for m in broker.waiting
    ):
        broker.deliver()

    live.refresh_from_db()
    assert live.state == "completed"
    assert before <= 2 * at_first + len(registry.queues()) + 3, "a few, and a probe of each queue"
    assert sent_on(broker, due) < len(due), "it came before the last of them"
    broker.deliver_all()
    assert sent_on(broker, due) == len(due), "the worker alone serves the line to its end"
    assert not models.SagaInstance.objects.exclude(state="completed").exists()


def test_a_full_queue_holds_back_neither_another_queue_nor_a_deadline(broker):
    full = [harness.begin(toys.ONE) for _ in range(40)]
    late = [harness.begin(toys.ONE) for _ in range(20)]
    other = harness.begin(toys.REMOTE)
    broker.waiting.clear()
    lose_everything([*full, *late, other])
    models.SagaInstance.objects.filter(pk__in=[saga.pk for saga in late]).update(
        deadline_at=models.database_now()
    )

    engine.sweep()

    assert sent_on(broker, full) < len(full)
    assert sent_on(broker, [other]) == 1
    states = models.SagaInstance.objects.filter(pk__in=[saga.pk for saga in late]).values_list(
        "state", flat=True
    )
    assert set(states) == {"compensated"}


def test_a_line_goes_on_although_the_broker_forgot_what_was_to_say_so(broker):
    due = [harness.begin(toys.ONE) for _ in range(40)]
    lose_everything(due)
    engine.sweep()
    broker.waiting.clear()

    for _ in range(20):
        clocks.pass_time(SECOND)
        engine.sweep()
        engine.heard("toys")
        broker.deliver_all()

    assert not models.SagaInstance.objects.exclude(state="completed").exists()


def test_a_batch_follows_how_long_the_one_before_took(broker, settings):
    settings.SAGAS_LINE_DELAY = HOUR
    queue = models.Queue.objects.create(name="toys", line_batch=40)
    sizes = []
    for took in (MINUTE, 45 * MINUTE, 2 * HOUR):
        queue.line_asked_at = models.database_now() - took
        queue.save()
        engine.probe_returned("toys", queue.line_asked_at)
        queue.refresh_from_db()
        sizes.append(queue.line_batch)

    assert sizes == [60, 60, 30]


def test_what_stands_in_a_line_and_gets_its_message_after_all_leaves_it(broker):
    due = [harness.begin(toys.LOCAL) for _ in range(40)]
    waited = [*broker.waiting]
    lose_everything(due)
    engine.sweep()
    models.SagaInstance.objects.filter(in_line_for="toys").update(dispatched_at=models.database_now())
    last = models.SagaInstance.objects.filter(in_line_for="toys").latest("id")
    late = next(m for m in waited if m.dispatch.saga_id == last.pk)

    broker.carry_out(late)

    last.refresh_from_db()
    assert (last.position, last.in_line_for, last.epoch) == (1, None, 1)
    broker.deliver_all()
    last.refresh_from_db()
    assert (last.state, last.epoch) == ("completed", 1)
    rules.check(last)


def test_where_a_circuit_is_open_each_of_a_line_asks_it_for_itself(broker):
    due = [harness.begin(toys.REMOTE) for _ in range(3)]
    models.Circuit.objects.create(
        name="world", opened_at=models.database_now(), open_until=models.database_now() + HOUR
    )
    lose_everything(due)

    engine.sweep()

    assert sent_on(broker, due) == 0
    assert models.SagaInstance.objects.filter(parked_for="world", in_line_for=None).count() == 3


def test_the_task_that_sweeps_leaves_off_in_time_for_the_next_one(broker, settings):
    lose_everything([harness.begin(toys.ONE) for _ in range(sweeping.BATCH + 1)])
    settings.SAGAS_SWEEP_EVERY = datetime.timedelta(microseconds=1)

    tasks.sweep()
    assert models.SagaInstance.objects.filter(wake_at__lte=models.database_now()).count() == 1

    settings.SAGAS_SWEEP_EVERY = MINUTE
    tasks.sweep()
    assert not models.SagaInstance.objects.filter(wake_at__lte=models.database_now()).exists()


# --- Several sagas with one message ---------------------------------------------------------------


@pytest.fixture
def crowded(rows):
    """A queue that is full, and messages that carry on whatever they may."""
    broker = memory_transport.MemoryTransport(inline=harness.always, full=harness.always)
    with transport.use(broker):
        for queue in ("toys", "world"):
            pacing.look(queue)
        yield broker


def in_line():
    return set(models.SagaInstance.objects.filter(in_line_for__isnull=False).values_list("pk", flat=True))


def test_what_begins_while_its_queue_is_full_stands_in_its_line_and_is_not_sent(crowded):
    saga = harness.begin(toys.MIXED)
    again = models.SagaInstance.objects.get(pk=saga.pk)

    assert crowded.sent == []
    assert (again.in_line_for, again.dispatched_at, again.epoch, again.dispatches) == ("toys", None, 0, 0)
    assert models.SagaInstance.objects.filter(pk=saga.pk).values().get() == {
        field.attname: getattr(saga, field.attname) for field in saga._meta.concrete_fields
    }


def test_the_sweep_sends_the_first_of_it_and_one_message_brings_the_others_along(crowded):
    sagas = [harness.begin(toys.MIXED) for _ in range(pacing.FIRST_BATCH + 2)]

    engine.sweep()
    crowded.deliver_all()

    assert len(harness.step_messages(crowded)) == pacing.FIRST_BATCH
    assert [m.dispatch.saga_id for m in harness.step_messages(crowded)] == [
        saga.pk for saga in sagas[: pacing.FIRST_BATCH]
    ]
    for saga in sagas:
        saga.refresh_from_db()
        assert (saga.state, saga.epoch, saga.in_line_for) == ("completed", 1, None)
        rules.check(saga)


def test_one_that_fails_on_the_way_turns_round_in_the_message_that_brought_it(crowded):
    for _ in range(pacing.FIRST_BATCH):
        harness.begin(toys.ONE)
    failing = harness.begin(toys.LOCAL, "do a, do b, fail c")

    engine.sweep()
    crowded.deliver_all()

    failing.refresh_from_db()
    assert failing.state == "compensated"
    assert not any(isinstance(m, memory_transport.ChainError) for m in crowded.sent)
    rules.check(failing)


def test_a_saga_in_a_line_may_be_cancelled_and_nobody_takes_it_then(crowded):
    saga = harness.begin(toys.LOCAL)

    engine.cancel(saga.pk, actor="ana", reason="changed her mind")
    for _ in range(3):
        engine.sweep()
        crowded.deliver_all()

    saga.refresh_from_db()
    assert (saga.state, saga.in_line_for) == ("compensated", None)
    rules.check(saga)


def test_whatever_takes_from_a_line_takes_each_once_and_in_their_order(crowded):
    sagas = [harness.begin(toys.ONE) for _ in range(5)]

    taken = [engine.take("toys", most=2), engine.take("toys", most=2), engine.take("toys", most=2)]

    assert [[dispatch.saga_id for dispatch in some] for some in taken] == [
        [saga.pk for saga in sagas[:2]], [saga.pk for saga in sagas[2:4]], [sagas[4].pk]
    ]  # fmt: skip
    assert engine.take("toys", most=2) == []


def test_it_may_be_taken_from_the_end_too_so_that_nobody_waits_for_all_others(crowded):
    sagas = [harness.begin(toys.ONE) for _ in range(4)]

    taken = engine.take("toys", most=2, newest=True)

    assert {dispatch.saga_id for dispatch in taken} == {saga.pk for saga in sagas[2:]}
    assert in_line() == {saga.pk for saga in sagas[:2]}


def test_nothing_is_taken_for_a_service_that_is_out(crowded):
    harness.begin(toys.REMOTE)
    models.Circuit.objects.create(
        name="world", opened_at=models.database_now(), open_until=models.database_now() + HOUR
    )

    assert engine.take("world", most=2) == []
    assert len(in_line()) == 1


def test_in_a_crowd_one_message_of_a_few_brings_one_of_the_line(crowded, monkeypatch, settings):
    settings.SAGAS_INLINE_TIME = HOUR
    for _ in range(4):
        harness.begin(toys.ONE)
    monkeypatch.setattr(tasks, "_lines", {"toys"})
    monkeypatch.setattr(tasks, "_of_a_crowd", itertools.count(1))
    task = celery.current_app.tasks[fast_lane.task_name(toys.ONE.name, toys.ONE.steps[0].name, undo=False)]
    task.push_request(id="one", hostname="worker@here", delivery_info={"routing_key": "toys"})
    try:
        stood = []
        for _ in range(2 * tasks.BRINGS_ONE_IN):
            lane = fast_lane.TaskLane(task)
            lane.after_a_rest = False
            tasks._bring_more(task, lane)
            stood.append(len(in_line()))
    finally:
        task.pop_request()

    few = tasks.BRINGS_ONE_IN - 1
    assert stood == [*[4] * few, 3, *[3] * few, 2]


@pytest.mark.parametrize(
    ("waits_in", "sent"),
    [pytest.param("world", 1, id="in-another-queue"), pytest.param("toys", 0, id="in-the-lines-own-queue")],
)
def test_a_line_goes_on_although_messages_wait_in_another_queue(
    crowded, monkeypatch, settings, waits_in, sent
):
    """Whoever takes those goes on with no line, and the next tick of the sweep is up to a second away."""
    settings.SAGAS_INLINE_TIME = HOUR
    for _ in range(2):
        harness.begin(toys.ONE)
    monkeypatch.setattr(tasks, "_lines", {"toys"})
    monkeypatch.setattr(fast_lane, "served_queues", lambda: frozenset({"toys", "world"}))
    monkeypatch.setattr(crowded, "backlog", lambda *queues: 3 if waits_in in queues else 0)
    task = celery.current_app.tasks[fast_lane.task_name(toys.ONE.name, toys.ONE.steps[0].name, undo=False)]
    task.push_request(id="one", hostname="worker@here", delivery_info={"routing_key": "toys"})
    try:
        lane = fast_lane.TaskLane(task)
        lane.after_a_rest = False
        tasks._bring_more(task, lane)
    finally:
        task.pop_request()

    assert (len(crowded.sent), len(in_line())) == (sent, 2 - sent)


def test_a_worker_hears_whether_a_line_stands(crowded):
    assert not engine.heard("toys")
    harness.begin(toys.ONE)

    assert engine.heard("toys")
    assert not engine.heard("world")


def test_the_broker_is_asked_how_full_a_queue_is_only_once_its_answer_is_used_up(rows, monkeypatch):
    asked = []
    monkeypatch.setattr(pacing, "LOOK_AGAIN_S", 0)
    broker = memory_transport.MemoryTransport(full=lambda: asked.append(1) or len(asked) > 1)
    with transport.use(broker):
        for _ in range(pacing.FULL // 2 + 1):
            harness.begin(toys.ONE)
        assert len(asked) == 1, "after the first of them"
        harness.begin(toys.ONE)
        assert len(asked) == 2, "and by now it is full"
        harness.begin(toys.ONE)

    assert (len(broker.sent), len(in_line())) == (pacing.FULL // 2 + 2, 1)


def test_a_queue_that_was_full_long_ago_is_tried_and_then_asked_after(rows):
    full = [True]
    broker = memory_transport.MemoryTransport(full=lambda: full[0])
    with transport.use(broker):
        pacing.look("toys")
        stands = harness.begin(toys.ONE)
        full[0] = False
        pacing._room("toys").looked_at -= pacing.SEEN_LONG_AGO_S
        sagas = [harness.begin(toys.ONE) for _ in range(3)]

    assert in_line() == {stands.pk}
    assert [m.dispatch.saga_id for m in harness.step_messages(broker)] == [saga.pk for saga in sagas]


def test_one_that_is_still_full_is_sent_one_message_and_no_more(rows):
    broker = memory_transport.MemoryTransport(full=harness.always)
    with transport.use(broker):
        pacing.look("toys")
        pacing._room("toys").looked_at -= pacing.SEEN_LONG_AGO_S
        sagas = [harness.begin(toys.ONE) for _ in range(3)]

    assert in_line() == {saga.pk for saga in sagas[1:]}


def test_of_many_as_many_are_sent_as_there_is_room_for(rows):
    broker = memory_transport.MemoryTransport(full=lambda: False)
    with transport.use(broker):
        pacing.look(toys.ONE.steps[0].queue)
        with transaction.atomic():
            sagas = engine.begin_many(toys.ONE, [(str(n), {}) for n in range(pacing.FULL + 5)])

    assert len(broker.sent) == pacing.FULL
    assert in_line() == {saga.pk for saga in sagas[pacing.FULL :]}


def test_without_the_fast_lane_nothing_that_begins_stands_in_a_line(crowded, settings):
    settings.SAGAS_INLINE = False

    harness.begin(toys.ONE)

    assert (len(crowded.sent), in_line()) == (1, set())


def test_the_broker_says_how_many_wait(valkey):
    carries = tasks.CeleryTransport()
    queue = "benchmark-of-nobody"
    assert carries.backlog(queue) == 0

    carries.probe(queue, datetime.datetime.now(datetime.UTC))
    carries.probe(queue, datetime.datetime.now(datetime.UTC))

    assert carries.backlog(queue) == 2
    assert carries.backlog("benchmark-of-nobody-else", queue) == 2


def test_threads_that_use_transports_of_their_own_leave_none_behind():
    before = transport.current()
    one, other = (transport.use(memory_transport.MemoryTransport()) for _ in range(2))
    for step in (one.__enter__, other.__enter__, lambda: one.__exit__(None, None, None)):
        step()
    other.__exit__(None, None, None)

    assert transport.current() is before


class Broken(memory_transport.MemoryTransport):
    """Whose broker is away."""

    def backlog(self, *queues):
        raise ConnectionError("nobody is there")


def test_where_the_broker_cannot_be_asked_everything_is_sent_as_ever(rows):
    broker = Broken()
    with transport.use(broker):
        for _ in range(2):
            harness.begin(toys.ONE)

    assert (len(broker.sent), in_line()) == (2, set())


# --- The longest line ---------------------------------------------------------------------------------


def stand_in_line(number):
    """So many sagas stand in the line of toys."""
    sagas = [harness.begin(toys.ONE) for _ in range(number)]
    models.SagaInstance.objects.filter(pk__in=[saga.pk for saga in sagas]).update(in_line_for="toys")
    return sagas


def keep_full(settings):
    """The line of toys is full, and stays so: of one whose release no worker here has."""
    settings.SAGAS_LONGEST_LINE = 1
    models.SagaInstance.objects.create(
        name="toy-of-tomorrow", version=1, fingerprint="f", key="stays", in_line_for="toys",
        wake_at=models.database_now() + 24 * HOUR,
    )  # fmt: skip


def is_full():
    """Whether no more begin."""
    with pytest.raises(errors.LineFull):
        harness.begin(toys.ONE)
    return True


def test_while_a_line_is_full_no_saga_begins_in_it_and_what_has_begun_goes_on(broker, settings):
    standing = stand_in_line(3)
    settings.SAGAS_LONGEST_LINE = 3
    events = models.Event.objects.count()

    with transaction.atomic():
        with pytest.raises(errors.LineFull, match="3 or more sagas wait for a worker of toys") as full:
            engine.begin(toys.ONE, key="one too many", inputs={})
        with pytest.raises(errors.LineFull):
            engine.begin_many(toys.ONE, [("one too many", {}), ("two too many", {})])
        elsewhere = engine.begin(toys.REMOTE, key="elsewhere", inputs={})  # The transaction goes on.

    assert full.value.context == {"queue": "toys", "allowed": 3}
    assert models.SagaInstance.objects.count() == len(standing) + 1
    assert set(models.Event.objects.order_by("id")[events:].values_list("saga_id", flat=True)) == {
        elsewhere.pk
    }
    engine.sweep()
    broker.deliver_all()
    assert not models.SagaInstance.objects.filter(in_line_for="toys").exists()
    assert harness.begin(toys.ONE).pk, "there is room again"
    broker.deliver_all()
    assert not models.SagaInstance.objects.exclude(state="completed").exists()


def test_what_an_operator_holds_keeps_nobody_out(broker, settings):
    held, _ = stand_in_line(2)
    settings.SAGAS_LONGEST_LINE = 2
    with pytest.raises(errors.LineFull):
        harness.begin(toys.ONE)

    engine.hold(held.pk, seen=engine.look(held.pk), actor="olga", reason="wait")

    assert harness.begin(toys.ONE).pk


def test_all_of_many_begin_while_one_place_is_free(broker, settings):
    stand_in_line(2)
    settings.SAGAS_LONGEST_LINE = 3

    with transaction.atomic():
        begun = engine.begin_many(toys.ONE, [(str(number), {}) for number in range(50)])

    assert len(begun) == 50


def test_what_is_to_begin_later_is_taken(broker, settings):
    keep_full(settings)

    with transaction.atomic():
        later = engine.begin(
            toys.ONE, key="tomorrow", inputs={}, not_before=models.database_now() + 24 * HOUR
        )

    assert later.epoch == 0
    assert is_full()


@pytest.mark.parametrize(
    ("saga", "script", "inputs"),
    [
        (toys.LOCAL, "do a, flake b, do b, fail c, undo b, undo a, compensated", {}),
        (toys.EACH, "do a, deliver{do x, do y | do x, do y}, do z, completed", {"parcels": ["p", "q"]}),
    ],
    ids=["retries and undos", "children"],
)
def test_what_has_begun_goes_on_while_its_line_is_full(saga, script, inputs, broker, settings):
    begun = harness.begin(saga, script, inputs=inputs)
    keep_full(settings)

    harness.drive(broker, begun)

    begun.refresh_from_db()
    assert begun.state == script.rpartition(" ")[2]
    assert is_full()


def test_who_has_the_key_already_is_told_so_however_full_the_line(broker, settings):
    harness.begin(toys.ONE, key="mine")
    keep_full(settings)

    with transaction.atomic():
        with pytest.raises(errors.AlreadyLive, match="A live saga toy-one has the key 'mine'"):
            engine.begin(toys.ONE, key="mine", inputs={})
        with pytest.raises(errors.AlreadyLive) as live:
            engine.begin_many(toys.ONE, [("new", {}), ("mine", {})])

    assert live.value.context == {"keys": ["mine"]}


def test_with_postgresql_alone_every_saga_stands_in_a_line_and_so_is_counted(rows, settings):
    settings.SAGAS_LONGEST_LINE = 2
    with transport.use(postgres.PostgresTransport()):
        for _ in range(2):
            harness.begin(toys.ONE)
        with pytest.raises(errors.LineFull):
            harness.begin(toys.ONE)


def test_sagas_begin_in_the_queue_of_the_first_step_that_is_not_left_out():
    local, remote = toys.ONE.first_queue, toys.REMOTE.all_steps[0].queue
    assert local == "toys"
    assert toys.REMOTE.first_queue == remote
    assert toys.FIRST_LEFT_OUT.first_queue == "toys"
    assert toys.APPROVAL_FIRST.first_queue is None
    assert toys.AT_ONCE_FIRST.first_queue is None
    assert toys.ALL_LEFT_OUT.first_queue is None
    assert "toys" in registry.first_queues()
