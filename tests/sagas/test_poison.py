"""Orders that the bank fails whatever happens, and one outage: the good ones do not wait for the bad ones."""

import os

import pytest

from benchmarks import poison

REPLAY = 'POISON_SEEDS={seed} make pytest ARGS="tests/sagas/test_poison.py -x"'


def seeds():
    """`POISON_SEEDS=1-50` soaks, `=17` has one again."""
    first, _, last = os.environ.get("POISON_SEEDS", "3-4").partition("-")
    return range(int(first), int(last or first) + 1)


@pytest.mark.parametrize(("share", "orders"), [(0.04, 100), (0.1, 150), (0.2, 40)])
@pytest.mark.parametrize("seed", seeds())
def test_no_good_order_waits_more_than_ten_seconds_beside_a_bank_that_works(rows, seed, share, orders):
    campaign = poison.Campaign(seed, share=share, orders=orders, rate=6.0)

    result = campaign.run()

    print(result, REPLAY.format(seed=seed))
    assert result.longest_wait_s <= 10
    assert result.good_turned_back == 0, "R4"
    assert result.poisoned_left == 0, "T2: they spend their attempts, and end"
