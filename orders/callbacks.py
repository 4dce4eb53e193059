"""What a provider reports, passed on to the saga that it is about."""

from payments import services as payments
from sagas import engine
from shipping import services as shipping


def pass_on(callback: payments.Callback | shipping.Callback, *, source: str) -> None:
    """Put it into the saga's inbox, in the caller's transaction; twice is once.

    Of another service's steps a provider has nothing to say, whatever it signs.
    """
    queue = "payments" if isinstance(callback, payments.Callback) else "shipping"
    engine.receive(
        source=source,
        event_id=callback.event_id,
        key=callback.key,
        facts=callback.facts,
        refused=callback.refused,
        kind=callback.kind,
        mismatch=callback.mismatch,
        queue=queue,
    )
