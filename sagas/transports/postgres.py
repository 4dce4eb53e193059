"""A transport without a broker: what is sent stands in the line of its queue, on the saga's own row.

Lines are there anyway (`sagas.engine.pacing`): a due saga stands in that of its step's queue until somebody
takes it, by SELECT ... FOR UPDATE SKIP LOCKED over an index of just those rows. Here everything that is
sent is put there, and NOTIFY wakes the workers (`manage.py saga_worker`), so that none of them has to ask
often. No table is needed.

What has no line goes as the text of a NOTIFY itself, to every worker that serves the queue: steps that are
done at once with others, compensations of late callbacks, probes. The first one carries it out, and the
others find the row changed. A NOTIFY that nobody hears is lost, and the sweep sends again.
"""

import datetime
import json
from collections.abc import Sequence
from typing import Any

from django.db import connection

from sagas.engine import dispatching, transport
from sagas.transports import carriage

CHANNEL = "sagas_messages"

_LINE_UP = """
WITH lined AS (
    UPDATE sagas_saga saga SET in_line_for = sent.queue, dispatches = GREATEST(saga.dispatches - 1, 0),
        wake_at = LEAST(saga.deadline_at, clock_timestamp() + %s::interval)
    FROM unnest(%s::uuid[], %s::int[], %s::text[]) AS sent (id, epoch, queue)
    WHERE saga.id = sent.id AND saga.epoch = sent.epoch AND saga.dispatched_at IS NOT NULL
      AND saga.finished_at IS NULL
    RETURNING sent.queue
)
SELECT pg_notify(%s, json_build_object('queue', queue)::text) FROM (SELECT DISTINCT queue FROM lined) AS q
"""
# Whoever takes it from the line counts it as sent on: until then it was not.


class PostgresTransport:
    """Carries the engine's dispatches by the database alone."""

    def send(self, dispatch: transport.Dispatch) -> None:
        """Put it in the line of its queue, and wake whoever serves that."""
        self.send_many([dispatch])

    def send_many(self, dispatches: Sequence[transport.Dispatch]) -> None:
        """Put many in line, in one statement."""
        alone = [one for one in dispatches if not one.member]
        if alone:
            parameters: list[Any] = [
                dispatching.LINE_LOOK,
                [one.saga_id for one in alone],
                [one.epoch for one in alone],
                [one.messages[0].queue for one in alone],
                CHANNEL,
            ]
            with connection.cursor() as cursor:
                cursor.execute(_LINE_UP, parameters)
        for one in dispatches:
            if one.member:
                _notify(queue=one.messages[0].queue, dispatch=carriage.as_json(one))

    def compensate_late(self, signal_id: int, queue: str) -> None:
        """Have the workers of the queue told."""
        _notify(queue=queue, signal_id=signal_id)

    def probe(self, queue: str, sent_at: datetime.datetime) -> None:
        """Have the workers of the queue told: who hears it has heard, or missed, all that was said before."""
        _notify(queue=queue, probe=sent_at.isoformat())

    def backlog(self, *queues: str) -> int | None:
        """Everything stands in line, and no queue is ever full."""
        return None


def _notify(**said: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, %s)", [CHANNEL, json.dumps(said)])
