"""A card's token passes through and stays nowhere; nor does who paid (A3)."""

import logging
import traceback

import pytest
from django.core import serializers
from django.db import connection

from payments import models, services
from tests.payments import examples

pytestmark = pytest.mark.django_db

SECRETS = ["tok_", *examples.CUSTOMER.values()]


@pytest.mark.parametrize("token", ["tok_ok", "tok_declined", "tok_lost_reply", "tok_down", "tok_of_nobody"])
def test_no_row_log_or_error_tells_who_paid_with_what(sandbox, caplog, token):
    caplog.set_level(logging.DEBUG)
    told = []
    for function in (
        lambda: examples.charge("a.take-payment", examples.card(token)),
        refund,
        lambda: examples.charge("b"),
    ):
        try:
            told.append(repr(function()))
        except (services.Refused, services.Unavailable, services.Unknown) as error:
            told += traceback.format_exception(error)

    rows = [*models.Payment.objects.all(), *models.Operation.objects.all()]
    told += [serializers.serialize("json", rows), repr(rows), caplog.text]
    assert rows
    assert not [secret for secret in SECRETS if secret in "\n".join(told)]


def refund():
    return services.refund(key="a.take-payment")


def test_no_column_is_there_to_keep_it(db):
    with connection.cursor() as cursor:
        columns = {
            column.name
            for table in ("payments_payment", "payments_operation")
            for column in connection.introspection.get_table_description(cursor, table)
        }

    assert not {name for name in columns if "token" in name or "tax" in name or "customer" in name}
