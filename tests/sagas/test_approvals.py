"""A step that a person ends: what a yes, a no and silence do, alone and beside other steps."""

import datetime
import importlib

import pytest
from django.db import connection, transaction
from django.utils import translation

from sagas import Wait, engine, errors, models
from sagas.console import redaction
from sagas.testing import clocks
from tests.sagas import harness, rules
from tests.sagas.sample_app import functions as toy_functions
from tests.sagas.sample_app import models as toy_models
from tests.sagas.sample_app import saga as toys

pytestmark = pytest.mark.usefixtures("rows")

HOUR = datetime.timedelta(hours=1)
MINUTE = datetime.timedelta(minutes=1)

OLGA = {"actor": "olga", "reason": "Seen, and fine"}
OTTO = {"actor": "otto", "reason": "I think so too"}


def asked(broker, saga, script="", **more):
    """A saga whose approval is waited for."""
    instance = harness.begin(saga, script, **more)
    broker.deliver_all()
    assert ok(instance).state == "waiting"
    instance.refresh_from_db()
    return instance


def ok(saga):
    return saga.steps.get(name="ok")


def states(saga):
    saga.refresh_from_db()
    return [saga.state, *saga.steps.order_by("position").values_list("state", flat=True)]


def later(broker, by):
    """Time passes, and whoever sweeps does."""
    clocks.pass_time(by)
    engine.sweep()
    broker.deliver_all()


def ended(saga):
    saga.refresh_from_db()
    assert saga.finished_at is not None
    rules.check(saga)
    return saga.state


def refusal(call, *arguments, **given):
    with translation.override("en"), pytest.raises(errors.NotAllowed) as refused:
        call(*arguments, **given)
    return str(refused.value)


# --- Yes and no -----------------------------------------------------------------------------------


@harness.both_ways
def test_a_yes_lets_it_go_on_and_is_kept_with_who_said_it(broker, inline):
    broker.inline = harness.always if inline else None
    saga = asked(broker, toys.APPROVED)
    assert broker.waiting == []

    engine.approve(saga.pk, "ok", **OLGA)
    broker.deliver_all()

    assert ended(saga) == "completed"
    event = saga.events.get(kind="approval.given")
    assert (event.subject, event.actor, event.reason, event.data) == ("ok", "olga", "Seen, and fine", {})
    (one,) = ok(saga).facts["approvals"]
    assert (one["actor"], one["reason"]) == ("olga", "Seen, and fine")
    assert ok(saga).facts["approved"] is True


@harness.both_ways
def test_a_no_has_everything_undone_and_is_the_failure(broker, inline):
    broker.inline = harness.always if inline else None
    saga = asked(broker, toys.APPROVED)

    engine.refuse(saga.pk, "ok", actor="olga", reason="Not this one")
    broker.deliver_all()

    assert ended(saga) == "compensated"
    assert states(saga) == ["compensated", "undone", "failed", "pending"]
    assert harness.books(saga) == {"a": (1, 1), "ok": (0, 0), "c": (0, 0)}
    event = saga.events.get(kind="approval.refused")
    assert (event.actor, event.reason) == ("olga", "Not this one")
    assert (saga.failure["kind"], saga.failure["step"]) == ("refused", "ok")
    assert saga.failure["message"] == "Not this one"


def test_of_two_persons_each_counts_once(broker):
    saga = asked(broker, toys.APPROVED_BY_TWO)

    engine.approve(saga.pk, "ok", **OLGA)
    assert states(saga) == ["running", "done", "waiting", "pending"]
    assert "another person" in refusal(engine.approve, saga.pk, "ok", **OLGA)
    assert states(saga) == ["running", "done", "waiting", "pending"]
    assert saga.events.filter(kind="approval.given").count() == 1

    engine.approve(saga.pk, "ok", **OTTO)
    broker.deliver_all()
    assert ended(saga) == "completed"
    assert [one["actor"] for one in ok(saga).facts["approvals"]] == ["olga", "otto"]


def test_one_no_outweighs_a_yes(broker):
    saga = asked(broker, toys.APPROVED_BY_TWO)

    engine.approve(saga.pk, "ok", **OLGA)
    engine.refuse(saga.pk, "ok", **OTTO)
    broker.deliver_all()

    assert ended(saga) == "compensated"


@pytest.mark.parametrize("facts", [None, {"limit": 7}, {"limit": 7, "note": "", "more": 1}])
def test_what_it_puts_out_must_be_stated_exactly(broker, facts):
    saga = asked(broker, toys.APPROVED_WITH_FACTS)

    assert "limit, note" in refusal(engine.approve, saga.pk, "ok", facts=facts, **OLGA)

    assert states(saga) == ["running", "done", "waiting", "pending"]
    assert not saga.events.filter(kind="approval.given").exists()


def test_what_is_stated_is_there_for_later_steps(broker):
    saga = asked(broker, toys.APPROVED_WITH_FACTS)

    engine.approve(saga.pk, "ok", facts={"limit": 7, "note": "as agreed"}, **OLGA)
    broker.deliver_all()

    assert ended(saga) == "completed"
    assert toy_models.End.objects.filter(key=f"{saga.pk}.c", kind="within 7").exists()
    assert saga.facts["note"] == "as agreed"
    assert saga.events.get(kind="approval.given").data == {"facts": {"limit": 7, "note": "as agreed"}}


TWO_STATE = toys.saga(
    "toy-two-state",
    toys.local("a"),
    toys.approval(persons=2, outputs=["limit", "badge"], personal=["badge"]),
    toys.local("c", do=toy_functions.make_within, inputs=["limit"]),
)
STATED = {"limit": 7, "badge": {"number": "B-4711", "doors": [1, 2]}}


def test_several_persons_state_the_same(broker):
    saga = asked(broker, TWO_STATE)
    engine.approve(saga.pk, "ok", facts=STATED, **OLGA)

    for other, names in (
        ({"limit": 8}, "limit"),
        ({"limit": True}, "limit"),
        ({"badge": {"number": "B-4711", "doors": [2, 1]}}, "badge"),
        ({"limit": 1, "badge": None}, "badge, limit"),
    ):
        said = refusal(engine.approve, saga.pk, "ok", facts=STATED | other, **OTTO)
        assert f"something else: {names}." in said
        assert "4711" not in said
    assert states(saga) == ["running", "done", "waiting", "pending"]
    assert saga.events.filter(kind="approval.given").count() == 1

    engine.approve(saga.pk, "ok", facts=STATED | {"limit": 7.0}, **OTTO)
    broker.deliver_all()
    assert ended(saga) == "completed"
    assert (saga.facts["limit"], saga.facts["badge"]) == (7, STATED["badge"])


def test_who_would_state_something_else_may_refuse(broker):
    saga = asked(broker, TWO_STATE)
    engine.approve(saga.pk, "ok", facts=STATED, **OLGA)

    engine.refuse(saga.pk, "ok", actor="otto", reason="It is 8")
    broker.deliver_all()

    assert ended(saga) == "compensated"


def test_what_is_personal_of_what_a_person_states_is_hidden(broker):
    saga = asked(broker, TWO_STATE)
    engine.approve(saga.pk, "ok", facts=STATED, **OLGA)
    engine.approve(saga.pk, "ok", facts=STATED, **OTTO)
    broker.deliver_all()
    assert ended(saga) == "completed"
    hidden = redaction.hidden(saga)
    kept = lambda: [saga.facts, ok(saga).facts, *saga.events.values_list("data", flat=True)]  # noqa: E731
    assert "4711" in str(kept())

    shown = str([redaction.redact(value, hidden) for value in kept()])
    assert ("4711" in shown, "'limit': 7" in shown) == (False, True)

    with transaction.atomic():
        engine.strike(saga.pk, values=engine.Values([]))
    saga.refresh_from_db()
    assert ("4711" in str(kept()), saga.facts["limit"]) == (False, 7)


def test_facts_that_no_row_can_keep_are_refused(broker):
    saga = asked(broker, toys.APPROVED_WITH_FACTS)

    with pytest.raises(errors.BadFacts):
        engine.approve(saga.pk, "ok", facts={"limit": float("nan"), "note": ""}, **OLGA)

    assert states(saga) == ["running", "done", "waiting", "pending"]


# --- Who answers too early, too late, or something else -------------------------------------------


def test_nobody_can_answer_before_they_are_asked(broker):
    saga = harness.begin(toys.APPROVED)

    assert "yet" in refusal(engine.approve, saga.pk, "ok", **OLGA)
    assert "yet" in refusal(engine.refuse, saga.pk, "ok", **OLGA)


def test_an_answer_after_the_answer_comes_too_late(broker):
    saga = asked(broker, toys.APPROVED)
    engine.approve(saga.pk, "ok", **OLGA)

    assert "any more" in refusal(engine.refuse, saga.pk, "ok", **OTTO)
    broker.deliver_all()
    assert ended(saga) == "completed"
    assert "has ended" in refusal(engine.approve, saga.pk, "ok", **OTTO)
    assert not saga.events.filter(kind="approval.refused").exists()


def test_an_answer_after_the_time_was_over_comes_too_late(broker):
    saga = asked(broker, toys.LAPSES["refuse"])
    clocks.pass_time(2 * HOUR + MINUTE)
    engine.sweep()

    assert "any more" in refusal(engine.approve, saga.pk, "ok", **OLGA)


def test_only_an_approval_can_be_approved(broker):
    saga = asked(broker, toys.APPROVED)

    assert "no approval" in refusal(engine.approve, saga.pk, "a", **OLGA)
    with pytest.raises(errors.NotFound):
        engine.approve(saga.pk, "nothing", **OLGA)


def test_no_operator_says_what_became_of_it(broker):
    saga = asked(broker, toys.APPROVED)

    said = refusal(engine.resolve, saga.pk, seen=engine.look(saga.pk), happened=True, **OLGA)

    assert "approved, or refused" in said
    assert states(saga) == ["running", "done", "waiting", "pending"]


# --- Silence --------------------------------------------------------------------------------------


def test_silence_may_mean_no(broker):
    saga = asked(broker, toys.LAPSES["refuse"])

    later(broker, HOUR)
    assert states(saga)[0] == "running"
    later(broker, HOUR + MINUTE)

    assert ended(saga) == "compensated"
    assert (saga.failure["kind"], saga.failure["clock"]) == ("timeout", "wait")


def test_silence_may_mean_yes(broker):
    saga = asked(broker, toys.LAPSES["approve"])

    later(broker, 2 * HOUR + MINUTE)

    assert ended(saga) == "completed"
    assert ok(saga).facts == {"approvals": [], "approved": True}
    assert not saga.events.filter(kind="approval.given").exists()


def test_silence_may_call_a_person_who_has_it_asked_again_for_as_long(broker):
    saga = asked(broker, toys.LAPSES["attention"])

    later(broker, 2 * HOUR + MINUTE)
    assert states(saga) == ["needs_attention", "done", "waiting", "pending"]
    assert saga.attention["step"] == "ok"
    assert saga.wake_at is None
    assert toy_models.End.objects.filter(key=saga.key, kind="attention").count() == 1

    engine.resume(saga.pk, seen=engine.look(saga.pk), actor="otto", reason="She is back")
    assert states(saga) == ["running", "done", "waiting", "pending"]
    left = ok(saga).wait_until - models.database_now()
    assert 2 * HOUR - MINUTE < left <= 2 * HOUR
    later(broker, HOUR)
    assert states(saga)[0] == "running"

    engine.approve(saga.pk, "ok", **OLGA)
    broker.deliver_all()
    assert ended(saga) == "completed"


@pytest.mark.parametrize(("answer", "ends"), [("approve", "completed"), ("refuse", "compensated")])
def test_what_needs_attention_since_nobody_answered_can_still_be_answered(broker, answer, ends):
    saga = asked(broker, toys.LAPSES["attention"])
    later(broker, 2 * HOUR + MINUTE)

    getattr(engine, answer)(saga.pk, "ok", **OLGA)
    broker.deliver_all()

    assert ended(saga) == ends


def test_who_approved_before_nobody_else_did_in_time_still_has(broker):
    declared = toys.saga(
        "toy-two-lapse", toys.local("a"), toys.approval(persons=2, lapse="attention"), toys.local("c")
    )
    saga = asked(broker, declared)
    engine.approve(saga.pk, "ok", **OLGA)
    later(broker, 2 * HOUR + MINUTE)
    assert states(saga)[0] == "needs_attention"

    engine.resume(saga.pk, seen=engine.look(saga.pk), actor="otto", reason="Once more")
    assert "already" in refusal(engine.approve, saga.pk, "ok", **OLGA)
    engine.approve(saga.pk, "ok", **OTTO)
    broker.deliver_all()

    assert ended(saga) == "completed"


def reminders(saga):
    told = saga.events.filter(kind="step.reminded").order_by("id").values_list("data", flat=True)
    return [data["reminder"] for data in told]


def times_told(saga):
    return toy_models.End.objects.filter(key=saga.key, kind="asked").count()


def test_people_are_told_when_asked_and_with_each_reminder_once(broker):
    saga = asked(broker, toys.REMINDED)
    assert (times_told(saga), reminders(saga)) == (1, [])

    later(broker, 29 * MINUTE)
    assert (times_told(saga), reminders(saga)) == (1, [])
    later(broker, 2 * MINUTE)
    assert (times_told(saga), reminders(saga)) == (2, [1])
    later(broker, MINUTE)
    assert (times_told(saga), reminders(saga)) == (2, [1])
    later(broker, 30 * MINUTE)
    assert (times_told(saga), reminders(saga)) == (3, [1, 2])
    later(broker, 30 * MINUTE)
    assert (times_told(saga), reminders(saga)) == (3, [1, 2])

    later(broker, HOUR)
    assert states(saga)[0] == "needs_attention"
    engine.resume(saga.pk, seen=engine.look(saga.pk), actor="otto", reason="Once more")
    later(broker, 31 * MINUTE)
    assert reminders(saga) == [1, 2, 1], "the time begins anew, and so do the reminders"


def test_a_sweep_that_comes_late_makes_up_for_each_reminder_that_is_due(broker):
    saga = asked(broker, toys.REMINDED)

    later(broker, 61 * MINUTE)

    assert reminders(saga) == [1, 2]


def test_who_cannot_be_told_keeps_nobody_from_answering(broker, caplog):
    def fails(*, key):
        raise ZeroDivisionError("no mail today")

    declared = toys.saga("toy-untold", toys.local("a"), toys.approval(notify=fails), toys.local("c"))
    saga = asked(broker, declared)

    engine.approve(saga.pk, "ok", **OLGA)
    broker.deliver_all()

    assert ended(saga) == "completed"
    assert "no mail today" in caplog.text


def test_the_sagas_deadline_does_not_wait_for_the_limit(broker):
    declared = toys.saga(
        "toy-short-of-time", toys.local("a"), toys.approval(limit=5 * HOUR), toys.local("c"), deadline=HOUR
    )
    saga = asked(broker, declared)

    later(broker, HOUR + MINUTE)

    assert ended(saga) == "compensated"
    assert saga.failure["clock"] == "deadline"


# --- Meanwhile ------------------------------------------------------------------------------------


def test_an_owner_who_cancels_meanwhile_has_nobody_asked_any_more(broker):
    saga = asked(broker, toys.APPROVED)

    engine.cancel(saga.pk, actor="customer", reason="Not wanted")
    assert "any more" in refusal(engine.approve, saga.pk, "ok", **OLGA)
    broker.deliver_all()

    assert ended(saga) == "compensated"
    assert states(saga) == ["compensated", "undone", "undone", "pending"]
    assert harness.books(saga)["a"] == (1, 1)


def test_a_held_saga_takes_an_answer_and_goes_on_once_it_is_released(broker):
    saga = asked(broker, toys.APPROVED)
    engine.hold(saga.pk, seen=engine.look(saga.pk), actor="otto", reason="wait")

    later(broker, 3 * HOUR)
    assert states(saga) == ["running", "done", "waiting", "pending"], "its clocks are held as well"
    engine.approve(saga.pk, "ok", **OLGA)
    broker.deliver_all()
    assert states(saga) == ["running", "done", "done", "pending"]

    engine.release(saga.pk, seen=engine.look(saga.pk), actor="otto", reason="go on")
    harness.drive(broker, saga)
    assert ended(saga) == "completed"


def test_a_saga_that_is_held_and_released_is_still_asked_about(broker):
    saga = asked(broker, toys.APPROVED)
    engine.hold(saga.pk, seen=engine.look(saga.pk), actor="otto", reason="wait")
    engine.release(saga.pk, seen=engine.look(saga.pk), actor="otto", reason="go on")

    later(broker, MINUTE)
    assert states(saga) == ["running", "done", "waiting", "pending"]
    later(broker, 2 * HOUR)
    assert ended(saga) == "compensated"


# --- First, last, and beside others ---------------------------------------------------------------


@pytest.mark.parametrize(("answer", "ends"), [("approve", "completed"), ("refuse", "compensated")])
def test_people_may_be_asked_before_anything_else_is_done(broker, answer, ends):
    saga = harness.begin(toys.APPROVAL_FIRST)
    assert states(saga) == ["running", "waiting", "pending"]
    assert broker.sent == []

    getattr(engine, answer)(saga.pk, "ok", **OLGA)
    broker.deliver_all()

    assert ended(saga) == ends


@pytest.mark.parametrize(("answer", "ends"), [("approve", "completed"), ("refuse", "compensated")])
def test_people_may_have_the_last_word(broker, answer, ends):
    saga = asked(broker, toys.APPROVAL_LAST)

    getattr(engine, answer)(saga.pk, "ok", **OLGA)
    broker.deliver_all()

    assert ended(saga) == ends


def test_beside_other_steps_the_stage_waits_for_the_answer_and_the_others_do_not(broker):
    saga = asked(broker, toys.APPROVED_AT_ONCE)
    assert states(saga) == ["running", "done", "waiting", "done", "pending"]

    engine.approve(saga.pk, "ok", facts={"limit": 9}, **OLGA)
    broker.deliver_all()

    assert ended(saga) == "completed"
    assert toy_models.End.objects.filter(key=f"{saga.pk}.c", kind="within 9").exists()


def test_an_answer_before_the_other_steps_are_done_waits_for_them(broker):
    saga = harness.begin(toys.APPROVED_AT_ONCE)
    broker.deliver()
    assert states(saga) == ["running", "done", "waiting", "pending", "pending"]

    engine.approve(saga.pk, "ok", facts={"limit": 9}, **OLGA)
    assert states(saga) == ["running", "done", "done", "pending", "pending"]
    broker.deliver_all()

    assert ended(saga) == "completed"


def test_a_no_beside_other_steps_has_them_undone(broker):
    saga = asked(broker, toys.APPROVED_AT_ONCE)

    engine.refuse(saga.pk, "ok", **OLGA)
    broker.deliver_all()

    assert ended(saga) == "compensated"
    assert states(saga) == ["compensated", "undone", "failed", "undone", "pending"]
    assert harness.books(saga)["b"] == (1, 1)


def test_when_a_step_beside_it_fails_nobody_is_asked_any_more(broker):
    saga = harness.begin(toys.APPROVED_AT_ONCE, "do a, fail b")
    broker.deliver_all()

    assert ended(saga) == "compensated"
    assert states(saga) == ["compensated", "undone", "undone", "undone", "pending"]
    assert "ended" in refusal(engine.approve, saga.pk, "ok", facts={"limit": 9}, **OLGA)


def test_silence_beside_other_steps_means_what_the_declaration_says(broker):
    saga = asked(broker, toys.APPROVED_AT_ONCE)

    later(broker, 2 * HOUR + MINUTE)

    assert ended(saga) == "compensated"
    assert saga.failure["clock"] == "wait"


def test_silence_beside_other_steps_may_call_a_person_who_has_it_asked_again(broker):
    declared = toys.saga(
        "toy-at-once-attention",
        toys.at_once(
            "all",
            toys.approval(lapse="attention", remind=[HOUR], notify=toys.functions.asked),
            toys.remote("b"),
        ),
        toys.local("c"),
        on_completed=None,
    )
    saga = asked(broker, declared)
    later(broker, HOUR + MINUTE)
    assert (times_told(saga), reminders(saga)) == (2, [1])
    later(broker, HOUR)
    assert states(saga) == ["needs_attention", "waiting", "done", "pending"]

    engine.resume(saga.pk, seen=engine.look(saga.pk, "ok"), actor="otto", reason="She is back")
    later(broker, HOUR + MINUTE)
    assert states(saga)[0] == "running"
    assert reminders(saga) == [1, 1]
    engine.approve(saga.pk, "ok", **OLGA)
    broker.deliver_all()

    assert ended(saga) == "completed"


def test_two_answers_beside_each_other_are_each_waited_for(broker):
    declared = toys.saga(
        "toy-two-approvals", toys.at_once("both", toys.approval("ok"), toys.approval("too")), toys.local("c")
    )
    saga = harness.begin(declared)
    assert states(saga) == ["running", "waiting", "waiting", "pending"]

    engine.approve(saga.pk, "too", **OLGA)
    assert states(saga) == ["running", "waiting", "done", "pending"]
    engine.approve(saga.pk, "ok", **OLGA)
    broker.deliver_all()

    assert ended(saga) == "completed"


# --- Who, and by which way ------------------------------------------------------------------------


def test_a_person_counts_once_whether_logged_in_or_with_a_link(broker):
    saga = asked(broker, toys.APPROVED_BY_TWO)

    engine.approve(saga.pk, "ok", actor="link:olga", reason="on the train", through="link")
    assert "another person" in refusal(engine.approve, saga.pk, "ok", **OLGA)
    engine.approve(saga.pk, "ok", **OTTO, through="console")
    broker.deliver_all()

    assert ended(saga) == "completed"
    given = saga.events.filter(kind="approval.given").order_by("id")
    assert [event.data["through"] for event in given] == ["link", "console"]


def test_what_waits_for_a_person_is_not_tried_again(broker):
    saga = asked(broker, toys.APPROVED)

    assert "approved, or refused" in refusal(engine.retry, saga.pk, seen=engine.look(saga.pk), **OLGA)


def second_of_two(name, **more):
    return toys.saga(
        name,
        toys.at_once(
            "all", toys.remote("b"), toys.approval(lapse="attention", notify=toys.functions.asked, **more)
        ),
        toys.local("c"),
        on_completed=None,
    )


def test_a_saga_is_resumed_as_a_whole_whichever_of_its_steps_stands_first(broker):
    saga = asked(broker, second_of_two("toy-at-once-second"))
    later(broker, 2 * HOUR + MINUTE)
    assert states(saga) == ["needs_attention", "done", "waiting", "pending"]

    # The console names the saga's first step; what nobody has answered is asked anew all the same.
    engine.resume(saga.pk, seen=engine.look(saga.pk), actor="otto", reason="She is back")
    left = ok(saga).wait_until - models.database_now()
    assert 2 * HOUR - MINUTE < left <= 2 * HOUR
    later(broker, HOUR)
    assert states(saga) == ["running", "done", "waiting", "pending"]
    later(broker, HOUR + MINUTE)
    assert states(saga)[0] == "needs_attention"

    engine.approve(saga.pk, "ok", **OLGA)
    broker.deliver_all()
    assert ended(saga) == "completed"


def test_who_is_asked_anew_is_told_anew(broker):
    declared = toys.saga(
        "toy-told-anew",
        toys.local("a"),
        toys.approval(lapse="attention", notify=toys.functions.asked),
        toys.local("c"),
    )
    saga = asked(broker, declared)
    later(broker, 2 * HOUR + MINUTE)
    assert times_told(saga) == 1

    engine.resume(saga.pk, seen=engine.look(saga.pk), actor="otto", reason="She is back")

    assert times_told(saga) == 2


@pytest.mark.parametrize(
    ("first", "second", "ends"),
    [
        ("approve", "approve", "completed"),
        ("approve", "refuse", "compensated"),
        ("refuse", None, "compensated"),
    ],
)
def test_while_a_person_is_called_for_one_answer_the_other_can_be_given(broker, first, second, ends):
    declared = toys.saga(
        "toy-one-lapsed",
        toys.local("a"),
        toys.at_once("both", toys.approval("ok", lapse="attention"), toys.approval("too", limit=5 * HOUR)),
        toys.local("c"),
    )
    saga = asked(broker, declared)
    later(broker, 2 * HOUR + MINUTE)
    assert states(saga)[0] == "needs_attention"

    getattr(engine, first)(saga.pk, "too", **OLGA)
    broker.deliver_all()
    if second is not None:
        assert states(saga) == ["needs_attention", "done", "waiting", "done", "pending"]
        getattr(engine, second)(saga.pk, "ok", **OLGA)
        broker.deliver_all()

    assert ended(saga) == ends


@pytest.mark.parametrize("said", ["resolve", "skip"])
def test_whichever_step_a_saga_goes_on_for_who_did_not_answer_in_time_is_asked_anew(broker, said):
    waits = toys.waits("w", wait=Wait(until="settled", limit=9 * HOUR))
    members = toys.approval(lapse="attention"), waits, toys.local("l", optional=True)
    declared = toys.saga("toy-lapsed-beside", toys.at_once("all", *members), toys.local("c"))
    saga = asked(broker, declared, "begin w, flake l")
    later(broker, 2 * HOUR + MINUTE)
    assert states(saga)[0] == "needs_attention"

    ways = {
        "resolve": lambda: engine.resolve(
            saga.pk, seen=engine.look(saga.pk, step="w"), happened=True, **OTTO
        ),
        "skip": lambda: engine.skip(saga.pk, seen=engine.look(saga.pk, step="l"), **OTTO),
    }
    ways[said]()
    left = ok(saga).wait_until - models.database_now()
    assert 2 * HOUR - MINUTE < left <= 2 * HOUR
    later(broker, HOUR)
    assert states(saga)[0] == "running"

    engine.approve(saga.pk, "ok", **OLGA)
    broker.deliver_all()
    assert ok(saga).state == "done"


# --- Which are waited for -------------------------------------------------------------------------


def test_an_approval_says_since_when_people_are_asked_and_no_other_step_ever_does(broker):
    asked, waits = harness.begin(toys.APPROVED), harness.begin(toys.BLIND_WAIT, "do a, begin w")
    parent = harness.begin(toys.EACH_WAITS, "begin deliver.0.y", inputs={"parcels": ["one"]})
    for saga in (asked, waits, parent):
        broker.play(saga)

    def since():
        return {one.saga_id: one.asked_at for one in models.StepInstance.objects.exclude(asked_at=None)}

    before = since()
    assert set(before) == {asked.pk}

    # One that was asked for before there was the column is found by its row alone.
    models.StepInstance.objects.update(asked_at=None)
    migration = importlib.import_module("sagas.migrations.0025_families")
    with connection.cursor() as cursor:
        cursor.execute(migration.ASKED_BY_NOW)
    assert set(since()) == {asked.pk}

    engine.approve(asked.pk, "ok", actor="alice")
    assert since() == {}


def test_two_side_by_side_are_answered_each_by_itself_and_once_by_each_person(broker):
    declared = toys.saga(
        "toy-two-approvals",
        toys.local("a"),
        toys.at_once("both", toys.approval("legal"), toys.approval("money", persons=2)),
        toys.local("z"),
    )
    saga = harness.begin(declared)
    broker.deliver_all()
    assert states(saga) == ["running", "done", "waiting", "waiting", "pending"]

    engine.approve(saga.pk, "money", **OLGA)
    engine.approve(saga.pk, "legal", **OLGA)
    assert "another person" in refusal(engine.approve, saga.pk, "money", **OLGA)
    assert "any more" in refusal(engine.approve, saga.pk, "legal", **OTTO)
    assert states(saga) == ["running", "done", "done", "waiting", "pending"]
    engine.approve(saga.pk, "money", **OTTO)
    broker.deliver_all()

    assert ended(saga) == "completed"
    answers = saga.events.filter(kind="approval.given").order_by("id").values_list("subject", "actor")
    assert list(answers) == [("money", "olga"), ("legal", "olga"), ("money", "otto")]
    assert not saga.steps.filter(asked_at__isnull=False).exists()
