"""`manage.py saga_worker --queues trips,sagas --processes 2`: a worker without a broker, and its clock."""

import argparse
from typing import Any

from django.core.management import base

from sagas import conf
from sagas.declaration import registry
from sagas.transports import worker


class Command(base.BaseCommand):
    """Carry out steps from the database's own lines, and do what comes by the clock."""

    help = (
        f"A worker for SAGAS_TRANSPORT = {conf.POSTGRES_TRANSPORT!r}: takes due sagas from the database,"
        " woken by NOTIFY; sweeps, archives, drives bulk runs and sends traces. With --processes 0 it does"
        " only the latter, where another transport carries sagas. SIGTERM lets each step end."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """What it serves, and how many at once."""
        parser.add_argument("--queues", type=_queues, help="separated by commas (all that sagas name)")
        parser.add_argument("--processes", type=int, default=1, help="how many carry out steps (1)")
        parser.add_argument(
            "--no-sweep",
            action="store_true",
            help="leave the sweep, and all else that comes by the clock, to another one",
        )
        parser.add_argument(
            "--listen-on",
            default="default",
            metavar="ALIAS",
            help="the database alias on which NOTIFY is heard: one that no pooler stands before (default)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Run until SIGTERM.

        Raises:
            CommandError: another transport carries the messages.
        """
        processes = options["processes"]
        if processes and conf.transport() != conf.POSTGRES_TRANSPORT:
            raise base.CommandError(
                f"SAGAS_TRANSPORT is {conf.transport()!r}, which brings this worker nothing: set it to"
                f" {conf.POSTGRES_TRANSPORT!r}, or have it carry out no step, with --processes 0."
            )
        queues = options["queues"] or [*registry.queues(), conf.ENGINE_QUEUE]
        worker.Above(
            queues, processes=processes, sweeps=not options["no_sweep"], listens=options["listen_on"]
        ).run()


def _queues(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise argparse.ArgumentTypeError("queues, separated by commas")
    return names
