"""One more saga for a worker's message: carried on from where it stands, and back if it fails on the way."""

from sagas.engine import sweeping, transport
from sagas.engine.attempts import Lane, Result
from sagas.engine.execution import go_on
from sagas.engine.kinds import Next


def carry(dispatch: transport.Dispatch, lane: Lane) -> Result:
    """Carry a saga that came without a message of its own as far as the lane takes it.

    If it fails, no chain ends with it whose error callback could turn it round. What the callback does is
    done here instead.

    Arguments:
        dispatch: what would have been sent.
        lane: whether this worker takes its steps.

    Returns:
        What is to be next: where that is a dispatch, it is to be sent.

    Raises:
        django.db.Error: the database is gone, or another session holds the saga's row; the sweep takes over.
    """
    result = go_on(Result(next=Next.CONTINUE, dispatch=dispatch), lane)
    if result.next is Next.COMPENSATE:
        lane.turn()
        step = dispatch.messages[0].step if dispatch.member else None
        result = go_on(sweeping.on_chain_error(dispatch.saga_id, dispatch.epoch, step), lane)
    return result
