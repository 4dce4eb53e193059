"""The admin shows no secret of an endpoint, and sends a message again."""

import pytest
from django.contrib.auth import models as auth
from django.test import Client

from webhooks import models, services, signing

pytestmark = pytest.mark.django_db


@pytest.fixture
def chief(db: None) -> Client:
    client = Client()
    client.force_login(auth.User.objects.create_superuser("chief"))
    return client


@pytest.fixture
def shop(db: None) -> models.Endpoint:
    return models.Endpoint.objects.create(
        owner=auth.User.objects.create_user("mia"),
        url="https://example.com/",
        types=["order.*"],
        secret=signing.new_secret(),
    )


def test_no_page_shows_an_endpoint_s_secrets(chief: Client, shop: models.Endpoint) -> None:
    services.rotate(endpoint=shop)
    services.send_test(endpoint=shop)
    secrets = models.Endpoint.objects.values_list("secret", "old_secrets").get()

    for path in ("endpoint/", f"endpoint/{shop.pk}/change/", "delivery/"):
        page = chief.get(f"/admin/webhooks/{path}")
        assert page.status_code == 200
        assert secrets[0] not in page.content.decode()
        assert secrets[1][0]["secret"] not in page.content.decode()


def test_a_message_is_sent_again(chief: Client, shop: models.Endpoint) -> None:
    delivery = services.send_test(endpoint=shop)
    models.Delivery.objects.update(state="given_up", next_at=None, attempts=10)

    chief.post("/admin/webhooks/delivery/", {"action": "replay", "_selected_action": [delivery.pk]})

    delivery.refresh_from_db()
    assert (delivery.state, delivery.attempts) == ("pending", 0)
