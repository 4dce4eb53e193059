"""The rows of the benchmark's shop: as little as an order needs."""

from django.db import models


class Payment(models.Model):
    """Money taken, or given back."""

    key = models.CharField(max_length=100, primary_key=True)
    amount = models.IntegerField()
    refunded = models.BooleanField(default=False)


class Stock(models.Model):
    """What is left of a product."""

    sku = models.IntegerField(primary_key=True)
    available = models.IntegerField()


class Invoice(models.Model):
    """An invoice, or a cancelled one."""

    key = models.CharField(max_length=100, primary_key=True)
    cancelled = models.BooleanField(default=False)


class Shipment(models.Model):
    """Goods on their way."""

    key = models.CharField(max_length=100, primary_key=True)
