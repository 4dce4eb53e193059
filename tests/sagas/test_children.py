"""Sagas that are steps of another: one, or one for each element of a list."""

import datetime
import json
import uuid

import pytest
from django.db import transaction

from sagas import Child, ForEach, Parallel, engine, errors, models, reading
from sagas.console import redaction
from sagas.engine import archive, children
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
@pytest.mark.parametrize("fails", [False, True], ids=["all well", "one fails"])
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
