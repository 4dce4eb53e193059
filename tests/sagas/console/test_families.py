"""A saga with children and its children are told of as one family: pages, lists, bulk runs, exports."""

import datetime
import json
import re

import pytest
from django.db import connection
from django.test import utils
from django.urls import reverse
from django.utils import translation as languages

from sagas import engine, models, reading
from sagas.console import bulk, export, failure_groups, families, health, history, interventions, summary
from sagas.console.models import BulkItem, BulkRun
from sagas.engine import archive
from tests.sagas.console import admin_client, kin

pytestmark = pytest.mark.usefixtures("rows")

LIST, ARCHIVED = "/admin/sagas/sagainstance/", "/admin/sagas/archivedsaga/"
SAID = {"actor": "olga", "reason": "Ticket 12"}
NEVER = datetime.timedelta(0)


def said(saga):
    return summary.of(history.read(saga.pk))


def page(saga, person=None):
    return (person or admin_client.viewer()).get(admin_client.page(saga))


def preview(saga, name):
    return interventions.INTERVENTIONS[name].preview(history.read(saga.pk))


def shown(response):
    return [saga.pk for saga in response.context["cl"].result_list]


# --- Counts ---------------------------------------------------------------------------------------


def test_children_are_counted_once_each_by_where_they_stand(monkeypatch):
    saga = kin.mixed(monkeypatch)

    (counts,) = reading.children_counts(saga.steps.all()).values()

    assert counts == reading.ChildrenCounts(waiting=3, undoing=1, attention=1, running=1, coming=2)
    assert (counts.total, counts.done, counts.live) == (8, 3, 8)
    assert families.words(counts) == kin.MIXED_WORDS
    places = [reading.child_place(child) for child in kin.children(saga)]
    assert places == ["waiting"] * 3 + ["attention", "running", "undoing", "coming", "coming"]


def test_children_of_many_sagas_are_counted_in_one_statement(monkeypatch):
    sagas = [kin.begin(monkeypatch, key=f"order-{number}", count=number) for number in (1, 2, 5)]
    steps = list(models.StepInstance.objects.filter(saga__in=sagas))

    with utils.CaptureQueriesContext(connection) as captured:
        counted = reading.children_counts(steps)

    assert len(captured) == 1
    assert {pk: counts.completed for (pk, _step), counts in counted.items()} == {
        saga.pk: number for saga, number in zip(sagas, (1, 2, 5), strict=True)
    }


def test_steps_without_children_cost_no_statement():
    saga = admin_client.waiting()
    steps = list(saga.steps.all())

    with utils.CaptureQueriesContext(connection) as captured:
        assert reading.children_counts(steps) == {}

    assert len(captured) == 0


# --- The parent's page ----------------------------------------------------------------------------


def test_the_parents_page_lists_its_children_those_that_need_a_person_first(monkeypatch):
    saga = kin.mixed(monkeypatch)

    response = page(saga)

    (brood,) = response.context["broods"]
    assert brood.words == kin.MIXED_WORDS
    assert [child.label.split()[1] for child in brood.named] == ["4", "6", "5", "1", "2", "3", "7", "8"]
    body = response.content.decode()
    for child in kin.children(saga):
        assert admin_client.page(child) in body
    text = admin_client.text(response)
    assert f"8 children {kin.MIXED_WORDS}" in text
    assert "a saga toy-kin-parcel for each of “parcels” · 3 at once · what is done is kept" in text
    (node,) = [node for node in response.context["graph"].nodes if node.stacked and not node.undo]
    assert (node.state_text, node.note) == ("… 3 of 8 done", kin.MIXED_WORDS)
    assert [row.note for row in response.context["timeline"].rows] == ["", "3 of 8 done", ""]


def test_a_page_costs_as_many_statements_however_many_children_there_are(monkeypatch):
    viewer, costs = admin_client.viewer(), []
    for count in (9, 40):
        saga = kin.mixed(monkeypatch, key=f"order-{count}", count=count)
        page(saga, viewer)
        with utils.CaptureQueriesContext(connection) as captured:
            response = page(saga, viewer)
        costs.append(len(captured))
        assert len(response.context["broods"][0].named) == min(count, families.SHOWN)

    assert costs[0] == costs[1]
    assert f"?parent={saga.pk}.deliver" in response.content.decode()
    assert "All 40 children" in admin_client.text(response)


def test_the_parents_verdict_names_the_child_at_which_a_person_is_to_act(monkeypatch):
    saga = kin.mixed(monkeypatch)
    child = kin.children(saga)[3]

    verdict = said(saga)

    assert verdict.what.startswith("deliver waits for its child deliver 4 of 8, which needs attention: ")
    assert "pack cannot be undone" in verdict.what
    assert verdict.who == "A person, at the child deliver 4 of 8, where it is told who may:"
    assert verdict.advice == said(child).advice.removesuffix(" Its parent then goes on by itself.") or (
        "Settle it with the provider" in verdict.advice
    )
    assert f"deliver: {kin.MIXED_WORDS}." in verdict.next
    assert f'button-strong" href="{admin_client.page(child)}">See to deliver 4 of 8<' in (
        page(saga).content.decode()
    )
    assert said(child).advice.endswith("Its parent then goes on by itself.")


def test_what_a_child_called_a_person_for_is_no_operators_word(monkeypatch):
    assert summary.cause(kin.mixed(monkeypatch)) == "A child of it needs attention."


def test_a_childs_child_is_named_by_both_above_it_and_stands_alone_in_the_queue(monkeypatch):
    above = kin.mixed(monkeypatch, saga=kin.ABOVE)
    (between,) = kin.children(above)
    child = kin.children(between)[3]

    for saga in (above, between):
        assert saga.state == "needs_attention"
        assert families.in_need(saga) == child
        assert "See to deliver 4" in admin_client.text(page(saga))
    assert page(between).context["title"] == "send-order · order-1001"
    assert page(child).context["title"] == "deliver 4 of 8 · send-order · order-1001"
    assert [one.pk for one in families.needing_a_person()] == [child.pk]
    figures = health.read()
    assert (figures.live["needs_attention"], figures.for_a_childs_sake) == (3, 2)
    assert figures.live_children["needs_attention"] == 1


def test_the_verdict_says_how_many_others_need_a_person(monkeypatch):
    assert said(kin.in_need(monkeypatch)).advice.endswith("2 other children need a person, too.")


def test_while_its_children_are_under_way_the_parent_waits_for_nobody_outside(monkeypatch):
    saga = kin.begin(monkeypatch, do_send_1="begin", count=3)

    verdict = said(saga)

    assert verdict.next == (
        "deliver: 2 of 3 done, 1 under way. deliver is done when all of its children have ended, whatever "
        "they come to."
    )
    assert (verdict.who, verdict.tone) == ("Nobody has to act.", "waiting")
    all_ = kin.begin(monkeypatch, saga=kin.ALL, key="all", do_send_1="begin", count=3)
    assert said(all_).next.endswith("deliver is done when all of its children are.")


def test_a_saga_that_was_undone_says_so_of_its_children(monkeypatch):
    saga = kin.begin(monkeypatch, saga=kin.ALL, count=3, do_send_1="fail")
    assert saga.state == "compensated"

    (brood,) = page(saga).context["broods"]

    assert brood.words == "3 of 3 undone"
    assert said(saga).what == (
        "deliver was refused: 1 of 3 children are not done. deliver 2 of 3: send was refused: no. "
        "Undone in reverse order: deliver, reserve-stock."
    )
    # The one that failed by itself comes first; the others were turned back with their parent.
    assert brood.named[0].label == "deliver 2 of 3"
    assert summary.cause(kin.children(saga)[0]) == "Its parent is undone."


def test_what_was_kept_is_told_of_a_saga_that_completed(monkeypatch):
    saga = kin.begin(monkeypatch, count=3, do_send_1="fail")

    assert saga.state == "completed"
    assert said(saga).what.endswith("deliver: 2 of 3 done, 1 is undone.")


def test_an_empty_list_is_told_as_such(monkeypatch):
    assert "No children: its list was empty." in admin_client.text(page(kin.begin(monkeypatch, count=0)))


def test_the_wait_for_children_is_no_attempt(monkeypatch):
    saga = kin.mixed(monkeypatch)

    record = history.read(saga.pk)

    assert [(one.step, one.waits) for one in history.attempts(record)] == [
        ("reserve-stock", False), ("deliver", True),
    ]  # fmt: skip


# --- The child's page -----------------------------------------------------------------------------


def test_a_childs_page_leads_to_its_parent_and_says_which_child_it_is(monkeypatch):
    saga = kin.mixed(monkeypatch)
    child = kin.children(saga)[2]

    response = page(child)

    text = admin_client.text(response)
    assert response.context["title"] == "deliver 3 of 8 · order-1001"
    assert "Sagas › order-1001 › step deliver 3 of 8" in text.replace("&rsaquo;", "›")
    assert f'href="{admin_client.page(saga)}"' in response.content.decode()
    assert "Done, waits for its parent" in text


def test_a_child_that_is_done_says_what_it_waits_for(monkeypatch):
    verdict = said(kin.children(kin.mixed(monkeypatch))[0])

    assert verdict.what == "It is done, and waits for its parent's outcome."
    assert verdict.next == (
        "It completes with its parent, or is undone with it. Its parent needs attention now."
    )
    assert verdict.who == "Nobody has to act."


def test_nothing_is_next_at_a_child_that_waits_for_its_parent(monkeypatch):
    saga = kin.mixed(monkeypatch)

    for number in (0, 7):
        steps = history.step_views(history.read(kin.children(saga)[number].pk))
        assert [(step.current, step.forward.next_at) for step in steps] == [(False, None)] * 2


def test_a_child_that_has_not_begun_says_who_starts_it(monkeypatch):
    saga = kin.mixed(monkeypatch)
    child = kin.children(saga)[7]

    assert said(child).what == "It has not begun: its parent starts it when its turn comes."
    assert history.read(child.pk).starts_at is None
    admin_client.act(engine.hold, saga, **SAID)
    assert said(child).next == "Its parent is held, and starts none meanwhile."


# --- Live -----------------------------------------------------------------------------------------


def test_the_live_part_is_told_anew_when_a_child_moves(monkeypatch):
    saga = kin.mixed(monkeypatch)
    viewer, live = admin_client.viewer(), reverse("admin:sagas_saga_live", args=[saga.pk])
    monkeypatch.setattr("sagas.console.admin.saga_page.REFRESH_S", 10**9)
    first = viewer.get(live)
    assert viewer.get(live, headers={"If-None-Match": first["ETag"]}).status_code == 304

    key = f"{kin.children(saga)[4].pk}.send"
    kin.deliver(
        lambda: engine.receive(source="world", event_id="1", key=key, facts={"settled": True}) and saga
    )

    again = viewer.get(live, headers={"If-None-Match": first["ETag"]})
    assert (again.status_code, again["X-Saga-Live"]) == (200, "1")
    assert "6 of 8 done" in again.content.decode()


def test_the_page_of_a_saga_that_was_put_aside_is_live_while_its_children_move(monkeypatch):
    saga = kin.mixed(monkeypatch)
    admin_client.act(engine.hold, saga, **SAID)
    admin_client.act(engine.close, saga, **SAID)

    response = admin_client.viewer().get(reverse("admin:sagas_saga_live", args=[saga.pk]))

    assert response["X-Saga-Live"] == "1"


# --- The lists ------------------------------------------------------------------------------------


def test_the_list_is_narrowed_down_to_the_children_of_a_saga_in_their_order(monkeypatch):
    saga, _other = kin.mixed(monkeypatch), kin.begin(monkeypatch, key="other", count=2)
    viewer = admin_client.viewer()

    children = [child.pk for child in kin.children(saga)]
    assert shown(viewer.get(LIST, {"parent": f"{saga.pk}.deliver"})) == children
    assert shown(viewer.get(LIST, {"parent": str(saga.pk), "state": "needs_attention"})) == [children[3]]
    assert shown(viewer.get(LIST, {"parent": f"{saga.pk}.other"})) == []
    assert shown(viewer.get(LIST, {"parent": "nonsense"})) == []
    response = viewer.get(LIST, {"parent": f"{saga.pk}.deliver"})
    assert "deliver 4 of 8 · order-1001" in admin_client.text(response)


def test_the_list_is_narrowed_down_by_who_is_a_child(monkeypatch):
    saga, plain = kin.begin(monkeypatch, count=2), admin_client.waiting()
    viewer = admin_client.viewer()

    assert set(shown(viewer.get(LIST, {"family": "no-children"}))) == {saga.pk, plain.pk}
    assert shown(viewer.get(LIST, {"family": "parents"})) == [saga.pk]
    assert set(shown(viewer.get(LIST, {"family": "children"}))) == {one.pk for one in kin.children(saga)}


def test_who_searches_by_a_parents_key_is_led_to_its_children(monkeypatch):
    saga = kin.mixed(monkeypatch)

    response = admin_client.viewer().get(LIST, {"q": "order-1001"})

    assert shown(response) == [saga.pk]
    assert f'href="?parent={saga.pk}.deliver">deliver: {kin.MIXED_WORDS}<' in response.content.decode()


def test_a_list_of_families_costs_as_many_statements_however_many_there_are(monkeypatch):
    viewer, costs = admin_client.viewer(), []
    for more in (1, 3):
        for number in range(more):
            kin.mixed(monkeypatch, key=f"order-{more}-{number}")
        viewer.get(LIST)
        with utils.CaptureQueriesContext(connection) as captured:
            viewer.get(LIST)
        costs.append(len(captured))

    assert costs[0] == costs[1]


def test_one_trouble_is_shown_once_where_a_person_is_to_act(monkeypatch):
    saga = kin.mixed(monkeypatch)
    child, viewer = kin.children(saga)[3], admin_client.viewer()

    assert shown(viewer.get(LIST, {"state": "needs_attention"})) == [child.pk]
    assert shown(viewer.get(LIST, {"state": "child"})) == [saga.pk]
    assert [one.pk for one in viewer.get(LIST).context["attention"]] == [child.pk]
    overview = viewer.get("/admin/")
    assert [one.pk for one, _subject in overview.context["waiting"]] == [child.pk]
    assert overview.context["live_counts"][0] == ("needs_attention", 1, 1)
    assert [group.name for group in failure_groups.groups(failure_groups.ATTENTION)] == ["toy-kin-parcel"]
    # A family counts once among those that have begun.
    assert overview.context["figures"].begun == 1
    assert health.read().begun == 9


def test_a_saga_whose_child_is_in_need_no_more_hides_nothing(monkeypatch):
    """It needs attention for a child's sake only as long as that child does."""
    saga = kin.mixed(monkeypatch)
    child = kin.children(saga)[3]
    models.SagaInstance.objects.filter(pk=child.pk).update(closed_at=models.database_now())

    assert [one.pk for one in families.needing_a_person()] == [saga.pk]
    assert families.in_need(saga) is None


def test_those_that_were_turned_back_with_their_parent_are_no_failures_of_their_own(monkeypatch):
    kin.begin(monkeypatch, saga=kin.ALL, count=5, do_send_1="fail")

    found = {(group.name, group.step): group.count for group in failure_groups.groups(failure_groups.FAILED)}

    assert found == {("toy-kin-parcel", "send"): 1, ("toy-kin-all", "deliver"): 1}


def test_a_saga_that_needs_a_person_for_its_childs_sake_did_not_fail_by_an_operator(monkeypatch):
    saga = kin.in_need(monkeypatch, count=2)

    found = {group.name: (group.kind, group.step) for group in failure_groups.groups(failure_groups.FAILED)}
    groups = admin_client.text(admin_client.viewer().get(reverse("admin:sagas_groups"), {"scope": "failed"}))

    assert found == {"toy-kin": ("child", "deliver"), "toy-kin-parcel": ("refused", "send")}
    assert "child in need" in groups
    assert "by an operator" not in groups
    assert shown(admin_client.viewer().get(LIST, {"error": "child"})) == [saga.pk]
    assert shown(admin_client.viewer().get(LIST, {"error": "operator"})) == []
    assert summary.cause(saga) == "A child of it needs attention."


def test_so_does_one_of_before_it_had_a_kind_of_its_own_say(monkeypatch):
    saga = kin.in_need(monkeypatch, count=1)
    saga.failure = {**saga.failure, "kind": "operator"}

    assert summary.cause(saga) == "A child of it needs attention."


# --- What people may do ---------------------------------------------------------------------------


def test_previews_say_what_becomes_of_the_children(monkeypatch):
    saga = kin.mixed(monkeypatch)

    assert (
        f"All children of deliver are undone with it, whatever they have come to: {kin.MIXED_WORDS}."
        in preview(saga, "compensate")
    )
    assert "These steps are undone, in this order: deliver, reserve-stock." in preview(saga, "compensate")
    assert "Children under way go on; none is started, and none is told to turn back." in preview(
        saga, "hold"
    )
    assert any("are let go" in line and kin.MIXED_WORDS in line for line in preview(saga, "close"))
    assert "Its children keep deadlines of their own." in preview(saga, "extend")
    assert preview(saga, "resume") == [
        f"It looks at the children of deliver again, and goes on as they stand. {kin.MIXED_WORDS}.",
        "That does nothing for a child that needs a person: see to the child.",
    ]
    admin_client.act(engine.hold, saga, **SAID)
    assert "2 children of it that have not begun are started when their turn comes." in preview(
        saga, "release"
    )


def test_previews_on_a_child_say_what_it_means_for_its_parent(monkeypatch):
    kept = kin.children(kin.mixed(monkeypatch))[4]
    needed = kin.children(kin.begin(monkeypatch, saga=kin.ALL, key="all", count=2, do_send_1="begin"))[1]

    assert (
        "Its parent keeps what its other children of deliver have done, and goes on without this one."
        in preview(kept, "compensate")
    )
    assert "Its parent needs all children of deliver: it is undone as well, with the others." in preview(
        needed, "compensate"
    )
    assert any("keeps its place" in line for line in preview(kept, "hold"))


def test_all_children_that_need_a_person_are_resumed_in_waves_from_their_parents_page(monkeypatch):
    saga = kin.in_need(monkeypatch, count=3)
    operator = admin_client.operator()
    address = reverse("admin:sagas_saga_children", args=[saga.pk, "deliver", "resume"])
    assert (
        f'href="{address}">Resume all 3 that need attention, in waves<'
        in page(saga, operator).content.decode()
    )

    asked = operator.get(address, follow=True)

    text = admin_client.text(asked)
    assert "“Resume” is done to 3 sagas, in waves" in text
    assert "3 of them are children of deliver of order-1001 ." in text
    assert not BulkRun.objects.exists()
    begun = operator.post(
        reverse("admin:sagas_console_bulkrun_begin"),
        {"reason": "The carrier is back", "choice": asked.context["choice"]},
    )
    run = BulkRun.objects.get()
    assert begun.url == reverse("admin:sagas_console_bulkrun_change", args=[run.pk])
    assert [item.saga_id for item in run.items.all()] == [child.pk for child in kin.children(saga)]
    kin.begin(monkeypatch, key="other", count=0)  # Whoever comes now finds a world in which all goes well.
    for _ in range(12):
        kin.deliver(lambda: bulk.drive() is not None and saga)
    run.refresh_from_db()
    assert run.state == BulkRun.State.FINISHED
    assert {item.state for item in run.items.all()} == {BulkItem.State.HELPED}
    assert "deliver 1 of 3 · order-1001" in admin_client.text(
        operator.get(reverse("admin:sagas_console_bulkrun_change", args=[run.pk]))
    )
    saga.refresh_from_db()
    assert saga.state == "completed"


def test_a_run_over_children_stops_itself_when_they_fail_again(monkeypatch):
    saga = kin.in_need(monkeypatch, count=4)
    chosen = bulk.look(child.pk for child in kin.children(saga))
    run = bulk.begin(chosen=chosen, intervention="resume", **SAID)

    for _ in range(6):
        kin.deliver(lambda: bulk.drive() is not None and saga)

    run.refresh_from_db()
    assert run.state == BulkRun.State.STOPPED
    assert sorted(run.items.values_list("state", flat=True)) == ["failed", "pending", "pending", "pending"]


def test_only_who_may_chooses_children_for_a_run(monkeypatch):
    saga = kin.in_need(monkeypatch, count=2)
    address = reverse("admin:sagas_saga_children", args=[saga.pk, "deliver", "resume"])

    assert "in waves" not in admin_client.text(page(saga))
    assert admin_client.viewer().get(address).status_code == 403
    assert admin_client.operator().get(address.replace("resume", "close")).status_code == 404
    nothing = reverse("admin:sagas_saga_children", args=[saga.pk, "reserve-stock", "resume"])
    followed = admin_client.operator().get(nothing, follow=True)
    assert "No child of reserve-stock needs a person now." in admin_client.text(followed)


# --- For the record -------------------------------------------------------------------------------


def test_the_download_names_the_parent_and_each_child(monkeypatch):
    saga = kin.mixed(monkeypatch)
    child = kin.children(saga)[3]

    (told,) = export.saga(history.read(saga.pk))["children"]

    assert (told["step"], told["total"], told["counts"]["attention"]) == ("deliver", 8, 1)
    assert [one["stands"] for one in told["sagas"]][3:6] == ["attention", "running", "undoing"]
    assert told["sagas"][3] == {
        "id": str(child.pk), "item": 3, "key": child.key, "stands": "attention", "archived": False,
    }  # fmt: skip
    assert export.saga(history.read(child.pk))["parent"] == {
        "id": str(saga.pk), "step": "deliver", "item": 3, "key": "order-1001",
    }  # fmt: skip
    assert export.saga(history.read(saga.pk))["parent"] is None
    body = admin_client.viewer().get(reverse("admin:sagas_saga_json", args=[saga.pk])).content
    assert json.loads(body)["children"] == [told]


def test_a_family_in_the_archive_is_shown_as_one(monkeypatch):
    saga = kin.begin(monkeypatch, count=12, do_send_1="fail")
    children = kin.children(saga)
    viewer = admin_client.viewer()
    assert archive.run(older_than=NEVER) == 13

    response = page(saga, viewer)

    (brood,) = response.context["broods"]
    assert brood.words == "11 of 12 done, 1 is undone"
    assert [child.row.pk for child in brood.named] == [child.pk for child in children[: families.SHOWN]]
    assert f"{ARCHIVED}?parent={saga.pk}.deliver" in response.content.decode()
    listed = viewer.get(ARCHIVED, {"parent": f"{saga.pk}.deliver"})
    assert set(shown(listed)) == {child.pk for child in children}
    assert "deliver 2 of 12 · order-1001" in admin_client.text(listed)
    of_child = page(children[1], viewer)
    assert of_child.context["title"] == "deliver 2 of 12 · order-1001"
    assert export.saga(history.read(saga.pk))["children"][0]["total"] == 12


def test_a_family_of_which_some_are_in_the_archive_is_counted_whole(monkeypatch):
    saga = kin.begin(monkeypatch, count=3)
    child = kin.children(saga)[1]
    archive.run(older_than=NEVER)
    assert archive.restore(child.pk)

    record = history.read(saga.pk)

    assert record.children["deliver"] == reading.ChildrenCounts(completed=3)
    assert history.read(child.pk).parent.label == "deliver 2 of 3"


# --- In Portuguese --------------------------------------------------------------------------------


def test_a_family_is_told_in_portuguese(monkeypatch):
    saga = kin.mixed(monkeypatch)
    viewer, told = admin_client.viewer(), []

    with languages.override("en"):  # A request leaves its language behind.
        for one in (saga, kin.children(saga)[0]):
            response = viewer.get(admin_client.page(one), headers={"Accept-Language": "pt-br"})
            # Data is as the rows have it.
            response.content = re.sub(rb"<pre.*?</pre>", b"", response.content, flags=re.DOTALL)
            told.append(admin_client.text(response))

    for text in told:
        for word in ("8 children", "a child", "its parent", "to come", "waits", " of 8", "See to"):
            assert word not in text, word
    assert "etapa deliver 1 de 8" in told[1]
