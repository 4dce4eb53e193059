"""What people may do, and when: a table of states and moves, and what each move leaves behind (I3)."""

import datetime
import uuid

import pytest

from sagas import engine, errors, models
from sagas.declaration import registry
from sagas.testing import clocks
from tests.sagas import harness, rules
from tests.sagas.sample_app import functions, recorder
from tests.sagas.sample_app import models as toy_rows
from tests.sagas.sample_app import saga as toys

HOUR = datetime.timedelta(hours=1)
WHO = {"actor": "operator", "reason": "I looked into it"}

OPTIONAL = toys.saga("toy-optional", toys.local("a"), toys.remote("x", optional=True), toys.local("c"))

MOVES = {
    "cancel": lambda saga, step: engine.cancel(saga.pk, **WHO),
    "compensate": lambda saga, step: engine.compensate(saga.pk, seen=engine.look(saga.pk), **WHO),
    "retry": lambda saga, step: engine.retry(saga.pk, seen=engine.look(saga.pk), **WHO),
    "resume": lambda saga, step: engine.resume(saga.pk, seen=engine.look(saga.pk), **WHO),
    "ask": lambda saga, step: engine.ask(saga.pk, seen=engine.look(saga.pk), **WHO),
    "resolve yes": lambda saga, step: engine.resolve(
        saga.pk, seen=engine.look(saga.pk), happened=True, **WHO
    ),
    "resolve no": lambda saga, step: engine.resolve(
        saga.pk, seen=engine.look(saga.pk), happened=False, **WHO
    ),
    "hold": lambda saga, step: engine.hold(saga.pk, seen=engine.look(saga.pk), **WHO),
    "release": lambda saga, step: engine.release(saga.pk, seen=engine.look(saga.pk), **WHO),
    "extend": lambda saga, step: engine.extend(saga.pk, seen=engine.look(saga.pk), by=HOUR, **WHO),
    "skip": lambda saga, step: engine.skip(saga.pk, seen=engine.look(saga.pk), **WHO),
    "close": lambda saga, step: engine.close(saga.pk, seen=engine.look(saga.pk), **WHO),
}

BACKWARD = "cancel retry hold extend"
FORWARD = "cancel compensate retry hold extend"
WAITING = "cancel compensate hold extend"
ATTENTION = "resume hold extend close"
DOUBT = "resolve yes,resolve no"

# Where it stands, the step at hand, and the moves that apply there.
STANDS = {
    "begun": (toys.REMOTE, "", 0, "a", FORWARD),
    "between two steps": (toys.REMOTE, "do a", 1, "b", FORWARD),
    "between two attempts": (toys.REMOTE, "flake a", 1, "a", f"{FORWARD},{DOUBT}"),
    "in doubt": (toys.REMOTE, "lose a", 1, "a", f"{FORWARD},{DOUBT}"),
    "in doubt, with somebody to ask": (toys.MIXED, "do a, lose b", 2, "b", f"{FORWARD} ask,{DOUBT}"),
    "waiting": (toys.BLIND_WAIT, "do a, begin w", 2, "w", f"{WAITING},{DOUBT}"),
    "waiting, with somebody to ask": (toys.WAIT, "do a, begin w", 2, "w", f"{WAITING} ask,{DOUBT}"),
    "before an optional step": (OPTIONAL, "do a", 1, "x", f"{FORWARD} skip"),
    "held": (toys.REMOTE, "hold", 0, "a", "cancel compensate extend release"),
    "the pivot in doubt": (toys.PIVOTAL, "do a, lose p", 2, "p", f"retry hold extend ask,{DOUBT}"),
    "past the pivot": (toys.PIVOTAL, "do a, do p", 2, "r", "retry hold extend"),
    "past the pivot, needs attention": (toys.PIVOTAL, "fail r", 99, "r", f"{ATTENTION},{DOUBT}"),
    "being undone": (toys.REMOTE, "fail a", 1, "a", BACKWARD),
    "between two undos": (toys.REMOTE, "fail a, flake undo a", 3, "a", f"{BACKWARD},{DOUBT}"),
    "not to be undone": (toys.REMOTE, "fail a, fail undo a", 99, "a", f"cancel {ATTENTION},{DOUBT}"),
    "not to be undone, and held": (
        toys.REMOTE, "fail a, fail undo a, hold", 99, "a", f"cancel extend release close,{DOUBT}",
    ),
    "put aside": (toys.REMOTE, "fail a, fail undo a, close", 99, "a", ""),
    "completed": (toys.ONE, "", 99, "a", ""),
    "compensated": (toys.ONE, "fail a", 99, "a", ""),
}  # fmt: skip


def words(moves):
    """The moves in a line: words, and after the first comma phrases."""
    first, *phrases = moves.split(",")
    return {*first.split(), *phrases}


def bring(broker, where):
    declared, script, messages, step, moves = STANDS[where]
    act = next((word for word in ("hold", "close") if word in script.split(", ")), None)
    saga = harness.begin(
        declared, ", ".join(line for line in script.split(", ") if line not in ("hold", "close"))
    )
    if messages == 99:
        harness.drive(broker, saga)
    else:
        for _ in range(messages):
            assert broker.deliver()
    if act:
        MOVES[act](saga, step)
    saga.refresh_from_db()
    return saga, step, words(moves)


@pytest.mark.parametrize("where", STANDS)
def test_each_move_applies_in_some_states_and_loses_cleanly_in_the_others(broker, where):
    saga, step, allowed = bring(broker, where)

    for name, move in MOVES.items():
        before = rules.snapshot(saga)
        with harness.transaction.atomic():
            refusal = attempt(move, saga, step)
            changed = rules.snapshot(saga) != before
            harness.transaction.set_rollback(True)
        assert (refusal is None) == (name in allowed), f"{name}: {refusal or 'was possible'}"
        if refusal is None:
            assert changed or name == "cancel", f"{name} left no trace"
        else:
            assert not changed
            assert refusal.context["state"] == saga.state
            assert str(refusal).endswith("."), "it says why"


def attempt(move, saga, step):
    """Make the move; the refusal if it is refused."""
    try:
        with harness.transaction.atomic():
            move(saga, step)
    except (errors.NotAllowed, errors.TooLate) as refusal:
        return refusal
    return None


@pytest.mark.parametrize("name", sorted(set(MOVES) - {"skip"}))
def test_a_saga_that_does_not_exist_is_not_found(rows, name):
    with pytest.raises(errors.NotFound):
        MOVES[name](models.SagaInstance(pk=uuid.uuid4()), "a")


@pytest.mark.parametrize("name", sorted(set(MOVES) - {"cancel", "skip"}))
def test_what_the_code_no_longer_declares_is_at_most_put_aside(broker, name):
    saga, step, _allowed = bring(broker, "not to be undone")
    models.SagaInstance.objects.filter(pk=saga.pk).update(version=7)

    refusal = attempt(MOVES[name], saga, step)

    assert (refusal is None) == (name == "close")
    if refusal is not None:
        assert str(refusal) == "Its declaration is no longer in the code."


@pytest.mark.parametrize("name", ["compensate", "retry", "hold", "extend"])
def test_each_move_says_who_and_why(broker, name):
    saga = harness.begin(toys.REMOTE)

    MOVES[name](saga, "a")

    event = saga.events.get(kind=f"operator.{name}")
    assert (event.actor, event.reason) == ("operator", "I looked into it")


# --- What follows ---------------------------------------------------------------------------------


def test_a_held_saga_begins_nothing_until_it_is_released(broker):
    saga = harness.begin(toys.LOCAL)
    broker.deliver()
    engine.hold(saga.pk, seen=engine.look(saga.pk), **WHO)

    broker.deliver_all()
    clocks.pass_time(HOUR)
    engine.sweep()
    broker.deliver_all()
    assert recorder.lines(saga.pk) == ["do a"]

    engine.release(saga.pk, seen=engine.look(saga.pk), **WHO)
    harness.drive(broker, saga)
    assert saga.state == "completed"
    rules.check(saga)


def test_a_saga_held_while_it_waits_goes_on_waiting_when_released(broker):
    saga = harness.begin(toys.BLIND_WAIT, "do a, begin w")
    broker.deliver_all()
    engine.hold(saga.pk, seen=engine.look(saga.pk), **WHO)
    engine.release(saga.pk, seen=engine.look(saga.pk), **WHO)
    broker.deliver_all()

    saga.refresh_from_db()
    assert (saga.steps.get(name="w").state, saga.wake_at > models.database_now()) == ("waiting", True)
    engine.receive(source="world", event_id="1", key=f"{saga.pk}.w", facts={"settled": True})
    harness.drive(broker, saga)
    assert saga.state == "completed"


def cut_off_while_undoing(broker):
    """The worker at an undo vanishes, and the time for undoing is over before anybody looks."""
    saga = harness.begin(toys.REMOTE, "do a, fail b, undo b, die undo a")
    with harness.suppress_death():
        while not saga.steps.filter(name="a", state="undoing").exists():
            assert broker.deliver()
    clocks.pass_time(3 * toys.REMOTE.undo_deadline, saga.pk)
    engine.sweep()
    saga.refresh_from_db()
    assert (saga.state, saga.attention["step"]) == ("needs_attention", "a")
    return saga


@pytest.mark.parametrize("happened", [True, False])
def test_an_undo_that_the_deadline_cut_off_is_in_doubt_and_a_person_says_what_became_of_it(
    broker, simulated_death, happened
):
    saga = cut_off_while_undoing(broker)
    if happened:
        functions.WORLD.undo(f"{saga.pk}.a")

    engine.resolve(saga.pk, seen=engine.look(saga.pk), happened=happened, **WHO)
    harness.drive(broker, saga)

    assert saga.state == "compensated"
    rules.check(saga)


LEFT = toys.saga(
    "toy-left-behind",
    toys.local("a"),
    toys.at_once(
        "all", toys.approval(limit=10 * toys.SECOND, lapse="attention"), toys.remote("b"), toys.local("c")
    ),
)


@pytest.mark.parametrize(("answer", "ends"), [("perish", "completed"), ("die", "compensated")])
def test_what_a_worker_left_when_another_step_had_called_a_person_is_in_doubt(
    broker, simulated_death, answer, ends
):
    """Nobody looks at its lease while the saga stands before a person, who may say what became of it."""
    saga = harness.begin(LEFT, f"do a, {answer} b")
    with harness.suppress_death():
        broker.deliver_all()
    clocks.pass_time(15 * toys.SECOND, saga.pk)
    engine.sweep()
    saga.refresh_from_db()
    assert (saga.state, saga.attention["step"]) == ("needs_attention", "ok")
    with pytest.raises(errors.NotAllowed, match="An attempt is under way"):
        engine.resolve(saga.pk, seen=engine.look(saga.pk, "b"), happened=True, **WHO)
    clocks.pass_time(15 * toys.SECOND, saga.pk)
    engine.sweep()

    engine.resolve(saga.pk, seen=engine.look(saga.pk, "b"), happened=answer == "perish", **WHO)
    kinds = saga.events.filter(subject="b").order_by("id").values_list("kind", flat=True)
    assert "step.unknown" in kinds
    if answer == "perish":
        assert saga.steps.get(name="b").state == "done"
        engine.approve(saga.pk, "ok", actor="Alice")
    harness.drive(broker, saga)

    assert saga.state == ends
    rules.check(saga)


def test_an_approval_that_nobody_answered_is_asked_for_anew_when_another_steps_outcome_is_stated(broker):
    saga = harness.begin(LEFT, "do a, lose b, drop b")
    broker.deliver_all()
    clocks.pass_time(15 * toys.SECOND, saga.pk)
    engine.sweep()
    saga.refresh_from_db()
    assert (saga.state, saga.attention["step"]) == ("needs_attention", "ok")

    engine.resolve(saga.pk, seen=engine.look(saga.pk, "b"), happened=True, **WHO)

    for _ in range(2):
        asked = saga.steps.get(name="ok")
        assert (asked.state, asked.wait_until > models.database_now()) == ("waiting", True)
        clocks.pass_time(8 * toys.SECOND, saga.pk)
        engine.sweep()
    saga.refresh_from_db()
    assert (saga.state, saga.attention["step"]) == ("needs_attention", "ok"), "nobody answered once more"
    engine.approve(saga.pk, "ok", actor="Alice")
    harness.drive(broker, saga)
    assert saga.state == "completed"
    rules.check(saga)


def test_what_a_local_step_left_there_was_rolled_back_and_is_in_no_doubt(broker, simulated_death):
    saga = harness.begin(LEFT, "do a, die c")
    with harness.suppress_death():
        broker.deliver_all()
    clocks.pass_time(15 * toys.SECOND, saga.pk)
    engine.sweep()
    clocks.pass_time(15 * toys.SECOND, saga.pk)

    with pytest.raises(errors.NotAllowed, match="No outcome is in doubt"):
        engine.resolve(saga.pk, seen=engine.look(saga.pk, "c"), happened=True, **WHO)


def test_where_no_undo_was_tried_nothing_is_in_doubt_and_the_refusal_says_what_to_do(broker):
    saga = harness.begin(toys.REMOTE, "do a, fail b")
    broker.deliver()
    broker.deliver()
    broker.waiting.clear()
    clocks.pass_time(3 * toys.REMOTE.undo_deadline, saga.pk)
    engine.sweep()

    with pytest.raises(errors.NotAllowed, match=r"tried to undo b\. Have that tried first: resume"):
        engine.resolve(saga.pk, seen=engine.look(saga.pk), happened=True, **WHO)

    engine.resume(saga.pk, seen=engine.look(saga.pk), **WHO)
    harness.drive(broker, saga)
    assert saga.state == "compensated"


def test_what_was_never_tried_is_not_in_doubt_either(broker):
    saga = harness.begin(toys.REMOTE)

    with pytest.raises(errors.NotAllowed, match=r"nobody has tried a\. Have that tried first"):
        engine.resolve(saga.pk, seen=engine.look(saga.pk), happened=True, **WHO)


def test_a_pivot_at_work_is_not_cancelled(broker, monkeypatch):
    saga = harness.begin(toys.BLIND_PIVOT)
    refusals = []

    def too_late():
        for move in (MOVES["cancel"], MOVES["compensate"]):
            try:
                move(saga, "")
            except (errors.TooLate, errors.NotAllowed) as refusal:
                refusals.append(type(refusal))

    broker.deliver()
    monkeypatch.setattr("tests.sagas.sample_app.functions.WORLD", harness.Meanwhile(too_late))
    harness.drive(broker, saga)

    assert refusals == [errors.TooLate, errors.NotAllowed], "I3"
    assert saga.state == "completed"
    rules.check(saga)


def test_a_saga_that_ends_although_it_is_held_is_held_no_longer(broker, monkeypatch):
    saga = harness.begin(toys.saga("toy-held-meanwhile", toys.remote("a")))
    world = harness.Meanwhile(lambda: engine.hold(saga.pk, seen=engine.look(saga.pk), **WHO))
    monkeypatch.setattr("tests.sagas.sample_app.functions.WORLD", world)

    broker.deliver_all()

    saga.refresh_from_db()
    assert (saga.state, saga.held_at) == ("completed", None)
    with pytest.raises(errors.NotAllowed):
        engine.release(saga.pk, seen=engine.look(saga.pk), **WHO)


def test_an_optional_step_may_be_left_out(broker):
    saga = harness.begin(OPTIONAL, "do a")
    broker.deliver()

    engine.skip(saga.pk, seen=engine.look(saga.pk), **WHO)
    harness.drive(broker, saga)

    assert recorder.lines(saga.pk) == ["do a", "do c"]
    assert (saga.state, saga.steps.get(name="x").state) == ("completed", "skipped")
    rules.check(saga)


def test_an_optional_step_that_was_left_out_untried_is_not_undone(broker):
    saga = harness.begin(OPTIONAL, "do a, fail c")
    broker.deliver()

    engine.skip(saga.pk, seen=engine.look(saga.pk), **WHO)
    harness.drive(broker, saga)

    assert recorder.lines(saga.pk) == ["do a", "fail c", "undo a"], "E2"
    assert (saga.state, saga.steps.get(name="x").state) == ("compensated", "skipped")
    rules.check(saga)


def test_an_optional_step_that_was_tried_before_it_was_left_out_is_undone_too(broker):
    saga = harness.begin(OPTIONAL, "do a, flake x, 9x fail c")
    broker.deliver()
    broker.deliver()

    engine.skip(saga.pk, seen=engine.look(saga.pk), **WHO)
    harness.drive(broker, saga)

    assert recorder.lines(saga.pk) == ["do a", "flake x", "fail c", "undo x", "undo a"]
    assert saga.state == "compensated"
    rules.check(saga)


def test_more_time_is_more_time(broker):
    saga = harness.begin(toys.LOCAL)
    broker.waiting.clear()

    engine.extend(saga.pk, seen=engine.look(saga.pk), by=HOUR, **WHO)
    clocks.pass_time(toys.LOCAL.deadline)
    harness.drive(broker, saga)

    assert saga.state == "completed"


def test_time_that_is_given_must_be_some(broker):
    saga = harness.begin(toys.LOCAL)

    with pytest.raises(errors.NotAllowed):
        engine.extend(saga.pk, seen=engine.look(saga.pk), by=-HOUR, **WHO)


def test_what_is_said_to_have_happened_needs_the_facts_it_gives(broker):
    gives = toys.saga("toy-gives", toys.remote("x", outputs=["mark"]), toys.local("c"))
    saga = harness.begin(gives, "lose x")
    broker.deliver()

    with pytest.raises(errors.NotAllowed, match="mark"):
        engine.resolve(saga.pk, seen=engine.look(saga.pk), happened=True, **WHO)
    engine.resolve(saga.pk, seen=engine.look(saga.pk), happened=True, facts={"mark": 7}, **WHO)
    harness.drive(broker, saga)

    assert (saga.state, saga.facts) == ("completed", {"mark": 7})


def test_a_saga_put_aside_makes_room_for_another_of_its_key(broker):
    first = harness.begin(toys.REMOTE, "fail a, fail undo a", key="order-1")
    harness.drive(broker, first)
    with pytest.raises(errors.AlreadyLive):
        harness.begin(toys.REMOTE, key="order-1")

    engine.close(first.pk, seen=engine.look(first.pk), **WHO)
    second = harness.begin(toys.REMOTE, key="order-1")
    harness.drive(broker, second)

    assert second.state == "completed"


def told_of_closing(*, key):
    toy_rows.End.objects.create(key=key, kind="closed")


def fails_to_be_told(*, key):
    told_of_closing(key=key)
    raise RuntimeError("the owner's table is full")


def stuck(broker, name, **hooks):
    """Its undo was refused, and a person is called."""
    saga = harness.begin(toys.saga(name, toys.remote("a"), **hooks), "fail a, fail undo a")
    harness.drive(broker, saga)
    assert saga.state == "needs_attention"
    return saga


def ends(saga):
    return list(toy_rows.End.objects.filter(key=saga.key).values_list("kind", flat=True))


def test_its_owner_is_told_when_a_saga_is_put_aside_and_whoever_follows_its_states_too(broker):
    saga = stuck(broker, "toy-closed", on_closed=told_of_closing)

    engine.close(saga.pk, seen=engine.look(saga.pk), **WHO)

    assert ends(saga) == ["attention", "closed"]
    event = saga.events.get(kind="operator.close")
    assert (event.from_state, event.to_state, event.actor) == (
        "needs_attention",
        "needs_attention",
        "operator",
    )
    rules.rows_are_the_fold_of_events(
        models.SagaInstance.objects.get(pk=saga.pk), list(saga.steps.all()), list(saga.events.order_by("id"))
    )


def test_a_saga_whose_owner_cannot_take_it_is_not_put_aside(broker):
    saga = stuck(broker, "toy-closed-badly", on_closed=fails_to_be_told)

    with pytest.raises(errors.NotAllowed, match="the owner's table is full"):
        engine.close(saga.pk, seen=engine.look(saga.pk), **WHO)

    saga.refresh_from_db()
    assert (saga.closed_at, ends(saga)) == (None, ["attention"])


def test_a_saga_whose_version_is_gone_can_be_put_aside_and_its_owner_is_told_all_the_same(broker):
    saga = stuck(broker, "toy-closed-old", on_closed=told_of_closing)
    models.SagaInstance.objects.filter(pk=saga.pk).update(version=7)

    engine.close(saga.pk, seen=engine.look(saga.pk), **WHO)

    assert ends(saga) == ["attention", "closed"]


# --- Begin ----------------------------------------------------------------------------------------


def test_a_saga_begins_with_its_business_rows_or_not_at_all(broker):
    with pytest.raises(errors.NotInTransaction):
        engine.begin(toys.ONE, key="order-2", inputs={})

    with harness.transaction.atomic():
        engine.begin(toys.ONE, key="order-2", inputs={})
        harness.transaction.set_rollback(True)

    assert not models.SagaInstance.objects.filter(key="order-2").exists()
    assert broker.sent == [], "D1: nothing was sent for what never was"


def test_it_must_be_given_exactly_what_it_asks_for(broker):
    declared = registry.add(toys.saga("toy-given", toys.local("a"), inputs=["total"]))

    for given in ({}, {"total": 1, "tip": 2}, {"tip": 2}):
        with pytest.raises(errors.MissingFacts, match="total"), harness.transaction.atomic():
            engine.begin(declared, key="order-3", inputs=given)


def test_many_begin_as_each_would_and_are_sent_together(broker):
    declared = registry.add(toys.saga("toy-many", toys.local("a"), toys.remote("b"), inputs=["total"]))
    with harness.transaction.atomic():
        engine.begin(declared, key="one", inputs={"total": 0}, actor="import")
        many = engine.begin_many(declared, ((f"order-{n}", {"total": n}) for n in (2, 1, 3)), actor="import")
        assert engine.begin_many(declared, []) == []

    one = models.SagaInstance.objects.get(key="one")
    assert [(saga.key, saga.facts) for saga in many] == [(f"order-{n}", {"total": n}) for n in (2, 1, 3)]
    for saga in many:
        row = models.SagaInstance.objects.get(pk=saga.pk)
        for name in ("wake_at", "deadline_at", "dispatched_at"):
            assert getattr(row, name) == getattr(saga, name) == getattr(one, name)
        assert [(step.name, step.state) for step in row.steps.all()] == [("a", "pending"), ("b", "pending")]
        assert [(event.kind, event.to_state, event.actor) for event in row.events.all()] == [
            ("saga.begun", "running", "import")
        ]
    assert [m.dispatch.saga_id for m in broker.waiting] == [one.pk, *(saga.pk for saga in many)]


def test_many_begin_or_none_does_and_the_transaction_goes_on(broker):
    with harness.transaction.atomic():
        engine.begin(toys.ONE, key="b", inputs={})
        engine.begin(toys.ONE, key="d", inputs={})
        with pytest.raises(errors.AlreadyLive, match="'d', 'b'") as refused:
            engine.begin_many(toys.ONE, [(key, {}) for key in ("a", "d", "c", "b")])
        with pytest.raises(errors.MissingFacts, match="'y'"):
            engine.begin_many(toys.ONE, [("x", {}), ("y", {"tip": 1})])
        with pytest.raises(errors.AlreadyLive, match="'z'"):
            engine.begin_many(toys.ONE, [("z", {}), ("z", {})])

    assert refused.value.context == {"keys": ["d", "b"]}
    assert sorted(models.SagaInstance.objects.values_list("key", flat=True)) == ["b", "d"]
    assert len(broker.sent) == 2, "what was not begun was not sent"


def test_one_key_has_one_live_saga_and_the_transaction_survives_the_refusal(broker):
    with harness.transaction.atomic():
        engine.begin(toys.ONE, key="order-4", inputs={})
        with pytest.raises(errors.AlreadyLive):
            engine.begin(toys.ONE, key="order-4", inputs={})

    assert models.SagaInstance.objects.filter(key="order-4").count() == 1
    broker.deliver_all()
    assert harness.begin(toys.ONE, key="order-4").state == "running", "the first has ended"
