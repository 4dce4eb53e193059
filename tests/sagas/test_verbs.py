"""What verbs and hooks may answer and raise: what cannot be recorded is a bug, and a bug is shown as one."""

import datetime
import logging
import uuid

import pytest
from django.db import OperationalError

from sagas import engine, models, registry
from tests.sagas import rules, stage
from tests.sagas.toybox import saga as toys
from tests.sagas.toybox import verbs

ANSWERS = {
    "a moment": {"at": datetime.datetime.now(datetime.UTC)},
    "a number that is none": {"price": float("nan")},
    "a character that PostgreSQL refuses": {"name": "a\0b"},
    "half a character": {"name": "\ud800"},
    "a list": ["no", "names"],
    "a number": 7,
}

answers = {}


def answer(*, key):
    return answers[key.split(".")[0]]


def raise_it(*, key):
    raise answers[key.split(".")[0]]


LOCAL = toys.saga("verb-local", toys.local("a"), toys.local("x", do=answer, undo=verbs.unmake))
REMOTE = toys.saga("verb-remote", toys.local("a"), toys.remote("x", do=answer, undo=verbs.cancel))
ASKED = toys.saga("verb-asked", toys.local("a"), toys.remote("x", ask=answer))
GIVES = toys.saga("verb-gives", toys.local("a", gives=["mark"]))
RAISES = toys.saga("verb-raises", toys.local("a"), toys.remote("x", do=raise_it))
LOCAL_RAISES = toys.saga("verb-local-raises", toys.local("a"), toys.local("x", do=raise_it))


def run(office, declared, script, **answer):
    saga = stage.begin(declared, script)
    answers[str(saga.pk)] = answer.get("answer")
    stage.drive(office, saga)
    assert office.bugs == []
    return saga


@pytest.mark.parametrize("what", ANSWERS)
@pytest.mark.parametrize("declared", [LOCAL, REMOTE], ids=str)
def test_an_answer_that_cannot_be_kept_is_a_bug_of_the_verb(office, declared, what):
    saga = run(office, declared, "", answer=ANSWERS[what])

    assert (saga.state, saga.failure["kind"], saga.failure["step"]) == ("compensated", "bug", "x")
    assert saga.steps.get(name="x").attempts == 1, "R3: a bug is not tried again"
    rules.check(saga)


def test_so_is_one_that_an_ask_gave(office):
    saga = run(office, ASKED, "lose x", answer={"at": object()})

    assert (saga.state, saga.failure["kind"]) == ("compensated", "bug")
    rules.check(saga)


def test_so_is_one_that_lacks_what_it_was_to_give(office):
    saga = run(office, GIVES, "")

    assert (saga.state, saga.failure["kind"]) == ("compensated", "bug")
    assert "mark" in saga.failure["message"]


ERRORS = {
    "no more memory": (MemoryError(), "unknown", "transient"),
    "words that PostgreSQL refuses": (RuntimeError("a\0b \ud800"), "bug", "bug"),
    "no words": (RuntimeError(), "bug", "bug"),
    "too many words": (RuntimeError("x" * 100_000), "bug", "bug"),
}


@pytest.mark.parametrize("what", ERRORS)
def test_whatever_a_verb_raises_is_recorded(office, what, caplog):
    error, remotely, locally = ERRORS[what]
    # Half a character cannot be sent from one process of pytest-xdist to the other, as a log would be.
    caplog.set_level(logging.CRITICAL, "sagas")

    remote = run(office, RAISES, "", answer=error)
    local = run(office, LOCAL_RAISES, "", answer=error)

    assert (remote.state, remote.failure["kind"]) == ("compensated", remotely)
    assert (local.state, local.failure["kind"]) == ("compensated", locally)
    assert 0 < len(remote.failure["message"]) < 600
    assert "\0" not in remote.failure["message"]
    for saga in (remote, local):
        rules.check(saga)


@pytest.mark.parametrize("long", [0, 493])
def test_no_fact_that_the_saga_was_given_is_told_by_a_bug(office, caplog, long):
    declared = registry.add(
        toys.saga(
            "verb-secret", toys.remote("x", do=tell_all, given=["token", "long"]), given=["token", "long"]
        )
    )
    saga = stage.begin(declared, given={"token": "tok_4242", "long": long})
    stage.drive(office, saga)

    told = str([saga.failure, *saga.events.values_list("data", "reason"), *saga.steps.values_list("error")])
    assert "[give" in told
    assert "tok_" not in told, "A3"
    assert "tell_all" in caplog.text, "the log says where"
    assert "tok_" not in caplog.text, "A3"


def tell_all(*, key, token, long):
    raise LookupError(long * "x" + token)


# --- Rows that are refused at the commit -----------------------------------------------------------


def leave_a_hole(*, key):
    """A row about a saga that there is not: PostgreSQL sees to foreign keys at the end."""
    models.Approval.objects.create(saga_id=uuid.uuid4(), move="retry", actor="nobody", reason="none")


@pytest.mark.parametrize("script", ["", "die x"], ids=["at once", "after a worker died with it"])
def test_a_local_verb_whose_rows_are_refused_at_the_commit_has_met_a_bug(office, mortal, script):
    declared = toys.saga("verb-hole", toys.local("a"), toys.local("x", do=first_dies_then(leave_a_hole)))
    saga = run(office, declared, script)

    assert saga.state == "compensated"
    assert (saga.failure["kind"], saga.failure["error"]) == ("bug", "IntegrityError")
    rules.check(saga)


def first_dies_then(verb):
    def do(*, key):
        verbs.WORLD.do(key, local=True)
        verb(key=key)

    return do


def test_so_has_the_last_step_where_the_rows_are_those_of_the_owner(office):
    declared = toys.saga("hook-hole", toys.local("a"), toys.remote("b"), completed=leave_a_hole)
    saga = run(office, declared, "")

    assert saga.state == "compensated"
    assert (saga.failure["step"], saga.failure["error"]) == ("b", "IntegrityError")
    assert stage.books(saga) == {"a": (1, 1), "b": (1, 1)}


class NoBeds(verbs.Refused):
    """Every bed is taken.

    For people who read the code.
    """


@pytest.mark.parametrize(
    ("error", "said"),
    [(NoBeds(), "Every bed is taken."), (NoBeds("until Friday"), "until Friday"), (KeyError(), "KeyError")],
    ids=["by its docstring", "by its words", "by its name"],
)
def test_an_error_that_says_nothing_is_told_by_its_meaning(office, error, said):
    saga = run(office, RAISES, "", answer=error)

    assert saga.failure["message"].startswith(said)


# --- Hooks ----------------------------------------------------------------------------------------


def fall(*, key):
    raise LookupError("no such order")


@pytest.mark.parametrize("last", [toys.local("b"), toys.remote("b"), toys.remote("b", **toys.ASK)])
def test_a_saga_whose_owner_cannot_complete_it_needs_a_person_and_ends_when_that_is_mended(office, last):
    """Nobody takes an order back that was delivered because there is a bug in what comes after it."""
    trouble = [LookupError("no such order")]

    def fail_once(*, key):
        if trouble:
            raise trouble.pop()
        verbs.completed(key=key)

    saga = run(office, toys.saga("hook-completed", toys.local("a"), last, completed=fail_once), "")
    assert saga.state == "needs_attention"
    assert (saga.failure["kind"], saga.failure["error"]) == ("bug", "LookupError")
    assert "no such order" in saga.attention["why"]

    engine.retry(saga.pk, seen=engine.look(saga.pk), actor="operator", reason="mended")
    stage.drive(office, saga)

    assert saga.state == "completed"
    assert stage.books(saga) == {"a": (1, 0), "b": (1, 0)}
    rules.check(saga)


def test_one_that_is_not_wanted_any_more_is_undone(office):
    declared = toys.saga("hook-unwanted", toys.local("a"), toys.remote("b"), completed=fall)
    saga = run(office, declared, "")

    engine.compensate(
        saga.pk, seen=engine.look(saga.pk), actor="operator", reason="the customer went elsewhere"
    )
    stage.drive(office, saga)

    assert saga.state == "compensated"
    assert stage.books(saga) == {"a": (1, 1), "b": (1, 1)}


def follow_itself(*, key):
    engine.begin(FOLLOWED, key=key, given={}, actor="owner")


FOLLOWED = toys.saga("hook-followed", toys.local("a"), toys.remote("b"), completed=follow_itself)


def test_an_owner_that_the_engine_refuses_is_met_with_as_any_other_that_fails(office):
    saga = run(office, FOLLOWED, "")

    assert saga.state == "needs_attention"
    assert (saga.failure["kind"], saga.failure["error"]) == ("bug", "AlreadyLive")


def test_a_saga_whose_owner_cannot_take_it_back_needs_a_person(office):
    declared = toys.saga("hook-compensated", toys.local("a"), toys.local("b"), compensated=fall)
    saga = run(office, declared, "do a, fail b")

    assert saga.state == "needs_attention"
    assert "no such order" in saga.attention["why"]
    assert stage.kinds(saga)[-2:] == ["undo.failed", "saga.attention"]


def test_a_saga_needs_a_person_though_the_hook_that_says_so_fails(office, caplog):
    declared = toys.saga("hook-attention", toys.remote("a"), attention=fall)
    saga = run(office, declared, "fail a, fail undo a")

    assert saga.state == "needs_attention"
    assert "no such order" in caplog.text


def test_a_hook_that_fails_stops_no_other_saga(office):
    declared = toys.saga("hook-stuck", toys.local("a"), compensated=fall)
    stuck, other = stage.begin(declared, ""), stage.begin(toys.ONE, "")
    office.waiting.clear()

    # Nothing of either was begun when their deadlines pass, and the sweep is to end them both.
    stage.clocks.pass_time(declared.deadline)
    sent = len(office.sent)
    for _ in range(20):
        stage.engine.sweep()
        office.deliver_all()
    stuck.refresh_from_db()
    other.refresh_from_db()

    assert (stuck.state, other.state) == ("needs_attention", "compensated"), "T2"
    assert "no such order" in stuck.attention["why"]
    assert stuck.wake_at > stage.models.database_now()
    assert len(office.sent) - sent <= 4 + len(registry.queues()), "no storm: only probes were sent"


def starve(*, key):
    raise OperationalError("canceling statement due to lock timeout, said the test")


def test_one_whose_owner_does_not_get_a_lock_stops_no_other_and_calls_nobody(office):
    declared = toys.saga("hook-starved", toys.local("a"), compensated=starve)
    starved, other = stage.begin(declared, ""), stage.begin(toys.ONE, "")
    office.waiting.clear()
    stage.clocks.pass_time(declared.deadline)

    stage.engine.sweep()

    for saga in (starved, other):
        saga.refresh_from_db()
    assert (starved.state, other.state) == ("running", "compensated")
    assert starved.wake_at > stage.models.database_now()


def test_a_person_is_called_though_the_hook_that_says_so_gets_no_lock(office, caplog):
    declared = toys.saga("hook-deaf", toys.remote("a"), attention=starve)
    saga = run(office, declared, "fail a, fail undo a")

    assert saga.state == "needs_attention"


def test_a_saga_whose_owner_failed_to_take_it_back_ends_when_that_is_mended(office, monkeypatch):
    trouble = [LookupError("no such order")]

    def fail_once(*, key):
        if trouble:
            raise trouble.pop()
        verbs.compensated(key=key)

    saga = stage.begin(toys.saga("hook-mended", toys.local("a"), compensated=fail_once), "")
    stage.clocks.pass_time(saga.deadline_at - stage.models.database_now(), saga.pk)
    stage.engine.sweep()
    saga.refresh_from_db()
    assert saga.state == "needs_attention"

    engine.retry(saga.pk, seen=engine.look(saga.pk), actor="operator", reason="mended")
    for _ in range(3):
        stage.engine.sweep()

    saga.refresh_from_db()
    assert saga.state == "compensated", "its deadline was over: it does not go forward after all"
    rules.check(saga, {"a": (0, 0)})


def test_a_message_that_always_fails_makes_no_storm(office):
    saga = stage.begin(toys.saga("hook-storm", toys.local("a"), compensated=fall), "")
    stage.clocks.pass_time(saga.deadline_at - stage.models.database_now(), saga.pk)

    for _ in range(50):
        office.deliver()

    assert len(office.bugs) == 2, "it was tried, sent on once by the error callback, and left to the sweep"
