"""The archive for operators: what must stay out of it, and the commands of `manage.py saga` about it."""

import argparse
import datetime
import itertools
import json
import re
import sys
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from django.core.management import base

from sagas import conf, models, reading
from sagas.console import export, history
from sagas.console.models import BulkItem, Consent
from sagas.engine import archive

UNFINISHED = (BulkItem.State.PENDING, BulkItem.State.SENT)


def needed(saga_ids: Collection[uuid.UUID]) -> Iterable[uuid.UUID]:
    """Those of which a consent waits for a second person, or whose turn in a bulk run is not over."""
    asked = Consent.objects.filter(saga_id__in=saga_ids, state=Consent.State.ASKED)
    turns = BulkItem.objects.filter(saga_id__in=saga_ids, state__in=UNFINISHED)
    return itertools.chain(
        asked.values_list("saga_id", flat=True).iterator(), turns.values_list("saga_id", flat=True).iterator()
    )


# --- Commands --------------------------------------------------------------------------------------

Write = Callable[[str], object]
Find = Callable[[str], uuid.UUID]


def add_arguments(functions: Any) -> None:
    """The commands, for `manage.py saga`."""
    moving = functions.add_parser("archive", help="move what ended long ago into the archive, now")
    moving.add_argument("--older-than", type=_age, help="such as 30d or 12h (SAGAS_ARCHIVE_AFTER)")
    moving.add_argument("--limit", type=int, help="at most so many sagas")
    restoring = functions.add_parser("restore", help="put a saga back into the live tables")
    restoring.add_argument("saga", help="its id, or its business key")
    exporting = functions.add_parser("export", help="whole histories as JSON, a saga a line")
    exporting.add_argument("saga", nargs="*", help="their ids or keys, wherever they are")
    exporting.add_argument("--before", type=_month, help="the archive of the months before this one: 2024-01")
    verifying = functions.add_parser("verify", help="hold the archive against the chains over its events")
    verifying.add_argument("saga", nargs="*", help="only these, by id or key (all)")
    forgetting = functions.add_parser("forget", help="drop old months of the archive, for ever")
    forgetting.add_argument(
        "--before", type=_month, required=True, help="the months before this one: 2024-01"
    )
    forgetting.add_argument("--yes", type=int, metavar="SAGAS", help="agree to forget exactly so many")


def run(function: str, options: Mapping[str, Any], *, find: Find, write: Write) -> None:
    """Carry out one of `COMMANDS`.

    Raises:
        NotFound: there is no such saga.
        CommandError: it is not possible, or what was verified is not as it was.
    """
    COMMANDS[function](options, find, write)


def _archive(options: Mapping[str, Any], find: Find, write: Write) -> None:
    older_than = conf.archive_after() if options["older_than"] is None else options["older_than"]
    if older_than is None:
        raise base.CommandError("SAGAS_ARCHIVE_AFTER is None: say with --older-than what is to be moved.")
    moved = archive.run(older_than=older_than, limit=options["limit"], seconds=float("inf"))
    write(f"Moved {moved} sagas into the archive.")


def _restore(options: Mapping[str, Any], find: Find, write: Write) -> None:
    saga_id = find(options["saga"])
    if not archive.restore(saga_id):
        raise base.CommandError(f"Saga {saga_id} is in the live tables already.")
    write(f"Saga {saga_id} is back in the live tables. When it has rested for an hour it is archived again.")


def _export(options: Mapping[str, Any], find: Find, write: Write) -> None:
    for text in options["saga"]:
        write(_as_json(history.read(find(text))))
    if options["before"] is not None:
        until = datetime.datetime.combine(options["before"], datetime.time(), datetime.UTC)
        rows = models.ArchivedSaga.objects.filter(ended_at__lt=until).order_by("ended_at")
        for row in rows.iterator(chunk_size=archive.BATCH):
            write(_as_json(history.of_archived(reading.opened(row))))


def _as_json(record: history.History) -> str:
    events = record.archive.events if record.archive is not None else None
    return json.dumps(export.saga(record, events=events), ensure_ascii=False)


def _verify(options: Mapping[str, Any], find: Find, write: Write) -> None:
    chosen = [find(text) for text in options["saga"]] or None
    broken = 0
    for row, why in archive.broken(chosen):
        broken += 1
        write(f"{row.pk}  {row.name:20} {row.key}  {why}")
    if broken:
        raise base.CommandError(f"{broken} archived sagas are not what was archived.")
    write("Every archived saga is what was archived." if chosen is None else "It is what was archived.")


def _forget(options: Mapping[str, Any], find: Find, write: Write) -> None:
    months = archive.months(before=options["before"])
    sagas = sum(month.sagas for month in months)
    for month in months:
        write(f"{month.first:%Y-%m}  {month.sagas:>10} sagas")
    if not months:
        write("There is nothing so old.")
        return
    if options["yes"] is None and not sys.stdin.isatty():
        raise base.CommandError(f"Nothing was forgotten. Agree with --yes {sagas}.")
    if options["yes"] is None:
        write(f"Forget these {sagas} sagas, for ever? Type their number: ")
        agreed = sys.stdin.readline().strip()
    else:
        agreed = str(options["yes"])
    if agreed != str(sagas):
        raise base.CommandError(f"Nothing was forgotten: it is {sagas} sagas, not {agreed}.")
    write(f"Forgot {archive.forget(before=options['before'])} sagas.")


COMMANDS: Mapping[str, Callable[[Mapping[str, Any], Find, Write], None]] = {
    "archive": _archive,
    "restore": _restore,
    "export": _export,
    "verify": _verify,
    "forget": _forget,
}


def _month(text: str) -> datetime.date:
    found = re.fullmatch(r"(\d{4})-(0[1-9]|1[0-2])", text)
    if found is None:
        raise argparse.ArgumentTypeError("a month, such as 2024-01")
    return datetime.date(int(found[1]), int(found[2]), 1)


def _age(text: str) -> datetime.timedelta:
    found = re.fullmatch(r"(\d{1,6})([mhd])", text)
    if found is None:
        raise argparse.ArgumentTypeError("a number with a unit, such as 30d, 12h or 90m")
    unit = {"m": "minutes", "h": "hours", "d": "days"}[found[2]]
    return datetime.timedelta(**{unit: int(found[1])})
