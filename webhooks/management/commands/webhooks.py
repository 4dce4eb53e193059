"""Prints deliveries of webhooks to a developer's terminal."""

import argparse
import base64
import binascii
import contextlib
import signal
from typing import Any

from django.conf import settings
from django.contrib.auth import models as auth
from django.core.management import base

from webhooks import errors, listening, messages, sender


class Command(base.BaseCommand):
    """`manage.py webhooks listen`."""

    help = "Prints what merchants are told by webhooks, as it is delivered."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """One sub-command per action."""
        actions = parser.add_subparsers(dest="action", required=True)
        listen = actions.add_parser(
            "listen", help="have what happens to a user's orders delivered to this terminal, until Ctrl-C"
        )
        listen.add_argument("username", help="whose orders")
        listen.add_argument(
            "--types",
            nargs="+",
            choices=messages.WISHES,
            default=["order.*", "saga.step.*", "endpoint.*"],
            metavar="TYPE",
            help="which messages, such as order.*; all unless given",
        )
        listen.add_argument("--json", action="store_true", help="print the bodies, one a line")
        listen.add_argument(
            "--forward-to", default="", metavar="URL", help="post each on, and answer as is answered there"
        )
        listen.add_argument(
            "--port",
            type=int,
            choices=range(65536),
            default=0,
            metavar="PORT",
            help="where to listen; a free one unless given",
        )
        listen.add_argument(
            "--secret", default="", metavar="whsec_...", help="sign with this one; a new one unless given"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Do the action."""
        getattr(self, options["action"])(**options)

    def listen(
        self,
        *,
        username: str,
        types: list[str],
        json: bool,
        forward_to: str,
        port: int,
        secret: str,
        **_: Any,
    ) -> None:
        """Print each delivery to stdout, and all else to stderr."""
        owner = auth.User.objects.filter(username=username).first()
        if owner is None:
            raise base.CommandError(f"There is no user {username!r}.")
        _check(forward_to=forward_to, secret=secret)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        with contextlib.suppress(KeyboardInterrupt):
            try:
                self._print(
                    listening.listening(
                        owner=owner, types=types, port=port, secret=secret, forward_to=forward_to
                    ),
                    whose=username,
                    json=json,
                )
            except errors.TooMany as error:
                raise base.CommandError(f"{username}: {errors.TooMany.__doc__}") from error
            except errors.PortTaken as error:
                raise base.CommandError(f"Port {port} cannot be listened on: {error}") from error

    def _print(self, deliveries: Any, *, whose: str, json: bool) -> None:
        with deliveries as (endpoint, heard):
            self.stderr.write(
                f"Ready. What happens to the orders of {whose} is delivered here until Ctrl-C."
                f" It is signed with {endpoint.secret}",
                self.style.NOTICE,
            )
            self.stderr.flush()
            while True:
                delivery: listening.Heard = heard.get()
                if json:
                    self.stdout.write(delivery.body.decode())
                else:
                    self.stdout.write(line(delivery, self.style))
                self.stdout.flush()
                if delivery.reply is not None and delivery.reply.status == 410:
                    raise base.CommandError(
                        "It answered 410 Gone: that disables an endpoint, so nothing more comes."
                    )


def line(delivery: listening.Heard, style: Any) -> str:
    """What a person wants to know of a delivery: when, what, of which order, and what became of it."""
    message = delivery.message
    order, step = message["data"].get("order", {}), message["data"].get("step", {})
    why = step.get("error") or order.get("failure") or {}
    words = [step.get("name") or order.get("status", ""), step.get("message") or why.get("message", "")]
    told = f"{message['timestamp'][11:19]}Z  {message['type']:<20}  {order.get('number', ''):<12}"
    said = f"{told}  {': '.join(word for word in words if word)}".rstrip()
    if delivery.again:
        said += "  (again)"
    if delivery.reply is None:
        return said
    ok, reply = delivery.reply.ok, delivery.reply
    answer = str(reply.status) if reply.status is not None else f"no answer: {reply.error}"
    return f"{said}  -> {(style.SUCCESS if ok else style.ERROR)(answer)}"


def _check(*, forward_to: str, secret: str) -> None:
    if not settings.WEBHOOKS_TO_PRIVATE_ADDRESSES:
        raise base.CommandError(
            "Messages go to public addresses only. Set WEBHOOKS_TO_PRIVATE_ADDRESSES=1 here and for the"
            " worker that delivers them, and do not do so in production."
        )
    if forward_to:
        try:
            sender.check(forward_to)
        except sender.Refused as error:
            raise base.CommandError(f"--forward-to {forward_to}: {error}") from error
    if secret:
        try:
            length = len(base64.b64decode(secret.removeprefix("whsec_"), validate=True))
        except binascii.Error:
            length = 0
        if not secret.startswith("whsec_") or not 24 <= length <= 64:
            raise base.CommandError("--secret must be whsec_ and 24 to 64 bytes in base64.")
