"""Many small worlds gone wrong, each by its seed. `SIMULATOR_SEEDS=1000-1999` soaks, `=17` has one again."""

import os

import pytest

from tests.sagas import harness, simulator

REPLAY = 'SIMULATOR_SEEDS={seed} make pytest ARGS="tests/sagas/test_simulator.py -x"'


def seeds():
    first, _, last = os.environ.get("SIMULATOR_SEEDS", "1-8").partition("-")
    return range(int(first), int(last or first) + 1)


@harness.both_ways
@pytest.mark.parametrize("seed", seeds())
def test_whatever_goes_wrong_every_rule_holds(rows, seed, inline):
    simulation = simulator.Simulation(seed, inline=inline)
    try:
        simulation.run()
    except BaseException:
        print("\n".join(simulation.trace[-80:]))
        print(f"\nseed {seed} went wrong; to have it again:\n  {REPLAY.format(seed=seed)}")
        raise
