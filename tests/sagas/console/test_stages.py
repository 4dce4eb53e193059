"""What is more than a list is told as such: steps at once, steps left out, approvals, a later start."""

import datetime
import io
import itertools
import json
import re

import pytest
from django.contrib.auth import models as auth
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.test import Client, utils
from django.utils import translation

from api import tokens
from api.models import Scope
from sagas import engine, errors, models
from sagas.console import bulk, export, failure_groups, health, history, interventions, summary
from sagas.console.admin import graph, timeline
from sagas.console.models import BulkItem, Consent
from sagas.declaration import definition, registry
from sagas.engine import transport
from sagas.engine.seen import Seen
from sagas.testing import clocks, memory_transport
from tests.sagas import harness, scripts
from tests.sagas.console import admin_client
from tests.sagas.sample_app import functions
from tests.sagas.sample_app import saga as toys

pytestmark = pytest.mark.usefixtures("rows")

SAID = {"actor": "olga", "reason": "Ticket 12"}


def approval(name="ok", **rest):
    given = {"permission": "sagas.operate_saga", "limit": definition.DAY, **rest}
    return definition.Approval(name, **given)


DRAINS = toys.saga("toy-drains", toys.local("a"), toys.at_once("both", toys.remote("c"), toys.remote("b")))
ASKS = toys.saga("toy-asks", toys.local("a"), approval(), toys.local("c"))
TWO_ASKED = toys.saga("toy-two-asked", toys.at_once("both", toys.local("a"), approval(persons=2)))
PATIENT = toys.saga(
    "toy-patient", toys.local("a"), approval(lapse="attention"), toys.local("c"), deadline=9 * definition.DAY
)


def read(saga):
    return history.read(saga.pk)


def views(saga):
    return {view.row.name: view for view in history.step_views(read(saga))}


def at_both():
    """b failed once and is tried again; c is done."""
    return admin_client.begin(toys.AT_ONCE, "do a, flake b", messages=3)


def both_in_doubt():
    """Of three, nobody knows whether two happened, and the world could be asked about one of them."""
    return admin_client.begin(toys.AT_ONCE_FIRST, "lose b, lose c", messages=3)


def draining(monkeypatch):
    """While b is at work c fails: what the summary and the steps say before b has ended."""
    said, posted = [], memory_transport.MemoryTransport()

    def fail_beside():
        posted.deliver()
        record = read(saga)
        said.append((summary.of(record), history.step_views(record)))

    class World(functions.Scripted):
        def do(self, key, **rest):
            if key.endswith(".b"):
                fail_beside()
            return super().do(key, **rest)

    monkeypatch.setattr(functions, "WORLD", World())
    with transport.use(posted):
        saga = harness.begin(DRAINS, "do a, fail c")
        posted.deliver_all()
    (told,) = said
    return told


# --- Every page -----------------------------------------------------------------------------------


def test_whatever_happens_to_a_saga_with_conditions_its_page_tells_it():
    viewer = admin_client.viewer()
    played = [(saga, {}, script) for saga, script in scripts.ONE_OF_THEM_FAILS] + scripts.CONDITIONS
    for saga, inputs, script in played:
        in_memory = harness.InMemory()
        in_memory.play(saga, script, inputs)

        response = viewer.get(admin_client.page(in_memory.player.saga))

        assert response.status_code == 200, script
        assert response.context["summary"].what, script


# --- Several steps at once ------------------------------------------------------------------------


def test_every_step_that_the_saga_is_at_is_marked_and_has_a_next_moment_of_its_own():
    saga = both_in_doubt()

    shown = views(saga)

    assert [name for name, view in shown.items() if view.current] == ["b", "c"]
    for name in ("b", "c"):
        assert shown[name].forward.next_at == saga.steps.get(name=name).wake_at is not None
    assert shown["a"].forward.next_at is None
    assert [view.stage.parallel.name for view in shown.values()] == ["all"] * 3


def test_the_summary_says_how_many_of_the_steps_at_once_are_done_and_what_each_waits_for():
    said = summary.of(read(at_both()))

    assert said.what == "2 of 4 steps are done. Steps done at once in “both”: 1 of 2."
    assert "b failed attempt 1 of 3: later. Tried again" in said.next
    assert "c " not in said.next
    assert said.who == "Nobody has to act."


def test_the_summary_tells_of_each_that_is_in_doubt():
    said = summary.of(read(both_in_doubt()))

    assert "Whether b happened is unknown" in said.next
    assert "Whether c happened is unknown" in said.next


def test_one_that_waits_beside_others_is_named_with_whom_it_waits_for():
    saga = admin_client.begin(toys.AT_ONCE_WAIT, "do a, begin w, flake c", messages=4)

    said = summary.of(read(saga))

    assert "w has begun, and waits for a word from outside" in said.next
    assert "c failed attempt 1 of 3" in said.next
    assert said.who == "Nobody here has to act: a word from outside is waited for."


def test_while_a_stage_drains_it_says_that_nothing_is_undone_yet(monkeypatch):
    said, shown = draining(monkeypatch)

    assert said.next == "Nothing is undone before the attempts under way have ended, or count as lost: b."
    assert "Steps undone at once in “both”: 0 of 2." in said.what
    assert [view.row.name for view in shown if view.current] == ["c", "b"]


def test_whoever_is_called_hears_of_every_step_that_is_in_the_way():
    saga = admin_client.begin(toys.AT_ONCE_TWICE, "fail p, fail undo c, fail undo d")
    assert saga.state == "needs_attention"

    record = read(saga)

    assert {row.name for row in record.at_hand} == {"c", "d"}
    assert record.step.name == saga.attention["step"]
    (other,) = {"c", "d"} - {record.step.name}
    assert f"So it is with {other}." in summary.of(record).advice


def test_the_list_names_the_stage_and_a_bulk_run_sees_a_step_of_it():
    saga = at_both()

    assert summary.stands(saga) == "at both"
    assert bulk.look([saga.pk])[saga.pk].step == "b"


# --- What people may do ---------------------------------------------------------------------------


def test_each_step_that_the_saga_is_at_has_its_own_buttons_and_the_saga_its_own():
    saga = both_in_doubt()

    page = admin_client.supervisor().get(admin_client.page(saga))

    offers = {
        step: [offer["intervention"].name for offer in offered] for step, offered in page.context["offers"]
    }
    assert offers == {
        "": ["compensate", "hold", "extend"],
        "b": ["retry", "ask", "happened", "did-not-happen"],
        "c": ["retry", "happened", "did-not-happen"],
    }
    assert f"/intervention/ask/?seen={engine.look(saga.pk, 'b')}".replace(":", "%3A") in page.content.decode()
    assert ("skip", "c", "c is not optional.") in [
        (offer["intervention"].name, offer["step"], offer["refusal"])
        for offer in page.context["interventions"]
    ]


@pytest.mark.parametrize("name", ["b", "c"])
def test_a_step_at_once_is_settled_from_the_page_and_the_others_are_left_alone(name):
    saga = both_in_doubt()
    person, seen = admin_client.supervisor(), engine.look(saga.pk, name)
    (other,) = {"b", "c"} - {name}

    page = person.get(admin_client.intervention(saga, "happened", seen))
    done = person.post(
        admin_client.intervention(saga, "happened", seen), admin_client.said(saga, seen, reason="It is there")
    )

    assert f"{name} counts as done, with the facts given below." in page.context["preview"]
    assert f"The saga goes on when these are done as well: {other}." in page.context["preview"]
    assert done.status_code == 302
    assert {row.name: row.state for row in saga.steps.all()} == {"a": "done", name: "done", other: "unknown"}
    (answer,) = history.answers(read(saga)).values()
    assert (answer.step, answer.what, answer.reason) == (name, "happened", "It is there")


def test_a_decision_on_a_step_at_once_is_refused_once_that_step_has_moved_on():
    saga = both_in_doubt()
    seen = {name: engine.look(saga.pk, name) for name in ("b", "c")}
    happened = interventions.INTERVENTIONS["happened"]
    interventions.make(saga.pk, happened, seen=seen["b"], **SAID)

    with pytest.raises(errors.MovedOn):
        interventions.make(saga.pk, happened, seen=seen["b"], **SAID)
    interventions.make(saga.pk, happened, seen=seen["c"], **SAID)

    assert saga.steps.get(name="c").state == "done"


def test_a_second_person_agrees_to_what_was_asked_for_one_step_at_once(settings):
    settings.SAGAS_FOUR_EYES = True
    saga = both_in_doubt()
    with pytest.raises(interventions.NeedsConsent):
        interventions.make(
            saga.pk, interventions.INTERVENTIONS["happened"], seen=engine.look(saga.pk, "c"), **SAID
        )
    asked = Consent.objects.get(saga=saga)
    assert not interventions.consent_moved_on(asked, read(saga))

    shown = admin_client.supervisor("second").get(f"/admin/sagas/sagainstance/{saga.pk}/consent/{asked.pk}/")
    decided = interventions.decide(asked.pk, agree=True, actor="second", reason="I saw it too")

    assert "c counts as done, with the facts given below." in shown.context["preview"]
    assert decided.state == "approved"
    assert {row.name: row.state for row in saga.steps.all()} == {"a": "done", "b": "unknown", "c": "done"}


def test_a_step_at_once_that_is_done_with_is_not_tried_again():
    saga = at_both()

    with pytest.raises(errors.NotAllowed, match="c is over"):
        engine.retry(saga.pk, seen=engine.look(saga.pk, "c"), **SAID)


def test_what_would_be_undone_at_once_stands_together_in_the_preview():
    saga = at_both()

    preview = interventions.INTERVENTIONS["compensate"].preview(read(saga))

    assert preview[0] == "These steps are undone, in this order: c + b, a."


def test_what_is_undone_one_by_one_stands_so_in_the_preview():
    saga = admin_client.begin(toys.AT_ONCE_REVERSE, "flake d", messages=4)
    assert saga.position == 3

    preview = interventions.INTERVENTIONS["compensate"].preview(read(saga))

    assert preview[0] == "These steps are undone, in this order: c, b, a."


def test_a_bulk_run_sees_that_a_step_at_once_failed_again():
    saga = admin_client.begin(
        toys.AT_ONCE_TWICE, "do a, do b, do c, do d, do p, do r, fail s, needs attention, fail s"
    )
    assert saga.state == "needs_attention"
    run = bulk.begin(chosen=bulk.look([saga.pk]), intervention="resume", **SAID)
    posted = memory_transport.MemoryTransport()
    with transport.use(posted):
        bulk.drive()
        bulk.drive()
        saga.refresh_from_db()
        assert saga.state == "running", run.items.get().message
        posted.deliver_all()
        bulk.drive()

    assert run.items.get().state == BulkItem.State.FAILED


# --- Steps left out -------------------------------------------------------------------------------


def test_a_step_that_was_left_out_says_why_and_one_that_was_not_says_so_too():
    saga = admin_client.begin(toys.CHOICE, "", yes=True)

    shown = views(saga)

    assert (shown["b"].condition, shown["b"].skipped) == ("Not left out: “yes” is true.", False)
    assert (shown["c"].condition, shown["c"].skipped) == ("Left out: “yes” is true.", True)
    assert shown["c"].backward is None
    assert shown["d"].condition == ""
    assert summary.of(read(saga)).what.startswith("All 3 steps were done, in ")
    assert summary.of(read(saga)).what.endswith(" Left out: c.")


def test_before_it_is_decided_a_step_says_under_which_facts_it_is_done():
    shown = views(admin_client.begin(toys.CHOICE, "", messages=0, yes=True))

    assert shown["b"].condition == "Done only if “yes” is true."
    assert shown["c"].condition == "Done only if “yes” is not true."


def test_a_step_that_never_began_since_the_saga_turned_round_says_so():
    saga = admin_client.begin(toys.AT_ONCE, "do a, fail c")

    assert views(saga)["b"].condition == "Left out: the saga turned round before it began."


def test_where_every_step_is_left_out_nothing_was_to_be_done():
    saga = admin_client.begin(toys.ALL_LEFT_OUT, "")

    assert summary.of(read(saga)).what == "Nothing was to be done: every step was left out."
    assert admin_client.viewer().get(admin_client.page(saga)).status_code == 200


# --- Approvals ------------------------------------------------------------------------------------


def test_an_approval_says_who_may_answer_and_what_silence_means_and_is_no_attempt():
    saga = admin_client.begin(ASKS, "")

    record = read(saga)
    said = summary.of(record)

    assert "ok waits for a person's yes or no; its limit is reached in" in said.next
    assert said.who == "Somebody who has the permission sagas.operate_saga: approve it, or refuse it."
    assert said.tone == "waiting"
    assert [(one.step, one.waits) for one in history.attempts(record)] == [("a", False), ("ok", True)]
    assert views(saga)["ok"].approval.permission == "sagas.operate_saga"
    assert "say" not in "".join(interventions.INTERVENTIONS["hold"].preview(record))


def test_nobody_settles_an_approval_as_if_a_provider_knew():
    record = read(admin_client.begin(ASKS, ""))

    for name in ("retry", "ask", "happened", "did-not-happen", "skip"):
        assert interventions.INTERVENTIONS[name].refused(record), name


def test_of_two_who_must_approve_it_says_how_many_have():
    saga = admin_client.begin(TWO_ASKED, "")
    engine.approve(saga.pk, "ok", **SAID)

    assert summary.of(read(saga)).next.endswith("1 of 2 persons have said yes.")


def test_an_approval_that_was_withdrawn_is_no_attempt_and_nothing_that_was_undone():
    saga = admin_client.begin(ASKS, "")
    with transport.use(posted := memory_transport.MemoryTransport()):
        engine.cancel(saga.pk, **SAID)
        posted.deliver_all()

    record = read(saga)

    assert [(one.step, one.undo) for one in history.attempts(record)] == [
        ("a", False), ("ok", False), ("a", True),
    ]  # fmt: skip
    assert "Undone in reverse order: a." in summary.of(record).what


def test_an_approval_that_nobody_answered_calls_an_operator_in_the_viewers_language(settings):
    saga = admin_client.begin(PATIENT, "")
    with transport.use(memory_transport.MemoryTransport()):
        clocks.pass_time(definition.DAY, saga.pk)
        engine.sweep()

    said = summary.of(read(saga))

    assert said.what == "It cannot go on by itself at ok: Nobody has approved ok or refused it, in time."
    person = admin_client.viewer()
    person.cookies[settings.LANGUAGE_COOKIE_NAME] = "pt-br"
    with translation.override("en"):  # Which the request leaves behind otherwise.
        told = admin_client.text(person.get(admin_client.page(saga)))
    assert "Ninguém aprovou nem recusou ok a tempo." in told


# --- A later start --------------------------------------------------------------------------------


def later(saga=toys.AT_ONCE):
    registry.add(saga)
    with transport.use(memory_transport.MemoryTransport()), transaction.atomic():
        at = models.database_now() + datetime.timedelta(hours=3)
        return engine.begin(saga, key="later", inputs={}, not_before=at)


@pytest.mark.parametrize("saga", [toys.AT_ONCE, toys.AT_ONCE_FIRST], ids=["a step first", "steps first"])
def test_a_saga_that_starts_later_is_said_to_start_then(saga):
    instance = later(saga)
    instance.refresh_from_db()

    said = summary.of(read(instance))

    assert said.what == "It has not started yet."
    assert said.next.startswith("It starts at ")
    assert "(in 2 h 59 min)" in said.next
    assert said.who == "Nobody has to act."
    assert summary.stands(instance).startswith("starts at ")
    page = admin_client.text(admin_client.viewer().get(admin_client.page(instance)))
    assert "Starts" in page
    assert "Looked at again" not in page
    assert export.saga(read(instance))["starts_at"] == instance.wake_at.isoformat()


def test_a_saga_that_starts_later_is_neither_old_nor_overdue():
    later()

    figures = health.read()

    assert (figures.oldest, figures.overdue) == (None, 0)


# --- Pictures -------------------------------------------------------------------------------------


def drawn(saga):
    record = read(saga)
    return graph.of(record, history.step_views(record))


def test_steps_at_once_are_drawn_side_by_side_in_a_box_each_above_its_undo():
    picture = drawn(at_both())

    (box,) = picture.boxes
    inside = [
        node
        for node in picture.nodes
        if box.x <= node.x and node.x + node.width <= box.x + box.width
        and box.y <= node.y and node.y + node.height <= box.y + box.height
    ]  # fmt: skip
    actions, undos = ([node for node in inside if node.undo == undo] for undo in (False, True))
    assert (box.name, box.current) == ("both", True)
    assert [node.name for node in actions] == [node.name for node in undos] == ["b", "c"]
    assert len({node.y for node in actions}) == 1
    assert actions[0].x + actions[0].width < actions[1].x
    assert all(undo.y >= action.y + action.height for action, undo in zip(actions, undos, strict=True))
    assert [node.name for node in picture.nodes if node.current] == ["b"]


@pytest.mark.parametrize("count", [2, 3, 4, 5, 7])
def test_however_many_are_done_at_once_none_is_drawn_over_another_or_beyond_the_picture(count):
    names = [f"deliver-parcel-number-{number}" for number in range(count)]
    saga = toys.saga(f"toy-wide-{count}", toys.at_once("wide", *(toys.local(name) for name in names)))
    picture = drawn(admin_client.begin(saga, "", messages=0))

    nodes = picture.nodes
    assert len(nodes) == 2 * count
    for node in nodes:
        assert node.x >= 0
        assert node.x + node.width <= 360
        assert node.y + node.height <= picture.height
        assert "".join(node.lines).removesuffix("…") in node.name
    apart = [
        one.x + one.width <= other.x or other.x + other.width <= one.x
        or one.y + one.height <= other.y or other.y + other.height <= one.y
        for number, one in enumerate(nodes) for other in nodes[:number]
    ]  # fmt: skip
    assert all(apart)


def test_a_step_that_was_left_out_is_drawn_so_with_the_reason_and_no_undo():
    picture = drawn(admin_client.begin(toys.CHOICE, "", yes=True))

    (left_out,) = [node for node in picture.nodes if node.name == "c"]
    assert (left_out.state, left_out.undo) == ("skipped", False)
    assert " ".join(picture.notes[0].lines) == "Left out: “yes” is true."
    assert all(edge.taken for edge in picture.edges if not edge.undo)


def test_an_approval_has_a_mark_of_its_own():
    page = admin_client.viewer().get(admin_client.page(admin_client.begin(ASKS, "")))

    assert [node.name for node in page.context["graph"].nodes if node.approval] == ["ok"]
    assert page.content.decode().count('class="person"') == 1


def test_bars_of_steps_at_once_overlap_where_their_attempts_did(monkeypatch):
    posted = memory_transport.MemoryTransport()
    monkeypatch.setattr(functions, "WORLD", harness.Meanwhile(posted.deliver))
    with transport.use(posted):
        saga = harness.begin(toys.AT_ONCE_FIRST, "")
        posted.deliver_all()

    record = read(saga)
    picture = timeline.of(record, history.attempts(record))
    bars = {picture_row.name: bar for picture_row in picture.rows for bar in picture.bars
            if bar.y == picture_row.y + 18 and not picture_row.undo}  # fmt: skip
    inner, outer = sorted((bars["b"], bars["c"]), key=lambda bar: bar.width)
    assert outer.x < inner.x
    assert inner.x + inner.width < outer.x + outer.width


def test_neither_a_long_wait_nor_a_lost_attempt_squeezes_what_is_beside_it():
    saga = admin_client.waiting()
    clocks.pass_time(datetime.timedelta(minutes=30), saga.pk)
    record = read(saga)
    began, second, minute = (
        record.saga.created_at,
        datetime.timedelta(seconds=1),
        datetime.timedelta(minutes=1),
    )
    tried = [
        history.Attempt(
            step=step, undo=False, number=1, started_at=began + start, ended_at=began + end, outcome="done",
            waits=waits,
        )
        for step, start, end, waits in (
            ("a", 0 * second, second, False),
            ("a", 2 * second, 5 * minute, False),
            ("a", 6 * minute, 6 * minute + second, False),
            ("w", 6 * minute + second, 20 * minute, True),
        )
    ]  # fmt: skip

    picture = timeline.of(record, tried)

    widths = [bar.width for bar in picture.bars]
    assert min(widths) > 8
    assert max(widths) < 60
    assert "4 min 58 s" in [gap.label for gap in picture.gaps]
    labels = [(gap.label_y, gap.label_from) for gap in picture.gaps]
    for line in {y for y, _at in labels}:
        starts = sorted(at for y, at in labels if y == line)
        assert all(b - a >= timeline.LABEL_SHARE for a, b in itertools.pairwise(starts))


# --- Figures --------------------------------------------------------------------------------------


def test_a_saga_of_which_a_step_at_once_is_overdue_is_overdue_once():
    saga = admin_client.begin(toys.AT_ONCE_FIRST, "", messages=0)
    assert health.read().overdue == 0

    clocks.pass_time(datetime.timedelta(minutes=30), saga.pk)

    figures = health.read()
    assert figures.overdue == 1
    assert figures.sweep_lag > datetime.timedelta(minutes=25)
    models.SagaInstance.objects.filter(pk=saga.pk).update(wake_at=models.ClockTimestamp())
    assert health.read().overdue == 1


def test_what_was_left_out_counts_as_no_try_and_what_failed_at_once_is_a_group():
    admin_client.begin(toys.CHOICE, "", yes=True)
    admin_client.begin(toys.AT_ONCE, "do a, do b, fail c")

    figures = {(one.saga, one.step): one for one in health.read().steps}
    assert figures["toy-choice", "c"].count == 0
    assert (figures["toy-at-once", "c"].count, figures["toy-at-once", "c"].failed) == (1, 1)
    assert [(one.name, one.step) for one in failure_groups.groups(failure_groups.FAILED)] == [
        ("toy-at-once", "c")
    ]


# --- For machines ---------------------------------------------------------------------------------


@pytest.fixture
def olga():
    user, _ = auth.User.objects.get_or_create(
        username="olga", defaults={"is_staff": True, "is_superuser": True}
    )
    _, secret = tokens.create(user=user, name="tests", scope=Scope.STAFF)
    yield Client(headers={"Authorization": f"Token {secret}"})
    user.delete()


def test_the_download_says_each_steps_stage_its_own_times_and_what_left_it_out():
    told = export.saga(read(admin_client.begin(toys.AT_ONCE_CHOICE, "flake c", messages=1)))

    steps = {step["name"]: step for step in told["steps"]}
    assert [step["stage"] for step in told["steps"]] == ["all", "all", "all", "more", "more", None]
    assert steps["a"]["skipped"] == {"facts": {"yes": False}}
    assert steps["b"]["skipped"] is None
    assert (steps["b"]["seen"], steps["a"]["seen"]) == ("b:forward:pending:0", None)
    assert steps["b"]["wake_at"]


def test_the_api_says_each_steps_stage_how_it_stands_and_what_left_it_out(olga):
    saga = admin_client.begin(toys.AT_ONCE_CHOICE, "lose b", messages=2)

    told = olga.get(f"/api/v1/sagas/{saga.pk}").json()

    steps = {step["name"]: step for step in told["steps"]}
    assert [step["stage"] for step in told["steps"]] == ["all", "all", "all", "more", "more", None]
    assert steps["a"]["skipped"] == {"facts": {"yes": False}}
    assert (told["step"], told["seen"]) == ("b", "b:forward:unknown:1")
    assert [step["seen"] for step in told["steps"] if step["seen"]] == [told["seen"]]
    assert steps["b"]["wake_at"] is not None
    assert steps["f"]["wake_at"] is None
    assert told["starts_at"] is None


def test_a_step_at_once_is_settled_over_the_api_by_what_it_shows(olga):
    saga = both_in_doubt()
    (seen,) = [s["seen"] for s in olga.get(f"/api/v1/sagas/{saga.pk}").json()["steps"] if s["name"] == "c"]

    moved = olga.post(
        f"/api/v1/sagas/{saga.pk}/resolve",
        {"seen": seen, "reason": "It is there", "happened": True},
        content_type="application/json",
        headers={"Idempotency-Key": "c"},
    )

    assert moved.status_code == 202, moved.json()
    assert [step["state"] for step in moved.json()["steps"]] == ["done", "unknown", "done"]


def test_sagas_are_found_by_each_of_the_steps_that_they_are_at(olga):
    doubtful, other = both_in_doubt(), at_both()
    admin_client.begin(toys.AT_ONCE, "")  # Which has ended.

    found = {
        name: {one["id"] for one in olga.get(f"/api/v1/sagas?step={name}").json()["results"]}
        for name in ("a", "b", "c", "d")
    }

    assert found == {"a": set(), "b": {str(doubtful.pk), str(other.pk)}, "c": {str(doubtful.pk)}, "d": set()}


def test_a_page_with_reasons_takes_as_many_statements_however_many_sagas_it_has(olga):
    def asked():
        with utils.CaptureQueriesContext(connection) as captured:
            results = olga.get("/api/v1/sagas").json()["results"]
        return len(results), len(captured)

    admin_client.begin(toys.CHOICE, "", yes=True)
    olga.get("/api/v1/sagas")  # Whatever is asked once only.
    one, statements = asked()
    for _ in range(3):
        admin_client.begin(toys.CHOICE, "", yes=False)

    assert (one, asked()) == (1, (4, statements))


def test_a_saga_that_starts_later_says_so_over_the_api(olga):
    instance = later()

    told = olga.get(f"/api/v1/sagas/{instance.pk}").json()

    assert told["starts_at"] == told["wake_at"] is not None


def saga_command(*arguments):
    out = io.StringIO()
    call_command("saga", *arguments, stdout=out, stderr=out)
    return out.getvalue()


def test_the_shell_shows_steps_at_once_under_their_name_and_each_as_it_stands():
    saga = both_in_doubt()

    said = saga_command("show", str(saga.pk))

    assert re.findall(r"^all: 3 at once, 1 done\n  a .*\n  b .*", said, re.MULTILINE)
    assert re.findall(r"^Seen: (\S+)$", said, re.MULTILINE) == [
        "b:forward:unknown:1",
        "c:forward:unknown:1",
    ]
    assert "Possible now: compensate, hold, extend\n" in said
    assert "Possible now, with --step b: retry, ask, resolve --happened, resolve --did-not-happen\n" in said
    assert "Possible now, with --step c: retry, resolve --happened, resolve --did-not-happen\n" in said


def test_at_the_shell_the_step_that_is_meant_is_said():
    saga = both_in_doubt()
    reason = ["--reason", "Ticket 12"]

    with pytest.raises(CommandError, match="say with --step which of b, c"):
        saga_command("resolve", str(saga.pk), "--happened", *reason, "--dry-run")
    with pytest.raises(CommandError, match="not at a, but at b, c"):
        saga_command("resolve", str(saga.pk), "--happened", "--step", "a", *reason, "--dry-run")
    seen = ["--seen", "c:forward:unknown:1"]
    with pytest.raises(CommandError, match="about c, and not about b"):
        saga_command("resolve", str(saga.pk), "--happened", "--step", "b", *seen, *reason)
    preview = saga_command("resolve", str(saga.pk), "--happened", "--step", "c", *reason, "--dry-run")
    assert preview.endswith("Seen: c:forward:unknown:1\n")
    saga_command("resolve", str(saga.pk), "--happened", "--seen", "c:forward:unknown:1", *reason)

    assert saga.steps.get(name="c").state == "done"


def test_the_shell_says_why_a_step_was_left_out_and_when_a_saga_starts():
    assert "Left out: “yes” is true." in saga_command(
        "show", str(admin_client.begin(toys.CHOICE, "", yes=True).pk)
    )
    assert "Next: It starts at " in saga_command("show", str(later().pk))


def test_what_is_downloaded_of_an_archived_saga_says_its_stages_too():
    saga = admin_client.begin(toys.CHOICE, "", yes=True)
    call_command("saga", "archive", "--older-than", "0m", stdout=io.StringIO())

    told = json.loads(saga_command("show", str(saga.pk), "--json"))

    assert told["archived_at"]
    assert told["steps"][2]["skipped"] == {"facts": {"yes": True}}


def test_what_was_seen_of_a_step_that_the_saga_is_no_longer_at_has_moved_on():
    saga = admin_client.begin(toys.AT_ONCE, "")
    seen = Seen.parse("b:forward:pending:0")

    assert interventions.INTERVENTIONS["retry"].moved_on(seen, read(saga))
