"""What a saga does: the same scripts on two stages, the declaration alone and the engine on PostgreSQL.

The third stage, a real worker, is in tests/acceptance/test_engine_scripts.py.
"""

import pytest

from sagas import testing
from tests.sagas import harness, rules, scripts

PLAYED = [
    *((saga, {}, script) for saga, script in (*scripts.ALL, *scripts.ONE_OF_THEM_FAILS)),
    *scripts.CONDITIONS,
]
every_script = pytest.mark.parametrize(
    ("saga", "inputs", "script"),
    PLAYED,
    ids=[f"{saga.name}{inputs or ''}: {script}" for saga, inputs, script in PLAYED],
)


@every_script
def test_the_declaration_alone_says_so(saga, inputs, script):
    assert testing.rehearse(saga, script, inputs) == testing.lines(script)


@harness.both_ways
@every_script
def test_the_engine_does_so(rows, saga, inputs, script, inline):
    in_memory = harness.InMemory(inline=inline)

    assert in_memory.play(saga, script, inputs) == testing.lines(script)

    rules.check(in_memory.player.saga)
