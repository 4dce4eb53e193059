"""Why an intervention is not possible: each predicate and each of its sentences, on rows in memory.

What is possible has no sentence. test_operations.py tries the interventions themselves, on PostgreSQL.
"""

import datetime
import uuid

import pytest
from django.utils import translation

from sagas import models
from sagas.engine import refusals
from tests.sagas.explorer import memory, shapes
from tests.sagas.explorer.memory import NOW, ROOT
from tests.sagas.sample_app import saga as toys

SECOND = datetime.timedelta(seconds=1)

POSSIBLE = ""

OPTIONAL = toys.saga("toy-refused-optional", toys.local("a"), toys.local("x", optional=True))
ROW, SAME, REVERSE = (shapes.SHAPES[name].saga for name in ("row", "same", "same-reverse"))

BACK = {"state": "compensating", "direction": -1}
CALLED = {"state": "needs_attention"}
CALLED_BACK = {**BACK, **CALLED}
HELD = {"held_at": NOW}
CHILD = {"parent_id": uuid.UUID(int=2), "parent_step": "deliver", "parent_item": 0}

ARCHIVED = "It has ended and is in the archive, where nothing changes any more."
IT_IS_HELD = "It is held: release it first."
UNDER_WAY = (
    "An attempt is under way; wait until it ends, or until its worker counts as lost (in {seconds} s)."
)
NOT_IN_DOUBT = "No outcome is in doubt."
UNTRIED = (
    "No outcome is in doubt: nobody has tried {step}. Have that tried first: resume it, or let it go on."
)
UNDO_UNTRIED = (
    "No outcome is in doubt: nobody has tried to undo {step}. Have that tried first: resume it, or let it"
    " go on."
)
ITS_CHILDREN = "deliver is what its children are: see to them."
YES_OR_NO = "ok waits for a person's yes or no: have it approved, or refused."
NOT_BEGUN = "It has not begun: its parent starts it when its turn comes."


@pytest.fixture(autouse=True)
def _english():
    with translation.override("en"):
        yield


def standing(saga, name, root=None, **step):
    """A world in which the saga is at that step; and what its row, and the step's, say."""
    world = memory.World(shapes.Shape(saga=saga, about=""), 0)
    world.root.position = saga.positions[name]
    for field, value in (root or {}).items():
        setattr(world.root, field, value)
    for field, value in step.items():
        setattr(world.row(ROOT, name), field, value)
    return world


def asked(move, saga, name, root=None, **step):
    """What that predicate says."""
    world = standing(saga, name, root, **step)
    return getattr(refusals, move)(world.root, world.row(ROOT, name), saga, NOW)


def at_work(state="running", seconds=90.5):
    """Fields of a step at which a worker is, and what is said of it."""
    return {"state": state, "lease_until": NOW + seconds * SECOND}


# --- Of any saga ----------------------------------------------------------------------------------

MOVES = {
    "retry": (toys.MIXED, "b", {}, {"state": "unknown"}),
    "resume": (toys.MIXED, "b", CALLED, {"state": "failed"}),
    "ask": (toys.MIXED, "b", {}, {"state": "unknown"}),
    "resolve": (toys.MIXED, "b", {}, {"state": "unknown"}),
    "answer": (toys.APPROVED, "ok", {}, {"state": "waiting"}),
    "compensate": (toys.MIXED, "b", {}, {"state": "unknown"}),
    "hold": (toys.MIXED, "b", {}, {}),
    "release": (toys.MIXED, "b", HELD, {}),
    "extend": (toys.MIXED, "b", {}, {}),
    "skip": (OPTIONAL, "x", {}, {}),
    "close": (toys.MIXED, "b", CALLED, {}),
}
"""Each where it is possible."""

every_move = pytest.mark.parametrize("move", MOVES)


@every_move
def test_each_is_possible_somewhere(move):
    saga, name, root, step = MOVES[move]

    assert asked(move, saga, name, root, **step) == POSSIBLE


@every_move
@pytest.mark.parametrize(
    ("root", "why"),
    [
        (
            {"state": "completed", "finished_at": NOW, "archived_at": NOW},
            "It has ended and is in the archive, where nothing changes any more.",
        ),
        (
            {"closed_at": NOW, "archived_at": NOW},
            "It has ended and is in the archive, where nothing changes any more.",
        ),
        ({"state": "compensated", "finished_at": NOW}, "It has ended, and what has ended stays as it is."),
        ({**CALLED, "closed_at": NOW}, "It was put aside for good."),
    ],
)
def test_of_what_has_ended_nothing_is_possible(move, root, why):
    saga, name, possible, step = MOVES[move]

    assert asked(move, saga, name, possible | root, **step) == why


@every_move
def test_of_what_is_no_longer_declared_nothing_is_possible_but_to_put_it_aside(move):
    saga, name, root, step = MOVES[move]
    world = standing(saga, name, root, **step)

    why = getattr(refusals, move)(world.root, world.row(ROOT, name), None, NOW)

    assert why == (POSSIBLE if move == "close" else "Its declaration is no longer in the code.")


@every_move
def test_of_a_child_that_waits_for_its_parent_nothing_is_possible(move):
    saga, name, root, step = MOVES[move]
    world = standing(saga, name, root | CHILD, **step)
    world.root.state, world.root.position = "running", len(saga.all_steps)

    why = getattr(refusals, move)(world.root, world.row(ROOT, name), saga, NOW)

    assert why == (
        "Only a saga that needs attention can be put aside."
        if move == "close"
        else "All of its steps are done, and it ends with its parent: see to that."
    )


def test_a_declaration_is_known_or_is_not():
    world = standing(toys.MIXED, "b")
    assert refusals.declaration(world.root) is toys.MIXED

    world.root.version = 2
    assert refusals.declaration(world.root) is None


# --- One by one -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("why", "saga", "name", "root", "step"),
    [
        (POSSIBLE, toys.MIXED, "b", {}, {"state": "pending"}),
        (POSSIBLE, toys.MIXED, "b", {}, {"state": "running", "lease_until": NOW}),
        (POSSIBLE, toys.MIXED, "b", {"epoch": 0}, {}),
        (POSSIBLE, toys.MIXED, "b", {**CHILD, "epoch": 1}, {}),
        (NOT_BEGUN, toys.MIXED, "b", {**CHILD, "epoch": 0}, {}),
        ("It needs attention: resume it instead.", toys.MIXED, "b", CALLED, {}),
        ("It needs attention: resume it instead.", toys.APPROVED, "ok", CALLED, {"state": "waiting"}),
        (YES_OR_NO, toys.APPROVED, "ok", {}, {"state": "waiting"}),
        (POSSIBLE, toys.APPROVED, "ok", {}, {"state": "pending"}),
        (ITS_CHILDREN, toys.EACH, "deliver", {}, {"state": "waiting"}),
        (ITS_CHILDREN, toys.EACH, "deliver", BACK, {"state": "waiting"}),
        (POSSIBLE, toys.EACH, "deliver", {}, {"state": "pending"}),
        ("w has begun, and waits: ask the provider instead.", toys.WAIT, "w", {}, {"state": "waiting"}),
        (POSSIBLE, toys.WAIT, "w", BACK, {"state": "waiting"}),
        ("b is over: there is nothing to try again.", toys.MIXED, "b", {}, {"state": "skipped"}),
        ("b is over: there is nothing to try again.", toys.MIXED, "b", {}, {"state": "done"}),
        ("b is over: there is nothing to try again.", toys.MIXED, "b", BACK, {"state": "skipped"}),
        ("b is over: there is nothing to try again.", toys.MIXED, "b", BACK, {"state": "undone"}),
        (POSSIBLE, toys.MIXED, "b", BACK, {"state": "done"}),
        (IT_IS_HELD, toys.MIXED, "b", HELD, {}),
        (IT_IS_HELD, toys.MIXED, "b", HELD, at_work()),
        (UNDER_WAY.format(seconds=91), toys.MIXED, "b", {}, at_work()),
        (UNDER_WAY.format(seconds=91), toys.MIXED, "b", BACK, at_work("undoing")),
        (POSSIBLE, SAME, "s", {}, {"state": "pending"}),
        ("s did nothing that is to be undone.", SAME, "s", BACK, {"state": "pending"}),
    ],
)
def test_a_step_is_tried_again_while_the_saga_goes_on_by_itself(why, saga, name, root, step):
    assert asked("retry", saga, name, root, **step) == why


@pytest.mark.parametrize(
    ("why", "root", "step"),
    [
        ("It goes on by itself.", {}, {}),
        ("It goes on by itself.", BACK, {}),
        ("It goes on by itself.", HELD, {}),
        (POSSIBLE, CALLED, {"state": "failed"}),
        (POSSIBLE, CALLED_BACK, {"state": "undo_failed"}),
        (IT_IS_HELD, {**CALLED, **HELD}, {}),
        (UNDER_WAY.format(seconds=91), CALLED, at_work()),
    ],
)
def test_what_needs_attention_is_resumed(why, root, step):
    assert asked("resume", toys.MIXED, "b", root, **step) == why


@pytest.mark.parametrize(
    ("why", "saga", "name", "root", "step"),
    [
        (POSSIBLE, toys.MIXED, "b", {}, {"state": "unknown"}),
        (POSSIBLE, toys.WAIT, "w", {}, {"state": "waiting"}),
        (POSSIBLE, toys.MIXED, "b", CALLED, {"state": "unknown"}),
        (IT_IS_HELD, toys.MIXED, "b", HELD, {"state": "unknown"}),
        (NOT_IN_DOUBT, toys.MIXED, "b", {}, {"state": "pending"}),
        (NOT_IN_DOUBT, toys.MIXED, "b", {}, {"state": "failed"}),
        (NOT_IN_DOUBT, toys.MIXED, "b", {}, at_work()),
        (NOT_IN_DOUBT, toys.MIXED, "b", BACK, {"state": "unknown"}),
        ("d has nobody to ask: its declaration has no `ask`.", toys.MIXED, "d", {}, {"state": "unknown"}),
    ],
)
def test_the_provider_is_asked_about_an_action_in_doubt(why, saga, name, root, step):
    assert asked("ask", saga, name, root, **step) == why


@pytest.mark.parametrize(
    ("why", "saga", "name", "root", "step"),
    [
        (POSSIBLE, toys.MIXED, "b", {}, {"state": "unknown"}),
        (POSSIBLE, toys.MIXED, "b", HELD, {"state": "failed"}),
        (POSSIBLE, toys.MIXED, "b", {}, {"state": "pending", "attempts": 1, "error": {"kind": "bug"}}),
        (POSSIBLE, toys.WAIT, "w", {}, {"state": "waiting"}),
        (UNTRIED.format(step="b"), toys.MIXED, "b", {}, {"state": "pending"}),
        (NOT_IN_DOUBT, toys.MIXED, "b", {}, {"state": "pending", "attempts": 1}),
        (NOT_IN_DOUBT, toys.MIXED, "b", {}, {"state": "done"}),
        (UNDER_WAY.format(seconds=91), toys.MIXED, "b", {}, at_work()),
        (UNDER_WAY.format(seconds=91), toys.MIXED, "b", BACK, at_work("undoing")),
        (POSSIBLE, toys.MIXED, "b", BACK, {"state": "undoing"}),
        (POSSIBLE, toys.MIXED, "b", CALLED_BACK, {"state": "undo_failed", "undo_attempts": 1}),
        (UNDO_UNTRIED.format(step="b"), toys.MIXED, "b", BACK, {"state": "done"}),
        (UNDO_UNTRIED.format(step="b"), toys.MIXED, "b", BACK, {"state": "pending"}),
        (UNTRIED.format(step="b"), toys.MIXED, "b", BACK, {"state": "pending", "undo_attempts": 1}),
        (NOT_IN_DOUBT, toys.MIXED, "b", BACK, {"state": "done", "undo_attempts": 1}),
        (NOT_IN_DOUBT, toys.MIXED, "b", BACK, {"state": "undone"}),
        (NOT_IN_DOUBT, toys.MIXED, "b", BACK, {"state": "skipped"}),
        (YES_OR_NO, toys.APPROVED, "ok", {}, {"state": "waiting"}),
        (UNTRIED.format(step="ok"), toys.APPROVED, "ok", {}, {"state": "pending"}),
        (ITS_CHILDREN, toys.EACH, "deliver", BACK, {"state": "undoing"}),
    ],
)
def test_a_person_says_what_came_of_what_is_in_doubt(why, saga, name, root, step):
    with memory.in_use():
        assert asked("resolve", saga, name, root, **step) == why


@pytest.mark.parametrize(
    ("why", "child"),
    [
        (POSSIBLE, {"state": "completed", "finished_at": NOW}),
        (POSSIBLE, {"state": "running", "position": 2}),
        (POSSIBLE, {"state": "running", "parent_step": "another"}),
        (POSSIBLE, {"state": "running", "parent_id": uuid.UUID(int=3)}),
        (ITS_CHILDREN, {"state": "running", "position": 1}),
        (ITS_CHILDREN, {"state": "needs_attention", "position": 1}),
    ],
)
def test_a_step_that_other_sagas_are_is_not_in_doubt_while_one_of_them_lives(why, child):
    world = standing(toys.EACH, "deliver", state="waiting")
    one = {"parent_id": ROOT, "parent_step": "deliver", "parent_item": 0, "position": 0, **child}
    world.add(memory.row(models.SagaInstance, id=uuid.UUID(int=2), name=toys.PARCEL.name, version=1, **one))
    memory.use(world)

    with memory.in_use():
        assert refusals.resolve(world.root, world.row(ROOT, "deliver"), toys.EACH, NOW) == why


@pytest.mark.parametrize(
    ("why", "saga", "name", "root", "state"),
    [
        (POSSIBLE, toys.APPROVED, "ok", {}, "waiting"),
        # Nobody has answered in time, and an operator was called: who was asked may still answer.
        (POSSIBLE, toys.APPROVED, "ok", CALLED, "waiting"),
        (POSSIBLE, toys.APPROVED, "ok", HELD, "waiting"),
        ("a is no approval.", toys.APPROVED, "a", {}, "pending"),
        ("w is no approval.", toys.WAIT, "w", {}, "waiting"),
        ("Nobody is asked about ok yet.", toys.APPROVED, "ok", {}, "pending"),
        ("Nobody is asked about ok any more.", toys.APPROVED, "ok", {}, "done"),
        ("Nobody is asked about ok any more.", toys.APPROVED, "ok", BACK, "waiting"),
        ("Nobody is asked about ok any more.", toys.APPROVED, "ok", BACK, "undone"),
    ],
)
def test_an_approval_is_answered_while_it_is_waited_for(why, saga, name, root, state):
    assert asked("answer", saga, name, root, state=state) == why


@pytest.mark.parametrize(
    ("why", "saga", "name", "root", "state"),
    [
        (POSSIBLE, toys.MIXED, "b", {}, "running"),
        (POSSIBLE, toys.MIXED, "b", CALLED, "failed"),
        ("It is being undone already.", toys.MIXED, "b", BACK, "done"),
        (POSSIBLE, toys.PIVOTAL, "p", {}, "pending"),
        (
            "It is past its point of no return: nothing is undone any more.",
            toys.PIVOTAL, "p", {"cancel_requested_at": NOW}, "unknown",
        ),
        (
            "It is past its point of no return: nothing is undone any more.",
            toys.PIVOTAL, "r", {}, "pending",
        ),
        (
            "That was asked for already; it turns back when the attempt under way has ended.",
            toys.MIXED, "b", {"cancel_requested_at": NOW}, "running",
        ),
    ],
)  # fmt: skip
def test_a_saga_is_turned_back_once_and_while_it_can_be(why, saga, name, root, state):
    assert asked("compensate", saga, name, root, state=state) == why


@pytest.mark.parametrize(
    ("move", "why", "root"),
    [
        ("hold", POSSIBLE, {}),
        ("hold", POSSIBLE, CALLED_BACK),
        ("hold", "It is held already.", HELD),
        ("release", POSSIBLE, HELD),
        ("release", "It is not held.", {}),
        ("extend", POSSIBLE, {}),
        ("extend", POSSIBLE, CALLED_BACK),
        ("extend", POSSIBLE, {**CHILD, "epoch": 1}),
        ("extend", NOT_BEGUN, {**CHILD, "epoch": 0}),
        ("close", POSSIBLE, CALLED),
        ("close", POSSIBLE, {**CALLED_BACK, **HELD}),
        ("close", "Only a saga that needs attention can be put aside.", {}),
        ("close", "Only a saga that needs attention can be put aside.", BACK),
    ],
)
def test_a_saga_is_held_released_given_time_and_put_aside_where_it_stands(move, why, root):
    assert asked(move, toys.MIXED, "b", root) == why


@pytest.mark.parametrize(
    ("why", "name", "root", "state"),
    [
        (POSSIBLE, "x", {}, "pending"),
        (POSSIBLE, "x", CALLED, "failed"),
        ("a is not optional.", "a", {}, "pending"),
        ("It is being undone.", "x", BACK, "pending"),
        ("x has begun.", "x", {}, "running"),
        ("x has begun.", "x", {}, "done"),
        ("x has begun.", "x", {}, "skipped"),
    ],
)
def test_a_step_that_is_optional_is_left_out_before_it_has_begun(why, name, root, state):
    assert asked("skip", OPTIONAL, name, root, state=state) == why


# --- Attempts, and turns --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("why", "state", "seconds"),
    [
        (UNDER_WAY.format(seconds=1), "running", 0.1),
        (UNDER_WAY.format(seconds=1), "running", 1),
        (UNDER_WAY.format(seconds=2), "undoing", 1.1),
        (POSSIBLE, "running", 0),
        (POSSIBLE, "running", -1),
        (POSSIBLE, "running", None),
        (POSSIBLE, "done", 1),
    ],
)
def test_an_attempt_is_waited_for_as_long_as_its_lease_lives(why, state, seconds):
    lease = None if seconds is None else NOW + seconds * SECOND
    world = standing(toys.MIXED, "b", state=state, lease_until=lease)

    assert refusals.at_work(world.row(ROOT, "b"), NOW) == why


def turns(saga, name, back=True, declared=True, move="not_its_turn", **states):
    """What is said of one step of a stage of three, of which each began after the one before it."""
    world = standing(saga, name, BACK if back else {})
    for number, (each, state) in enumerate(states.items()):
        row = world.row(ROOT, each)
        row.state, row.epoch = state, 1
        row.started_at = None if state in ("pending", "unknown") else NOW - (9 - number) * SECOND
    return getattr(refusals, move)(world.root, world.row(ROOT, name), saga if declared else None, NOW)


DONE = {"r": "done", "s": "done", "t": "done"}
R_IS_FIRST = "s is undone when its turn comes: r is first."
T_IS_FIRST = "s is undone when its turn comes: t is first."


@pytest.mark.parametrize(
    ("why", "saga", "states"),
    [
        (POSSIBLE, SAME, {}),
        (POSSIBLE, REVERSE, {"t": "undone"}),
        (T_IS_FIRST, REVERSE, {}),
        (T_IS_FIRST, REVERSE, {"t": "undoing"}),
        # It may have happened, though nobody wrote when: it counts as the last begun.
        (R_IS_FIRST, REVERSE, {"r": "unknown"}),
        (POSSIBLE, REVERSE, {"s": "unknown"}),
        # One whose undo failed comes last.
        (POSSIBLE, REVERSE, {"t": "undo_failed"}),
        (R_IS_FIRST, REVERSE, {"t": "undone", "s": "undo_failed"}),
        (POSSIBLE, SAME, {"s": "undo_failed"}),
        ("s did nothing that is to be undone.", SAME, {"s": "undone"}),
        ("s did nothing that is to be undone.", REVERSE, {"s": "pending", "r": "unknown"}),
        (
            "Nothing is undone before the attempts under way have ended, or count as lost: r.",
            SAME,
            {"r": "running"},
        ),
        (
            "Nothing is undone before the attempts under way have ended, or count as lost: r, t.",
            REVERSE,
            {"r": "running", "s": "undone", "t": "running"},
        ),
    ],
)
def test_one_of_several_at_once_is_undone_when_its_turn_comes(why, saga, states):
    assert turns(saga, "s", **{**DONE, **states}) == why


def test_turns_are_of_stages_that_are_undone():
    running = {**DONE, "r": "running"}

    assert turns(SAME, "s", back=False, **running) == POSSIBLE
    assert turns(SAME, "s", declared=False, **running) == POSSIBLE
    # Another stage's attempts are not this one's.
    assert turns(SAME, "s", a="running", z="running", **DONE) == POSSIBLE
    assert turns(ROW, "r", a="done", r="done", l="running") == POSSIBLE


def test_an_undo_is_tried_again_in_its_turn():
    assert turns(REVERSE, "s", move="retry", **{**DONE, "r": "unknown"}) == R_IS_FIRST
    assert turns(REVERSE, "s", move="retry", **{**DONE, "t": "undone"}) == POSSIBLE
