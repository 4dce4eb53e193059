"""What functions and hooks may answer and raise: what cannot be recorded is a bug and shown as one."""

import datetime
import logging
import uuid

import pytest
from django.db import OperationalError

from sagas import engine, models
from sagas.console.models import Consent
from sagas.declaration import registry
from sagas.engine import transport
from sagas.testing import memory_transport
from tests.sagas import harness, rules
from tests.sagas.sample_app import functions
from tests.sagas.sample_app import saga as toys

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


LOCAL = toys.saga("function-local", toys.local("a"), toys.local("x", do=answer, undo=functions.unmake))
REMOTE = toys.saga("function-remote", toys.local("a"), toys.remote("x", do=answer, undo=functions.cancel))
ASKED = toys.saga("function-asked", toys.local("a"), toys.remote("x", ask=answer))
GIVES = toys.saga("function-gives", toys.local("a", outputs=["mark"]))
RAISES = toys.saga("function-raises", toys.local("a"), toys.remote("x", do=raise_it))
LOCAL_RAISES = toys.saga("function-local-raises", toys.local("a"), toys.local("x", do=raise_it))


def run(broker, declared, script, **answer):
    saga = harness.begin(declared, script)
    answers[str(saga.pk)] = answer.get("answer")
    harness.drive(broker, saga)
    assert broker.bugs == []
    return saga


@pytest.mark.parametrize("what", ANSWERS)
@pytest.mark.parametrize("declared", [LOCAL, REMOTE], ids=str)
def test_an_answer_that_cannot_be_kept_is_a_bug_of_the_function(broker, declared, what):
    saga = run(broker, declared, "", answer=ANSWERS[what])

    assert (saga.state, saga.failure["kind"], saga.failure["step"]) == ("compensated", "bug", "x")
    assert saga.steps.get(name="x").attempts == 1, "R3: a bug is not tried again"
    rules.check(saga)


def test_so_is_an_answer_of_ask_that_cannot_be_kept(broker):
    saga = run(broker, ASKED, "lose x", answer={"at": object()})

    assert (saga.state, saga.failure["kind"]) == ("compensated", "bug")
    rules.check(saga)


def test_so_is_an_answer_that_lacks_an_output(broker):
    saga = run(broker, GIVES, "")

    assert (saga.state, saga.failure["kind"]) == ("compensated", "bug")
    assert "mark" in saga.failure["message"]


ERRORS = {
    "no more memory": (MemoryError(), "unknown", "transient"),
    "words that PostgreSQL refuses": (RuntimeError("a\0b \ud800"), "bug", "bug"),
    "no words": (RuntimeError(), "bug", "bug"),
    "too many words": (RuntimeError("x" * 100_000), "bug", "bug"),
}


@pytest.mark.parametrize("what", ERRORS)
def test_whatever_a_function_raises_is_recorded(broker, what, caplog):
    error, remotely, locally = ERRORS[what]
    # Half a character cannot be sent from one process of pytest-xdist to the other, as a log would be.
    caplog.set_level(logging.CRITICAL, "sagas")

    remote = run(broker, RAISES, "", answer=error)
    local = run(broker, LOCAL_RAISES, "", answer=error)

    assert (remote.state, remote.failure["kind"]) == ("compensated", remotely)
    assert (local.state, local.failure["kind"]) == ("compensated", locally)
    assert 0 < len(remote.failure["message"]) < 600
    assert "\0" not in remote.failure["message"]
    for saga in (remote, local):
        rules.check(saga)


@pytest.mark.parametrize("long", [0, 493])
def test_no_fact_that_the_saga_was_given_is_told_by_a_bug(broker, caplog, long):
    declared = registry.add(
        toys.saga(
            "function-secret",
            toys.remote("x", do=tell_all, inputs=["token", "long"]),
            inputs=["token", "long"],
        )
    )
    saga = harness.begin(declared, inputs={"token": "tok_4242", "long": long})
    harness.drive(broker, saga)

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
    Consent.objects.create(saga_id=uuid.uuid4(), intervention="retry", actor="nobody", reason="none")


@pytest.mark.parametrize("script", ["", "die x"], ids=["at once", "after a worker died with it"])
def test_a_local_function_whose_rows_are_refused_at_the_commit_has_met_a_bug(broker, simulated_death, script):
    declared = toys.saga("function-hole", toys.local("a"), toys.local("x", do=first_dies_then(leave_a_hole)))
    saga = run(broker, declared, script)

    assert saga.state == "compensated"
    assert (saga.failure["kind"], saga.failure["error"]) == ("bug", "IntegrityError")
    rules.check(saga)


@pytest.mark.parametrize("last", [True, False])
def test_so_has_one_that_shares_its_task_with_a_remote_step_which_is_done(rows, last):
    behind = [] if last else [toys.local("c")]
    declared = toys.saga("function-hole", toys.remote("b"), toys.local("x", do=leave_a_hole), *behind)
    broker = memory_transport.MemoryTransport(inline=harness.always)
    with transport.use(broker):
        saga = run(broker, declared, "")

    assert saga.state == "compensated"
    assert (saga.failure["step"], saga.failure["error"]) == ("x", "IntegrityError")
    assert harness.books(saga)["b"] == (1, 1), "it was done, and undone"
    assert [type(message).__name__ for message in broker.sent] == ["StepMessage", "ChainError"]
    rules.check(saga)


def first_dies_then(function):
    def do(*, key):
        functions.WORLD.do(key, local=True)
        function(key=key)

    return do


def test_so_has_the_last_step_where_the_rows_are_those_of_the_owner(broker):
    declared = toys.saga("hook-hole", toys.local("a"), toys.remote("b"), on_completed=leave_a_hole)
    saga = run(broker, declared, "")

    assert saga.state == "compensated"
    assert (saga.failure["step"], saga.failure["error"]) == ("b", "IntegrityError")
    assert harness.books(saga) == {"a": (1, 1), "b": (1, 1)}


class NoBeds(functions.Refused):
    """Every bed is taken.

    For people who read the code.
    """


@pytest.mark.parametrize(
    ("error", "said"),
    [(NoBeds(), "Every bed is taken."), (NoBeds("until Friday"), "until Friday"), (KeyError(), "KeyError")],
    ids=["by its docstring", "by its words", "by its name"],
)
def test_an_error_that_says_nothing_is_told_by_its_meaning(broker, error, said):
    saga = run(broker, RAISES, "", answer=error)

    assert saga.failure["message"].startswith(said)


# --- Hooks ----------------------------------------------------------------------------------------


def fall(*, key):
    raise LookupError("no such order")


@pytest.mark.parametrize("last", [toys.local("b"), toys.remote("b"), toys.remote("b", **toys.ASK)])
def test_a_saga_whose_owner_cannot_complete_it_needs_a_person_and_ends_when_that_is_mended(broker, last):
    """Nobody takes an order back that was delivered because there is a bug in what comes after it."""
    trouble = [LookupError("no such order")]

    def fail_once(*, key):
        if trouble:
            raise trouble.pop()
        functions.completed(key=key)

    saga = run(broker, toys.saga("hook-completed", toys.local("a"), last, on_completed=fail_once), "")
    assert saga.state == "needs_attention"
    assert (saga.failure["kind"], saga.failure["error"]) == ("bug", "LookupError")
    assert "no such order" in saga.attention["why"]

    engine.resume(saga.pk, seen=engine.look(saga.pk), actor="operator", reason="mended")
    harness.drive(broker, saga)

    assert saga.state == "completed"
    assert harness.books(saga) == {"a": (1, 0), "b": (1, 0)}
    rules.check(saga)


def test_a_saga_that_its_owner_cannot_complete_may_be_undone(broker):
    declared = toys.saga("hook-unwanted", toys.local("a"), toys.remote("b"), on_completed=fall)
    saga = run(broker, declared, "")

    engine.compensate(
        saga.pk, seen=engine.look(saga.pk), actor="operator", reason="the customer went elsewhere"
    )
    harness.drive(broker, saga)

    assert saga.state == "compensated"
    assert harness.books(saga) == {"a": (1, 1), "b": (1, 1)}


def begin_without_inputs(*, key):
    engine.begin(toys.ONE, key=key, inputs={"nobody": "asked"}, actor="owner")


REFUSED = toys.saga("hook-refused", toys.local("a"), toys.remote("b"), on_completed=begin_without_inputs)


def test_an_owner_that_the_engine_refuses_is_met_with_as_any_other_that_fails(broker):
    saga = run(broker, REFUSED, "")

    assert saga.state == "needs_attention"
    assert (saga.failure["kind"], saga.failure["error"]) == ("bug", "MissingFacts")


def begin_the_next(*, key):
    if models.SagaInstance.objects.filter(key=key).count() < 3:
        engine.begin(FOLLOWED, key=key, inputs={}, actor="owner")


FOLLOWED = toys.saga("hook-followed", toys.local("a"), on_completed=begin_the_next)


def test_an_owner_may_begin_the_next_saga_of_the_same_key_when_one_has_ended(broker):
    saga = run(broker, FOLLOWED, "")

    broker.deliver_all()
    followers = models.SagaInstance.objects.filter(key=saga.key)
    assert [follower.state for follower in followers] == ["completed"] * 3


def test_a_saga_whose_owner_cannot_take_it_back_needs_a_person(broker):
    declared = toys.saga("hook-compensated", toys.local("a"), toys.local("b"), on_compensated=fall)
    saga = run(broker, declared, "do a, fail b")

    assert saga.state == "needs_attention"
    assert "no such order" in saga.attention["why"]
    assert harness.kinds(saga)[-2:] == ["undo.failed", "saga.attention"]


def test_a_saga_needs_a_person_though_the_hook_that_says_so_fails(broker, caplog):
    declared = toys.saga("hook-attention", toys.remote("a"), on_attention=fall)
    saga = run(broker, declared, "fail a, fail undo a")

    assert saga.state == "needs_attention"
    assert "no such order" in caplog.text


def test_a_hook_that_fails_stops_no_other_saga(broker):
    declared = toys.saga("hook-stuck", toys.local("a"), on_compensated=fall)
    stuck, other = harness.begin(declared, ""), harness.begin(toys.ONE, "")
    broker.waiting.clear()

    # Nothing of either was begun when their deadlines pass, and the sweep is to end them both.
    harness.clocks.pass_time(declared.deadline)
    sent = len(broker.sent)
    for _ in range(20):
        harness.engine.sweep()
        broker.deliver_all()
    stuck.refresh_from_db()
    other.refresh_from_db()

    assert (stuck.state, other.state) == ("needs_attention", "compensated"), "T2"
    assert "no such order" in stuck.attention["why"]
    assert stuck.wake_at > harness.models.database_now()
    assert len(broker.sent) - sent <= 4 + len(registry.queues()), "no storm: only probes were sent"


def starve(*, key):
    raise OperationalError("canceling statement due to lock timeout, said the test")


def test_a_hook_that_gets_no_lock_stops_no_other_saga_and_calls_nobody(broker):
    declared = toys.saga("hook-starved", toys.local("a"), on_compensated=starve)
    starved, other = harness.begin(declared, ""), harness.begin(toys.ONE, "")
    broker.waiting.clear()
    harness.clocks.pass_time(declared.deadline)

    harness.engine.sweep()

    for saga in (starved, other):
        saga.refresh_from_db()
    assert (starved.state, other.state) == ("running", "compensated")
    assert starved.wake_at > harness.models.database_now()


def test_a_person_is_called_though_the_hook_that_says_so_gets_no_lock(broker, caplog):
    declared = toys.saga("hook-deaf", toys.remote("a"), on_attention=starve)
    saga = run(broker, declared, "fail a, fail undo a")

    assert saga.state == "needs_attention"


def test_a_saga_whose_owner_failed_to_take_it_back_ends_when_that_is_mended(broker, monkeypatch):
    trouble = [LookupError("no such order")]

    def fail_once(*, key):
        if trouble:
            raise trouble.pop()
        functions.compensated(key=key)

    saga = harness.begin(toys.saga("hook-mended", toys.local("a"), on_compensated=fail_once), "")
    harness.clocks.pass_time(saga.deadline_at - harness.models.database_now(), saga.pk)
    harness.engine.sweep()
    saga.refresh_from_db()
    assert saga.state == "needs_attention"

    engine.resume(saga.pk, seen=engine.look(saga.pk), actor="operator", reason="mended")
    for _ in range(3):
        harness.engine.sweep()

    saga.refresh_from_db()
    assert saga.state == "compensated", "its deadline was over: it does not go forward after all"
    rules.check(saga, {"a": (0, 0)})


def test_a_message_that_always_fails_makes_no_storm(broker):
    saga = harness.begin(toys.saga("hook-storm", toys.local("a"), on_compensated=fall), "")
    harness.clocks.pass_time(saga.deadline_at - harness.models.database_now(), saga.pk)

    for _ in range(50):
        broker.deliver()

    assert len(broker.bugs) == 2, "it was tried, sent on once by the error callback, and left to the sweep"
