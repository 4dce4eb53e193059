"""Each live saga of the list says why it goes no further just now, for one price whatever the page holds."""

import datetime

import pytest
from django.db import connection, transaction
from django.test import utils

from sagas import engine, models
from sagas.console import families, waiting
from tests.sagas.console import admin_client
from tests.sagas.sample_app import saga as toys

pytestmark = pytest.mark.usefixtures("rows")

LIST = "/admin/sagas/sagainstance/"
AGO = datetime.timedelta(minutes=5)


def said(saga, awaited=lambda _saga, _step: ""):
    saga.refresh_from_db()
    waiting.attach([saga], awaited)
    return saga.waits


def test_a_step_that_has_begun_says_for_what_it_waits_and_until_when():
    saga = admin_client.waiting()

    words = said(saga)

    until = saga.steps.get(name="w").wait_until
    assert words.startswith("w waits for an answer from outside until <time")
    assert until.isoformat() in words
    assert said(saga, lambda _saga, step: {"w": "PIX"}[step]).startswith("w waits for PIX until <time")


def test_an_approval_waits_for_a_person():
    assert said(admin_client.asked()).startswith("ok waits for a person's yes or no until <time")


def test_what_is_tried_again_says_which_attempt_comes_and_when():
    saga = admin_client.under_way(toys.ONE_REMOTE, "2x flake a, do a, completed", 1)
    models.SagaInstance.objects.filter(pk=saga.pk).update(
        dispatched_at=None, wake_at=models.database_now() + AGO
    )

    words = said(saga)

    assert words.startswith("a: attempt 2 of 3, in "), words


def test_a_provider_that_is_out_is_named_with_since_when():
    saga = admin_client.waiting()
    models.SagaInstance.objects.filter(pk=saga.pk).update(parked_for="world", dispatched_at=None)
    since = models.database_now() - AGO
    models.Circuit.objects.create(name="world", opened_at=since, failing_since=since, failures=3)

    words = said(saga)

    assert words.startswith("w: world is out since <time")
    assert since.isoformat() in words


def test_a_queue_without_a_worker_is_named():
    saga = admin_client.under_way(toys.LOCAL, "do a, do b, do c, completed", 1)
    now = models.database_now()
    models.Queue.objects.create(name="toys", probed_at=now, unanswered_since=now - AGO)
    models.SagaInstance.objects.filter(pk=saga.pk).update(dispatched_at=now)

    assert said(saga).endswith("no worker on toys")


def test_of_steps_at_once_each_says_it_for_itself():
    saga = admin_client.play(toys.AT_ONCE_WAIT, "do a, begin w")

    assert "w waits for an answer from outside" in said(saga)


def test_what_has_ended_or_needs_a_person_waits_for_nothing():
    for saga in (admin_client.attention(), admin_client.play(toys.ONE, "do a, completed")):
        assert said(saga) == ""


def test_the_list_shows_it_with_the_age_of_what_lives():
    saga = admin_client.waiting()

    text = admin_client.text(admin_client.viewer().get(LIST))

    assert "w waits for an answer from outside until" in text
    assert "…" in text
    admin_client.act(engine.hold, saga, actor="olga", reason="wait")
    assert "held since" in admin_client.text(admin_client.viewer().get(LIST))


def test_it_costs_the_same_for_one_saga_as_for_ten():
    rows = [admin_client.waiting() for _ in range(10)]
    counts = []
    for some in (rows[:1], rows):
        with utils.CaptureQueriesContext(connection) as captured:
            waiting.attach(some)
        counts.append(len(captured))

    assert counts == [2, 2]


def plan(sql):
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off")
        cursor.execute(f"EXPLAIN {sql}")
        return "\n".join(row[0] for row in cursor)


def test_the_steps_of_a_page_and_the_longest_waiting_are_read_by_an_index():
    rows = [admin_client.waiting() for _ in range(3)]
    with utils.CaptureQueriesContext(connection) as captured:
        waiting.attach(rows)
        list(families.longest_waiting()[:8])

    (steps,) = [one["sql"] for one in captured if 'FROM "sagas_step"' in one["sql"]]
    (called,) = [one["sql"] for one in captured if "ORDER BY" in one["sql"] and "attention" in one["sql"]]
    assert "step_once_per_saga" in plan(steps) or "step_name_once_per_saga" in plan(steps)
    assert "saga_by_state" in plan(called)


def test_the_longest_waiting_stands_first_by_the_moment_that_is_shown():
    older, newer = admin_client.attention(), admin_client.stuck()
    for saga, minutes in ((older, 1), (newer, 30)):
        since = models.database_now() - datetime.timedelta(minutes=minutes)
        saga.attention = {**saga.attention, "since": since.isoformat()}
        saga.save()

    viewer = admin_client.viewer()

    assert [saga.pk for saga in viewer.get(LIST).context["attention"]] == [newer.pk, older.pk]
    assert [saga.pk for saga, _about in viewer.get("/admin/").context["waiting"]] == [newer.pk, older.pk]
    assert "for 30 min" in admin_client.text(viewer.get("/admin/"))
