"""The kinds of problems that are the console's own."""

from api import problems
from sagas.console.api import samples

# As the table in api.problems.
# fmt: off
MOVE_NOT_ALLOWED = problems.kind(
    "move-not-allowed", 409, "That does not apply to the saga as it stands",
    "Somebody or something else was first. Read the saga again; `saga.state` says where it stands.",
    detail="The saga is completed and has nothing to retry now.",
    saga={"id": samples.SAGA, "state": "completed"},
)
MOVED_ON = problems.kind(
    "moved-on", 409, "The saga has moved on since you looked at it",
    "It no longer stands as `seen` says, so nothing was done. Read the saga again (`GET /sagas/{id}`), decide"
    " on what stands now, and send its `seen`.",
    detail="This has moved on since it was looked at; look again, and decide on what stands now.",
    saga={"id": samples.SAGA, "state": "compensating"},
)
# fmt: on
