"""`manage.py saga rehearse`: a new declaration is played with what happened to sagas of yesterday.

That a record explains the end of its own saga, whatever happened to it, is in test_scripts.py.
"""

import dataclasses
import datetime
import io

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from sagas import models
from sagas.declaration import registry
from tests.sagas import harness
from tests.sagas.sample_app import saga as toys


def rehearse(*words):
    """What is printed, and the exit code."""
    out, code = io.StringIO(), 0
    try:
        call_command("saga", "rehearse", *words, stdout=out)
    except SystemExit as ended:
        code = ended.code
    return out.getvalue(), code


def trip(*steps, version=1, **rest):
    return toys.saga("toy-trip", *(steps or [toys.remote("a"), toys.remote("b")]), version=version, **rest)


def next_version(declared, **changes):
    return registry.add(dataclasses.replace(declared, version=declared.version + 1, **changes))


def impatient(declared):
    return next_version(declared, retry=dataclasses.replace(declared.retry, attempts=2))


def test_who_would_have_been_given_up_is_named_with_where_the_ways_part(rows):
    in_memory = harness.InMemory(inline=True)
    in_memory.play(trip(), "do a, do b, completed")
    in_memory.play(trip(), "do a, 2x flake b, do b, completed")
    unlucky = in_memory.player.saga
    impatient(trip())
    before = models.Event.objects.count()

    told, code = rehearse("--name", "toy-trip")

    assert code == 1
    (line,) = [line for line in told.splitlines() if str(unlucky.pk) in line]
    assert "completed" in line
    assert "compensated" in line
    assert line.endswith("do b | undo b")
    assert "1 of 2 sagas would end otherwise with toy-trip v2." in told
    assert models.Event.objects.count() == before


@pytest.mark.parametrize(
    ("script", "change", "ends"),
    [
        ("do a, fail b, undo b, undo a, compensated", lambda old: old.steps[:1], "compensated | completed"),
        ("do a, do b, completed", lambda old: [*old.steps, toys.approval()], "completed | waits"),
        ("do a, break b, undo b, undo a, compensated", lambda old: [old.steps[1], old.steps[0]], ""),
    ],
    ids=["what failed is left out", "a new approval", "another order"],
)
def test_steps_may_come_go_and_change_places(rows, script, change, ends):
    harness.InMemory(inline=True).play(trip(), script)
    next_version(trip(), steps=change(trip()))

    told, code = rehearse("--name", "toy-trip")

    assert code == (1 if ends else 0)
    for end in filter(None, ends.split(" | ")):
        assert end in told


def test_what_nobody_had_asked_is_taken_to_go_well_and_is_named(rows):
    harness.InMemory(inline=True).play(trip(), "do a, do b, completed")
    next_version(trip(), steps=[*trip().steps, toys.remote("c")])

    told, code = rehearse("--name", "toy-trip")

    assert code == 0
    assert "Taken to go well, because nobody had asked: do c (1)." in told


def test_a_callback_and_a_cancellation_are_played_again(rows):
    in_memory = harness.InMemory(inline=True)
    waits = trip(toys.remote("a"), toys.waits("w"))
    in_memory.play(waits, "do a, begin w, tell w no, undo w, undo a, compensated")
    in_memory.play(waits, "do a, begin w, cancel, undo w, undo a, compensated")
    next_version(waits, steps=[toys.remote("first"), *waits.steps])

    told, code = rehearse("--name", "toy-trip")

    assert code == 0
    assert "0 of 2 sagas" in told


def meets_a_bug(*, key):
    raise ZeroDivisionError(key)


def test_one_whose_end_its_record_does_not_explain_is_left_out_and_named(rows):
    hooked = trip(on_completed=meets_a_bug)
    harness.InMemory(inline=True).play(hooked, "do a, do b, needs attention")
    impatient(hooked)

    told, code = rehearse("--name", "toy-trip")

    assert (code, "0 of 0 sagas" in told) == (0, True)
    assert "played with its own declaration it ends as" in told
    assert "and not as needs attention" in told


def test_only_those_since_then_and_at_most_so_many(rows):
    in_memory = harness.InMemory(inline=True)
    for _ in range(3):
        in_memory.play(trip(), "do a, do b, completed")

    assert "of 2 sagas" in rehearse("--name", "toy-trip", "--limit", "2")[0]
    tomorrow = datetime.datetime.now(datetime.UTC).date() + datetime.timedelta(days=1)
    assert "of 0 sagas" in rehearse("--name", "toy-trip", "--since", str(tomorrow))[0]


def test_a_saga_that_is_not_declared_is_an_error(rows):
    with pytest.raises(CommandError, match="not declared"):
        call_command("saga", "rehearse", "--name", "nobody")


def test_nothing_could_be_written(rows, monkeypatch):
    """The transaction is read-only: PostgreSQL says so, whoever tries."""
    harness.InMemory(inline=True).play(trip(), "do a, do b, completed")
    said = []

    def asks(record):
        with connection.cursor() as cursor:
            cursor.execute("SHOW transaction_read_only")
            said.extend(cursor.fetchone())

    monkeypatch.setattr("sagas.rehearsing._check", asks)
    rehearse("--name", "toy-trip")

    assert said == ["on"]
