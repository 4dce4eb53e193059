"""What an operator says is bound to what the operator saw: in the engine, and through every door to it."""

import contextlib
import datetime
import io
import re

import pytest
from django.core.management import CommandError, call_command
from django.urls import reverse

from sagas import engine, errors
from sagas.console import bulk, history, interventions
from sagas.console.models import BulkItem, BulkRun, Consent
from sagas.engine import transport
from sagas.engine.seen import Seen
from sagas.testing import clocks, memory_transport
from tests.sagas.console import admin_client
from tests.sagas.sample_app import saga as toys

pytestmark = pytest.mark.usefixtures("rows")

WHO = {"actor": "olga", "reason": "Ticket 12"}
HOUR = datetime.timedelta(hours=1)
TWO_WAITS = toys.saga("toy-two-waits", toys.local("a"), toys.waits("w"), toys.waits("v"))
OPTIONAL = toys.saga("toy-optional-wait", toys.waits("w"), toys.remote("x", optional=True), toys.local("c"))

OPERATIONS = {
    "resume": engine.resume,
    "retry": engine.retry,
    "ask": engine.ask,
    "happened": lambda pk, **said: engine.resolve(pk, happened=True, **said),
    "did-not-happen": lambda pk, **said: engine.resolve(pk, happened=False, **said),
    "compensate": engine.compensate,
    "hold": engine.hold,
    "release": engine.release,
    "extend": lambda pk, **said: engine.extend(pk, by=HOUR, **said),
    "skip": engine.skip,
    "close": engine.close,
}
assert OPERATIONS.keys() == interventions.INTERVENTIONS.keys(), "an intervention that nobody tries here"


def waiting():
    """It waits for one thing, and when that has come, for the next: both may be said to have happened."""
    return admin_client.play(TWO_WAITS, "do a, begin w, begin v")


def comes(saga, step="w"):
    """What a step waits for comes, and the saga goes on to wait for the next."""
    posted = memory_transport.MemoryTransport()
    with transport.use(posted):
        key = f"{saga.pk}.{step}"
        engine.receive(source="world", event_id=key, key=key, facts={"settled": True})
        posted.deliver_all()
    saga.refresh_from_db()


def turns_round(saga):
    """Its owner no longer wants it, and the undo is refused: it stands at the same step, the other way."""
    posted = memory_transport.MemoryTransport()
    with transport.use(posted):
        engine.cancel(saga.pk, actor="customer", reason="too slow")
        posted.deliver_all()
    saga.refresh_from_db()


def as_it_was(saga, seen):
    """Whether nothing was done to the saga since it was seen so."""
    return engine.look(saga.pk) == seen and not saga.events.filter(kind__startswith="operator").exists()


# --- The engine -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OPERATIONS)
def test_what_was_decided_at_one_step_is_refused_at_the_next(name):
    saga = waiting()
    seen = engine.look(saga.pk)
    comes(saga)
    now = engine.look(saga.pk)
    assert (seen.step, now.step) == ("w", "v"), "somebody paid"

    with pytest.raises(errors.MovedOn, match="moved on"):
        OPERATIONS[name](saga.pk, seen=seen, **WHO)

    assert as_it_was(saga, now)


@pytest.mark.parametrize("name", OPERATIONS)
def test_what_was_said_of_an_action_is_never_taken_for_a_word_about_its_undo(name):
    saga = admin_client.play(toys.BLIND_WAIT, "do a, begin w, fail undo w")
    seen = engine.look(saga.pk)
    turns_round(saga)
    now = engine.look(saga.pk)
    assert (now.step, now.direction, saga.state) == ("w", -1, "needs_attention")

    with pytest.raises(errors.MovedOn):
        OPERATIONS[name](saga.pk, seen=seen, **WHO)

    assert as_it_was(saga, now)
    assert saga.steps.get(name="w").state == "undo_failed"


STATEMENTS = {
    name for name, intervention in interventions.INTERVENTIONS.items() if intervention.about_attempt
}


def test_what_says_how_a_step_stands_is_about_the_attempts_that_were_seen():
    assert {"happened", "did-not-happen", "skip", "close"} == STATEMENTS


@pytest.mark.parametrize("name", ["resume", "extend", "happened", "did-not-happen", "close"])
def test_another_attempt_by_itself_matters_to_who_states_a_fact_and_to_nobody_else(name):
    saga = admin_client.play(toys.PIVOTAL, "do a, do p, 9x flake r, needs attention")
    seen = engine.look(saga.pk)
    admin_client.finish_again(saga)
    now = engine.look(saga.pk)
    assert (now.step, now.state, now.attempt > seen.attempt) == (seen.step, seen.state, True)

    if name in STATEMENTS:
        with pytest.raises(errors.MovedOn):
            OPERATIONS[name](saga.pk, seen=seen, **WHO)
        assert as_it_was(saga, now)
    else:
        OPERATIONS[name](saga.pk, seen=seen, **WHO)


def test_a_poll_that_learned_nothing_makes_nobody_look_again():
    saga = admin_client.play(toys.WAIT, "do a, begin w, begin ask w, begin ask w")
    seen, epoch = engine.look(saga.pk), saga.epoch
    posted = memory_transport.MemoryTransport()
    with transport.use(posted):
        clocks.pass_time(11 * toys.SECOND, saga.pk)
        engine.sweep()
        posted.deliver_all()
    saga.refresh_from_db()
    assert (engine.look(saga.pk), saga.epoch > epoch) == (seen, True)

    engine.resolve(saga.pk, seen=seen, happened=True, **WHO)

    assert saga.steps.get(name="w").state == "done"


def test_a_wait_that_has_failed_meanwhile_is_not_the_wait_that_was_seen():
    saga = admin_client.play(toys.LATE_WAIT, "do a, do p, begin r")
    seen = engine.look(saga.pk)
    engine.receive(source="world", event_id="no", key=f"{saga.pk}.r", refused="The parcel is lost.")

    with pytest.raises(errors.MovedOn):
        engine.resolve(saga.pk, seen=seen, happened=True, **WHO)

    assert engine.look(saga.pk).state == "failed"


def test_it_is_decided_under_the_lock_and_not_before(monkeypatch):
    saga = waiting()
    intervention = interventions.INTERVENTIONS["happened"]
    seen = engine.look(saga.pk)
    make = intervention.make

    def first_somebody_pays(*args, **said):
        comes(saga)
        return make(*args, **said)

    object.__setattr__(intervention, "make", first_somebody_pays)
    try:
        with pytest.raises(errors.MovedOn):
            interventions.make(saga.pk, intervention, seen=seen, **WHO)
    finally:
        object.__setattr__(intervention, "make", make)

    assert saga.steps.get(name="v").state == "waiting"


def test_the_owner_s_own_cancellation_is_a_wish_and_needs_to_have_seen_nothing():
    saga = waiting()
    comes(saga)

    engine.cancel(saga.pk, actor="customer", reason="changed my mind")

    assert admin_client.finish(saga).state == "compensated"


def test_every_intervention_keeps_what_it_was_decided_on_with_its_event():
    saga = waiting()
    seen = engine.look(saga.pk)

    engine.hold(saga.pk, seen=seen, **WHO)

    assert saga.events.get(kind="operator.hold").data["seen"] == str(seen) == "w:forward:waiting:1"


@pytest.mark.parametrize("text", ["", "w", "w:forward:waiting", "w:up:waiting:1", "w:forward:gone:1",
                                  "w:forward:waiting:-1", "w:forward:waiting:１", ":forward:waiting:1",
                                  "w:forward:waiting:1:2", "W:forward:waiting:1", "w" * 200])  # fmt: skip
def test_what_nobody_can_have_seen_is_not_read(text):
    with pytest.raises(errors.BadSeen):
        Seen.parse(text)


def test_what_is_printed_is_what_is_read():
    for make in (waiting, admin_client.attention, admin_client.stuck):
        seen = engine.look(make().pk)
        assert Seen.parse(str(seen)) == seen


# --- The console ----------------------------------------------------------------------------------


def link(page, name):
    """The address that a saga's page has behind the button of an intervention."""
    (address,) = re.findall(rf'href="([^"]*/intervention/{name}/[^"]*)"', page.content.decode())
    return address


def form_of(page):
    """What the form of an intervention's page sends beside what is typed."""
    return {"seen": re.findall(r'name="seen" value="([^"]*)"', page.content.decode())[0]}


@pytest.mark.parametrize("name", ["happened", "did-not-happen", "compensate", "hold"])
def test_a_page_opened_before_the_customer_paid_does_nothing_after(name):
    saga, supervisor = waiting(), admin_client.supervisor()
    form = supervisor.get(link(supervisor.get(admin_client.page(saga)), name))
    comes(saga)
    now = engine.look(saga.pk)

    late = supervisor.post(
        reverse("admin:sagas_saga_intervention", args=[saga.pk, name]),
        {**form_of(form), "reason": "The payer showed me a receipt", "facts": "{}"},
    )

    assert late.status_code == 409
    said = admin_client.text(late)
    assert "This has moved on since it was looked at" in said
    assert "The payer showed me a receipt" in said, "what was written is not lost"
    assert '<form method="post" class="card' not in late.content.decode(), "one more click does nothing"
    assert as_it_was(saga, now)


def test_the_link_carries_what_its_page_showed_and_not_what_the_next_page_finds():
    saga, supervisor = waiting(), admin_client.supervisor()
    address = link(supervisor.get(admin_client.page(saga)), "happened")
    comes(saga)

    form = supervisor.get(address)

    assert form.status_code == 409
    assert "look again" in admin_client.text(form)
    assert form.context["preview"] == []


def test_a_form_that_says_nothing_of_what_was_seen_does_nothing():
    saga, supervisor = waiting(), admin_client.supervisor()
    now = engine.look(saga.pk)

    for seen in ({}, {"seen": ""}, {"seen": "w:forward:nonsense:1"}):
        answer = supervisor.post(
            reverse("admin:sagas_saga_intervention", args=[saga.pk, "hold"]), {**seen, "reason": "wait"}
        )
        assert answer.status_code == 409
    assert as_it_was(saga, now)


def test_who_looks_again_goes_on():
    saga, supervisor = waiting(), admin_client.supervisor()
    comes(saga)

    form = supervisor.get(link(supervisor.get(admin_client.page(saga)), "happened"))
    done = supervisor.post(
        reverse("admin:sagas_saga_intervention", args=[saga.pk, "happened"]),
        {**form_of(form), "reason": "I saw it arrive", "facts": "{}"},
    )

    assert done.status_code == 302
    assert saga.steps.get(name="v").state == "done"


# --- A second person ------------------------------------------------------------------------------


def decide(person, consent, decision="agree"):
    page = reverse("admin:sagas_saga_decide", args=[consent.saga_id, consent.pk])
    return person.post(page, {"reason": "I looked", "decision": decision})


def ask_for(saga, name):
    with pytest.raises(interventions.NeedsConsent):
        interventions.make(saga.pk, interventions.INTERVENTIONS[name], seen=engine.look(saga.pk), **WHO)
    return Consent.objects.get(saga=saga, intervention=name, state="asked")


@pytest.mark.parametrize("name", ["happened", "did-not-happen"])
def test_what_was_asked_for_of_an_action_is_not_agreed_to_of_its_undo(settings, name):
    settings.SAGAS_FOUR_EYES = True
    saga = admin_client.play(toys.BLIND_WAIT, "do a, begin w, fail undo w")
    consent = ask_for(saga, name)
    assert consent.seen == "w:forward:waiting:1"
    turns_round(saga)
    now = engine.look(saga.pk)
    second = admin_client.supervisor("second")

    page = second.get(reverse("admin:sagas_saga_decide", args=[saga.pk, consent.pk]))
    decide(second, consent)

    assert "look again" in admin_client.text(page)
    assert "Agree, and do it" not in admin_client.text(page)
    consent.refresh_from_db()
    assert (consent.state, consent.decision) == ("void", errors.MovedOn.__doc__)
    assert engine.look(saga.pk) == now
    assert not saga.events.filter(kind="operator.resolve").exists()


def test_what_can_no_longer_be_agreed_to_makes_room_for_what_can(settings):
    settings.SAGAS_FOUR_EYES = True
    saga = waiting()
    stale = ask_for(saga, "happened")
    comes(saga)
    supervisor = admin_client.supervisor()
    page = supervisor.get(admin_client.page(saga))
    assert "agreeing to it would do nothing" in admin_client.text(page)
    assert link(page, "happened")

    consent = ask_for(saga, "happened")

    stale.refresh_from_db()
    assert (stale.state, consent.seen) == ("void", "v:forward:waiting:1")
    decide(admin_client.supervisor("second"), consent)
    assert saga.steps.get(name="v").state == "done"


def test_what_was_asked_for_under_the_version_before_is_void(settings):
    settings.SAGAS_FOUR_EYES = True
    saga = waiting()
    consent = Consent.objects.create(saga=saga, intervention="compensate", arguments={"step": "w"}, **WHO)

    decide(admin_client.supervisor("second"), consent)

    consent.refresh_from_db()
    assert consent.state == "void"
    assert engine.look(saga.pk).direction == 1


# --- In bulk --------------------------------------------------------------------------------------


def drive(run):
    posted = memory_transport.MemoryTransport()
    with transport.use(posted):
        for _ in range(20):
            bulk.drive()
            posted.deliver_all()
            run.refresh_from_db()
            if run.state != "running":
                return
    raise AssertionError(run.state)


def test_of_a_bulk_run_those_that_moved_on_are_left_alone_counted_apart_and_stop_nothing():
    sagas = [waiting() for _ in range(3)]
    run = bulk.begin(chosen=bulk.look(saga.pk for saga in sagas), intervention="compensate", **WHO)
    comes(sagas[0])
    comes(sagas[1])

    drive(run)

    assert [item.state for item in run.items.all()] == ["moved", "moved", "helped"]
    assert run.state == "finished"
    assert engine.look(sagas[0].pk).direction == 1
    page = admin_client.text(
        admin_client.viewer().get(reverse("admin:sagas_console_bulkrun_change", args=[run.pk]))
    )
    assert "3 of 3 sagas are settled" in page
    assert page.count("Moved on") >= 2


def test_a_list_is_acted_upon_as_it_was_shown():
    saga, supervisor = waiting(), admin_client.supervisor()
    shown = supervisor.get("/admin/sagas/sagainstance/").content.decode()
    seen = re.findall(r'name="seen" value="([^"]*)"', shown)
    comes(saga)

    chosen = supervisor.post(
        "/admin/sagas/sagainstance/",
        {"action": "bulk_compensate", "_selected_action": [str(saga.pk)], "seen": seen},
    )
    preview = supervisor.get(chosen["Location"])
    supervisor.post(chosen["Location"], {"choice": preview.context["choice"], "reason": "Ticket 12"})

    item = BulkItem.objects.get()
    assert item.seen == "w:forward:waiting:1"
    drive(item.run)
    item.refresh_from_db()
    assert item.state == "moved"


def test_a_run_is_over_the_sagas_that_its_page_showed_whatever_another_tab_has_chosen():
    one, other, supervisor = waiting(), waiting(), admin_client.supervisor()

    def choose(saga):
        answer = supervisor.post(
            "/admin/sagas/sagainstance/",
            {"action": "bulk_compensate", "_selected_action": [str(saga.pk)]},
        )
        return supervisor.get(answer["Location"])

    first = choose(one)
    choose(other)
    begun = supervisor.post(
        reverse("admin:sagas_console_bulkrun_begin"),
        {"choice": first.context["choice"], "reason": "Ticket 12"},
    )

    assert "Other sagas were chosen meanwhile" in admin_client.text(begun)
    assert not BulkRun.objects.exists()


def test_what_was_chosen_under_the_version_before_counts_as_moved_on():
    run = bulk.begin(chosen=bulk.look([waiting().pk]), intervention="compensate", **WHO)
    run.items.update(seen="")

    drive(run)

    assert [item.state for item in run.items.all()] == ["moved"]


# --- At the shell ---------------------------------------------------------------------------------


def shell(*arguments):
    out = io.StringIO()
    call_command("saga", *arguments, stdout=out, stderr=out)
    return out.getvalue()


def test_at_the_shell_one_says_what_one_saw():
    saga = waiting()
    (seen,) = re.findall(r"^Seen: (\S+)$", shell("show", str(saga.pk)), re.MULTILINE)
    comes(saga)
    now = engine.look(saga.pk)

    with pytest.raises(CommandError, match="moved on"):
        shell("resolve", str(saga.pk), "--happened", "--seen", seen, "--reason", "a receipt")
    assert as_it_was(saga, now)

    shell("resolve", str(saga.pk), "--happened", "--seen", str(now), "--reason", "a receipt")
    assert saga.steps.get(name="v").state == "done"


def test_at_the_shell_nothing_is_done_unseen_where_nobody_can_be_asked(monkeypatch):
    saga = waiting()
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))

    with pytest.raises(CommandError, match="--seen"):
        shell("hold", str(saga.pk), "--reason", "wait")

    saga.refresh_from_db()
    assert saga.held_at is None


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(("answer", "held"), [("y\n", True), ("n\n", False), ("\n", False), ("", False)])
def test_at_a_terminal_one_is_shown_what_stands_and_asked(monkeypatch, answer, held):
    saga = waiting()
    monkeypatch.setattr("sys.stdin", Terminal(answer))
    out = io.StringIO()

    with contextlib.nullcontext() if held else pytest.raises(CommandError, match="Nothing was done"):
        call_command("saga", "hold", str(saga.pk), "--reason", "wait", stdout=out, stderr=out)

    saga.refresh_from_db()
    assert (saga.held_at is not None) == held
    assert "Seen: w:forward:waiting:1" in out.getvalue()
    assert "Hold? [y/N]" in out.getvalue()


def test_what_the_page_shows_is_what_the_shell_and_the_record_show():
    saga = waiting()
    told = history.read(saga.pk)

    assert str(told.seen) == "w:forward:waiting:1"
    assert f"Seen: {told.seen}" in shell("show", str(saga.pk))
    assert f'"seen": "{told.seen}"' in shell("show", str(saga.pk), "--json")
