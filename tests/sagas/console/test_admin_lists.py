"""The lists put what waits for a person first, find what people look for, and never count to the end."""

import csv
import datetime
import html
import io
import re
import types

import pytest
from django.contrib import admin
from django.contrib.admin.models import CHANGE, LogEntry
from django.db import connection, transaction
from django.test import utils
from django.urls import reverse
from django.utils import translation as languages

from sagas import engine, models
from sagas.console import event_names, failure_groups, health
from sagas.console.admin import charts, paging, saga_list
from sagas.console.models import FailureNote, SavedView
from sagas.engine.kinds import EventKind
from tests.sagas.console import admin_client
from tests.sagas.sample_app import saga as toys

pytestmark = pytest.mark.usefixtures("rows")

LIST = "/admin/sagas/sagainstance/"


def shown(response):
    return [saga.pk for saga in response.context["cl"].result_list]


def test_what_waits_for_a_person_stands_above_the_list_the_oldest_first():
    older, newer = admin_client.attention(), admin_client.stuck()
    admin_client.play(toys.ONE, "do a, completed")
    admin_client.act(engine.close, admin_client.attention(), actor="olga", reason="Settled by hand")

    response = admin_client.viewer().get(LIST)

    assert [saga.pk for saga in response.context["attention"]] == [older.pk, newer.pk]
    assert len(shown(response)) == 4


def test_each_filter_narrows_the_list_to_what_it_says():
    attention, waiting = admin_client.attention(), admin_client.waiting()
    held = admin_client.act(engine.hold, admin_client.waiting(), actor="olga", reason="wait")
    closed = admin_client.act(engine.close, admin_client.stuck(), actor="olga", reason="Settled")
    done = admin_client.play(toys.ONE, "do a, completed")
    viewer = admin_client.viewer()

    for query, expected in {
        "state=needs_attention": {attention.pk},
        "state=running": {waiting.pk, held.pk},
        "state=held": {held.pk},
        "state=closed": {closed.pk},
        "state=live": {attention.pk, waiting.pk, held.pk},
        "state=completed": {done.pk},
        "step=c": {attention.pk},
        "error=refused": {attention.pk},
        "definition=toy-one.1": {done.pk},
        "begun=1h": {attention.pk, waiting.pk, held.pk, closed.pk, done.pk},
        "begun=older-1h": set(),
        f"from={models.database_now():%Y-%m-%d}": {attention.pk, waiting.pk, held.pk, closed.pk, done.pk},
        f"from={models.database_now():%Y-%m-%d}&until=2020-01-01": set(),
        "until=2020-01-01": set(),
        "from=no-date": {attention.pk, waiting.pk, held.pk, closed.pk, done.pk},
        "amount=0-10000": set(),
        "state=nonsense": {attention.pk, waiting.pk, held.pk, closed.pk, done.pk},
    }.items():
        assert set(shown(viewer.get(f"{LIST}?{query}", follow=True))) == expected, query


def much_that_has_ended():
    """Two thousand sagas, one an hour; each second failed, at one of many steps."""
    now = models.database_now()
    models.SagaInstance.objects.bulk_create(
        (
            models.SagaInstance(
                name=toys.ONE.name,
                version=1,
                fingerprint=toys.ONE.fingerprint,
                key=str(number),
                state="compensated" if number % 2 == 0 else "completed",
                created_at=now - number * datetime.timedelta(hours=1),
                finished_at=now,
                failure={"step": f"s{number % 100}", "kind": "refused"} if number % 2 == 0 else None,
            )
            for number in range(1, 2001)
        ),
        batch_size=500,
    )


def test_each_filter_reads_an_index():
    much_that_has_ended()
    viewer = admin_client.viewer()
    for query, index in {
        "step=c": "saga_failed_at_step",
        "error=bug": "saga_failed_by_kind",
        "begun=1h": "saga_newest",
        "from=2026-01-01&until=2026-01-02": "saga_newest",
        "state=held": "saga_by_state",
    }.items():
        filtered = viewer.get(f"{LIST}?{query}").context["cl"].queryset.order_by()

        with transaction.atomic(), connection.cursor() as cursor:
            # The planner's choice is for these rows, whatever other tests had the statistics say.
            cursor.execute("ANALYZE sagas_saga")
            cursor.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off")
            plan = filtered.explain()

        assert index in plan, query
        assert "Index Cond" in plan, f"{query}: it is narrowed down in the index, not after"


def test_the_engines_rows_are_found_by_their_saga_and_by_the_key_of_a_step():
    saga, _other = admin_client.waiting(), admin_client.waiting()
    step = saga.steps.first()
    engine.receive(source="bank", event_id="evt_1", key=step.key, facts={}, kind="paid")
    viewer = admin_client.viewer()
    for room in ("stepinstance", "event"):
        for word in (str(saga.pk), step.key):
            rows = viewer.get(f"/admin/sagas/{room}/", {"q": word}).context["cl"].result_list

            assert {row.saga_id for row in rows} == {saga.pk}, (room, word)
        assert not viewer.get(f"/admin/sagas/{room}/", {"q": "nonsense"}).context["cl"].result_list
    for word in (str(saga.pk), step.key, "evt_1"):
        found = viewer.get("/admin/sagas/signal/", {"q": word}).context["cl"].result_list

        assert [signal.event_id for signal in found] == ["evt_1"], word


def test_the_filter_of_callbacks_says_what_their_column_says():
    step = admin_client.waiting().steps.last()
    for number, key in enumerate((step.key, "nobodys.key")):
        engine.receive(source="bank", event_id=f"evt_{number}", key=key, facts={}, kind="paid")
    viewer = admin_client.viewer()

    page = viewer.get("/admin/sagas/signal/", {"fate": "unmatched"}, headers={"accept-language": "pt-br"})

    assert [signal.event_id for signal in page.context["cl"].result_list] == ["evt_1"]
    (chosen,) = [spec for spec in page.context["cl"].filter_specs if spec.parameter_name == "fate"]
    with languages.override("pt-br"):
        names = [str(choice["display"]) for choice in chosen.choices(page.context["cl"])]
        assert names[1:] == [event_names.of_fate(fate) for fate in models.Signal.Fate.values]
    assert admin_client.text(page).count("Aviso não corresponde a nenhuma etapa") == 2, "filter and column"


def test_the_filter_of_bulk_runs_says_what_their_buttons_say():
    page = admin_client.viewer().get(
        "/admin/sagas_console/bulkrun/", {"intervention": "resume"}, headers={"accept-language": "pt-br"}
    )

    assert page.status_code == 200
    text = admin_client.text(page)
    assert "Retomar" in text
    assert "resume" not in text


def test_every_cell_of_a_list_knows_its_columns_name():
    admin_client.waiting()

    body = admin_client.viewer().get(LIST).content.decode()

    rows = body[body.index("<tbody>") : body.index("</tbody>")]
    labels = re.findall(r'<t[dh] data-label="([^"]*)"', rows)
    assert labels == ["Saga", "State", "Where, why", "About", "Amount", "Begun", "Took, or age"]


def test_the_days_begin_where_the_viewer_is():
    saga = admin_client.play(toys.ONE, "do a, completed")
    late_at_night = datetime.datetime(2026, 3, 2, 1, 30, tzinfo=datetime.UTC)
    models.SagaInstance.objects.filter(pk=saga.pk).update(created_at=late_at_night)
    viewer = admin_client.viewer()
    days = f"{LIST}?from=2026-03-01&until=2026-03-01"

    assert shown(viewer.get(days)) == []

    viewer.cookies["zone"] = "America/Sao_Paulo"
    assert shown(viewer.get(days)) == [saga.pk]


def test_a_column_without_an_index_sorts_the_newest_that_match_and_no_more(monkeypatch):
    quick, slow, oldest = (admin_client.play(toys.ONE, "do a, completed") for _ in range(3))
    now = models.database_now()
    for saga, began, took in ((quick, 1, 1), (slow, 2, 60), (oldest, 3, 90)):
        begun = now - datetime.timedelta(hours=began)
        models.SagaInstance.objects.filter(pk=saga.pk).update(
            created_at=begun, finished_at=begun + datetime.timedelta(seconds=took)
        )
    viewer = admin_client.viewer()
    took = viewer.get(LIST).context["cl"].list_display.index("took")

    assert shown(viewer.get(f"{LIST}?o=-{took}")) == [oldest.pk, slow.pk, quick.pk]

    monkeypatch.setattr(paging, "AT_MOST", 2)
    assert shown(viewer.get(f"{LIST}?o=-{took}")) == [slow.pk, quick.pk]


def table(response):
    head, *rows = csv.reader(io.StringIO(response.content.decode()))
    return [dict(zip(head, row, strict=True)) for row in rows]


def test_what_is_filtered_is_taken_away_as_a_table():
    attention, waiting = admin_client.attention(), admin_client.waiting()
    admin_client.play(toys.ONE, "do a, completed")
    viewer = admin_client.viewer()

    response = viewer.get(f"{LIST}list.csv?state=live")

    assert response["Content-Type"] == "text/csv; charset=utf-8"
    rows = {row["id"]: row for row in table(response)}
    assert set(rows) == {str(attention.pk), str(waiting.pk)}
    assert rows[str(attention.pk)]["needs_attention_since"] == attention.attention["since"]
    assert rows[str(waiting.pk)]["waits"].startswith("w waits for an answer from outside until")
    assert "list.csv?state=live" in viewer.get(f"{LIST}?state=live").content.decode()
    assert viewer.get(f"{LIST}list.csv?nonsense__x=1").status_code == 400
    assert admin_client.client(admin_client.NOBODY).get(f"{LIST}list.csv").status_code == 403


def test_a_table_costs_as_many_statements_for_two_sagas_as_for_twenty():
    viewer = admin_client.viewer()
    counts = []
    for more in (2, 18):
        for _ in range(more):
            admin_client.waiting()
        viewer.get(f"{LIST}list.csv")
        with utils.CaptureQueriesContext(connection) as captured:
            viewer.get(f"{LIST}list.csv")
        counts.append(len(captured))

    assert counts[0] == counts[1]


def test_what_goes_well_says_at_which_step_it_is():
    admin_client.waiting()

    assert "at w" in admin_client.viewer().get(LIST).content.decode()


def test_a_saga_is_found_by_its_id_its_key_and_the_key_of_a_step():
    saga, _other = admin_client.waiting(), admin_client.waiting()
    viewer = admin_client.viewer()

    for term in (str(saga.pk), saga.key, f"{saga.pk}.w"):
        assert shown(viewer.get(LIST, {"q": term})) == [saga.pk]
    assert shown(viewer.get(LIST, {"q": "nothing like it"})) == []


def test_the_list_is_counted_no_further_than_it_can_be_paged(monkeypatch):
    monkeypatch.setattr(paging, "AT_MOST", 3)
    for _ in range(5):
        admin_client.play(toys.ONE, "do a, completed")

    with utils.CaptureQueriesContext(connection) as captured:
        response = admin_client.viewer().get(LIST)

    assert response.context["cl"].result_count == 3
    assert "The newest 3 are shown" in admin_client.text(response)
    counts = [query["sql"] for query in captured if "COUNT(" in query["sql"] and "sagas_saga" in query["sql"]]
    assert counts
    assert all("LIMIT 3" in sql for sql in counts)


def test_the_list_costs_the_same_for_two_sagas_as_for_twenty():
    viewer = admin_client.viewer()
    counts = []
    for more in (2, 18):
        for _ in range(more):
            admin_client.play(toys.ONE, "do a, completed")
        viewer.get(LIST)
        with utils.CaptureQueriesContext(connection) as captured:
            viewer.get(LIST)
        counts.append(len(captured))

    assert counts[0] == counts[1]
    assert counts[1] <= 11


def test_failures_that_are_the_same_failure_are_one_group():
    first, second, other = admin_client.attention(), admin_client.attention(), admin_client.stuck()

    found = failure_groups.groups(failure_groups.ATTENTION)

    assert [(group.step, group.error, group.count) for group in found] == [
        ("b", "Refused", 2),
        ("p", "Unavailable", 1),
    ]
    assert set(failure_groups.members(found[0].signature, failure_groups.ATTENTION)) == {first.pk, second.pk}
    listed = admin_client.viewer().get(f"{LIST}?group=attention:{found[1].signature}")
    assert shown(listed) == [other.pk]


def test_what_differs_from_case_to_case_makes_no_group_of_its_own():
    sagas = [admin_client.attention() for _ in range(2)]
    for number, saga in enumerate(sagas):
        row = saga.steps.get(name="b")
        row.error = {**row.error, "message": f"charge {number}7 of {saga.pk} is unknown"}
        row.save()

    (group,) = failure_groups.groups(failure_groups.ATTENTION)

    assert (group.count, group.shape) == (2, "charge # of # is unknown")


def test_whatever_failed_lately_is_grouped_by_its_first_failure():
    admin_client.play(toys.LOCAL, "do a, fail b, undo a, compensated")
    admin_client.play(toys.ONE, "do a, completed")

    (group,) = failure_groups.groups(failure_groups.FAILED)

    assert (group.name, group.step, group.error, group.count) == ("toy-local", "b", "Refused", 1)


def test_a_group_keeps_a_note_with_who_wrote_it():
    admin_client.attention()
    (group,) = failure_groups.groups(failure_groups.ATTENTION)
    operator, page = admin_client.operator(), reverse("admin:sagas_groups")

    operator.post(page, {"signature": group.signature, "text": "Known: ticket 12."})
    assert "Known: ticket 12." in admin_client.text(admin_client.viewer().get(page))
    assert failure_groups.groups(failure_groups.ATTENTION)[0].note_by == "operator"

    operator.post(page, {"signature": group.signature, "text": ""})
    assert not FailureNote.objects.exists()


def test_who_only_looks_writes_no_notes():
    admin_client.attention()
    (group,) = failure_groups.groups(failure_groups.ATTENTION)

    refused = admin_client.viewer().post(
        reverse("admin:sagas_groups"), {"signature": group.signature, "text": "x"}
    )

    assert refused.status_code == 403
    assert not FailureNote.objects.exists()


def test_the_first_page_tells_how_the_sagas_fare():
    attention = admin_client.attention()
    admin_client.play(toys.ONE, "do a, completed")
    admin_client.play(toys.LOCAL, "do a, fail b, undo a, compensated")

    response = admin_client.viewer().get("/admin/")

    figures = response.context["figures"]
    assert figures.live == {"needs_attention": 1}
    assert (figures.begun, figures.totals["completed"], figures.totals["compensated"]) == (3, 1, 1)
    assert figures.failure_rate == pytest.approx(2 / 3)
    assert figures.oldest.pk == attention.pk
    of_b = next(step for step in figures.steps if (step.saga, step.step) == ("toy-local", "b"))
    assert (of_b.count, of_b.failed) == (2, 1)
    assert {queue.name for queue in figures.queues} >= {"toys", "world", "sagas"}
    assert all(queue.silent for queue in figures.queues), "nobody has answered a probe"
    assert admin_client.page(attention) in response.content.decode()


def test_a_steps_work_is_told_apart_from_what_it_waits_for():
    now, second = models.database_now(), datetime.timedelta(seconds=1)
    for version, waited in ((1, 190), (2, 190)):
        story = [
            # It failed once, was asked about, waited for its payer, and a poll learned nothing meanwhile.
            ("step.started", 0), ("step.retry", 1), ("step.started", 31), ("step.waiting", 32),
            ("step.asked", 100), ("step.waiting", 101), ("step.done", waited),
        ]  # fmt: skip
        _told(version, "remote", now, attempts=2, took=waited, story=story)
        _told(version, "lost", now, attempts=2, took=35, story=[
            ("step.started", 0), ("step.unknown", 30, "lease"), ("step.started", 33), ("step.done", 35),
        ])  # fmt: skip
        _told(version, "local", now, attempts=1, took=4, story=[("step.done", 4)])
        _told(version, "tried-again", now, attempts=2, took=9, story=[("step.retry", 1), ("step.done", 9)])
        _told(version, "approval", now, attempts=0, took=60, story=[("step.waiting", 0), ("step.done", 60)])

    figures = {step.step: step for step in health.read().steps if step.saga == "timed"}

    assert {
        name: (step.count, *(None if time is None else time / second for time in (step.p95, step.wait_p95)))
        for name, step in figures.items()
    } == {
        # Both versions are one row.
        "remote": (2, 3.0, 187.0),
        "lost": (2, 2.0, 33.0),
        "local": (2, 4.0, 0.0),
        # Of a local attempt only the first one's beginning is known: nothing is made up.
        "tried-again": (2, None, None),
        "approval": (2, None, 60.0),
    }
    assert [name for name, step in figures.items() if step.waits] == ["approval", "lost", "remote"]
    page = admin_client.text(admin_client.viewer().get("/admin/"))
    assert "remote timed 2 3 s · 3 s 3 min 7 s · 3 min 7 s 0" in page
    assert "0 3 min 7 s Failed there" in page, "the axis says its unit"


def _told(version, step, at, *, attempts, took, story):
    """A step that was done, with what its events tell."""
    saga = models.SagaInstance.objects.create(
        name="timed", version=version, fingerprint="f", key=step, state="completed", finished_at=at
    )
    models.StepInstance.objects.create(
        saga=saga, position=0, name=step, state="done", attempts=attempts, started_at=at,
        finished_at=at + datetime.timedelta(seconds=took),
    )  # fmt: skip
    for kind, after, *clock in story:
        data = {"clock": clock[0]} if clock else {}
        at_then = at + datetime.timedelta(seconds=after)
        models.Event.objects.create(saga=saga, kind=kind, subject=step, at=at_then, data=data)


def _figures(counts, width=datetime.timedelta(minutes=2)):
    """What the charts need of the overview's figures."""
    start = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    buckets = [health.Bucket(at=start + number * width, counts=each) for number, each in enumerate(counts)]
    return types.SimpleNamespace(buckets=buckets, width=width)


def test_bars_say_their_numbers_as_far_as_there_is_room_and_axes_their_unit():
    counts = [{"completed": 3}, {}, {"completed": 1000}, {"completed": 2}, {}, {}] + 23 * [{}]
    figures = _figures([*counts, {"completed": 300, "compensated": 100}])

    chart = charts.throughput(figures)

    shown = {number.text: (number.anchor, number.narrow) for number in chart.numbers}
    assert shown["1000"] == ("middle", True)
    assert shown["3"] == ("middle", False), "on a telephone it would stand in the number beside it"
    assert shown["400"] == ("end", True), "it does not stick out"
    assert "2" not in shown, "it would lie on the highest bar, or in its number"
    assert chart.most == "1000 sagas in 2 min"
    assert chart.last - chart.first == 30 * figures.width, "to the end of the last bar"
    failures = charts.failures(figures)
    assert [(number.text, number.anchor) for number in failures.numbers] == [("25%", "end")]
    assert failures.most == "100 % of those begun in 2 min"


def test_the_tiles_and_the_chart_count_the_same():
    admin_client.attention()
    admin_client.act(engine.close, admin_client.attention(), actor="olga", reason="Settled by hand")
    admin_client.waiting()

    context = admin_client.viewer().get("/admin/").context

    tiles = {state: count for state, count, _children in context["live_counts"]}
    charted = dict(context["totals"])
    assert {state: charted[state] for state in tiles} == tiles
    assert charted["closed"] == 1
    assert {block.state for block in context["throughput"].blocks} == {"needs_attention", "running", "closed"}
    assert context["figures"].failure_rate == pytest.approx(2 / 3)


def test_the_first_page_says_loudly_what_nobody_works_on():
    client, now, age = admin_client.viewer(), models.database_now(), datetime.timedelta(minutes=5)
    models.Queue.objects.create(name="toys", probed_at=now, unanswered_since=now - age)
    models.Heartbeat.objects.create(name=models.Heartbeat.SWEEP, at=now - age)

    response = client.get("/admin/")

    sweep, queue = response.context["alarms"]
    assert sweep.startswith("The regular check (sagas.sweep) has not run for 5 min")
    assert queue.startswith("No worker listens on the queue toys: none has given a sign for 5 min")
    assert "Nobody has to act" not in admin_client.text(response)

    models.Heartbeat.objects.update(at=now)
    models.Queue.objects.update(heard_at=now)
    assert client.get("/admin/").context["alarms"] == []


def test_the_first_page_says_that_no_more_are_taken_while_a_line_is_full(settings):
    sagas = [admin_client.waiting() for _ in range(2)]
    models.SagaInstance.objects.filter(pk__in=[saga.pk for saga in sagas]).update(in_line_for="toys")
    models.Heartbeat.objects.update_or_create(
        name=models.Heartbeat.SWEEP, defaults={"at": models.database_now()}
    )

    def alarms():
        return [one for one in admin_client.viewer().get("/admin/").context["alarms"] if "taken" in one]

    settings.SAGAS_LONGEST_LINE = 3
    assert alarms() == []
    settings.SAGAS_LONGEST_LINE = 2
    (full,) = alarms()
    assert full.startswith("No more sagas are taken that begin in the queue toys: 2 wait in its line")
    settings.SAGAS_LONGEST_LINE = None
    assert alarms() == []


@pytest.mark.parametrize("window", ["1h", "24h", "7d", "nonsense"])
def test_the_first_page_shows_as_much_time_as_is_wanted(window):
    admin_client.play(toys.ONE, "do a, completed")

    response = admin_client.viewer().get("/admin/", {"window": window})

    assert response.context["window"] == (window if window != "nonsense" else "24h")
    assert response.context["figures"].begun == 1


def test_the_first_page_costs_a_bounded_number_of_statements():
    for _ in range(4):
        admin_client.attention()
    viewer = admin_client.viewer()
    viewer.get("/admin/")

    with utils.CaptureQueriesContext(connection) as captured:
        viewer.get("/admin/")

    assert len(captured) <= 20


def test_who_may_not_see_sagas_sees_no_figures():
    admin_client.attention()

    response = admin_client.client(admin_client.NOBODY).get("/admin/")

    assert response.status_code == 200
    assert "figures" not in response.context


@pytest.mark.parametrize("model", ["stepinstance", "event", "signal", "queue", "circuit"])
def test_rows_tell_moments_as_every_page_does(model):
    admin_client.attention()
    engine.receive(source="world", event_id="e1", key="nobody.w", facts={"settled": True})
    models.Queue.objects.update_or_create(name="q", defaults={"probed_at": models.database_now()})
    models.Circuit.objects.create(name="q", opened_at=models.database_now())

    page = admin_client.viewer().get(reverse(f"admin:sagas_{model}_changelist")).content.decode()
    table = page[page.index("<tbody>") : page.index("</tbody>")]

    assert "<time datetime=" in table
    assert re.search(r"column-(started_at|at|received_at|asked|opened_at) sortable", page) or re.search(
        r"sortable column-(started_at|at|received_at|asked|opened_at)", page
    )
    assert re.findall(r"[0-9]:[0-9]{2}[.][0-9]{4,}", re.sub(r"<[^>]+>", " ", table)) == []


def test_no_red_cross_marks_a_provider_that_works():
    models.Circuit.objects.create(name="q", needs_person=False)

    page = admin_client.viewer().get(reverse("admin:sagas_circuit_changelist")).content.decode()

    assert "icon-no" not in page
    assert ">No<" in page


# --- Columns, and the order of the list -----------------------------------------------------------


def _heads(response):
    return [name for name in response.context["cl"].list_display if name != "action_checkbox"]


def test_columns_are_chosen_once_and_kept_for_their_user():
    viewer, other = admin_client.viewer(), admin_client.operator()
    admin_client.attention()

    chosen = viewer.post(
        f"{LIST}columns/", {"column": ["since", "badge", "nonsense"], "query": "state=live&o=3&p=2"}
    )

    assert chosen["Location"] == f"{LIST}?state=live"
    assert _heads(viewer.get(f"{LIST}?state=live")) == ["saga", "badge", "since"]
    assert _heads(other.get(LIST)) == list(saga_list.COLUMNS), "nobody else's"
    assert list(SavedView.objects.values_list("query", flat=True)) == ["columns=badge.since"]

    # What is saved, sorted or filtered from there names them, and so means the same when others are liked.
    page = viewer.get(LIST)
    assert page.context["view_query"] == "columns=saga.badge.since"
    assert "?columns=saga.badge.since&amp;o=2" in page.content.decode()
    assert "?columns=saga.badge.since&amp;state=live" in page.content.decode()
    assert not page.context["cl"].has_active_filters
    named = viewer.get(f"{LIST}?columns=amount.took&state=live")
    assert _heads(named) == ["saga", "amount", "took"]
    assert _heads(viewer.get(f"{LIST}?o=-7")) == list(saga_list.COLUMNS), "an order counts the usual columns"

    viewer.post(f"{LIST}columns/", {"usual": "1", "column": ["since"], "query": ""})
    assert _heads(viewer.get(LIST)) == list(saga_list.COLUMNS)
    assert not SavedView.objects.exists()


def test_columns_are_for_those_who_see_the_list_and_are_no_view_of_a_name():
    viewer = admin_client.viewer()
    assert admin_client.client(admin_client.NOBODY).post(f"{LIST}columns/").status_code == 403
    assert viewer.get(f"{LIST}columns/").status_code == 405

    viewer.post(f"{LIST}columns/", {"column": ["since"], "query": ""})
    viewer.post(f"{LIST}views/", {"name": "", "query": "", "remove": "1"})

    assert viewer.get(LIST).context["views"] == []
    assert _heads(viewer.get(LIST)) == ["saga", "since"]


def test_every_column_but_words_can_be_sorted_by():
    first, second = admin_client.attention(), admin_client.play(toys.ONE, "do a, completed")
    columns = [*saga_list.COLUMNS, *saga_list.MORE_COLUMNS]
    viewer, address = admin_client.viewer(), f"{LIST}?columns={'.'.join(columns)}&o="

    turned = set()
    for number, column in enumerate(columns):
        up, down = (shown(viewer.get(f"{address}{sign}{number}")) for sign in ("", "-"))
        assert set(up) == {first.pk, second.pk}, column
        if up == down[::-1]:
            turned.add(column)

    # No app here knows of money, and words are searched for.
    assert turned == set(columns) - {"saga", "stands", "about", "amount"}


def test_an_order_by_a_column_that_is_not_there_is_no_error():
    saga = admin_client.waiting()

    assert shown(admin_client.viewer().get(f"{LIST}?o=99")) == [saga.pk]


# --- Events in words ------------------------------------------------------------------------------


def test_events_are_told_in_words_in_both_languages():
    kinds = [*EventKind, *(f"signal.{fate}" for fate in models.Signal.Fate.values)]
    english = [event_names.name(kind) for kind in kinds]
    with languages.override("pt-br"):
        portuguese = [event_names.name(kind) for kind in kinds]

    assert len(set(english)) == len(set(portuguese)) == len(set(kinds)), "no two are called the same"
    assert not set(english) & {*kinds, *portuguese}
    assert event_names.name("of.tomorrow") == "of.tomorrow"


def test_the_sagas_page_shows_events_and_marks_by_their_words():
    saga = admin_client.act(engine.hold, admin_client.attention(), actor="olga", reason="wait")

    page = admin_client.viewer().get(admin_client.page(saga)).content.decode()

    assert re.search(r'<td[^>]* title="operator.hold">Held</td>', page)
    assert '<option value="operator.hold">Held</option>' in page
    assert re.search(r"<title>Held\s+· olga · ", page)
    assert ">operator.hold<" not in page


def crumbs(response):
    """The path that stands above a page."""
    body = response.content.decode()
    (path,) = re.findall(r'<div class="breadcrumbs">(.*?)</div>', body, re.DOTALL)
    return [
        " ".join(html.unescape(re.sub(r"<[^>]+>", "", part)).split()) for part in re.split("&rsaquo;|›", path)
    ]


def test_the_path_to_a_page_is_short_and_names_nothing_twice():
    saga = admin_client.attention()
    person = admin_client.supervisor()
    person.user.is_superuser = True
    person.user.save()
    LogEntry.objects.log_actions(person.user.pk, [saga], CHANGE, "Looked at", single_object=True)
    event, page = saga.events.first(), admin_client.page(saga)

    for model in admin.site._registry:
        address = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
        plural = str(model._meta.verbose_name_plural)
        assert crumbs(person.get(address)) == ["Home", plural[:1].upper() + plural[1:]]
    for address, path in {
        page: ["Home", "Sagas", saga.key],
        f"/admin/sagas/sagainstance/{saga.pk}/history/": ["Home", "Sagas", str(saga), "History"],
        f"/admin/sagas/event/{event.pk}/change/": ["Home", "Events", str(event)],
        f"/admin/sagas/event/{event.pk}/history/": ["Home", "Events", str(event), "History"],
        "/admin/sagas/sagainstance/groups/": ["Home", "Sagas", "Failure groups"],
        admin_client.intervention(saga, "resume"): ["Home", "Sagas", saga.key, "Resume"],
        "/admin/api/token/add/": ["Home", "Tokens", "Add token"],
    }.items():
        assert crumbs(person.get(address)) == path, address
