"""A process that answers people: no request waits for the broker, and its trouble is told once a minute."""

import logging
import subprocess
import sys
import threading
import uuid

import amqp
import pytest

from saga_project import celery
from saga_project.local import runfile
from sagas import haste
from sagas.declaration import states
from sagas.engine import transport
from tests.support import waiting

REFUSED = amqp.PreconditionFailed(
    "PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue 'toys' in vhost '/': received none but"
    " current is the value 'classic'"
)


class Carries:
    """Takes a message when it is free to, or raises what it is told to."""

    def __init__(self):
        self.error = None
        self.sent = []
        self.asked = 0
        self.free = threading.Event()
        self.free.set()

    def send(self, dispatch):
        self.asked += 1
        assert self.free.wait(60)
        if self.error:
            raise self.error
        self.sent.append(dispatch.messages[0].queue)

    def backlog(self, *queues):
        return len(queues)


@pytest.fixture
def carries():
    carries = Carries()
    yield carries
    carries.free.set()


@pytest.fixture
def hasty(carries):
    return haste.Hasty(carries, threads=2)


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 1000.0

        def monotonic(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(haste, "time", clock)
    return clock


@pytest.fixture
def told(caplog):
    caplog.set_level(logging.INFO, "sagas.haste")
    return lambda: [record.getMessage() for record in caplog.records]


def dispatch(queue="toys"):
    return transport.Dispatch(
        saga_id=uuid.uuid4(),
        epoch=1,
        name="toy",
        direction=states.Direction.FORWARD,
        messages=(transport.Message(step="a", queue=queue),),
    )


def test_a_broker_that_takes_messages_is_asked_each_time(carries, hasty, told):
    hasty.send(dispatch())
    hasty.send(dispatch("world"))

    assert (carries.sent, hasty.backlog("toys", "world"), told()) == (["toys", "world"], 2, [])


@pytest.mark.parametrize("error", [TimeoutError("hm"), amqp.AMQPError("hm"), haste.OperationalError("hm")])
def test_one_that_did_not_take_a_message_is_left_alone(carries, hasty, told, clock, error):
    carries.error = error
    for _ in range(3):
        with pytest.raises(transport.NotSent):
            hasty.send(dispatch())
    with pytest.raises(transport.NotSent):
        hasty.backlog("toys")

    assert carries.asked == 1
    (line,) = told()
    assert line.startswith("The broker takes no messages; sagas are begun, and the sweep sends them on.")
    assert line.endswith(f"{type(error).__name__}: hm")


def test_later_one_message_tries_for_all(carries, hasty, told, clock):
    carries.error = TimeoutError()
    with pytest.raises(transport.NotSent):
        hasty.send(dispatch())
    clock.now += haste.LEFT_ALONE_S
    with pytest.raises(transport.NotSent):
        hasty.backlog("toys")  # It is no message, and what it would tell is of no use.
    with pytest.raises(transport.NotSent):
        hasty.send(dispatch())
    with pytest.raises(transport.NotSent):
        hasty.send(dispatch())
    assert carries.asked == 2

    clock.now += haste.LEFT_ALONE_S
    carries.error = None
    hasty.send(dispatch())
    hasty.send(dispatch())

    assert carries.sent == ["toys", "toys"]
    assert told()[1:] == ["The broker takes messages again; 1 were left to the sweep"]


def test_no_request_waits_for_one_that_does_not_answer_and_what_it_takes_at_last_is_sent(
    carries, hasty, told, monkeypatch
):
    monkeypatch.setattr(haste, "WAIT_S", 0.01)
    carries.free.clear()
    with pytest.raises(transport.NotSent):
        hasty.send(dispatch())
    with pytest.raises(transport.NotSent):
        hasty.send(dispatch("world"))
    assert carries.asked == 1, "the second one did not even try"

    carries.free.set()

    waiting.until(lambda: "takes messages again" in told()[-1], "the first one was taken")
    assert carries.sent == ["toys"]
    hasty.send(dispatch("world"))


def test_of_a_queue_that_is_none_of_ours_one_line_a_minute_says_what_to_do(carries, hasty, told, clock):
    carries.error = REFUSED
    for _ in range(5):
        with pytest.raises(transport.NotSent):
            hasty.send(dispatch())
        clock.now += haste.LEFT_ALONE_S
    (line,) = told()
    assert "rabbitmqctl delete_queue toys" in line

    carries.error = None
    hasty.send(dispatch("world"))
    assert carries.sent == ["world"], "the broker's other queues are in no trouble"
    carries.error = REFUSED
    clock.now += haste.SAID_EVERY_S
    with pytest.raises(transport.NotSent):
        hasty.send(dispatch())
    assert told() == [line, line]


def test_the_engine_goes_on_without_a_word_of_its_own(carries, hasty, caplog):
    carries.error = REFUSED
    with transport.use(hasty):
        for _ in range(3):
            transport.send(dispatch())
        assert transport.backlog("toys") == 0

    (record,) = [record for record in caplog.records if record.levelno >= logging.INFO]
    assert record.exc_info is None


def test_a_bug_of_ours_says_nothing_of_the_broker(carries, hasty):
    carries.error = TypeError("not JSON")
    with pytest.raises(TypeError):
        hasty.send(dispatch())

    carries.error = None
    hasty.send(dispatch())
    assert carries.sent == ["toys"]


@pytest.mark.integration
def test_a_process_that_answers_people_sends_so():
    """In a process of its own: it is meant for the rest of a process's life."""
    told = (
        "from saga_project import asgi, celery; from sagas.engine import transport;"
        "print(type(transport.current()).__name__, celery.app.conf.task_publish_retry_policy['interval_max'])"
    )

    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, cwd=runfile.ROOT)

    assert done.stdout.split() == ["Hasty", "0"], done.stderr
    assert celery.app.conf.task_publish_retry_policy["interval_max"], "and no other"
