"""What the bank reports by itself: early, late, twice, out of order, and never from somebody else."""

import datetime
import json
from typing import Any

import httpx
import pytest
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from payments import gateway, models, services
from tests import callbacks
from tests.payments import examples
from tests.sandbox import running as sandboxes

pytestmark = pytest.mark.django_db

KEY = "a.take-payment"


def test_a_payment_is_reported_and_written_down(sandbox):
    examples.charge(KEY, examples.PIX)
    sandbox.post(f"/pix/{KEY}/pay")

    callback = examples.report(sandbox, KEY, "pix.paid")

    assert (callback.key, callback.kind, callback.refused) == (KEY, "pix.paid", None)
    assert callback.facts["paid"] is True
    assert services.look_up(keys=[KEY])[KEY]["paid"] is True
    assert examples.charge(KEY, examples.PIX)["paid"] is True


def test_a_report_that_comes_again_is_written_down_once(sandbox):
    examples.charge(KEY, examples.PIX)
    sandbox.post(f"/pix/{KEY}/pay")

    for _ in range(3):
        examples.report(sandbox, KEY, "pix.paid")

    assert models.Operation.objects.filter(kind=models.Kind.CAPTURE).count() == 1


def test_a_report_that_overtakes_our_own_record_is_not_lost(sandbox):
    # The bank has the charge and reports it before the reply to our request is written down.
    httpx.put(
        f"{sandbox.url}/bank/charges/{KEY}",
        json={"method": "pix", "amount": 18290, "currency": "BRL", "expires_in_s": 1800},
    ).raise_for_status()
    sandbox.post(f"/pix/{KEY}/pay")
    examples.report(sandbox, KEY, "pix.paid")

    assert examples.charge(KEY, examples.PIX)["paid"] is True
    assert models.Payment.objects.get().captured == 18290


def test_an_old_report_does_not_undo_a_newer_one(sandbox):
    examples.charge(KEY, examples.PIX)
    old = examples.callback(sandbox, KEY, "pix.expired", id_="evt_old", status="expired")
    sandbox.post(f"/pix/{KEY}/pay")
    examples.report(sandbox, KEY, "pix.paid")

    with transaction.atomic():
        services.record_callback(callback=old)

    assert models.Payment.objects.get().status == models.Status.CAPTURED


def test_a_reply_that_comes_after_the_expiry_does_not_bring_it_back(sandbox, settings):
    settings.PAYMENTS_GATEWAY = "tests.payments.test_callbacks.Slow"
    with pytest.raises(services.Refused):
        examples.charge(KEY, examples.PIX)

    assert models.Payment.objects.get().status == models.Status.EXPIRED


class Slow(gateway.HttpGateway):
    """The charge expires while the reply is on its way to us."""

    def charge_pix(self, *, key: str, **given: Any) -> gateway.Charge:
        reply = super().charge_pix(key=key, **given)
        bank = sandboxes.Sandbox(settings.PAYMENTS_URL.removesuffix("/bank"))
        services.record_callback(callback=examples.callback(bank, key, "pix.expired", status="expired"))
        return reply


def test_an_expiry_is_a_refusal(sandbox):
    examples.charge(KEY, examples.PIX)
    expired = examples.callback(sandbox, KEY, "pix.expired", status="expired")
    with transaction.atomic():
        services.record_callback(callback=expired)

    assert expired.refused
    assert expired.facts["paid"] is False
    assert models.Payment.objects.get().status == models.Status.EXPIRED


def test_what_expired_is_withdrawn_once_though_the_bank_cancels_it_too(sandbox):
    examples.charge(KEY, examples.PIX)
    for status in ("expired", "cancelled"):
        services.record_callback(callback=examples.callback(sandbox, KEY, "pix.expired", status=status))

    assert models.Payment.objects.get().status == models.Status.CANCELLED
    assert models.Operation.objects.filter(kind=models.Kind.CANCEL).count() == 1


def test_money_of_which_we_know_nothing_is_written_down(sandbox):
    examples.charge("theirs.take-payment")
    models_before = models.Payment.objects.get()
    own = {"key": "a.lost-key", "id": "ch_lost"}
    headers, body = examples.request(
        sandbox, "theirs.take-payment", "charge.captured", about="a.lost-key", **own
    )
    unknown = services.read_callback(headers=headers, body=body, now=timezone.now())

    with transaction.atomic():
        services.record_callback(callback=unknown)

    assert models.Payment.objects.get(key="a.lost-key").captured == models_before.captured


def test_a_report_is_written_down_with_the_callers_transaction_or_not_at_all(sandbox):
    examples.charge(KEY, examples.PIX)
    sandbox.post(f"/pix/{KEY}/pay")
    callback = examples.callback(sandbox, KEY, "pix.paid")

    with transaction.atomic():
        services.record_callback(callback=callback)
        transaction.set_rollback(True)

    assert models.Payment.objects.get().captured == 0


def test_what_somebody_else_signed_is_refused(sandbox, settings):
    examples.charge(KEY)
    headers, body = examples.request(sandbox, KEY, "charge.captured")
    settings.PAYMENTS_WEBHOOK_SECRETS = ["whsec_YW5vdGhlciBzZWNyZXQ="]

    with pytest.raises(services.BadCallback):
        services.read_callback(headers=headers, body=body, now=timezone.now())


def test_what_was_sent_long_ago_is_refused(sandbox):
    examples.charge(KEY)
    headers, body = examples.request(sandbox, KEY, "charge.captured")

    with pytest.raises(services.BadCallback):
        services.read_callback(headers=headers, body=body, now=timezone.now() + datetime.timedelta(minutes=6))


@pytest.mark.parametrize(
    "change",
    [
        {"status": "unheard of"},
        {"captured": "much"},
        {"captured": None},
        {"pix": 7},
        {"pix": {"expires_at": "soon"}},
    ],
)
def test_a_charge_without_sense_is_refused(sandbox, change):
    examples.charge(KEY)

    with pytest.raises(services.BadCallback):
        examples.callback(sandbox, KEY, "charge.captured", **change)


def test_the_bank_really_sends_what_we_read(settings, tmp_path):
    with (
        callbacks.caught() as (address, arrived),
        sandboxes.run(tmp_path, WEBHOOK_TARGET=address, PIX_AUTOPAY_AFTER_S="0.1") as bank,
    ):
        bank.point(settings)
        examples.charge(KEY, examples.PIX)
        headers, body = arrived.get(timeout=10)

    callback = services.read_callback(headers=headers, body=body, now=timezone.now())
    services.record_callback(callback=callback)

    assert callback.event_id == json.loads(body)["id"]
    assert services.look_up(keys=[KEY])[KEY]["paid"] is True
