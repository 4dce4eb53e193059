"""Makes, lists and revokes tokens of the API."""

import argparse
import datetime
import re
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management import base

from api import models, tokens

UNITS = {"h": "hours", "d": "days"}


class Command(base.BaseCommand):
    """`manage.py token create|list|revoke`."""

    help = "Makes, lists and revokes tokens of the API. A token's secret is shown once, when it is made."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """One sub-command per action."""
        actions = parser.add_subparsers(dest="action", required=True)
        create = actions.add_parser("create", help="make a token and print it")
        create.add_argument("username")
        create.add_argument("--name", default="command line", help="where it will be used")
        create.add_argument("--scope", choices=models.Scope.values, default=models.Scope.CUSTOMER)
        create.add_argument("--expires-in", type=lifetime, metavar="90d", help="for ever unless given")
        create.add_argument("--create-user", action="store_true", help="make the user if there is none")
        listing = actions.add_parser("list", help="list the tokens, newest first")
        listing.add_argument("username", nargs="?")
        revoke = actions.add_parser("revoke", help="make a token open nothing any more")
        revoke.add_argument("id", type=int)

    def handle(self, *args: Any, **options: Any) -> None:
        """Do the action."""
        getattr(self, options["action"])(**options)

    def create(
        self,
        *,
        username: str,
        name: str,
        scope: str,
        expires_in: datetime.timedelta | None,
        create_user: bool,
        **_: Any,
    ) -> None:
        """Print nothing but the secret, so that a script may keep it."""
        users = get_user_model().objects
        user = users.filter(username=username).first()
        if user is None and create_user:
            user = users.create_user(username=username, is_staff=scope == models.Scope.STAFF)
        if user is None:
            raise base.CommandError(f"There is no user {username!r}; --create-user makes one.")
        if why := tokens.refusal(maker=None, user=user, scope=scope):
            raise base.CommandError(why)
        _token, secret = tokens.create(user=user, name=name, scope=scope, lifetime=expires_in)
        self.stdout.write(secret)

    def list(self, *, username: str | None, **_: Any) -> None:
        """Print what is known of each token; its secret is not."""
        rows = models.Token.objects.select_related("user").order_by("-pk")
        for row in rows.filter(user__username=username) if username else rows:
            state = f"revoked {row.revoked_at:%Y-%m-%d}" if row.revoked_at else "live"
            until = f"until {row.expires_at:%Y-%m-%d %H:%M}" if row.expires_at else "no end"
            whose = f"{row.user.get_username()}  {row.name}"
            self.stdout.write(f"{row.pk:>6}  {row.hint}…  {row.scope:<8}  {whose}  {state}  {until}")

    def revoke(self, *, id: int, **_: Any) -> None:
        """Revoke it; to revoke twice is to revoke once."""
        row = models.Token.objects.filter(pk=id).first()
        if row is None:
            raise base.CommandError(f"There is no token {id}; `token list` shows them.")
        tokens.revoke(token=row)
        self.stdout.write(f"{row} is revoked.")


def lifetime(text: str) -> datetime.timedelta:
    """A length of time such as 12h or 90d."""
    match = re.fullmatch(r"(\d{1,6})([hd])", text)
    if not match:
        raise argparse.ArgumentTypeError("must be a number with a unit, such as 12h or 90d")
    return datetime.timedelta(**{UNITS[match[2]]: int(match[1])})
