"""The catalogue to try things with."""

import pytest
from django.core.management import call_command

from inventory import audit, models
from inventory.management.commands import seed_catalogue

pytestmark = pytest.mark.django_db


def test_it_may_be_sown_twice(capsys):
    call_command("seed_catalogue")
    models.Product.objects.filter(sku="MUG-STONEWARE").update(price_amount=1)
    call_command("seed_catalogue")

    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{len(seed_catalogue.PRODUCTS | seed_catalogue.DIGITAL)} of")
    assert second.startswith("0 of")
    # What somebody changed since stays changed.
    assert models.Product.objects.get(sku="MUG-STONEWARE").price_amount == 1
    assert list(audit.within()) == []


def test_there_is_enough_to_choose_from_and_of_everything():
    call_command("seed_catalogue", verbosity=0)

    assert models.Product.objects.count() >= 30
    assert not models.Product.objects.filter(available__lt=10_000).exists()
    assert set(models.Product.objects.filter(ships=False)) == set(
        models.Product.objects.filter(sku__in=seed_catalogue.DIGITAL)
    )
    assert not models.Product.objects.exclude(currency="BRL", price_amount__gt=0).exists()
