"""The audit finds what does not add up, and nothing else."""

import pytest

from payments import audit, models, services
from tests.payments import examples
from tests.support import step_functions

pytestmark = pytest.mark.django_db

KEYS = ["card", "pix", "declined", "refunded", "tombstone"]


@pytest.fixture
def books(sandbox):
    """Payments of every kind, and the bank's own books of them."""
    examples.charge("card")
    examples.charge("pix", examples.PIX)
    step_functions.attempt(lambda: examples.charge("declined", examples.card("tok_declined")), services)
    examples.charge("refunded")
    services.refund(key="refunded")
    services.refund(key="tombstone")
    return lambda: sandbox.books()["charges"]


def test_books_that_agree_have_no_findings(books):
    assert list(audit.within()) == []
    assert list(audit.against(books(), keys=KEYS)) == []


def test_a_position_says_whether_money_is_held_or_claimed(books):
    positions = audit.positions(keys=[*KEYS, "unheard-of"])

    assert {key: position["in_effect"] for key, position in positions.items()} == {
        "card": True,
        "pix": True,
        "declined": False,
        "refunded": False,
        "tombstone": False,
    }


def test_a_capture_that_the_bank_does_not_know_is_found(books):
    models.Payment.objects.filter(key="pix").update(captured=18290)

    assert [key for key, _ in audit.within()] == ["pix"]
    assert [key for key, _ in audit.against(books(), keys=KEYS)] == ["pix"]


def test_a_charge_that_is_missing_at_the_bank_is_found(books):
    theirs = [charge for charge in books() if charge["key"] != "card"]

    assert [key for key, _ in audit.against(theirs, keys=KEYS)] == ["card"]


def test_a_charge_that_nobody_asked_for_is_found(books):
    theirs = [*books(), {"key": "stranger", "captured": 1, "refunded": 0}]

    assert [key for key, _ in audit.against(theirs, keys=KEYS)] == ["stranger"]


def test_a_key_that_is_still_at_work_is_not_compared(books):
    models.Payment.objects.filter(key="pix").update(captured=18290)

    assert list(audit.against(books(), keys=["card", "declined", "refunded", "tombstone"])) == []


def test_a_ledger_that_does_not_add_up_is_found(books):
    payment = models.Payment.objects.get(key="refunded")
    payment.operations.create(kind=models.Kind.REFUND, amount=1, source="nobody")

    assert [key for key, _ in audit.within()] == ["refunded"]


def test_more_captured_than_was_to_be_paid_is_found(books):
    models.Payment.objects.filter(key="card").update(amount=1)

    assert [key for key, _ in audit.within()] == ["card"]
