"""Approvals for people: the console's pages, the list of what waits, and the shell."""

import io
import json

import pytest
from django.contrib.admin.models import LogEntry
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import utils
from django.urls import reverse

from sagas import engine, models
from sagas.console import approving, history, interventions, summary
from sagas.testing import clocks
from tests.sagas import harness
from tests.sagas.console import admin_client
from tests.sagas.sample_app import saga as toys

pytestmark = pytest.mark.usefixtures("rows")

LIST = "/admin/sagas/sagainstance/"


def answered(saga):
    """Its answers: which, by whom, why, and which way."""
    events = saga.events.filter(kind__startswith="approval.").order_by("id")
    return [(event.kind, event.actor, event.reason, event.data.get("through")) for event in events]


# --- The page of a saga ---------------------------------------------------------------------------


def test_the_page_says_who_is_asked_since_when_and_until_when():
    saga = admin_client.asked(toys.APPROVED_WITH_FACTS)

    page = admin_client.reviewer().get(admin_client.page(saga))

    ((question, may),) = page.context["questions"]
    assert (question.row.name, may, question.given) == ("ok", True, [])
    said = admin_client.text(page)
    assert "Waiting for approval" in said
    assert "whoever has the permission sample_app.approve_toy" in said
    assert "then it counts as refused" in said
    assert "To be stated limit, note" in said
    assert page.context["summary"].who.startswith("Somebody who has the permission sample_app.approve_toy")
    assert 'href="' + admin_client.answering(saga, "approve") in page.content.decode()


def test_nobody_without_the_approvals_own_permission_sees_buttons_or_can_answer():
    saga = admin_client.asked()

    for person in (admin_client.viewer(), admin_client.operator()):
        page = person.get(admin_client.page(saga))
        assert "Waiting for approval" in admin_client.text(page)
        assert "/answer/" not in page.content.decode()
        for answer in ("approve", "refuse"):
            assert person.get(admin_client.answering(saga, answer)).status_code == 403
            assert person.post(admin_client.answering(saga, answer), {"reason": "so"}).status_code == 403
    nobody = admin_client.client(admin_client.NOBODY, "nina")
    assert nobody.post(admin_client.answering(saga, "approve"), {"reason": "so"}).status_code == 403
    assert answered(saga) == []


def test_a_yes_is_given_with_a_reason_and_kept():
    saga, rita = admin_client.asked(), admin_client.reviewer()
    page = admin_client.answering(saga, "approve")

    before = rita.get(page)
    assert before.context["preview"] == ["“Ok” is approved, and the saga goes on."]
    nameless = rita.post(page, {"reason": "  "})
    assert nameless.context["form"].errors["reason"]
    assert answered(saga) == []

    after = rita.post(page, {"reason": "Known customer"})
    assert (after.status_code, after["Location"]) == (302, admin_client.page(saga))
    assert answered(saga) == [("approval.given", "rita", "Known customer", "console")]
    entry = LogEntry.objects.filter(user=rita.user, object_id=str(saga.pk)).latest("action_time")
    assert "Known customer" in entry.get_change_message()
    assert admin_client.finish(saga).state == "completed"
    said = summary.of(history.read(saga.pk))
    assert said.answers == ["rita approved ok: Known customer."]


def test_a_no_says_what_is_undone_and_has_it_undone():
    saga, rita = admin_client.asked(), admin_client.reviewer()
    page = admin_client.answering(saga, "refuse")

    assert rita.get(page).context["preview"][:2] == [
        "“Ok” is refused, and the saga turns back.",
        "These steps are undone, in this order: a.",
    ]
    rita.post(page, {"reason": "Not this one"})

    assert answered(saga) == [("approval.refused", "rita", "Not this one", "console")]
    assert admin_client.finish(saga).state == "compensated"
    assert "rita refused ok: Not this one." in summary.of(history.read(saga.pk)).answers


def test_each_fact_has_a_field_of_its_own_that_takes_json_or_text():
    saga, rita = admin_client.asked(toys.APPROVED_WITH_FACTS), admin_client.reviewer()
    page = admin_client.answering(saga, "approve")

    missing = rita.post(page, {"reason": "so", "fact-limit": "7"})
    assert set(missing.context["form"].errors) == {"fact-note"}
    broken = rita.post(page, {"reason": "so", "fact-limit": '{"a": ', "fact-note": "x"})
    assert set(broken.context["form"].errors) == {"fact-limit"}
    assert answered(saga) == []
    assert "fact-limit" not in rita.get(admin_client.answering(saga, "refuse")).content.decode()

    rita.post(page, {"reason": "so", "fact-limit": "7", "fact-note": "as agreed"})
    saga.refresh_from_db()
    assert {name: saga.facts[name] for name in ("limit", "note")} == {"limit": 7, "note": "as agreed"}


def test_of_two_the_second_is_told_who_was_first_and_nobody_is_both():
    saga = admin_client.asked(toys.APPROVED_BY_TWO)
    rita, rob = admin_client.reviewer(), admin_client.reviewer("rob")
    page = admin_client.answering(saga, "approve")

    assert "persons who must approve it too: 1" in rita.get(page).context["preview"][0]
    rita.post(page, {"reason": "Fine"})
    again = rita.post(page, {"reason": "Fine, really"})

    assert again.status_code == 409
    assert "another person must" in admin_client.text(again)
    said = admin_client.text(rob.get(admin_client.page(saga)))
    assert "2 persons who have the permission" in said
    assert "rita" in said
    rob.post(page, {"reason": "Fine, too"})
    assert admin_client.finish(saga).state == "completed"


def test_whoever_comes_too_late_is_told_and_keeps_what_was_written():
    saga, rita = admin_client.asked(), admin_client.reviewer()
    engine.refuse(saga.pk, "ok", actor="otto", reason="no")

    late = rita.post(admin_client.answering(saga, "approve"), {"reason": "Known customer"})

    assert late.status_code == 409
    assert "Nobody is asked about ok any more." in admin_client.text(late)
    assert "Known customer" in admin_client.text(late)
    assert "/answer/" not in rita.get(admin_client.page(saga)).content.decode()


def test_a_member_of_a_parallel_is_answered_in_the_same_way():
    saga, rita = admin_client.asked(toys.APPROVED_AT_ONCE), admin_client.reviewer()

    page = rita.get(admin_client.page(saga))
    assert [question.row.name for question, _may in page.context["questions"]] == ["ok"]
    assert "waits for a person's yes or no" in page.context["summary"].next
    rita.post(admin_client.answering(saga, "approve"), {"reason": "Fine", "fact-limit": "9"})

    assert admin_client.finish(saga).state == "completed"


def test_what_is_no_approval_has_no_such_page():
    saga, rita = admin_client.asked(), admin_client.reviewer()

    for step, answer in (("a", "approve"), ("nothing", "approve"), ("ok", "perhaps")):
        assert rita.get(admin_client.answering(saga, answer, step)).status_code == 404


def test_one_that_nobody_answered_in_time_can_be_answered_or_asked_anew():
    saga, rita = admin_client.asked(toys.LAPSES["attention"]), admin_client.reviewer()
    clocks.pass_time(3 * toys.HOUR)
    admin_client.finish(saga)

    page = rita.get(admin_client.page(saga))
    assert page.context["questions"][0][1]
    assert "its time is over" in admin_client.text(page)
    supervisor = admin_client.supervisor()
    preview = supervisor.get(admin_client.intervention(saga, "resume")).context["preview"]
    assert preview == ["People are asked about ok anew, and have 2 h for it."]


def test_resuming_says_who_is_asked_anew_wherever_the_approval_stands():
    declared = toys.saga(
        "toy-lapsed-beside", toys.at_once("all", toys.local("a"), toys.approval(lapse="attention"))
    )
    saga = admin_client.asked(declared)
    clocks.pass_time(3 * toys.HOUR)
    admin_client.finish(saga)

    resume = admin_client.supervisor().get(admin_client.intervention(saga, "resume"))

    assert resume.context["preview"] == ["People are asked about ok anew, and have 2 h for it."]


def test_no_intervention_pretends_that_a_provider_could_be_asked():
    record = history.read(admin_client.asked().pk)

    for name in ("retry", "happened", "did-not-happen"):
        assert "approved, or refused" in interventions.INTERVENTIONS[name].refused(record), name
    assert interventions.INTERVENTIONS["compensate"].refused(record) == ""


def test_the_timeline_has_the_wait_and_no_attempt():
    saga = admin_client.asked()
    engine.approve(saga.pk, "ok", actor="olga", reason="fine")

    mine = [one for one in history.attempts(history.read(saga.pk)) if one.step == "ok"]

    assert [(one.waits, one.outcome) for one in mine] == [(True, "done")]


# --- What waits -----------------------------------------------------------------------------------


def found(person, which):
    page = person.get(f"{LIST}?approval={which}")
    return {saga.pk for saga in page.context["cl"].result_list}


def test_who_may_approve_finds_what_waits_for_it():
    alone, beside = admin_client.asked(), admin_client.asked(toys.APPROVED_AT_ONCE)
    admin_client.waiting()
    over = admin_client.asked()
    engine.approve(over.pk, "ok", actor="olga", reason="fine")
    rita, viewer = admin_client.reviewer(), admin_client.viewer()

    assert found(rita, "mine") == found(rita, "any") == found(viewer, "any") == {alone.pk, beside.pk}
    assert found(viewer, "mine") == set()
    assert rita.get(LIST).context["approvals_asked"]
    assert "Sagas wait for your approval" in admin_client.text(rita.get(LIST))
    assert "2 sagas wait for your approval" in admin_client.text(rita.get(reverse("admin:index")))
    assert "wait for your approval" not in admin_client.text(viewer.get(LIST))
    assert "wait for your approval" not in admin_client.text(viewer.get(reverse("admin:index")))


def test_what_was_put_aside_or_cancelled_waits_for_nobody():
    saga = admin_client.asked()
    assert approving.waiting().count() == 1

    engine.cancel(saga.pk, actor="customer", reason="no")

    assert approving.waiting().count() == 0


def test_where_no_declaration_asks_anybody_nothing_is_looked_for(monkeypatch):
    monkeypatch.setattr("sagas.declaration.registry._sagas", {})
    assert not approving.asks_anybody()

    with utils.CaptureQueriesContext(connection) as asked:
        assert not approving.waiting(admin_client.reviewer().user).exists()

    assert [query for query in asked.captured_queries if "sagas_step" in query["sql"]] == []


def much_that_waits_for_somebody_else():
    """Five thousand live sagas, each at a step that waits for its provider."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO sagas_saga (id, name, version, fingerprint, key, state, direction, position, epoch,"
            " facts, dispatches, cancel_reason, cancel_actor, wake_at)"
            " SELECT gen_random_uuid(), 'toy-blind-wait', 1, 'f', gen_random_uuid()::text, 'running', 1, 1,"
            " 1, '{}', 1, '', '', now() + interval '1 h' FROM generate_series(1, 5000)"
        )
        cursor.execute(
            "INSERT INTO sagas_step (saga_id, position, name, state, attempts, undo_attempts, fence, task_id,"
            " worker, wait_until) SELECT id, 1, 'w', 'waiting', 1, 0, 1, '', '', wake_at FROM sagas_saga"
            " WHERE name = 'toy-blind-wait'"
        )
        cursor.execute("ANALYZE sagas_saga; ANALYZE sagas_step")


def test_what_waits_for_approval_is_found_by_its_index_however_much_is_live():
    saga = admin_client.asked()
    much_that_waits_for_somebody_else()

    plan = approving.waiting().explain()

    assert list(approving.waiting()) == [saga]
    assert "step_asked" in plan, plan
    assert "Seq Scan" not in plan, plan


# --- At the shell ---------------------------------------------------------------------------------


def shell(*arguments):
    out = io.StringIO()
    call_command("saga", *arguments, stdout=out, stderr=out)
    return out.getvalue()


def test_the_shell_shows_what_is_asked_and_takes_an_answer():
    saga = admin_client.asked(toys.APPROVED_WITH_FACTS)

    said = shell("show", str(saga.pk))
    assert "Waiting for approval: ok, until " in said
    assert "Who is asked: 1 with the permission sample_app.approve_toy" in said
    rehearsed = shell("approve", str(saga.pk), "ok", "--reason", "Ticket 12", "--dry-run")
    assert rehearsed.strip() == "“Ok” is approved, and the saga goes on."
    assert answered(saga) == []

    facts = ["--fact", "limit=7", "--fact", "note=as agreed"]
    told = shell("approve", str(saga.pk), "ok", "--reason", "Ticket 12", "--actor", "olga", "--json", *facts)
    assert json.loads(told)["id"] == str(saga.pk)
    assert answered(saga) == [("approval.given", "olga", "Ticket 12", "shell")]
    saga.refresh_from_db()
    assert (saga.facts["limit"], saga.facts["note"]) == (7, "as agreed")


def test_the_shell_refuses():
    saga = admin_client.asked()

    shell("refuse", saga.key, "ok", "--reason", "Ticket 12", "--actor", "olga")

    assert answered(saga) == [("approval.refused", "olga", "Ticket 12", "shell")]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["a", "--reason", "x"], "no approval"),
        (["nothing", "--reason", "x"], "There is no saga"),
        (["ok"], "--reason"),
        (["ok", "--reason", "x"], "State exactly these facts"),
        (["ok", "--reason", "x", "--fact", "limit"], "NAME=JSON"),
        (["ok", "--reason", "x", "--fact", 'limit={"a": '], "not JSON"),
    ],
)
def test_what_cannot_be_answered_is_an_error_at_the_shell(arguments, why):
    saga = admin_client.asked(toys.APPROVED_WITH_FACTS)

    with pytest.raises(CommandError, match=why):
        shell("approve", str(saga.pk), *arguments)

    assert not models.Event.objects.filter(saga=saga, kind="approval.given").exists()


def test_a_saga_whose_declaration_is_gone_asks_nobody(monkeypatch):
    saga = harness.begin(toys.APPROVAL_FIRST)
    monkeypatch.setattr("sagas.declaration.registry._sagas", {})

    page = admin_client.reviewer().get(admin_client.page(saga))

    assert page.status_code == 200
    assert page.context["questions"] == []
