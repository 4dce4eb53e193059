"""A saga that leaves out its first steps begins as cheaply as a plain list, and as if it had entered them."""

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from sagas import engine, models
from sagas.engine import pacing, transport
from sagas.testing import memory_transport
from tests.sagas import harness
from tests.sagas.sample_app import saga as toys

pytestmark = pytest.mark.django_db(transaction=True)


def begin(declared, *facts):
    with transaction.atomic():
        items = [(f"{declared.name}-{n}", {"yes": one} if declared.inputs else {})
                 for n, one in enumerate(facts)]  # fmt: skip
        return engine.begin_many(declared, items)


def events(saga):
    told = models.Event.objects.filter(saga=saga).order_by("id")
    return [(one.kind, one.subject, one.from_state, one.to_state, one.actor) for one in told]


def test_it_takes_no_more_statements_than_a_plain_list(broker):
    with CaptureQueriesContext(connection) as plain:
        begin(toys.ONE, *range(20))
    with CaptureQueriesContext(connection) as left_out:
        begin(toys.FIRST_LEFT_OUT, *[False] * 20)

    assert len(left_out) == len(plain)


def test_what_was_left_out_is_told_and_the_rest_is_done(broker):
    (saga,) = begin(toys.FIRST_LEFT_OUT, False)

    assert (saga.position, saga.epoch, saga.dispatches) == (1, 1, 1)
    assert events(saga)[:2] == [
        ("saga.begun", "", "", "running", "system"),
        ("step.skipped", "a", "pending", "skipped", "engine"),
    ]
    assert models.Event.objects.get(saga=saga, kind="step.skipped").data == {"facts": {"yes": False}}
    first = saga.steps.get(position=0)
    assert (first.state, first.attempts) == ("skipped", 0)
    assert first.finished_at is not None
    broker.deliver_all()
    saga.refresh_from_db()
    assert saga.state == "completed"


def test_of_many_each_begins_with_what_its_own_facts_say(broker):
    sagas = begin(toys.FIRST_LEFT_OUT, True, False, True, False)

    assert [saga.position for saga in sagas] == [0, 1, 0, 1]
    broker.deliver_all()
    for saga in sagas:
        saga.refresh_from_db()
        first = saga.steps.get(position=0)
        assert (saga.state, first.state) == ("completed", "done" if saga.facts["yes"] else "skipped")


def test_while_its_queue_is_full_it_stands_in_the_line_behind_what_it_left_out(rows):
    full = memory_transport.MemoryTransport(inline=harness.always, full=harness.always)
    with transport.use(full):
        pacing.look("toys")
        sagas = begin(toys.FIRST_LEFT_OUT, *[False] * 5)
        assert full.sent == []
        assert {(saga.in_line_for, saga.position, saga.epoch) for saga in sagas} == {("toys", 1, 0)}

        engine.sweep()
        full.deliver_all()

    assert not models.SagaInstance.objects.exclude(state="completed").exists()
