"""Products with their stock, and the reservations that move it."""

from typing import Any, ClassVar

from django.db import models
from django.db.models import functions
from django.utils.translation import gettext_lazy as _


class Product(models.Model):
    """What is sold, at what price, and how much of it there is, by what it may be used for."""

    sku = models.CharField(_("SKU"), max_length=32)
    name = models.CharField(max_length=120)
    price_amount = models.BigIntegerField(_("price"), help_text=_("In minor units: centavos."))
    currency = models.CharField(max_length=3, default="BRL")
    ships = models.BooleanField(
        _("ships"), default=True, db_default=True, help_text=_("Goes to the customer in a parcel.")
    )
    """False of a digital product: it has a stock as any other, of so many licences, and no parcel."""
    available = models.BigIntegerField(default=0, help_text=_("Free to be reserved."))
    reserved = models.BigIntegerField(default=0, help_text=_("Reserved for orders that are not finished."))
    shipped = models.BigIntegerField(default=0, help_text=_("Sold and gone."))
    created_at = models.DateTimeField(db_default=functions.Now(), editable=False)

    class Meta:
        ordering: ClassVar = ["sku"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["sku"], name="inventory_product_sku"),
            models.CheckConstraint(
                condition=models.Q(price_amount__gte=0), name="inventory_product_price_not_negative"
            ),
            # I2, for those who forget it: every function looks before it takes.
            models.CheckConstraint(
                condition=models.Q(available__gte=0, reserved__gte=0, shipped__gte=0),
                name="inventory_product_stock_not_negative",
            ),
        ]

    def __str__(self) -> str:
        return self.sku

    @property
    def price(self) -> dict[str, Any]:
        """As money is written everywhere: minor units and a currency."""
        return {"amount": self.price_amount, "currency": self.currency}


class Status(models.TextChoices):
    """What has become of a reservation."""

    HELD = "held", _("Reserved")
    """Its goods are set aside, until its order ends one way or the other."""

    RELEASED = "released", _("Released")
    """Its goods are available again, or were never held. Final: nothing is reserved under this key again."""

    SHIPPED = "shipped", _("Shipped")
    """Its goods are gone. Final."""


class Reservation(models.Model):
    """One reservation per key; its lines are its movements."""

    key = models.CharField(primary_key=True, max_length=100)
    status = models.CharField(max_length=8, choices=Status)
    created_at = models.DateTimeField(db_default=functions.Now(), editable=False)
    updated_at = models.DateTimeField(db_default=functions.Now(), editable=False)

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=models.Q(status__in=Status.values), name="inventory_reservation_status"
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["-created_at"], name="inventory_reservation_newest"),
        ]

    def __str__(self) -> str:
        return self.key


class Kind(models.TextChoices):
    """Where goods went."""

    RECEIVED = "received", _("Received")
    """Into the warehouse: available."""

    RESERVED = "reserved", _("Reserved")
    """From available to reserved. These are a reservation's lines."""

    RELEASED = "released", _("Released")
    """Back, from reserved to available."""

    SHIPPED = "shipped", _("Shipped")
    """From reserved to shipped."""


class Movement(models.Model):
    """A line of a product's stock book. Append-only: the database refuses to change or delete one."""

    product = models.ForeignKey(
        Product, models.PROTECT, related_name="movements", to_field="sku", db_index=False
    )
    reservation = models.ForeignKey(
        Reservation, models.PROTECT, related_name="movements", null=True, db_index=False
    )
    """Empty for goods received, which are nobody's yet."""
    kind = models.CharField(max_length=8, choices=Kind)
    quantity = models.BigIntegerField()
    at = models.DateTimeField(db_default=functions.Now(), editable=False)

    class Meta:
        ordering: ClassVar = ["id"]
        # Instead of Django's own for foreign keys, of which a text one has two: each costs every order.
        # The unique constraint below finds a reservation's movements.
        indexes: ClassVar = [models.Index(fields=["product", "id"], name="inventory_movement_product")]
        constraints: ClassVar = [
            models.CheckConstraint(condition=models.Q(kind__in=Kind.values), name="inventory_movement_kind"),
            models.CheckConstraint(
                condition=models.Q(quantity__gt=0), name="inventory_movement_moves_something"
            ),
            models.CheckConstraint(
                condition=models.Q(kind=Kind.RECEIVED, reservation=None)
                | models.Q(~models.Q(kind=Kind.RECEIVED), reservation__isnull=False),
                name="inventory_movement_of_a_reservation",
            ),
            # E1 and E2, for those who forget them: a reservation moves each product once each way.
            models.UniqueConstraint(
                fields=["reservation", "product", "kind"], name="inventory_movement_once"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.quantity} {self.product_id}"
