"""The customers of the drills and campaigns, before a shop that answers a part of what they ask."""

import asyncio
import time

import httpx
import pytest

from saga_project.local import ledger, load

FATE = next(load.crowd(1))


@pytest.fixture
def customers():
    return load.Customers(
        ledger.Ledger(), shop_url="http://shop", sandbox_url="", token="", seed=1, per_second=1
    )


def shop(request):
    """The second page of its list does not come, and single orders are not to be asked for."""
    assert request.url.path == "/api/v1/orders"
    if "cursor" in request.url.query.decode():
        return httpx.Response(500)
    return httpx.Response(200, json={"results": [{"id": "told"}], "next": "/api/v1/orders?cursor=2"})


async def looked(customers, wanted):
    """What the shop told at one look, after the customer of one order has heard of it."""
    async with httpx.AsyncClient(transport=httpx.MockTransport(shop)) as http:
        found, all_told = await customers._listed(http, load.UNDER_WAY)
        told = load._Told(under_way={}, ended={}, all_told=all_told, began_at=time.time())
        await customers._look_at(http, wanted, told, asyncio.Semaphore(1))
    return found, all_told


def test_what_was_told_before_the_shop_failed_to_answer_counts_and_what_was_not_says_nothing(customers):
    wanted = ledger.Wanted(key="one", fate=FATE, wanted_at=0, customer=1, ids={"not told"}, acknowledged_at=1)

    found, all_told = asyncio.run(looked(customers, wanted))

    assert (found, all_told) == ({"told": {"id": "told"}}, False)
    assert wanted.seen_ended_at is None
