"""Tokens: shown once, kept as a hash; they expire, are revoked, and open no more than their scope."""

import datetime
import io

import pytest
from django.contrib.auth import models as auth
from django.core import management
from django.core.management import base
from django.db.models import functions

from orders import models, tokens
from tests.orders.conftest import Api, member

pytestmark = pytest.mark.django_db


@pytest.fixture
def ana(db: None) -> auth.User:
    return auth.User.objects.create_user("ana")


def test_a_token_opens_the_door_and_is_not_kept(ana: auth.User) -> None:
    token, secret = tokens.create(user=ana, name="web shop")

    assert Api(ana, secret).get("/orders").status_code == 200
    assert secret not in str(models.Token.objects.values().get())
    assert secret.startswith(token.hint)
    assert len(token.hint) < 12
    assert len(secret) > 40


def test_an_expired_token_opens_nothing(ana: auth.User) -> None:
    _, secret = tokens.create(user=ana, name="web shop", lifetime=datetime.timedelta(hours=1))
    assert Api(ana, secret).get("/orders").status_code == 200

    models.Token.objects.update(expires_at=functions.Now())

    assert Api(ana, secret).get("/orders").status_code == 401


def test_a_revoked_token_opens_nothing_and_the_others_still_do(ana: auth.User) -> None:
    lost, lost_secret = tokens.create(user=ana, name="lost")
    _, secret = tokens.create(user=ana, name="kept")

    tokens.revoke(token=lost)

    assert Api(ana, lost_secret).get("/orders").status_code == 401
    assert Api(ana, secret).get("/orders").status_code == 200


def test_the_token_of_a_user_who_is_shut_out_opens_nothing() -> None:
    ana = member("anton")
    auth.User.objects.update(is_active=False)

    assert ana.get("/orders").status_code == 401


def test_its_use_is_noted_but_not_each_time(ana: auth.User) -> None:
    token, secret = tokens.create(user=ana, name="web shop")
    Api(ana, secret).get("/orders")
    token.refresh_from_db()
    first = token.used_at
    assert first is not None

    Api(ana, secret).get("/orders")
    token.refresh_from_db()
    assert token.used_at == first

    models.Token.objects.update(used_at=first - datetime.timedelta(hours=1))
    Api(ana, secret).get("/orders")
    token.refresh_from_db()
    assert token.used_at is not None
    assert token.used_at >= first


def command(*words: str) -> str:
    out = io.StringIO()
    management.call_command("token", *words, stdout=out)
    return out.getvalue()


def test_the_command_makes_one_and_prints_nothing_else(ana: auth.User) -> None:
    secret = command("create", "ana", "--scope", "merchant", "--name", "shop", "--expires-in", "90d").strip()

    token = tokens.find(secret)
    assert token is not None
    assert (token.user, token.scope, token.name) == (ana, "merchant", "shop")
    assert token.expires_at is not None
    left = token.expires_at - token.created_at
    assert left == datetime.timedelta(days=90)


def test_the_command_makes_the_user_only_if_it_is_told_to() -> None:
    with pytest.raises(base.CommandError, match="no user 'carla'"):
        command("create", "carla")

    assert tokens.find(command("create", "carla", "--create-user").strip()) is not None


def test_the_command_lists_without_secrets_and_revokes(ana: auth.User) -> None:
    secret = command("create", "ana").strip()
    token = models.Token.objects.get()

    listed = command("list", "ana")
    assert token.hint in listed
    assert secret not in listed
    assert "live" in listed

    command("revoke", str(token.pk))
    assert "revoked" in command("list")
    assert tokens.find(secret) is None
    with pytest.raises(base.CommandError, match="no token"):
        command("revoke", "999999")


@pytest.mark.parametrize("lifetime", ["soon", "90", "-1d", "1.5d", "9999999d"])
def test_the_command_refuses_a_senseless_lifetime(ana: auth.User, lifetime: str) -> None:
    with pytest.raises(base.CommandError, match="number with a unit"):
        command("create", "ana", f"--expires-in={lifetime}")
