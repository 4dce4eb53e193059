"""Two at once, on real connections: exactly one wins, the loser is told, and the rows make sense (I3, D7)."""

import concurrent.futures
import contextlib
import datetime
import functools
import random
import threading

import pytest
from django.db import connection

from sagas import ForEach, engine, errors, models
from sagas.declaration.states import Direction
from sagas.engine import children, parents
from sagas.testing import clocks, crashes, memory_transport
from tests.sagas import harness, rules
from tests.sagas.sample_app import functions, recorder
from tests.sagas.sample_app import saga as toys
from tests.support import waiting

ROUNDS = 5
"""How often each race is run: either may win."""

WHO = {"actor": "somebody", "reason": "a race"}
MINUTE = datetime.timedelta(minutes=1)


def at_once(*calls):
    """Make the calls at the same moment, each on a connection of its own; what each gave or raised."""
    start = threading.Barrier(len(calls))

    def run(call):
        try:
            start.wait(10)
            return call()
        except errors.SagaError as refusal:
            return refusal
        finally:
            connection.close()

    with concurrent.futures.ThreadPoolExecutor(len(calls)) as pool:
        return [done.result(60) for done in [pool.submit(run, call) for call in calls]]


def perform(message):
    """What a worker does with a step's message."""
    dispatch = message.dispatch
    step = dispatch.messages[message.number].step
    return engine.perform(dispatch.saga_id, epoch=dispatch.epoch, step=step, direction=dispatch.direction)


def take_step(broker):
    """Take the step's message that was sent last out of the broker."""
    message = next(m for m in reversed(broker.waiting) if isinstance(m, memory_transport.StepMessage))
    broker.waiting.remove(message)
    return message


def refused(*results):
    return [result for result in results if isinstance(result, errors.SagaError)]


class Interrupted(functions.Scripted):
    """A world that holds a function until somebody else has come and waits for the lock."""

    def __init__(self, intruder):
        self.intruder = intruder
        self.result = None
        self.thread = None

    def do(self, key, **rest):
        if self.thread is None:
            self.thread = threading.Thread(target=self._intrude)
            self.thread.start()
            waiting.until(somebody_waits_for_a_lock)
        return super().do(key, **rest)

    def _intrude(self):
        try:
            self.result = self.intruder()
        except errors.SagaError as error:
            self.result = error
        finally:
            connection.close()


def somebody_waits_for_a_lock():
    sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = %s"
    return recorder.execute(sql, [connection.settings_dict["NAME"]]).fetchone()[0]


# --- Who waits for the lock reads what is then there ----------------------------------------------


def test_a_cancel_that_waited_for_the_last_step_finds_the_saga_completed(broker, monkeypatch):
    saga = harness.begin(toys.ONE)
    world = Interrupted(lambda: engine.cancel(saga.pk, **WHO))
    monkeypatch.setattr(functions, "WORLD", world)

    broker.deliver_all()
    world.thread.join(20)

    assert isinstance(world.result, errors.TooLate), "D7"
    assert world.result.context["state"] == "completed"
    harness.drive(broker, saga)
    rules.check(saga)


def test_a_cancel_that_waited_for_another_step_turns_the_saga_round(broker, monkeypatch):
    saga = harness.begin(toys.LOCAL)
    world = Interrupted(lambda: engine.cancel(saga.pk, **WHO))
    monkeypatch.setattr(functions, "WORLD", world)

    broker.deliver()
    world.thread.join(20)
    harness.drive(broker, saga)

    assert recorder.lines(saga.pk) == ["do a", "undo a"]
    assert saga.state == "compensated"
    rules.check(saga)


def test_a_second_copy_of_a_local_step_that_waited_finds_it_done(broker, monkeypatch):
    saga = harness.begin(toys.LOCAL)
    message = broker.waiting[0]
    world = Interrupted(lambda: perform(message))
    monkeypatch.setattr(functions, "WORLD", world)

    broker.deliver()
    world.thread.join(20)

    assert world.result.next is engine.Next.CONTINUE, "the chain may go on: the next step asks for itself"
    assert recorder.lines(saga.pk) == ["do a"], "E1"
    harness.drive(broker, saga)
    rules.check(saga)


# --- Either may win -------------------------------------------------------------------------------


@pytest.mark.parametrize("declared", [toys.LOCAL, toys.REMOTE], ids=str)
def test_two_workers_with_the_same_message(broker, declared):
    for _ in range(ROUNDS):
        saga = harness.begin(declared)
        message = take_step(broker)

        at_once(*[lambda message=message: perform(message)] * 3)

        assert recorder.lines(saga.pk) == ["do a"], "E1"
        harness.drive(broker, saga)
        assert saga.state == "completed"
        rules.check(saga)


def test_cancel_against_completion(broker):
    for _ in range(2 * ROUNDS):
        saga = harness.begin(toys.ONE)
        message = take_step(broker)

        _, cancelled = at_once(lambda m=message: perform(m), lambda pk=saga.pk: engine.cancel(pk, **WHO))
        harness.drive(broker, saga)

        too_late = isinstance(cancelled, errors.TooLate)
        assert saga.state == ("completed" if too_late else "compensated")
        rules.check(saga)


def test_two_sweepers(broker):
    sagas = [harness.begin(toys.LOCAL) for _ in range(30)]
    broker.waiting.clear()
    models.SagaInstance.objects.update(dispatched_at=None)
    clocks.pass_time(MINUTE)

    counts = at_once(engine.sweep, engine.sweep, engine.sweep)

    assert sum(counts) == len(sagas)
    sent_at_once = models.SagaInstance.objects.filter(epoch=2).count()
    assert sent_at_once == models.Queue._meta.get_field("line_batch").default, "one of them served the line"
    at_once(broker.deliver_all, engine.sweep)
    broker.deliver_all()
    assert set(models.SagaInstance.objects.values_list("epoch", flat=True)) == {2}, "each was sent on once"


def test_a_sweep_waits_for_nobody(broker):
    held, free = harness.begin(toys.LOCAL), harness.begin(toys.LOCAL)
    models.SagaInstance.objects.update(dispatched_at=None)
    clocks.pass_time(MINUTE)
    world = threading.Event()
    locked = threading.Event()

    def hold():
        with harness.transaction.atomic():
            models.SagaInstance.objects.select_for_update().get(pk=held.pk)
            locked.set()
            world.wait(60)
        connection.close()

    thread = threading.Thread(target=hold)
    thread.start()
    assert locked.wait(20)
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '5s'")
    try:
        assert engine.sweep() == 1
    finally:
        world.set()
        thread.join(20)

    assert set(models.SagaInstance.objects.filter(epoch=2).values_list("pk")) == {(free.pk,)}


def test_a_callback_against_the_limit_of_its_wait(broker):
    for number in range(2 * ROUNDS):
        saga = harness.begin(toys.BLIND_WAIT, "do a, begin w")
        broker.deliver_all()
        saga.refresh_from_db()
        clocks.pass_time(saga.steps.get(name="w").wait_until - models.database_now(), saga.pk)
        engine.sweep()
        message = take_step(broker)

        signal, _ = at_once(lambda pk=saga.pk, number=number: tell(pk, number), lambda m=message: perform(m))
        harness.drive(broker, saga)

        assert (saga.state, signal.fate) in {("completed", "applied"), ("compensated", "late")}
        rules.check(saga)


def test_a_callback_against_the_deadline(broker):
    for number in range(2 * ROUNDS):
        saga = harness.begin(toys.BLIND_WAIT, "do a, begin w")
        broker.deliver_all()
        saga.refresh_from_db()
        clocks.pass_time(saga.deadline_at - models.database_now(), saga.pk)

        signal, _ = at_once(lambda pk=saga.pk, number=number: tell(pk, number), engine.sweep)
        harness.drive(broker, saga)

        assert saga.state == "compensated", "c is no longer begun after the deadline"
        assert signal.fate in ("applied", "noted")
        rules.check(saga)


def tell(pk, number):
    facts = {"settled": True}
    return engine.receive(source="world", event_id=str(number), key=f"{pk}.w", facts=facts)


def test_the_same_callback_from_three_connections(broker):
    for number in range(ROUNDS):
        saga = harness.begin(toys.BLIND_WAIT, "do a, begin w")
        broker.deliver_all()

        signals = at_once(*[lambda pk=saga.pk, number=number: tell(pk, number)] * 3)
        harness.drive(broker, saga)

        assert len({signal.pk for signal in signals}) == 1
        assert harness.kinds(saga).count("signal.applied") == 1
        rules.check(saga)


def test_three_copies_of_an_error_callback(broker):
    for _ in range(ROUNDS):
        saga = harness.begin(toys.LOCAL, "do a, fail b")
        broker.deliver()
        broker.deliver()
        broker.waiting.clear()

        at_once(*[lambda pk=saga.pk: engine.on_chain_error(pk, 1)] * 3)

        saga.refresh_from_db()
        assert saga.epoch == 2, "it was sent on once"
        harness.drive(broker, saga)
        assert recorder.lines(saga.pk) == ["do a", "fail b", "undo a"]
        rules.check(saga)


OPERATORS = {
    "resolve yes": lambda pk: engine.resolve(pk, seen=engine.look(pk), happened=True, **WHO),
    "resolve no": lambda pk: engine.resolve(pk, seen=engine.look(pk), happened=False, **WHO),
    "retry": lambda pk: engine.retry(pk, seen=engine.look(pk), **WHO),
    "compensate": lambda pk: engine.compensate(pk, seen=engine.look(pk), **WHO),
    "cancel": lambda pk: engine.cancel(pk, **WHO),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_an_operator_against_the_engine(broker, name):
    for _ in range(ROUNDS):
        saga = harness.begin(toys.REMOTE, "do a, lose b")
        broker.deliver()
        broker.deliver()
        clocks.skip()
        engine.sweep()
        message = take_step(broker)

        at_once(lambda m=message: perform(m), lambda pk=saga.pk: OPERATORS[name](pk))
        harness.drive(broker, saga)

        assert saga.state == ("completed" if name in ("retry", "resolve yes") else saga.state)
        assert saga.state in ("completed", "compensated")
        rules.check(saga)


def test_two_operators_who_disagree(broker):
    for _ in range(2 * ROUNDS):
        saga = harness.begin(toys.REMOTE, "do a, lose b")
        broker.deliver()
        broker.deliver()

        lost = refused(*at_once(*[lambda move=move, pk=saga.pk: move(pk) for move in DISAGREE]))
        harness.drive(broker, saga)

        assert len(lost) == 1, "exactly one wins"
        assert lost[0].context["state"] in ("running", "compensating", "compensated", "completed")
        rules.check(saga)


DISAGREE = [OPERATORS["resolve yes"], OPERATORS["resolve no"]]


def test_two_who_begin_with_one_key(broker):
    for number in range(ROUNDS):
        key = f"order-{number}"

        results = at_once(*[lambda key=key: harness.begin(toys.ONE, key=key)] * 4)

        assert [type(error) for error in refused(*results)] == [errors.AlreadyLive] * 3
        assert models.SagaInstance.objects.filter(key=key).count() == 1


def test_everybody_at_everything_without_a_deadlock(broker):
    """Every move takes the saga's row first (I4); no two of them ever wait for each other in a ring."""
    chance = random.Random(7)
    sagas = [harness.begin(declared, "9x begin w") for declared in [toys.WAIT, toys.MIXED, toys.LOCAL]]
    moves = [*OPERATORS.values(), engine_hold, engine_release, false_alarm, stray_step]

    def busy(seed):
        mine = random.Random(seed)
        for _ in range(25):
            saga = mine.choice(sagas)
            with contextlib.suppress(errors.SagaError):
                mine.choice([*moves, lambda pk: engine.sweep(), lambda pk: tell(pk, mine.random())])(saga.pk)

    at_once(*[functools.partial(busy, chance.random()) for _ in range(5)])

    for saga in sagas:
        with contextlib.suppress(errors.NotAllowed):
            engine.release(saga.pk, seen=engine.look(saga.pk), **WHO)
    for number, saga in enumerate(sagas):
        tell(saga.pk, f"last {number}")
    harness.drive(broker, *sagas, rounds=1000)
    for saga in sagas:
        rules.check(saga)


def engine_hold(pk):
    engine.hold(pk, seen=engine.look(pk), **WHO)


def engine_release(pk):
    engine.release(pk, seen=engine.look(pk), **WHO)


def false_alarm(pk):
    engine.on_chain_error(pk, models.SagaInstance.objects.get(pk=pk).epoch)


def stray_step(pk):
    saga = models.SagaInstance.objects.get(pk=pk)
    for direction in Direction:
        engine.perform(pk, epoch=saga.epoch, step="a", direction=direction)


# --- Steps that are done at once ------------------------------------------------------------------


class AllAtOnce(functions.Scripted):
    """A world whose functions answer only when all of a stage's steps are being called."""

    def __init__(self, steps):
        self.all_called = threading.Barrier(len(steps), timeout=20)
        self.steps = set(steps)

    def _answer(self, function, key):
        if key.partition(".")[2] in self.steps:
            self.all_called.wait()
        return super()._answer(function, key)


class Beside(functions.Scripted):
    """A world in which something happens, on another connection, while one step's function is at work."""

    def __init__(self, step, happen):
        self.step, self.happen = step, happen
        self.given = None

    def do(self, key, **rest):
        if key.endswith(f".{self.step}") and self.happen is not None:
            happen, self.happen = self.happen, None
            (self.given,) = at_once(happen)
        return super().do(key, **rest)


def take_members(broker):
    """Take the messages of a stage's steps out of the broker, by the steps' names."""
    messages = [
        m for m in broker.waiting if isinstance(m, memory_transport.StepMessage) and m.dispatch.member
    ]
    for message in messages:
        broker.waiting.remove(message)
    return {message.dispatch.messages[0].step: message for message in messages}


def perform_all(messages):
    return at_once(*[functools.partial(perform, message) for message in messages.values()])


def states_of(saga):
    return dict(saga.steps.values_list("name", "state"))


@pytest.mark.parametrize("declared", [toys.AT_ONCE_FIRST, toys.AT_ONCE_REVERSE], ids=str)
def test_members_that_end_at_the_same_instant_advance_their_stage_once(broker, monkeypatch, declared):
    for _ in range(ROUNDS):
        saga = harness.begin(declared)
        engine.sweep()
        messages = take_members(broker)
        monkeypatch.setattr(functions, "WORLD", AllAtOnce(messages))

        results = perform_all(messages)

        assert [result.next for result in results].count(engine.Next.CONTINUE) == 1, "one of them goes on"
        saga.refresh_from_db()
        assert saga.position == len(messages) == 3
        harness.drive(broker, saga)
        assert saga.state == "completed"
        rules.check(saga)


def test_members_whose_undos_end_at_the_same_instant_go_back_from_their_stage_once(broker, monkeypatch):
    for _ in range(ROUNDS):
        monkeypatch.setattr(functions, "WORLD", functions.Scripted())
        saga = harness.begin(toys.AT_ONCE, "do a, do b, do c, fail d")
        messages = undos_sent(broker)
        monkeypatch.setattr(functions, "WORLD", AllAtOnce(messages))

        results = perform_all(messages)

        assert [result.next for result in results].count(engine.Next.CONTINUE) == 1, "one of them goes on"
        harness.drive(broker, saga)
        assert recorder.lines(saga.pk)[-1] == "undo a"
        rules.check(saga)


def undos_sent(broker):
    """Deliver until the undos of a stage's two steps are on their way: their messages."""
    for _ in range(20):
        back = [m for m in broker.waiting if isinstance(m, memory_transport.StepMessage)]
        if len(back) == 2 and all(m.dispatch.direction == Direction.BACKWARD for m in back):
            return take_members(broker)
        broker.deliver()
    raise AssertionError("they were never sent")


def test_one_member_fails_while_another_is_recorded(broker, monkeypatch):
    for _ in range(2 * ROUNDS):
        saga = harness.begin(toys.AT_ONCE, "do a, fail b")
        broker.deliver()
        messages = take_members(broker)
        monkeypatch.setattr(functions, "WORLD", AllAtOnce(messages))

        perform_all(messages)
        monkeypatch.setattr(functions, "WORLD", functions.Scripted())
        harness.drive(broker, saga)

        assert saga.state == "compensated"
        assert sorted(recorder.lines(saga.pk)) == ["do a", "do c", "fail b", "undo a", "undo b", "undo c"]
        rules.check(saga)


def test_one_undo_is_refused_while_another_is_recorded(broker, monkeypatch):
    for _ in range(ROUNDS):
        monkeypatch.setattr(functions, "WORLD", functions.Scripted())
        saga = harness.begin(toys.AT_ONCE, "do a, do b, do c, fail d, fail undo b")
        messages = undos_sent(broker)
        monkeypatch.setattr(functions, "WORLD", AllAtOnce(messages))

        perform_all(messages)

        saga.refresh_from_db()
        assert (saga.state, states_of(saga)["c"]) == ("needs_attention", "undone")
        assert harness.kinds(saga).count("saga.attention") == 1
        monkeypatch.setattr(functions, "WORLD", functions.Scripted())
        engine.resume(saga.pk, seen=engine.look(saga.pk), **WHO)
        harness.drive(broker, saga)
        assert saga.state == "compensated"
        rules.check(saga)


def cancelled_and_swept(broker, saga, *, lease=None):
    """The saga is cancelled, every message comes, and perhaps the lease ends as well."""
    engine.cancel(saga.pk, **WHO)
    broker.deliver_all()
    if lease is not None:
        clocks.pass_time(lease, saga.pk)
        engine.sweep()
        broker.deliver_all()
    return recorder.lines(saga.pk), states_of(saga)


@pytest.mark.parametrize("at_work", ["b", "c"])
def test_a_member_at_work_when_its_saga_is_cancelled_is_recorded_and_then_undone(
    broker, monkeypatch, at_work
):
    saga = harness.begin(toys.AT_ONCE)
    broker.deliver()
    world = Beside(at_work, lambda: cancelled_and_swept(broker, saga))
    monkeypatch.setattr(functions, "WORLD", world)
    message = take_members(broker)[at_work]

    perform(message)

    lines, states = world.given
    assert lines == ["do a"], "O2: nothing is undone while its lease lives"
    assert states[at_work] == "running"
    assert states_of(saga)[at_work] == "done", "it is recorded all the same"
    harness.drive(broker, saga)
    assert recorder.lines(saga.pk) == ["do a", f"do {at_work}", f"undo {at_work}", "undo a"]
    rules.check(saga)


def test_a_remote_member_without_a_record_is_unknown_and_undone_when_its_lease_ends(broker, monkeypatch):
    saga = harness.begin(toys.AT_ONCE)
    broker.deliver()
    world = Beside("b", lambda: cancelled_and_swept(broker, saga, lease=MINUTE))
    monkeypatch.setattr(functions, "WORLD", world)

    perform(take_members(broker)["b"])

    lines, states = world.given
    assert lines[:2] == ["do a", "undo b"], "U3"
    assert states["b"] == "undone"
    assert states_of(saga)["b"] == "undone", "D6: what it came back with is void"
    harness.drive(broker, saga)
    assert saga.state == "compensated"
    assert recorder.lines(saga.pk) == ["do a", "undo b", "undo a", "do b"]
    rules.check(saga)


def test_a_local_member_that_lost_its_fence_is_rolled_back(broker, monkeypatch):
    saga = harness.begin(toys.AT_ONCE)
    broker.deliver()
    world = Beside("c", lambda: cancelled_and_swept(broker, saga, lease=MINUTE))
    monkeypatch.setattr(functions, "WORLD", world)

    perform(take_members(broker)["c"])

    _, states = world.given
    assert states["c"] == "pending"
    assert harness.books(saga)["c"] == (0, 0), "E1: it never happened"
    harness.drive(broker, saga)
    assert "undo c" not in recorder.lines(saga.pk), "E2"
    assert saga.state == "compensated"
    rules.check(saga)


def test_of_two_workers_at_a_local_member_the_one_that_lost_its_lease_leaves_nothing(broker, monkeypatch):
    saga = harness.begin(toys.AT_ONCE)
    broker.deliver()

    def another():
        clocks.pass_time(MINUTE, saga.pk)
        engine.sweep()
        broker.deliver_all()

    monkeypatch.setattr(functions, "WORLD", Beside("c", another))

    perform(take_members(broker)["c"])

    assert recorder.lines(saga.pk).count("do c") == 2
    assert harness.books(saga)["c"] == (1, 0), "E1"
    harness.drive(broker, saga)
    assert saga.state == "completed"
    rules.check(saga)


def test_a_callback_of_a_waiting_member_against_its_undo(broker):
    for number in range(2 * ROUNDS):
        saga = harness.begin(toys.AT_ONCE_WAIT, "do a, begin w")
        broker.deliver()
        perform(take_members(broker)["w"])
        engine.cancel(saga.pk, **WHO)
        messages = take_members(broker)
        assert list(messages) == ["w"]

        signal, _ = at_once(
            lambda pk=saga.pk, number=number: tell(pk, number), lambda m=messages["w"]: perform(m)
        )
        harness.drive(broker, saga)
        while models.Signal.objects.filter(wake_at__isnull=False).exists():
            clocks.skip()
            engine.sweep()
            broker.deliver_all()

        assert saga.state == "compensated"
        assert signal.fate in ("late", "noted")
        assert harness.books(saga)["w"] == (1, 1)
        rules.check(saga)


# --- Parents and children -------------------------------------------------------------------------


def family(broker, declared, *, count=2, script=""):
    """A saga with children that are about to do their last steps: it, them, and those steps' messages."""
    broker.waiting.clear()
    saga = harness.begin(declared, script, inputs={"parcels": list(range(count))})
    broker.deliver()
    ours = list(models.SagaInstance.objects.filter(parent_id=saga.pk).order_by("parent_item"))
    messages = [
        m for m in broker.waiting if getattr(getattr(m, "dispatch", None), "saga_id", None) in ids(ours)
    ]
    assert len(messages) == count
    for message in messages:
        broker.waiting.remove(message)
    return saga, ours, messages


def ids(sagas):
    return [saga.pk for saga in sagas]


def ends(saga, ours):
    """The states of a saga's children, once all the rules hold for all of them."""
    for one in (saga, *ours):
        rules.check(one)
    assert not models.SagaInstance.objects.filter(tells_parent_at__isnull=False).exists()
    return {child.state for child in ours}


SMALL = toys.saga("toy-small", toys.remote("y"), inputs=["parcel"])
FEW = toys.saga(
    "toy-few",
    toys.local("a"),
    ForEach("deliver", of="parcels", saga=SMALL),
    toys.local("z"),
    inputs=["parcels"],
)
ONLY_CHILDREN = toys.saga(
    "toy-only-children", toys.local("a"), ForEach("deliver", of="parcels", saga=SMALL), inputs=["parcels"]
)


def test_children_that_end_at_the_same_instant_carry_their_parent_on_once(broker, monkeypatch):
    for _ in range(2 * ROUNDS):
        saga, ours, messages = family(broker, FEW, count=3)
        world = AllAtOnce(ours)
        world.steps = {"y"}
        monkeypatch.setattr(functions, "WORLD", world)

        at_once(*[functools.partial(perform, message) for message in messages])

        monkeypatch.setattr(functions, "WORLD", functions.Scripted())
        saga.refresh_from_db()
        assert saga.position == 2, "whoever came last has told it, and nobody has to be swept"
        harness.drive(broker, saga)
        assert (saga.state, ends(saga, ours)) == ("completed", {"completed"})
        assert harness.kinds(saga, "deliver").count("step.done") == 1


def test_a_parent_is_cancelled_while_a_child_ends(broker):
    for _ in range(2 * ROUNDS):
        saga, ours, messages = family(broker, ONLY_CHILDREN, count=1)

        _, cancelled = at_once(lambda m=messages[0]: perform(m), lambda pk=saga.pk: engine.cancel(pk, **WHO))
        harness.drive(broker, saga)

        expected = "completed" if isinstance(cancelled, errors.TooLate) else "compensated"
        assert (saga.state, ends(saga, ours)) == (expected, {expected})


def test_a_parent_is_cancelled_while_a_child_is_cancelled(broker):
    for _ in range(2 * ROUNDS):
        saga, ours, messages = family(broker, FEW)

        at_once(
            lambda pk=ours[0].pk: engine.cancel(pk, **WHO),
            lambda m=messages[1]: perform(m),
            lambda pk=saga.pk: engine.cancel(pk, **WHO),
        )
        broker.waiting.append(messages[0])
        harness.drive(broker, saga)

        assert (saga.state, ends(saga, ours)) == ("compensated", {"compensated"})


def test_an_operator_compensates_a_child_while_its_parent_completes(broker):
    seen_both = set()
    for _ in range(4 * ROUNDS):
        saga, ours, messages = family(broker, ONLY_CHILDREN, count=1)

        _, compensated = at_once(
            lambda m=messages[0]: perform(m), lambda pk=ours[0].pk: OPERATORS["compensate"](pk)
        )
        harness.drive(broker, saga)

        # One that is done belongs to its parent; any other turns round, and its parent with it.
        expected = "completed" if isinstance(compensated, errors.SagaError) else "compensated"
        seen_both.add(expected)
        assert (saga.state, ends(saga, ours)) == (expected, {expected})
    assert seen_both


def test_a_childs_worker_dies_between_its_commit_and_telling_its_parent(broker, monkeypatch):
    for dead in (1, 2):
        saga, ours, messages = family(broker, ONLY_CHILDREN)
        left = [True] * dead

        def die(parent_id, step, left=left):
            if left:
                left.pop()
                raise crashes.Crash
            parents.take_up(parent_id, step)

        monkeypatch.setattr(children, "_listeners", [die])
        at_once(*[functools.partial(perform_and_die, message) for message in messages])
        monkeypatch.setattr(children, "_listeners", [parents.take_up])
        saga.refresh_from_db()

        clocks.pass_time(10 * toys.SECOND)
        engine.sweep()

        saga.refresh_from_db()
        assert (saga.state, ends(saga, ours)) == ("completed", {"completed"})


def perform_and_die(message):
    with contextlib.suppress(crashes.Crash):
        perform(message)
