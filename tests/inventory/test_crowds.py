"""Many at once, each with a connection of its own to PostgreSQL: nobody oversells or waits forever."""

import concurrent.futures
import random
import threading

import pytest
from django.db import connection, transaction

from inventory import audit, models, services
from tests.inventory import examples

pytestmark = pytest.mark.django_db(transaction=True)

CROWD = 12
PATIENCE_S = 60


def crowd(task, jobs):
    """Run the task for every job, as many as there are people at a time, all from one starting shot."""
    start = threading.Barrier(CROWD)

    def person(mine):
        try:
            start.wait(PATIENCE_S)
            return [task(job) for job in mine]
        finally:
            connection.close()

    shares = [jobs[n::CROWD] for n in range(CROWD)]
    with concurrent.futures.ThreadPoolExecutor(CROWD) as people:
        done = [people.submit(person, share) for share in shares]
        return [result for share in done for result in share.result(PATIENCE_S)]


def tries(function, **given):
    """Whether the function, in a transaction of its own, did not refuse."""
    try:
        with transaction.atomic():
            function(**given)
    except services.Refused:
        return False
    return True


def test_the_last_ones_are_sold_once():
    examples.stock(mug=30)

    outcomes = crowd(
        lambda n: tries(services.reserve, key=f"{n}.reserve-stock", lines=examples.lines(mug=1)), range(120)
    )

    assert outcomes.count(True) == 30
    assert examples.levels("mug") == (0, 30, 0)
    assert list(audit.within()) == []


def test_orders_of_several_lines_in_any_order_do_not_wait_for_each_other_forever():
    skus = [f"sku-{n}" for n in range(6)]
    examples.stock(**dict.fromkeys(skus, 10_000))
    dice = random.Random(20260314)
    orders = [dice.sample(skus, 4) for _ in range(240)]

    # PostgreSQL ends a deadlock with an error, which would come out here (I4).
    outcomes = crowd(
        lambda n: tries(
            services.reserve,
            key=f"{n}.reserve-stock",
            lines=[line for sku in orders[n] for line in examples.lines(**{sku: 1})],
        ),
        range(len(orders)),
    )

    assert all(outcomes)
    assert sum(examples.levels(sku)[1] for sku in skus) == 4 * len(orders)


def test_reserving_releasing_and_shipping_at_once_neither_makes_nor_loses_goods():
    skus = ["mug", "poster", "plant"]
    examples.stock(mug=20, poster=20, plant=20)
    dice = random.Random(7)
    jobs = []
    for n in range(60):
        wanted = {sku: dice.randint(1, 2) for sku in dice.sample(skus, 2)}
        words = ["reserve", "reserve", dice.choice(["release", "ship"]), "release"]
        jobs += [(word, f"{n}.reserve-stock", wanted) for word in words]
    dice.shuffle(jobs)

    def act(job):
        word, key, wanted = job
        given = {"lines": examples.lines(**wanted)} if word == "reserve" else {}
        return tries(getattr(services, word), key=key, **given)

    crowd(act, jobs)

    for sku in skus:
        assert sum(examples.levels(sku)) == 20
    assert list(audit.within()) == []


def test_one_key_from_many_sides_is_one_reservation():
    examples.stock(mug=100)

    outcomes = crowd(
        lambda _: tries(services.reserve, key="a.reserve-stock", lines=examples.lines(mug=2)),
        range(CROWD * 2),
    )

    assert all(outcomes)
    assert examples.levels("mug") == (98, 2, 0)
    assert models.Movement.objects.filter(kind=models.Kind.RESERVED).count() == 1
