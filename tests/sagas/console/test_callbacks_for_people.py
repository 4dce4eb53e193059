"""Callbacks that wait for a person: shown where one looks, settled with evidence, or tried again (A4, M3)."""

import pytest
from django.urls import reverse

from sagas import engine, errors, models
from sagas.console import health
from tests.sagas import harness, rules
from tests.sagas.console import admin_client
from tests.sagas.test_inbox import PAID, given_up, tell, waiting

WHY = {"reason": "Refund 8841 in the bank's portal"}


def failed(broker, *, then=""):
    """A late payment whose automatic return was refused."""
    saga = given_up(broker, f"begin w, undo w, fail undo w{then}")
    late = tell(saga)
    carry_out(broker)
    late.refresh_from_db()
    return saga, late


def carry_out(broker):
    for _ in range(3):
        engine.sweep()
        broker.deliver_all()


def settle(signal):
    return reverse("admin:sagas_signal_settle", args=[signal.pk])


def test_a_return_that_fails_for_good_stands_in_the_attention_queue(broker, caplog):
    saga, late = failed(broker)
    supervisor = admin_client.supervisor()

    overview = admin_client.text(supervisor.get(reverse("admin:index")))
    listed = admin_client.text(supervisor.get(reverse("admin:sagas_signal_changelist") + "?person=waiting"))
    page = admin_client.text(supervisor.get(settle(late)))

    assert "1 callback waits for a person" in overview
    assert "Nobody has to act" not in overview
    assert "could not be undone" in listed
    assert f"{saga.pk}.w" in page
    assert "See to the cause and try again" in page
    assert health.read("1h").callbacks_waiting == 1
    assert caplog.text.count("needs attention") == 1


def test_what_somebody_settled_is_kept_with_their_name_and_their_words(broker):
    saga, late = failed(broker)

    answer = admin_client.supervisor().post(settle(late), WHY | {"act": "settle"})

    assert answer.status_code == 302
    late.refresh_from_db()
    assert (late.settled_by, late.settlement) == ("supervisor", WHY["reason"])
    event = saga.events.get(kind="operator.settled")
    assert (event.actor, event.reason, event.subject) == ("supervisor", WHY["reason"], "w")
    assert health.read("1h").callbacks_waiting == 0
    assert "supervisor settled what it told of: Refund 8841" in admin_client.text(
        admin_client.viewer().get(admin_client.page(saga))
    )
    rules.check(saga)


def test_it_is_settled_once(broker):
    _saga, late = failed(broker)
    engine.settle_callback(late.pk, actor="olga", reason="so")

    again = admin_client.supervisor().post(settle(late), WHY | {"act": "settle"})

    assert again.status_code == 409
    with pytest.raises(errors.NotAllowed):
        engine.retry_callback(late.pk, actor="olga", reason="so")


def test_tried_again_it_settles_itself_when_that_goes_well(broker):
    saga, late = failed(broker, then=", undo w")

    admin_client.operator().post(settle(late), WHY | {"act": "retry"})
    carry_out(broker)

    late.refresh_from_db()
    assert late.compensated_at is not None
    assert (late.settled_by, late.settled_at is not None) == ("engine", True)
    assert saga.events.get(kind="operator.retried").actor == "operator"


def test_tried_again_in_vain_it_waits_on(broker, caplog):
    _saga, late = failed(broker, then=", fail undo w")

    engine.retry_callback(late.pk, actor="olga", reason="perhaps now")
    carry_out(broker)

    late.refresh_from_db()
    assert (late.compensation_attempts, late.settled_at) == (2, None)
    assert caplog.text.count("needs attention") == 1, "a person is called once (A4)"


def test_who_may_not_settle_does_not(broker):
    _saga, late = failed(broker)

    for client, act in (
        (admin_client.viewer(), "settle"),
        (admin_client.viewer(), "retry"),
        (admin_client.operator(), "settle"),
    ):
        assert client.post(settle(late), WHY | {"act": act}).status_code == 403
    assert admin_client.client(admin_client.NOBODY).get(settle(late)).status_code == 403
    assert admin_client.supervisor().post(settle(late), {"act": "settle"}).status_code == 200, (
        "without evidence"
    )
    late.refresh_from_db()
    assert late.settled_at is None


def test_one_about_nothing_of_ours_calls_a_person(rows, caplog):
    signal = engine.receive(source="world", event_id="1", key="nothing.of-ours", facts=PAID)

    assert signal.attention == "It is about no saga of ours."
    with pytest.raises(errors.NotAllowed):
        engine.retry_callback(signal.pk, actor="olga", reason="so")
    engine.settle_callback(signal.pk, actor="olga", reason="another shop's")
    assert models.Signal.objects.get().settled_by == "olga"


def test_one_that_cannot_be_understood_is_counted_once_and_nothing_of_it_is_kept(rows, caplog):
    for _ in range(3):
        engine.reject(source="world", event_id="1", why="type must have 1 to 40 characters.")

    signal = models.Signal.objects.get()
    assert (signal.fate, signal.step_key, signal.facts) == ("unreadable", "", None)
    assert caplog.text.count("needs attention") == 1


def test_a_sender_has_nothing_to_say_of_another_service_s_step(broker):
    saga = waiting(broker)

    signal = engine.receive(source="other", event_id="1", key=f"{saga.pk}.w", facts=PAID, queue="elsewhere")

    saga.refresh_from_db()
    assert (signal.fate, saga.steps.get(name="w").state) == ("unmatched", "waiting")


def test_a_wait_is_not_ended_by_what_was_not_asked(broker):
    saga = waiting(broker)

    signal = engine.receive(
        source="world", event_id="1", key=f"{saga.pk}.w", facts=PAID, mismatch="amount 1 instead of 2"
    )
    saga.refresh_from_db()

    assert (signal.fate, signal.attention_at) == ("mismatch", None)
    assert (saga.state, saga.wake_at) == ("needs_attention", None)
    assert "amount 1 instead of 2" in saga.attention["why"]
    assert "came to something else than was asked" in admin_client.text(
        admin_client.viewer().get(admin_client.page(saga))
    )
    rules.check(saga)


def test_what_was_not_asked_and_is_not_wanted_turns_round_at_once(broker):
    saga = waiting(broker, "begin w, undo w")
    engine.receive(source="world", event_id="1", key=f"{saga.pk}.w", mismatch="amount 1 instead of 2")

    engine.cancel(saga.pk, actor="customer", reason="too slow")
    harness.drive(broker, saga)

    assert saga.state == "compensated"
    rules.check(saga)


def test_what_was_not_asked_after_the_end_waits_for_a_person_by_itself(broker):
    saga = waiting(broker)
    tell(saga)
    harness.drive(broker, saga)
    assert saga.state == "completed"
    before = rules.snapshot(saga)

    signal = engine.receive(
        source="world", event_id="2", key=f"{saga.pk}.w", mismatch="refunded 2 instead of 0"
    )

    assert "refunded 2 instead of 0" in signal.attention
    saga.refresh_from_db()
    assert saga.state == "completed", "a final state stays as it is (T3)"
    assert before != rules.snapshot(saga), "an event says that it came"


def test_what_is_settled_by_hand_takes_two_where_two_are_asked_for(broker, settings):
    settings.SAGAS_FOUR_EYES = True
    saga, late = failed(broker)

    for _ in range(2):
        engine.settle_callback(late.pk, actor="olga", reason="Refund 8841")
        late.refresh_from_db()
        assert (late.settled_at, health.read("1h").callbacks_waiting) == (None, 1)
    page = admin_client.text(admin_client.supervisor().get(settle(late)))
    assert "olga says that it is settled, and a second person must say so too: Refund 8841" in page

    admin_client.supervisor().post(settle(late), {"reason": "Seen in the portal", "act": "settle"})

    late.refresh_from_db()
    assert late.settled_at is not None
    assert (late.settled_by, late.settlement) == ("olga, supervisor", "Refund 8841 / Seen in the portal")
    assert [event.actor for event in saga.events.filter(kind="operator.settled")] == ["supervisor"]


def test_a_callback_leads_to_its_saga_and_the_saga_to_its_callback(broker, settings):
    settings.SAGAS_FOUR_EYES = True
    saga, late = failed(broker)
    supervisor = admin_client.supervisor()

    assert settle(late) in supervisor.get(admin_client.page(saga)).content.decode()
    page = admin_client.text(supervisor.get(settle(late)))
    assert "done only when a second person agrees" in page
    assert "Its saga waits for a person, too." not in page, "the saga has ended"


def test_a_callback_says_to_see_to_its_saga_first_where_that_waits_too(broker):
    saga = waiting(broker)
    for number in "12":
        again = engine.receive(
            source="world", event_id=number, key=f"{saga.pk}.w", facts=PAID, mismatch="amount 1 instead of 2"
        )
    saga.refresh_from_db()

    page = admin_client.text(admin_client.supervisor().get(settle(again)))

    assert saga.state == "needs_attention"
    assert again.attention_at is not None
    assert "Its saga waits for a person, too. See to that one first" in page
