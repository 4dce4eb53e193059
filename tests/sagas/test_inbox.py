"""Callbacks: stored first, matched once, kept whatever becomes of them; a late one is compensated (M3)."""

import datetime

import pytest

from sagas import engine, errors, models
from sagas.testing import clocks, memory_transport
from tests.sagas import harness, rules
from tests.sagas.sample_app import functions, recorder
from tests.sagas.sample_app import saga as toys

PAID = {"settled": True}
HOUR = datetime.timedelta(hours=1)


def tell(saga, event_id="1", **what):
    key = what.pop("key", f"{saga.pk}.w")
    return engine.receive(
        source="world", event_id=event_id, key=key, kind="paid", **(what or {"facts": PAID})
    )


def waiting(broker, script="begin w", declared=toys.BLIND_WAIT):
    saga = harness.begin(declared, script)
    broker.deliver_all()
    return saga


def given_up(broker, script="begin w"):
    saga = waiting(broker, script)
    engine.cancel(saga.pk, actor="customer", reason="too slow")
    harness.drive(broker, saga)
    assert saga.state == "compensated"
    return saga


def test_a_callback_ends_the_wait_and_says_who_said_so(broker):
    saga = waiting(broker)

    signal = tell(saga, facts={"settled": True, "receipt": 7})
    harness.drive(broker, saga)

    assert (signal.fate, saga.state) == ("applied", "completed")
    assert saga.steps.get(name="w").facts == {"settled": True, "receipt": 7}
    assert saga.events.get(kind="signal.applied").actor == "world"
    rules.check(saga)


def test_the_same_callback_a_second_time_changes_nothing(broker):
    saga = waiting(broker)

    first = tell(saga)
    before = rules.snapshot(saga)
    second = tell(saga)

    assert first.pk == second.pk
    assert rules.snapshot(saga) == before


def test_a_callback_that_tells_of_no_end_is_kept_and_the_wait_goes_on(broker):
    saga = waiting(broker)

    signal = tell(saga, facts={"settled": False, "status": "in transit"})
    saga.refresh_from_db()

    step = saga.steps.get(name="w")
    assert (signal.fate, step.state, step.facts["status"]) == ("applied", "waiting", "in transit")


@pytest.mark.parametrize(
    "key", ["", "nothing", "0199c2e0-0000-7000-8000-000000000000.w", "not-a-uuid.w", "x" * 500]
)
def test_a_callback_about_nothing_of_ours_is_kept_too(rows, key):
    signal = engine.receive(source="world", event_id="1", key=key, facts=PAID)

    assert signal.fate == "unmatched"
    assert models.Signal.objects.get().step_key == key[:100]


def test_a_callback_for_a_step_that_this_saga_lacks_is_unmatched(broker):
    saga = waiting(broker)

    assert tell(saga, key=f"{saga.pk}.z").fate == "unmatched"


def test_a_callback_that_comes_early_is_taken_up_when_its_step_waits(broker):
    saga = harness.begin(toys.BLIND_WAIT, "begin w")

    early = tell(saga)
    harness.drive(broker, saga)

    early.refresh_from_db()
    assert (early.fate, saga.state) == ("applied", "completed")
    rules.check(saga)


def test_a_callback_that_was_never_needed_is_noted_in_the_end(broker):
    saga = harness.begin(toys.BLIND_WAIT, "do w")

    early = tell(saga)
    harness.drive(broker, saga)

    early.refresh_from_db()
    assert early.fate == "noted"
    assert early.matched_at is not None


def test_a_callback_that_comes_while_a_person_is_wanted_settles_it(broker):
    saga = harness.begin(toys.LATE_WAIT, "begin r, 9x begin ask r")
    broker.deliver_all()
    clocks.pass_time(HOUR)
    harness.drive(broker, saga)
    assert saga.state == "needs_attention"

    tell(saga, key=f"{saga.pk}.r")
    saga.refresh_from_db()

    assert (saga.state, saga.attention) == ("completed", None)
    rules.check(saga)


def test_a_callback_settles_nothing_after_its_saga_was_put_aside(broker):
    saga = harness.begin(toys.LATE_WAIT, "begin r, 9x begin ask r")
    broker.deliver_all()
    clocks.pass_time(HOUR)
    harness.drive(broker, saga)
    engine.close(saga.pk, seen=engine.look(saga.pk), actor="operator", reason="settled by hand")

    signal = tell(saga, key=f"{saga.pk}.r")
    saga.refresh_from_db()

    assert (signal.fate, saga.state, saga.wake_at) == ("noted", "needs_attention", None)


CLOSED_WAIT = toys.saga("inbox-closed", toys.waits("w", **toys.ASK), toys.local("c"))


def put_aside(broker, script):
    """Its undo was refused, and an operator settled that by hand."""
    saga = waiting(broker, script, CLOSED_WAIT)
    if saga.steps.get(name="w").state == "waiting":
        engine.cancel(saga.pk, actor="customer", reason="too slow")
    harness.drive(broker, saga)
    assert saga.state == "needs_attention"
    engine.close(saga.pk, seen=engine.look(saga.pk), actor="operator", reason="settled by hand")
    return saga


def test_a_payment_that_lands_after_its_saga_was_put_aside_is_returned(broker):
    saga = put_aside(broker, "begin w, fail undo w, undo w")

    late = tell(saga)
    engine.sweep()
    broker.deliver_all()

    late.refresh_from_db()
    assert (late.fate, late.compensated_at is not None) == ("late", True)
    assert recorder.lines(saga.pk)[-1] == "undo w"
    saga.refresh_from_db()
    assert (saga.state, saga.wake_at) == ("needs_attention", None)


def test_what_was_known_before_it_was_put_aside_is_not_returned_a_second_time(broker):
    saga = put_aside(broker, "do w, fail c, fail undo w")
    undone = recorder.lines(saga.pk)

    repeated = tell(saga)
    engine.sweep()
    broker.deliver_all()

    assert repeated.fate == "noted"
    assert recorder.lines(saga.pk) == undone


def test_a_callback_settles_nothing_where_it_lacks_what_later_steps_ask_for(broker):
    declared = toys.saga(
        "inbox-gives",
        toys.remote("p", **toys.PIVOT),
        toys.waits("w", **toys.RETRIABLE, outputs=["mark"]),
        toys.local("s", **toys.RETRIABLE),
    )
    saga = harness.begin(declared, "do p, 3x lose w")
    harness.drive(broker, saga)

    lacking, complete = tell(saga, "1"), tell(saga, "2", facts={"settled": True, "mark": 7})
    harness.drive(broker, saga)

    assert (lacking.fate, complete.fate) == ("stored", "applied")
    assert (saga.state, saga.facts) == ("completed", {"mark": 7})


def test_a_refusal_that_came_while_a_person_was_wanted_ends_the_wait_when_it_goes_on(broker):
    saga = waiting(broker, "do a, begin p", declared=toys.PIVOT_WAIT)
    clocks.pass_time(saga.deadline_at - models.database_now(), saga.pk)
    models.StepInstance.objects.filter(saga=saga).update(wait_until=models.database_now() + HOUR)
    engine.sweep()
    saga.refresh_from_db()
    assert saga.state == "needs_attention"

    tell(saga, key=f"{saga.pk}.p", refused="expired")
    engine.resume(saga.pk, seen=engine.look(saga.pk), actor="operator", reason="it has come to nothing")
    harness.drive(broker, saga)

    assert (saga.state, saga.failure["clock"]) == ("compensated", "deadline")
    assert saga.steps.get(name="p").error["message"] == "expired"


# --- Nothing that is told is lost -----------------------------------------------------------------


@pytest.mark.parametrize("how", [{}, toys.RETRIABLE], ids=["before a pivot", "past it"])
def test_a_callback_that_ends_a_saga_whose_hook_fails_is_kept_until_that_is_mended(broker, how):
    trouble = [LookupError("no such order")]

    def fail_once(*, key):
        if trouble:
            raise trouble.pop()
        functions.completed(key=key)

    declared = toys.saga("inbox-hook", toys.local("a"), toys.waits("w", **how), on_completed=fail_once)
    saga = waiting(broker, "2x begin w", declared)
    signal = tell(saga)
    saga.refresh_from_db()
    assert (signal.fate, saga.state) == ("stored", "needs_attention")
    assert (saga.failure["step"], saga.failure["kind"], saga.failure["error"]) == ("w", "bug", "LookupError")

    engine.resume(saga.pk, seen=engine.look(saga.pk), actor="operator", reason="mended")
    harness.drive(broker, saga)

    signal.refresh_from_db()
    assert (signal.fate, saga.state) == ("applied", "completed")
    rules.check(saga)


def test_a_callback_for_a_version_that_is_gone_is_kept_until_it_is_there_again(broker):
    saga = waiting(broker)
    models.SagaInstance.objects.filter(pk=saga.pk).update(version=9)

    signal = tell(saga)
    assert signal.fate == "stored"

    models.SagaInstance.objects.filter(pk=saga.pk).update(version=1)
    clocks.pass_time(HOUR)
    harness.drive(broker, saga)
    assert saga.state == "completed", "though its time to wait was over: it was told in time"
    rules.check(saga)


@pytest.mark.parametrize(
    "facts", [{"at": object()}, {"n": float("nan")}, {"s": "a\0b"}, {"s": "\ud800"}, [1]]
)
def test_facts_that_cannot_be_kept_are_refused_and_the_transaction_goes_on(broker, facts):
    saga = waiting(broker)

    with harness.transaction.atomic():
        with pytest.raises(errors.BadFacts, match="cannot be kept"):
            tell(saga, facts=facts)
        with pytest.raises(errors.BadFacts, match="cannot be kept"):
            engine.resolve(
                saga.pk, seen=engine.look(saga.pk), happened=True, actor="me", reason="I saw it", facts=facts
            )
        with pytest.raises(errors.BadFacts, match="cannot be kept"):
            engine.begin(GIVEN, key="order-1", inputs={"what": object()}, actor="me")
        tell(saga)

    assert models.Signal.objects.get().fate == "applied"


GIVEN = toys.saga("inbox-given", toys.local("a"), inputs=["what"])


# --- Too late -------------------------------------------------------------------------------------


def test_what_a_callback_tells_of_too_late_is_undone_once_more(broker):
    saga = given_up(broker)
    undone = recorder.lines(saga.pk)

    late = tell(saga)
    engine.sweep()
    broker.deliver_all()

    late.refresh_from_db()
    assert late.fate == "late"
    assert late.compensated_at is not None
    assert recorder.lines(saga.pk) == [*undone, "undo w"]
    assert harness.kinds(saga, "w")[-2:] == ["signal.late", "signal.compensated"]
    rules.check(saga)


def test_a_refusal_that_comes_too_late_needs_no_compensation(broker):
    saga = given_up(broker)

    late = tell(saga, refused="expired")
    engine.sweep()
    broker.deliver_all()

    assert (late.fate, late.wake_at) == ("noted", None)


def test_a_late_compensation_is_tried_until_it_succeeds(broker):
    saga = given_up(broker, "begin w, undo w, 3x flake undo w")

    late = tell(saga)
    for _ in range(5):
        engine.sweep()
        broker.deliver_all()
        clocks.skip()

    late.refresh_from_db()
    assert (late.compensation_attempts, late.compensated_at is not None, late.compensation_error) == (
        4,
        True,
        "",
    )
    assert harness.kinds(saga, "w").count("signal.compensation_retry") == 3


def test_a_late_compensation_that_is_refused_is_for_a_person(broker, caplog):
    saga = given_up(broker, "begin w, undo w, 9x fail undo w")

    late = tell(saga)
    for _ in range(3):
        engine.sweep()
        broker.deliver_all()

    late.refresh_from_db()
    assert (late.compensated_at, late.wake_at, late.compensation_attempts) == (None, None, 1)
    assert "by hand" in caplog.text
    assert harness.kinds(saga, "w")[-1] == "signal.compensation_failed"


def test_a_late_compensation_whose_worker_dies_is_tried_again(broker, simulated_death):
    saga = given_up(broker, "begin w, undo w, die undo w")

    late = tell(saga)
    for _ in range(3):
        engine.sweep()
        with harness.suppress_death():
            broker.deliver_all()
        clocks.skip()

    late.refresh_from_db()
    assert late.compensated_at is not None


def test_a_late_compensation_is_told_once_however_often_its_message_comes(broker):
    saga = given_up(broker)

    late = tell(saga)
    for _ in range(3):
        broker.carry_out(memory_transport.LateCompensation(signal_id=late.pk))

    assert harness.kinds(saga, "w").count("signal.compensated") == 1


def test_a_late_compensation_that_fails_after_another_has_succeeded_changes_nothing(broker, monkeypatch):
    saga = given_up(broker, "begin w")
    late = tell(saga)

    class Doubled(functions.Scripted):
        """While this attempt is on its way to fail, the same message comes to another worker."""

        def undo(self, key, **rest):
            self.undo = super().undo
            engine.compensate_late(late.pk)
            raise functions.Unavailable("later")

    monkeypatch.setattr(functions, "WORLD", Doubled())
    engine.compensate_late(late.pk)

    late.refresh_from_db()
    assert late.compensated_at is not None
    assert (late.wake_at, late.compensation_error) == (None, "")


def test_late_compensations_make_no_storm_while_no_worker_takes_them(broker):
    saga = given_up(broker)
    tell(saga)

    for _ in range(120):
        clocks.pass_time(datetime.timedelta(seconds=30))
        engine.sweep()

    assert len([m for m in broker.sent if isinstance(m, memory_transport.LateCompensation)]) <= 12


def test_a_late_compensation_that_is_no_longer_declared_stops_no_other(broker, monkeypatch):
    gone, saga = given_up(broker), given_up(broker)
    for number, one in enumerate((gone, saga)):
        tell(one, str(number))
    models.SagaInstance.objects.filter(pk=gone.pk).update(name="toy-one")

    engine.sweep()
    broker.deliver_all()

    fates = {str(s.step_key)[:36]: s.compensated_at is not None for s in models.Signal.objects.all()}
    assert fates == {str(gone.pk): False, str(saga.pk): True}


def test_a_broker_that_is_down_stops_neither_late_compensations_nor_probes(broker, monkeypatch):
    saga = given_up(broker)
    late = tell(saga)
    down = {"send": fail, "compensate_late": fail, "probe": fail}
    for name, method in down.items():
        monkeypatch.setattr(broker, name, method)

    engine.sweep()

    late.refresh_from_db()
    assert late.wake_at is not None
    assert late.wake_at > models.database_now()


def fail(*_):
    raise ConnectionError("the broker is gone")


def test_a_local_late_compensation_is_one_transaction(broker):
    saga = waiting(broker, "begin w", declared=toys.LOCAL_WAIT)
    engine.cancel(saga.pk, actor="customer", reason="too slow")
    harness.drive(broker, saga)

    late = tell(saga)
    engine.sweep()
    broker.deliver_all()

    late.refresh_from_db()
    assert late.compensated_at is not None


def test_a_callback_to_a_process_that_does_not_know_the_saga_is_taken_up_by_one_that_does(broker):
    """While a deployment rolls out it may come to an old web server; its step does not wait for its poll."""
    saga = harness.begin(toys.WAIT, "do a, begin w")
    broker.deliver_all()
    assert saga.steps.get(name="w").state == "waiting"
    models.SagaInstance.objects.filter(pk=saga.pk).update(version=99)

    engine.receive(source="world", event_id="1", key=f"{saga.pk}.w", facts={"settled": True})

    assert models.Signal.objects.get().fate == "stored"
    models.SagaInstance.objects.filter(pk=saga.pk).update(version=1)
    engine.sweep()
    broker.deliver_all()
    saga.refresh_from_db()
    assert saga.state == "completed"
