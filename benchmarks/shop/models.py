"""The rows of the benchmark's shop: as little as an order needs.

No key is unique: what is done twice is there twice, and can be counted. A shop that takes care of itself
would refuse the second; the provider that it calls would not.
"""

from django.db import models


class Payment(models.Model):
    """Money taken, or given back."""

    key = models.CharField(max_length=100, db_index=True)
    amount = models.IntegerField()
    refunded = models.BooleanField(default=False)


class Stock(models.Model):
    """What is left of a product."""

    sku = models.IntegerField(primary_key=True)
    available = models.IntegerField()


class Invoice(models.Model):
    """An invoice, or a cancelled one."""

    key = models.CharField(max_length=100, db_index=True)
    cancelled = models.BooleanField(default=False)


class Shipment(models.Model):
    """Goods on their way."""

    key = models.CharField(max_length=100, db_index=True)
