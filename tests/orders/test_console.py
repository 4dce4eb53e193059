"""What the console shows of an order, and how its saga is found: on real parts, through the services."""

import io
import re

import pytest
from django.contrib.auth import models as auth
from django.core import management
from django.test import Client
from django.utils import translation

from orders.api import shapes
from orders.models import Order
from sagas import engine
from sagas.console import roles
from sagas.console import translation as console_translation
from sagas.engine import transport
from tests.sagas.console import admin_client

pytestmark = pytest.mark.django_db

LIST = "/admin/sagas/sagainstance/"


@pytest.fixture
def viewer(db):
    roles.make()
    user = auth.User.objects.create_user("vera", is_staff=True)
    user.groups.add(auth.Group.objects.get(name=roles.VIEWER))
    client = Client()
    client.force_login(user)
    return client


def page(viewer, saga):
    response = viewer.get(f"{LIST}{saga.pk}/change/")
    assert response.status_code == 200
    return response


def nets(response):
    return {panel.title: panel.net for panel in response.context["panels"]}


def test_the_panels_of_a_waiting_order_say_what_is_held(samples, viewer):
    told = nets(page(viewer, samples.waiting()))

    assert told == {
        "Money": "R$ 274.70 with us",
        "Stock": "3 units reserved",
        "Invoice": "Valid",
        "Delivery": "Booked",
    }


def test_the_panels_of_a_compensated_order_say_that_nothing_is_left(samples, viewer):
    told = nets(page(viewer, samples.compensated()))

    assert told["Money"] == "Nothing with us: R$ 274.70 returned"
    assert told["Stock"] == "Nothing reserved"
    assert told["Invoice"] == "Number voided"
    assert "Delivery" not in told


def test_a_payment_that_waits_for_its_payer_holds_nothing_yet(samples, viewer):
    assert nets(page(viewer, samples.waiting_for_pix()))["Money"] == "Nothing yet: R$ 274.70 asked for"


def test_amounts_are_written_as_in_the_viewers_language(samples, viewer):
    saga = samples.waiting()

    response = viewer.get(f"{LIST}{saga.pk}/change/", headers={"Accept-Language": "pt-BR"})

    assert nets(response)["Dinheiro"] == "R$ 274,70 em nosso poder"


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (
            "The bank tells something else than was asked: amount 1 instead of 7580, "
            "captured 1 instead of 7580.",
            "The bank tells something else than was asked: amount 0.01 instead of 75.80, "
            "captured 0.01 instead of 75.80.",
        ),
        (
            "It tells something else than was asked: total 1 instead of 123456.",
            "It tells something else than was asked: total 0.01 instead of 1,234.56.",
        ),
        (
            "The carrier tells something else than was asked: parcels 2 instead of 1.",
            "The carrier tells something else than was asked: parcels 2 instead of 1.",
        ),
        ("currency USD instead of BRL", "currency USD instead of BRL"),
    ],
)
def test_money_that_is_not_what_was_asked_is_told_in_the_units_of_every_other_amount(message, said):
    with translation.override("en"):
        assert console_translation.translate(message) == said


def test_a_callback_that_tells_something_else_is_told_in_portuguese_to_its_end():
    with translation.override("pt-br"):
        told = console_translation.translate(
            "It tells something else than was asked: amount 1 instead of 7580."
        )

    assert told == "Ele informa algo diferente do que foi pedido: valor 0,01 em vez de 75,80."


def test_whoever_calls_a_wrong_charge_right_reads_what_counts_as_paid(samples, viewer):
    saga = samples.settle(samples.place(token="tok_one_centavo"))
    supervisor = admin_client.supervisor()

    page = supervisor.get(f"{LIST}{saga.pk}/change/")
    foretold = admin_client.text(supervisor.get(admin_client.intervention(saga, "happened")))

    assert saga.state == "needs_attention"
    assert "R$ 274.70 counts as paid. Our books have R$ 0.01: your evidence stands for the rest." in foretold
    assert "It counts as done although it came to something else than was asked" in foretold
    assert {panel.title: panel.tone for panel in page.context["panels"]} == {"Money": "attention"}
    (taken,) = [step for step in page.context["steps"] if step.row.name == "take-payment"]
    assert taken.backward.state == "kept"
    assert "Not undone" in admin_client.text(page)


def test_a_saga_that_waits_says_for_what_on_its_page_as_in_the_list(samples, viewer):
    pix, parcel = page(viewer, samples.waiting_for_pix()), page(viewer, samples.waiting())

    assert "take-payment has begun, and waits for PIX; its limit" in admin_client.text(pix)
    assert "deliver-order has begun, and waits for the carrier; its limit" in admin_client.text(parcel)
    assert "the payer" not in admin_client.text(parcel)


def test_a_saga_is_found_by_whatever_people_know_of_it(samples, viewer):
    saga, _other = samples.waiting(), samples.compensated()
    order = Order.objects.get(saga=saga)
    payment, invoice, parcel = (
        saga.steps.get(name=name).facts for name in ("take-payment", "issue-invoice", "deliver-order")
    )

    for term in (
        order.number,
        order.number.lower(),
        str(order.pk),
        "ana so",
        "ANA@example.com",
        "529.982.247-25",
        "52998224725",
        payment["provider_ref"],
        invoice["access_key"],
        parcel["tracking"],
    ):
        response = viewer.get(LIST, {"q": term})
        assert [found.pk for found in response.context["cl"].result_list] == [saga.pk], term
    for term in ("nobody", "000.000.000-00", "%"):
        assert not viewer.get(LIST, {"q": term}).context["cl"].result_list, term


def test_sagas_are_narrowed_down_by_amount(samples, viewer):
    small = samples.rest(samples.place(skus={"MUG-BLUE": 1}))
    large = samples.rest(samples.place(skus={"LAMP-DESK": 9}))

    def found(amount):
        return {saga.pk for saga in viewer.get(LIST, {"amount": amount}).context["cl"].result_list}

    assert found("0-10000") == {small.pk}
    assert found("100000-1000000") == {large.pk}
    assert found("10000-100000") == set()


def test_the_list_says_whom_each_saga_is_about_in_one_statement_for_all(
    samples, viewer, django_assert_max_num_queries
):
    for _ in range(3):
        samples.place()
    viewer.get(LIST)

    with django_assert_max_num_queries(14):
        body = viewer.get(LIST).content.decode()

    assert body.count("Ana Souza") == 3


def test_an_order_leads_to_its_saga_and_back(samples, viewer):
    saga = samples.place()
    order = Order.objects.get(saga=saga)

    orders_page = viewer.get(f"/admin/orders/order/{order.pk}/change/").content.decode()

    assert f"{LIST}{saga.pk}/change/" in orders_page
    assert f"/admin/orders/order/{order.pk}/change/" in page(viewer, saga).content.decode()


def test_each_services_rows_lead_to_their_saga_and_tell_the_time_exactly(samples, viewer):
    saga = samples.waiting()

    for panel in page(viewer, saga).context["panels"]:
        row = viewer.get(panel.url).content.decode()

        assert f"{LIST}{saga.pk}/change/" in row, panel.title
        # To the millisecond, as everywhere on the console; to the microsecond for machines.
        exactly = (
            r'<time datetime="[^"]+\.\d{6}\+00:00" title="[^"]+ UTC">\d{4}-\d\d-\d\d <span class="clock">'
        )
        assert re.search(rf"{exactly}\d\d:\d\d:\d\d\.\d{{3}}</span>", row), panel.title


def test_no_card_token_is_shown_anywhere(samples, viewer):
    saga = samples.waiting()

    for path in (f"{LIST}{saga.pk}/change/", f"{LIST}{saga.pk}/history.json", f"{LIST}{saga.pk}/events.csv"):
        body = viewer.get(path).content.decode()
        assert "tok_ok" not in body, path
        assert "52998224725" not in body, path


# --- What a person answers for ---------------------------------------------------------------------


@pytest.fixture
def settled(samples):
    """The bank refused the refund; somebody says with evidence that it was made otherwise."""
    saga = samples.settle(samples.place(token="tok_refund_refused", who="rejected"))
    evidence = "Paid back by bank transfer, receipt 8841"
    said = {"actor": "susana", "reason": evidence}
    with transport.use(samples.broker):
        engine.resolve(saga.pk, seen=engine.look(saga.pk), happened=True, **said)
    saga = samples.settle(saga)
    assert saga.state == "compensated"
    return saga


def test_who_said_that_the_money_went_back_and_how_they_know_stands_where_one_looks(settled, viewer):
    shown = page(viewer, settled)

    words = "susana answers for it that take-payment is undone: Paid back by bank transfer, receipt 8841."
    assert shown.context["summary"].answers == [words]
    assert words in admin_client.text(shown)
    (step,) = [view for view in shown.context["steps"] if view.row.name == "take-payment"]
    assert (step.backward.answer.actor, step.backward.took) == ("susana", None)
    (money,) = [panel for panel in shown.context["panels"] if panel.title == "Money"]
    assert money.entries[0].value == "susana: Paid back by bank transfer, receipt 8841"
    out = io.StringIO()
    management.call_command("saga", "show", str(settled.pk), stdout=out)
    assert words in out.getvalue()


def test_the_page_does_not_say_still_to_be_returned_where_the_api_says_refunded(settled, viewer):
    order = Order.objects.select_related("saga").get(saga=settled)
    assert shapes.Order.of(order)["payment"]["status"] == "refunded"

    shown = page(viewer, settled)

    assert nets(shown)["Money"] == "Undone outside our books, says susana"
    assert "still to be returned" not in admin_client.text(shown)


def test_no_worker_is_credited_with_what_a_person_answers_for(settled, viewer):
    row = settled.steps.get(name="take-payment")
    assert (row.worker, row.task_id) == ("", "")

    shown = page(viewer, settled)

    undos = [attempt for attempt in shown.context["attempts"] if attempt.undo and attempt.step == row.name]
    assert [attempt.outcome for attempt in undos] == ["failed"], "the one that the bank refused"
    refused = settled.events.get(kind="undo.failed", subject=row.name)
    assert [attempt.ended_at for attempt in undos] == [refused.at], "and it took no longer than that"
    assert any("Outcome stated by a person" in mark.title for mark in shown.context["timeline"].marks)


def test_a_payment_that_somebody_saw_arrive_names_who_saw_it(samples, viewer):
    saga = samples.waiting_for_pix()
    row = saga.steps.get(name="take-payment")
    assert row.state == "waiting"

    said = {"actor": "susana", "reason": "In the account's statement", "facts": {"paid": True}}
    with transport.use(samples.broker):
        engine.resolve(saga.pk, seen=engine.look(saga.pk), happened=True, **said)

    shown = page(viewer, saga)
    assert nets(shown)["Money"] == "Done outside our books, says susana"
    words = "susana answers for it that take-payment happened: In the account's statement."
    assert shown.context["summary"].answers == [words]
    assert saga.events.get(kind="step.done", subject="take-payment").actor == "susana"
