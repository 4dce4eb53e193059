"""How much work a queue has, by the rows: what its number of workers follows.

The length of a broker's queue misses what workers have in their hands, so that they are ended in the middle
of it, and what stands in a line or waits to be sent again. Airflow counts its running and queued rows
instead; the same is done here.
"""

from saga_project.deployment import layout


def query(worker: layout.Worker) -> str:
    """SQL for how many steps of this queue are due, under way to a worker, or in a worker's hands.

    1. The step that a saga is at, if it is sent by itself. One that waits for a callback, a timer or a person
       is not counted, nor one that a circuit or an operator holds back: no worker could do anything for it.
    2. The steps of a stage, which have messages and leases of their own.

    It reads what the sweep will look at soon, by the index that the sweep has, whatever the history holds.
    """
    steps = ", ".join(f"('{saga}', {version}, '{step}')" for saga, version, step in worker.steps)
    seconds = int(layout.horizon().total_seconds())
    return f"""\
WITH near AS (
  SELECT id FROM sagas_saga WHERE wake_at <= clock_timestamp() + interval '{seconds} seconds'
  UNION SELECT id FROM sagas_saga WHERE in_line_for = '{worker.queue}'
  UNION SELECT saga_id FROM sagas_step WHERE wake_at <= clock_timestamp() + interval '{seconds} seconds'
)
SELECT count(*)
FROM near JOIN sagas_saga AS saga USING (id) JOIN sagas_step AS step ON step.saga_id = saga.id
WHERE saga.state IN ('running', 'compensating')
  AND (saga.name, saga.version, step.name) IN ({steps})
  AND (step.lease_until > clock_timestamp()
       OR saga.held_at IS NULL AND step.epoch IS NULL
          AND step.position = saga.position AND saga.parked_for IS NULL
          AND (saga.in_line_for IS NOT NULL OR saga.dispatched_at IS NOT NULL
               OR saga.wake_at <= clock_timestamp())
       OR saga.held_at IS NULL AND step.epoch IS NOT NULL AND step.parked_for IS NULL
          AND (step.dispatched_at IS NOT NULL OR step.wake_at <= clock_timestamp()))"""  # noqa: S608 - names of ours
