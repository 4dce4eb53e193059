"""The audit finds what does not add up, and nothing else."""

import pytest

from invoicing import audit, models, services
from tests.invoicing import examples
from tests.support import step_functions

pytestmark = pytest.mark.django_db

KEYS = ["authorized", "rejected", "voided", "cancelled", "returned", "tombstone"]


@pytest.fixture
def books(sandbox):
    """Invoices of every kind, and the authority's own books of them."""
    examples.issue("authorized")
    for key in ("rejected", "voided"):
        step_functions.attempt(lambda key=key: examples.issue(key, examples.REJECTED), services)
    services.cancel(key="voided")
    examples.issue("cancelled")
    services.cancel(key="cancelled")
    services.goods_left(access_key=examples.issue("returned")["access_key"])
    services.cancel(key="returned")
    services.cancel(key="tombstone")
    return lambda: sandbox.books()["invoices"]


def test_books_that_agree_have_no_findings(books):
    assert list(audit.within()) == []
    assert list(audit.against(books(), keys=KEYS)) == []


def test_a_position_says_whether_the_invoice_counts(books):
    positions = audit.positions(keys=[*KEYS, "unheard-of"])

    assert {key: position["in_effect"] for key, position in positions.items()} == {
        "authorized": True,
        "rejected": False,
        "voided": False,
        "cancelled": False,
        "returned": False,
        "tombstone": False,
    }


def test_a_number_that_nobody_accounts_for_is_found(books):
    models.Series.objects.update(next_number=models.Invoice.objects.count() + 1)

    assert [key for key, _ in audit.within()] == ["1/7"]


def test_a_return_without_its_note_is_found(books):
    models.Invoice.objects.filter(key="authorized").update(status="returned")
    models.Invoice.objects.filter(key="returned.return").update(status="requested")

    assert [key for key, _ in audit.within()] == ["authorized", "returned"]
    assert [key for key, _ in audit.against(books(), keys=KEYS)] == ["returned.return"]


def test_an_access_key_that_is_none_is_found(db):
    series = models.Series.objects.create(number=1, next_number=2)
    models.Invoice.objects.create(key="a", series=series, number=1, access_key="1" * 44)

    assert [key for key, _ in audit.within()] == ["a"]


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda rows: [row for row in rows if row["key"] != "authorized"], ["authorized"]),
        (lambda rows: [row for row in rows if row["key"] != "returned.return"], ["returned.return"]),
        (lambda rows: [row | {"status": "authorized"} for row in rows], ["cancelled"]),
        (lambda rows: [row | {"number": 99} for row in rows if row["key"] == "cancelled"], "*"),
        (lambda rows: [*rows, {"key": "stranger", "number": 9, "status": "authorized"}], ["stranger"]),
    ],
)
def test_a_difference_from_the_authoritys_books_is_found(books, change, found):
    findings = [key for key, _ in audit.against(change(books()), keys=KEYS)]

    assert findings == found if found != "*" else "cancelled" in findings
    # Who is still at work is not compared.
    assert [key for key, _ in audit.against(change(books()), keys=[])] == (
        found if "stranger" in found else []
    )
