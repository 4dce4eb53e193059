"""Facts on their way between a saga and its children: under which names, and that they stay what they are."""

import io
import json

import pytest
from django.core.management import call_command
from django.db import transaction
from django.urls import reverse

from sagas import Child, ForEach, Parallel, engine, models
from tests.sagas import harness, rules
from tests.sagas.console import admin_client
from tests.sagas.sample_app import functions
from tests.sagas.sample_app import models as toy_models
from tests.sagas.sample_app import saga as toys

pytestmark = pytest.mark.usefixtures("rows")

TOKENS = ["tok_4242", "tok_1717"]
WHO = {"actor": "operator", "reason": "the test says so"}


def pay(*, key, card, amount):
    if amount < 0:
        raise functions.Refused("no such amount")
    toy_models.End.objects.create(key=key, kind=card)
    return {"receipt": f"R-{amount}", "settled": amount != 7}


def give_back(*, key, amount):
    pass


PAYMENT = toys.saga(
    "toy-handed-payment",
    toys.remote(
        "pay", do=pay, undo=give_back, inputs=["card", "amount"], secrets=["card"], outputs=["receipt"]
    ),
    inputs=["card", "amount"],
)  # fmt: skip
SLOW = toys.saga(
    "toy-handed-slow",
    toys.waits("pay", do=pay, undo=give_back, inputs=["card", "amount"], secrets=["card"]),
    inputs=["card", "amount"],
)


def parent(*steps, inputs, **rest):
    return toys.saga("toy-handed", toys.local("a"), *steps, toys.local("z"), inputs=inputs, **rest)


def played(broker, declared, **inputs):
    saga = harness.begin(declared, inputs=inputs)
    drive(broker, saga)
    return saga


def drive(broker, saga):
    harness.drive(broker, saga, rounds=400)
    while broker.deliver():
        pass
    saga.refresh_from_db()


def children_of(saga):
    return list(models.SagaInstance.objects.filter(parent_id=saga.pk).order_by("parent_item"))


def everything_kept(saga):
    """All that the database keeps of a saga and of those that belong to it."""
    family = [saga.pk, *models.SagaInstance.objects.filter(parent_id=saga.pk).values_list("pk", flat=True)]
    for pk in family[1:]:
        family += models.SagaInstance.objects.filter(parent_id=pk).values_list("pk", flat=True)
    return str([
        list(models.SagaInstance.objects.filter(pk__in=family).values()),
        list(models.StepInstance.objects.filter(saga__in=family).values()),
        list(models.Event.objects.filter(saga__in=family).values()),
    ])  # fmt: skip


def everything_shown(saga):
    person, told = admin_client.supervisor(), io.StringIO()
    call_command("saga", "show", str(saga.pk), "--json", "--events", stdout=told)
    pages = [
        reverse("admin:sagas_saga_json", args=[saga.pk]),
        reverse("admin:sagas_saga_csv", args=[saga.pk]),
        *(reverse("admin:sagas_stepinstance_change", args=[step.pk]) for step in saga.steps.all()),
    ]
    shown = [person.get(url).content.decode() for url in pages]
    return "".join([told.getvalue(), admin_client.page(saga), *shown])


# --- Names -------------------------------------------------------------------------------------------


def test_what_a_child_is_given_and_puts_out_may_have_other_names_in_its_parent(broker):
    declared = parent(
        Child("one", saga=PAYMENT, inputs={"card": "card", "fee": "amount"}, outputs={"receipt": "first"}),
        Child("two", saga=PAYMENT, inputs={"visa": "card", "price": "amount"}, outputs={"receipt": "second"}),
        inputs=["card", "fee", "visa", "price"],
    )

    saga = played(broker, declared, card=TOKENS[0], fee=3, visa=TOKENS[1], price=40)

    assert saga.state == "completed"
    assert saga.facts == {"fee": 3, "price": 40, "first": "R-3", "second": "R-40"}
    assert [child.facts["amount"] for child in children_of(saga)] == [3, 40]
    assert [
        end.kind for end in toy_models.End.objects.filter(kind__startswith="tok").order_by("pk")
    ] == TOKENS
    rules.check(saga)


def test_so_may_what_each_child_is_given_beside_its_element(broker):
    declared = parent(
        ForEach("pay", of="prices", saga=PAYMENT, inputs={"visa": "card"}, outputs=["paid"]),
        inputs=["visa", "prices"],
    )

    saga = played(broker, declared, visa=TOKENS[0], prices=[3, {"amount": 4}])

    assert [child.facts["amount"] for child in children_of(saga)] == [3, 4]
    assert [one["facts"] for one in saga.facts["paid"]] == [{"receipt": "R-3"}, {"receipt": "R-4"}]
    assert (saga.state, "visa" in saga.facts) == ("completed", False)


# --- Secrets -----------------------------------------------------------------------------------------

BY_ELEMENT = ForEach("pay", of="payments", saga=PAYMENT, outputs=["paid"])
PAYMENTS = [{"card": token, "amount": 3} for token in TOKENS]


def look_at(*, key, payments):
    return {"seen": payments}


def test_what_is_secret_in_an_element_is_struck_from_the_parents_list_too(broker):
    last = toys.local("look", do=look_at, inputs=["payments"], outputs=["seen"])

    saga = played(broker, parent(BY_ELEMENT, last, inputs=["payments"]), payments=PAYMENTS)

    assert saga.state == "completed"
    assert saga.facts["payments"] == saga.facts["seen"] == [{"amount": 3}, {"amount": 3}]
    assert not [token for token in TOKENS if token in everything_kept(saga)]


def test_it_is_there_for_as_long_as_a_child_may_need_it_and_is_shown_to_nobody(broker):
    declared = parent(ForEach("pay", of="payments", saga=SLOW), inputs=["payments"])
    saga = harness.begin(declared, inputs={"payments": [{"card": TOKENS[0], "amount": 7}]})
    broker.deliver_all()
    saga.refresh_from_db()
    assert saga.facts["payments"] == [{"card": TOKENS[0], "amount": 7}]
    for one in (saga, *children_of(saga)):
        assert TOKENS[0] not in everything_shown(one)

    key = f"{children_of(saga)[0].pk}.pay"
    engine.receive(source="world", event_id=key, key=key, facts={"settled": True})
    drive(broker, saga)

    assert (saga.state, saga.facts["payments"]) == ("completed", [{"amount": 7}])


def charge_token(*, key, card):
    toy_models.End.objects.create(key=key, kind=card)


CARD = toys.saga(
    "toy-handed-card",
    toys.remote("charge", do=charge_token, inputs=["card"], secrets=["card"]),
    inputs=["card"],
)


def test_a_list_of_secrets_goes_whole(broker):
    declared = parent(ForEach("charge", of="cards", saga=CARD), inputs=["cards"])

    saga = played(broker, declared, cards=[TOKENS[0], {"card": TOKENS[1]}])

    assert (saga.state, saga.facts) == ("completed", {})
    assert not [token for token in TOKENS if token in everything_kept(saga)]
    assert declared.hidden >= {"cards", "card"}


@pytest.mark.parametrize("amount", [3, -3], ids=["done", "undone"])
@pytest.mark.parametrize("beside", [False, True], ids=["alone", "at once"])
def test_a_secret_that_a_child_is_given_goes_from_its_parent(broker, amount, beside):
    step = Child("pay", saga=PAYMENT, inputs={"token": "card", "price": "amount"})
    stage = Parallel("both", steps=[step, toys.local("b")]) if beside else step

    saga = played(broker, parent(stage, inputs=["token", "price"]), token=TOKENS[0], price=amount)

    assert saga.state == ("completed" if amount > 0 else "compensated")
    assert saga.facts == {"price": amount}
    assert TOKENS[0] not in everything_kept(saga)


def test_so_it_does_from_its_grandparent(broker):
    middle = toys.saga(
        "toy-handed-middle", ForEach("pay", of="payments", saga=PAYMENT), inputs=["payments", "note"]
    )
    declared = parent(ForEach("orders", of="orders", saga=middle, outputs=["told"]), inputs=["orders"])

    saga = played(broker, declared, orders=[{"payments": PAYMENTS, "note": "n"}])

    assert saga.state == "completed"
    assert saga.facts["orders"] == [{"payments": [{"amount": 3}, {"amount": 3}], "note": "n"}]
    assert not [token for token in TOKENS if token in everything_kept(saga)]


# --- Personal facts ----------------------------------------------------------------------------------

ANA = "Ana Souza"


def carry(*, key, recipient, grams):
    return {"signed_by": f"{recipient} herself"}


DELIVERY = toys.saga(
    "toy-handed-delivery",
    toys.local(
        "carry", do=carry, inputs=["recipient", "grams"], outputs=["signed_by"], personal=["signed_by"]
    ),
    inputs=["recipient", "grams"],
    personal=["recipient"],
)  # fmt: skip
PRESENT = parent(
    Child("deliver", saga=DELIVERY, inputs={"friend": "recipient", "weight": "grams"},
          outputs={"signed_by": "taken_by"}),
    ForEach("more", of="friends", saga=DELIVERY, inputs={"weight": "grams"}, outputs=["delivered"]),
    inputs=["friend", "weight", "friends"],
    personal=["friend"],
)  # fmt: skip


def presented(broker):
    saga = played(broker, PRESENT, friend=ANA, weight=17, friends=[ANA, {"recipient": ANA}])
    assert (saga.state, saga.facts["taken_by"]) == ("completed", f"{ANA} herself")
    return saga


def test_what_is_personal_is_shown_on_neither_page_under_neither_name(broker):
    saga = presented(broker)

    for one in (saga, *children_of(saga)):
        shown = everything_shown(one)
        assert ANA not in shown
        assert "17" in shown


def test_it_is_struck_out_of_the_whole_family(broker):
    saga = presented(broker)
    assert ANA in everything_kept(saga)

    with transaction.atomic():
        engine.strike(saga.pk, values=engine.Values([]))

    assert ANA not in everything_kept(saga)
    saga.refresh_from_db()
    assert saga.facts["weight"] == 17
    assert saga.facts["friend"] == saga.facts["friends"] == saga.facts["taken_by"] == engine.STRUCK
    assert "signed_by" in json.dumps(saga.facts["delivered"])
    assert {child.facts["recipient"] for child in children_of(saga)} == {engine.STRUCK}


def test_what_a_child_hides_is_hidden_in_its_parent_by_both_names():
    assert PRESENT.hidden == {"friend", "friends", "taken_by", "recipient", "signed_by"}
