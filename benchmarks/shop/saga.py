"""The work as a saga."""

from benchmarks.shop import functions
from sagas import Retry, Saga, Step

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
