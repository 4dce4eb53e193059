"""The page that turns a chain into a saga is true: the chain loses its order, and the saga does not."""

import os
import sys
import sysconfig

import pytest

from tests.distribution import chain

pytestmark = pytest.mark.integration

BETWEEN = ("Step 3", "Step 4", "Step 5", "Step 6", "Step 7")
"""What the whole walk runs, and the short one only writes."""


@pytest.fixture
def walker(wheel, tmp_path, valkey):
    path = [str(tmp_path / "site"), sysconfig.get_path("purelib")]
    server, _, _ = os.environ["DATABASE_URL"].rpartition("/")
    with chain.there(
        wheel, tmp_path, python=sys._base_executable, path=path,
        database=f"{server}/postgres", broker=os.environ["BROKER_URL"],
    ) as project:  # fmt: skip
        yield project


@pytest.mark.timeout(400)
@pytest.mark.parametrize("whole", [False, pytest.param(True, marks=pytest.mark.thorough)])
def test_whoever_follows_the_page_loses_an_order_of_the_chain_and_none_of_the_saga(walker, valkey, whole):
    for chapter in chain.chapters():
        chain.follow(walker, chapter, only_write=not whole and chapter.name.startswith(BETWEEN))
        if chapter.name == "How it breaks":
            # Nothing is left of the lost order's chain, wherever one looks.
            assert valkey.llen("celery") == 0
            assert valkey.hlen("unacked") == 0

    assert not whole or "Ran 1 test " in walker.said()
    assert walker.state("B-4") == walker.state("A-4") == "completed"
    assert walker.rows("SELECT count(*) FROM sales_order WHERE state = 'new'") == [(0,)]
    assert set(walker.rows('SELECT "order" FROM outside_charge GROUP BY 1 HAVING count(*) > 1')) == {("A-3",)}
