"""Operators' interventions: who may, when they apply, what they do, and what is kept of them."""

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import reverse

from sagas import engine, errors, models
from sagas.console import formatting, history, interventions, roles
from sagas.console.models import Consent
from tests.sagas.console import admin_client
from tests.sagas.sample_app import saga as toys

pytestmark = pytest.mark.usefixtures("rows")

SKIPPABLE = toys.saga("toy-skippable", toys.local("a"), toys.local("b", optional=True), toys.local("c"))


def skippable():
    # The operator's chance: b is at hand, and nobody is at it.
    return admin_client.under_way(SKIPPABLE, "do a", 1)


def held():
    return admin_client.act(engine.hold, admin_client.waiting(), actor="olga", reason="wait")


def held_for_attention():
    return admin_client.act(engine.hold, admin_client.attention(), actor="olga", reason="wait")


def retrying():
    return admin_client.under_way(toys.REMOTE, "do a, flake b", 2)


# Each intervention with a saga to which it applies, what else it asks for, and where that leads in the end.
WHERE_IT_APPLIES = {
    "resume": (admin_client.attention, {}, "compensated"),
    "retry": (retrying, {}, "completed"),
    "ask": (admin_client.waiting, {}, "completed"),
    "happened": (admin_client.attention, {}, "compensated"),
    "did-not-happen": (admin_client.stuck, {}, "compensated"),
    "compensate": (admin_client.waiting, {}, "compensated"),
    "hold": (admin_client.waiting, {}, None),
    "release": (held, {}, None),
    "extend": (admin_client.waiting, {"hours": "48"}, None),
    "skip": (skippable, {}, "completed"),
    "close": (admin_client.attention, {}, None),
}

assert set(WHERE_IT_APPLIES) == set(interventions.INTERVENTIONS), "an intervention without a test"

KINDS = {
    "resume": "operator.retry",
    "happened": "operator.resolve",
    "did-not-happen": "operator.resolve",
}


@pytest.mark.parametrize("name", WHERE_IT_APPLIES)
def test_an_intervention_says_what_it_will_do_asks_why_does_it_and_is_kept(name):
    make, given, ends = WHERE_IT_APPLIES[name]
    saga, supervisor = make(), admin_client.supervisor()
    page = admin_client.intervention(saga, name)

    before = supervisor.get(page)
    assert before.context["preview"], "it says what it will do"
    assert not before.context["refusal"]
    assert before.context["outcome"], "it says what comes of it"

    nameless = supervisor.post(page, admin_client.said(saga, **given, reason="  "))
    assert nameless.context["form"].errors["reason"]
    assert not saga.events.filter(kind__startswith="operator", actor="supervisor").exists()

    after = supervisor.post(page, admin_client.said(saga, **given, reason="Ticket 12"))
    assert (after.status_code, after["Location"]) == (302, admin_client.page(saga))
    event = saga.events.get(kind=KINDS.get(name, f"operator.{name}"), actor="supervisor")
    assert event.reason == "Ticket 12"
    entry = LogEntry.objects.filter(user=supervisor.user, object_id=str(saga.pk)).latest("action_time")
    assert "Ticket 12" in entry.get_change_message()
    if ends:
        assert admin_client.finish(saga).state == ends


def test_an_intervention_that_does_not_apply_has_no_button_and_says_why():
    saga, supervisor = admin_client.play(toys.ONE, "do a, completed"), admin_client.supervisor()

    for name in interventions.INTERVENTIONS:
        page = supervisor.get(admin_client.intervention(saga, name))
        refused = supervisor.post(
            admin_client.intervention(saga, name), admin_client.said(saga, reason="no matter", hours="1")
        )

        assert page.context["refusal"], name
        assert '<form method="post" class="card' not in page.content.decode(), name
        assert refused.status_code == 409, name
    saga.refresh_from_db()
    assert saga.state == "completed"
    assert not saga.events.filter(kind__startswith="operator").exists()


FORETOLD = [
    (admin_client.attention, "resume", ["saga “Compensating”", "saga “Compensated”"]),
    (admin_client.attention, "happened", ["saga “Compensating”", "saga “Compensated”"]),
    (admin_client.attention, "close", ["saga “Put aside”"]),
    (admin_client.waiting, "compensate", ["saga “Compensating”", "saga “Compensated”"]),
    (admin_client.waiting, "hold", ["saga “Running”"]),
    (admin_client.stuck, "happened", ["saga “Running”", "saga “Completed”"]),
    (admin_client.stuck, "did-not-happen", ["saga “Compensating”", "saga “Compensated”"]),
]


@pytest.mark.parametrize(("make", "name", "standing"), FORETOLD)
def test_a_preview_says_how_the_saga_will_stand_and_it_comes_so(make, name, standing):
    saga = make()
    supervisor = admin_client.supervisor()

    outcome = supervisor.get(admin_client.intervention(saga, name)).context["outcome"]
    answer = supervisor.post(
        admin_client.intervention(saga, name), admin_client.said(saga, reason="so", hours="1"), follow=True
    )

    assert [line.partition(": ")[2].rstrip(".") for line in outcome] == standing
    (message,) = [str(one) for one in answer.context["messages"]]
    assert f"Now: {standing[0]}." in message


def test_an_extension_gives_the_new_deadline_as_a_date():
    saga = admin_client.waiting()
    operator = admin_client.operator()
    page = admin_client.intervention(saga, "extend")

    outcome = operator.get(page).context["outcome"]
    answer = operator.post(page, admin_client.said(saga, reason="so", hours="24"), follow=True)

    saga.refresh_from_db()
    date = formatting.moment(saga.deadline_at)
    assert f"With 24 h more the deadline is {date}." in outcome
    assert f"The deadline is {date} now." in admin_client.text(answer)


def test_what_waits_is_asked_about_instead_of_tried_again():
    page = admin_client.supervisor().get(admin_client.intervention(admin_client.waiting(), "retry"))

    assert "ask the provider instead" in page.context["refusal"]


def test_what_is_in_doubt_is_said_to_be_asked_about_first():
    lost = admin_client.under_way(toys.MIXED, "do a, lose b", 2)

    preview = admin_client.supervisor().get(admin_client.intervention(lost, "retry")).context["preview"]

    assert "is asked by the key" in preview[0]
    assert "If it did not happen, it is done now" in preview[-1]


def test_what_is_said_to_be_possible_is_possible_and_what_is_not_is_not():
    """The page's word and the engine's are held equal, for every intervention in many situations."""
    supervisor = admin_client.supervisor()
    makers = [
        admin_client.attention, admin_client.stuck, admin_client.waiting, held, held_for_attention,
        retrying, skippable,
        lambda: admin_client.under_way(toys.LONG, "", 2),
        lambda: admin_client.under_way(toys.MIXED, "do a, lose b", 2),
        lambda: admin_client.under_way(toys.LOCAL, "do a, fail b", 3),
        lambda: admin_client.play(toys.PIVOT_WAIT, "do a, begin p"),
        lambda: admin_client.play(toys.PIVOTAL, "do a, do p, 3x flake r, needs attention"),
        lambda: admin_client.act(engine.close, admin_client.attention(), actor="olga", reason="Settled"),
        lambda: admin_client.play(toys.ONE, "do a, completed"),
    ]  # fmt: skip
    possible = set()
    for make in makers:
        for name, intervention in interventions.INTERVENTIONS.items():
            # So many sagas that fail at one queue would otherwise look like an outage (R4), and those
            # of before would keep the clock from standing still.
            models.Circuit.objects.all().delete()
            models.SagaInstance.objects.filter(held_at=None).update(held_at=models.database_now())
            saga = make()
            told = history.read(saga.pk)
            refusal = intervention.refused(told)

            try:
                intervention.make(told, seen=told.seen, actor="olga", reason="to see", arguments={"hours": 1})
                made = True
            except errors.SagaError:
                made = False

            where = f"{name} of {saga.name}, {told.saga.state} at {told.step.name} ({told.step.state})"
            # What `happened` needs beside is the facts that later steps take, which the form asks for.
            assert made != bool(refusal), f"page and engine differ: {where}"
            if not refusal:
                possible.add(name)
    assert possible == set(interventions.INTERVENTIONS)
    assert supervisor.get(admin_client.page(admin_client.waiting())).status_code == 200


def test_somebody_else_was_first_and_nothing_is_done_twice():
    saga, supervisor = admin_client.attention(), admin_client.supervisor()
    supervisor.get(admin_client.intervention(saga, "resume"))

    engine.resume(saga.pk, seen=engine.look(saga.pk), actor="olga", reason="first")
    late = supervisor.post(
        admin_client.intervention(saga, "resume"), admin_client.said(saga, reason="second")
    )

    assert late.status_code == 409
    assert "It goes on by itself" in admin_client.text(late)
    assert saga.events.filter(kind="operator.retry").count() == 1


def test_evidence_may_carry_the_facts_that_later_steps_need():
    saga = admin_client.stuck()

    admin_client.supervisor().post(
        admin_client.intervention(saga, "happened"),
        admin_client.said(saga, reason="The world's log, line 8", facts='{"number": 8}'),
    )

    row = saga.steps.get(name="p")
    assert (row.state, row.facts["number"]) == ("done", 8)


def test_facts_that_are_no_object_are_refused_with_the_field_named():
    saga = admin_client.stuck()

    unkeepable = ('{"number": 1e999}', '{"number": NaN}', '{"a": "\\u0000"}', '{"a": "\\ud800"}', "9" * 5000)
    for facts in ("[1]", "{", '"x"', *unkeepable, "[" * 40 + "]" * 40):
        response = admin_client.supervisor().post(
            admin_client.intervention(saga, "happened"), admin_client.said(saga, reason="so", facts=facts)
        )

        assert list(response.context["form"].errors) == ["facts"], facts
    saga.refresh_from_db()
    assert saga.state == "needs_attention"


def test_a_deadline_is_extended_by_the_hours_given():
    saga = admin_client.waiting()

    admin_client.operator().post(
        admin_client.intervention(saga, "extend"),
        admin_client.said(saga, reason="The carrier is late", hours="48"),
    )

    later = models.SagaInstance.objects.get(pk=saga.pk).deadline_at
    assert (later - saga.deadline_at).total_seconds() == pytest.approx(48 * 3600, abs=1)


def test_what_was_put_aside_stays_aside():
    saga = admin_client.act(engine.close, admin_client.attention(), actor="olga", reason="Settled")

    for operation in (engine.retry, engine.resume, engine.compensate, engine.hold, engine.ask, engine.close):
        with pytest.raises(errors.NotAllowed):
            admin_client.act(operation, saga, actor="olga", reason="again")


def test_a_question_that_finds_nothing_fails_the_wait():
    saga = admin_client.play(toys.WAIT, "do a, begin w, miss ask w")

    engine.ask(saga.pk, seen=engine.look(saga.pk), actor="olga", reason="The payer says he paid")

    assert admin_client.finish(saga).state == "compensated"


# --- Who may --------------------------------------------------------------------------------------

ROLES = [admin_client.NOBODY, *roles.MAY]


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("name", WHERE_IT_APPLIES)
def test_each_role_may_exactly_what_it_says(role, name):
    make, given, _ends = WHERE_IT_APPLIES[name]
    saga, person = make(), admin_client.client(role)
    allowed = interventions.INTERVENTIONS[name].permission in roles.MAY.get(role, ())

    seen = person.get(admin_client.page(saga))
    asked = person.get(admin_client.intervention(saga, name))
    done = person.post(
        admin_client.intervention(saga, name), admin_client.said(saga, **given, reason="Ticket 12")
    )

    assert seen.status_code == (403 if role == admin_client.NOBODY else 200)
    assert asked.status_code == (200 if allowed else 403)
    assert done.status_code == (302 if allowed else 403)
    assert saga.events.filter(actor=person.user.username).exists() == allowed
    if role == roles.VIEWER:
        offers = seen.context["interventions"]
        assert all("Your role does not allow it" in offer["refusal"] for offer in offers)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(
    "path",
    [
        "/admin/sagas/sagainstance/", "/admin/sagas/sagainstance/groups/", "/admin/sagas_console/bulkrun/",
        "/admin/sagas/event/", "/admin/sagas/signal/", "/admin/sagas/queue/", "/admin/sagas/circuit/",
        "/admin/sagas_console/consent/", "/admin/sagas/stepinstance/", "/admin/sagas_console/failurenote/",
        "/admin/orders/order/", "/admin/payments/payment/", "/admin/inventory/product/",
        "/admin/invoicing/invoice/", "/admin/shipping/shipment/",
    ],
)  # fmt: skip
def test_whoever_has_a_role_sees_every_list_and_nobody_else_does(role, path):
    assert admin_client.client(role).get(path).status_code == (403 if role == admin_client.NOBODY else 200)


def test_who_is_not_logged_in_sees_nothing():
    saga = admin_client.waiting()

    for path in (
        admin_client.page(saga),
        admin_client.intervention(saga, "hold"),
        "/admin/",
        "/admin/sagas/sagainstance/",
    ):
        assert Client().get(path)["Location"].startswith("/admin/login/")


def test_rows_are_changed_by_interventions_alone_even_by_those_who_may_everything():
    saga, supervisor = admin_client.waiting(), admin_client.supervisor()
    supervisor.user.is_superuser = True
    supervisor.user.save()
    try:
        for path in (
            "/admin/sagas/sagainstance/add/",
            f"/admin/sagas/sagainstance/{saga.pk}/delete/",
            "/admin/sagas/event/add/",
            f"/admin/sagas/event/{saga.events.first().pk}/delete/",
        ):
            assert supervisor.get(path).status_code == 403, path
    finally:
        supervisor.user.is_superuser = False
        supervisor.user.save()


def test_roles_are_made_once_and_then_belong_to_the_administrator():
    from django.contrib.auth.models import Group

    roles.make()
    viewer = Group.objects.get(name=roles.VIEWER)
    taken = viewer.permissions.get(codename="view_event")
    viewer.permissions.remove(taken)
    try:
        roles.make()
        assert not viewer.permissions.filter(codename="view_event").exists()
    finally:
        viewer.permissions.add(taken)
    secrets = {"view_token", "view_idempotencykey", "view_endpoint", "view_user"}
    for name in roles.MAY:
        codenames = set(Group.objects.get(name=name).permissions.values_list("codename", flat=True))
        assert not codenames & secrets
        assert not [code for code in codenames if code.startswith(("add_", "change_", "delete_"))]


# --- Two persons ----------------------------------------------------------------------------------


def decide(person, consent, decision):
    page = f"/admin/sagas/sagainstance/{consent.saga_id}/consent/{consent.pk}/"
    return person.post(page, {"reason": "I looked", "decision": decision})


def ask_for(saga, name="compensate"):
    supervisor = admin_client.supervisor()
    supervisor.post(admin_client.intervention(saga, name), admin_client.said(saga, reason="Ticket 12"))
    return supervisor, Consent.objects.get(saga=saga)


@pytest.fixture
def four_eyes(settings):
    settings.SAGAS_FOUR_EYES = True


@pytest.mark.usefixtures("four_eyes")
def test_an_intervention_that_moves_money_waits_for_a_second_person():
    saga = admin_client.waiting()

    _supervisor, consent = ask_for(saga)

    saga.refresh_from_db()
    assert (saga.state, consent.state) == ("running", "asked")
    said = admin_client.text(admin_client.viewer().get(admin_client.page(saga)))
    assert "supervisor asked for “Compensate now”" in said

    decide(admin_client.supervisor("second"), consent, "agree")

    assert admin_client.finish(saga).state == "compensated"
    consent.refresh_from_db()
    assert (consent.state, consent.decided_by) == ("approved", "second")
    kinds = list(saga.events.filter(kind__startswith="operator").values_list("kind", "actor"))
    assert kinds == [
        ("operator.asked", "supervisor"),
        ("operator.approved", "second"),
        ("operator.compensate", "supervisor"),
    ]


@pytest.mark.usefixtures("four_eyes")
def test_nobody_agrees_with_himself_but_may_take_it_back():
    saga = admin_client.waiting()
    supervisor, consent = ask_for(saga)

    assert decide(supervisor, consent, "agree").status_code == 409
    assert decide(supervisor, consent, "refuse").status_code == 302

    consent.refresh_from_db()
    saga.refresh_from_db()
    assert (consent.state, saga.state, saga.direction) == ("refused", "running", 1)


@pytest.mark.usefixtures("four_eyes")
def test_who_may_not_make_an_intervention_may_not_agree_to_it():
    saga = admin_client.waiting()
    _supervisor, consent = ask_for(saga)

    assert decide(admin_client.operator(), consent, "agree").status_code == 403


@pytest.mark.usefixtures("four_eyes")
def test_an_intervention_is_asked_for_once():
    saga = admin_client.waiting()
    supervisor, _consent = ask_for(saga)

    again = supervisor.post(
        admin_client.intervention(saga, "compensate"), admin_client.said(saga, reason="once more")
    )

    assert again.status_code == 409
    assert Consent.objects.filter(saga=saga).count() == 1


@pytest.mark.usefixtures("four_eyes")
def test_an_agreement_that_comes_too_late_does_nothing():
    saga = admin_client.waiting()
    _supervisor, consent = ask_for(saga)
    engine.receive(source="world", event_id="e1", key=f"{saga.pk}.w", facts={"settled": True})
    assert admin_client.finish(saga).state == "completed"

    decide(admin_client.supervisor("second"), consent, "agree")

    consent.refresh_from_db()
    assert consent.state == "void"
    assert consent.decision
    assert admin_client.finish(saga).state == "completed"


@pytest.mark.usefixtures("four_eyes")
def test_an_intervention_that_moves_no_money_needs_one_person():
    saga = admin_client.waiting()

    admin_client.operator().post(
        admin_client.intervention(saga, "hold"), admin_client.said(saga, reason="Ticket 12")
    )

    saga.refresh_from_db()
    assert saga.held_at is not None


@pytest.mark.usefixtures("four_eyes")
def test_the_second_person_reads_what_the_first_ones_button_said():
    saga = admin_client.attention()
    _first, consent = ask_for(saga, "happened")
    second = admin_client.supervisor("second")

    pages = {
        "where it is decided": reverse("admin:sagas_saga_decide", args=[saga.pk, consent.pk]),
        "the saga's": admin_client.page(saga),
        "the list of consents": reverse("admin:sagas_console_consent_changelist"),
    }

    for name, page in pages.items():
        said = admin_client.text(second.get(page))
        assert "Say that it was undone" in said, name
        assert "Say that it happened" not in said, name


def test_saying_that_the_last_undo_happened_does_not_promise_others():
    last, first = admin_client.attention(), admin_client.play(toys.LOCAL, "do a, do b, fail c, fail undo b")
    supervisor = admin_client.supervisor()

    def foretold(saga):
        return admin_client.text(supervisor.get(admin_client.intervention(saga, "happened")))

    assert "goes on undoing what is left" in foretold(first)
    models.StepInstance.objects.filter(saga=last, name="a").update(state="undone")
    assert "Nothing else is left to undo" in foretold(last)
