"""The work as a saga."""

from benchmarks.shop import verbs
from sagas import Retry, Saga, Step

ORDER = Saga(
    name="bench",
    given=["order"],
    steps=[
        Step("charge", verbs.charge, undo=verbs.refund, given=["order"]),
        Step("reserve", verbs.reserve, undo=verbs.release, given=["order"]),
        Step("issue", verbs.issue, undo=verbs.cancel, given=["order"]),
        Step("dispatch", verbs.dispatch, undo=verbs.recall, given=["order"]),
    ],
    retry=Retry(on=[], attempts=3),
    refused=[verbs.Refused],
)
