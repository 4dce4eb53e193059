"""Tokens: shown once, kept as a hash; they expire, are revoked, and open no more than their scope."""

import datetime
import io
import re
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth import models as auth
from django.core import management
from django.core.management import base
from django.db.models import functions
from django.test import Client

from api import tokens
from api.models import Scope, Token
from tests.orders.conftest import Api, member

pytestmark = pytest.mark.django_db


@pytest.fixture
def ana(db: None) -> auth.User:
    return auth.User.objects.create_user("ana")


def test_a_token_opens_the_door_and_is_not_kept(ana: auth.User) -> None:
    token, secret = tokens.create(user=ana, name="web shop")

    assert Api(ana, secret).get("/orders").status_code == 200
    assert secret not in str(Token.objects.values().get())
    assert secret.startswith(token.hint)
    assert len(token.hint) < 12
    assert len(secret) > 40


def test_an_expired_token_opens_nothing(ana: auth.User) -> None:
    _, secret = tokens.create(user=ana, name="web shop", lifetime=datetime.timedelta(hours=1))
    assert Api(ana, secret).get("/orders").status_code == 200

    Token.objects.update(expires_at=functions.Now())

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

    Token.objects.update(used_at=first - datetime.timedelta(hours=1))
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
    token = Token.objects.get()

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


# --- In the admin --------------------------------------------------------------------------------


@pytest.fixture
def chief(client: Client) -> Client:
    client.force_login(auth.User.objects.create_superuser("chief"))
    return client


def test_the_admin_makes_a_token_and_shows_it_once(chief: Client, ana: auth.User) -> None:
    page = chief.post(
        "/admin/api/token/add/",
        {"user": ana.pk, "name": "web shop", "scope": "customer", "expires_at_0": "", "expires_at_1": ""},
        follow=True,
    )

    shown = re.search(r"<code>(ord_[\w-]+)</code>", page.content.decode())
    assert shown is not None
    assert Api(ana, shown[1]).get("/orders").status_code == 200
    again = chief.get(f"/admin/api/token/{Token.objects.get().pk}/change/")
    assert shown[1] not in again.content.decode()


def test_the_admin_revokes_it(chief: Client, ana: auth.User) -> None:
    token, secret = tokens.create(user=ana, name="web shop")

    chief.post("/admin/api/token/", {"action": "revoke", "_selected_action": [token.pk]})

    assert Api(ana, secret).get("/orders").status_code == 401


def test_the_admin_neither_changes_nor_deletes_one(chief: Client, ana: auth.User) -> None:
    token, _ = tokens.create(user=ana, name="web shop")

    assert chief.post(f"/admin/api/token/{token.pk}/change/", {"scope": "staff"}).status_code == 403
    assert chief.post(f"/admin/api/token/{token.pk}/delete/", {"post": "yes"}).status_code == 403


@pytest.mark.parametrize("model", ["token", "idempotencykey"])
def test_the_admin_s_lists_show_no_secret(chief: Client, ana: auth.User, model: str) -> None:
    token, _ = tokens.create(user=ana, name="web shop")

    listed = chief.get(f"/admin/api/{model}/")

    assert listed.status_code == 200
    assert token.digest not in listed.content.decode()


# --- Who may make one for whom -------------------------------------------------------------------


def clerk(name: str, *permissions: str, **user: Any) -> auth.User:
    """Somebody of the staff with these permissions."""
    made = auth.User.objects.create_user(name, is_staff=True, **user)
    codenames = [permission.partition(".")[2] for permission in permissions]
    made.user_permissions.set(auth.Permission.objects.filter(codename__in=codenames))
    return made


ADD = ("api.add_token", "api.view_token")


def make(client: Client, maker: auth.User, **chosen: Any) -> str:
    """Have that person make a token in the admin; its secret, or nothing."""
    client.force_login(maker)
    form = {"name": "mine", "scope": "customer", "expires_at_0": "", "expires_at_1": ""} | chosen
    page = client.post("/admin/api/token/add/", form, follow=True).content.decode()
    shown = re.search(r"<code>(ord_[\w-]+)</code>", page)
    return shown[1] if shown else ""


def test_nobody_makes_a_token_for_a_more_powerful_user(client: Client) -> None:
    chief = auth.User.objects.create_superuser("chief")
    carla = clerk("carla", *ADD)

    secret = make(client, carla, user=chief.pk)

    # The form does not ask for whom: whatever was sent, it is one's own.
    assert not Token.objects.filter(user=chief).exists()
    token = tokens.find(secret)
    assert token is not None
    assert token.user == carla


def test_nobody_makes_a_staff_token_who_may_not_see_what_it_shows(client: Client) -> None:
    carla, vera = clerk("carla", *ADD), clerk("vera", *ADD, *settings.STAFF_TOKENS_SHOW)

    assert make(client, carla, scope="staff") == ""
    assert Token.objects.count() == 0
    assert tokens.find(make(client, vera, scope="staff")) is not None


def test_a_superuser_makes_them_for_others_but_none_that_would_open_nothing(client: Client) -> None:
    chief = auth.User.objects.create_superuser("chief")
    ana, gone = auth.User.objects.create_user("ana"), auth.User.objects.create_user("gone", is_active=False)

    assert make(client, chief, user=ana.pk)
    assert make(client, chief, user=ana.pk, scope="staff") == ""
    assert make(client, chief, user=gone.pk) == ""
    with pytest.raises(base.CommandError, match="does not belong to the staff"):
        command("create", "ana", "--scope", "staff")


def test_nobody_revokes_anothers_token_without_the_permission_for_it(client: Client) -> None:
    chief, ana = auth.User.objects.create_superuser("chief"), auth.User.objects.create_user("ana")
    hers, chiefs = (tokens.create(user=user, name="one")[0] for user in (ana, chief))
    carla, olga = clerk("carla", *ADD), clerk("olga", *ADD, "api.change_token")

    def live_after(user: auth.User, token: Token) -> bool:
        client.force_login(user)
        client.post("/admin/api/token/", {"action": "revoke", "_selected_action": [token.pk]})
        return token.pk in tokens.live([token.pk])

    assert live_after(carla, hers)
    assert live_after(olga, chiefs)
    assert not live_after(olga, hers)
    assert not live_after(chief, chiefs)


@pytest.mark.parametrize("change", [{"is_staff": False}, {"is_active": False}])
@pytest.mark.parametrize("path", ["/metrics", "/api/v1/sagas", "/api/v1/orders", "/api/v1/products"])
def test_a_staff_token_of_somebody_who_left_opens_nothing_anywhere(
    path: str, change: dict[str, bool]
) -> None:
    olga = member("olga", Scope.STAFF, is_staff=True, is_superuser=True)
    assert olga.client.get(path).status_code == 200

    auth.User.objects.filter(pk=olga.user.pk).update(**change)

    assert olga.client.get(path).status_code == 401
    # What goes on for long, such as a stream, asks this now and then.
    assert not tokens.live([Token.objects.get(user=olga.user).pk])
