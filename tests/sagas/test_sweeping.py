"""The sweep: what is lost is sent again, what merely waits its turn is not, and nothing is sent too often."""

import datetime
import random

import pytest

from sagas import engine, models
from sagas.declaration import definition
from sagas.declaration.states import Direction
from sagas.engine import dispatching, probes, transport
from sagas.testing import clocks, memory_transport
from tests.sagas import harness, rules
from tests.sagas.sample_app import recorder
from tests.sagas.sample_app import saga as toys

SECOND = datetime.timedelta(seconds=1)
MINUTE = datetime.timedelta(minutes=1)
HOUR = datetime.timedelta(hours=1)


def test_a_saga_that_this_process_does_not_know_is_one_line_that_says_what_to_do(broker, caplog):
    saga = harness.begin(toys.LOCAL)
    models.SagaInstance.objects.filter(pk=saga.pk).update(version=99)
    clocks.skip()

    engine.sweep()

    (told,) = [record for record in caplog.records if str(saga.pk) in record.getMessage()]
    assert "toy-local v99 is not declared in the code that runs here. Restart" in told.getMessage()
    assert told.exc_info is None


def messages(broker, saga):
    """The messages ever sent for a saga's steps."""
    return [
        m
        for m in broker.sent
        if isinstance(m, memory_transport.StepMessage) and m.dispatch.saga_id == saga.pk
    ]


def work(broker):
    """A worker is there, and takes what waits."""
    engine.heard("toys")
    broker.deliver_all()


def sweep_for(span, every):
    for _ in range(round(span / every)):
        clocks.pass_time(every)
        engine.sweep()


def test_a_backlog_is_no_loss(broker):
    """The workers are away for an hour, far longer than any lease and any grace."""
    sagas = [harness.begin(toys.MIXED) for _ in range(5)]

    sweep_for(HOUR, every=30 * SECOND)
    sent_meanwhile = [len(messages(broker, saga)) for saga in sagas]
    harness.drive(broker, *sagas, rounds=2000)

    assert max(sent_meanwhile) <= 5, "no message storm"
    for saga in sagas:
        assert saga.state == "completed"
        assert recorder.lines(saga.pk) == ["do a", "do b", "do c", "do d"], "each step is performed once"
        assert len(messages(broker, saga)) <= 5 + 8
        rules.check(saga)


def test_a_long_backlog_is_sent_ever_more_seldom(broker):
    saga = harness.begin(toys.LOCAL)

    sweep_for(24 * HOUR, every=15 * MINUTE)

    assert 3 <= len(messages(broker, saga)) <= 9, "doubling, not every quarter of an hour"


def test_a_lost_message_is_sent_again_once_a_probe_has_overtaken_it(broker):
    saga = harness.begin(toys.LOCAL)
    broker.waiting.clear()

    sweep_for(MINUTE, every=5 * SECOND)
    assert messages(broker, saga)[1:] == [], "nobody has shown that it is lost"

    for _ in range(6):
        broker.deliver_all()
        sweep_for(5 * SECOND, every=5 * SECOND)
    saga.refresh_from_db()

    assert saga.state == "completed"
    rules.check(saga)


def test_a_broker_that_forgot_everything_costs_only_time(broker):
    sagas = [harness.begin(toys.MIXED, script) for script in ["", "fail c", "lose b", "lose d"]]
    for _ in range(7):
        broker.deliver()

    broker.waiting.clear()
    harness.drive(broker, *sagas)

    assert [saga.state for saga in sagas] == ["completed", "compensated", "completed", "completed"]
    for saga in sagas:
        rules.check(saga)


def test_a_chain_that_is_under_way_is_left_alone(broker):
    saga = harness.begin(toys.LOCAL)
    broker.deliver()

    for _ in range(10):
        engine.sweep()

    assert [m.dispatch.epoch for m in messages(broker, saga)] == [1, 1]
    harness.drive(broker, saga)
    assert saga.epoch == 1


def test_each_sending_in_vain_waits_longer_than_the_one_before():
    assert [dispatching.grace(n) / dispatching.grace() for n in (1, 2, 3, 4)] == [1, 2, 4, 8]
    assert dispatching.grace(10_000) == dispatching.LONGEST_GRACE


def test_a_sweep_takes_the_longest_due_first_and_not_all_at_once(broker):
    sagas = [harness.begin(toys.ONE) for _ in range(5)]
    broker.waiting.clear()
    models.SagaInstance.objects.update(dispatched_at=None)
    clocks.pass_time(MINUTE)

    assert engine.sweep(limit=3) == 3
    assert engine.sweep(limit=3) == 2
    assert engine.sweep(limit=3) == 0
    broker.deliver_all()
    assert [m.dispatch.saga_id for m in harness.step_messages(broker)[5:]] == [saga.pk for saga in sagas]


def test_a_sweep_leaves_alone_what_is_held_or_closed_or_has_ended(broker):
    held, closed, over = (
        harness.begin(toys.ONE),
        harness.begin(toys.REMOTE, "fail a, fail undo a"),
        harness.begin(toys.ONE),
    )
    engine.hold(held.pk, seen=engine.look(held.pk), actor="operator", reason="let me see")
    for _ in range(15):
        broker.deliver()
    engine.close(closed.pk, seen=engine.look(closed.pk), actor="operator", reason="settled by hand")
    broker.waiting.clear()

    clocks.pass_time(HOUR)
    before = [rules.snapshot(saga) for saga in (held, closed, over)]
    engine.sweep()

    assert [rules.snapshot(saga) for saga in (held, closed, over)] == before
    assert over.state == "completed"


def test_a_version_that_is_gone_stops_no_other(broker):
    gone, other = harness.begin(toys.LOCAL), harness.begin(toys.LOCAL)
    models.SagaInstance.objects.filter(pk=gone.pk).update(version=99)
    broker.waiting.clear()
    models.SagaInstance.objects.update(dispatched_at=None)
    clocks.pass_time(MINUTE)

    harness.drive(broker, other)

    gone.refresh_from_db()
    assert (gone.state, other.state) == ("running", "completed")
    assert gone.wake_at > models.database_now()


# --- Probes ---------------------------------------------------------------------------------------


def sent_probes(broker):
    return [m for m in broker.sent if isinstance(m, memory_transport.Probe) and m.queue == "toys"]


def test_probes_come_ever_more_seldom_while_nobody_answers(broker):
    sweep_for(10 * MINUTE, every=5 * SECOND)
    before_any_answer = len(sent_probes(broker))
    broker.deliver_all()
    sweep_for(10 * MINUTE, every=5 * SECOND)

    assert 10 <= before_any_answer <= 14
    assert 10 <= len(sent_probes(broker)) - before_any_answer <= 20, "once a minute in the end"


def test_a_late_probe_does_not_undo_what_a_newer_one_said(broker):
    engine.sweep()
    queue = models.Queue.objects.get(name="toys")
    engine.probe_returned("toys", queue.probed_at)
    engine.probe_returned("toys", queue.probed_at - HOUR)

    assert models.Queue.objects.get(name="toys").returned_sent_at == queue.probed_at
    assert models.Queue.objects.get(name="toys").lag(models.database_now()) == datetime.timedelta(0)


BOUND = dispatching.grace() + probes.PROBE_EVERY + 2 * SECOND
"""The message is old enough to be asked about, a probe is sent, and comes back between two sweeps."""


def sends_all_again_within_the_bound(broker, sagas):
    """How long it takes until each is sent again, while a worker takes what comes."""
    waited = datetime.timedelta(0)
    while any(len(messages(broker, saga)) < 2 for saga in sagas):
        assert waited <= BOUND, f"after {waited} some still stand"
        clocks.pass_time(SECOND)
        waited += SECOND
        engine.sweep()
        work(broker)


def test_a_new_queue_whose_broker_forgets_everything_is_asked_again_as_soon_as_one_that_is_known(broker):
    """Nobody has ever answered on it, and its first probe is forgotten with the backlog before it."""
    sagas = [harness.begin(toys.LOCAL) for _ in range(5)]
    sweep_for(4 * SECOND, every=SECOND)
    broker.waiting.clear()

    sends_all_again_within_the_bound(broker, sagas)


def test_a_broker_that_forgot_a_days_backlog_is_found_out_as_soon_as_a_worker_comes(broker):
    sagas = [harness.begin(toys.LOCAL) for _ in range(5)]
    sweep_for(14 * MINUTE, every=20 * SECOND)
    broker.waiting.clear()

    sends_all_again_within_the_bound(broker, sagas)


def test_a_broker_that_forgets_the_rest_of_a_long_backlog_is_found_out_while_somebody_works_on_it(broker):
    """No probe has come back for minutes, since all of them lie behind the backlog."""
    sagas = [harness.begin(toys.LOCAL) for _ in range(5)]
    for _ in range(180):
        clocks.pass_time(SECOND)
        engine.heard("toys")
        engine.sweep()
    broker.waiting.clear()

    sends_all_again_within_the_bound(broker, sagas)


def test_a_probe_that_could_not_be_sent_is_sent_by_the_next_sweep(broker):
    with transport.use(Away()):
        engine.sweep()
    assert sent_probes(broker) == []

    engine.sweep()

    assert len(sent_probes(broker)) == 1


class Away(memory_transport.MemoryTransport):
    """A broker that takes nothing."""

    def put(self, message):
        raise ConnectionRefusedError


def test_a_queues_lag_is_the_age_of_the_oldest_probe_that_nobody_answered(broker):
    """And not of the newest, which is sent again and again."""
    sweep_for(5 * MINUTE, every=5 * SECOND)
    queue = models.Queue.objects.get(name="toys")
    assert round(queue.lag(models.database_now()) / MINUTE) == 5

    # Probes come back one after the other while a worker is at the backlog.
    engine.probe_returned("toys", queue.unanswered_since)
    engine.probe_returned("toys", queue.unanswered_since + 2 * MINUTE)
    queue.refresh_from_db()
    assert round(queue.lag(models.database_now()) / MINUTE) == 3

    engine.probe_returned("toys", queue.probed_at)
    queue.refresh_from_db()
    assert queue.lag(models.database_now()) == datetime.timedelta(0)


def test_a_backlog_that_somebody_works_on_is_no_silence(broker):
    sweep_for(5 * MINUTE, every=5 * SECOND)
    queue = models.Queue.objects.get(name="toys")
    assert round(queue.silence(models.database_now()) / MINUTE) == 5

    engine.heard("toys", "toys@host")
    queue.refresh_from_db()

    assert queue.silence(models.database_now()) < SECOND
    assert round(queue.lag(models.database_now()) / MINUTE) == 5
    assert queue.worker == "toys@host"


# --- Time -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", ["do a, 2x flake b", "do a, lose b, flake b"])
def test_a_budget_of_time_ends_a_step_as_a_budget_of_attempts_does(broker, script):
    pauses = toys.Retry(on=[toys.functions.Unavailable], attempts=99, first=MINUTE, factor=1, jitter=0)
    declared = toys.saga("toy-budget", toys.remote("a"), toys.remote("b", budget=90 * SECOND), retry=pauses)
    saga = harness.begin(declared, script + ", 99x flake b")

    harness.drive(broker, saga)

    assert saga.state == "compensated"
    assert saga.failure["clock"] == "budget"
    assert saga.steps.get(name="b").attempts == 3
    rules.check(saga)


def test_a_wait_that_ran_out_says_so_whoever_was_asked(broker):
    waited = harness.begin(toys.BLIND_WAIT, "begin w")
    asked = harness.begin(toys.WAIT, "begin w, 999x flake ask w")
    broker.deliver_all()

    clocks.pass_time(HOUR)
    harness.drive(broker, waited, asked)

    assert (waited.failure["clock"], asked.failure["clock"]) == ("wait", "wait")


def test_a_retry_pauses_as_its_policy_says(broker):
    pauses = toys.Retry(on=[toys.functions.Unavailable], attempts=4, first=MINUTE, cap=HOUR, jitter=0)
    saga = harness.begin(toys.saga("toy-pauses", toys.remote("a"), retry=pauses), "3x flake a")

    paused = []
    for _ in range(3):
        broker.deliver_all()
        paused.append(round(clocks.until_due() / MINUTE))
        clocks.skip()
        engine.sweep()
    harness.drive(broker, saga)

    assert paused == [1, 2, 4]
    assert saga.state == "completed"


def test_no_pause_is_longer_than_the_deadline_allows(broker):
    pauses = toys.Retry(on=[toys.functions.Unavailable], attempts=4, first=HOUR, cap=HOUR, jitter=0)
    declared = toys.saga("toy-hurry", toys.remote("a"), retry=pauses, deadline=MINUTE)
    saga = harness.begin(declared, "flake a")

    broker.deliver_all()

    saga.refresh_from_db()
    assert saga.wake_at - saga.deadline_at < SECOND
    harness.drive(broker, saga)
    assert (saga.state, saga.failure["clock"]) == ("compensated", "deadline")


def test_a_stray_message_does_not_shorten_a_pause(broker):
    pauses = toys.Retry(on=[toys.functions.Unavailable], attempts=4, first=MINUTE)
    saga = harness.begin(toys.saga("toy-stray", toys.remote("a"), retry=pauses), "flake a")
    message = broker.waiting[0]
    broker.deliver_all()

    broker.carry_out(message)
    broker.carry_out(memory_transport.ChainError(saga_id=saga.pk, epoch=1))
    broker.deliver_all()

    assert recorder.lines(saga.pk) == ["flake a"]


def test_what_needs_a_person_is_tried_again_by_itself_where_that_may_help(broker):
    refused = harness.begin(toys.REMOTE, "fail a, fail undo a")
    flaky = harness.begin(toys.REMOTE, "fail a, 4x flake undo a")
    harness.drive(broker, refused, flaky)
    assert (refused.state, flaky.state) == ("needs_attention", "needs_attention")

    clocks.pass_time(toys.REMOTE.resume_every)
    engine.sweep()
    broker.deliver_all()

    refused.refresh_from_db()
    flaky.refresh_from_db()
    assert (refused.state, flaky.state) == ("needs_attention", "compensated")
    assert refused.wake_at is None, "a refusal does not change by itself"
    rules.check(flaky)


def pauses_until_tried_again(broker, saga, times):
    """How long it stands before a person each time, while nobody comes and nothing mends."""
    pauses = []
    for _ in range(times):
        saga.refresh_from_db()
        assert saga.state == "needs_attention"
        pauses.append(saga.wake_at - models.database_now())
        clocks.pass_time(pauses[-1] + SECOND)
        engine.sweep()
        broker.deliver_all()
    saga.refresh_from_db()
    return pauses


def test_what_nobody_mends_is_tried_again_ever_more_seldom(broker):
    saga = harness.begin(toys.LOCAL, "do a, fail b, 40x flake undo a")
    harness.drive(broker, saga)

    pauses = pauses_until_tried_again(broker, saga, 10)

    first, longest = toys.LOCAL.resume_every, definition.LONGEST_RESUME_PAUSE
    for number, pause in enumerate(pauses):
        whole = min(first * 2**number, longest)
        assert whole * (1 - definition.RESUME_JITTER) - SECOND < pause <= whole
    assert pauses[-1] > longest / 2

    # A person's word makes it hopeful again.
    engine.resume(
        saga.pk, seen=engine.look(saga.pk), actor="Alice", reason="the provider says that it is mended"
    )
    broker.deliver_all()
    assert pauses_until_tried_again(broker, saga, 1)[0] <= first
    rules.check(saga)


def test_what_was_stopped_together_is_not_tried_again_at_the_same_instant(broker):
    random.seed(7)
    sagas = [harness.begin(toys.LOCAL, "do a, fail b, 40x flake undo a") for _ in range(12)]
    harness.drive(broker, *sagas)

    due = sorted(saga.wake_at for saga in sagas)

    assert due[-1] - due[0] > toys.LOCAL.resume_every * definition.RESUME_JITTER / 4


# --- Messages that come too late --------------------------------------------------------------------


def test_a_message_of_an_older_dispatch_is_void(broker):
    saga = harness.begin(toys.LOCAL)
    old = broker.waiting.pop()
    engine.retry(saga.pk, seen=engine.look(saga.pk), actor="operator", reason="it takes so long")

    broker.carry_out(old)
    broker.carry_out(memory_transport.ChainError(saga_id=saga.pk, epoch=1))

    assert recorder.lines(saga.pk) == []
    assert len(messages(broker, saga)) == 2
    harness.drive(broker, saga)
    assert saga.state == "completed"


@pytest.mark.parametrize("script", ["", "fail a"])
def test_a_message_in_the_other_direction_is_void(broker, script):
    """None is ever sent; whoever puts one into the queue by hand does no harm."""
    saga = harness.begin(toys.REMOTE, script)
    if script:
        for _ in range(2):
            broker.deliver()
        saga.refresh_from_db()
        assert saga.dispatched_at is not None, "its undo is under way"
    before = rules.snapshot(saga)

    result = engine.perform(saga.pk, epoch=saga.epoch, step="a", direction=Direction(-saga.direction))

    assert result.next is engine.Next.STOP
    assert rules.snapshot(saga) == before


def test_a_false_alarm_takes_nothing_from_whoever_is_at_work(broker, monkeypatch):
    saga = harness.begin(toys.REMOTE)
    world = harness.Meanwhile(lambda: engine.on_chain_error(saga.pk, 1))
    monkeypatch.setattr("tests.sagas.sample_app.functions.WORLD", world)

    broker.deliver_all()

    saga.refresh_from_db()
    assert (saga.state, saga.epoch) == ("completed", 1), "its chain was not made void"


def test_an_error_callback_sends_nothing_for_a_saga_that_is_held(broker):
    saga = harness.begin(toys.LOCAL, "do a, fail b")
    broker.deliver()
    broker.deliver()
    engine.hold(saga.pk, seen=engine.look(saga.pk), **WHO)

    broker.deliver_all()

    saga.refresh_from_db()
    assert (saga.state, saga.epoch) == ("compensating", 1)
    engine.release(saga.pk, seen=engine.look(saga.pk), **WHO)
    harness.drive(broker, saga)
    assert saga.state == "compensated"
    rules.check(saga)


def test_what_was_sent_before_it_turned_round_is_void_too(broker):
    saga = harness.begin(toys.LOCAL)
    broker.deliver()
    forward = broker.waiting.pop()
    engine.cancel(saga.pk, actor="customer", reason="changed my mind")

    broker.carry_out(forward)
    harness.drive(broker, saga)
    broker.carry_out(forward)

    assert recorder.lines(saga.pk) == ["do a", "undo a"]
    rules.check(saga)


def test_past_the_pivot_a_deadline_stops_nobody_who_is_on_the_way(broker):
    saga = harness.begin(toys.PIVOTAL)
    broker.deliver()
    broker.deliver()
    clocks.pass_time(toys.PIVOTAL.deadline)

    broker.deliver_all()

    saga.refresh_from_db()
    assert saga.state == "completed", "P1"
    rules.check(saga)


# --- What a person sent on again has time again -----------------------------------------------------

AGAIN = {
    "resumed": ("fail c, fail undo c", lambda pk: engine.resume(pk, seen=engine.look(pk), **WHO)),
    "settled": (
        "fail c, fail undo c",
        lambda pk: engine.resolve(pk, seen=engine.look(pk), happened=True, **WHO),
    ),
    "by itself": ("fail c, 4x flake undo c", lambda pk: clocks.pass_time(toys.REMOTE.resume_every, pk)),
}
WHO = {"actor": "operator", "reason": "the provider is back"}


@pytest.mark.parametrize("how", AGAIN)
def test_what_goes_on_after_its_time_was_over_has_time_again(broker, how):
    script, act = AGAIN[how]
    saga = harness.begin(toys.REMOTE, f"do a, do b, {script}")
    harness.drive(broker, saga)
    clocks.pass_time(3 * toys.REMOTE.undo_deadline, saga.pk)

    act(saga.pk)
    for _ in range(50):  # Each queue is probed as well.
        engine.sweep()  # Faster than any worker.
        broker.deliver()

    saga.refresh_from_db()
    assert saga.state == "compensated"
    assert harness.kinds(saga).count("saga.attention") == 1
    rules.check(saga)


def test_it_has_no_more_time_than_at_first(broker):
    saga = harness.begin(toys.REMOTE, "fail a, fail undo a")
    harness.drive(broker, saga)
    clocks.pass_time(3 * toys.REMOTE.undo_deadline, saga.pk)
    engine.resume(saga.pk, seen=engine.look(saga.pk), **WHO)

    clocks.pass_time(toys.REMOTE.undo_deadline, saga.pk)
    engine.sweep()

    saga.refresh_from_db()
    assert (saga.state, saga.attention["step"]) == ("needs_attention", "a"), "T2"


def test_what_was_settled_past_the_pivot_after_its_time_goes_on_too(broker):
    saga = harness.begin(toys.PIVOTAL, "do a, do p, fail r")
    harness.drive(broker, saga)
    clocks.pass_time(3 * toys.PIVOTAL.deadline, saga.pk)

    engine.resolve(saga.pk, seen=engine.look(saga.pk), happened=True, **WHO)
    for _ in range(15):
        engine.sweep()
        broker.deliver()

    saga.refresh_from_db()
    assert saga.state == "completed"
