"""A deployment rolls out: workers are asked to go, and old and new declarations are side by side."""

import signal

import pytest

from sagas.declaration import registry
from sagas.testing import clocks
from tests.acceptance import processes
from tests.sagas import harness, rules
from tests.sagas.conftest import rows, transactional_db  # noqa: F401 - fixtures
from tests.sagas.sample_app import newer, older, recorder
from tests.sagas.sample_app import saga as toys
from tests.support import waiting

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("rows"), pytest.mark.timeout(180)]

LEASE = toys.HELD.steps[1].timeout * 2.5
"""The step's timeout and the margin: no lease is longer."""


@pytest.fixture
def both_declared():
    """Here, where sagas of both deployments begin; and nowhere else."""
    for saga in (older.ROLLED, newer.ROLLED, newer.NEW):
        registry.add(saga)


def test_workers_of_two_deployments_leave_to_each_other_what_they_do_not_know(both_declared, tmp_path):
    """Neither declares the other's sagas: each meets them at its queues, and in its sweeps."""
    places = {deployment: tmp_path / deployment for deployment in ("older", "newer")}
    for place in places.values():
        place.mkdir()
    with (
        processes.worker(places["older"], children=1, TOYS_DEPLOYMENT="older"),
        processes.worker(places["newer"], children=1, TOYS_DEPLOYMENT="newer"),
    ):
        for place in places.values():
            waiting.until(lambda place=place: " ready." in log(place), "it listens")
        sagas = [harness.begin(saga) for saga in (older.ROLLED, newer.ROLLED, newer.NEW) for _ in range(4)]
        failing = [harness.begin(saga, "fail c") for saga in (older.ROLLED, newer.ROLLED)]
        see_to_their_end(*sagas, *failing)

    for saga in sagas:
        assert saga.state == "completed"
        assert recorder.lines(saga.pk) == [f"do {step.name}" for step in saga.definition.steps]
        assert set(saga.steps.values_list("attempts", flat=True)) == {1}, "to be met by a stranger costs none"
        rules.check(saga)
    for saga in failing:
        done = [step.name for step in saga.definition.steps[:-1]]
        assert saga.state == "compensated"
        assert recorder.lines(saga.pk) == [
            *(f"do {step}" for step in done), "fail c", *(f"undo {step}" for step in reversed(done)),
        ]  # fmt: skip
        rules.check(saga)
    # Each met what it did not know, and took it for no error.
    for place in places.values():
        assert "is left to another worker" in log(place)
        assert "raised unexpected" not in log(place)
    assert "unregistered task" in log(places["older"])


def see_to_their_end(*sagas):
    """Wait for it. What a sweeper put off that does not know it waits no longer."""
    put_off = 0

    def ended():
        nonlocal put_off
        put_off += 1
        for saga in sagas:
            saga.refresh_from_db()
            if saga.finished_at is None and put_off % 20 == 0 and saga.dispatched_at is None:
                clocks.pass_time(LEASE, saga.pk)
        return all(saga.finished_at for saga in sagas)

    waiting.until(ended, "all of them end", seconds=90)


# --- Workers that are asked to go -----------------------------------------------------------------


def test_a_worker_that_is_asked_to_go_ends_its_step_and_one_that_is_cut_off_leaves_it_to_its_lease(tmp_path):
    with processes.worker(tmp_path) as worker:
        saga = held()
        worker.send_signal(signal.SIGTERM)
        waiting.until(lambda: "Warm shutdown" in log(tmp_path), "it goes")
        waits = harness.begin(toys.ONE)
        worker.send_signal(signal.SIGTERM)  # As impatient people do: it changes nothing.
        assert worker.poll() is None, "it waits for its step"
        recorder.note(saga.pk, "go")
        assert worker.wait(60) == 0
    assert saga.steps.get(name="b").state == "done"
    assert recorder.lines(waits.pk) == [], "it took nothing that came after it was asked to go"

    # SIGQUIT after SIGTERM: what a service manager does whose patience is over, if it is not SIGKILL.
    said = log(tmp_path).count("Warm shutdown")  # Once, or twice if the second signal came quickly.
    with processes.worker(tmp_path) as worker:
        to_its_end(saga, waits)
        cut_off = held()
        worker.send_signal(signal.SIGTERM)
        waiting.until(lambda: log(tmp_path).count("Warm shutdown") > said, "it goes")
        worker.send_signal(signal.SIGQUIT)
        worker.wait(60)
    step = cut_off.steps.get(name="b")
    assert (step.state, step.lease_until is not None) == ("running", True), "nobody knows what became of it"
    recorder.note(cut_off.pk, "go")

    with processes.worker(tmp_path):
        # Its message comes back at once, and finds that the lease is another's.
        waiting.until(lambda: log(tmp_path).count(" ready.") == 3, "the next one listens")
        clocks.pass_time(LEASE, cut_off.pk)
        to_its_end(cut_off)
    assert recorder.lines(saga.pk) == ["do a", "hold b", "go", "do b", "do c"]
    assert set(saga.steps.values_list("attempts", flat=True)) == {1}
    assert recorder.lines(cut_off.pk) == ["do a", "hold b", "go", "ask b", "hold b", "do b", "do c"]
    rules.check(saga)
    rules.check(cut_off)


def held():
    """A saga in the middle of a provider's call."""
    saga = harness.begin(toys.HELD)
    waiting.until(lambda: "hold b" in recorder.lines(saga.pk), "the provider is at it")
    return saga


def to_its_end(*sagas):
    def ended():
        for saga in sagas:
            saga.refresh_from_db()
        return all(saga.finished_at for saga in sagas)

    waiting.until(ended, "they end")
    assert {saga.state for saga in sagas} == {"completed"}


def log(place):
    path = place / "worker.log"
    return path.read_text(errors="replace") if path.exists() else ""
