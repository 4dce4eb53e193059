"""The work as a saga."""

from benchmarks.shop import functions
from sagas import Parallel, Retry, Saga, Step

ORDER = Saga(
    name="bench",
    inputs=["order"],
    steps=[
        Step("charge", functions.charge, undo=functions.refund, inputs=["order"]),
        Step("reserve", functions.reserve, undo=functions.release, inputs=["order"]),
        Step("issue", functions.issue, undo=functions.cancel, inputs=["order"]),
        Step("dispatch", functions.dispatch, undo=functions.recall, inputs=["order"]),
    ],
    retry=Retry(on=[], attempts=3),
    refused=[functions.Refused],
)


def _slow(name: str, *, remote: bool, at_once: bool) -> Saga:
    steps = [
        Step(step, functions.wait, undo=functions.leave, remote=remote, queue="benchmarks")
        for step in ("one", "two", "three", "four")
    ]
    return Saga(
        name=name,
        steps=[Parallel("all", steps=steps)] if at_once else steps,
        retry=Retry(on=[], attempts=3),
    )


LOCAL_LIST = _slow("slow-local-list", remote=False, at_once=False)
LOCAL_AT_ONCE = _slow("slow-local-at-once", remote=False, at_once=True)
REMOTE_LIST = _slow("slow-remote-list", remote=True, at_once=False)
REMOTE_AT_ONCE = _slow("slow-remote-at-once", remote=True, at_once=True)
