"""What a saga does: the same scripts on two stages, the declaration alone and the engine on PostgreSQL.

The third stage, a real worker, is in tests/acceptance/test_engine_scripts.py.
"""

import datetime

import pytest

from sagas import rehearsing, testing
from tests.sagas import harness, rules, scripts
from tests.sagas.sample_app import saga as toys

LONG_AGO = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)

PLAYED = [
    *((saga, {}, script) for saga, script in (*scripts.ALL, *scripts.ONE_OF_THEM_FAILS)),
    *scripts.CONDITIONS,
    *scripts.CHILDREN,
]
every_script = pytest.mark.parametrize(
    ("saga", "inputs", "script"),
    PLAYED,
    ids=[f"{saga.name}{inputs or ''}: {script}" for saga, inputs, script in PLAYED],
)


@every_script
def test_the_declaration_alone_says_so(saga, inputs, script):
    assert testing.rehearse(saga, script, inputs) == testing.lines(script)


@harness.both_ways_in_full
@every_script
def test_the_engine_does_so(rows, saga, inputs, script, inline):
    in_memory = harness.InMemory(inline=inline)

    assert in_memory.play(saga, script, inputs) == testing.lines(script)

    rules.check(in_memory.player.saga)
    if inline:
        the_record_explains_the_end(saga)


def the_record_explains_the_end(saga):
    """Its events, played with its declaration, lead to the first rest that it had, whatever happened."""
    (record,) = rehearsing.records(name=saga.name, since=LONG_AGO, limit=2)
    assert record.left_out == ""
    rehearsed = rehearsing.rehearse(record, saga)
    assert (rehearsed.would_end, rehearsed.assumed) == (record.ended, ())


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("[do a", "do not match"),
        ("do a]", "do not match"),
        ("do a | do b", "do not match"),
        ("[do a | [do b]]", "do not match"),
        ("deliver{do x", "do not match"),
        ("deliver{do x]", "do not match"),
        ("do a, {do x}", "name of a step"),
        ("deliver{do x, completed}", "follows from what is done"),
    ],
)
def test_a_script_that_makes_no_sense_is_refused(script, why):
    with pytest.raises(ValueError, match=why):
        testing.lines(script)


def test_a_childs_lines_are_lines_of_its_parent():
    short = "do a, deliver{3x flake x, tell y no | cancel, c{do i}}, retry deliver.1"

    assert testing.lines(short) == [
        "do a", *["flake deliver.0.x"] * 3, "tell deliver.0.y no", "cancel deliver.1", "do deliver.1.c.0.i",
        "retry deliver.1",
    ]  # fmt: skip


def test_a_list_that_a_step_puts_out_is_as_long_as_the_script_says():
    script = "do a, deliver{do x, do y | do x, do y | do x, do y}, do z, completed"

    assert testing.rehearse(toys.EACH, script) == testing.lines(script)
    assert testing.rehearse(toys.EACH, script, {"parcels": ["only one"]}) != testing.lines(script)
