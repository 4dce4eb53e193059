"""What is decided when a step is done, when one has failed, and when the next one's turn comes.

Each decision is compared whole: what it writes, says, sends and leaves to whoever asked for it.
"""

import datetime
import random
import uuid

import pytest

from sagas import Approval, Child, ForEach, models
from sagas.declaration import registry
from sagas.engine import children, dispatching, messages, transitions
from sagas.engine.failures import Failure
from sagas.engine.kinds import FailureKind, Next
from tests.sagas.decisions import decision, event, standing
from tests.sagas.explorer import memory
from tests.sagas.explorer.memory import NOW, ROOT
from tests.sagas.sample_app import saga as toys

EARLIER = NOW - toys.SECOND
GRACE = NOW + dispatching.grace()
HOUR = NOW + toys.HOUR
DAY = NOW + datetime.timedelta(days=1)
AGAIN = NOW + datetime.timedelta(minutes=15)
"""When a saga that needs attention is tried again by itself, where nothing is left to chance."""

WHO = {"actor": "ann", "reason": "I have seen it."}

SENT = {"dispatched_at": NOW, "dispatches": 1, "wake_at": GRACE}
"""Of a saga whose next step's message is under way."""

AT_STAGE = {"dispatched_at": None, "dispatches": 1, "wake_at": HOUR}
"""Of a saga that is at steps that are done at once."""

OVER = {"finished_at": NOW, "wake_at": None, "dispatched_at": None, "deadline_at": None, "held_at": None}
"""Of a saga that has ended."""

BACK = {"state": "compensating", "direction": -1}

DONE = {"state": "done", "facts": {}, "started_at": EARLIER}


@pytest.fixture(autouse=True)
def nothing_is_left_to_chance(monkeypatch):
    monkeypatch.setattr(random, "random", lambda: 0.0)


def member(state="pending", **fields):
    """Of a step that is done at once with others, in a stage that has been entered."""
    return {"state": state, "epoch": 3, **fields}


def sent(epoch):
    """Of such a step whose message is under way."""
    return {"epoch": epoch, **SENT}


def failure(kind=FailureKind.REFUSED, step="b", **more):
    return Failure(
        **{"step": step, "kind": kind, "error": "No", "message": "Nothing is left.", "attempt": 2,
           "at": NOW.isoformat(), **more}
    )  # fmt: skip


def attention(step, why, advice, *, again):
    """A person is called: what is decided of that."""
    called = {"step": step, "why": why, "advice": advice, "since": NOW.isoformat()}
    saga = {
        "state": "needs_attention", "attention": called, "dispatched_at": None, "dispatches": 1,
        "wake_at": AGAIN if again else None, "alerted_at": NOW,
    }  # fmt: skip
    alert = ("saga %s (%s) needs attention: %s %s", ROOT, "toy-decided", why, advice)
    return saga, [alert]


def needs_attention(saga, was):
    return event("saga.attention", "", was, "needs_attention", data=saga["attention"])


# --- A step is done --------------------------------------------------------------------------------------


def draw(*, key):
    """Puts out a secret."""


def spend(*, key, token):
    """Takes one."""


DRAWN = toys.local("a", do=draw, outputs=["token"])


@pytest.mark.parametrize(
    ("declared", "answer", "kept", "forgets"),
    [
        # What it puts out is a fact of its saga's, and what it has used up is one no more.
        ({"outputs": ["receipt"], "secrets": ["token"]}, {"receipt": 5, "more": 6}, {"receipt": 5}, True),
        ({"outputs": ["receipt"]}, {"receipt": 5}, {"token": "t", "receipt": 5}, False),
        ({"outputs": ["receipt"]}, {"more": 6}, {"token": "t", "receipt": None}, False),
        ({"secrets": ["token"]}, {"more": 6}, {}, True),
        ({}, {"more": 6}, None, False),
    ],
)
def test_what_a_step_that_is_done_answers_is_kept(declared, answer, kept, forgets):
    step = toys.local("b", do=spend, inputs=["token"], **declared)
    world = standing(
        DRAWN,
        step,
        saga={"position": 1, "facts": {"token": "t"}},
        rows={"b": {"state": "running", "attempts": 2}},
    )

    assert decision(world, "b", transitions.finish_step, answer, **WHO) == {
        "returns": None,
        **({} if kept is None else {"saga": {"facts": kept}}),
        "steps": {
            "b": {"state": "done", "finished_at": NOW, "wait_until": None, "facts": answer, "error": None}
        },
        "events": [event("step.done", "b", "running", "done", attempt=2, **WHO)],
        **({"does": [("_forget", ROOT, ["token"])]} if forgets else {}),
    }


def test_what_a_member_of_a_stage_puts_out_waits_for_the_others():
    stage = toys.at_once(
        "all",
        toys.local("b", do=spend, inputs=["token"], secrets=["token"], outputs=["receipt"]),
        toys.local("c"),
    )
    world = standing(
        DRAWN, stage, saga={"position": 1, "facts": {"token": "t"}}, rows={"b": member("running", attempts=1)}
    )  # fmt: skip

    assert decision(world, "b", transitions.finish_step, {"receipt": 5}) == {
        "returns": None,
        "steps": {
            "b": {
                "state": "done",
                "finished_at": NOW,
                "wait_until": None,
                "facts": {"receipt": 5},
                "error": None,
            }
        },
        "events": [event("step.done", "b", "running", "done", attempt=1)],
    }


# --- The next one is due ---------------------------------------------------------------------------------


def row(saga=None, **rows):
    return standing(toys.local("a"), toys.local("b"), toys.remote("c"), saga=saga, rows=rows)


def test_after_a_step_comes_the_next_one_which_the_same_chain_of_messages_leads_to():
    assert decision(row(a=DONE), "a", transitions.advance) == {
        "returns": Next.CONTINUE,
        "saga": {"position": 1, **SENT},
    }


def test_a_saga_that_has_got_on_waits_for_no_circuit_and_its_pauses_begin_anew():
    stood = {"position": 1, "epoch": 4, "parked_for": "toys", "in_line_for": "toys", "resumes": 1}

    assert decision(row(stood, a=DONE, b=DONE), "b", transitions.advance) == {
        "returns": Next.CONTINUE,
        "saga": {"position": 2, **SENT, "parked_for": None, "in_line_for": None, "resumes": 0},
    }


def test_after_the_last_step_the_saga_is_completed():
    world = row({"position": 2}, a=DONE, b=DONE, c=DONE)

    assert decision(world, "c", transitions.advance) == {
        "returns": Next.CONTINUE,
        "saga": {"position": 3, "state": "completed", **OVER},
        "events": [event("saga.completed", "", "running", "completed")],
    }


def test_on_the_way_back_the_one_before_is_undone_next():
    world = row({**BACK, "position": 1}, a=DONE, b={**DONE, "state": "undone"})

    assert decision(world, "b", transitions.advance) == {
        "returns": Next.CONTINUE,
        "saga": {"position": 0, **SENT},
    }


def test_when_the_first_step_is_undone_the_saga_is_compensated():
    world = row({**BACK, "position": 0}, a={**DONE, "state": "undone"})

    assert decision(world, "a", transitions.advance) == {
        "returns": Next.CONTINUE,
        "saga": {"state": "compensated", **OVER},
        "events": [event("saga.compensated", "", "compensating", "compensated")],
    }


# --- Steps that are done at once -------------------------------------------------------------------------


def stage(*, undo="together", saga=None, **rows):
    both = toys.at_once("all", toys.remote("r", outputs=["one"]), toys.local("s"), undo=undo)
    return standing(
        toys.local("a"), both, toys.local("z"), saga={"position": 1, **(saga or {})}, rows={"a": DONE, **rows}
    )


NO_MESSAGE = {"wake_at": None, "dispatched_at": None}


def test_who_is_not_the_last_to_be_done_leaves_the_saga_to_the_others():
    world = stage(r=member(**DONE), s=member("running"))

    assert decision(world, "r", transitions.advance) == {"returns": Next.STOP, "steps": {"r": NO_MESSAGE}}


def test_who_is_the_last_to_be_done_goes_on_behind_the_stage_with_what_all_put_out():
    world = stage(
        r=member(**{**DONE, "facts": {"one": 1}}), s=member(**DONE, parked_for="toys"), saga={"epoch": 2}
    )

    assert decision(world, "s", transitions.advance) == {
        "returns": Next.CONTINUE,
        "saga": {"facts": {"one": 1}, "position": 3, "epoch": 3, **SENT},
        "steps": {"s": {**NO_MESSAGE, "parked_for": None}},
    }


def test_who_is_undone_beside_others_leaves_them_to_theirs():
    world = stage(saga=BACK, r=member("undoing", facts={}), s=member("undone"))

    assert decision(world, "s", transitions.advance) == {"returns": Next.STOP, "steps": {"s": NO_MESSAGE}}


def test_who_is_undone_before_others_has_the_next_one_undone():
    world = stage(undo="reverse", saga=BACK, r=member(**DONE), s=member("undone"))

    assert decision(world, "s", transitions.advance) == {
        "returns": Next.CONTINUE,
        "saga": AT_STAGE,
        "steps": {"r": sent(4), "s": NO_MESSAGE},
        "onward": (4, "r"),
    }


def test_who_is_the_last_to_be_undone_goes_on_before_the_stage():
    world = stage(saga={**BACK, "epoch": 2}, r=member("undone"), s=member("undone"))

    assert decision(world, "r", transitions.advance) == {
        "returns": Next.CONTINUE,
        "saga": {"position": 0, "epoch": 3, **SENT},
        "steps": {"r": NO_MESSAGE},
    }


@pytest.mark.parametrize(
    ("kind", "again"), [("refused", False), ("mismatch", False), ("transient", True), ("bug", True)]
)
def test_when_only_one_whose_undo_failed_is_left_a_person_is_called_for_that(kind, again):
    error = failure(FailureKind(kind), "r").as_json()
    world = stage(saga=BACK, r=member("undo_failed", facts={}, error=error), s=member("undone"))
    saga, alerts = attention(
        "r",
        messages.UNDO_FAILED % {"step": "r", "message": "Nothing is left."},
        messages.SETTLE_WITH_PROVIDER,
        again=again,
    )

    assert decision(world, "s", transitions.advance) == {
        "returns": Next.STOP,
        "saga": saga,
        "steps": {"s": NO_MESSAGE},
        "events": [needs_attention(saga, "compensating")],
        "alerts": alerts,
    }


# --- Which step comes next -------------------------------------------------------------------------------


def chosen(name, **facts):
    return event("step.chosen", name, data={"facts": facts})


def left_out(name, **facts):
    return event("step.skipped", name, "pending", "skipped", data={"facts": facts})


SKIPPED = {"state": "skipped", "finished_at": NOW}


def choice(*steps, at=0, **facts):
    return standing(
        toys.local("a"), *steps, toys.local("z"), inputs=["yes"], saga={"position": at, "facts": facts},
        rows={"a": DONE},
    )  # fmt: skip


def test_a_step_whose_condition_does_not_hold_is_left_out_and_a_message_leads_past_it():
    world = choice(toys.local("b", when="yes"), toys.local("c", when="yes"), yes=0)

    assert decision(world, "a", transitions.enter, 1) == {
        "returns": Next.CONTINUE,
        "saga": {"position": 3, "epoch": 2, **SENT},
        "steps": {"b": SKIPPED, "c": SKIPPED},
        "events": [left_out("b", yes=False), left_out("c", yes=False)],
    }


@pytest.mark.parametrize(
    ("condition", "facts"),
    [({"when": "yes"}, {"yes": "sure"}), ({"unless": "yes"}, {}), ({"unless": "yes"}, {"yes": None})],
)
def test_one_whose_condition_holds_is_chosen_and_has_a_message_of_its_own(condition, facts):
    world = choice(toys.local("b", **condition), **facts)

    assert decision(world, "a", transitions.enter, 1) == {
        "returns": Next.CONTINUE,
        "saga": {"position": 1, "epoch": 2, **SENT},
        "events": [chosen("b", yes=bool(facts.get("yes")))],
    }


def test_behind_a_step_that_was_chosen_the_chain_goes_on():
    world = choice(toys.local("b", when="yes"), at=1, yes=True)

    assert decision(world, "b", transitions.enter, 2) == {
        "returns": Next.CONTINUE,
        "saga": {"position": 2, **SENT},
    }


@pytest.mark.parametrize(
    "step",
    [
        Approval("b", permission=toys.MAY_APPROVE, limit=toys.HOUR),
        toys.at_once("all", toys.local("b"), toys.local("c")),
    ],
)
def test_behind_what_no_message_of_its_saga_led_to_there_is_no_chain(step):
    world = choice(step)
    at = world.row(ROOT, "z").position

    assert decision(world, "b", transitions.enter, at) == {
        "returns": Next.CONTINUE,
        "saga": {"position": at, "epoch": 2, **SENT},
    }


def test_of_steps_that_are_done_at_once_those_are_sent_that_are_chosen():
    both = toys.at_once(
        "all",
        toys.remote("r"),
        toys.local("s", when="yes"),
        toys.local("t", unless="yes"),
        toys.local("u"),
    )
    world = choice(both, yes=True)

    assert decision(world, "a", transitions.enter, 1) == {
        "returns": Next.CONTINUE,
        "saga": {"position": 1, "epoch": 2, **AT_STAGE},
        "steps": {"r": sent(1), "s": sent(1), "t": SKIPPED, "u": sent(1)},
        "events": [chosen("s", yes=True), left_out("t", yes=True)],
        "onward": (1, "r"),
        "sends": [(1, "s"), (1, "u")],
    }


def test_a_stage_of_which_none_is_chosen_is_left_out_whole():
    stage = toys.at_once("all", toys.local("b"), toys.local("c", unless="no"), when="yes")
    world = standing(
        toys.local("a"), stage, toys.local("z"), inputs=["yes", "no"], saga={"facts": {"no": True}},
        rows={"a": DONE},
    )  # fmt: skip

    assert decision(world, "a", transitions.enter, 1) == {
        "returns": Next.CONTINUE,
        "saga": {"position": 3, "epoch": 2, **SENT},
        "steps": {"b": SKIPPED, "c": SKIPPED},
        "events": [left_out("b", yes=False), left_out("c", yes=False, no=True)],
    }


def test_where_all_that_is_left_is_left_out_the_saga_is_completed():
    world = standing(toys.local("a"), toys.local("b", when="yes"), inputs=["yes"], rows={"a": DONE})

    assert decision(world, "a", transitions.enter, 1) == {
        "returns": Next.CONTINUE,
        "saga": {"position": 2, "state": "completed", **OVER},
        "steps": {"b": SKIPPED},
        "events": [
            left_out("b", yes=False),
            event("saga.completed", "", "running", "completed"),
        ],
    }


# --- Steps without a worker ------------------------------------------------------------------------------

OK = Approval("ok", permission=toys.MAY_APPROVE, limit=toys.HOUR / 2)
ASKED = {
    "state": "waiting", "started_at": NOW, "asked_at": NOW, "wait_until": NOW + toys.HOUR / 2, "facts": None,
}  # fmt: skip
PARCEL = toys.saga("toy-decided-child", toys.local("x"), toys.local("y"), inputs=["parcel"])
LOOKED_AFTER = NOW + children.LOST


def begun(name, count=2):
    """Of a step whose children have rows now."""
    return {
        "state": "waiting", "started_at": NOW, "facts": {"children": count},
        "standing": {"counts": {"unstarted": count}, "first": 0},
    }, event("step.waiting", name, "pending", "waiting", data={"children": count})  # fmt: skip


def each(**rest):
    return ForEach("each", of="parcels", saga=PARCEL, **rest)


def parent(*steps, facts=None, **rest):
    return standing(
        toys.local("a"), *steps, inputs=["parcels"], rows={"a": DONE},
        saga={"facts": {"parcels": [1, 2]} if facts is None else facts}, **rest,
    )  # fmt: skip


def without_their_rows(found):
    """The rows of children, of which only how many there are is looked at here."""
    name, rows = found["does"].pop()
    return {**found, "does": [*found["does"], (name, len(rows))]}


def test_an_approval_has_people_asked_and_no_message():
    assert decision(choice(OK), "a", transitions.enter, 1) == {
        "returns": Next.STOP,
        "saga": {
            "position": 1, "epoch": 2, "dispatched_at": None, "dispatches": 0, "wake_at": NOW + toys.HOUR / 2
        },
        "steps": {"ok": ASKED},
        "events": [event("step.waiting", "ok", "pending", "waiting")],
    }  # fmt: skip


def test_children_are_looked_at_and_have_no_message_of_their_parent():
    row, waits = begun("each")

    assert without_their_rows(decision(parent(each()), "a", transitions.enter, 1)) == {
        "returns": Next.STOP,
        "saga": {"position": 1, "epoch": 2, "dispatched_at": None, "dispatches": 0, "wake_at": LOOKED_AFTER},
        "steps": {"each": row},
        "events": [waits],
        "does": [("_insert", 2)],
        "looks": [(ROOT, "each")],
    }


def test_beside_others_people_are_asked_and_children_looked_at_and_only_steps_with_a_worker_are_sent():
    row, waits = begun("each")
    world = parent(toys.at_once("all", toys.local("s"), OK, each(), toys.remote("t")))

    assert without_their_rows(decision(world, "a", transitions.enter, 1)) == {
        "returns": Next.CONTINUE,
        "saga": {"position": 1, "epoch": 2, **AT_STAGE},
        "steps": {
            "s": sent(1),
            "ok": {
                **ASKED,
                "epoch": 0,
                "dispatched_at": None,
                "dispatches": 0,
                "wake_at": NOW + toys.HOUR / 2,
            },
            "each": {**row, "epoch": 0, "dispatched_at": None, "dispatches": 0, "wake_at": LOOKED_AFTER},
            "t": sent(1),
        },
        "events": [event("step.waiting", "ok", "pending", "waiting"), waits],
        "onward": (1, "s"),
        "sends": [(1, "t")],
        "does": [("_insert", 2)],
        "looks": [(ROOT, "each")],
    }


def bad_list(world):
    """What is written of the error that the list is none."""
    said = world.root.failure
    assert {**said, "frames": [], "message": said["message"].partition(" (")[0]} == {
        "step": "each", "kind": "bug", "error": "BadFacts", "message": "each: parcels is no list, but int.",
        "attempt": 0, "clock": None, "at": NOW.isoformat(), "frames": [],
    }  # fmt: skip
    assert said["frames"][-1].endswith(" inputs_of")
    return said


def stopped(to, said):
    """Of a step that has failed."""
    return {"state": to, "error": said, "wait_until": None, "finished_at": NOW}


COMPENSATING = {
    **BACK, "attention": None, "dispatches": 0, "dispatched_at": None, "deadline_at": DAY, "wake_at": GRACE,
}  # fmt: skip


def compensates(said, **event_says):
    return event("saga.compensating", "", "running", "compensating", data=said, **event_says)


def test_children_that_cannot_be_begun_are_a_step_that_provably_failed():
    world = parent(each(), facts={"parcels": 7})

    found = decision(world, "a", transitions.enter, 1)

    said = bad_list(world)
    assert found == {
        "returns": Next.COMPENSATE,
        "saga": {**COMPENSATING, "position": 0, "epoch": 2, "failure": said},
        "steps": {"each": stopped("failed", said)},
        "events": [
            event("step.failed", "each", "pending", "failed", attempt=0, data=said),
            compensates(said),
        ],
    }


def test_beside_others_too_which_then_do_not_begin():
    world = parent(toys.at_once("all", toys.local("s"), each(), OK), facts={"parcels": 7})

    found = decision(world, "a", transitions.enter, 1)

    said = bad_list(world)
    drained = {**NO_MESSAGE, "dispatches": 0, "parked_for": None}
    assert found == {
        "returns": Next.COMPENSATE,
        "saga": {**COMPENSATING, "position": 0, "epoch": 2, "failure": said},
        "steps": {
            "s": {**SKIPPED, **drained, "epoch": 0},
            "each": {**stopped("failed", said), **drained, "epoch": 0},
            "ok": {**SKIPPED, **drained, "epoch": 0},
        },
        "events": [
            event("step.failed", "each", "pending", "failed", attempt=0, data=said),
            compensates(said),
            event("step.skipped", "s", "pending", "skipped"),
            event("step.skipped", "ok", "pending", "skipped"),
        ],
    }  # fmt: skip


def test_past_undoing_a_person_is_called_for_children_that_cannot_be_begun():
    world = parent(each(kind="retriable"), facts={"parcels": 7})

    found = decision(world, "each", transitions.begin_without_worker)

    said = bad_list(world)
    saga, alerts = attention(
        "each",
        messages.PAST_UNDOING % {"step": "each", "error": said["error"], "message": said["message"]},
        messages.SEE_TO_THE_CAUSE,
        again=True,
    )
    assert found == {
        "returns": Next.STOP,
        "saga": {**saga, "failure": said},
        "steps": {"each": stopped("failed", said)},
        "events": [
            event("step.failed", "each", "pending", "failed", attempt=0, data=said),
            needs_attention(saga, "running"),
        ],
        "alerts": alerts,
    }


# --- Children, and their parents -------------------------------------------------------------------------

C = toys.saga("toy-decided-one-child", toys.local("x"))
ONE = Child("c", saga=C)
LAST = Child("last", saga=C, kind="retriable")
PIVOT, RETRIABLE = toys.remote("p", **toys.PIVOT), toys.local("z", **toys.RETRIABLE)


@pytest.mark.parametrize(
    ("steps", "position", "complete"),
    [
        # The pivot may be refused, and then they are undone.
        ((ONE, PIVOT, RETRIABLE), 1, []),
        ((ONE, PIVOT, RETRIABLE), 2, [ONE]),
        # One that is tried until it is done is no longer one that may fail.
        ((ONE, RETRIABLE), 1, [ONE]),
        ((ONE, toys.local("b"), RETRIABLE), 1, []),
        ((PIVOT, RETRIABLE), 1, []),
    ],
)
def test_past_the_pivot_the_children_before_it_need_not_wait_any_longer(steps, position, complete):
    found = decision(standing(*steps), steps[position - 1].name, transitions.enter, position)

    assert found.get("does", []) == ([("_complete", [ROOT], one) for one in complete])
    assert found["saga"]["position"] == position


def test_past_the_pivot_the_children_that_are_still_to_come_wait():
    world = standing(ONE, PIVOT, LAST)
    row, waits = begun("last", 1)

    assert without_their_rows(decision(world, "p", transitions.enter, 2)) == {
        "returns": Next.STOP,
        "saga": {"position": 2, "epoch": 1, "dispatched_at": None, "dispatches": 0, "wake_at": LOOKED_AFTER},
        "steps": {"last": row},
        "events": [waits],
        "does": [("_complete", [ROOT], ONE), ("_insert", 1)],
        "looks": [(ROOT, "last")],
    }


def test_children_complete_with_a_saga_that_has_no_pivot():
    world = standing(ONE, toys.local("b"), saga={"position": 1})

    assert decision(world, "b", transitions.advance) == {
        "returns": Next.CONTINUE,
        "saga": {"position": 2, "state": "completed", **OVER},
        "events": [event("saga.completed", "", "running", "completed")],
        "does": [("_complete", [ROOT], ONE)],
    }


PARENT = uuid.UUID(int=7)


def as_child(kind):
    """A saga whose last step is done, as the child of another's step."""
    world = standing(
        toys.local("a", do=spend, inputs=["token"], secrets=["token"]),
        toys.waits("w"),
        inputs=["token"],
        saga={
            "position": 1, "facts": {"token": "t"}, "parent_id": PARENT, "parent_step": "c", "parent_item": 0,
            "parked_for": "world",
        },
    )  # fmt: skip
    step = Child("c", saga=world.shape.saga, inputs={"given": "token"}, kind=kind)
    declared = toys.saga("toy-decided-parent", step, inputs=["given"])
    registry.add(declared)
    world.add(
        memory.row(
            models.SagaInstance, id=PARENT, name=declared.name, version=1, state="running", direction=1,
            position=0,
        )
    )  # fmt: skip
    return world


def test_a_child_whose_steps_are_done_waits_for_its_parent_with_nothing_left_on_it():
    assert decision(as_child("compensatable"), "w", transitions.enter, 2) == {
        "returns": Next.STOP,
        "saga": {
            "position": 2, "parked_for": None, "dispatched_at": None, "dispatches": 1, "deadline_at": None,
            "wake_at": NOW + children.START_LOOK, "facts": {}, "tells_parent_at": NOW,
        },
        "events": [event("saga.waiting", data={"parent": str(PARENT)})],
        "looks": [(PARENT, "c")],
        "drops": [f"{ROOT}.w"],
    }  # fmt: skip


def test_a_child_that_its_parent_cannot_undo_is_completed():
    assert decision(as_child("retriable"), "w", transitions.enter, 2) == {
        "returns": Next.CONTINUE,
        "saga": {
            "position": 2, "state": "completed", "parked_for": None, **OVER, "facts": {},
            "tells_parent_at": NOW,
        },
        "events": [event("saga.completed", "", "running", "completed")],
        "looks": [(PARENT, "c")],
        "drops": [f"{ROOT}.w"],
    }  # fmt: skip


# --- The beginning ---------------------------------------------------------------------------------------


NEW = {"epoch": 0, "dispatches": 0, "dispatched_at": None}


def test_a_saga_that_was_not_sent_yet_begins_with_a_message():
    assert decision(row(NEW), "a", transitions.start) == {
        "returns": None,
        "saga": {"position": 0, "epoch": 1, **SENT},
        "sends": [(1, "a", "b", "c")],
    }


def test_one_whose_first_step_is_left_out_has_begun_all_the_same():
    world = standing(toys.local("a", when="yes"), toys.local("b"), toys.local("c"), inputs=["yes"], saga=NEW)

    assert decision(world, "a", transitions.start) == {
        "returns": None,
        "saga": {"position": 1, "epoch": 1, **SENT},
        "steps": {"a": SKIPPED},
        "events": [left_out("a", yes=False)],
        "sends": [(1, "b", "c")],
    }


def test_one_that_begins_with_steps_at_once_has_a_message_for_each():
    world = standing(toys.at_once("all", toys.local("a"), toys.remote("b")), toys.local("c"), saga=NEW)

    assert decision(world, "a", transitions.start) == {
        "returns": None,
        "saga": {"position": 0, "epoch": 1, **AT_STAGE},
        "steps": {"a": sent(1), "b": sent(1)},
        "sends": [(1, "b"), (1, "a")],
    }


def test_one_that_begins_with_children_has_no_message():
    world = standing(each(), inputs=["parcels"], saga={**NEW, "facts": {"parcels": []}})
    row, waits = begun("each", 0)
    row["standing"]["counts"] = {}

    assert without_their_rows(decision(world, "each", transitions.start)) == {
        "returns": None,
        "saga": {"position": 0, "epoch": 1, "dispatched_at": None, "dispatches": 0, "wake_at": LOOKED_AFTER},
        "steps": {"each": row},
        "events": [waits],
        "does": [("_insert", 0)],
        "looks": [(ROOT, "each")],
    }


def test_one_of_which_nothing_is_done_is_completed_at_once():
    world = standing(toys.local("a", when="yes"), inputs=["yes"], saga=NEW)

    assert decision(world, "a", transitions.start) == {
        "returns": None,
        "saga": {"position": 1, "epoch": 1, "state": "completed", **OVER},
        "steps": {"a": SKIPPED},
        "events": [left_out("a", yes=False), event("saga.completed", "", "running", "completed")],
    }


MAYBE, UNLESS = toys.local("a", when="yes"), toys.local("b", unless="yes")
SOMETIMES = toys.local("a", when="yes", unless="no")
Z = toys.local("z")


@pytest.mark.parametrize(
    ("steps", "facts", "count"),
    [
        ((Z,), {}, 0),
        ((MAYBE, Z), {}, 1),
        ((MAYBE, Z), {"yes": 0}, 1),
        ((MAYBE, Z), {"yes": "sure"}, 0),
        ((MAYBE, UNLESS, Z), {}, 0),
        ((MAYBE, toys.local("b", when="yes"), Z), {}, 2),
        ((UNLESS, Z), {"yes": True}, 1),
        ((UNLESS, Z), {}, 0),
        ((SOMETIMES, Z), {"yes": True}, 0),
        ((SOMETIMES, Z), {"yes": True, "no": True}, 1),
        # Whether anything is left out there is decided when the saga enters it.
        ((toys.at_once("all", toys.local("b"), toys.local("c"), when="yes"), Z), {}, 0),
        ((MAYBE, toys.at_once("all", toys.local("b"), toys.local("c")), Z), {}, 0),
        ((MAYBE, OK, Z), {}, 0),
        ((MAYBE,), {}, 0),
    ],
)
def test_a_new_saga_stands_behind_the_steps_that_it_leaves_out_where_a_message_comes_then(
    steps, facts, count
):
    declared = toys.saga("toy-decided", *steps, inputs=["yes", "no"])

    assert transitions.left_out_at_first(declared, facts) == count


# --- The way back ----------------------------------------------------------------------------------------


def test_what_is_undone_beside_others_is_sent_to_all_of_them():
    both = toys.at_once("all", toys.remote("r"), toys.local("s"))
    world = standing(
        toys.local("a"), both, toys.local("z"), saga={**BACK, "position": 3, "epoch": 5},
        rows={"a": DONE, "r": member(**DONE), "s": member(**DONE), "z": {"state": "undone"}},
    )  # fmt: skip

    assert decision(world, "z", transitions.go_back, below=3) == {
        "returns": Next.CONTINUE,
        "saga": {"position": 1, "epoch": 6, **AT_STAGE},
        "steps": {"r": sent(4), "s": sent(4)},
        "onward": (4, "s"),
        "sends": [(4, "r")],
    }


def test_what_has_nothing_to_undo_is_passed_on_the_way_back():
    world = choice(OK, at=2, yes=True)
    world.root.state, world.root.direction = "compensating", -1
    world.row(ROOT, "ok").state = "done"

    assert decision(world, "z", transitions.go_back, below=2) == {
        "returns": Next.CONTINUE,
        "saga": {"position": 0, **SENT},
    }


def test_children_are_told_that_they_are_not_wanted_any_more():
    world = parent(each(), toys.local("z"))
    world.root.state, world.root.direction, world.root.position = "compensating", -1, 2
    world.row(ROOT, "each").state = "done"

    assert decision(world, "z", transitions.go_back, below=2) == {
        "returns": Next.STOP,
        "saga": {"position": 1, "epoch": 2, "dispatched_at": None, "dispatches": 1, "wake_at": LOOKED_AFTER},
        "steps": {"each": {"state": "undoing", "undo_attempts": 1, "undo_started_at": NOW}},
        "events": [event("undo.started", "each", "done", "undoing", attempt=1)],
        "looks": [(ROOT, "each")],
    }


# --- A step has failed -----------------------------------------------------------------------------------


def failing(step, **saga):
    return standing(
        toys.local("a"), step, saga={"position": 1, **saga},
        rows={"a": DONE, step.name: {"state": "running", "attempts": 2, "wait_until": NOW}},
    )  # fmt: skip


LOCAL, REMOTE = toys.local("b"), toys.remote("b")
P, LOCAL_P = toys.remote("b", **toys.PIVOT), toys.local("b", **toys.PIVOT)
R, LOCAL_R = toys.remote("b", **toys.RETRIABLE), toys.local("b", **toys.RETRIABLE)


@pytest.mark.parametrize(
    ("step", "how", "to", "position"),
    [
        (LOCAL, {}, "failed", 0),
        (REMOTE, {"unknown": True}, "unknown", 1),
        # It was tried at its provider's, and is undone whatever is thought to have come of that.
        (REMOTE, {"provable": True}, "failed", 1),
        (P, {"provable": True}, "failed", 0),
        (LOCAL_P, {"provable": True}, "failed", 0),
    ],
)
def test_when_a_step_has_failed_the_saga_compensates(step, how, to, position):
    world, said = failing(step), failure()

    assert decision(world, "b", transitions.fail, said, **how, **WHO) == {
        "returns": Next.COMPENSATE,
        "saga": {**COMPENSATING, "failure": said.as_json(), "position": position},
        "steps": {"b": stopped(to, said.as_json())},
        "events": [
            event("step.failed", "b", "running", to, attempt=2, data=said.as_json(), **WHO),
            compensates(said.as_json(), **WHO),
        ],
    }


@pytest.mark.parametrize(
    ("step", "how", "to"),
    [
        (P, {}, "unknown"),
        (LOCAL_P, {}, "unknown"),
        (P, {"unknown": True}, "unknown"),
        (R, {}, "unknown"),
        (R, {"provable": True}, "failed"),
        (LOCAL_R, {"provable": True}, "failed"),
        # What an owner's hook met is no reason to undo anything: not of a step that could be undone either.
        (LOCAL, {"owners": True}, "failed"),
        (REMOTE, {"owners": True}, "unknown"),
        (LOCAL_P, {"owners": True}, "failed"),
        (P, {"owners": True, "provable": True}, "unknown"),
        (LOCAL_R, {"owners": True}, "failed"),
        (R, {"owners": True}, "unknown"),
    ],
)
@pytest.mark.parametrize(("kind", "again"), [("refused", False), ("transient", True)])
def test_where_it_cannot_a_person_is_called(step, how, to, kind, again):
    world, said = failing(step), failure(FailureKind(kind))
    why = messages.OWNER_FAILED if "owners" in how else messages.PAST_UNDOING
    saga, alerts = attention(
        "b",
        why % {"step": "b", "error": "No", "message": "Nothing is left."},
        messages.SEE_TO_THE_HOOK if "owners" in how else messages.SEE_TO_THE_CAUSE,
        again=again,
    )

    assert decision(world, "b", transitions.fail, said, **how, **WHO) == {
        "returns": Next.STOP,
        "saga": {**saga, "failure": said.as_json()},
        "steps": {"b": stopped(to, said.as_json())},
        "events": [
            event("step.failed", "b", "running", to, attempt=2, data=said.as_json(), **WHO),
            needs_attention(saga, "running"),
        ],
        "alerts": alerts,
    }


def test_the_first_failure_is_kept_where_a_person_is_called_again():
    first = failure(step="a").as_json()

    found = decision(failing(P, failure=first), "b", transitions.fail, failure())

    assert "failure" not in found["saga"]


# --- It came to something else ---------------------------------------------------------------------------


def test_for_what_came_to_something_else_than_was_asked_a_person_is_called():
    said = failure(FailureKind.MISMATCH)
    saga, alerts = attention(
        "b",
        messages.MISMATCH % {"step": "b", "message": "Nothing is left."},
        messages.SETTLE_MISMATCH,
        again=False,
    )

    assert decision(failing(REMOTE), "b", transitions.stop_at_mismatch, said, **WHO) == {
        "returns": Next.STOP,
        "saga": {**saga, "failure": said.as_json()},
        "steps": {"b": {"state": "unknown", "error": said.as_json(), "wait_until": None}},
        "events": [
            event("step.unknown", "b", "running", "unknown", attempt=2, data=said.as_json(), **WHO),
            needs_attention(saga, "running"),
        ],
        "alerts": alerts,
    }


def test_where_the_saga_is_not_wanted_any_more_it_is_undone():
    said = failure(FailureKind.MISMATCH)
    asked = {"cancel_requested_at": EARLIER, "cancel_actor": "bob", "cancel_reason": "too late"}
    cancelled = Failure(
        step="b", kind=FailureKind.CANCELLED, message="too late", attempt=2, at=NOW.isoformat()
    ).as_json()

    assert decision(failing(REMOTE, **asked), "b", transitions.stop_at_mismatch, said, **WHO) == {
        "returns": Next.COMPENSATE,
        "saga": {**COMPENSATING, "failure": cancelled, "position": 1},
        "steps": {"b": {"state": "unknown", "error": said.as_json(), "wait_until": None}},
        "events": [
            event("step.unknown", "b", "running", "unknown", attempt=2, data=said.as_json(), **WHO),
            compensates(cancelled, actor="bob", reason="too late"),
        ],
    }


@pytest.mark.parametrize(
    ("step", "kind", "to"), [(REMOTE, "step.unknown", "unknown"), (LOCAL, "step.retry", "pending")]
)
def test_what_a_worker_that_vanished_was_at_may_have_happened_where_it_was_with_others(step, kind, to):
    assert decision(failing(step), "b", transitions.mark_unknown, {"clock": "lease"}) == {
        "returns": None,
        "steps": {"b": {"state": to}},
        "events": [event(kind, "b", "running", to, attempt=2, data={"clock": "lease"})],
    }
