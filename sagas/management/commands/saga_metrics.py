"""`manage.py saga_metrics`: the counters and histograms as they stand; `--rebuild` makes them anew."""

from typing import Any

from django.core.management import base

from sagas import engine


class Command(base.BaseCommand):
    """Print the sums, or make those of the events anew from the live tables and the archive."""

    help = (
        "Prints the counters and histograms that the sweep keeps. With --rebuild those that events tell of"
        " are made anew first, from all live and archived sagas: where the history before 0.6.0 is wanted,"
        " or somebody changed them by hand. Sagas that were forgotten are not counted then."
    )

    def add_arguments(self, parser: Any) -> None:
        """What may be said."""
        parser.add_argument("--rebuild", action="store_true", help="make them anew from the events")

    def handle(self, *, rebuild: bool, **options: Any) -> None:
        """Do it."""
        if rebuild:
            engine.rebuild_metrics()
        for metric, samples in engine.read_metrics():
            for one in samples:
                if one.value or one.buckets:
                    named = ", ".join(
                        f'{label}="{value}"' for label, value in zip(metric.labels, one.labels, strict=True)
                    )
                    count = f" s in {one.buckets[-1][1]:g}" if one.buckets else ""
                    self.stdout.write(f"{metric.name}{{{named}}} {one.value:g}{count}")
