"""The audit finds what does not add up, and nothing else."""

import pytest

from shipping import audit, models, services
from tests.shipping import examples
from tests.support import step_functions

pytestmark = pytest.mark.django_db

KEYS = ["booked", "refused", "recalled", "tombstone"]


@pytest.fixture
def books(sandbox):
    """Shipments of every kind, and the carrier's own books of them."""
    examples.dispatch("booked")
    step_functions.attempt(lambda: examples.dispatch("refused", "99999-001"), services)
    examples.dispatch("recalled")
    services.recall(key="recalled")
    services.recall(key="tombstone")
    return lambda: sandbox.books()["shipments"]


def test_books_that_agree_have_no_findings(books):
    assert list(audit.within()) == []
    assert list(audit.against(books(), keys=KEYS)) == []


def test_a_position_says_whether_a_parcel_is_anywhere_but_here(books):
    positions = audit.positions(keys=[*KEYS, "unheard-of"])

    assert {key: position["in_effect"] for key, position in positions.items()} == {
        "booked": True,
        "refused": False,
        "recalled": False,
        "tombstone": False,
    }


def test_a_parcel_that_the_carrier_has_and_we_have_not_is_found(books):
    models.Shipment.objects.filter(key="booked").update(status="recalled")

    assert [key for key, _ in audit.within()] == ["booked"]
    assert [key for key, _ in audit.against(books(), keys=KEYS)] == ["booked"]
    assert list(audit.against(books(), keys=["refused", "recalled"])) == []


def test_books_that_are_being_written_are_read_at_one_moment(books, django_assert_num_queries):
    with django_assert_num_queries(1):
        assert list(audit.within()) == []


def test_a_parcel_that_is_missing_at_the_carrier_is_found(books):
    theirs = [row for row in books() if row["key"] != "booked"]

    assert [key for key, _ in audit.against(theirs, keys=KEYS)] == ["booked"]


def test_a_parcel_that_nobody_booked_is_found(books):
    theirs = [*books(), {"key": "stranger", "status": "booked"}]

    assert [key for key, _ in audit.against(theirs, keys=KEYS)] == ["stranger"]
