"""A hook of a saga's owner is given the facts that it names, whichever way the saga ends."""

import pytest

from sagas import BadDeclaration, ForEach, engine
from tests.sagas import harness
from tests.sagas.sample_app import functions
from tests.sagas.sample_app import models as toy_models
from tests.sagas.sample_app import saga as toys

pytestmark = pytest.mark.usefixtures("rows")

WHO = {"actor": "operator", "reason": "the test says so"}


def told(*, key, total, mark, more="nothing", other=7):
    """Takes an input, an output, an output that has a default, and what is no fact at all."""
    toy_models.End.objects.create(key=key, kind=f"{total} {mark} {more} {other}")


def give(*, key):
    return functions.WORLD.do(key, local=True) | {"mark": "m", "more": "everything"}


def ends():
    return list(toy_models.End.objects.values_list("kind", flat=True))


def declared(name, *steps, **hooks):
    quiet = dict.fromkeys(("on_completed", "on_compensated", "on_attention"))
    steps = (toys.local("give", do=give, outputs=["mark", "more"], when="gives"), *steps)
    return toys.saga(name, *steps, inputs=["total", "gives"], **{**quiet, **hooks})


def played(broker, saga, script="", **inputs):
    saga = harness.begin(saga, script, inputs={"total": 3, "gives": True, **inputs})
    harness.drive(broker, saga)
    return saga


@harness.both_ways
@pytest.mark.parametrize(
    ("gives", "said"), [(True, "3 m everything 7"), (False, "3 None nothing 7")], ids=["all", "left out"]
)
def test_a_hook_is_given_the_facts_that_it_names(broker, inline, gives, said):
    broker.inline = harness.always if inline else None

    saga = played(broker, declared("hook-facts", toys.remote("b"), on_completed=told), gives=gives)

    assert (saga.state, ends()) == ("completed", [said])


def test_so_is_one_that_is_told_of_the_undoing(broker):
    saga = declared("hook-facts-undone", toys.remote("b"), on_compensated=told)

    assert played(broker, saga, "fail b").state == "compensated"

    assert ends() == ["3 m everything 7"]


def test_so_is_one_that_is_told_before_anything_was_done(broker):
    saga = declared("hook-facts-early", on_compensated=told)

    assert played(broker, saga, "fail give").state == "compensated"

    assert ends() == ["3 None nothing 7"]


def test_so_are_those_that_are_told_of_attention_and_of_the_end_that_a_person_makes(broker):
    saga = declared("hook-facts-closed", toys.remote("b"), on_attention=told, on_closed=told)
    saga = played(broker, saga, "fail b, fail undo b")
    assert saga.state == "needs_attention"
    assert ends() == ["3 m everything 7"]

    engine.close(saga.pk, seen=engine.look(saga.pk), **WHO)

    assert ends() == ["3 m everything 7"] * 2


def test_so_are_those_of_children_that_complete_with_their_parent(broker):
    def each_told(*, key, parcel, mark):
        toy_models.End.objects.create(key=key, kind=f"{parcel} {mark}")

    child = toys.saga(
        "hook-facts-child",
        toys.local("give", do=give, outputs=["mark"]),
        inputs=["parcel"],
        on_completed=each_told,
    )
    step = ForEach("deliver", of="parcels", saga=child)
    parent = toys.saga("hook-facts-parent", step, toys.local("z"), inputs=["parcels"], on_completed=None)

    saga = harness.begin(parent, inputs={"parcels": ["one", "two"]})
    harness.drive(broker, saga)

    assert (saga.state, sorted(ends())) == ("completed", ["one m", "two m"])


def test_so_is_one_that_is_told_whom_to_ask(broker):
    approval = toys.approval(notify=told)

    saga = declared("hook-facts-asked", approval)
    saga = harness.begin(saga, inputs={"total": 3, "gives": True})
    broker.deliver_all()

    assert ends() == ["3 m everything 7"]
    engine.approve(saga.pk, "ok", **WHO)


def test_a_hook_that_takes_anything_is_given_the_key_alone(broker):
    given = []

    saga = played(broker, declared("hook-facts-any", on_completed=lambda **anything: given.append(anything)))

    assert given == [{"key": saga.key}]


def test_a_secret_is_given_to_none():
    def pay(*, key, token):
        return functions.WORLD.do(key)

    with pytest.raises(BadDeclaration, match=r"sagas\.E003"):
        toys.saga(
            "hook-facts-secret",
            toys.remote("pay", do=pay, inputs=["token"], secrets=["token"]),
            inputs=["token"],
            on_completed=lambda *, key, token: None,
        )
