"""What is decided about an approval, whole: both rows, the events, the timer and who is told; rows in memory.

test_approvals.py tells what people see of it, on PostgreSQL.
"""

import datetime

import pytest

from sagas.declaration.states import StepState
from sagas.engine import approvals, transitions
from sagas.engine.kinds import EventKind
from sagas.engine.store import After, UnitOfWork
from tests.sagas.explorer import memory, shapes
from tests.sagas.explorer.memory import NOW, ROOT
from tests.sagas.sample_app import saga as toys

HOUR = datetime.timedelta(hours=1)
MINUTE = datetime.timedelta(minutes=1)

AT_ONCE = After()
"""The moment at which it is written."""

OLGA = {"actor": "olga", "reason": "Seen", "at": "2026-01-01T00:00:00+00:00"}


def tell(*, key):
    """Whom it is told is of no interest here, but that they are."""


REMINDED = toys.saga(
    "toy-decided", toys.local("a"), toys.approval(limit=4 * HOUR, remind=[HOUR, 2 * HOUR], notify=tell)
)
SILENT = toys.saga("toy-decided-silent", toys.local("a"), toys.approval(limit=4 * HOUR))


def standing(saga=REMINDED, deadline=None, **fields):
    """A unit of work at the approval, and what its row says."""
    world = memory.World(shapes.Shape(saga=saga, about=""), 0)
    world.root.position, world.root.deadline_at = 1, deadline
    row = world.row(ROOT, "ok")
    for name, value in fields.items():
        setattr(row, name, value)
    return UnitOfWork(world.root, row, NOW)


def decided(work):
    """All that is to be written, and whom to tell: fields of the saga, fields of the step, events, hooks."""
    events = [tuple(event[1:]) for event in work._events]
    assert {event[0] for event in work._events} <= {ROOT}
    assert (work._hooks, work._dispatches, work._alerts, work._more, work._told) == ([], [], [], [], [])
    return work._saga_set, work._step_set, events, work._notices


def event(kind, was="", now="", **data):
    """One of the approval, by the engine."""
    return kind, "ok", was, now, None, "engine", "", data


# --- People are asked -----------------------------------------------------------------------------


def test_people_are_asked_from_the_moment_at_which_its_turn_comes():
    work = standing()

    approvals.begin(work)

    assert decided(work) == (
        {"dispatched_at": None, "dispatches": 0, "wake_at": After(HOUR)},
        {
            "state": StepState.WAITING,
            "started_at": AT_ONCE,
            "wait_until": After(4 * HOUR),
            "asked_at": AT_ONCE,
            "facts": None,
        },
        [event(EventKind.STEP_WAITING, "pending", "waiting")],
        [tell],
    )


@pytest.mark.parametrize(
    ("saga", "deadline", "looks_after"),
    [
        (REMINDED, None, HOUR),
        (REMINDED, NOW + 2 * HOUR, HOUR),
        (REMINDED, NOW + MINUTE, MINUTE),
        (REMINDED, NOW - MINUTE, 0 * HOUR),
        (SILENT, None, 4 * HOUR),
        (SILENT, NOW + MINUTE, MINUTE),
    ],
)
def test_the_sweep_looks_at_the_first_reminder_the_limit_or_the_deadline(saga, deadline, looks_after):
    work = standing(saga, deadline, state="waiting")

    approvals.ask(work)

    assert decided(work) == (
        {"dispatched_at": None, "dispatches": 0, "wake_at": After(looks_after)},
        {"wait_until": After(4 * HOUR), "asked_at": AT_ONCE, "facts": None},
        [],
        [tell] if saga is REMINDED else [],
    )


def test_beside_other_steps_it_has_a_timer_of_its_own_and_the_sagas_looks_after_the_deadline():
    work = standing(deadline=NOW + MINUTE, state="waiting", epoch=1)

    approvals.ask(work)

    assert decided(work) == (
        {},
        {
            "wait_until": After(4 * HOUR),
            "asked_at": AT_ONCE,
            "facts": None,
            "dispatched_at": None,
            "dispatches": 0,
            "wake_at": After(HOUR),
        },
        [],
        [tell],
    )


@pytest.mark.parametrize(
    ("facts", "kept"),
    [
        (None, None),
        ({"reminders": 2}, None),
        ({"reminders": 2, "approvals": [OLGA], "limit": 3}, {"approvals": [OLGA], "limit": 3}),
    ],
)
def test_who_is_asked_anew_is_reminded_anew_and_who_has_approved_already_has(facts, kept):
    work = standing(state="waiting", facts=facts)

    approvals.ask(work)

    assert decided(work)[1]["facts"] == work.step.facts == kept


def test_nobody_is_asked_about_a_step_that_is_no_approval():
    world = memory.World(shapes.Shape(saga=REMINDED, about=""), 0)

    with pytest.raises(AssertionError, match=r"^a is no approval"):
        approvals.declared(world.work(ROOT, "a"))


# --- They are reminded ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked_before", "sent_before", "sent", "looks_after"),
    [
        (0 * HOUR, 0, [], HOUR),
        (HOUR - MINUTE, 0, [], MINUTE),
        (HOUR, 0, [1], HOUR),
        (HOUR, 1, [], HOUR),
        (HOUR + MINUTE, 0, [1], HOUR - MINUTE),
        (2 * HOUR - MINUTE, 1, [], MINUTE),
        (2 * HOUR, 1, [2], 2 * HOUR),
        (3 * HOUR, 2, [], HOUR),
        # A sweep that comes late makes up for each.
        (3 * HOUR, 0, [1, 2], HOUR),
    ],
)
def test_each_reminder_is_sent_once_when_it_is_time(asked_before, sent_before, sent, looks_after):
    kept = {"approvals": [OLGA]} | ({"reminders": sent_before} if sent_before else {})
    work = standing(state="waiting", wait_until=NOW + 4 * HOUR - asked_before, facts=kept)

    approvals.remind(work)

    assert decided(work) == (
        {"wake_at": After(looks_after)},
        {"facts": {"approvals": [OLGA], "reminders": sent[-1]}} if sent else {},
        [event(EventKind.STEP_REMINDED, reminder=number) for number in sent],
        [tell for _ in sent],
    )


@pytest.mark.parametrize(
    ("deadline", "epoch", "looks_after"),
    [(NOW + MINUTE, None, MINUTE), (NOW + MINUTE, 1, HOUR), (NOW + 3 * HOUR, None, HOUR)],
)
def test_the_deadline_waits_for_no_reminder(deadline, epoch, looks_after):
    work = standing(
        deadline=deadline, state="waiting", epoch=epoch, wait_until=NOW + 3 * HOUR, facts={"reminders": 1}
    )

    approvals.remind(work)

    timer = {"wake_at": After(looks_after)}
    assert decided(work) == (({}, timer, [], []) if epoch else (timer, {}, [], []))


def test_the_first_reminder_is_kept_where_nothing_else_was():
    work = standing(state="waiting", wait_until=NOW + 3 * HOUR, facts=None)

    approvals.remind(work)

    assert decided(work)[1] == {"facts": {"reminders": 1}}


def test_nobody_is_reminded_of_what_nobody_is_asked():
    with pytest.raises(AssertionError, match=r"^its time is not over"):
        approvals.remind(standing(state="waiting", wait_until=None))


# --- They answer, or do not -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("is_lapsed", "state", "wait_until"),
    [
        (False, "waiting", NOW + MINUTE),
        (True, "waiting", NOW),
        (True, "waiting", NOW - MINUTE),
        # Nobody has answered in time, and an operator was called: the time is over.
        (True, "waiting", None),
        (False, "done", NOW - MINUTE),
        (False, "pending", None),
    ],
)
def test_its_time_is_over_while_an_answer_is_wanted(is_lapsed, state, wait_until):
    assert approvals.is_lapsed(standing(state=state, wait_until=wait_until)) is is_lapsed


def test_the_time_of_a_step_that_is_no_approval_is_over_without_anybodys_being_asked():
    world = memory.World(shapes.Shape(saga=toys.BLIND_WAIT, about=""), 0)
    row = world.row(ROOT, "w")
    row.state, row.wait_until = "waiting", NOW - MINUTE

    assert approvals.is_lapsed(world.work(ROOT, "w")) is False


@pytest.mark.parametrize(
    ("facts", "given"),
    [(None, []), ({"limit": 3}, []), ({"limit": 3, "approvals": [OLGA]}, [OLGA])],
)
def test_who_has_approved_stands_in_the_facts(facts, given):
    assert approvals.given(standing(state="waiting", facts=facts)) == given


@pytest.mark.parametrize(
    ("is_same", "one", "other"),
    [
        (True, 1, 1),
        (True, 1, 1.0),
        (False, 1, 2),
        (True, True, True),
        (False, True, False),
        # In Python they are equal, in JSON they are not.
        (False, True, 1),
        (False, 0, False),
        (True, "a", "a"),
        (False, "1", 1),
        (True, None, None),
        (False, None, False),
        (True, [1, [2]], [1, [2]]),
        (False, [1, [2]], [1, [3]]),
        (False, [True], [1]),
        (False, [1], [1, 2]),
        (False, [1, 2], [1]),
        (False, [], {}),
        (False, {}, []),
        (True, {"a": 1, "b": [2]}, {"b": [2], "a": 1}),
        (False, {"a": 1}, {"a": 2}),
        (False, {"a": 1}, {"a": True}),
        (False, {"a": 1}, {"b": 1}),
        (False, {"a": 1}, {"a": 1, "b": 2}),
        (False, {"a": None}, {}),
    ],
)
def test_who_approves_beside_others_states_the_same_json(is_same, one, other):
    def others(stated, states):
        work = standing(state="waiting", facts={"approvals": [OLGA], "limit": stated})
        return approvals.stated_otherwise(work, {"limit": states})

    assert others(one, other) == others(other, one) == ([] if is_same else ["limit"])


def test_what_others_stated_otherwise_is_named_and_nothing_else():
    stated = {"limit": 3, "note": "a", "reason": "b", "kept": True}
    states = {"reason": "c", "limit": 4, "note": "a", "more": 1}

    def others(**facts):
        return approvals.stated_otherwise(standing(state="waiting", facts=facts), states)

    assert others(approvals=[OLGA], **stated) == ["limit", "more", "reason"]
    # Nobody has approved yet: what lies there is nobody's statement.
    assert others(approvals=[], **stated) == []
    assert others(**stated) == []
    assert approvals.stated_otherwise(standing(state="waiting"), states) == []


@pytest.mark.parametrize(
    ("actor", "person"),
    [("olga", "olga"), ("link:olga", "olga"), ("link:link:olga", "link:olga"), ("olga link:", "olga link:")],
)
def test_a_person_is_one_with_a_link_or_logged_in(actor, person):
    assert approvals.person(actor) == person


@pytest.mark.parametrize("at", ["p", "r", "l"])
def test_whichever_step_a_saga_goes_on_for_who_did_not_answer_in_time_is_asked_anew(at):
    world = memory.World(shapes.SHAPES["approval"], 0)
    root, members = world.root, [world.row(ROOT, name) for name in "prl"]
    root.state, root.position, root.deadline_at = "needs_attention", 1, None
    for row, state in zip(members, ["waiting", "unknown", "pending"], strict=True):
        row.state, row.epoch = state, 1

    transitions.reopen(world.work(ROOT, at))

    assert [(row.state, row.wait_until, row.asked_at, row.wake_at) for row in members] == [
        ("waiting", NOW + 2 * HOUR, NOW, NOW + 2 * HOUR),
        ("unknown", None, None, None),
        ("pending", None, None, None),
    ]


@pytest.mark.parametrize(("lapsed", "asked_at"), [(True, NOW), (False, NOW - HOUR)])
def test_one_that_comes_alone_is_asked_anew_if_its_time_is_over(lapsed, asked_at):
    left = None if lapsed else NOW + HOUR
    work = standing(SILENT, state="waiting", asked_at=NOW - HOUR, wait_until=left)
    work.saga.state = "needs_attention"

    transitions.reopen(work)

    assert (work.saga.state, work.step.asked_at) == ("running", asked_at)
    assert work.step.wait_until == (NOW + 4 * HOUR if lapsed else left)


def test_an_approval_that_is_withdrawn_is_undone_and_nobody_is_asked():
    work = standing(state="waiting", wait_until=NOW + HOUR, asked_at=NOW - HOUR)

    approvals.withdraw(work)

    assert decided(work) == (
        {},
        {"state": StepState.UNDONE, "asked_at": None, "undone_at": AT_ONCE, "wait_until": None},
        [event(EventKind.UNDO_DONE, "waiting", "undone")],
        [],
    )
