"""Sagas that are steps of another: one, or one for each element of a list."""

import concurrent.futures
import datetime
import functools
import json
import uuid

import pytest
from django.db import connection, transaction

from sagas import Child, ForEach, Parallel, engine, errors, models, reading
from sagas.console import redaction
from sagas.declaration import registry, validation
from sagas.engine import archive, children, pacing, parents
from sagas.testing import clocks, crashes, memory_transport
from tests.sagas import harness, rules
from tests.sagas.sample_app import functions
from tests.sagas.sample_app import saga as toys

HOUR = datetime.timedelta(hours=1)
WHO = {"actor": "operator", "reason": "the test says so"}


class World(functions.Scripted):
    """A world in which some calls are answered otherwise than well: by function, step and element."""

    def __init__(self, **answers):
        self.answers = answers
        self.calls = []
        self.at_work = self.most = 0

    def _answer(self, function, key):
        saga_id, step = key.split(".")
        item = models.SagaInstance.objects.get(pk=saga_id).parent_item
        self.calls.append((function, step, item))
        return self.answers.get(f"{function}_{step}_{item}", "well")


@pytest.fixture
def world(monkeypatch):
    def use(**answers):
        new = World(**answers)
        monkeypatch.setattr(functions, "WORLD", new)
        return new

    return use


def each(*, name="toy-some", last=None, child=toys.PARCEL, **rest):
    """A saga with a child for each parcel between two steps."""
    step = ForEach("deliver", of="parcels", saga=child, outputs=["delivered"], **rest)
    return toys.saga(name, toys.local("a"), step, last or toys.local("z"), inputs=["parcels"])


def begin(saga, count=3):
    return harness.begin(saga, inputs={"parcels": [f"parcel {number}" for number in range(count)]})


def children_of(saga):
    return list(models.SagaInstance.objects.filter(parent_id=saga.pk).order_by("parent_item"))


def drive(broker, saga, rounds=400):
    """Until the saga has come to rest, and all of its children with it."""
    harness.drive(broker, saga, rounds=rounds)
    while broker.deliver():
        pass


def elsewhere(call):
    """Have it called on a connection of its own."""

    def run():
        try:
            return call()
        finally:
            connection.close()

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        return pool.submit(run).result(20)


def test_each_element_has_a_child_and_all_of_them_complete_with_their_parent(broker, world):
    world()
    saga = begin(toys.EACH)

    drive(broker, saga)

    found = children_of(saga)
    assert saga.state == "completed"
    assert [(child.key, child.facts["parcel"]) for child in found] == [
        (f"{saga.pk}.deliver.{number}", f"parcel {number}") for number in range(3)
    ]
    for child in found:
        assert (child.state, child.finished_at is not None) == ("completed", True)
        rules.check(child)
    rules.check(saga)


def test_a_childs_first_event_says_whose_it_is(broker, world):
    world()
    saga = begin(toys.EACH, 2)
    drive(broker, saga)

    told = [child.events.get(kind="saga.begun").data for child in children_of(saga)]

    assert told == [{"parent": str(saga.pk), "step": "deliver", "item": number} for number in (0, 1)]
    assert saga.events.get(kind="saga.begun").data == {}


def test_a_child_that_is_done_waits_for_its_parents_outcome(broker, world):
    world(do_z_None="flake")
    saga = begin(each(last=toys.waits("w")), 1)
    world(do_w_None="begin")

    while broker.deliver():
        pass

    (child,) = children_of(saga)
    assert (child.state, child.finished_at, child.position) == ("running", None, 2)
    assert harness.kinds(child)[-1] == "saga.waiting"
    for intervene in (engine.retry, engine.compensate, engine.hold):
        with pytest.raises(errors.NotAllowed, match="ends with its parent"):
            intervene(child.pk, seen=engine.look(child.pk), **WHO)
    with pytest.raises(errors.TooLate):
        engine.cancel(child.pk, **WHO)
    engine.receive(source="world", event_id="1", key=f"{saga.pk}.w", facts={"settled": True})
    drive(broker, saga)
    child.refresh_from_db()
    assert (saga.state, child.state) == ("completed", "completed")


def test_no_more_of_them_run_at_once_than_the_limit_says(broker, world):
    world(do_y_0="begin", do_y_1="begin", do_y_2="begin", do_y_3="begin")
    child = toys.saga("toy-slow-parcel", toys.waits("y"), inputs=["parcel"])
    saga = begin(each(child=child, limit=2), 4)

    while broker.deliver():
        pass

    started = [child.epoch > 0 for child in children_of(saga)]
    assert started == [True, True, False, False]
    for number, expected in ((1, [True, True, True, False]), (0, [True] * 4)):
        key = f"{children_of(saga)[number].pk}.y"
        engine.receive(source="world", event_id=key, key=key, facts={"settled": True})
        assert [child.epoch > 0 for child in children_of(saga)] == expected
        broker.deliver_all()


def test_where_one_fails_the_others_are_undone_and_then_what_came_before(broker, world):
    seen = world(do_y_1="fail")
    saga = begin(toys.EACH)

    drive(broker, saga)

    assert saga.state == "compensated"
    assert {child.state for child in children_of(saga)} == {"compensated"}
    assert saga.failure["step"] == "deliver"
    assert "1 of 3 children are not done" in saga.failure["message"]
    undos = [call for call in seen.calls if call[0] == "undo"]
    assert undos[-1] == ("undo", "a", None), "no earlier step before every child"
    for each_ in (saga, *children_of(saga)):
        rules.check(each_)


def test_where_a_later_step_fails_children_that_wait_are_undone(broker, world):
    seen = world(do_z_None="fail")
    saga = begin(toys.EACH)

    drive(broker, saga)

    assert (saga.state, {child.state for child in children_of(saga)}) == ("compensated", {"compensated"})
    assert [call for call in seen.calls if call[0] == "undo"][-1] == ("undo", "a", None)
    assert len([call for call in seen.calls if call[0] == "undo"]) == 7
    rules.check(saga)


def test_a_child_whose_first_step_was_left_out_is_undone_as_any_other(broker, world):
    world(do_z_None="fail")
    child = toys.saga(
        "toy-left-out-parcel", toys.local("x", unless="parcel"), toys.local("y"), inputs=["parcel"]
    )
    saga = begin(each(child=child), 2)

    drive(broker, saga)

    assert (saga.state, {child.state for child in children_of(saga)}) == ("compensated", {"compensated"})
    rules.check(saga)


def test_what_was_done_may_be_kept(broker, world):
    world(do_y_1="fail")
    saga = begin(each(failed="keep"))

    drive(broker, saga)

    assert saga.state == "completed"
    assert [child.state for child in children_of(saga)] == ["completed", "compensated", "completed"]
    assert [one["done"] for one in saga.facts["delivered"]] == [True, False, True]
    rules.check(saga)


def test_once_enough_are_done_the_others_are_cancelled(broker, world):
    world(do_y_0="begin", do_y_2="begin")
    child = toys.saga("toy-wait-parcel", toys.waits("y"), inputs=["parcel"])
    saga = begin(each(child=child, need=1))

    drive(broker, saga)

    assert saga.state == "completed"
    assert [child.state for child in children_of(saga)] == ["compensated", "completed", "compensated"]
    rules.check(saga)


def test_where_not_enough_can_be_done_any_more_the_saga_compensates(broker, world):
    world(do_y_0="fail", do_y_2="fail")
    saga = begin(each(need=2))

    drive(broker, saga)

    assert (saga.state, {child.state for child in children_of(saga)}) == ("compensated", {"compensated"})


def test_an_empty_list_is_success(broker, world):
    world()
    saga = begin(each(), 0)

    drive(broker, saga)

    assert (saga.state, saga.facts["delivered"], children_of(saga)) == ("completed", [], [])


@pytest.mark.parametrize(
    ("parcels", "why"),
    [("none", "is no list"), ([1] * 4, "has 4 elements, and 3 at most")],
)
def test_a_list_that_is_none_fails_the_step(broker, world, parcels, why):
    world()
    saga = harness.begin(each(most=3), inputs={"parcels": parcels})

    drive(broker, saga)

    assert (saga.state, saga.failure["step"], saga.failure["kind"]) == ("compensated", "deliver", "bug")
    assert why in saga.failure["message"]
    rules.check(saga)


def test_a_child_that_needs_a_person_is_its_parents_reason_to_need_one(broker, world):
    world(do_y_1="fail", undo_y_1="fail")
    saga = begin(toys.EACH)
    while broker.deliver():
        pass
    saga.refresh_from_db()
    child = children_of(saga)[1]
    assert (child.state, saga.state) == ("needs_attention", "needs_attention")
    assert saga.attention["child"] == str(child.pk)
    world()

    engine.resume(child.pk, seen=engine.look(child.pk), **WHO)
    drive(broker, saga)

    assert (saga.state, {child.state for child in children_of(saga)}) == ("compensated", {"compensated"})
    rules.check(saga)


def test_a_parent_that_is_cancelled_has_its_children_undone(broker, world):
    world(do_y_0="begin", do_y_1="begin", do_y_2="begin")
    child = toys.saga("toy-wait-parcel-2", toys.local("x"), toys.waits("y"), inputs=["parcel"])
    saga = begin(each(child=child))
    while broker.deliver():
        pass

    engine.cancel(saga.pk, actor="owner", reason="not any more")
    drive(broker, saga)

    assert (saga.state, {child.state for child in children_of(saga)}) == ("compensated", {"compensated"})
    rules.check(saga)


def test_a_parents_deadline_rules(broker, world):
    world(do_y_0="begin")
    child = toys.saga("toy-wait-parcel-3", toys.waits("y"), inputs=["parcel"], deadline=100 * 24 * HOUR)
    saga = begin(each(child=child), 1)
    while broker.deliver():
        pass
    saga.refresh_from_db()

    clocks.pass_time(saga.deadline_at - models.database_now())
    engine.sweep()
    drive(broker, saga)

    assert (saga.state, saga.failure["clock"]) == ("compensated", "deadline")
    assert {child.state for child in children_of(saga)} == {"compensated"}


def test_more_than_a_batch_of_children_is_undone(broker, world):
    world(do_z_None="fail")
    count = 130
    saga = begin(each(child=toys.saga("toy-small-parcel", toys.local("x"), inputs=["parcel"])), count)

    drive(broker, saga, rounds=3000)

    assert saga.state == "compensated"
    assert [child.state for child in children_of(saga)] == ["compensated"] * count
    assert not models.SagaInstance.objects.filter(tells_parent_at__isnull=False).exists()


def test_children_may_have_children(broker, world):
    world()
    inner = toys.saga("toy-inner", toys.local("i"))
    outer = toys.saga("toy-outer", toys.local("o"), Child("inner", saga=inner), inputs=["parcel"])
    saga = begin(each(child=outer), 2)

    drive(broker, saga)

    assert saga.state == "completed"
    assert models.SagaInstance.objects.filter(name="toy-inner", state="completed").count() == 2
    world(do_z_None="fail")
    saga = begin(each(child=outer), 2)
    drive(broker, saga)
    assert saga.state == "compensated"
    assert models.SagaInstance.objects.filter(name="toy-inner", state="compensated").count() == 2


def test_a_child_gives_its_outputs_to_its_parent(broker):
    def weigh(*, key, parcel):
        return {"grams": len(parcel)}

    def note(*, key, grams):
        assert grams == 5

    inner = toys.saga(
        "toy-weigh", toys.local("w", do=weigh, inputs=["parcel"], outputs=["grams"]), inputs=["parcel"]
    )
    outer = toys.saga(
        "toy-weighs",
        Child("weigh", saga=inner, inputs=["parcel"], outputs=["grams"]),
        toys.local("note", do=note, inputs=["grams"]),
        inputs=["parcel"],
    )
    saga = harness.begin(outer, inputs={"parcel": "a box"})

    drive(broker, saga)

    assert (saga.state, saga.facts["grams"]) == ("completed", 5)


def test_children_beside_other_steps(broker, world):
    world()
    both = Parallel(
        "both", steps=[ForEach("deliver", of="parcels", saga=toys.PARCEL), toys.local("b"), toys.remote("c")]
    )
    declared = toys.saga("toy-children-beside", both, toys.local("z"), inputs=["parcels"])
    saga = begin(declared)
    drive(broker, saga)
    assert saga.state == "completed"

    for world_of in ({"do_c_None": "fail"}, {"do_y_2": "fail"}, {"do_z_None": "fail"}):
        world(**world_of)
        saga = begin(declared)
        drive(broker, saga)
        assert saga.state == "compensated", world_of
        assert {child.state for child in children_of(saga)} <= {"compensated"}
        rules.check(saga)


def test_a_child_behind_the_pivot_completes_by_itself(broker, world):
    world(do_z_None="begin")
    declared = toys.saga(
        "toy-behind-pivot",
        toys.remote("p", **toys.PIVOT),
        ForEach("deliver", of="parcels", saga=toys.PARCEL, kind="retriable"),
        toys.waits("z", **toys.RETRIABLE),
        inputs=["parcels"],
    )
    saga = begin(declared)

    while broker.deliver():
        pass

    assert [child.state for child in children_of(saga)] == ["completed"] * 3


@pytest.mark.parametrize("before", [True, False], ids=["before it is true", "after it"])
@pytest.mark.parametrize(
    "fails", [pytest.param(False, marks=pytest.mark.thorough), True], ids=["all well", "one fails"]
)
def test_whoever_dies_at_any_commit_of_parent_or_children_loses_nothing(broker, world, before, fails):
    at = 1
    while True:
        world(**({"do_y_1": "fail"} if fails else {}))
        saga = begin(each(name=f"toy-crash-{at}"), 2)
        with crashes.crash_at(at, before=before) as crashed, harness.suppress_death():
            drive(broker, saga)
        drive(broker, saga)
        assert saga.state == ("compensated" if fails else "completed"), at
        assert {child.state for child in children_of(saga)} == {saga.state}, at
        for one in (saga, *children_of(saga)):
            rules.check(one)
        if crashed.commits < at:
            break
        at += 1
    assert at > 10


def test_a_parent_that_was_not_told_is_found_by_the_sweep(broker, world, monkeypatch):
    world()
    monkeypatch.setattr(children, "_tell", lambda parent_id, step: None)
    saga = begin(toys.EACH)

    drive(broker, saga)

    assert saga.state == "completed"


def test_children_are_undone_although_the_message_that_says_so_is_lost(broker, world):
    """The worker dies, say, between the commit that turns the saga round and what it would have done next."""
    world(do_z_None="fail")
    saga = begin(toys.EACH)
    while broker.waiting:
        broker.deliver()
        broker.waiting = [
            message
            for message in broker.waiting
            if not isinstance(message, memory_transport.ChainError) or message.saga_id != saga.pk
        ]
    saga.refresh_from_db()
    assert (saga.state, saga.steps.get(name="deliver").state) == ("compensating", "done")

    drive(broker, saga)

    assert (saga.state, {child.state for child in children_of(saga)}) == ("compensated", {"compensated"})
    rules.check(saga)


def test_children_complete_once_their_parent_is_past_its_pivot(broker, world):
    world(do_z_None="begin")
    declared = toys.saga(
        "toy-before-pivot",
        ForEach("deliver", of="parcels", saga=toys.PARCEL),
        toys.remote("p", **toys.PIVOT),
        toys.waits("z", **toys.RETRIABLE),
        inputs=["parcels"],
    )
    saga = begin(declared)

    broker.deliver_all()

    saga.refresh_from_db()
    assert (saga.state, saga.position) == ("running", 2)
    assert [child.state for child in children_of(saga)] == ["completed"] * 3


def test_children_of_what_was_put_aside_wait_no_longer(broker, world):
    world(do_z_None="fail", undo_x_0="fail")
    saga = begin(each(failed="keep"))
    broker.deliver_all()
    saga.refresh_from_db()
    assert saga.state == "needs_attention"

    engine.close(saga.pk, seen=engine.look(saga.pk), **WHO)

    assert [child.state for child in children_of(saga)] == ["needs_attention", "compensated", "compensated"]
    assert not [child for child in children_of(saga) if children.waits_for_parent(child)]


def test_a_child_stays_live_for_as_long_as_its_parent(broker, world):
    world(do_y_1="fail", do_z_None="begin")
    saga = begin(each(failed="keep", last=toys.waits("z")))
    broker.deliver_all()

    archive.run(older_than=datetime.timedelta(0))

    assert [child.state for child in children_of(saga)] == ["running", "compensated", "running"]


def retriable(name, child, **rest):
    """A saga with children behind its pivot, where nothing of it can be undone any more."""
    return toys.saga(
        name,
        toys.local("a", **toys.PIVOT),
        ForEach("deliver", of="parcels", saga=child, kind="retriable", **rest),
        toys.local("z", **toys.RETRIABLE),
        inputs=["parcels"],
    )


def test_children_that_stand_in_a_line_count_as_begun(broker, world, monkeypatch):
    world()
    declared = each(limit=1)
    saga = begin(declared)
    monkeypatch.setattr(pacing, "room", lambda queue, wanted: 0)
    broker.deliver_all()

    for _ in range(3):
        parents.take_up(saga.pk, "deliver")

    assert [child.in_line_for is not None for child in children_of(saga)] == [True, False, False]


def test_a_child_past_its_own_pivot_is_not_undone_because_enough_are_done(broker, world):
    world(do_y_1="begin", do_y_2="begin")
    child = toys.saga(
        "toy-pivotal-parcel",
        toys.remote("x", **toys.PIVOT),
        toys.waits("y", **toys.RETRIABLE),
        inputs=["parcel"],
    )
    saga = begin(retriable("toy-enough-pivotal", child, need=1))
    broker.deliver_all()
    saga.refresh_from_db()
    assert [child.state for child in children_of(saga)] == ["completed", "running", "running"]
    assert saga.position == 1, "it waits for them"

    for number in (1, 2):
        key = f"{children_of(saga)[number].pk}.y"
        engine.receive(source="world", event_id=key, key=key, facts={"settled": True})
    drive(broker, saga)

    assert (saga.state, {child.state for child in children_of(saga)}) == ("completed", {"completed"})
    rules.check(saga)


def test_children_never_started_are_over_once_enough_are_done(broker, world):
    world()
    child = toys.saga("toy-only-on-parcel", toys.local("x", **toys.RETRIABLE), inputs=["parcel"])
    saga = begin(retriable("toy-enough-only-on", child, need=1, limit=1))

    drive(broker, saga)

    assert saga.state == "completed"
    assert [child.state for child in children_of(saga)] == ["completed", "compensated", "compensated"]


def test_what_was_done_may_be_kept_although_it_is_not_enough(broker, world):
    world(do_y_0="fail", do_y_1="fail")
    saga = begin(each(need=2, failed="keep"))

    drive(broker, saga)

    assert saga.state == "completed"
    assert [child.state for child in children_of(saga)] == ["compensated", "compensated", "completed"]
    rules.check(saga)


def test_past_undoing_all_children_end_before_a_person_is_called(broker, world):
    world(do_y_0="fail")
    saga = begin(retriable("toy-some-fail", toys.PARCEL, limit=1))
    while broker.deliver():
        pass
    saga.refresh_from_db()
    assert [child.state for child in children_of(saga)] == ["compensated", "completed", "completed"]
    assert (saga.state, saga.attention["step"]) == ("needs_attention", "deliver")

    # To try again changes nothing, and is not forbidden.
    engine.resume(saga.pk, seen=engine.look(saga.pk), **WHO)
    saga.refresh_from_db()
    assert saga.state == "needs_attention"

    engine.resolve(saga.pk, seen=engine.look(saga.pk), happened=True, **WHO)
    drive(broker, saga)
    assert saga.state == "completed"
    rules.check(saga)


def test_nobody_says_what_a_step_is_whose_children_are_under_way(broker, world):
    world(do_y_0="begin")
    child = toys.saga("toy-wait-parcel-4", toys.waits("y"), inputs=["parcel"])
    saga = begin(each(child=child), 1)
    broker.deliver_all()

    for intervene in (engine.retry, functools.partial(engine.resolve, happened=True)):
        with pytest.raises(errors.NotAllowed, match="is what its children are"):
            intervene(saga.pk, seen=engine.look(saga.pk), **WHO)


def test_children_that_end_after_their_parents_time_carry_it_on(broker, world):
    world(do_y_0="begin")
    child = toys.saga(
        "toy-late-parcel", toys.waits("y", **toys.RETRIABLE), inputs=["parcel"], deadline=100 * 24 * HOUR
    )
    saga = begin(retriable("toy-late-children", child), 1)
    broker.deliver_all()
    saga.refresh_from_db()
    clocks.pass_time(saga.deadline_at - models.database_now(), saga.pk)
    engine.sweep()
    saga.refresh_from_db()
    assert (saga.state, saga.attention["step"]) == ("needs_attention", "deliver")

    key = f"{children_of(saga)[0].pk}.y"
    engine.receive(source="world", event_id=key, key=key, facts={"settled": True})
    drive(broker, saga)

    assert saga.state == "completed"


def test_children_that_are_undone_after_their_parents_time_carry_it_on(broker, world):
    world(do_y_0="fail", undo_y_0="flake")
    saga = begin(each(), 1)
    broker.deliver_all()
    saga.refresh_from_db()
    engine.cancel(saga.pk, **WHO)
    saga.refresh_from_db()
    clocks.pass_time(saga.deadline_at - models.database_now(), saga.pk)
    engine.sweep()
    saga.refresh_from_db()
    assert (saga.state, saga.attention["step"]) == ("needs_attention", "deliver")
    assert "child" not in saga.attention

    world()
    drive(broker, *children_of(saga))
    drive(broker, saga)

    assert saga.state == "compensated"
    rules.check(saga)


def test_an_owner_that_cannot_take_the_end_has_a_person_called_and_stops_nobody_else(broker, world):
    world()
    broken = [True]

    def on_completed(*, key):
        if broken:
            raise ZeroDivisionError("a bug")

    declared = toys.saga(
        "toy-broken-owner",
        ForEach("deliver", of="parcels", saga=toys.PARCEL),
        inputs=["parcels"],
        on_completed=on_completed,
    )
    saga, other = begin(declared), begin(toys.EACH)
    drive(broker, saga)
    drive(broker, other)
    assert (saga.state, other.state) == ("needs_attention", "completed")
    assert "a bug" in saga.attention["why"]
    assert not models.SagaInstance.objects.filter(tells_parent_at__isnull=False).exists()

    broken.clear()
    engine.resume(saga.pk, seen=engine.look(saga.pk), **WHO)
    drive(broker, saga)

    assert (saga.state, {child.state for child in children_of(saga)}) == ("completed", {"completed"})


def test_children_never_started_are_over_when_their_parent_is_put_aside(broker, world):
    world(do_y_0="fail", undo_y_0="fail")
    saga = begin(each(failed="keep", limit=1))
    broker.deliver_all()
    saga.refresh_from_db()
    assert saga.state == "needs_attention"

    engine.close(saga.pk, seen=engine.look(saga.pk), **WHO)

    assert [child.state for child in children_of(saga)] == ["needs_attention", "compensated", "compensated"]


def test_a_child_that_is_done_just_when_its_parent_is_put_aside_completes(broker, world, monkeypatch):
    world(do_y_0="begin", do_y_1="fail", undo_y_1="fail")
    child = toys.saga("toy-wait-parcel-6", toys.waits("y"), inputs=["parcel"])
    saga = begin(each(child=child, failed="keep"), 2)
    ends_with_parent = children.ends_with_parent

    def and_then_it_is_put_aside(child):
        ends = ends_with_parent(child)
        saga.refresh_from_db()
        if saga.state == "needs_attention" and saga.closed_at is None:
            elsewhere(lambda: engine.close(saga.pk, seen=engine.look(saga.pk), **WHO))
        return ends

    monkeypatch.setattr(children, "ends_with_parent", and_then_it_is_put_aside)
    broker.deliver_all()
    key = f"{children_of(saga)[0].pk}.y"
    engine.receive(source="world", event_id=key, key=key, facts={"settled": True})

    saga.refresh_from_db()
    assert saga.closed_at is not None
    assert [child.state for child in children_of(saga)] == ["completed", "needs_attention"]


def test_a_child_whose_parent_is_gone_has_nobody_to_tell(broker, world):
    world(do_y_0="fail", undo_y_0="fail")
    saga = begin(each(), 1)
    broker.deliver_all()
    engine.close(saga.pk, seen=engine.look(saga.pk), **WHO)
    archive.run(older_than=datetime.timedelta(0))
    assert not models.SagaInstance.objects.filter(pk=saga.pk).exists()
    world()
    child = children_of(saga)[0]

    engine.resume(child.pk, seen=engine.look(child.pk), **WHO)
    drive(broker, child)

    assert (child.state, child.tells_parent_at) == ("compensated", None)


def test_a_list_that_is_none_past_undoing_calls_a_person_as_often_as_it_is_tried(broker, world):
    world()
    saga = harness.begin(retriable("toy-no-list", toys.PARCEL), inputs={"parcels": "none"})
    drive(broker, saga)
    assert (saga.state, saga.attention["step"]) == ("needs_attention", "deliver")

    engine.resume(saga.pk, seen=engine.look(saga.pk), **WHO)
    saga.refresh_from_db()

    assert (saga.state, saga.steps.get(name="deliver").state) == ("needs_attention", "failed")


def test_a_held_parent_tells_its_children_nothing(broker, world):
    world(do_y_0="begin")
    child = toys.saga("toy-wait-parcel-5", toys.waits("y"), inputs=["parcel"])
    saga = begin(each(child=child), 1)
    broker.deliver_all()
    engine.hold(saga.pk, seen=engine.look(saga.pk), **WHO)

    engine.cancel(saga.pk, **WHO)
    broker.deliver_all()
    assert children_of(saga)[0].direction == 1

    engine.release(saga.pk, seen=engine.look(saga.pk), **WHO)
    drive(broker, saga)
    assert (saga.state, children_of(saga)[0].state) == ("compensated", "compensated")


def test_at_the_pivot_a_person_says_what_became_of_a_child_that_was_put_aside(broker, world):
    world(do_x_0="fail", undo_x_0="fail")
    child = toys.saga("toy-pivot-child", toys.remote("x"))
    declared = toys.saga(
        "toy-child-pivot",
        toys.local("a"),
        Child("c", saga=child, kind="pivot"),
        toys.local("z", **toys.RETRIABLE),
    )
    saga = harness.begin(declared)
    broker.deliver_all()
    (only,) = children_of(saga)
    engine.close(only.pk, seen=engine.look(only.pk), **WHO)
    saga.refresh_from_db()
    assert (saga.state, saga.steps.get(name="c").state) == ("needs_attention", "unknown")

    engine.resolve(saga.pk, seen=engine.look(saga.pk), happened=True, **WHO)
    drive(broker, saga)

    assert saga.state == "completed"


def test_a_list_is_no_pivot():
    with pytest.raises(validation.BadDeclaration, match="pivot"):
        toys.saga(
            "toy-many-pivots",
            ForEach("deliver", of="parcels", saga=toys.PARCEL, kind="pivot"),
            inputs=["parcels"],
        )


@pytest.mark.parametrize("archived", [False, True])
def test_what_is_struck_out_of_a_saga_is_struck_out_of_its_children(broker, world, archived):
    world()
    saga = harness.begin(toys.EACH, inputs={"parcels": ["for Maria Quitéria", "for somebody else"]})
    drive(broker, saga)
    if archived:
        archive.run(older_than=datetime.timedelta(0))
        assert not models.SagaInstance.objects.exists()

    with transaction.atomic():
        engine.strike(saga.pk, values=engine.Values(["Maria Quitéria"]))

    rows = reading.in_bulk([saga.pk, *map(uuid.UUID, ids_of(saga))])
    assert len(rows) == 3
    assert "Maria" not in json.dumps([row.facts for row in rows.values()])
    assert "for somebody else" in json.dumps([row.facts for row in rows.values()])


def test_what_is_personal_to_a_child_is_shown_to_nobody_on_its_parents_page_either(broker):
    def weigh(*, key, parcel):
        return {"weigher": "Maria Quitéria"}

    inner = toys.saga(
        "toy-weigh-by",
        toys.local("w", do=weigh, inputs=["parcel"], outputs=["weigher"], personal=["weigher"]),
        inputs=["parcel"],
    )
    weigh_all = ForEach("weigh", of="parcels", saga=inner, outputs=["weighed"])
    saga = begin(toys.saga("toy-weigh-all", weigh_all, inputs=["parcels"]), 1)

    drive(broker, saga)

    assert "Maria" in json.dumps(saga.facts)
    assert "Maria" not in json.dumps(redaction.redact(saga.facts, redaction.hidden(saga)))


def ids_of(saga):
    """The ids of a saga's children, wherever they are."""
    live = models.SagaInstance.objects.filter(parent_id=saga.pk).values_list("pk", flat=True)
    archived = models.ArchivedSaga.objects.filter(name="toy-parcel").values_list("pk", flat=True)
    return [str(pk) for pk in (*live, *archived)]


@pytest.mark.parametrize("enough", [False, True], ids=["its parent is undone", "enough are done"])
def test_a_child_that_has_come_further_before_its_parents_word_reached_it(broker, world, monkeypatch, enough):
    world(do_y_0="begin", do_y_1="begin")
    child = toys.saga("toy-wait-parcel-8", toys.waits("y"), inputs=["parcel"])
    saga = begin(each(child=child, need=1 if enough else "all"), 2)
    broker.deliver_all()
    first, second = children_of(saga)
    turn = parents._turn

    def turn_late(*arguments):
        monkeypatch.setattr(parents, "_turn", turn)
        elsewhere(lambda: further(second))
        turn(*arguments)

    def further(second):
        if enough:
            key = f"{second.pk}.y"
            engine.receive(source="world", event_id=key, key=key, facts={"settled": True})
        else:
            engine.cancel(second.pk, **WHO)

    monkeypatch.setattr(parents, "_turn", turn_late)
    if enough:
        key = f"{first.pk}.y"
        engine.receive(source="world", event_id=key, key=key, facts={"settled": True})
    else:
        engine.cancel(saga.pk, **WHO)
    drive(broker, saga)

    assert saga.state == ("completed" if enough else "compensated")
    assert "saga.attention" not in harness.kinds(saga)
    assert {child.state for child in children_of(saga)} == {saga.state}
    for one in (saga, *children_of(saga)):
        rules.check(one)


# --- What people may do to parents and children ---------------------------------------------------

WAITS = toys.saga("toy-wait-parcel-7", toys.local("x"), toys.waits("y"), inputs=["parcel"])


def under_way(broker, world):
    world(do_y_0="begin", do_y_1="begin", do_y_2="begin")
    return stand(broker, each(child=WAITS))


def child_in_need(broker, world):
    world(do_y_1="fail", undo_y_1="fail")
    return stand(broker, toys.EACH)


def child_stopped(broker, world):
    saga = under_way(broker, world)
    key = f"{children_of(saga)[1].pk}.y"
    engine.receive(source="world", event_id=key, key=key, mismatch="one parcel too many")
    saga.refresh_from_db()
    assert (saga.state, saga.direction) == ("needs_attention", 1)
    return saga


def being_undone(broker, world):
    world(do_y_1="fail", undo_y_1="flake")
    saga = begin(toys.EACH)
    steps = models.StepInstance.objects.filter(saga__parent_id=saga.pk, saga__parent_item=1)
    until(broker, steps.filter(name="y", undo_attempts=1).exists)
    engine.cancel(saga.pk, **WHO)
    saga.refresh_from_db()
    return saga


def too_few(broker, world):
    world(do_y_1="fail")
    return stand(broker, retriable("toy-too-few", toys.PARCEL))


def not_begun(broker, world):
    world(do_y_0="begin")
    return stand(broker, each(child=WAITS, limit=1))


def done(broker, world):
    world(do_y_0="begin")
    return stand(broker, each(child=WAITS))


def stand(broker, declared):
    saga = begin(declared)
    while broker.deliver():
        pass
    saga.refresh_from_db()
    return saga


def until(broker, reached):
    for _ in range(50):
        if reached():
            return
        broker.deliver()
    raise AssertionError("it never came so far")


ACTS = ("hold", "release", "retry", "resume", "resolve", "skip", "close", "extend", "cancel", "compensate")
POSSIBLE = {
    (under_way, None): {"hold", "extend", "cancel", "compensate"},
    (child_stopped, None): {"hold", "resume", "close", "extend", "cancel", "compensate"},
    (child_in_need, None): {"hold", "resume", "close", "extend"},
    (being_undone, None): {"hold", "retry", "extend"},
    (too_few, None): {"hold", "resume", "resolve", "close", "extend"},
    (not_begun, 1): {"hold", "cancel", "compensate"},
    (under_way, 1): {"hold", "resolve", "extend", "cancel", "compensate"},
    (done, 1): set(),
    (child_stopped, 1): {"hold", "resume", "resolve", "close", "extend", "cancel", "compensate"},
    (child_in_need, 1): {"hold", "resume", "resolve", "close", "extend"},
    (being_undone, 1): {"hold", "retry", "resolve", "extend"},
}
"""Of a parent (None), or of one of its children: what an operator may do as it stands."""

stations = pytest.mark.parametrize(
    ("station", "item"), POSSIBLE, ids=lambda value: getattr(value, "__name__", None) or f"of {value}"
)


def act(name, saga):
    if name == "cancel":
        return engine.cancel(saga.pk, **WHO)
    rest = {"extend": {"by": HOUR}, "resolve": {"happened": True}}.get(name, {})
    return getattr(engine, name)(saga.pk, seen=engine.look(saga.pk), **rest, **WHO)


def taken(broker, world, station, item):
    """The parent in that position, and whom of its family an operator has before them."""
    saga = station(broker, world)
    return saga, saga if item is None else children_of(saga)[item]


@stations
def test_what_an_operator_may_not_do_changes_nothing(broker, world, station, item):
    saga, target = taken(broker, world, station, item)
    before = [rules.snapshot(one) for one in (saga, *children_of(saga))]

    for name in sorted(set(ACTS) - POSSIBLE[station, item]):
        if name == "cancel" and target.direction == -1:
            act(name, target)  # It is being undone already: that wish is fulfilled.
            continue
        with pytest.raises((errors.NotAllowed, errors.TooLate)):
            act(name, target)

    assert [rules.snapshot(one) for one in (saga, *children_of(saga))] == before


@stations
def test_whatever_an_operator_does_to_a_family_all_of_it_comes_to_one_end(broker, world, station, item):
    for name in sorted(POSSIBLE[station, item]):
        saga, target = taken(broker, world, station, item)

        act(name, target)
        if name == "hold":
            target.refresh_from_db()
            assert target.held_at is not None
            act("release", target)
        settle(broker, world, saga)

        for one in (saga, *children_of(saga)):
            if one.closed_at is None:
                rules.check(one)
        put_aside = saga.closed_at is not None
        assert put_aside or saga.finished_at is not None, name
        if {"cancel", "compensate"} & {name} and item is None:
            assert saga.state == "compensated"


def settle(broker, world, saga):
    """Everybody works, tells what is waited for, and helps where a person is needed."""
    world()
    for _ in range(30):
        broker.deliver_all()
        family = [saga, *children_of(saga)]
        for one in family:
            one.refresh_from_db()
            if one.steps.filter(name="y", state="waiting").exists():
                key = f"{one.pk}.y"
                engine.receive(source="world", event_id=key, key=key, facts={"settled": True})
        if all(one.finished_at or one.closed_at for one in family):
            return
        for one in reversed(family):
            one.refresh_from_db()
            if one.state == "needs_attention" and one.closed_at is None:
                failed = one.steps.filter(name="deliver", state="failed").exists()
                act("resolve" if failed else "resume", one)
        clocks.skip()
        engine.sweep()
    raise AssertionError([(one.state, one.attention) for one in family])


def test_a_parent_whose_declaration_is_gone_stops_no_sweep(broker, world, monkeypatch):
    world()
    saga, other = begin(each(name="toy-gone")), begin(toys.EACH)
    with monkeypatch.context() as patch:
        patch.setattr(children, "_tell", lambda parent_id, step: None)
        broker.deliver_all()
        clocks.pass_time(HOUR * 2)
        engine.sweep()
        broker.deliver_all()
    clocks.pass_time(datetime.timedelta(seconds=10))
    with monkeypatch.context() as patch:
        patch.delitem(registry._sagas, ("toy-gone", 1))
        assert models.SagaInstance.objects.filter(tells_parent_at__isnull=False).exists()
        for _ in range(3):
            engine.sweep()
            broker.deliver_all()
        saga.refresh_from_db()
        other.refresh_from_db()
        assert (saga.state, other.position > 0) == ("running", True)

    drive(broker, saga)
    drive(broker, other)

    assert (saga.state, other.state) == ("completed", "completed")
