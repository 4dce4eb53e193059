"""A session that is not the one that was spoken with before, as behind a pooler: no saga is turned for it."""

import pytest
from django.db import connection

from sagas import database, engine, models
from sagas.testing import clocks
from tests.sagas import harness, rules
from tests.sagas.sample_app import functions
from tests.sagas.sample_app import saga as toys

MISLED = {
    "a statement that another client has prepared here": [
        "PREPARE _pg3_0 AS SELECT 1", "PREPARE _pg3_0 AS SELECT 2",
    ],
    "a statement that was prepared on another connection": ["EXECUTE prepared_elsewhere"],
    "a cursor that was declared on another connection": ["FETCH NEXT FROM declared_elsewhere"],
    "a plan of before a migration": [
        "CREATE TEMPORARY TABLE shelf (a int)", "PREPARE planned AS SELECT * FROM shelf", "EXECUTE planned",
        "ALTER TABLE shelf ADD b int", "EXECUTE planned",
    ],
}  # fmt: skip

said = MISLED["a statement that was prepared on another connection"]
"""What a step's function says to PostgreSQL; nothing, once the pooler is set up for it."""


def say():
    with connection.cursor() as cursor:
        for statement in said:
            cursor.execute(statement)


def saying(function):
    def says(*, key):
        say()
        return function(key=key)

    return says


ACTION = toys.saga("misled-do", toys.remote("a"), toys.local("b", do=saying(functions.make)))
UNDO = toys.saga("misled-undo", toys.local("a", undo=saying(functions.unmake)), toys.local("b"))
HOOK = toys.saga("misled-hook", toys.local("a"), on_completed=saying(functions.completed))
REMOTE = toys.saga("misled-remote", toys.remote("a", **toys.ASK, do=saying(functions.book)))


@pytest.fixture(params=MISLED)
def misled(request, monkeypatch):
    monkeypatch.setattr(f"{__name__}.said", MISLED[request.param])


def tried(broker, saga, *, times):
    for _ in range(times):
        broker.deliver_all()
        clocks.skip()
        engine.sweep()
    broker.deliver_all()
    saga.refresh_from_db()


@pytest.mark.usefixtures("misled")
@pytest.mark.django_db(transaction=True)
def test_each_such_error_is_known_by_what_postgresql_says():
    with pytest.raises(Exception, match=r"prepared statement|cursor|cached plan") as caught:
        say()

    assert database.is_misled(caught.value)
    connection.close()


@pytest.mark.usefixtures("misled")
def test_a_step_that_meets_it_is_tried_again_without_spending_an_attempt(broker, monkeypatch):
    saga = harness.begin(ACTION)
    tried(broker, saga, times=2 * saga.definition.retry.attempts)

    row = saga.steps.get(name="b")
    assert (saga.state, row.state) == ("running", "pending")
    assert harness.kinds(saga, "b").count("step.late") > saga.definition.retry.attempts

    monkeypatch.setattr(f"{__name__}.said", [])
    harness.drive(broker, saga)

    assert saga.state == "completed"
    rules.check(saga)


@pytest.mark.parametrize(
    ("declared", "script", "during", "ends"),
    [
        (UNDO, "do a, fail b", "compensating", "compensated"),
        (HOOK, "", "running", "completed"),
        (REMOTE, "", "running", "completed"),
    ],
    ids=["an undo", "its owner's hook", "a remote step's own rows"],
)
def test_neither_is_a_saga_turned_nor_a_person_called_wherever_it_comes(
    broker, monkeypatch, declared, script, during, ends
):
    saga = harness.begin(declared, script)
    tried(broker, saga, times=saga.definition.retry.attempts + 3)

    assert saga.state == during
    assert not models.Event.objects.filter(saga=saga, data__kind="bug").exists()

    monkeypatch.setattr(f"{__name__}.said", [])
    harness.drive(broker, saga)

    assert saga.state == ends
    rules.check(saga)
