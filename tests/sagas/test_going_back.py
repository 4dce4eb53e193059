"""Turning round, undoing, calling a person, ending: what is decided of each, as a whole, on rows in memory.

Each decision is compared in full: the fields that are set on the saga's row and on those of its steps, the
events with all that they say, the messages, the hooks and who else is told. What those rows must look like
in a database, and what comes of a decision, other tests show.
"""

import dataclasses
import random
import uuid

import pytest

from sagas import ForEach, Wait, models
from sagas.declaration import registry
from sagas.declaration.states import SagaState
from sagas.engine import children, dispatching, failures, messages, transitions
from sagas.engine.kinds import FailureKind, Next
from tests.sagas.decisions import Deciding, decided, event, world_of
from tests.sagas.explorer.memory import NOW, ROOT
from tests.sagas.sample_app import functions
from tests.sagas.sample_app import saga as toys

SECOND = toys.SECOND
AT = NOW.isoformat()
GRACE = NOW + dispatching.grace()
DAY = NOW + 24 * toys.HOUR
PARENT = uuid.UUID(int=99)

BACK = {"state": "compensating", "direction": -1}
CALLED = {"state": "needs_attention", "attention": {"step": "b", "why": "So.", "advice": "Do.", "since": AT}}
DONE = {"state": "done", "facts": {}, "started_at": NOW - SECOND}


def standing(declared, at=None, *, steps=None, **saga):
    """A unit of work at that step of a saga whose rows stand so; without a name where the saga is."""
    none = {"wake_at": None, "dispatched_at": None, "deadline_at": None}
    rows = {name: {"state": said} if isinstance(said, str) else said for name, said in (steps or {}).items()}
    world = world_of(declared, saga={**none, "epoch": 4, "dispatches": 2, **saga}, rows=rows)
    return Deciding(world, world.work(ROOT, at).step)


def failure(step="b", **rest):
    fields = {"kind": FailureKind.REFUSED, "error": "Refused", "message": "no", "attempt": 1, **rest}
    return failures.Failure(step=step, at=AT, **fields)


FAILURE = failure()
KEPT = FAILURE.as_json()
EARLIER = {"step": "a"}
ANN = {"actor": "ann", "reason": "changed my mind"}

HOURS = {"deadline": 3 * toys.HOUR, "undo_deadline": 2 * toys.HOUR, "resume_every": 600 * SECOND}
"""No two of a saga's clocks are alike."""

PLAIN = toys.saga(
    "toy-back-plain", toys.local("a"), toys.remote("b", **toys.ASK), toys.local("c"),
    on_closed=functions.unmake, **HOURS,
)  # fmt: skip
BOTH = toys.at_once("both", toys.remote("b", **toys.ASK), toys.local("c"))
AT_ONCE = toys.saga("toy-back-at-once", toys.local("a"), BOTH, toys.local("d"), **HOURS)
IN_TURN = toys.saga(
    "toy-back-in-turn",
    toys.local("a"),
    toys.at_once("all", toys.remote("b"), toys.local("c"), toys.local("d"), undo="reverse"),
)
APPROVED = toys.saga("toy-back-approved", toys.local("a"), toys.approval("b"), toys.local("c"), **HOURS)

TURNED = {
    "failure": KEPT, "state": "compensating", "direction": -1, "attention": None, "dispatches": 0,
    "dispatched_at": None, "deadline_at": NOW + 2 * toys.HOUR, "wake_at": GRACE,
}  # fmt: skip
ENDED = {"finished_at": NOW, "wake_at": None, "dispatched_at": None, "deadline_at": None, "held_at": None}
UNDONE = {**TURNED, **ENDED, "state": "compensated", "position": 0}
TURNS = event("saga.compensating", "", "running", "compensating", **ANN, data=KEPT)
IS_UNDONE = event("saga.compensated", "", "compensating", "compensated")

LOST = event("step.unknown", "b", "running", "unknown", attempt=1, data={"clock": "lease"})
ROLLED_BACK = event("step.retry", "c", "running", "pending", attempt=1, data={"clock": "lease"})


def running(seconds):
    """A step at which somebody is, with a lease that ends in so many seconds."""
    lease = {"lease_until": NOW + seconds * SECOND}
    return {"state": "running", "attempts": 1, "fence": 7, "started_at": NOW - SECOND, **lease}


def member(said, **rest):
    """A step of a stage that has been entered."""
    fields = {"state": said} if isinstance(said, str) else said
    return {"epoch": 3, **fields, **rest}


# --- Turning round ------------------------------------------------------------------------------------


def turned_round(work):
    transitions.start_compensation(work, FAILURE, **ANN)
    return decided(work)


def test_a_saga_that_turns_round_has_what_became_of_its_step_written_and_stands_at_the_last_begun():
    work = standing(PLAIN, position=1, steps={"a": DONE, "b": running(-1)})

    assert turned_round(work) == {
        "saga": {**TURNED, "position": 1},
        "steps": {"b": {"state": "unknown", "lease_until": None}},
        "events": [LOST, TURNS],
    }

    work = standing(PLAIN, position=2, steps={"a": DONE, "b": DONE, "c": running(-1)})

    assert turned_round(work) == {
        "saga": {**TURNED, "position": 1},
        "steps": {"c": {"state": "pending", "lease_until": None}},
        "events": [ROLLED_BACK, TURNS],
    }


def test_a_saga_of_which_nothing_was_begun_ends_as_it_turns_round():
    work = standing(PLAIN, steps={"a": running(-1)})

    assert turned_round(work) == {
        "saga": UNDONE,
        "steps": {"a": {"state": "pending", "lease_until": None}},
        "events": [
            event("step.retry", "a", "running", "pending", attempt=1, data={"clock": "lease"}),
            TURNS,
            IS_UNDONE,
        ],
        "hooks": [functions.compensated],
    }


def test_as_it_turns_round_a_saga_waits_for_nothing_else_any_more_and_tells_whom_it_must():
    fields = {"failure": EARLIER, "parked_for": "world", "in_line_for": "world", "parent_id": PARENT}
    work = standing(PLAIN, position=1, steps={"a": DONE}, parent_step="each", **CALLED, **fields)
    expected = {**TURNED, "position": 0, "parked_for": None, "in_line_for": None, "tells_parent_at": NOW}
    del expected["failure"]

    assert turned_round(work) == {
        "saga": expected,
        "events": [event("saga.compensating", "", "needs_attention", "compensating", **ANN, data=KEPT)],
        "looks": [(PARENT, "each")],
    }


def test_as_a_saga_turns_round_an_approval_is_withdrawn_and_a_wait_is_left_to_be_undone():
    waiting = {"state": "waiting", "wait_until": NOW + SECOND, "asked_at": NOW}

    assert turned_round(standing(APPROVED, position=1, steps={"a": DONE, "b": waiting})) == {
        "saga": {**TURNED, "position": 0},
        "steps": {"b": {"state": "undone", "undone_at": NOW, "wait_until": None, "asked_at": None}},
        "events": [TURNS, event("undo.done", "b", "waiting", "undone")],
    }
    assert turned_round(standing(toys.WAIT, position=1, steps={"a": DONE, "w": {"state": "waiting"}})) == {
        "saga": {**TURNED, "deadline_at": DAY, "position": 1},
        "events": [TURNS],
    }
    # Nobody is asked any more.
    assert turned_round(standing(APPROVED, position=1, steps={"a": DONE, "b": {"state": "failed"}})) == {
        "saga": {**TURNED, "position": 0},
        "events": [TURNS],
    }


def test_while_somebody_is_at_a_step_of_the_stage_a_saga_that_turns_round_waits_for_the_end_of_its_lease():
    rows = {"a": DONE, "b": member(running(5)), "c": member("pending", dispatches=1)}
    work = standing(AT_ONCE, position=1, steps=rows, parked_for="world")

    assert turned_round(work) == {
        "saga": {**TURNED, "wake_at": NOW + 5 * SECOND},
        "steps": {
            "c": {
                "wake_at": None, "dispatched_at": None, "dispatches": 0, "parked_for": None,
                "state": "skipped", "finished_at": NOW,
            }
        },
        "events": [TURNS, event("step.skipped", "c", "pending", "skipped")],
    }  # fmt: skip


def test_a_stage_at_which_nobody_is_any_more_is_undone_as_the_saga_turns_round():
    rows = {"a": DONE, "b": member(running(-1)), "c": member("done")}
    work = standing(AT_ONCE, position=1, steps=rows)
    quiet = {"wake_at": None, "dispatched_at": None, "dispatches": 0}

    assert turned_round(work) == {
        "saga": {**TURNED, "position": 1},
        "steps": {
            "b": {**quiet, "parked_for": None, "state": "unknown", "lease_until": None, "fence": 8},
            "c": {**quiet, "parked_for": None},
        },
        "events": [TURNS, LOST],
    }


@pytest.mark.parametrize(
    ("rows", "fields", "events", "steps"),
    [
        # Something of the stage is to be undone.
        ({"b": "undone", "c": "done"}, {"position": 1, "wake_at": GRACE}, [], {}),
        # What a local one did was rolled back: nothing of it is left, and before it something is.
        (
            {"a": "done", "b": "skipped", "c": running(0)},
            {"position": 0, "wake_at": GRACE},
            [ROLLED_BACK],
            {"c": {"state": "pending", "lease_until": None, "fence": 8}},
        ),
        # Nothing is left anywhere.
        ({"a": "undone"}, {**ENDED, "state": "compensated", "position": 0}, [IS_UNDONE], {}),
    ],
)
def test_a_stage_that_has_drained_says_what_is_to_be_undone_first(rows, fields, events, steps):
    given = {name: rows.get(name, "skipped") for name in "abc"}
    given = {name: said if name == "a" else member(said) for name, said in given.items()}
    work = standing(AT_ONCE, position=1, steps=given, **BACK)
    quiet = {"wake_at": None, "dispatched_at": None, "dispatches": 0}

    to_be_sent = transitions.end_drain(work)

    found = decided(work)
    found.pop("hooks", None)
    expected = {
        "saga": fields,
        "steps": {name: {**said, **quiet} for name, said in steps.items()},
        "events": events,
    }
    assert found == {name: said for name, said in expected.items() if said}
    assert to_be_sent is ("finished_at" not in fields)


def test_a_stage_that_still_drains_is_looked_at_again_when_its_last_lease_ends():
    rows = {"b": member(running(5)), "c": member(running(9))}
    work = standing(AT_ONCE, position=1, steps=rows, **BACK)

    assert transitions.end_drain(work) is False
    assert decided(work) == {"saga": {"wake_at": NOW + 9 * SECOND}}


# --- Asked to turn round ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("turns", "saga", "rows"),
    [
        (True, PLAIN, {"a": DONE, "b": {**DONE, "attempts": 1}}),
        (True, PLAIN, {"a": DONE, "b": running(0)}),
        (False, PLAIN, {"a": DONE, "b": running(1)}),
        # A stage drains: its saga turns round in any case.
        (True, AT_ONCE, {"a": DONE, "b": member(running(1)), "c": member("done")}),
    ],
)
def test_a_saga_turns_round_at_once_where_nobody_is_at_its_step(turns, saga, rows):
    def asked(work):
        kind = FailureKind.OPERATOR
        assert transitions.compensate_when_free(work, kind, actor="ann", reason="no stock") is turns
        return decided(work)

    def told(work):
        why = failures.Failure(step="b", kind=FailureKind.OPERATOR, message="no stock", attempt=1, at=AT)
        transitions.start_compensation(work, why, actor="ann", reason="no stock")
        return decided(work)

    work, other = (standing(saga, position=1, steps=rows) for _ in range(2))

    assert asked(work) == (told(other) if turns else {})


CANCELLED = {"cancel_requested_at": NOW, "cancel_reason": "changed my mind", "cancel_actor": "ann"}


@pytest.mark.parametrize(
    ("saga", "position", "fields"),
    [(PLAIN, 1, {}), (toys.PIVOTAL, 1, CANCELLED), (toys.PIVOTAL, 2, CANCELLED)],
)
def test_a_saga_goes_on_that_nobody_cancelled_or_that_is_at_its_pivot_or_past_it(saga, position, fields):
    work = standing(saga, position=position, **fields)

    assert transitions.compensate_if_cancelled(work) is False
    assert decided(work) == {}


def test_a_saga_that_was_cancelled_meanwhile_turns_round_where_it_can():
    why = failures.Failure(
        step="a", kind=FailureKind.CANCELLED, message="changed my mind", attempt=1, at=AT
    ).as_json()
    work = standing(toys.PIVOTAL, steps={"a": {**DONE, "attempts": 1}}, **CANCELLED)

    assert transitions.compensate_if_cancelled(work) is True
    assert decided(work) == {
        "saga": {**TURNED, "failure": why, "deadline_at": DAY, "position": 0},
        "events": [event("saga.compensating", "", "running", "compensating", **ANN, data=why)],
    }


# --- What is to be undone next ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expected", "saga", "at", "rows", "asked"),
    [
        # Where nothing can have been left out, none of the rows below is looked at.
        (1, PLAIN, "c", {}, {"below": 2}),
        (0, PLAIN, "b", {}, {"below": 1}),
        (None, PLAIN, "a", {}, {"below": 0}),
        (1, PLAIN, "c", {"c": "undone"}, {"below": 2}),
        (2, PLAIN, "c", {"c": "done"}, {"below": 3, "with_current": True}),
        (1, PLAIN, "c", {"c": "pending"}, {"below": 3, "with_current": True}),
        # What is past undoing may stand in the way of what can be undone.
        (0, toys.PIVOTAL, "p", {"p": {"state": "failed", "attempts": 1}}, {"below": 4, "with_current": True}),
        (0, toys.PIVOTAL, "r", {}, {"below": 2}),
        # One that the saga is not at says nothing of those behind it.
        (1, PLAIN, "a", {"a": "done", "b": "done"}, {"below": 3, "with_current": True, "position": 2}),
        (None, PLAIN, "c", {"c": "pending"}, {"below": 3, "with_current": True, "position": 0}),
        # Where some may have been left out the rows say what was begun.
        (0, toys.CHOICE, "d", {"a": "done", "b": "skipped", "c": "skipped"}, {"below": 3}),
        (2, toys.CHOICE, "d", {"a": "done", "b": "skipped", "c": "unknown"}, {"below": 3}),
        (0, toys.CHOICE, "d", {"a": "done", "b": "skipped", "c": "undone"}, {"below": 3}),
        (None, toys.CHOICE, "d", {"a": "undone", "b": "skipped", "c": "failed"}, {"below": 3}),
        (3, toys.CHOICE, "d", {"a": "done", "d": "done"}, {"below": 4, "with_current": True}),
        (0, toys.CHOICE, "d", {"a": "done", "d": "pending"}, {"below": 4, "with_current": True}),
        # An approval was begun, and has nothing to undo.
        (0, APPROVED, "c", {"a": "done", "b": "done"}, {"below": 2}),
    ],
)
def test_what_is_undone_next_is_the_last_that_was_begun_and_can_be_undone(expected, saga, at, rows, asked):
    asked = {"position": saga.positions[at], **asked}
    work = standing(saga, at, steps=rows, position=asked.pop("position"))

    assert transitions.next_to_undo(work, **asked) == expected


# --- An undo that failed ------------------------------------------------------------------------------


def called(step="b", *, why, advice=messages.SETTLE_WITH_PROVIDER, was="compensating", said=None, **rest):
    """What is decided where a person is called, and nothing else is: the saga's fields, event and alert."""
    attention = {"step": step, "why": why, "advice": advice, "since": AT, **rest}
    fields = {"state": "needs_attention", "attention": attention, "dispatched_at": None, "dispatches": 1}
    return {
        "saga": {**fields, "wake_at": None, "alerted_at": NOW},
        "events": [event("saga.attention", "", was, "needs_attention", **(said or {}), data=attention)],
        "tells": [functions.attention],
    }


def alerted(saga, why, advice=messages.SETTLE_WITH_PROVIDER):
    return [("saga %s (%s) needs attention: %s %s", ROOT, saga.name, why, advice)]


@pytest.fixture(autouse=True)
def chance():
    """The next pause has the same chance in it as `pause` says."""
    random.seed(7)


def pause(saga, resumes=0):
    """How long it is until such a saga is tried again by itself."""
    return NOW + saga.resume_pause(resumes=resumes, chance=random.Random(7).random())


@pytest.mark.parametrize(
    ("kind", "again"), [("refused", False), ("mismatch", False), ("bug", True), ("unknown", True)]
)
def test_a_person_is_called_for_an_undo_that_failed_and_it_is_tried_again_where_that_may_help(kind, again):
    why = failure(kind=FailureKind(kind), attempt=3)
    work = standing(PLAIN, position=1, steps={"b": {"state": "undoing", "undo_attempts": 3}}, **BACK)

    transitions.fail_undo(work, why)

    expected = called(why="b cannot be undone: no")
    expected["saga"]["wake_at"] = pause(PLAIN) if again else None
    assert decided(work) == {
        **expected,
        "steps": {"b": {"state": "undo_failed", "error": why.as_json()}},
        "events": [
            event("undo.failed", "b", "undoing", "undo_failed", attempt=3, data=why.as_json()),
            *expected["events"],
        ],
        "alerts": alerted(PLAIN, "b cannot be undone: no."),
    }


UNDOING = {"state": "undoing", "undo_attempts": 3, "wake_at": NOW, "parked_for": "world"}
FAILED = {
    "steps": {
        "b": {
            "state": "undo_failed",
            "error": KEPT,
            "wake_at": None,
            "dispatched_at": None,
            "parked_for": None,
        }
    },
    "events": [event("undo.failed", "b", "undoing", "undo_failed", attempt=3, data=KEPT)],
}


def test_where_an_undo_fails_of_several_that_go_on_no_person_is_called_yet():
    rows = {"a": DONE, "b": member(UNDOING), "c": member("undoing", lease_until=NOW + SECOND)}
    work = standing(AT_ONCE, position=1, steps=rows, **BACK)

    transitions.fail_undo(work, FAILURE)

    assert decided(work) == FAILED


def test_where_an_undo_fails_of_several_that_take_turns_the_next_one_is_sent():
    rows = {"a": DONE, "b": member(UNDOING), "c": member(DONE), "d": member("undone")}
    work = standing(IN_TURN, position=1, steps=rows, **BACK)

    transitions.fail_undo(work, FAILURE)

    assert decided(work) == {
        "saga": {"dispatched_at": None, "dispatches": 1, "wake_at": NOW + dispatching.STAGE_LOOK},
        "steps": {
            **FAILED["steps"],
            "c": {"epoch": 4, "dispatches": 1, "dispatched_at": NOW, "wake_at": GRACE},
        },
        "events": FAILED["events"],
        "sends": [(4, "c")],
    }
    assert work.onward is None


def test_where_the_last_undo_of_several_failed_a_person_is_called():
    rows = {"a": DONE, "b": member(UNDOING), "c": member("undone")}
    work = standing(AT_ONCE, position=1, steps=rows, **BACK)

    transitions.fail_undo(work, FAILURE)

    expected = called(why="b cannot be undone: no")
    assert decided(work) == {
        **expected,
        "steps": FAILED["steps"],
        "events": FAILED["events"] + expected["events"],
        "alerts": alerted(AT_ONCE, "b cannot be undone: no."),
    }


# --- A person is called -------------------------------------------------------------------------------


@pytest.mark.parametrize("resumes", [0, 3])
def test_a_saga_that_may_be_tried_again_by_itself_is_the_later_the_oftener_it_was(resumes):
    work = standing(PLAIN, position=1, resumes=resumes)

    transitions.require_attention(work, why="It burns.", advice="Look.", resume=True)

    expected = called(why="It burns.", advice="Look.", was="running")
    expected["saga"]["wake_at"] = pause(PLAIN, resumes)
    assert decided(work) == {**expected, "alerts": alerted(PLAIN, "It burns.", "Look.")}


def test_the_row_and_the_event_say_for_which_child_a_person_is_called_and_a_parent_hears_of_it():
    fields = {"parent_id": PARENT, "parent_step": "each", "in_line_for": "toys", "parked_for": "world"}
    work = standing(PLAIN, position=1, **fields)

    transitions.require_attention(work, why="It burns.", advice="Look.", resume=False, child="c1", **ANN)

    expected = called(why="It burns.", advice="Look.", was="running", child="c1", said=ANN)
    expected["saga"] |= {"tells_parent_at": NOW, "in_line_for": None, "parked_for": None}
    assert decided(work) == {
        **expected,
        "looks": [(PARENT, "each")],
        "alerts": alerted(PLAIN, "It burns.", "Look."),
    }


@pytest.mark.parametrize(
    ("why", "said"),
    [("It burns", "It burns."), ("Again!", "Again!"), ("Is it?", "Is it?"), ("It burns.", "It burns.")],
)
def test_what_is_alerted_is_a_sentence_and_what_is_kept_is_as_it_was_said(why, said):
    work = standing(PLAIN, position=1)

    transitions.require_attention(work, why=why, advice="Look.", resume=False)

    assert decided(work) == {
        **called(why=why, advice="Look.", was="running"),
        "alerts": alerted(PLAIN, said, "Look."),
    }


def test_a_person_is_called_once_for_all():
    work = standing(PLAIN, position=1, alerted_at=NOW)

    transitions.require_attention(work, why="It burns.", advice="Look.", resume=False)

    expected = called(why="It burns.", advice="Look.", was="running")
    del expected["saga"]["alerted_at"], expected["tells"]
    assert decided(work) == expected


def test_who_is_called_already_is_not_called_for_another_step_of_the_stage():
    work = standing(AT_ONCE, "c", position=1, **CALLED)

    transitions.require_attention(work, why="It burns.", advice="Look.", resume=True)

    assert decided(work) == {}


def test_the_first_failure_is_kept():
    first, later = standing(PLAIN), standing(PLAIN, failure=EARLIER)
    for work in (first, later):
        transitions.keep_first_failure(work, FAILURE)

    assert decided(first) == {"saga": {"failure": KEPT}}
    assert decided(later) == {}


# --- Tried again --------------------------------------------------------------------------------------


RESUMED = {"state": "running", "attention": None, "dispatches": 0, "dispatched_at": None, "wake_at": NOW}


def resumed(was="needs_attention", becomes="running", **said):
    return event("saga.resumed", "", was, becomes, **said)


def reopened(step, **said):
    return event("step.reopened", step, "failed", "pending", **said)


@pytest.mark.parametrize(
    ("event_says", "resumes", "counted"),
    [
        ({}, 0, 1),
        ({"reason": "It may help by now."}, 3, 4),
        ({}, 998, 999),
        ({}, 999, 1000),
        ({}, 1000, 1000),
        (ANN, 3, 0),
    ],
)
def test_a_saga_that_is_resumed_tries_its_step_again_and_counts_how_often_it_did_so_by_itself(
    event_says, resumes, counted
):
    fields = {"resumes": resumes, "deadline_at": NOW + SECOND, "parent_id": PARENT, "parent_step": "each"}
    work = standing(PLAIN, position=1, steps={"b": "failed"}, **CALLED, **fields)

    transitions.resume(work, **event_says)

    assert decided(work) == {
        "saga": {**RESUMED, "resumes": counted, "tells_parent_at": NOW},
        "steps": {"b": {"state": "pending"}},
        "events": [reopened("b", **event_says), resumed(**event_says)],
        "looks": [(PARENT, "each")],
    }


@pytest.mark.parametrize("state", ["unknown", "waiting", "pending"])
def test_what_did_not_fail_is_not_opened_anew_when_a_saga_is_resumed(state):
    work = standing(PLAIN, position=1, steps={"b": state}, deadline_at=NOW + SECOND, **CALLED)
    work.members = None  # The step at hand is all that there is at its stage: no more rows are read.

    transitions.resume(work)

    assert decided(work) == {"saga": {**RESUMED, "resumes": 1}, "events": [resumed()]}


def test_on_the_way_back_a_step_that_failed_stays_so_when_a_saga_is_resumed():
    back = {**BACK, **CALLED, "deadline_at": NOW + SECOND}
    work = standing(PLAIN, position=1, steps={"b": "failed"}, **back)

    transitions.resume(work, **ANN)

    assert decided(work) == {
        "saga": {**RESUMED, "state": "compensating", "resumes": 0},
        "events": [resumed(becomes="compensating", **ANN)],
    }

    work = standing(
        AT_ONCE, "c", position=1, steps={"b": member("failed"), "c": member("undo_failed")}, **back
    )

    transitions.resume(work, **ANN)

    assert decided(work) == {
        "saga": {**RESUMED, "state": "compensating", "resumes": 0},
        "events": [resumed(becomes="compensating", **ANN)],
    }


def test_every_step_of_a_stage_that_failed_is_tried_again_when_its_saga_is_resumed():
    rows = {"b": member("failed"), "c": member("failed")}
    work = standing(AT_ONCE, "c", position=1, steps=rows, deadline_at=NOW + SECOND, **CALLED)

    transitions.resume(work, **ANN)

    assert decided(work) == {
        "saga": {**RESUMED, "resumes": 0},
        "steps": {"b": {"state": "pending"}, "c": {"state": "pending"}},
        "events": [reopened("b", **ANN), reopened("c", **ANN), resumed(**ANN)],
    }


ASKED = {"wait_until": NOW + 2 * toys.HOUR, "asked_at": NOW, "facts": None}
NOTIFIED = toys.saga(
    "toy-back-notified",
    toys.local("a"),
    toys.approval("b", notify=functions.asked, lapse="attention"),
    toys.local("c"),
)
ASKED_BESIDE = toys.saga(
    "toy-back-asked-beside",
    toys.local("a"),
    toys.at_once("all", toys.approval("b", notify=functions.asked), toys.local("c"), toys.local("d")),
)


def test_people_are_asked_anew_when_a_saga_is_resumed_that_they_did_not_answer():
    work = standing(NOTIFIED, position=1, steps={"b": {"state": "waiting", "wait_until": NOW}}, **CALLED)

    transitions.resume(work, **ANN)

    assert decided(work) == {
        "saga": {**RESUMED, "resumes": 0, "wake_at": NOW + 2 * toys.HOUR},
        "steps": {"b": ASKED},
        "events": [resumed(**ANN)],
        "tells": [functions.asked],
    }

    rows = {"b": member("waiting", wait_until=NOW), "c": member("done"), "d": member("done")}
    work = standing(ASKED_BESIDE, "c", position=1, steps=rows, **CALLED)

    transitions.resume(work, **ANN)

    assert decided(work) == {
        "saga": {**RESUMED, "resumes": 0},
        "steps": {"b": {**ASKED, "dispatched_at": None, "dispatches": 0, "wake_at": NOW + 2 * toys.HOUR}},
        "events": [resumed(**ANN)],
        "tells": [functions.asked],
    }


REOPENED = {"state": "running", "attention": None, "dispatches": 0}
PIVOTAL = toys.saga(
    "toy-back-pivotal", toys.local("a"), toys.remote("p", **toys.PIVOT), toys.local("r", **toys.RETRIABLE),
    **HOURS,
)  # fmt: skip


@pytest.mark.parametrize(
    ("deadline", "pivot", "fields"),
    [
        (3, "done", {"position": 2, "deadline_at": None}),
        (3, "done", {"position": 2, "deadline_at": NOW}),
        (3, "done", {"position": 2, "deadline_at": NOW - SECOND}),
        (None, "done", {"position": 2, "deadline_at": NOW + SECOND}),
        (3, "unknown", {"position": 1, "deadline_at": NOW}),
        # It can still turn round, and does so.
        (None, "failed", {"position": 1, "deadline_at": NOW}),
        (None, "pending", {"position": 0, "deadline_at": NOW}),
        (2, "pending", {"position": 0, "deadline_at": None, **BACK}),
        (2, "pending", {"position": 0, "deadline_at": NOW, **BACK}),
        (None, "pending", {"position": 0, "deadline_at": NOW + SECOND, **BACK}),
    ],
)
def test_a_clock_that_had_run_out_begins_anew_when_a_saga_goes_its_way_again(deadline, pivot, fields):
    work = standing(PIVOTAL, steps={"p": pivot}, **{**fields, **CALLED})
    state = "compensating" if "direction" in fields else "running"

    transitions.reopen(work, **ANN)

    anew = {} if deadline is None else {"deadline_at": NOW + deadline * toys.HOUR}
    assert decided(work) == {
        "saga": {**REOPENED, "state": state, **anew},
        "events": [resumed(becomes=state, **ANN)],
    }


BESIDE = toys.saga(
    "toy-back-beside",
    toys.local("z"),
    toys.at_once("all", *(ForEach(name, of="parcels", saga=toys.PARCEL) for name in "ab"), toys.local("c")),
    inputs=["parcels"],
)


def test_what_else_of_the_stage_is_in_the_way_is_tried_again_and_its_children_are_looked_at():
    going = {"deadline_at": NOW + SECOND, "position": 1, **CALLED}
    rows = {"a": member("waiting"), "b": member("waiting"), "c": member("failed")}
    soon = {"wake_at": NOW + children.LOST}

    # The step at hand is the business of whoever reopens the saga.
    work = standing(BESIDE, "a", steps=rows, **going)
    transitions.reopen(work, **ANN)

    assert decided(work) == {
        "saga": REOPENED,
        "steps": {"b": soon, "c": {"state": "pending"}},
        "events": [resumed(**ANN), reopened("c", **ANN)],
        "looks": [(ROOT, "b")],
    }

    work = standing(BESIDE, "c", steps=rows, **going)
    transitions.reopen(work, **ANN)

    assert decided(work) == {
        "saga": REOPENED,
        "steps": {"a": soon, "b": soon},
        "events": [resumed(**ANN)],
        "looks": [(ROOT, "a"), (ROOT, "b")],
    }

    # On the way back one that failed never happened.
    work = standing(BESIDE, "a", steps=rows, **{**going, **BACK, **CALLED})
    transitions.reopen(work, **ANN)

    assert decided(work) == {
        "saga": {**REOPENED, "state": "compensating"},
        "steps": {"b": soon},
        "events": [resumed(becomes="compensating", **ANN)],
        "looks": [(ROOT, "b")],
    }


# --- Approvals ----------------------------------------------------------------------------------------

BY_TWO = toys.saga(
    "toy-back-by-two", toys.local("a"), toys.approval("b", persons=2, outputs=["limit"]), toys.local("c")
)
SAYS_ANN = {**ANN, "at": AT}
SAYS_BOB = {"actor": "bob", "reason": "", "at": AT}
ANSWERED = {"state": "done", "finished_at": NOW, "wait_until": None, "error": None}
NEXT = {"position": 2, "epoch": 5, "dispatched_at": NOW, "dispatches": 1, "wake_at": GRACE}


def waiting(**facts):
    return {"a": DONE, "b": {"state": "waiting", "facts": facts or None, "error": EARLIER, "attempts": 0}}


def test_an_approval_of_several_persons_is_not_given_before_all_of_them_have():
    work = standing(BY_TWO, position=1, steps=waiting(reminders=1))

    assert transitions.approve(work, {"limit": 5}, **ANN) is Next.STOP
    assert decided(work) == {"steps": {"b": {"facts": {"reminders": 1, "limit": 5, "approvals": [SAYS_ANN]}}}}


def test_a_step_that_enough_persons_have_approved_is_done_and_the_next_one_is_sent():
    work = standing(BY_TWO, position=1, steps=waiting(limit=4, approvals=[SAYS_BOB]))

    assert transitions.approve(work, {"limit": 5}, **ANN) is Next.CONTINUE
    assert decided(work) == {
        "saga": {**NEXT, "facts": {"limit": 5}},
        "steps": {
            "b": {**ANSWERED, "facts": {"limit": 5, "approvals": [SAYS_BOB, SAYS_ANN], "approved": True}}
        },
        "events": [event("step.done", "b", "waiting", "done", attempt=0, **ANN)],
    }


def lapsed(lapse):
    saga = toys.saga(
        f"toy-back-lapsed-{lapse}", toys.local("a"), toys.approval("b", lapse=lapse), toys.local("c")
    )
    work = standing(saga, position=1, steps=waiting())
    after = transitions.lapse(work)
    return after, decided(work), saga


LAPSED = {
    "step": "b", "kind": "timeout", "error": None, "message": messages.WAIT_OVER, "attempt": 0,
    "clock": "wait", "at": AT,
}  # fmt: skip


def test_no_answer_in_time_may_count_as_a_yes():
    after, found, _ = lapsed("approve")

    assert after is Next.CONTINUE
    assert found == {
        "saga": NEXT,
        "steps": {"b": {**ANSWERED, "facts": {"approvals": [], "approved": True}}},
        "events": [event("step.done", "b", "waiting", "done", attempt=0)],
    }


def test_no_answer_in_time_may_count_as_a_no():
    after, found, _ = lapsed("refuse")

    assert after is Next.COMPENSATE
    assert found == {
        "saga": {**TURNED, "failure": LAPSED, "deadline_at": DAY, "position": 0},
        "steps": {"b": {"state": "failed", "error": LAPSED, "wait_until": None, "finished_at": NOW}},
        "events": [
            event("step.failed", "b", "waiting", "failed", attempt=0, data=LAPSED),
            event("saga.compensating", "", "running", "compensating", data=LAPSED),
        ],
    }


def test_no_answer_in_time_may_be_why_a_person_is_called():
    after, found, saga = lapsed("attention")

    why = "Nobody has approved b or refused it, in time."
    expected = called(why=why, advice=messages.ANSWER, was="running")
    assert after is Next.STOP
    assert found == {
        **expected,
        "saga": {**expected["saga"], "failure": LAPSED},
        "steps": {"b": {"error": LAPSED, "wait_until": None}},
        "alerts": alerted(saga, why, messages.ANSWER),
    }


# --- The end ------------------------------------------------------------------------------------------


def _takes(*, key, code):
    """Takes what an earlier step put out, and nobody is to keep."""


LEAVES = toys.saga(
    "toy-back-leaves",
    toys.local("a", outputs=["code", "limit"]),
    toys.waits("b"),
    toys.local(
        "c", do=_takes, inputs=["code"], secrets=["code"], wait=Wait(until="said", limit=toys.HOUR)
    ),
)  # fmt: skip


def test_a_saga_that_completes_leaves_nothing_that_would_still_be_done_and_tells_its_owner():
    facts = {"code": 1234, "limit": 5}
    work = standing(LEAVES, "c", position=2, facts=facts, in_line_for="toys", parked_for="world")

    assert transitions.enter(work, 3) is Next.CONTINUE
    assert decided(work) == {
        "saga": {
            **ENDED, "position": 3, "state": "completed", "facts": {"limit": 5},
            "in_line_for": None, "parked_for": None,
        },
        "events": [event("saga.completed", "", "running", "completed")],
        "hooks": [functions.completed],
        "does": [("_forget", ROOT, ["code"])],
        "drops": [f"{ROOT}.b", f"{ROOT}.c"],
    }  # fmt: skip


def test_nothing_is_struck_out_of_facts_in_which_there_is_no_secret():
    work = standing(LEAVES, "c", position=2, facts={"limit": 5})

    transitions.enter(work, 3)

    assert "facts" not in decided(work)["saga"]


def test_children_complete_with_their_parent_and_its_own_parent_hears_of_it():
    work = standing(toys.EACH, "z", position=2, facts={"parcels": []}, parent_id=PARENT, parent_step="each")

    transitions._finish(work, SagaState.COMPLETED)

    assert decided(work) == {
        "saga": {**ENDED, "state": "completed", "tells_parent_at": NOW},
        "events": [event("saga.completed", "", "running", "completed")],
        "hooks": [functions.completed],
        "does": [("_complete", [ROOT], toys.EACH.children[0])],
        "looks": [(PARENT, "each")],
    }


def test_no_children_complete_when_their_parent_is_undone():
    work = standing(toys.EACH, "a", facts={"parcels": []}, in_line_for="toys", **BACK)

    transitions._finish(work, SagaState.COMPENSATED)

    assert decided(work) == {
        "saga": {**ENDED, "state": "compensated", "in_line_for": None},
        "events": [IS_UNDONE],
        "hooks": [functions.compensated],
    }


def test_the_owner_of_a_saga_that_is_put_aside_is_told_and_so_is_its_parent():
    fields = {"parent_id": PARENT, "parent_step": "each", "closed_at": NOW}
    work = standing(PLAIN, position=1, **CALLED, **fields)

    transitions.close(work)

    assert decided(work) == {
        "saga": {"tells_parent_at": NOW},
        "hooks": [functions.unmake],
        "looks": [(PARENT, "each")],
    }


def test_the_children_of_a_saga_that_is_put_aside_complete_or_hear_that_nobody_starts_them():
    saga = dataclasses.replace(toys.EACH, name="toy-back-each", on_closed=functions.unmake)
    work = standing(saga, position=1, facts={"parcels": []}, closed_at=NOW, **CALLED)

    transitions.close(work)

    assert decided(work) == {
        "hooks": [functions.unmake],
        "does": [
            ("_complete", [ROOT], saga.children[0]),
            ("_have_unstarted_tell", ROOT, "deliver"),
        ],
        "looks": [(ROOT, "deliver")],
    }


def test_a_saga_that_is_put_aside_leaves_no_secret_and_no_callback_behind():
    work = standing(LEAVES, position=1, facts={"code": 1234}, closed_at=NOW, **CALLED)

    transitions.close(work)

    assert decided(work) == {
        "saga": {"facts": {}},
        "does": [("_forget", ROOT, ["code"])],
        "drops": [f"{ROOT}.b", f"{ROOT}.c"],
    }


@pytest.mark.parametrize(("name", "hooks"), [(PLAIN.name, [functions.make]), ("toy-nobody-knows", [])])
def test_the_newest_version_tells_of_a_saga_that_is_put_aside_and_whose_own_is_gone(name, hooks):
    work = standing(PLAIN, position=1, closed_at=NOW, parent_id=PARENT, parent_step="each", **CALLED)
    registry.add(dataclasses.replace(PLAIN, version=2, on_closed=functions.make))
    work.saga.name, work.saga.version = name, 3

    transitions.close(work)

    assert decided(work) == {
        "saga": {"tells_parent_at": NOW},
        **({"hooks": hooks} if hooks else {}),
        "looks": [(PARENT, "each")],
    }


# --- Questions ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expected", "direction", "states"),
    [
        (True, 1, "unknown failed waiting"),
        (False, 1, "pending running done skipped undoing undo_failed"),
        (True, -1, "undoing undo_failed"),
        (False, -1, "unknown failed waiting pending running done skipped undone"),
    ],
)
def test_a_person_may_say_what_became_of_a_step_that_began_and_of_which_it_is_not_known(
    expected, direction, states
):
    saga = models.SagaInstance(direction=direction)

    for state in states.split():
        assert transitions.in_doubt(saga, models.StepInstance(state=state)) is expected


@pytest.mark.parametrize(
    ("expected", "direction", "state"), [(True, 1, "pending"), (False, 1, "running"), (False, -1, "pending")]
)
def test_a_person_may_say_what_became_of_a_step_that_is_to_be_tried_again(expected, direction, state):
    saga = models.SagaInstance(direction=direction)

    assert transitions.in_doubt(saga, models.StepInstance(state=state, error=KEPT)) is expected


@pytest.mark.parametrize(
    ("expected", "saga", "position", "state"),
    [
        (False, PIVOTAL, 0, "running"),
        (False, PIVOTAL, 0, "done"),
        (False, PIVOTAL, 1, "pending"),
        (False, PIVOTAL, 1, "failed"),
        (False, PIVOTAL, 1, None),
        (True, PIVOTAL, 1, "running"),
        (True, PIVOTAL, 1, "waiting"),
        (True, PIVOTAL, 1, "unknown"),
        (True, PIVOTAL, 1, "done"),
        (True, PIVOTAL, 2, "pending"),
        (True, PIVOTAL, 2, None),
        # Of what can only be done no more than its turn has to come.
        (False, toys.FORWARD_ONLY, 0, "done"),
        (True, toys.FORWARD_ONLY, 1, "pending"),
        (False, toys.FORWARD_ONLY, 1, None),
        # Without a pivot all of it can be undone, also once all is done.
        (False, PLAIN, 2, "done"),
        (False, PLAIN, 3, "done"),
        (False, PLAIN, 4, "done"),
    ],
)
def test_a_saga_cannot_turn_round_any_more_once_its_pivot_may_have_happened(expected, saga, position, state):
    registry.add(saga)
    row = models.SagaInstance(name=saga.name, version=1, position=position)

    assert transitions.past_pivot(row, state and models.StepInstance(state=state)) is expected


TRIED = {"attempts": 5, "excused": 2, "undo_attempts": 9, "undo_excused": 3}
TIMED = toys.saga("toy-back-timed", toys.remote("b", budget=toys.HOUR), toys.local("c"))


def test_an_attempt_that_an_outage_excuses_is_not_counted():
    step = models.StepInstance(**TRIED)

    assert transitions.counted(step, undo=False) == 3
    assert transitions.counted(step, undo=True) == 6


@pytest.mark.parametrize(
    ("expected", "started_at", "step"),
    [
        (True, NOW - toys.HOUR, "b"),
        (True, NOW - toys.HOUR - SECOND, "b"),
        (False, NOW - toys.HOUR + SECOND, "b"),
        (False, None, "b"),
        (False, NOW - 100 * toys.HOUR, "c"),
    ],
)
def test_the_time_for_a_step_is_over_so_long_after_its_first_attempt(expected, started_at, step):
    work = standing(TIMED, step, steps={step: {"started_at": started_at}})

    assert transitions.out_of_time(work) is expected


@pytest.mark.parametrize(
    ("expected", "step", "back"),
    [
        # Three attempts, and four at an undo.
        (False, {"attempts": 2}, False),
        (True, {"attempts": 3}, False),
        (True, {"attempts": 4}, False),
        (False, {"attempts": 4, "excused": 2, "undo_attempts": 9}, False),
        (False, {"undo_attempts": 3, "attempts": 9}, True),
        (True, {"undo_attempts": 4}, True),
        (False, {"undo_attempts": 4, "undo_excused": 1, "excused": 9}, True),
        # Its time counts on the way forward.
        (True, {"attempts": 1, "started_at": NOW - toys.HOUR}, False),
        (False, {"attempts": 1, "started_at": NOW - SECOND}, False),
        (False, {"undo_attempts": 1, "started_at": NOW - toys.HOUR}, True),
    ],
)
def test_the_budget_of_a_step_is_spent_by_attempts_or_by_time(expected, step, back):
    work = standing(TIMED, "b", steps={"b": step}, **(BACK if back else {}))

    assert transitions.budget_spent(work) is expected
