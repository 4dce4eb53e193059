"""Die at the first commit, the second, the n-th, until a run no longer notices: it ends as if nothing was.

By default at every third one, `make thorough` at each.

D1: state and the intent to send are one transaction. D4: a restart finishes every saga.
"""

import contextlib
import uuid

import pytest
from django.db import DatabaseError

from sagas import Approval, engine, models
from sagas.engine import transport
from sagas.testing import clocks, crashes, memory_transport
from tests.sagas import harness, rules
from tests.sagas.sample_app import saga as toys

DIES = {
    "dies before it": {"before": True},
    "dies after it, and its message comes again": {"before": False, "redeliver": True},
}
LOSES_THE_DATABASE = {
    "loses the database before it": {"before": True, "dead": False},
    "loses the database after it": {"before": False, "dead": False},
}


def tell(saga):
    # The event has one id however often its sender has to repeat it.
    engine.receive(source="world", event_id=f"told {saga.pk}", key=f"{saga.pk}.w", facts={"settled": True})


def cancel(saga):
    engine.cancel(saga.pk, actor="customer", reason="changed my mind")


def approve(saga):
    engine.approve(saga.pk, "review", actor="alice")


def refuse(saga):
    engine.refuse(saga.pk, "review", actor="alice", reason="too risky")


SCENARIOS = {
    "it goes well": (toys.MIXED, "", None, "completed"),
    "the last step is refused": (toys.MIXED, "9x fail d", None, "compensated"),
    "an answer is lost, then an undo's": (toys.MIXED, "lose b, 9x fail c, lose undo b", None, "compensated"),
    "it waits, and is told": (toys.WAIT, "9x begin w", tell, "completed"),
    "it waits, and is cancelled": (toys.BLIND_WAIT, "9x begin w", cancel, "compensated"),
    "the pivot's answer is lost": (toys.PIVOTAL, "lose p, flake s", None, "completed"),
}

REVIEW = Approval("review", permission="toys.review", limit=toys.HOUR, lapse="refuse")
REVIEWED = toys.saga("toy-reviewed", toys.local("a"), toys.remote("b"), REVIEW, toys.remote("c"))
BESIDE_BLIND_WAIT = toys.saga(
    "toy-beside-blind-wait",
    toys.local("a"),
    toys.at_once("all", toys.waits("w"), toys.local("b")),
    toys.local("c"),
)

STAGES = {
    "at once, undone in reverse": (toys.AT_ONCE_REVERSE, "9x fail d", None, "compensated"),
    "at once, an answer is lost, then an undo's": (
        toys.AT_ONCE_FIRST, "lose b, 9x fail c, lose undo b", None, "compensated",
    ),
    "beside a wait that is told": (toys.AT_ONCE_WAIT, "9x begin w", tell, "completed"),
    "beside a wait that is cancelled": (BESIDE_BLIND_WAIT, "9x begin w", cancel, "compensated"),
    "back through one stage after the other": (toys.AT_ONCE_TWICE, "9x fail p", None, "compensated"),
    "back through a choice": (toys.CHOICE, "9x fail d", None, "compensated", {"yes": False}),
    "an approval that is given": (REVIEWED, "", approve, "completed"),
    "an approval that is refused": (REVIEWED, "", refuse, "compensated"),
}  # fmt: skip


@harness.both_ways_in_full
@harness.every_commit_in_full
@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("crash", DIES)
def test_a_worker_that_dies_at_a_commit_changes_nothing_but_the_time_it_takes(
    rows, crash, scenario, inline, every
):
    commits = harness.commits(f"{scenario}, {crash}", every)
    at_commits(commits, *SCENARIOS[scenario], **DIES[crash], inline=inline)


@pytest.mark.parametrize(
    ("crash", "inline"),
    [
        pytest.param(crash, inline, marks=() if inline else pytest.mark.thorough)
        for crash, inline in zip(DIES, [False, True], strict=True)
    ],
    ids=["one by one", "inline"],
)
@harness.every_commit_in_full
@pytest.mark.parametrize("scenario", STAGES)
def test_nor_does_one_that_dies_in_a_saga_with_stages(rows, crash, scenario, inline, every):
    commits = harness.commits(f"{scenario}, {crash}", every)
    at_commits(commits, *STAGES[scenario], **DIES[crash], inline=inline)


@harness.both_ways_in_full
@harness.every_commit_in_full
@pytest.mark.parametrize("scenario", ["the last step is refused", "the pivot's answer is lost"])
@pytest.mark.parametrize("crash", LOSES_THE_DATABASE)
def test_a_worker_that_loses_the_database_at_a_commit_changes_no_more(rows, crash, scenario, inline, every):
    commits = harness.commits(f"{scenario}, {crash}", every)
    at_commits(commits, *SCENARIOS[scenario], **LOSES_THE_DATABASE[crash], inline=inline)


def at_commits(commits, *scenario, **crash):
    """Die at each of these, until a run no longer comes so far."""
    commit = next(commit for commit in commits if not run(*scenario, commit=commit, **crash))
    assert commit > 5, "there are more commits than that: it was never tried"


def run(saga, script, act, ends, inputs=None, *, commit, before, inline, dead=True, redeliver=False):
    """One run that crashes at that commit; whether it came that far."""
    broker = memory_transport.MemoryTransport(redeliver=redeliver, inline=harness.always if inline else None)
    key = str(uuid.uuid4())
    with transport.use(broker), crashes.crash_at(commit, before=before, dead=dead) as plan:
        with survived():
            harness.begin(saga, script, key=key, inputs=inputs)
        instance = models.SagaInstance.objects.filter(key=key).first()
        if instance is None:
            assert before, "its commit went well, and it is not there"
            return plan.met
        for _ in range(300):
            instance.refresh_from_db()
            if instance.finished_at and not broker.waiting:
                break
            with survived():
                if act and instance.state == "running" and instance.steps.filter(state="waiting").exists():
                    act(instance)
                elif not broker.deliver():
                    clocks.skip()
                    engine.sweep()
        where = f"crash at commit {commit}, {instance.events.values_list('kind', 'subject')}"
        assert instance.state == ends, where
        rules.check(instance)
        assert broker.bugs == [], where
        return plan.met


@contextlib.contextmanager
def survived():
    """The process is started anew, or goes on with the next message."""
    with contextlib.suppress(crashes.Crash, DatabaseError):
        yield
