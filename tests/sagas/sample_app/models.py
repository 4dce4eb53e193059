"""What the world is to answer, what it was asked, and what became of it."""

from django.db import models


class Script(models.Model):
    """What the functions of one saga answer, call by call."""

    saga_id = models.UUIDField(primary_key=True)
    answers = models.JSONField(default=dict)
    """By "function step": a list of [answer, meanwhile]."""


class Line(models.Model):
    """What happened, in its order; written beside the engine's transactions, never in them."""

    saga_id = models.UUIDField(db_index=True)
    text = models.CharField(max_length=100)
    call = models.CharField(max_length=60, default="")
    """The "function step" of a call; empty for an act."""


class Toy(models.Model):
    """The effect of an action: made, or made and unmade, or never to be made."""

    key = models.CharField(max_length=100, unique=True)
    made = models.PositiveSmallIntegerField(default=0)
    unmade = models.PositiveSmallIntegerField(default=0)
    closed = models.BooleanField(default=False)
    """The tombstone: an undo was here first."""

    class Meta:
        permissions = [("approve_toy", "Can approve toys")]


class End(models.Model):
    """A call of a saga's hook, in the transaction of the engine that made it so."""

    key = models.CharField(max_length=100)
    kind = models.CharField(max_length=20)
