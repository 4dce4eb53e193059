"""Passwords at the admin's door: they may not be tried for ever, and nobody is kept out by a stranger."""

import datetime
import logging

import pytest
from django.contrib.auth import models as auth
from django.contrib.auth import password_validation
from django.core import exceptions
from django.test import Client

from api import models

pytestmark = pytest.mark.django_db

PASSWORD = "correct-horse-battery"
DOOR = "/admin/login/?next=/admin/"


@pytest.fixture(autouse=True)
def few(settings):
    settings.LOGINS_BURST = 3
    settings.LOGINS_EVERY = datetime.timedelta(hours=1)  # However slow the machine, nothing comes back.


@pytest.fixture
def olga(db):
    return auth.User.objects.create_user("olga", password=PASSWORD, is_staff=True)


def attempt(password="wrong", *, name="olga", address="192.0.2.1", client=None):
    form = {"username": name, "password": password}
    return (client or Client()).post(DOOR, form, REMOTE_ADDR=address)


def test_who_tries_too_many_passwords_is_told_when_to_come_back(olga, caplog):
    assert [attempt().status_code for _ in range(3)] == [200] * 3

    with caplog.at_level(logging.WARNING):
        refused = attempt(PASSWORD)

    assert refused.status_code == 429
    assert 1 <= int(refused["Retry-After"]) <= 3600
    assert f"Try again in {refused['Retry-After']} seconds." in refused.content.decode()
    assert "_auth_user_id" not in refused.client.session
    assert f"user {olga.pk} from 192.0.2.1" in caplog.text
    portuguese = Client(headers={"Accept-Language": "pt-BR"})
    assert "Tentativas demais" in attempt(client=portuguese).content.decode()


def test_an_address_that_used_up_its_allowance_keeps_nobody_else_out(olga):
    for _ in range(3):
        attempt(name="somebody")

    assert attempt(PASSWORD).status_code == 429
    assert attempt(PASSWORD, address="192.0.2.2").status_code == 302


def test_many_addresses_cannot_try_one_account_for_ever(olga):
    for number in range(3):
        attempt(address=f"192.0.2.{number}")

    refused = attempt(PASSWORD, address="192.0.2.9")

    assert refused.status_code == 429
    assert attempt(name="OLGA", address="192.0.2.10").status_code == 429


def test_a_stranger_cannot_keep_somebody_out_of_a_browser_they_have_used(olga):
    hers = Client()
    assert attempt(PASSWORD, client=hers).status_code == 302
    hers.logout()
    # Her sessions are gone with `logout`, which clears the cookies too.
    assert attempt(PASSWORD, client=hers).status_code == 302
    device = hers.cookies["login_device"]
    assert device["httponly"]

    for number in range(10):
        attempt(address=f"192.0.2.{number}")
    assert attempt(PASSWORD, address="192.0.2.99").status_code == 429

    again = Client()
    again.cookies["login_device"] = device.value
    assert attempt(PASSWORD, client=again).status_code == 302
    # It opens nobody else's door, and a forged one none.
    other = Client()
    other.cookies["login_device"] = device.value + "x"
    assert attempt(PASSWORD, client=other).status_code == 429


def test_the_allowance_of_a_known_browser_has_an_end_too(olga):
    hers = Client()
    assert attempt(PASSWORD, client=hers).status_code == 302

    codes = [attempt(client=hers, address=f"198.51.100.{number}").status_code for number in range(4)]

    assert codes == [200, 200, 200, 429]


def test_what_was_used_up_comes_back_with_time(olga):
    for _ in range(3):
        attempt()
    assert attempt(PASSWORD).status_code == 429

    models.Throttle.objects.all().delete()

    assert attempt(PASSWORD).status_code == 302


def test_no_name_that_was_typed_is_in_the_log(olga, caplog):
    for _ in range(4):
        attempt(name="my-Passw0rd")

    assert "nobody we know" in caplog.text
    assert "my-Passw0rd" not in caplog.text


@pytest.mark.parametrize("password", ["short1!", "password1234", "8675309867530", "olga.silva"])
def test_a_weak_password_is_refused(olga, password):
    olga.last_name = "Olga Silva"
    with pytest.raises(exceptions.ValidationError):
        password_validation.validate_password(password, olga)
