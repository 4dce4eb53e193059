"""`manage.py webhooks listen` prints what is really delivered, hands it on, and leaves nothing behind."""

import json
import pathlib
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from typing import Any

import pytest
import standardwebhooks
from django.core import management
from django.core.management import color

from saga_project.local import runfile
from sagas.testing import memory_transport
from tests.orders.conftest import Api
from tests.support import database, waiting
from tests.webhooks.conftest import cancelled, let_pause_pass
from tests.webhooks.listener import listener
from tests.webhooks.receiver import Receiver
from webhooks import deliveries, listening, models, sender, services, signing
from webhooks.management.commands import webhooks as webhooks_command

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def environment(settings: Any) -> dict[str, str]:
    """Of a listener on this test's database; what delivers to it is the test itself."""
    settings.WEBHOOKS_TO_PRIVATE_ADDRESSES = True
    return database.environment(
        WEBHOOKS_TO_PRIVATE_ADDRESSES="1", DJANGO_SETTINGS_MODULE="saga_project.settings"
    )


def test_each_delivery_is_a_line_with_its_order_and_what_became_of_it(
    mia: Api, environment: dict[str, str], tmp_path: pathlib.Path, broker: memory_transport.MemoryTransport
) -> None:
    with listener(tmp_path, "mia", environment=environment) as terminal:
        cancelled(mia)
        broker.deliver_all()
        deliveries.run()
        waiting.until(lambda: "order.cancelled" in "".join(terminal.lines), "the end is printed")

        (order,) = mia.get("/orders").json()["results"]
        last = terminal.lines[-1]
        assert order["number"] in last
        assert last.endswith("cancelled: The order was cancelled on request.")
        assert not models.Delivery.objects.exclude(state=models.DeliveryState.DELIVERED).exists()

    assert terminal.process.returncode == 0
    assert not models.Endpoint.objects.exists()


def test_bodies_are_printed_one_a_line_and_nothing_else(
    mia: Api, environment: dict[str, str], tmp_path: pathlib.Path, broker: memory_transport.MemoryTransport
) -> None:
    with listener(tmp_path, "mia", "--json", "--types", "order.*", environment=environment) as terminal:
        cancelled(mia)
        broker.deliver_all()
        deliveries.run()
        waiting.until(lambda: "order.cancelled" in "".join(terminal.lines), "the end is printed")

    printed = [json.loads(line) for line in terminal.lines]
    assert [message["type"] for message in printed] == ["order.placed", "order.cancelling", "order.cancelled"]
    assert printed == [json.loads(message.body) for message in models.Message.objects.order_by("sequence")]


def test_each_is_posted_on_as_it_came_and_answered_as_it_is_answered_there(
    mia: Api,
    receiver: Receiver,
    environment: dict[str, str],
    tmp_path: pathlib.Path,
    broker: memory_transport.MemoryTransport,
) -> None:
    secret = signing.new_secret()
    receiver.answers = [500]
    more = ("--forward-to", receiver.url, "--secret", secret, "--types", "order.cancelled")
    with listener(tmp_path, "mia", *more, environment=environment) as terminal:
        cancelled(mia)
        broker.deliver_all()
        deliveries.run()
        waiting.until(lambda: len(terminal.lines) == 1, "the first attempt is printed")
        (delivery,) = models.Delivery.objects.all()
        assert (delivery.state, delivery.log.get().status) == (models.DeliveryState.PENDING, 500)

        let_pause_pass()
        deliveries.run()
        waiting.until(lambda: len(terminal.lines) == 2, "the second attempt is printed")
        delivery.refresh_from_db()
        assert delivery.state == models.DeliveryState.DELIVERED

    first, second = terminal.lines
    assert first.endswith("-> 500")
    assert second.endswith("(again)  -> 204")
    for headers, body in receiver.heard:
        assert standardwebhooks.Webhook(secret).verify(body, headers)
    assert len({body for _, body in receiver.heard}) == 1
    assert terminal.secret == secret


def test_where_nobody_answers_the_line_says_so_and_it_is_tried_again(
    mia: Api, environment: dict[str, str], tmp_path: pathlib.Path, broker: memory_transport.MemoryTransport
) -> None:
    nobody = ("--forward-to", "http://127.0.0.1:9/hooks", "--types", "order.cancelled")
    with listener(tmp_path, "mia", *nobody, environment=environment) as terminal:
        cancelled(mia)
        broker.deliver_all()
        deliveries.run()
        waiting.until(lambda: terminal.lines, "the attempt is printed")
        assert models.Attempt.objects.get().status == 502

    assert "-> no answer: " in terminal.lines[0]


def test_one_who_answers_gone_is_told_that_nothing_more_comes(
    mia: Api,
    receiver: Receiver,
    environment: dict[str, str],
    tmp_path: pathlib.Path,
    broker: memory_transport.MemoryTransport,
) -> None:
    receiver.answers = [410]
    more = ("--forward-to", receiver.url, "--types", "order.cancelled")
    with listener(tmp_path, "mia", *more, environment=environment) as terminal:
        cancelled(mia)
        broker.deliver_all()
        deliveries.run()
        terminal.process.wait(60)

    assert terminal.process.returncode == 1
    assert "disables an endpoint" in terminal.notes
    assert not models.Endpoint.objects.exists()


def test_what_others_send_to_its_port_is_not_printed(
    mia: Api, environment: dict[str, str], tmp_path: pathlib.Path
) -> None:
    with listener(tmp_path, "mia", environment=environment) as terminal:
        url = models.Endpoint.objects.get().url
        for headers in ({}, {"webhook-id": "1", "webhook-timestamp": "1", "webhook-signature": "v1,AAAA"}):
            with pytest.raises(urllib.error.HTTPError, match="401"):
                urllib.request.urlopen(urllib.request.Request(url, b"{}", headers))

    assert terminal.lines == []


def test_one_that_is_told_to_end_leaves_no_endpoint_and_one_that_is_killed_leaves_it_to_the_next(
    mia: Api, environment: dict[str, str], tmp_path: pathlib.Path
) -> None:
    other = services.create(owner=mia.user, url="http://127.0.0.1:9/", types=["order.*"])

    with listener(tmp_path, "mia", environment=environment) as terminal:
        terminal.process.send_signal(signal.SIGTERM)
        assert terminal.process.wait(60) == 0
    assert list(models.Endpoint.objects.all()) == [other]

    with listener(tmp_path, "mia", environment=environment) as terminal:
        terminal.process.kill()
        terminal.process.wait(60)
    assert models.Endpoint.objects.filter(description=listening.DESCRIPTION).count() == 1

    with listener(tmp_path, "mia", environment=environment):
        assert models.Endpoint.objects.filter(description=listening.DESCRIPTION).count() == 1
    assert list(models.Endpoint.objects.all()) == [other]


def test_two_may_listen_at_once(mia: Api, environment: dict[str, str], tmp_path: pathlib.Path) -> None:
    (tmp_path / "other").mkdir()
    with (
        listener(tmp_path, "mia", environment=environment),
        listener(tmp_path / "other", "mia", environment=environment),
    ):
        assert models.Endpoint.objects.count() == 2


@pytest.mark.parametrize(
    ("arguments", "private", "why"),
    [
        (["nobody"], "1", "There is no user 'nobody'."),
        (["mia"], "0", "Set WEBHOOKS_TO_PRIVATE_ADDRESSES=1"),
        (["mia", "--secret", "whsec_short"], "1", "whsec_ and 24 to 64 bytes"),
        (["mia", "--forward-to", "localhost:3000"], "1", "begins with https:// or http://"),
        (["mia", "--types", "order.lost"], "1", "invalid choice: 'order.lost'"),
    ],
)
def test_what_cannot_be_is_said_at_once(
    mia: Api, settings: Any, arguments: list[str], private: str, why: str
) -> None:
    settings.WEBHOOKS_TO_PRIVATE_ADDRESSES = private == "1"

    with pytest.raises(management.CommandError, match=re.escape(why)):
        management.call_command("webhooks", "listen", *arguments)
    assert not models.Endpoint.objects.exists()


def test_a_port_that_is_taken_and_a_merchant_with_many_endpoints_are_said_so(
    mia: Api, receiver: Receiver, environment: dict[str, str]
) -> None:
    port = receiver.url.partition("?")[0].rpartition(":")[2].partition("/")[0]
    assert f"Port {port} cannot be listened on" in refused(["mia", "--port", port], environment)

    for number in range(services.MOST_ENDPOINTS):
        services.create(owner=mia.user, url=f"http://127.0.0.1:9/{number}", types=["order.*"])
    assert "one has to be deleted first" in refused(["mia"], environment)


def test_the_page_shows_lines_as_they_are_printed() -> None:
    page = (runfile.ROOT / "docs/api.md").read_text()
    number = "ORD-7K3QX9ZD"

    def shown(type_: str, at: str, status: int, *, again: bool = False, **data: Any) -> str:
        told = {"type": type_, "timestamp": f"2026-11-23T{at}.000000Z", "data": data}
        reply = sender.Reply(duration_ms=1, status=status)
        delivery = listening.Heard(body=json.dumps(told).encode(), again=again, reply=reply)
        return webhooks_command.line(delivery, color.no_style())

    fulfilled = {"number": number, "status": "fulfilled"}
    lines = [
        shown("saga.step.done", "12:00:00", 204, order={"number": number}, step={"name": "take-payment"}),
        shown("order.fulfilled", "12:00:09", 500, order=fulfilled),
        shown("order.fulfilled", "12:00:14", 204, order=fulfilled, again=True),
    ]
    assert "\n".join(lines) in page


def refused(arguments: list[str], environment: dict[str, str]) -> str:
    """What a listener says that does not begin."""
    ran = subprocess.run(
        [sys.executable, "manage.py", "webhooks", "listen", *arguments],
        cwd=runfile.ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode != 0
    assert "Traceback" not in ran.stderr
    return ran.stderr
