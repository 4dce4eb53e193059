"""An invoice gets the next number of its series, and none is skipped or used twice (M4)."""

import concurrent.futures
import datetime

import pytest
from django.core import checks
from django.db import IntegrityError, connection, transaction

from invoicing import access_key, audit, models, services
from tests.invoicing import examples
from tests.support import step_functions

pytestmark = pytest.mark.django_db

KEY = "a.issue-invoice"


def numbers() -> list[int]:
    return sorted(models.Invoice.objects.exclude(number=None).values_list("number", flat=True))


def test_an_invoice_is_authorized(sandbox, settings):
    facts = examples.issue(KEY)

    assert (facts["series"], facts["number"]) == (1, 1)
    assert facts["protocol"]
    assert access_key.is_valid(facts["access_key"])
    assert settings.INVOICING_CNPJ in facts["access_key"]
    # The code within the key is not the number, which the authority would reject.
    assert facts["access_key"][35:43] != "00000001"
    assert sandbox.invoice(KEY)["status"] == "authorized"
    assert services.ask(key=KEY) == services.look_up(keys=[KEY])[KEY] == examples.issue(KEY) == facts


@pytest.mark.django_db(transaction=True)
def test_a_crowd_gets_numbers_without_gaps(sandbox):
    def issue(n):
        try:
            return examples.issue(f"{n}.issue-invoice")["number"]
        finally:
            connection.close()

    with concurrent.futures.ThreadPoolExecutor(8) as crowd:
        given = list(crowd.map(issue, range(40)))

    assert sorted(given) == numbers() == list(range(1, 41))
    assert list(audit.within()) == []


@pytest.mark.django_db(transaction=True)
def test_one_key_from_many_sides_is_one_invoice(sandbox):
    buyer = examples.functions(KEY)
    step_functions.at_once(["do"] * 6, **{**buyer, "undo": buyer["do"]})

    assert numbers() == [1]
    assert len(sandbox.books()["invoices"]) == 1


def test_a_rejected_invoice_is_refused_for_good_and_its_number_is_kept(sandbox):
    for _ in range(2):
        with pytest.raises(services.Refused):
            examples.issue(KEY, examples.REJECTED)

    assert models.Invoice.objects.get().status == models.Status.REJECTED
    assert examples.issue("b.issue-invoice")["number"] == 2


def test_an_authority_that_is_away_has_done_nothing(settings, db):
    # A port on which nobody listens.
    with pytest.raises(services.Unavailable):
        examples.issue(KEY)

    assert models.Invoice.objects.get().status == models.Status.REQUESTED
    assert numbers() == [1]


def test_an_attempt_that_comes_again_has_the_same_number(sandbox, settings):
    away, settings.INVOICING_URL = settings.INVOICING_URL, "http://127.0.0.1:9"
    with pytest.raises(services.Unavailable):
        examples.issue(KEY)
    key_then = models.Invoice.objects.get().access_key
    settings.INVOICING_URL = away

    facts = examples.issue(KEY)

    # E6: number and access key are part of the intent, not of the attempt.
    assert (facts["number"], facts["access_key"]) == (1, key_then)


def test_a_key_is_for_one_invoice_only(sandbox):
    examples.issue(KEY)

    with pytest.raises(ValueError, match="another invoice"):
        examples.issue(KEY, total={"amount": 1, "currency": "BRL"})


def test_an_intent_must_be_durable_before_the_authority_hears_of_it(sandbox):
    with pytest.raises(RuntimeError), transaction.atomic():
        examples.issue(KEY)

    assert sandbox.books()["invoices"] == []


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM invoicing_invoice",
        "UPDATE invoicing_invoice SET number = 7",
        "UPDATE invoicing_invoice SET amount = 1",
        "UPDATE invoicing_invoice SET access_key = ''",
    ],
)
def test_an_invoice_is_neither_deleted_nor_made_to_say_something_else(sandbox, change):
    examples.issue(KEY)

    with pytest.raises(IntegrityError, match="never"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(change)

    assert models.Invoice.objects.get().number == 1


def test_a_document_without_a_number_is_only_a_tombstone(db):
    with pytest.raises(IntegrityError, match="has_its_number"):
        models.Invoice.objects.create(key=KEY, status=models.Status.AUTHORIZED)


def test_the_month_in_the_key_is_the_issuers(sandbox):
    issued = examples.issue(KEY)["access_key"][2:6]
    today = datetime.datetime.now(services.ISSUER_ZONE)

    assert issued in {f"{day:%y%m}" for day in (today, today - datetime.timedelta(minutes=5))}


@pytest.mark.parametrize(
    ("name", "value", "id_"),
    [
        ("INVOICING_STATE", "XX", "invoicing.E001"),
        ("INVOICING_CNPJ", "11.222.333/0001-81", "invoicing.E002"),
    ],
)
def test_an_issuer_that_cannot_be_is_refused_at_start(settings, name, value, id_):
    assert not [error for error in checks.run_checks() if error.id == id_]

    setattr(settings, name, value)

    assert [error for error in checks.run_checks() if error.id == id_]
