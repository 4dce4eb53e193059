"""What a declaration calls personal or secret is shown to nobody, and nothing where it is gone (A3)."""

import io
import json

import pytest
from django.core.management import call_command
from django.urls import reverse

from sagas import engine, models
from sagas.console import history, redaction
from sagas.declaration import registry
from sagas.engine import transport
from sagas.testing import memory_transport
from tests.sagas import harness
from tests.sagas.console import admin_client
from tests.sagas.sample_app import saga as toys

pytestmark = pytest.mark.usefixtures("rows")

WHO = {"actor": "olga", "reason": "The provider's own page says so"}


def book(*, key, guest, card, nights):
    """What a provider answers, with a door code that opens a room."""
    return {"number": "B-77", "door": {"code": "4711"}, "settled": True}


def pay(*, key, nights):
    return {"paid_for": nights}


BOOKING = toys.saga(
    "toy-booking",
    toys.remote(
        "book", do=book, inputs=["guest", "card", "nights"], secrets=["card"], personal=["door"],
        reference="number", **toys.ASK,
    ),
    toys.local("pay", do=pay, inputs=["nights"]),
    inputs=["guest", "card", "nights"],
    personal=["guest"],
)  # fmt: skip

GIVEN = {
    "guest": {"name": "Ana Souza"},
    "card": "tok_4242",
    "nights": [{"date": "2031-05-17", "guest": "Bia"}],
}
NOBODYS = ("Ana Souza", "Bia", "tok_4242", "4711")


def booked():
    """A saga that is done with its first step, in which an operator said once more what that answered."""
    posted = memory_transport.MemoryTransport()
    with transport.use(posted):
        saga = harness.begin(BOOKING, inputs=GIVEN)
        posted.deliver_all()
    saga.refresh_from_db()
    assert saga.state == "completed"
    event = saga.events.filter(kind="step.done").first()
    data = {"facts": {"door": "4711", "number": "B-77"}}
    models.Event.objects.create(saga=saga, kind="operator.resolve", subject=event.subject, data=data)
    return saga


def everything_shown(saga):
    """By place: what the console shows of the saga, its steps and its events."""
    person = admin_client.supervisor()
    step, event = saga.steps.get(name="book"), saga.events.get(kind="operator.resolve")
    told = io.StringIO()
    call_command("saga", "show", str(saga.pk), "--json", "--events", stdout=told)
    pages = {
        "page": admin_client.page(saga),
        "page by an id in capitals": admin_client.page(saga).replace(str(saga.pk), str(saga.pk).upper()),
        "JSON": reverse("admin:sagas_saga_json", args=[saga.pk]),
        "CSV": reverse("admin:sagas_saga_csv", args=[saga.pk]),
        "step": reverse("admin:sagas_stepinstance_change", args=[step.pk]),
        "event": reverse("admin:sagas_event_change", args=[event.pk]),
    }
    return {"shell": told.getvalue()} | {
        place: person.get(url).content.decode() for place, url in pages.items()
    }


def test_what_is_declared_personal_or_secret_is_shown_nowhere():
    for place, shown in everything_shown(booked()).items():
        assert [value for value in NOBODYS if value in shown] == [], place
        if place != "page by an id in capitals":
            assert "B-77" in shown, f"{place}: the rest is shown"
            assert redaction.MASK in shown or r"\u2022" in shown, place


def test_of_a_saga_that_the_code_no_longer_declares_no_value_is_shown():
    saga = booked()
    models.SagaInstance.objects.filter(pk=saga.pk).update(version=7)

    for place, shown in everything_shown(saga).items():
        assert [value for value in (*NOBODYS, "B-77", "2031-05-17") if value in shown] == [], place


def test_a_hidden_fact_is_struck_out_whole_wherever_it_stands():
    facts = {"guest": {"name": "Ana"}, "door": None, "nights": [{"guest": 1, "n": 2}]}

    assert redaction.redact(facts, frozenset({"guest", "door"})) == {
        "guest": "•••", "door": "•••", "nights": [{"guest": "•••", "n": 2}],
    }  # fmt: skip
    assert redaction.redact({"guest": {"name": "Ana"}, "n": 2}, None) == {"guest": "•••", "n": "•••"}
    assert redaction.redact(None, None) is None


def test_the_providers_reference_is_what_the_declaration_calls_so():
    book, pay = history.step_views(history.read(booked().pk))

    assert (book.reference, pay.reference) == ("B-77", "")


def test_a_callback_is_shown_without_what_is_hidden_and_one_of_no_saga_without_any_value():
    saga = booked()
    facts = {"door": "4711", "settled": True, "number": "B-78"}
    engine.receive(source="world", event_id="1", key=f"{saga.pk}.book", facts=facts)
    engine.receive(source="world", event_id="2", key="nobody.book", facts=facts)
    person = admin_client.supervisor()

    ours, nobodys = (
        person.get(reverse("admin:sagas_signal_change", args=[signal.pk])).content.decode()
        for signal in models.Signal.objects.order_by("id")
    )

    assert ("4711" in ours, "B-78" in ours) == (False, True)
    assert ("4711" in nobodys, "B-78" in nobodys) == (False, False)


def test_what_an_order_is_given_is_hidden_by_its_declaration():
    from orders.saga import ORDER_FULFILMENT

    hidden = registry.get("order-fulfilment", ORDER_FULFILMENT.version).hidden

    assert hidden == {"customer", "payment", "address", "pix"}
    facts = {"customer": {"tax_id": "529"}, "payment": {"token": "tok_1"}, "total": 100}
    assert json.dumps(redaction.redact(facts, hidden)) == json.dumps(
        {"customer": "•••", "payment": "•••", "total": 100}
    )
