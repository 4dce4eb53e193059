"""A customer's data is struck out of their orders on request, everywhere; what the law wants kept stays."""

import datetime
import io
import re
import uuid

import pytest
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth import models as auth
from django.core import management
from django.db import DatabaseError, connection, transaction
from django.test import Client
from django.urls import reverse

from api import models as api
from invoicing import models as invoicing
from invoicing import services as invoices
from orders import audit, erasure, errors, models
from payments import models as payments
from sagas import documents, engine
from sagas import models as sagas
from sagas.console.models import Consent, FailureNote
from sagas.engine import archive
from shipping import models as shipping
from tests import callbacks
from tests.orders.conftest import Api
from tests.support import sample_orders
from webhooks import models as webhooks

pytestmark = pytest.mark.django_db

ZULEICA = ("Zuleica Quadros", "zuleica@example.com", "39053344705")
ADDRESS = {
    "recipient": "Norberto Xavier",
    "street": "Travessa Inconfundível",
    "number": "98-Z",
    "complement": "Loja 7777",
    "district": "Bairro Singular",
    "city": "Cidadela Única",
    "state": "SP",
    "postal_code": "04567-891",
}
HERS = [
    "zuleica", "quadros", "norberto", "xavier", "39053344705", "390.533.447-05", "travessa inconfund",
    "98-z", "loja 7777", "bairro singular", "cidadela", "04567891", "04567-891", "br.gov.bcb.pix",
]  # fmt: skip
KEPT = {"invoicing_invoice.tax_id"}
"""All that may still name her, as docs/retention.md says."""


@pytest.fixture
def samples(samples, monkeypatch):
    monkeypatch.setitem(sample_orders.PEOPLE, "ana", ZULEICA)
    monkeypatch.setitem(sample_orders.PEOPLE, "rejected", ("Zuleica Quadros", ZULEICA[1], "00000000191"))
    monkeypatch.setattr(sample_orders.services, "Address", address)
    return samples


Address = sample_orders.services.Address


def address(**given):
    if not given["recipient"].startswith("Zuleica"):
        return Address(**given)
    postal_code = given["postal_code"].replace("01310-100", ADDRESS["postal_code"])
    return Address(**ADDRESS | {"postal_code": postal_code})


@pytest.fixture
def hers(samples):
    """Orders of hers, with her name wherever people and providers may have written it; and one of Bruno's."""
    samples.completed()
    ended = [samples.cancelled(), samples.closed(), samples.settle(samples.place(token="tok_declined"))]
    for saga in ended:
        write_about(saga)
    models.FlaggedCustomer.objects.create(tax_id=ZULEICA[2], reason="Chargebacks.", flagged_by="olga")
    FailureNote.objects.create(signature="x", text="Zuleica Quadros called twice", actor="olga")
    sagas.Signal.objects.create(
        source="bank",
        event_id="no",
        step_key="?",
        fate="unmatched",
        facts={"payer": {"cpf": "390.533.447-05"}},
    )
    return ended


def write_about(saga):
    order = models.Order.objects.get(saga=saga)
    payments.Payment.objects.filter(key__startswith=str(saga.pk)).update(
        pix_copy_paste="br.gov.bcb.pix/zuleica", mismatch="payer Zuleica instead of Ana"
    )
    shipping.Shipment.objects.filter(key__startswith=str(saga.pk)).update(refusal="NORBERTO not at home")
    invoicing.Invoice.objects.filter(key__startswith=str(saga.pk)).update(mismatch="for zuleica quadros")
    models.Order.objects.filter(pk=order.pk).update(
        reference="cart of zuleica@example.com", cancel_reason="The customer changed their mind."
    )
    step = saga.steps.order_by("position")[0]
    sagas.StepInstance.objects.filter(pk=step.pk).update(
        error={"kind": "bug", "message": "Zuleica?", "at": ""}
    )
    sagas.Signal.objects.create(
        source="bank", event_id=f"{saga.pk}"[:90], step_key=step.key, fate="noted", kind="payment.captured",
        facts={"paid": True, "payer": "Zuleica Quadros", "pix": {"copy_paste": "br.gov.bcb.pix"}},
    )  # fmt: skip
    sagas.Event.objects.create(
        saga=saga, kind="operator.hold", actor="zuleica@example.com", reason="O sr. Xavier, CEP 04567891",
        data={"facts": {"name": "Zuleica"}, "n": 1},
    )  # fmt: skip
    Consent.objects.create(
        saga=saga,
        intervention="compensate",
        actor="olga",
        reason="Zuleica asked",
        state=Consent.State.REFUSED,
    )
    endpoint, _ = webhooks.Endpoint.objects.get_or_create(
        owner=order.owner, url="https://example.com", types=[]
    )
    message = webhooks.Message.objects.create(
        type="order.cancelled", order=order, body='{"data":{"reference":"zuleica@example.com"},"sequence":1}'
    )
    delivery = webhooks.Delivery.objects.create(
        message=message, endpoint=endpoint, order=order, state=webhooks.DeliveryState.DELIVERED
    )
    webhooks.Attempt.objects.create(delivery=delivery, duration_ms=1, response="thanks, Zuleica Quadros")
    api.IdempotencyKey.objects.create(
        owner=order.owner, endpoint="POST /orders", key=str(order.pk), fingerprint="f", status=202,
        body=f'{{"id":"{order.pk}","reference":"cart of zuleica@example.com"}}'.encode(),
        expires_at=sagas.database_now() + datetime.timedelta(hours=1),
    )  # fmt: skip
    LogEntry.objects.create(
        user=order.owner, action_flag=CHANGE, object_id=str(saga.pk), object_repr="x",
        change_message="hold: zuleica@example.com wrote",
    )  # fmt: skip


def test_that_a_customer_is_flagged_is_shown_and_forgotten(hers, capsys):
    other = models.FlaggedCustomer.objects.create(tax_id="11144477735", reason="Late.", flagged_by="olga")
    management.call_command("erase", customer=ZULEICA[2])
    assert "that the customer is flagged" in capsys.readouterr().out

    erase()

    assert list(models.FlaggedCustomer.objects.all()) == [other]


def erase(customer=ZULEICA[2], reason="LGPD 2026/17"):
    asked = erasure.ask(customer=customer, orders=erasure.find(customer), actor="olga", reason=reason)
    erasure.agree(asked.pk, actor="susana")
    erasure.drive()
    asked.refresh_from_db()
    return asked


def where(texts):
    """The columns of the whole database in which one of these stands, compressed ones included."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT table_name, column_name FROM information_schema.columns c"
            " JOIN information_schema.tables t USING (table_schema, table_name)"
            " WHERE table_schema = current_schema() AND table_type = 'BASE TABLE'"
            " AND table_name !~ '^sagas_archive_[0-9]'"  # Its partitions: they are read with it.
        )
        columns = cursor.fetchall()
        found, read = set(), 0
        for table, column in columns:
            quoted = f'"{column}"'
            cursor.execute(f'SELECT {quoted}{"" if column == "document" else "::text"} FROM "{table}"')
            for (value,) in cursor.fetchall():
                read += 1
                if any(text in readable(table, column, value) for text in texts):
                    found.add(f"{table}.{column}")
    assert read
    return found


def readable(table, column, value):
    if value is None:
        return ""
    if (table, column) == ("sagas_archive", "document"):
        return str(documents.unpack(bytes(value), documents.NEWEST_DICTIONARY)).lower()
    if isinstance(value, str) and value.startswith("\\x"):
        value = bytes.fromhex(value[2:]).decode(errors="replace")
    return re.sub(r"\\u([0-9a-fA-F]{4})", lambda found: chr(int(found[1], 16)), value).lower()


@pytest.mark.parametrize("archived", [False, True])
def test_nothing_of_hers_is_left_in_any_column_but_those_that_are_named(samples, hers, archived):
    if archived:
        assert archive.run(older_than=datetime.timedelta(0)) == 4
    digests = dict(sagas.ArchivedSaga.objects.values_list("pk", "digest"))
    assert len(where(HERS)) > (10 if archived else 25)
    before = disagreeing()

    done = erase()

    assert done.state == "done"
    assert {uuid.UUID(pk) for pk in done.order_ids} == {
        models.Order.objects.get(saga_id=s.pk).pk for s in hers
    }
    assert where(HERS) == KEPT
    assert where(["bruno"])  # Another's is untouched.
    assert dict(sagas.ArchivedSaga.objects.values_list("pk", "digest")) == digests
    assert disagreeing() == before

    if not archived:
        archive.run(older_than=datetime.timedelta(0))
    assert sagas.ArchivedSaga.objects.count() == 4
    assert list(archive.broken()) == []
    assert where(HERS) == KEPT
    before = contents()
    assert erasure.drive() == 0
    assert contents() == before


def disagreeing():
    """Which books: their words may be struck out."""
    return [(found.about, found.room) for found in audit.run().discrepancies]


def contents():
    return (
        list(models.Order.objects.order_by("pk").values()),
        list(sagas.ArchivedSaga.objects.order_by("pk").values()),
        list(models.Erasure.objects.values()),
    )


def test_her_order_can_still_be_read(samples):
    from api import tokens

    saga = samples.waiting_for_pix()
    with transaction.atomic():
        engine.cancel(saga.pk, actor="shop", reason="out of stock")
    samples.settle(saga)
    owner = Api(samples.owner, tokens.create(user=samples.owner, name="t", scope=api.Scope.CUSTOMER)[1])
    order = models.Order.objects.get(saga=saga)
    before = owner.get(f"/orders/{order.pk}").json()
    assert before["payment"]["pix"]

    erase(ZULEICA[1].upper())

    before["payment"]["pix"] = None
    assert owner.get(f"/orders/{order.pk}").json() == before
    order.refresh_from_db()
    assert order.erased_at
    assert (order.customer_name, order.customer_tax_id) == (engine.STRUCK, "")


def test_an_order_under_way_is_refused_with_its_number_and_the_others_are_erased(samples):
    ended, live = samples.settle(samples.place(token="tok_declined")), samples.waiting()
    said = io.StringIO()
    management.call_command("erase", customer="390.533.447-05", stdout=said)
    assert f"{number(live)}: not yet: It has not ended." in said.getvalue()
    assert f"{number(ended)}: struck out" in said.getvalue()
    assert not models.Erasure.objects.exists()
    management.call_command(
        "erase", customer=ZULEICA[1], yes=True, reason="17", actor="olga", stdout=io.StringIO()
    )
    (asked,) = erasure.about(ZULEICA[1])

    erasure.agree(asked.pk, actor="susana")
    erasure.drive()
    done = models.Erasure.objects.get()

    assert done.order_ids == [str(models.Order.objects.get(saga=ended).pk)]
    assert [order.saga_id for order in erasure.find(ZULEICA[2])] == [live.pk]
    live.refresh_from_db()
    assert live.facts["customer"]["name"] == ZULEICA[0]
    with pytest.raises(errors.NotErasable):
        erasure.ask(customer=ZULEICA[2], orders=erasure.find(ZULEICA[2]), actor="olga", reason="1")


def test_a_run_that_was_interrupted_is_finished_by_the_next(samples, monkeypatch):
    first, second = (samples.settle(samples.place(token="tok_declined")) for _ in range(2))
    strike = engine.strike

    def crashing(saga_id, **how):
        strike(saga_id, **how)
        if saga_id == second.pk:
            raise RuntimeError("killed")

    monkeypatch.setattr(engine, "strike", crashing)
    interrupted = erase()
    assert interrupted.state == "approved"
    second.refresh_from_db()
    assert second.facts["customer"]["name"] == ZULEICA[0]
    assert [order.saga_id for order in erasure.find(ZULEICA[2])] == [second.pk]

    monkeypatch.undo()
    assert erasure.drive() == 1

    interrupted.refresh_from_db()
    assert interrupted.state == "done"
    assert {first.pk, second.pk} == set(
        models.Order.objects.exclude(erased_at=None).values_list("saga", flat=True)
    )


def test_an_order_whose_saga_was_forgotten_long_ago_is_erased_all_the_same(samples):
    saga = samples.settle(samples.place(token="tok_declined"))
    archive.run(older_than=datetime.timedelta(0))
    assert archive.forget(before=saga.finished_at.date() + datetime.timedelta(days=40)) == 1

    assert erase().state == "done"

    assert where(HERS) <= KEPT


@pytest.mark.parametrize("archived", [False, True])
def test_what_a_late_callback_brings_back_is_struck_out_by_a_second_request(samples, archived):
    saga = samples.waiting_for_pix()
    with transaction.atomic():
        engine.cancel(saga.pk, actor="shop", reason="out of stock")
    samples.settle(saga)
    first = erase()
    assert where(HERS) <= KEPT
    if archived:
        archive.run(older_than=datetime.timedelta(0))

    report_late(samples, saga)
    if archived:
        archive.run(older_than=datetime.timedelta(0))
    back = where(HERS) - KEPT
    assert "payments_payment.pix_copy_paste" in back
    assert ("sagas_archive.document" if archived else "sagas_signal.refused") in back
    said = io.StringIO()
    management.call_command(
        "erase", customer=ZULEICA[2], yes=True, reason="18", actor="olga", stdout=said
    )  # fmt: skip
    assert f"{number(saga)}: struck out again" in said.getvalue()
    second = erasure.about(ZULEICA[2])[0]
    assert erasure.drive() == 0
    erasure.agree(second.pk, actor="susana")

    assert erasure.drive() == 1

    assert where(HERS) <= KEPT
    second.refresh_from_db()
    assert (second.state, second.order_ids) == ("done", first.order_ids)
    assert list(archive.broken()) == []
    assert erasure.drive() == 0


def report_late(samples, saga):
    """The bank says once more what became of the payment: the code, and words that name who did not pay."""
    key = f"{saga.pk}.take-payment"
    now = sagas.database_now()
    charge = samples.world.charge(key) | {"pix": {"copy_paste": "br.gov.bcb.pix/zuleica"}}
    headers, body = callbacks.signed(
        kind="pix.expired", key=key, data=charge, id_="evt_late", at=now, sent_at=now
    )
    answer = Client().post("/api/v1/webhooks/payments", body, "application/json", headers=headers)
    assert answer.status_code == 202
    with transaction.atomic():
        engine.receive(
            source="payments", event_id="evt_later", key=key, refused="Zuleica Quadros did not pay",
            facts={"paid": False, "payer": "Norberto Xavier", "codes": [{"cpf": ZULEICA[2]}]},
        )  # fmt: skip


def test_the_reason_of_a_second_request_does_not_name_the_customer_either(samples):
    samples.settle(samples.place(token="tok_declined"))
    erase()

    with pytest.raises(errors.NotErasable, match="number of the request"):
        erase(reason="for 390.533.447-05")


def number(saga):
    return models.Order.objects.get(saga=saga).number


def test_two_people_are_needed_and_the_record_does_not_say_who_it_was(samples):
    samples.settle(samples.place(token="tok_declined"))
    orders = erasure.find(ZULEICA[2])
    for reason in ("", f"for {ZULEICA[1]}"):
        with pytest.raises(errors.NotErasable, match="number of the request"):
            erasure.ask(customer=ZULEICA[2], orders=orders, actor="olga", reason=reason)
    asked = erasure.ask(customer=ZULEICA[2], orders=orders, actor="olga", reason="17")
    assert erasure.drive() == 0

    with pytest.raises(errors.NotErasable, match="second person"):
        erasure.agree(asked.pk, actor="olga")
    with pytest.raises(DatabaseError, match="orders_erasure_by_two"), transaction.atomic():
        models.Erasure.objects.update(state="approved", decided_by="olga")
    erasure.agree(asked.pk, actor="susana")
    assert erasure.drive() == 1

    asked.refresh_from_db()
    assert (asked.asked_by, asked.decided_by, asked.state) == ("olga", "susana", "done")
    with pytest.raises(errors.NotErasable, match="decided"):
        erasure.refuse(asked.pk, actor="susana")
    assert [found.pk for found in erasure.about("390.533.447-05")] == [asked.pk]
    assert erasure.about("529.982.247-25") == []
    row = str(models.Erasure.objects.values())
    assert not [text for text in ZULEICA if text in row]


def staff(name, *permissions):
    person = auth.User.objects.create_user(name, is_staff=True)
    person.user_permissions.set(auth.Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(person)
    return client


def test_in_the_admin_one_asks_and_another_agrees(samples):
    saga = samples.settle(samples.place(token="tok_declined"))
    order = models.Order.objects.get(saga=saga)
    olga, susana = (staff(name, "view_order", "erase_customer") for name in ("olga", "susana"))
    viewer = staff("vera", "view_order", "view_erasure")
    orders, erasures = (reverse(f"admin:orders_{name}_changelist") for name in ("order", "erasure"))
    chosen = {"action": "erase", "_selected_action": [str(order.pk)]}

    viewer.post(orders, chosen | {"reason": "17"})
    assert not models.Erasure.objects.exists()
    page = olga.post(orders, chosen)
    assert order.number in page.content.decode()
    assert olga.post(orders, chosen | {"reason": "17"}, follow=True).status_code == 200
    agree = {"action": "agree", "_selected_action": [str(models.Erasure.objects.get().pk)]}
    for nobody in (olga, viewer):
        nobody.post(erasures, agree)
        assert models.Erasure.objects.get().state == "asked"
    susana.post(erasures, agree)

    assert models.Erasure.objects.get().state == "done"
    assert ZULEICA[0] not in olga.get(reverse("admin:orders_order_change", args=[order.pk])).content.decode()


def test_an_invoice_names_its_recipient_for_as_long_as_the_law_wants_and_no_longer(samples):
    saga = samples.completed()
    bruno = sample_orders.PEOPLE["bruno"][2]
    row = invoicing.Invoice.objects.get(tax_id=bruno)
    year = row.authorized_at.astimezone(invoices.ISSUER_ZONE).year

    strike = {"keys": [row.key], "names": lambda text: False, "mark": engine.STRUCK}
    assert invoices.kept_until(keys=[row.key]) == {row.key: datetime.date(year + 6, 1, 1)}
    invoices.strike(**strike)
    row.refresh_from_db()
    assert row.tax_id == bruno
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL invoicing.striking = 'on'")
    with pytest.raises(DatabaseError, match="never change"), transaction.atomic():
        invoicing.Invoice.objects.filter(pk=row.pk).update(tax_id="")

    invoicing.Invoice.objects.filter(pk=row.pk).update(
        authorized_at=row.authorized_at.replace(year=year - 6, day=1)
    )
    assert erasure.look(erasure.find(bruno)).kept
    invoices.strike(**strike)
    row.refresh_from_db()
    assert row.tax_id == ""
    assert saga.pk


def test_what_was_kept_of_an_erased_order_goes_when_its_term_is_over_and_nothing_else_does(samples):
    erased, other = samples.closed(), samples.completed()
    erase()
    order = models.Order.objects.get(saga=erased)
    sale, note = invoicing.Invoice.objects.filter(key__startswith=str(erased.pk)).order_by("kind")[::-1]
    assert (sale.tax_id, note.tax_id, note.kind) == (ZULEICA[2], ZULEICA[2], "return")
    year = sale.authorized_at.astimezone(invoices.ISSUER_ZONE).year
    assert order.kept_until == datetime.date(year + 6, 1, 1)
    assert erasure.strike_kept(limit=10) == 0

    # Six years pass for both sales, and none for the note.
    sales = invoicing.Invoice.objects.filter(kind="sale")
    sales.update(authorized_at=sale.authorized_at.replace(year=year - 6, day=1))
    models.Order.objects.filter(pk=order.pk).update(kept_until=datetime.date(year, 1, 1))
    assert erasure.strike_kept(limit=10) == 1

    for row in (order, sale, note):
        row.refresh_from_db()
    assert (sale.tax_id, note.tax_id) == ("", ZULEICA[2])
    assert order.kept_until == datetime.date(year + 6, 1, 1)
    assert sales.get(key__startswith=str(other.pk)).tax_id == sample_orders.PEOPLE["bruno"][2]
    assert erasure.strike_kept(limit=10) == 0
