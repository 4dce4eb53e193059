"""An archived saga is found and shown as it was, is told to be archived, and nobody can intervene in it."""

import datetime
import io
import json

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.urls import reverse

from sagas import engine, models
from sagas.console import history
from sagas.engine import archive
from tests.sagas.console import admin_client
from tests.sagas.console.test_api import olga  # noqa: F401 - a fixture
from tests.sagas.sample_app import saga as toys

pytestmark = pytest.mark.usefixtures("rows")

LIVE, ARCHIVED = "/admin/sagas/sagainstance/", "/admin/sagas/archivedsaga/"


@pytest.fixture
def saga():
    """One that was undone."""
    return admin_client.play(toys.LOCAL, "do a, fail b, undo a, compensated")


def move():
    assert archive.run(older_than=datetime.timedelta(0))


def run(*arguments):
    out = io.StringIO()
    call_command("saga", *arguments, stdout=out, stderr=out)
    return out.getvalue()


def test_its_page_tells_what_it_told_before_and_that_it_is_archived(saga):
    viewer = admin_client.viewer()
    before = viewer.get(admin_client.page(saga)).context
    move()

    after = viewer.get(admin_client.page(saga))

    same = ("title", "summary", "attempts", "facts", "event_kinds", "events_all", "shown_state")
    assert {name: after.context[name] for name in same} == {name: before[name] for name in same}
    assert [event.pk for event in after.context["events"]] == [event.pk for event in before["events"]]
    assert 'data-notice="archived"' in after.content.decode()
    assert {offer["refusal"] for offer in after.context["interventions"]}.isdisjoint({""})


def test_its_downloads_hold_what_they_held(saga):
    viewer = admin_client.viewer()
    addresses = [reverse(f"admin:sagas_saga_{kind}", args=[saga.pk]) for kind in ("json", "csv")]
    data, table = (viewer.get(address).content for address in addresses)
    move()

    now_data, now_table = (viewer.get(address).content for address in addresses)

    archived_at = json.loads(now_data).pop("archived_at")
    assert archived_at is not None
    assert {**json.loads(now_data), "archived_at": None} == json.loads(data)
    assert now_table == table


def test_nobody_intervenes_in_it(saga):
    move()
    page = reverse("admin:sagas_saga_intervention", args=[saga.pk, "hold"])
    seen = str(history.read(saga.pk).seen)

    answered = admin_client.supervisor().post(page, {"reason": "why", "seen": seen})

    assert answered.status_code == 409
    assert "in the archive" in answered.content.decode()


def test_it_is_in_a_list_of_its_own_and_found_by_the_search_of_the_other(saga):
    live = admin_client.waiting()
    put_aside = admin_client.act(engine.close, admin_client.attention(), actor="olga", reason="by hand")
    move()
    viewer = admin_client.viewer()

    def listed(address):
        return [one.pk for one in viewer.get(address).context["cl"].result_list]

    assert listed(LIVE) == [live.pk]
    assert listed(ARCHIVED) == [put_aside.pk, saga.pk]
    assert listed(f"{ARCHIVED}?state=closed") == [put_aside.pk]
    assert listed(f"{ARCHIVED}?error=refused") == [put_aside.pk, saga.pk]
    assert listed(f"{ARCHIVED}?error=bug") == []
    assert listed(f"{ARCHIVED}?q={saga.key}") == [saga.pk]
    assert viewer.get(f"{ARCHIVED}{saga.pk}/change/").url == admin_client.page(saga)
    for term in (saga.key, f"{saga.pk}.a"):
        answered = viewer.get(f"{LIVE}?q={term}")
        assert [one.pk for one in answered.context["archived"]] == [saga.pk]
        assert admin_client.page(saga) in answered.content.decode()


def test_only_who_may_see_sagas_sees_archived_ones(saga):
    move()

    assert admin_client.client(admin_client.NOBODY).get(ARCHIVED).status_code == 403


def test_the_api_shows_it_as_it_was(saga, olga):  # noqa: F811
    address = f"/api/v1/sagas/{saga.pk}"
    before, events = olga.get(address).json(), olga.get(f"{address}/events").json()
    move()

    after = olga.get(address).json()

    assert after.pop("archived_at") is not None
    assert {**after, "archived_at": None} == before
    assert olga.get(f"{address}/events").json() == events
    (listed,) = olga.get(f"/api/v1/sagas?archived=true&key={saga.key}&state=compensated").json()["results"]
    assert listed["id"] == str(saga.pk)
    assert olga.get(f"/api/v1/sagas?archived=true&step={listed['step']}x").json()["results"] == []
    assert olga.get(f"/api/v1/sagas?key={saga.key}").json()["results"] == []


def test_the_api_pages_through_its_events(saga, olga):  # noqa: F811
    move()
    ids, address, back = [], f"/api/v1/sagas/{saga.pk}/events?limit=2", None
    while address:
        page = olga.get(address).json()
        ids += [event["id"] for event in page["results"]]
        address, back = page["next"], page["previous"]

    assert ids == [event.pk for event in history.read(saga.pk).events]
    assert [event["id"] for event in olga.get(back).json()["results"]] == ids[-4:-2] or len(ids) % 2


def test_the_api_refuses_to_intervene_in_it(saga, olga):  # noqa: F811
    seen = olga.get(f"/api/v1/sagas/{saga.pk}").json()["seen"]
    move()

    answered = olga.post(
        f"/api/v1/sagas/{saga.pk}/compensate",
        json.dumps({"seen": seen, "reason": "why"}),
        content_type="application/json",
    )

    assert answered.status_code == 409
    assert "in the archive" in answered.json()["detail"]
    assert answered.json()["saga"] == {"id": str(saga.pk), "state": "compensated"}


def test_the_command_moves_shows_exports_verifies_and_brings_back(saga):
    shown = run("show", saga.key)

    assert run("archive", "--older-than", "1d") == "Moved 0 sagas into the archive.\n"
    assert run("archive", "--older-than", "0m", "--limit", "5") == "Moved 1 sagas into the archive.\n"
    assert all(line in run("show", saga.key) for line in shown.splitlines())
    assert run("list") == ""
    assert run("list", "--archived").splitlines()[1].split()[0] == str(saga.pk)
    exported = json.loads(run("export", "--before", "9999-01"))
    assert exported["id"] == str(saga.pk)
    assert json.loads(run("export", saga.key))["events"] == exported["events"]
    assert "is what was archived" in run("verify")
    assert "back in the live tables" in run("restore", str(saga.pk))
    assert models.SagaInstance.objects.filter(pk=saga.pk).exists()
    with pytest.raises(CommandError, match="already"):
        run("restore", str(saga.pk))


def test_the_command_forgets_only_what_is_agreed_to_by_number(saga):
    move()

    with pytest.raises(CommandError, match="Agree with --yes 1"):
        run("forget", "--before", "9999-01")
    with pytest.raises(CommandError, match="it is 1 sagas, not 2"):
        run("forget", "--before", "9999-01", "--yes", "2")
    assert models.ArchivedSaga.objects.exists()

    assert "Forgot 1 sagas." in run("forget", "--before", "9999-01", "--yes", "1")
    assert run("forget", "--before", "9999-01", "--yes", "0") == "There is nothing so old.\n"


@pytest.mark.parametrize("order", ["-ended_at", "-id"])
def test_the_archive_is_filtered_without_reading_what_is_not_wanted(saga, order):
    move()
    filters = ["state", "failed_kind"] if order == "-ended_at" else ["state", "failed_step", "failed_error"]
    for column in filters:
        value = models.ArchivedSaga.objects.values_list(column, flat=True).get()
        assert value
        with transaction.atomic(), connection.cursor() as cursor:
            # A table of one row is read whole, whatever it could be found by.
            cursor.execute("SET LOCAL enable_seqscan = off")
            plan = models.ArchivedSaga.objects.filter(**{column: value}).order_by(order)[:50].explain()

        assert f"Index Cond: (({column})::text = '{value}'::text)" in plan
        assert "Filter: " not in plan
