"""Every way through a stage of three members with one fault on it; `EXPLORER_FAULTS=2` takes a minute."""

import os

import pytest

from sagas import Parallel
from sagas.engine import parallel
from tests.sagas import explorer, harness, simulator
from tests.sagas.sample_app import saga as toys

FAULTS = int(os.environ.get("EXPLORER_FAULTS", "1"))


def test_every_rule_holds_on_every_way_through_a_stage():
    found = explorer.explore(FAULTS)

    assert found.nodes > 1000
    assert {"completed", "compensated"} <= {str(state) for state in found.ends}


PLANTED = {
    "what is at work is not waited for": ("busy_until", lambda work: None, "O2"),
    "what began is not looked for": ("to_undo", lambda work: [], "O1|T5"),
    "one member is enough": (
        "is_done",
        lambda work: any(row.state == "done" for row in work.members(work.stage)),
        "T5",
    ),
    "nothing is due": ("due", lambda work: [], "T2"),
}


@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_fault_is_found_and_told_as_a_timeline(monkeypatch, fault):
    name, planted, rule = PLANTED[fault]
    monkeypatch.setattr(parallel, name, planted)

    with pytest.raises(explorer.Counterexample, match=rule) as found:
        explorer.explore(1)

    timeline = str(found.value).splitlines()[1:]
    assert timeline[0] == "  1. the message of a comes"
    assert 1 < len(timeline) < 20


class Staged(simulator.Simulation):
    """The simulator's world, with nothing in it but stages of three."""

    def _shape(self, number):
        members = [self._step(name, "compensatable") for name in "bcd"]
        stage = Parallel("all", steps=members, undo=self.chance.choice(["together", "reverse"]))
        return toys.saga(
            f"staged-{self.seed}-{number}", self._step("a", "compensatable"), stage,
            self._step("e", "compensatable"), inputs=["yes"],
        )  # fmt: skip


@harness.both_ways
@pytest.mark.parametrize("seed", range(1, 6))
def test_so_does_the_engine_on_postgresql_on_ways_that_chance_takes(rows, seed, inline):
    simulation = Staged(seed, inline=inline)
    try:
        simulation.run()
    except BaseException:
        print("\n".join(simulation.trace[-80:]))
        raise
