"""`manage.py erase`: have a customer's personal data struck out of their orders, on their request."""

import getpass
from argparse import ArgumentParser
from typing import Any

from django.core.management import base
from django.utils import translation

from orders import erasure, errors


class Command(base.BaseCommand):
    """Show what would be struck, and ask for it."""

    help = (
        "Strikes a customer's personal data out of their orders. Without --yes it shows what would be struck"
        " and what is kept, and changes nothing; with --yes it asks for it. It is done when a second person,"
        " who is logged in to the admin, agrees there; it cannot be taken back."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Whose data, and on which request."""
        parser.add_argument(
            "--customer", required=True, help="CPF, CNPJ or e-mail address, as the orders have it"
        )
        parser.add_argument("--reason", default="", help="the number of the customer's request")
        parser.add_argument("--yes", action="store_true", help="ask for it")
        parser.add_argument("--actor", default=getpass.getuser(), help="who you are (your login)")

    def handle(self, *args: Any, **options: Any) -> None:
        """Show, and ask.

        Raises:
            CommandError: it is not possible; it says why.
        """
        try:
            with translation.override("en"):
                self._show(options["customer"])
                self._ask(options, options["actor"][:150])
        except (errors.NoCustomer, errors.NotErasable) as refusal:
            raise base.CommandError(str(refusal)) from refusal

    def _show(self, customer: str) -> None:
        for earlier in erasure.about(customer):
            self.stdout.write(f"Erasure {earlier.pk} ({earlier.reason}): {earlier.get_state_display()}.")
        orders = erasure.find(customer)
        found = erasure.look(orders)
        self.stdout.write(f"{len(found.erasable) + len(found.refused)} orders of this customer were found.")
        if more := erasure.related(orders):
            self.stdout.write(
                f"{more} more share an e-mail address or a tax id with these: look for them by the other."
            )
        for order in found.erasable:
            self.stdout.write(
                f"  {order.number}: struck out again, since {order.erased_at:%Y-%m-%d}: what came since, and"
                " all that providers have told"
                if order.erased_at
                else f"  {order.number}: struck out: name, e-mail, tax id, address, what is personal in its"
                " saga, and texts that name the customer"
            )
        if found.flagged:
            self.stdout.write(
                "  struck out: that the customer is flagged, so that their orders wait for a review"
            )
        for order, why in found.refused:
            self.stdout.write(
                f"  {order.number}: not yet: {why} Have it finished, cancelled or put aside, and ask again."
            )
        for key, until in sorted(found.kept.items()):
            self.stdout.write(
                f"  kept: the tax id on the invoice {key}, until {until} (CTN, arts. 173, I, and 195; LGPD,"
                " art. 16, I)"
            )
        self.stdout.write("  kept: amounts, products, dates, states and what providers call them: the books.")

    def _ask(self, options: dict[str, Any], actor: str) -> None:
        if not options["yes"]:
            self.stdout.write("Nothing was changed. With --yes and --reason it is asked for.")
            return
        orders = erasure.find(options["customer"])
        asked = erasure.ask(
            customer=options["customer"], orders=orders, actor=actor, reason=options["reason"]
        )
        self.stdout.write(
            f"Asked for, as {asked.pk}. It is done when a second person agrees in the admin, under Erasures."
        )
