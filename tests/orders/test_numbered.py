"""The lists of the services' rows say whose order each is, and find it by its number; times are short."""

import re

import pytest
from django.contrib import admin
from django.contrib.auth import models as auth
from django.db import connection
from django.db.models import DateTimeField
from django.test import utils
from django.urls import reverse

from orders import numbered
from orders.models import Order
from payments.models import Payment
from sagas import engine
from sagas.console import roles
from sagas.console.models import Consent
from tests.sagas.console import admin_client

pytestmark = pytest.mark.django_db

LISTS = [label.split(".") for label in numbered.KEYS]


def address(app, model):
    return reverse(f"admin:{app}_{model}_changelist")


def shown(response):
    return response.context["cl"].result_list


def test_each_list_shows_the_orders_number_and_is_searched_by_it(samples):
    wanted, other = (Order.objects.get(saga=samples.completed()) for _ in range(2))
    viewer = admin_client.viewer()

    for app, model in LISTS:
        whole = viewer.get(address(app, model))
        body = whole.content.decode()
        found = viewer.get(address(app, model), {"q": wanted.number.lower()})

        for order in (wanted, other):
            page = reverse("admin:orders_order_change", args=[order.pk])
            assert f'<a href="{page}">{order.number}</a>' in body, model
        rows = shown(found)
        assert rows, model
        assert {str(getattr(row, numbered.KEYS[f"{app}.{model}"]))[:36] for row in rows} == {
            str(wanted.saga_id)
        }, model
        assert "Order number · " in admin_client.text(whole), model
        own = reverse(f"admin:{app}_{model}_change", args=[rows[0].pk])
        assert own in found.content.decode(), "and the row's own page is still led to"


def test_a_list_asks_the_same_however_many_orders_it_shows(samples):
    viewer, counts = admin_client.viewer(), []
    for _ in range(2):
        samples.completed()
        for app, model in LISTS:
            viewer.get(address(app, model))
            with utils.CaptureQueriesContext(connection) as captured:
                viewer.get(address(app, model))
            counts.append(len(captured))

    assert counts[: len(LISTS)] == counts[len(LISTS) :]


def test_who_may_not_see_orders_sees_the_list_without_their_numbers(samples):
    order = Order.objects.get(saga=samples.completed())
    person = admin_client.client(roles.VIEWER, "penny")
    person.user.groups.clear()
    person.user.user_permissions.set([auth.Permission.objects.get(codename="view_payment")])

    whole = person.get(address("payments", "payment"))
    found = person.get(address("payments", "payment"), {"q": order.number})

    assert len(shown(whole)) == 1
    assert order.number not in admin_client.text(whole)
    assert len(shown(found)) == 0


def test_a_row_of_no_order_is_listed_too():
    Payment.objects.create(key="by-hand", amount=100, currency="BRL")

    response = admin_client.viewer().get(address("payments", "payment"))

    assert "by-hand" in admin_client.text(response)


ENGINES = [("sagas", "stepinstance"), ("sagas", "event"), ("sagas", "signal"), ("sagas_console", "consent")]


def test_the_engines_own_lists_say_so_too_at_the_same_price_for_any_number(samples, settings):
    settings.SAGAS_FOUR_EYES = True
    viewer, counts = admin_client.viewer(), []
    orders = []
    for _ in range(2):
        saga = samples.completed()
        Consent.objects.create(saga=saga, intervention="compensate", actor="olga", reason="8841")
        key = f"{saga.pk}.deliver-order"
        engine.receive(source="carrier", event_id=str(saga.pk), key=key, kind="shipment.delivered", facts={})
        orders.append(Order.objects.get(saga=saga))
        for app, model in ENGINES:
            viewer.get(address(app, model))
            with utils.CaptureQueriesContext(connection) as captured:
                body = viewer.get(address(app, model)).content.decode()
            counts.append(len(captured))
            for order in orders:
                number = f'<span class="number">{order.number}</span>'
                assert f'<span class="subject">Order {number}</span>' in body, model

    assert counts[: len(ENGINES)] == counts[len(ENGINES) :]
    for app, model in ENGINES:
        found = shown(viewer.get(address(app, model), {"q": orders[0].number}))
        assert found, model
        named = {str(getattr(row, "step_key", None) or row.saga_id)[:36] for row in found}
        assert named == {str(orders[0].saga_id)}, model


MICROSECONDS = re.compile(r"\d\d:\d\d:\d\d\.\d{6}")


def test_no_list_and_no_page_tells_microseconds(samples):
    samples.completed()
    someone = admin_client.client(roles.SUPERVISOR, "root")
    someone.user.is_superuser = True
    someone.user.save()
    looked_at = 0
    for model in admin.site._registry:
        if not any(isinstance(field, DateTimeField) for field in model._meta.fields):
            continue
        app, name = model._meta.app_label, model._meta.model_name
        pages = [address(app, name)]
        if (row := model._default_manager.first()) is not None:
            pages.append(reverse(f"admin:{app}_{name}_change", args=[row.pk]))
            looked_at += 1
        for page in pages:
            body = someone.get(page).content.decode()
            # What is hovered over and what machines read is as exact as the row.
            text = re.sub(r'\b(datetime|title|value)="[^"]*"', "", body)
            assert MICROSECONDS.search(text) is None, page
    assert looked_at >= 8


def test_on_a_telephone_a_cell_says_its_columns_name_and_not_its_place_in_the_sorting(samples):
    samples.completed()

    body = admin_client.viewer().get(address("inventory", "reservation")).content.decode()

    assert 'class="sortpriority"' in body, "it is sorted by two columns"
    rows = body[body.index("<tbody>") : body.index("</tbody>")]
    labels = re.findall(r'<t[dh] data-label="([^"]*)"', rows)
    assert labels == ["Order", "Key", "Status", "Created at", "Updated at"]
