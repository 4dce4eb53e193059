"""The sweep: what is lost is sent again, what merely waits its turn is not, and nothing is sent too often."""

import datetime
import random

import pytest

from sagas import definition, engine, models, moves, sweeping, transport
from sagas.states import Direction
from sagas.testing import clocks, post
from tests.sagas import rules, stage
from tests.sagas.toybox import saga as toys
from tests.sagas.toybox import witness

SECOND = datetime.timedelta(seconds=1)
MINUTE = datetime.timedelta(minutes=1)
HOUR = datetime.timedelta(hours=1)


def legs(office, saga):
    """The messages ever sent for a saga's steps."""
    return [m for m in office.sent if isinstance(m, post.Leg) and m.errand.saga_id == saga.pk]


def work(office):
    """A worker is there, and takes what waits."""
    engine.heard("toys")
    office.deliver_all()


def sweep_for(span, every):
    for _ in range(round(span / every)):
        clocks.pass_time(every)
        engine.sweep()


def test_a_backlog_is_no_loss(office):
    """The workers are away for an hour, far longer than any lease and any grace."""
    sagas = [stage.begin(toys.MIXED) for _ in range(5)]

    sweep_for(HOUR, every=30 * SECOND)
    sent_meanwhile = [len(legs(office, saga)) for saga in sagas]
    stage.drive(office, *sagas, rounds=2000)

    assert max(sent_meanwhile) <= 5, "no message storm"
    for saga in sagas:
        assert saga.state == "completed"
        assert witness.lines(saga.pk) == ["do a", "do b", "do c", "do d"], "each step is performed once"
        assert len(legs(office, saga)) <= 5 + 8
        rules.check(saga)


def test_a_long_backlog_is_sent_ever_more_seldom(office):
    saga = stage.begin(toys.LOCAL)

    sweep_for(24 * HOUR, every=15 * MINUTE)

    assert 3 <= len(legs(office, saga)) <= 9, "doubling, not every quarter of an hour"


def test_a_lost_message_is_sent_again_once_a_probe_has_overtaken_it(office):
    saga = stage.begin(toys.LOCAL)
    office.waiting.clear()

    sweep_for(MINUTE, every=5 * SECOND)
    assert legs(office, saga)[1:] == [], "nobody has shown that it is lost"

    for _ in range(6):
        office.deliver_all()
        sweep_for(5 * SECOND, every=5 * SECOND)
    saga.refresh_from_db()

    assert saga.state == "completed"
    rules.check(saga)


def test_a_broker_that_forgot_everything_costs_only_time(office):
    sagas = [stage.begin(toys.MIXED, script) for script in ["", "fail c", "lose b", "lose d"]]
    for _ in range(7):
        office.deliver()

    office.waiting.clear()
    stage.drive(office, *sagas)

    assert [saga.state for saga in sagas] == ["completed", "compensated", "completed", "completed"]
    for saga in sagas:
        rules.check(saga)


def test_a_chain_that_is_under_way_is_left_alone(office):
    saga = stage.begin(toys.LOCAL)
    office.deliver()

    for _ in range(10):
        engine.sweep()

    assert [m.errand.epoch for m in legs(office, saga)] == [1, 1]
    stage.drive(office, saga)
    assert saga.epoch == 1


def test_each_sending_in_vain_waits_longer_than_the_one_before():
    assert [moves.grace(n) / moves.grace() for n in (1, 2, 3, 4)] == [1, 2, 4, 8]
    assert moves.grace(10_000) == moves.LONGEST_GRACE


def test_a_sweep_takes_the_longest_due_first_and_not_all_at_once(office):
    sagas = [stage.begin(toys.ONE) for _ in range(5)]
    office.waiting.clear()
    models.SagaInstance.objects.update(dispatched_at=None)
    clocks.pass_time(MINUTE)

    assert engine.sweep(limit=3) == 3
    assert engine.sweep(limit=3) == 2
    assert engine.sweep(limit=3) == 0
    assert [m.errand.saga_id for m in legs_of_all(office)[5:]] == [saga.pk for saga in sagas]


def legs_of_all(office):
    return [m for m in office.sent if isinstance(m, post.Leg)]


def test_a_sweep_leaves_alone_what_is_held_or_closed_or_has_ended(office):
    held, closed, over = (
        stage.begin(toys.ONE),
        stage.begin(toys.REMOTE, "fail a, fail undo a"),
        stage.begin(toys.ONE),
    )
    engine.hold(held.pk, seen=engine.look(held.pk), actor="operator", reason="let me see")
    for _ in range(15):
        office.deliver()
    engine.close(closed.pk, seen=engine.look(closed.pk), actor="operator", reason="settled by hand")
    office.waiting.clear()

    clocks.pass_time(HOUR)
    before = [rules.snapshot(saga) for saga in (held, closed, over)]
    engine.sweep()

    assert [rules.snapshot(saga) for saga in (held, closed, over)] == before
    assert over.state == "completed"


def test_a_version_that_is_gone_stops_no_other(office):
    gone, other = stage.begin(toys.LOCAL), stage.begin(toys.LOCAL)
    models.SagaInstance.objects.filter(pk=gone.pk).update(version=99)
    office.waiting.clear()
    models.SagaInstance.objects.update(dispatched_at=None)
    clocks.pass_time(MINUTE)

    stage.drive(office, other)

    gone.refresh_from_db()
    assert (gone.state, other.state) == ("running", "completed")
    assert gone.wake_at > models.database_now()


# --- Probes ---------------------------------------------------------------------------------------


def probes(office):
    return [m for m in office.sent if isinstance(m, post.Probe) and m.queue == "toys"]


def test_probes_come_ever_more_seldom_while_nobody_answers(office):
    sweep_for(10 * MINUTE, every=5 * SECOND)
    before_any_answer = len(probes(office))
    office.deliver_all()
    sweep_for(10 * MINUTE, every=5 * SECOND)

    assert 10 <= before_any_answer <= 14
    assert 10 <= len(probes(office)) - before_any_answer <= 20, "once a minute in the end"


def test_a_late_probe_does_not_undo_what_a_newer_one_said(office):
    engine.sweep()
    queue = models.Queue.objects.get(name="toys")
    engine.echo("toys", queue.probed_at)
    engine.echo("toys", queue.probed_at - HOUR)

    assert models.Queue.objects.get(name="toys").echoed_sent_at == queue.probed_at
    assert models.Queue.objects.get(name="toys").lag(models.database_now()) == datetime.timedelta(0)


BOUND = moves.grace() + sweeping.PROBE_EVERY + 2 * SECOND
"""The message is old enough to be asked about, a probe is sent, and comes back between two sweeps."""


def sends_all_again_within_the_bound(office, sagas):
    """How long it takes until each is sent again, while a worker takes what comes."""
    waited = datetime.timedelta(0)
    while any(len(legs(office, saga)) < 2 for saga in sagas):
        assert waited <= BOUND, f"after {waited} some still stand"
        clocks.pass_time(SECOND)
        waited += SECOND
        engine.sweep()
        work(office)


def test_a_new_queue_whose_broker_forgets_everything_is_asked_again_as_soon_as_one_that_is_known(office):
    """Nobody has ever answered on it, and its first probe is forgotten with the backlog before it."""
    sagas = [stage.begin(toys.LOCAL) for _ in range(5)]
    sweep_for(4 * SECOND, every=SECOND)
    office.waiting.clear()

    sends_all_again_within_the_bound(office, sagas)


def test_a_broker_that_forgot_a_days_backlog_is_found_out_as_soon_as_a_worker_comes(office):
    sagas = [stage.begin(toys.LOCAL) for _ in range(5)]
    sweep_for(14 * MINUTE, every=20 * SECOND)
    office.waiting.clear()

    sends_all_again_within_the_bound(office, sagas)


def test_a_broker_that_forgets_the_rest_of_a_long_backlog_is_found_out_while_somebody_works_on_it(office):
    """No probe has come back for minutes, since all of them lie behind the backlog."""
    sagas = [stage.begin(toys.LOCAL) for _ in range(5)]
    for _ in range(180):
        clocks.pass_time(SECOND)
        engine.heard("toys")
        engine.sweep()
    office.waiting.clear()

    sends_all_again_within_the_bound(office, sagas)


def test_a_probe_that_could_not_be_sent_is_sent_by_the_next_sweep(office):
    with transport.use(Away()):
        engine.sweep()
    assert probes(office) == []

    engine.sweep()

    assert len(probes(office)) == 1


class Away(post.Post):
    """A broker that takes nothing."""

    def put(self, message):
        raise ConnectionRefusedError


def test_a_queues_lag_is_the_age_of_the_oldest_probe_that_nobody_answered(office):
    """And not of the newest, which is sent again and again."""
    sweep_for(5 * MINUTE, every=5 * SECOND)
    queue = models.Queue.objects.get(name="toys")
    assert round(queue.lag(models.database_now()) / MINUTE) == 5

    # Probes come back one after the other while a worker is at the backlog.
    engine.echo("toys", queue.unanswered_since)
    engine.echo("toys", queue.unanswered_since + 2 * MINUTE)
    queue.refresh_from_db()
    assert round(queue.lag(models.database_now()) / MINUTE) == 3

    engine.echo("toys", queue.probed_at)
    queue.refresh_from_db()
    assert queue.lag(models.database_now()) == datetime.timedelta(0)


def test_a_backlog_that_somebody_works_on_is_no_silence(office):
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
def test_a_budget_of_time_ends_a_step_as_a_budget_of_attempts_does(office, script):
    pauses = toys.Retry(on=[toys.verbs.Unavailable], attempts=99, first=MINUTE, factor=1, jitter=0)
    declared = toys.saga("toy-budget", toys.remote("a"), toys.remote("b", budget=90 * SECOND), retry=pauses)
    saga = stage.begin(declared, script + ", 99x flake b")

    stage.drive(office, saga)

    assert saga.state == "compensated"
    assert saga.failure["clock"] == "budget"
    assert saga.steps.get(name="b").attempts == 3
    rules.check(saga)


def test_a_wait_that_ran_out_says_so_whoever_was_asked(office):
    waited = stage.begin(toys.BLIND_WAIT, "begin w")
    asked = stage.begin(toys.WAIT, "begin w, 999x flake ask w")
    office.deliver_all()

    clocks.pass_time(HOUR)
    stage.drive(office, waited, asked)

    assert (waited.failure["clock"], asked.failure["clock"]) == ("wait", "wait")


def test_a_retry_pauses_as_its_policy_says(office):
    pauses = toys.Retry(on=[toys.verbs.Unavailable], attempts=4, first=MINUTE, cap=HOUR, jitter=0)
    saga = stage.begin(toys.saga("toy-pauses", toys.remote("a"), retry=pauses), "3x flake a")

    paused = []
    for _ in range(3):
        office.deliver_all()
        paused.append(round(clocks.until_due() / MINUTE))
        clocks.skip()
        engine.sweep()
    stage.drive(office, saga)

    assert paused == [1, 2, 4]
    assert saga.state == "completed"


def test_no_pause_is_longer_than_the_deadline_allows(office):
    pauses = toys.Retry(on=[toys.verbs.Unavailable], attempts=4, first=HOUR, cap=HOUR, jitter=0)
    declared = toys.saga("toy-hurry", toys.remote("a"), retry=pauses, deadline=MINUTE)
    saga = stage.begin(declared, "flake a")

    office.deliver_all()

    saga.refresh_from_db()
    assert saga.wake_at - saga.deadline_at < SECOND
    stage.drive(office, saga)
    assert (saga.state, saga.failure["clock"]) == ("compensated", "deadline")


def test_a_stray_message_does_not_shorten_a_pause(office):
    pauses = toys.Retry(on=[toys.verbs.Unavailable], attempts=4, first=MINUTE)
    saga = stage.begin(toys.saga("toy-stray", toys.remote("a"), retry=pauses), "flake a")
    message = office.waiting[0]
    office.deliver_all()

    office.carry_out(message)
    office.carry_out(post.TakeUp(saga_id=saga.pk, epoch=1))
    office.deliver_all()

    assert witness.lines(saga.pk) == ["flake a"]


def test_what_needs_a_person_is_tried_again_by_itself_where_that_may_help(office):
    refused = stage.begin(toys.REMOTE, "fail a, fail undo a")
    flaky = stage.begin(toys.REMOTE, "fail a, 4x flake undo a")
    stage.drive(office, refused, flaky)
    assert (refused.state, flaky.state) == ("needs_attention", "needs_attention")

    clocks.pass_time(toys.REMOTE.resume_every)
    engine.sweep()
    office.deliver_all()

    refused.refresh_from_db()
    flaky.refresh_from_db()
    assert (refused.state, flaky.state) == ("needs_attention", "compensated")
    assert refused.wake_at is None, "a refusal does not change by itself"
    rules.check(flaky)


def pauses_until_tried_again(office, saga, times):
    """How long it stands before a person each time, while nobody comes and nothing mends."""
    pauses = []
    for _ in range(times):
        saga.refresh_from_db()
        assert saga.state == "needs_attention"
        pauses.append(saga.wake_at - models.database_now())
        clocks.pass_time(pauses[-1] + SECOND)
        engine.sweep()
        office.deliver_all()
    saga.refresh_from_db()
    return pauses


def test_what_nobody_mends_is_tried_again_ever_more_seldom(office):
    saga = stage.begin(toys.LOCAL, "do a, fail b, 40x flake undo a")
    stage.drive(office, saga)

    pauses = pauses_until_tried_again(office, saga, 10)

    first, longest = toys.LOCAL.resume_every, definition.LONGEST_RESUME_PAUSE
    for number, pause in enumerate(pauses):
        whole = min(first * 2**number, longest)
        assert whole * (1 - definition.RESUME_JITTER) - SECOND < pause <= whole
    assert pauses[-1] > longest / 2

    # A person's word makes it hopeful again.
    engine.retry(
        saga.pk, seen=engine.look(saga.pk), actor="Alice", reason="the provider says that it is mended"
    )
    office.deliver_all()
    assert pauses_until_tried_again(office, saga, 1)[0] <= first
    rules.check(saga)


def test_what_was_stopped_together_is_not_tried_again_at_the_same_instant(office):
    random.seed(7)
    sagas = [stage.begin(toys.LOCAL, "do a, fail b, 40x flake undo a") for _ in range(12)]
    stage.drive(office, *sagas)

    due = sorted(saga.wake_at for saga in sagas)

    assert due[-1] - due[0] > toys.LOCAL.resume_every * definition.RESUME_JITTER / 4


# --- Messages that come too late --------------------------------------------------------------------


def test_a_message_of_an_older_dispatch_is_void(office):
    saga = stage.begin(toys.LOCAL)
    old = office.waiting.pop()
    engine.retry(saga.pk, seen=engine.look(saga.pk), actor="operator", reason="it takes so long")

    office.carry_out(old)
    office.carry_out(post.TakeUp(saga_id=saga.pk, epoch=1))

    assert witness.lines(saga.pk) == []
    assert len(legs(office, saga)) == 2
    stage.drive(office, saga)
    assert saga.state == "completed"


@pytest.mark.parametrize("script", ["", "fail a"])
def test_a_message_in_the_other_direction_is_void(office, script):
    """None is ever sent; whoever puts one into the queue by hand does no harm."""
    saga = stage.begin(toys.REMOTE, script)
    if script:
        for _ in range(2):
            office.deliver()
        saga.refresh_from_db()
        assert saga.dispatched_at is not None, "its undo is under way"
    before = rules.snapshot(saga)

    result = engine.perform(saga.pk, epoch=saga.epoch, step="a", direction=Direction(-saga.direction))

    assert result.verdict is engine.Verdict.STOP
    assert rules.snapshot(saga) == before


def test_a_false_alarm_takes_nothing_from_whoever_is_at_work(office, monkeypatch):
    saga = stage.begin(toys.REMOTE)
    world = stage.Meanwhile(lambda: engine.take_up(saga.pk, 1))
    monkeypatch.setattr("tests.sagas.toybox.verbs.WORLD", world)

    office.deliver_all()

    saga.refresh_from_db()
    assert (saga.state, saga.epoch) == ("completed", 1), "its chain was not made void"


def test_an_error_callback_sends_nothing_for_a_saga_that_is_held(office):
    saga = stage.begin(toys.LOCAL, "do a, fail b")
    office.deliver()
    office.deliver()
    engine.hold(saga.pk, seen=engine.look(saga.pk), **WHO)

    office.deliver_all()

    saga.refresh_from_db()
    assert (saga.state, saga.epoch) == ("compensating", 1)
    engine.release(saga.pk, seen=engine.look(saga.pk), **WHO)
    stage.drive(office, saga)
    assert saga.state == "compensated"
    rules.check(saga)


def test_what_was_sent_before_it_turned_round_is_void_too(office):
    saga = stage.begin(toys.LOCAL)
    office.deliver()
    forward = office.waiting.pop()
    engine.cancel(saga.pk, actor="customer", reason="changed my mind")

    office.carry_out(forward)
    stage.drive(office, saga)
    office.carry_out(forward)

    assert witness.lines(saga.pk) == ["do a", "undo a"]
    rules.check(saga)


def test_past_the_pivot_a_deadline_stops_nobody_who_is_on_the_way(office):
    saga = stage.begin(toys.PIVOTAL)
    office.deliver()
    office.deliver()
    clocks.pass_time(toys.PIVOTAL.deadline)

    office.deliver_all()

    saga.refresh_from_db()
    assert saga.state == "completed", "P1"
    rules.check(saga)


# --- What a person sent on again has time again -----------------------------------------------------

AGAIN = {
    "resumed": ("fail c, fail undo c", lambda pk: engine.retry(pk, seen=engine.look(pk), **WHO)),
    "settled": (
        "fail c, fail undo c",
        lambda pk: engine.resolve(pk, seen=engine.look(pk), happened=True, **WHO),
    ),
    "by itself": ("fail c, 4x flake undo c", lambda pk: clocks.pass_time(toys.REMOTE.resume_every, pk)),
}
WHO = {"actor": "operator", "reason": "the provider is back"}


@pytest.mark.parametrize("how", AGAIN)
def test_what_goes_on_after_its_time_was_over_has_time_again(office, how):
    script, act = AGAIN[how]
    saga = stage.begin(toys.REMOTE, f"do a, do b, {script}")
    stage.drive(office, saga)
    clocks.pass_time(3 * toys.REMOTE.undo_deadline, saga.pk)

    act(saga.pk)
    for _ in range(15):
        engine.sweep()  # Faster than any worker.
        office.deliver()

    saga.refresh_from_db()
    assert saga.state == "compensated"
    assert stage.kinds(saga).count("saga.attention") == 1
    rules.check(saga)


def test_but_no_more_than_the_first_time(office):
    saga = stage.begin(toys.REMOTE, "fail a, fail undo a")
    stage.drive(office, saga)
    clocks.pass_time(3 * toys.REMOTE.undo_deadline, saga.pk)
    engine.retry(saga.pk, seen=engine.look(saga.pk), **WHO)

    clocks.pass_time(toys.REMOTE.undo_deadline, saga.pk)
    engine.sweep()

    saga.refresh_from_db()
    assert (saga.state, saga.attention["step"]) == ("needs_attention", "a"), "T2"


def test_what_was_settled_past_the_pivot_after_its_time_goes_on_too(office):
    saga = stage.begin(toys.PIVOTAL, "do a, do p, fail r")
    stage.drive(office, saga)
    clocks.pass_time(3 * toys.PIVOTAL.deadline, saga.pk)

    engine.resolve(saga.pk, seen=engine.look(saga.pk), happened=True, **WHO)
    for _ in range(15):
        engine.sweep()
        office.deliver()

    saga.refresh_from_db()
    assert saga.state == "completed"
