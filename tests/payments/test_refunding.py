"""Money goes back, whatever had become of it: refunded, withdrawn or forbidden (M1, M2, M3)."""

from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction

from payments import audit, models, services
from providers import client
from tests.payments import examples
from tests.support import step_functions

pytestmark = pytest.mark.django_db

KEY = "a.take-payment"


def ledger() -> list[tuple[str, int]]:
    return list(models.Operation.objects.order_by("id").values_list("kind", "amount"))


def test_what_was_captured_is_refunded(sandbox):
    examples.charge(KEY)

    assert services.refund(key=KEY) == {
        "status": "refunded",
        "refunded": {"amount": 18290, "currency": "BRL"},
    }
    assert sandbox.charge(KEY)["refunded"] == 18290
    assert ledger() == [("charge", 18290), ("capture", 18290), ("refund", 18290)]


def test_what_nobody_paid_is_withdrawn(sandbox):
    examples.charge(KEY, examples.PIX)

    services.refund(key=KEY)

    assert sandbox.charge(KEY)["status"] == "cancelled"
    assert ledger() == [("charge", 18290), ("cancel", 18290)]


def test_what_was_never_charged_never_will_be(sandbox):
    services.refund(key=KEY)

    assert sandbox.books()["tombstones"] == [{"provider": "bank", "key": KEY}]
    with pytest.raises(services.Refused):
        examples.charge(KEY)
    assert sandbox.books()["charges"] == []
    assert ledger() == []


def test_an_undo_that_has_only_begun_forbids_the_action(sandbox, settings):
    there, settings.PAYMENTS_URL = settings.PAYMENTS_URL, "http://127.0.0.1:9"
    with pytest.raises(services.Unavailable):
        services.refund(key=KEY)
    settings.PAYMENTS_URL = there

    with pytest.raises(services.Refused):
        examples.charge(KEY)

    assert sandbox.books()["charges"] == []


def test_a_charge_that_was_declined_leaves_nothing_to_undo(sandbox):
    with pytest.raises(services.Refused):
        examples.charge(KEY, examples.card("tok_declined"))

    assert services.refund(key=KEY)["status"] == "declined"
    assert ledger() == []


def test_a_charge_nobody_heard_of_is_found_and_refunded(sandbox):
    with pytest.raises(services.Unknown):
        examples.charge(KEY, examples.card("tok_lost_reply"))

    services.refund(key=KEY)

    assert sandbox.charge(KEY)["refunded"] == 18290
    # The bank was asked, so the ledger knows both.
    assert ledger() == [("charge", 18290), ("capture", 18290), ("refund", 18290)]


def test_a_refund_that_fails_may_be_asked_for_again(sandbox):
    examples.charge(KEY, examples.card("tok_refund_flaky"))
    for _ in range(3):
        with pytest.raises(services.Unavailable):
            services.refund(key=KEY)

    assert services.refund(key=KEY)["status"] == "refunded"


def test_a_refund_that_is_refused_says_so_and_stays_due(sandbox):
    examples.charge(KEY, examples.card("tok_refund_refused"))

    with pytest.raises(services.Refused):
        services.refund(key=KEY)

    assert is_held()
    assert models.Payment.objects.get().undone_at is None


def test_a_payment_that_lands_after_its_undo_is_given_back(sandbox):
    examples.charge(KEY, examples.PIX)
    services.refund(key=KEY)
    sandbox.post(f"/pix/{KEY}/pay")
    examples.report(sandbox, KEY, "pix.paid")
    assert is_held()

    services.refund(key=KEY)

    # M3: the second refund is not the first one over again.
    assert not is_held()
    assert sandbox.charge(KEY)["refunded"] == sandbox.charge(KEY)["captured"] == 18290
    assert ledger() == [
        ("charge", 18290),
        ("cancel", 18290),
        ("capture", 18290),
        ("refund", 18290),
    ]


def is_held():
    return audit.positions(keys=[KEY])[KEY]["in_effect"]


def test_a_refund_is_named_by_what_it_gives_back(sandbox, monkeypatch):
    sent: list[Any] = []
    monkeypatch.setitem(client._client().event_hooks, "request", [sent.append])
    examples.charge(KEY, examples.PIX)
    services.refund(key=KEY)
    sandbox.post(f"/pix/{KEY}/pay")
    examples.report(sandbox, KEY, "pix.paid")
    services.refund(key=KEY)

    names = [request.headers.get("Idempotency-Key") for request in sent if request.method == "POST"]
    # A bank that keeps answers by name would otherwise repeat "cancelled" and keep the money (M3).
    assert names == [f"{KEY}.refund-0", f"{KEY}.refund-18290"]


@pytest.mark.parametrize("paid", range(4))
def test_a_pix_may_be_paid_between_any_two_calls(sandbox, paid):
    script = ["do", "undo", "undo"]
    functions = {"do": lambda: examples.charge(KEY, examples.PIX), "undo": lambda: services.refund(key=KEY)}
    for place, call in enumerate([*script, "end"]):
        if place == paid and paid:
            sandbox.post(f"/pix/{KEY}/pay")
            examples.report(sandbox, KEY, "pix.paid")
        if call in functions:
            step_functions.attempt(functions[call], services)
    if is_held():
        services.refund(key=KEY)

    payment = models.Payment.objects.get()
    assert payment.captured == payment.refunded == (18290 if paid else 0)
    assert payment.undone_at is not None
    assert sandbox.charge(KEY)["refunded"] == payment.refunded


def test_no_book_can_say_that_more_was_refunded_than_captured(db):
    with pytest.raises(IntegrityError, match="payments_payment_refunds_within_captures"):
        models.Payment.objects.create(key=KEY, captured=100, refunded=101)


def test_nothing_counts_as_undone_while_it_holds_money(db):
    with pytest.raises(IntegrityError, match="payments_payment_undone_holds_nothing"):
        models.Payment.objects.create(
            key=KEY, captured=100, undo_requested_at="2026-01-01T00:00Z", undone_at="2026-01-01T00:00Z"
        )


@pytest.mark.parametrize(
    "change", ["UPDATE payments_operation SET amount = 1", "DELETE FROM payments_operation"]
)
def test_a_line_of_the_ledger_is_neither_changed_nor_deleted(sandbox, change):
    examples.charge(KEY)

    with (
        pytest.raises(IntegrityError, match="append-only"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(change)

    assert ledger() == [("charge", 18290), ("capture", 18290)]
