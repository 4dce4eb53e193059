"""What may be done next with the members of a stage, predicate by predicate, on rows in memory.

The explorer goes every way that leads through them; here each is asked about the rows that tell it from what
is nearly the same.
"""

import dataclasses
import datetime

import pytest

from sagas.engine import parallel
from tests.sagas.explorer import memory, shapes
from tests.sagas.explorer.memory import NOW, ROOT
from tests.sagas.sample_app import saga as toys

SECOND = datetime.timedelta(seconds=1)

PUT_OUT = dataclasses.replace(
    shapes.SHAPES["same"],
    saga=toys.saga(
        "toy-put-out",
        toys.local("a"),
        toys.at_once("all", toys.remote("r", outputs=["one"]), toys.remote("s", outputs=["two"])),
        toys.local("z"),
    ),
)


def standing(shape, back=False, facts=None, **members):
    """A unit of work at the stage of three, and its members by name, as they are said to stand."""
    world = memory.World(shapes.SHAPES[shape] if isinstance(shape, str) else shape, 0)
    world.root.position = 1
    if back:
        world.root.state, world.root.direction = "compensating", -1
    for number, (name, said) in enumerate(members.items()):
        row = world.row(ROOT, name)
        row.state, row.epoch = said[0], 0
        row.started_at = None if row.state in ("pending", "skipped") else NOW - (9 - number) * SECOND
        for field, value in (said[1] if len(said) > 1 else {}).items():
            setattr(row, field, value)
    return world.work(ROOT, next(iter(members))), world


def lease(seconds):
    return {"lease_until": NOW + seconds * SECOND}


def names(rows):
    return [row.name for row in rows]


# --- Attempts that are under way -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("is_free", "state", "fields"),
    [
        (True, "running", {}),
        (True, "running", lease(0)),
        (False, "running", lease(1)),
        (False, "undoing", lease(1)),
        (True, "undoing", lease(-1)),
        (True, "done", lease(1)),
    ],
)
def test_an_attempt_may_be_under_way_while_its_lease_lives(is_free, state, fields):
    work, _ = standing("same", r=(state, fields), s=("done",), t=("done",))

    assert parallel.is_free(work.step, NOW) is is_free


def test_a_stage_drains_while_it_is_not_written_what_came_of_an_attempt():
    def is_draining(back, state):
        return parallel.is_draining(standing("same", back, r=("done",), s=(state,), t=("done",))[0])

    assert is_draining(True, "running")
    assert not is_draining(True, "unknown")
    assert not is_draining(False, "running")


def test_a_stage_is_busy_until_the_last_lease_of_an_action_ends():
    def busy_until(**members):
        return parallel.busy_until(standing("same", True, **members)[0])

    running = {"r": ("running", lease(5)), "s": ("running", lease(9)), "t": ("running", {})}

    assert busy_until(**running) == NOW + 9 * SECOND
    assert busy_until(**{**running, "s": ("undoing", lease(9))}) == NOW + 5 * SECOND
    assert busy_until(r=("running", lease(0)), s=("done", lease(9)), t=("done",)) is None


def test_a_stage_is_done_when_every_member_is_done_or_left_out():
    assert parallel.is_done(standing("same", r=("done",), s=("skipped",), t=("done",))[0])
    for state in ("pending", "unknown", "waiting", "failed"):
        assert not parallel.is_done(standing("same", r=("done",), s=(state,), t=("done",))[0])


# --- What is due forwards -----------------------------------------------------------------------------


def test_forwards_those_are_due_that_are_to_be_tried_and_at_which_nobody_is():
    def due(**members):
        return names(parallel.due(standing("same", **members)[0]))

    assert due(r=("pending",), s=("unknown",), t=("running", lease(0))) == ["r", "s", "t"]
    assert due(r=("done",), s=("failed",), t=("running", lease(1))) == []
    assert due(r=("pending", {"epoch": None}), s=("waiting",), t=("skipped",)) == []


def test_forwards_one_that_waits_for_a_callback_is_wanted_though_it_is_not_due():
    def is_wanted(state, shape="callback", name="w"):
        _, world = standing(shape, **{name: (state,), "l": ("done",)})
        return parallel.is_wanted(world.work(ROOT, name))

    assert is_wanted("waiting")
    assert is_wanted("pending")
    assert not is_wanted("done")
    # People end an approval: no message of it is ever sent.
    assert not is_wanted("waiting", "approval", "p")


# --- What is due on the way back ------------------------------------------------------------------------


def test_those_are_left_to_be_undone_that_began_the_last_begun_first():
    def left(**members):
        return names(parallel.to_undo(standing("same", True, **members)[0]))

    assert left(r=("done",), s=("unknown",), t=("done",)) == ["t", "s", "r"]
    assert left(r=("done",), s=("undone",), t=("skipped",)) == ["r"]
    assert left(r=("undo_failed",), s=("undoing",), t=("undone",)) == ["s", "r"]
    # Which of them began first the rows say, and not their order; of two at one moment the later one counts.
    assert left(r=("done", {"started_at": NOW}), s=("done",), t=("done",)) == ["r", "t", "s"]
    at_once = {"started_at": NOW - SECOND}
    assert left(r=("done", at_once), s=("done", at_once), t=("done", at_once)) == ["t", "s", "r"]
    # One that may have happened though nobody wrote when counts as begun now.
    assert left(r=("unknown", {"started_at": None}), s=("done",), t=("done",)) == ["r", "t", "s"]


def test_while_a_stage_drains_nothing_of_it_is_undone():
    def now(shape, **members):
        work, _ = standing(shape, True, **members)
        assert parallel.due(work) == parallel.undo_now(work.stage, work.members(work.stage), NOW)
        return names(parallel.due(work))

    assert now("same", r=("done",), s=("done",), t=("running", lease(1))) == []
    assert now("same", r=("done",), s=("done",), t=("unknown",)) == ["t", "s", "r"]
    assert now("same-reverse", r=("done",), s=("done",), t=("unknown",)) == ["t"]
    # It may have happened, though nobody wrote when: it counts as the last begun.
    assert now("same-reverse", r=("unknown", {"started_at": None}), s=("done",), t=("done",)) == ["r"]
    # At the first somebody is: the next one is not undone beside it, where that is declared.
    assert now("same-reverse", r=("done",), s=("done",), t=("undoing", lease(1))) == []
    assert now("same", r=("done",), s=("done",), t=("undoing", lease(1))) == ["s", "r"]


def test_one_whose_undo_failed_is_tried_again_only_when_no_other_is_left():
    def now(shape, *states):
        return names(parallel.due(standing(shape, True, **dict(zip("rst", states, strict=True)))[0]))

    assert now("same", ("undo_failed",), ("done",), ("undone",)) == ["s"]
    assert now("same", ("undo_failed",), ("undone",), ("undone",)) == ["r"]
    assert now("same-reverse", ("done",), ("done",), ("undo_failed",)) == ["s"]
    assert now("same-reverse", ("undo_failed",), ("undo_failed",), ("undone",)) == ["s"]


def test_one_whose_undo_failed_beside_others_is_wanted_if_somebody_wants_it():
    def is_wanted(shape, name, began=NOW):
        _, world = standing(shape, True, r=("undo_failed",), s=("done",), t=("undone",))
        world.row(ROOT, "s").started_at = began
        return parallel.is_wanted(world.work(ROOT, name))

    assert is_wanted("same", "r")
    assert is_wanted("same", "s")
    assert not is_wanted("same", "t")
    assert not is_wanted("same-reverse", "r")
    assert is_wanted("same-reverse", "s")
    assert is_wanted("same-reverse", "s", began=None)


def test_a_person_is_called_for_an_undo_that_failed_once_nothing_else_is_left():
    def called_for(*states):
        work, _ = standing(
            "same", True, **{name: (state,) for name, state in zip("rst", states, strict=True)}
        )
        row = parallel.undo_failed(work)
        return row and row.name

    assert called_for("undo_failed", "undone", "skipped") == "r"
    assert called_for("undo_failed", "undo_failed", "undone") == "s"
    assert called_for("undo_failed", "done", "undone") is None
    assert called_for("undo_failed", "undoing", "undo_failed") is None
    assert called_for("undone", "undone", "undone") is None


def test_only_members_that_are_undone_one_after_the_other_have_a_next_one():
    done = {"r": ("done",), "s": ("done",), "t": ("undone",)}

    assert names(parallel.undo_next(standing("same-reverse", True, **done)[0])) == ["s"]
    assert parallel.undo_next(standing("same", True, **done)[0]) == []


# --- Leaving the stage ------------------------------------------------------------------------------------


def test_what_the_members_put_out_is_there_for_later_steps_and_nothing_of_one_that_was_left_out():
    work, world = standing(
        PUT_OUT,
        r=("done", {"facts": {"one": 1, "more": 2}}),
        s=("skipped", {"facts": {"two": 2}}),
    )
    world.root.facts = {"given": 3}

    parallel.merge_outputs(work, work.stage)

    assert world.root.facts == {"given": 3, "one": 1}


def test_what_a_member_was_to_put_out_and_did_not_is_null():
    work, world = standing(PUT_OUT, r=("done", {"facts": None}), s=("done", {"facts": {"two": 2}}))
    world.root.facts = {}

    parallel.merge_outputs(work, work.stage)

    assert world.root.facts == {"one": None, "two": 2}


def test_when_a_saga_turns_round_nothing_of_the_stage_begins_any_more():
    expected = {"wake_at": NOW, "dispatched_at": NOW, "dispatches": 3, "parked_for": "toys"}
    work, world = standing(
        "same", True, r=("pending", {**expected, "attempts": 0}), s=("running", {**expected, **lease(1)}),
        t=("pending", {**expected, "attempts": 1}),
    )  # fmt: skip

    parallel.drain(work)

    r, s, t = work.members(work.stage)
    assert [r.state, s.state, t.state] == ["skipped", "running", "pending"]
    assert world.events == [(ROOT, "step.skipped", "r", "pending", "skipped")]
    assert r.finished_at is not None
    assert t.finished_at is None
    for row in (r, t):
        assert (row.wake_at, row.dispatched_at, row.dispatches, row.parked_for) == (None, None, 0, None)
    # Somebody is at it, and nothing is taken from under their hands.
    assert (s.wake_at, s.dispatched_at, s.dispatches, s.parked_for) == (NOW, NOW, 3, "toys")


def test_when_a_saga_turns_round_an_approval_is_withdrawn_and_a_wait_is_left_to_be_undone():
    work, world = standing(
        "approval", True, p=("waiting", {"wait_until": NOW}), r=("waiting", {"wait_until": NOW}),
        l=("pending", {"epoch": None, "wake_at": NOW}),
    )  # fmt: skip

    parallel.drain(work)

    p, r, left = work.members(work.stage)
    assert (ROOT, "undo.done", "p", "waiting", "undone") in world.events
    assert (p.state, p.wait_until) == ("undone", None)
    assert p.undone_at is not None
    assert (r.state, r.wait_until) == ("waiting", NOW)
    # It was never sent, so no message of it is struck out.
    assert (left.state, left.wake_at) == ("skipped", NOW)
