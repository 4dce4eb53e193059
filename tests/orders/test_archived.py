"""An order whose saga has gone to the archive is to everybody what it was."""

import datetime

import pytest
from django.core import management
from django.urls import reverse

from orders import audit, models, selectors
from sagas import models as sagas
from sagas.engine import archive
from tests.orders.conftest import Api
from webhooks import models as webhooks

pytestmark = pytest.mark.django_db


@pytest.fixture
def merchant(samples):
    from api import tokens
    from api.models import Scope

    _, secret = tokens.create(user=samples.owner, name="tests", scope=Scope.CUSTOMER)
    return Api(samples.owner, secret)


def move(count):
    assert archive.run(older_than=datetime.timedelta(0)) == count


def test_its_owner_reads_and_finds_it_as_before(samples, merchant):
    ended = [samples.completed(), samples.compensated(), samples.closed()]
    under_way = samples.waiting_for_pix()
    orders = {saga.pk: models.Order.objects.get(saga=saga) for saga in (*ended, under_way)}
    addresses = [f"/orders/{order.pk}" for order in orders.values()]
    addresses += ["/orders", *(f"/orders?status={status}" for status in models.Status.values)]
    before = {address: merchant.get(address).json() for address in addresses}

    move(3)

    assert {address: merchant.get(address).json() for address in addresses} == before
    refused = merchant.post(f"/orders/{orders[ended[0].pk].pk}/cancel", {"reason": "no"})
    assert (refused.status_code, refused.json()["order"]["status"]) == (409, "fulfilled")


def test_a_page_of_archived_orders_costs_one_statement_more(samples, django_assert_num_queries):
    for _ in range(2):
        samples.compensated()
    with django_assert_num_queries(4):
        list(selectors.orders())
    move(2)

    with django_assert_num_queries(4):  # No steps are read any more: they came along.
        assert [order.status for order in selectors.orders()] == ["cancelled"] * 2


def test_its_progress_is_told_to_whoever_asks_for_it(samples, merchant):
    from orders.api import streams

    saga = samples.completed()
    before = [(event.pk, streams.transition(event)) for event in streams._read(saga.pk, 0)]
    assert before
    move(1)

    assert [(event.pk, streams.transition(event)) for event in streams._read(saga.pk, 0)] == before
    assert streams._read(saga.pk, before[-1][0]) == []
    order = models.Order.objects.get(saga_id=saga.pk)
    assert (
        merchant.get(f"/orders/{order.pk}/events", **{"Last-Event-ID": str(before[-1][0])}).status_code == 204
    )


def test_the_books_are_compared_all_the_same(samples):
    samples.completed(), samples.compensated(), samples.closed()
    before = audit.run()
    move(3)

    after = audit.run()

    assert (after.ended, after.live) == (before.ended, before.live) == (3, 0)
    assert after.discrepancies == before.discrepancies
    assert after.answered == before.answered

    models.Order.objects.exclude(fulfilled_at=None).update(fulfilled_at=None)
    assert any("disagree" in found.finding for found in audit.run().discrepancies)


def test_the_console_shows_the_order_and_its_saga(samples, admin_client):
    saga = samples.completed()
    order = models.Order.objects.get(saga=saga)
    page = reverse("admin:sagas_sagainstance_change", args=[saga.pk])
    before = admin_client.get(page).context
    move(1)

    after = admin_client.get(page).context

    assert [panel.net for panel in after["panels"]] == [panel.net for panel in before["panels"]]
    assert after["title"] == f"Order {order.number}"
    listed = admin_client.get(reverse("admin:orders_order_changelist"))
    assert listed.context["cl"].result_list[0].saga.state == "completed"
    found = admin_client.get(reverse("admin:sagas_sagainstance_changelist"), {"q": order.number})
    assert [one.pk for one in found.context["archived"]] == [saga.pk]


def test_what_comes_back_is_not_told_to_merchants_once_more_and_what_is_untold_stays(samples):
    webhooks.Endpoint.objects.create(owner=samples.owner, url="https://example.com", types=["order.*"])
    saga = samples.compensated()
    assert webhooks.Outbox.objects.exists()

    move(0)
    webhooks.Outbox.objects.all().delete()
    move(1)
    archive.restore(saga.pk)

    assert sagas.Event.objects.filter(saga_id=saga.pk).exists()
    assert not webhooks.Outbox.objects.exists()


def test_the_command_that_audits_still_runs(samples, capsys):
    samples.compensated()
    move(1)

    management.call_command("audit")
