"""The tokens of those who may ask, the keys that they asked with, and how much they asked."""

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import functions


class Scope(models.TextChoices):
    """What a token may do."""

    CUSTOMER = "customer", "Customer"
    """Place, follow and cancel its user's orders."""

    MERCHANT = "merchant", "Merchant"
    """As a customer, and be told of its orders by webhooks."""

    STAFF = "staff", "Staff"
    """See everybody's orders and their sagas; act on them as far as its user's permissions go."""


class Token(models.Model):
    """A key to the API, of which only the hash is kept: who loses it needs a new one."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="tokens")
    name = models.CharField(max_length=80, help_text="Where it is used, such as “web shop”.")
    scope = models.CharField(max_length=8, choices=Scope, default=Scope.CUSTOMER)
    digest = models.CharField(max_length=64, editable=False)
    hint = models.CharField(max_length=12, editable=False, help_text="How the token begins.")
    created_at = models.DateTimeField(db_default=functions.Now(), editable=False)
    expires_at = models.DateTimeField(null=True, blank=True, help_text="Empty: it does not expire.")
    revoked_at = models.DateTimeField(null=True, blank=True)
    used_at = models.DateTimeField("last used", null=True, blank=True, editable=False)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["digest"], name="api_token_digest"),
            models.CheckConstraint(condition=models.Q(scope__in=Scope.values), name="api_token_scope"),
        ]
        indexes: ClassVar = [
            # Asked with every event of a saga: is its owner a merchant, whose events are kept?
            models.Index(
                fields=["user"], condition=models.Q(scope=Scope.MERCHANT), name="api_token_of_merchant"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.hint}… ({self.name})"


class IdempotencyKey(models.Model):
    """A request's key, and the answer it had.

    The row is written in the transaction that does the work, so there is no "in progress" to be seen
    and none to be left behind: either the work and the answer are both there, or neither (D8).
    """

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="+")
    endpoint = models.CharField(max_length=64)
    key = models.CharField(max_length=200)
    fingerprint = models.CharField(max_length=64)
    """SHA-256 of what was asked: another question under the same key is a mistake of the caller."""
    status = models.PositiveSmallIntegerField(null=True)
    headers = models.JSONField(default=dict)
    body = models.BinaryField(null=True)
    """The answer, to the byte."""
    created_at = models.DateTimeField(db_default=functions.Now())
    expires_at = models.DateTimeField(db_index=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["owner", "endpoint", "key"], name="api_idempotencykey_of_caller"),
        ]

    def __str__(self) -> str:
        return self.key


class Throttle(models.Model):
    """How far ahead of its allowance a caller is; one row each, of no worth after a crash (unlogged)."""

    key = models.CharField(primary_key=True, max_length=80)
    due_at = models.DateTimeField()
    """When the caller would be back at rest, if it stopped now (the theoretical arrival time of GCRA)."""

    def __str__(self) -> str:
        return self.key
