"""Die at the first commit, the second, the n-th, until a run no longer notices: it ends as if nothing was.

D1: state and the intent to send are one transaction. D4: a restart finishes every saga.
"""

import contextlib
import uuid

import pytest
from django.db import DatabaseError

from sagas import engine, models
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


SCENARIOS = {
    "it goes well": (toys.MIXED, "", None, "completed"),
    "the last step is refused": (toys.MIXED, "9x fail d", None, "compensated"),
    "an answer is lost, then an undo's": (toys.MIXED, "lose b, 9x fail c, lose undo b", None, "compensated"),
    "it waits, and is told": (toys.WAIT, "9x begin w", tell, "completed"),
    "it waits, and is cancelled": (toys.BLIND_WAIT, "9x begin w", cancel, "compensated"),
    "the pivot's answer is lost": (toys.PIVOTAL, "lose p, flake s", None, "completed"),
}


@harness.both_ways
@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("crash", DIES)
def test_a_worker_that_dies_at_a_commit_changes_nothing_but_the_time_it_takes(rows, crash, scenario, inline):
    at_every_commit(*SCENARIOS[scenario], **DIES[crash], inline=inline)


@harness.both_ways
@pytest.mark.parametrize("scenario", ["the last step is refused", "the pivot's answer is lost"])
@pytest.mark.parametrize("crash", LOSES_THE_DATABASE)
def test_a_worker_that_loses_the_database_at_a_commit_changes_no_more(rows, crash, scenario, inline):
    at_every_commit(*SCENARIOS[scenario], **LOSES_THE_DATABASE[crash], inline=inline)


def at_every_commit(*scenario, **crash):
    commit, met = 1, True
    while met:
        met = run(*scenario, commit=commit, **crash)
        commit += 1
    assert commit > 6, "there are more commits than that: it was never tried"


def run(saga, script, act, ends, *, commit, before, inline, dead=True, redeliver=False):
    """One run that crashes at that commit; whether it came that far."""
    broker = memory_transport.MemoryTransport(redeliver=redeliver, inline=harness.always if inline else None)
    key = str(uuid.uuid4())
    with transport.use(broker), crashes.crash_at(commit, before=before, dead=dead) as plan:
        with survived():
            harness.begin(saga, script, key=key)
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
