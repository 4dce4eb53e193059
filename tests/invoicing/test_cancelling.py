"""The undo is a ladder: void the number, cancel while the law allows it, otherwise return the goods."""

import datetime
import itertools

import pytest
from django.db.models import functions

from invoicing import audit, gateway, models, services
from tests.invoicing import examples
from tests.sandbox import running as sandboxes
from tests.support import crashes, step_functions, waiting

pytestmark = pytest.mark.django_db

KEY = "a.issue-invoice"


def status(key: str = KEY) -> str:
    return models.Invoice.objects.get(key=key).status


def agree(sandbox: sandboxes.Sandbox) -> bool:
    """Whether our books agree with themselves and with the authority's."""
    keys = list(models.Invoice.objects.values_list("key", flat=True))
    return list(audit.within()) == list(audit.against(sandbox.books()["invoices"], keys=keys)) == []


def test_within_the_window_it_is_cancelled(sandbox):
    examples.issue(KEY)

    assert services.cancel(key=KEY) == services.cancel(key=KEY) == {"status": "cancelled"}

    assert sandbox.invoice(KEY)["status"] == "cancelled"
    assert agree(sandbox)


def test_what_was_never_issued_never_will_be_and_takes_no_number(sandbox):
    assert services.cancel(key=KEY) == {"status": "never-issued"}

    with pytest.raises(services.Refused):
        examples.issue(KEY)
    assert sandbox.books()["invoices"] == []
    assert examples.issue("b.issue-invoice")["number"] == 1


def test_a_rejected_ones_number_is_voided_so_that_the_gap_is_explained(sandbox):
    with pytest.raises(services.Refused):
        examples.issue(KEY, examples.REJECTED)

    services.cancel(key=KEY)

    assert status() == "number-voided"
    voided = sandbox.books()["voided_numbers"]
    assert [(number["series"], number["number"]) for number in voided] == [(1, 1)]
    assert agree(sandbox)


def test_one_whose_request_never_arrived_is_voided_too(sandbox, settings):
    there, settings.INVOICING_URL = settings.INVOICING_URL, "http://127.0.0.1:9"
    with pytest.raises(services.Unavailable):
        examples.issue(KEY)
    settings.INVOICING_URL = there

    services.cancel(key=KEY)

    assert status() == "number-voided"
    assert agree(sandbox)


def returned(sandbox: sandboxes.Sandbox) -> None:
    """The sale is taken back by a valid document with a number of its own."""
    sale, note = models.Invoice.objects.order_by("id")
    assert (sale.status, note.status) == ("returned", "authorized")
    assert (note.kind, note.references, note.amount) == ("return", sale, sale.amount)
    assert note.number == sale.number + 1
    books = {row["key"]: row for row in sandbox.books()["invoices"]}
    assert books[KEY]["status"] == books[f"{KEY}.return"]["status"] == "authorized"
    assert agree(sandbox)


def test_once_the_goods_have_left_they_are_returned(sandbox):
    access_key = examples.issue(KEY)["access_key"]
    assert services.goods_left(access_key=access_key)

    services.cancel(key=KEY)

    returned(sandbox)


def test_goods_leave_once(sandbox):
    access_key = examples.issue(KEY)["access_key"]
    services.goods_left(access_key=access_key)
    first = models.Invoice.objects.get().goods_left_at
    services.goods_left(access_key=access_key)

    assert models.Invoice.objects.get().goods_left_at == first
    assert not services.goods_left(access_key="0" * 44)


def test_after_the_window_they_are_returned(sandbox):
    examples.issue(KEY)
    late = functions.Now() - datetime.timedelta(hours=24)
    models.Invoice.objects.update(authorized_at=late)

    services.cancel(key=KEY)

    returned(sandbox)


def test_a_state_may_have_a_window_of_its_own(sandbox, settings):
    models.CancellationWindow.objects.create(
        state=settings.INVOICING_STATE, length=datetime.timedelta(hours=168)
    )
    examples.issue(KEY)
    models.Invoice.objects.update(authorized_at=functions.Now() - datetime.timedelta(hours=167))

    services.cancel(key=KEY)

    assert status() == "cancelled"


def test_the_authority_has_the_last_word_on_the_window(settings, tmp_path):
    with sandboxes.run(tmp_path, FISCAL_CANCEL_WINDOW_S="0") as strict:
        strict.point(settings)
        examples.issue(KEY)

        services.cancel(key=KEY)

        returned(strict)


def test_the_authority_knows_of_goods_on_the_road_before_we_do(settings, tmp_path):
    with sandboxes.run(tmp_path, CARRIER_PACE_S="0.05") as brisk:
        brisk.point(settings)
        access_key = examples.issue(KEY)["access_key"]
        brisk.put("/carrier/shipments/b", {"postal_code": "01310-100", "reference": access_key, "parcels": 1})
        waiting.until(lambda: brisk.shipment("b")["status"] == "delivered")

        services.cancel(key=KEY)

        returned(brisk)


class Overtaken(gateway.HttpGateway):
    """While we ask, the request that we had given up arrives after all."""

    def ask(self, *, key: str) -> gateway.Authorization | None:
        found = super().ask(key=key)
        if found is None:
            row = models.Invoice.objects.get(key=key)
            self.issue(key=key, document=services._document(row))
        return found


def test_a_request_that_was_under_way_when_we_asked_is_cancelled_all_the_same(sandbox, settings):
    settings.INVOICING_GATEWAY = "tests.invoicing.test_cancelling.Overtaken"
    there, settings.INVOICING_URL = settings.INVOICING_URL, "http://127.0.0.1:9"
    with pytest.raises(services.Unavailable):
        examples.issue(KEY)
    settings.INVOICING_URL = there

    services.cancel(key=KEY)

    assert status() == "cancelled"
    assert agree(sandbox)


class Forgetful(gateway.HttpGateway):
    """An authority that forgets which numbers are void, and an undo between our intent and our call."""

    def issue(self, *, key: str, document: gateway.Document) -> gateway.Authorization:
        services.cancel(key=key)
        return super().issue(key=key, document=document)

    def void_number(self, *, series: int, number: int, reason: str) -> None:
        """Said, and forgotten."""


def test_one_that_lands_although_it_was_undone_is_undone_at_once(sandbox, settings):
    settings.INVOICING_GATEWAY = "tests.invoicing.test_cancelling.Forgetful"
    with pytest.raises(services.Refused):
        examples.issue(KEY)

    # E3: nobody had to call the undo again.
    assert status() == sandbox.invoice(KEY)["status"] == "cancelled"
    assert agree(sandbox)


@step_functions.every_script_and(["authorized", "rejected", "returned"])
def test_every_order_and_every_death_nets_to_nothing(sandbox, settings, script, fate):
    settings.INVOICING_GATEWAY = "tests.invoicing.crashing.Gateway"
    if fate == "returned":
        # No window at all: every undo of what was authorised is a return note.
        models.CancellationWindow.objects.create(state=settings.INVOICING_STATE, length=datetime.timedelta(0))
    buyer = examples.REJECTED if fate == "rejected" else examples.CUSTOMER
    for point in itertools.count():
        key = step_functions.key(point, "issue-invoice")
        with crashes.at(point):
            step_functions.play(script, **examples.functions(key, buyer))
            met = crashes.was_met(point)

        undone = {"authorized": "cancelled", "rejected": "number-voided", "returned": "returned"}[fate]
        assert status(key) in (undone, "number-voided", "never-issued")
        assert models.Invoice.objects.get(key=key).undone_at is not None
        sales = [row for row in sandbox.books()["invoices"] if row["key"] == key]
        assert len(sales) <= 1, "issued twice (E1)"
        with pytest.raises(services.Refused):
            examples.issue(key)
        if point and not met:
            break
    # M4: whatever happened, every number is accounted for, here and at the authority.
    assert agree(sandbox)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("round_", range(3))
def test_all_at_once_nets_to_nothing(sandbox, round_):
    step_functions.at_once(["do", "undo", "do", "undo"], **examples.functions(KEY))

    assert models.Invoice.objects.get(key=KEY).undone_at is not None
    assert agree(sandbox)


def test_an_invoice_that_the_authority_has_lost_does_not_count_as_undone(sandbox):
    examples.issue(KEY)
    sandbox.post("/reset")

    with pytest.raises(services.Unknown):
        services.cancel(key=KEY)

    invoice = models.Invoice.objects.get()
    assert (invoice.status, invoice.undone_at) == (models.Status.AUTHORIZED, None)
    assert sandbox.books()["voided_numbers"] == [], "it was used"
