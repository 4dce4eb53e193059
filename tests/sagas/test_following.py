"""Who follows the event log reads what there is when a turn begins; the rest is for the next turn."""

import contextlib
import threading
import time

import pytest
from django.db import connection, transaction

from sagas import engine, eventlog, tracing
from sagas.engine import following
from tests.sagas import harness
from tests.sagas.sample_app import saga as toys
from tests.support import collector as collectors

pytestmark = pytest.mark.usefixtures("rows")

SECONDS = 5
"""So long a turn may last: enough for hundreds of batches."""

FEW = 3
"""Batches of a turn, however busy it is: up to the mark of the last one, a new mark, and up to that."""

FOLLOWERS = {
    "metrics": lambda: engine.fold_metrics(until=time.monotonic() + SECONDS),
    "logs": lambda: eventlog.run(until=time.monotonic() + SECONDS),
    "traces": lambda: tracing.run(seconds=SECONDS),
}


@pytest.fixture(params=list(FOLLOWERS))
def turn(request, broker, settings):
    """One turn of a follower, which has followed before."""
    settings.SAGAS_LOG_EVENTS = True
    with collectors.running() as running:
        settings.SAGAS_OTLP_ENDPOINT = running.url
        FOLLOWERS[request.param]()
        yield FOLLOWERS[request.param]
    tracing._exporter.cache_clear()


@pytest.fixture
def batches(monkeypatch):
    """What is done after each batch that is read; in the end, how many there were."""
    read, then, real = [], [], following.batch

    @contextlib.contextmanager
    def counted(name, **options):
        with real(name, **options) as found:
            yield found
        read.append(found)
        for do in then:
            do()

    monkeypatch.setattr(following, "batch", counted)
    return read, then


def test_a_steady_stream_of_events_does_not_keep_it(turn, batches):
    read, then = batches
    then.append(lambda: harness.begin(toys.ONE))
    harness.begin(toys.ONE)

    turn()

    assert 0 < len(read) <= FEW


def test_it_does_not_ask_again_and_again_whether_a_transaction_has_ended(turn, batches):
    read, _ = batches
    wrote, may_commit = threading.Event(), threading.Event()

    def late():
        with transaction.atomic():
            harness.begin(toys.ONE)
            wrote.set()
            assert may_commit.wait(60)
        connection.close()

    thread = threading.Thread(target=late)
    thread.start()
    try:
        assert wrote.wait(60)
        harness.begin(toys.ONE)

        turn()

        assert 0 < len(read) <= FEW
    finally:
        may_commit.set()
        thread.join()
