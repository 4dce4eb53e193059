"""What the console asks of the archiver: sagas that its own rows still need stay where they are."""

import itertools
import uuid
from collections.abc import Collection, Iterable

from sagas.console.models import Approval, BulkItem

UNFINISHED = (BulkItem.State.PENDING, BulkItem.State.SENT)


def needed(saga_ids: Collection[uuid.UUID]) -> Iterable[uuid.UUID]:
    """Those of which an approval waits for a second person, or whose turn in a bulk run is not over."""
    asked = Approval.objects.filter(saga_id__in=saga_ids, state=Approval.State.ASKED)
    turns = BulkItem.objects.filter(saga_id__in=saga_ids, state__in=UNFINISHED)
    return itertools.chain(
        asked.values_list("saga_id", flat=True).iterator(), turns.values_list("saga_id", flat=True).iterator()
    )
