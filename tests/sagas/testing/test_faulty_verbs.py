"""Functions that break a promise, one each: every one is caught, by themselves and within a saga."""

import re
import threading
import unittest
import uuid

import pytest
from django.db import Error, connection, transaction
from django.db.models import F

from examples import trip_booking
from saga_project.local import runfile
from sagas import HOUR, Retry, Saga, Step, Wait
from sagas.testing import trials
from tests.sagas.sample_app import models as toys
from tests.sagas.sample_app import recorder


class Refused(Exception):
    """No, and asking again will not change that."""


class Busy(Exception):
    """Not now."""


class Unknown(Exception):
    """It may have happened."""


# --- A shelf: what is right ---------------------------------------------------------------------------


def furnish():
    toys.Toy.objects.create(key="shelf", made=10)


def shelf():
    """What stands."""
    return {"on the shelf": toys.Toy.objects.get(key="shelf").made}


def move(by):
    toys.Toy.objects.filter(key="shelf").update(made=F("made") + by)


@transaction.atomic
def take(*, key):
    toy, _ = toys.Toy.objects.select_for_update().get_or_create(key=key)
    if toy.closed:
        raise Refused("it was put back before it was taken")
    if not toy.made:
        move(-1)
        toys.Toy.objects.filter(key=key).update(made=1)
    return {"taken": False}


@transaction.atomic
def put_back(*, key):
    toy, _ = toys.Toy.objects.select_for_update().get_or_create(key=key)
    if toy.made and not toy.closed:
        move(1)
    toys.Toy.objects.filter(key=key).update(closed=True)


def look_up(*, key):
    return {"taken": False} if toys.Toy.objects.filter(key=key, made=1, closed=False).exists() else None


def send(*, key):
    toys.Toy.objects.get_or_create(key=key, defaults={"made": 1})


# --- What is wrong ------------------------------------------------------------------------------------


def take_each_time(*, key):
    move(-1)


@transaction.atomic
def put_back_what_is_there(*, key):
    toy = toys.Toy.objects.select_for_update().get(key=key)
    if toy.made and not toy.closed:
        move(1)
    toys.Toy.objects.filter(key=key).update(closed=True)


@transaction.atomic
def put_back_and_forget(*, key):
    if toys.Toy.objects.filter(key=key, made=1).delete()[0]:
        move(1)


@transaction.atomic
def put_back_each_time(*, key):
    toy, _ = toys.Toy.objects.select_for_update().get_or_create(key=key)
    if toy.made:
        move(1)
    toys.Toy.objects.filter(key=key).update(closed=True)


def put_nothing_back(*, key):
    toys.Toy.objects.update_or_create(key=key, defaults={"closed": True})


def take_before_the_key_is_kept(*, key):
    toy = toys.Toy.objects.filter(key=key).first()
    if toy and toy.closed:
        raise Refused("it was put back before it was taken")
    if not toy:
        move(-1)
        toys.Toy.objects.create(key=key, made=1)


def take_under_another_key(*, key):
    take(key=uuid.uuid4().hex)


def take_beside_the_transaction(*, key):
    recorder.execute("UPDATE sample_app_toy SET made = made - 1 WHERE key = 'shelf'")
    toys.Toy.objects.create(key=key, made=1)


def take_back_here(*, key):
    if toys.Toy.objects.filter(key=key, made=1).update(made=0):
        move(1)


def look_away(*, key):
    return None


class Provider:
    """Who is called, and may not be heard."""

    @staticmethod
    def take(key):
        take(key=key)


def take_that_takes_silence_for_no(*, key):
    try:
        Provider.take(key)
    except TimeoutError:
        raise Refused("nobody answered") from None


def take_that_takes_silence_for_not_yet(*, key):
    try:
        Provider.take(key)
    except TimeoutError:
        raise Busy("nobody answered") from None


def take_by_provider(*, key):
    try:
        Provider.take(key)
    except TimeoutError:
        raise Unknown("nobody answered") from None


def told_once(*, key):
    return {"taken": True}


def told_each_time(*, key):
    move(-1)
    return {"taken": True}


OUTSIDE = {f"{__name__}.Provider.take": TimeoutError}


def saga(do=take, undo=put_back, *, ask=None, remote=True, wait=None, kind="compensatable"):
    return Saga(
        name="shelf",
        steps=[
            Step("take", do, undo=undo if kind == "compensatable" else None, ask=ask, remote=remote,
                 wait=wait, kind=kind),
            Step("send", send, kind="retriable", remote=True),
        ],
        retry=Retry(on=[Busy]),
        refused=[Refused],
        unknown=[Unknown],
    )  # fmt: skip


def subject(**more):
    return {"inputs": {}, "furnish": furnish, "world": shelf, **more}


def failing(found, name):
    """The report of the trial with that name, which fails."""
    (one,) = [trial for trial in found if str(trial) == name]
    with pytest.raises(trials.Failed) as failed:
        one.run()
    return str(failed.value)


WAITS = Wait(until="taken", limit=HOUR)
ALL = {
    "right": (saga(), {}),
    "asked": (saga(ask=look_up), {}),
    "a provider": (saga(take_by_provider), {"outside": OUTSIDE}),
}


@pytest.mark.parametrize("name", ALL)
def test_what_is_right_keeps_every_promise(rows, name):
    declared, more = ALL[name]
    kept = []
    for trial in trials.each_verb(declared, **subject(**more)):
        if trial.place.name == "take":
            trial.run()
            kept.append(trial.promise)

    assert len(kept) == 9 + (name != "right")


BROKEN = {
    "not idempotent": (
        saga(take_each_time), {},
        "take: is done once", "The world is not as when it is done once (do, do were called):",
        "a worker dies behind take", "It is completed, and the world is not as when nothing goes wrong:",
    ),
    "an undo that raises where it finds nothing": (
        saga(undo=put_back_what_is_there), {},
        "take: undo finds nothing", "undo raised DoesNotExist: Toy matching query does not exist.",
        "take is refused", "undo of take raised DoesNotExist, which the declaration does not name",
    ),
    "no tombstone": (
        saga(undo=put_back_and_forget), {},
        "take: undo comes first", "The world is not as before (undo, do were called):",
        "take arrives when it was undone", "It is compensated, and the world is not as it was:",
    ),
    "an undo that undoes twice": (
        saga(undo=put_back_each_time, wait=WAITS), {},
        "take: is undone once", "The world is not as before (do, undo, undo were called):",
        "take is told after the saga was cancelled and undone",
        "It is compensated, and the world is not as it was:",
    ),
    "an undo that forgets": (
        saga(undo=put_nothing_back), {},
        "take: is undone", "The world is not as before (do, undo were called):",
        "a worker dies behind take, and it is cancelled",
        "It is compensated, and the world is not as it was:",
    ),
    "an effect before its key is kept": (
        saga(take_before_the_key_is_kept), {},
        "take: a crash", "its process died after commit 1 of do, and do was called again):",
        "a process dies after each commit",
        "It is completed, and the world is not as when nothing goes wrong:",
    ),
    "an effect before its key is kept, at the same time": (
        saga(take_before_the_key_is_kept), {},
        "take: at the same time", "do was called while do stood before commit 1):",
        "take outlives its lease", "",
    ),
    "the key is ignored": (
        saga(take_under_another_key), {},
        "take: is done once", "The world is not as when it is done once (do, do were called):",
        "a worker dies behind take", "It is completed, and the world is not as when nothing goes wrong:",
    ),
    "a local function beside its transaction": (
        saga(take_beside_the_transaction, take_back_here, remote=False), {},
        "take: is rolled back", "The world is not as before (do was rolled back):",
        "a worker dies behind take", "It is completed, and the world is not as when nothing goes wrong:",
    ),
    "an ask that does not know": (
        saga(ask=look_away), {},
        "take: is asked", "ask says that it never happened, and it has.",
        "take is done and its answer is lost", "",
    ),
    "a time-out that is taken for a refusal": (
        saga(take_that_takes_silence_for_no), {"outside": OUTSIDE},
        "take: no answer comes",
        "do got no answer and raised Refused: that is a refusal, and it may have happened.",
        f"each call of {__name__}.Provider.take is done, and its answer is lost",
        "It is compensated, and should be completed.",
    ),
    "a time-out that is taken for a refusal, and nothing undoes it": (
        saga(take_that_takes_silence_for_no, kind="pivot"), {"outside": OUTSIDE},
        "take: no answer comes",
        "do got no answer and raised Refused: that is a refusal, and it may have happened.",
        f"each call of {__name__}.Provider.take is done, and its answer is lost",
        "It is compensated, and should be completed.",
    ),
    "a time-out that is taken for not yet": (
        saga(take_that_takes_silence_for_not_yet), {"outside": OUTSIDE},
        "take: no answer comes", "name it in `unknown`, for it may have happened.",
        f"each call of {__name__}.Provider.take is done, and its answer is lost", "",
    ),
    "a callback that is handled twice": (
        saga(wait=WAITS), {"told": {"take": told_each_time}},
        "", "",
        "take is told twice, and once more under another event id",
        "It is completed, and the world is not as when nothing goes wrong:",
    ),
}  # fmt: skip
"""The saga, which promise it breaks, what is said, and the same within a saga; there some break nothing."""


@pytest.mark.parametrize("name", [name for name in BROKEN if BROKEN[name][2]])
def test_a_broken_promise_is_caught(rows, name):
    declared, more, promise, said, _, _ = BROKEN[name]

    report = failing(trials.each_verb(declared, **subject(**more)), promise)

    assert said in report
    assert f"What is promised: {trials.promises.SAID[promise.partition(': ')[2]]}" in report


def take_and_lose_the_database(*, key):
    """Beside another call, which has a thread of its own, its session ends."""
    if threading.current_thread() is not threading.main_thread():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")
    return take(key=key)


def test_a_promise_that_could_not_be_tried_is_not_said_to_be_kept(rows):
    found = trials.each_verb(saga(take_and_lose_the_database), **subject())
    beside = next(trial for trial in found if str(trial) == "take: at the same time")

    with pytest.raises(Error, match="terminating connection"):
        beside.run()


@pytest.mark.parametrize("name", [name for name in BROKEN if BROKEN[name][5]])
def test_and_so_it_is_within_a_saga(rows, name):
    declared, more, _, _, trial, said = BROKEN[name]

    report = failing(trials.each(declared, **subject(**more)), trial)

    assert said in report
    assert "The shortest run that shows it, with " in report


def test_a_callback_that_is_handled_once_may_come_twice(rows):
    found = trials.each(saga(wait=WAITS), kinds=["callbacks"], **subject(told={"take": told_once}))

    for trial in found:
        trial.run()
    assert len(found) == 5


def test_a_run_by_chance_that_fails_is_cut_down_to_the_faults_that_it_takes(rows):
    found = trials.each(saga(take_each_time), chance=60, **subject())

    report = failing(found, "by chance, 60 runs")

    assert (
        "It is completed, and the world is not as when nothing goes wrong:\n  - on the shelf: 9\n" in report
    )
    assert "The shortest run that shows it, with 1 fault:\n" in report


def test_a_world_that_shows_nothing_is_no_world(rows):
    (trial, *_) = trials.each(saga(), inputs={}, furnish=furnish, world=lambda: 0)

    with pytest.raises(trials.Failed, match="the world looks as before"):
        trial.run()


def test_without_a_world_all_rows_of_the_functions_apps_are_looked_at():
    declared = Saga(
        name="guessed",
        inputs=["hotel"],
        steps=[Step("book", trip_booking.book_hotel, undo=trip_booking.cancel, inputs=["hotel"])],
        retry=Retry(on=[]),
        refused=[trip_booking.Taken],
    )  # fmt: skip
    watch = trials.worlds.Watch(None, declared)

    assert watch.guessed
    assert trip_booking.Booking in watch._models


def test_what_never_happens_with_these_inputs_is_skipped(rows):
    declared = Saga(
        name="chosen",
        inputs=["wanted"],
        steps=[
            Step("take", take, undo=put_back, remote=True, when="wanted"),
            Step("send", send, kind="pivot"),
        ],
        retry=Retry(on=[]),
        refused=[Refused],
        unknown=[Unknown],
    )
    found = trials.each(declared, **subject(inputs={"wanted": False}, world=[toys.Toy]))
    (trial,) = [trial for trial in found if str(trial) == "a worker dies behind take"]

    with pytest.raises(unittest.SkipTest, match="never comes to happen"):
        trial.run()


@pytest.mark.django_db
def test_in_a_transaction_that_is_rolled_back_there_are_no_trials():
    (trial, *_) = trials.each(saga(), **subject())

    with pytest.raises(RuntimeError, match="transaction=True"):
        trial.run()


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"kinds": ["all"]}, "no kinds of trials"),
        ({"told": {"nobody": {}}}, "has no steps"),
        ({"inputs": {"what": 1}}, "is begun with"),
    ],
)
def test_what_makes_no_sense_is_said_at_once(wrong, why):
    with pytest.raises(ValueError, match=why):
        trials.each(saga(), **subject(**wrong))


PAGE = runfile.ROOT / "docs" / "testing-your-saga.md"


@pytest.mark.parametrize(
    ("number", "found", "name"),
    [(0, trials.each, "a worker dies behind take"), (1, trials.each_verb, "take: is done once")],
)
def test_the_page_shows_the_report_as_it_is(rows, number, found, name):
    report = failing(found(saga(take_each_time), **subject()), name)

    shown = re.findall(r"```text\n(.*?)\n```", PAGE.read_text(), re.DOTALL)[number]
    assert report == shown


def test_the_page_names_all_that_is_tried():
    text = PAGE.read_text()

    assert [kind for kind in trials.KINDS if kind != "goes well" and f"`{kind}`" not in text] == []
    assert [promise for promise in trials.PROMISES if f"\n| {promise} |" not in text] == []
