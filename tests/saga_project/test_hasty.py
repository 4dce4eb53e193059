"""A process that answers people: of a broker in trouble one request finds out, and no other waits."""

import subprocess
import sys
import types

import pytest

from saga_project.local import runfile
from sagas import celery

PRODUCER = types.SimpleNamespace(
    connection=types.SimpleNamespace(connection_errors=(OSError,), channel_errors=(LookupError,))
)


class Broker:
    """Takes a message, or raises what it is told to."""

    def __init__(self):
        self.error = None
        self.asked = 0

    def send(self, producer, name, **options):
        self.asked += 1
        if self.error:
            raise self.error
        return name


@pytest.fixture
def broker():
    return Broker()


@pytest.fixture
def hasty(broker):
    return celery.Hasty(broker.send)


def test_a_broker_that_takes_messages_is_asked_each_time(broker, hasty):
    assert [hasty(PRODUCER, "one"), hasty(PRODUCER, "two")] == ["one", "two"]


@pytest.mark.parametrize("error", [TimeoutError(), LookupError(), celery.OperationalError()])
def test_one_that_did_not_take_a_message_is_left_alone(broker, hasty, error):
    broker.error = error
    with pytest.raises(type(error)):
        hasty(PRODUCER, "one")

    broker.error = None
    with pytest.raises(celery.LeftAlone):
        hasty(PRODUCER, "two")

    assert broker.asked == 1


def test_later_one_message_tries_for_all(broker, hasty, monkeypatch):
    now = 1000.0
    monkeypatch.setattr(celery.time, "monotonic", lambda: now)
    broker.error = TimeoutError()
    with pytest.raises(TimeoutError):
        hasty(PRODUCER, "one")
    now += celery.LEFT_ALONE_S

    def meanwhile(producer, name, **options):
        with pytest.raises(celery.LeftAlone):
            hasty(PRODUCER, "another, at the same time")
        return name

    hasty._send = meanwhile
    assert hasty(PRODUCER, "two") == "two"

    # It took that one, so it is asked each time again.
    hasty._send = broker.send
    broker.error = None
    assert hasty(PRODUCER, "three") == "three"


def test_a_bug_of_ours_says_nothing_of_the_broker(broker, hasty):
    broker.error = TypeError("not JSON")
    with pytest.raises(TypeError):
        hasty(PRODUCER, "one")

    broker.error = None
    assert hasty(PRODUCER, "two") == "two"


@pytest.mark.integration
def test_a_process_that_answers_people_sends_so():
    """In a process of its own: it is meant for the rest of a process's life."""
    told = "from saga_project import asgi, celery; print(type(celery.app.amqp.send_task_message).__name__)"

    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, cwd=runfile.ROOT)

    assert done.stdout.strip() == "Hasty", done.stderr
