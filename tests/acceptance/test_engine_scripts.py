"""The same scripts as in tests/sagas/test_scripts.py, all at once, on a real worker over a real broker.

Of those in which somebody acts, the ones where the saga then stands or waits: a worker that is at work
does not wait for the line.
"""

import itertools

import pytest

from sagas import testing
from sagas.testing import scripts as reading
from tests.acceptance import processes
from tests.sagas import harness, rules, scripts
from tests.sagas.conftest import rows, transactional_db  # noqa: F401 - fixtures


def can_be_played(script):
    lines = testing.lines(script)
    return all(
        before in reading.STANDS or before.startswith("begin ")
        for before, line in itertools.pairwise(lines)
        if reading.is_act(line)
    )


@harness.both_ways_in_full
@pytest.mark.usefixtures("rows")
@pytest.mark.timeout(300)
def test_a_real_worker_does_so(tmp_path, inline):
    playable = [(saga, script) for saga, script in scripts.ALL if can_be_played(script)]
    players = harness.RealWorker(patience_s=120)
    # At one service so many fail on purpose that it would be taken for one that is out.
    with processes.worker(tmp_path, SAGAS_CIRCUIT_THRESHOLD="1000", SAGAS_INLINE=str(inline)):
        played = players.play(playable)

    wrong = {
        f"{saga.name}: {script}": lines
        for (saga, script), lines in zip(playable, played, strict=True)
        if lines != testing.lines(script)
    }
    assert len(playable) > 0.7 * len(scripts.ALL), "most scripts can be played by real workers"
    assert wrong == {}
    for player in players.players:
        rules.check(player.saga)
