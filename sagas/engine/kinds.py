"""The engine's closed vocabularies: what happened, why it failed, which clock ran out, what comes next.

Each value is persisted or sent, and is data: never reused for something else.
"""

import enum


class EventKind(enum.StrEnum):
    """What happened. What became of a callback is told by an event of its own, `signal.<fate>`."""

    SAGA_BEGUN = "saga.begun"
    SAGA_COMPENSATING = "saga.compensating"
    SAGA_ATTENTION = "saga.attention"
    SAGA_RESUMED = "saga.resumed"
    SAGA_WAITING = "saga.waiting"
    SAGA_COMPLETED = "saga.completed"
    SAGA_COMPENSATED = "saga.compensated"

    STEP_CHOSEN = "step.chosen"
    STEP_SKIPPED = "step.skipped"
    STEP_STARTED = "step.started"
    STEP_ASKED = "step.asked"
    STEP_WAITING = "step.waiting"
    STEP_REMINDED = "step.reminded"
    STEP_DONE = "step.done"
    STEP_RETRY = "step.retry"
    STEP_LATE = "step.late"
    STEP_UNKNOWN = "step.unknown"
    STEP_FAILED = "step.failed"
    STEP_REOPENED = "step.reopened"

    APPROVAL_GIVEN = "approval.given"
    APPROVAL_REFUSED = "approval.refused"

    UNDO_STARTED = "undo.started"
    UNDO_DONE = "undo.done"
    UNDO_RETRY = "undo.retry"
    UNDO_LATE = "undo.late"
    UNDO_FAILED = "undo.failed"

    CANCEL_REQUESTED = "cancel.requested"

    SIGNAL_COMPENSATED = "signal.compensated"
    SIGNAL_COMPENSATION_RETRY = "signal.compensation_retry"
    SIGNAL_COMPENSATION_FAILED = "signal.compensation_failed"

    OPERATOR_RETRY = "operator.retry"
    OPERATOR_ASK = "operator.ask"
    OPERATOR_RESOLVE = "operator.resolve"
    OPERATOR_COMPENSATE = "operator.compensate"
    OPERATOR_HOLD = "operator.hold"
    OPERATOR_RELEASE = "operator.release"
    OPERATOR_EXTEND = "operator.extend"
    OPERATOR_SKIP = "operator.skip"
    OPERATOR_CLOSE = "operator.close"
    OPERATOR_ASKED = "operator.asked"
    OPERATOR_APPROVED = "operator.approved"
    OPERATOR_REFUSED = "operator.refused"
    OPERATOR_RETRIED = "operator.retried"
    OPERATOR_SETTLED = "operator.settled"


class OutcomeKind(enum.StrEnum):
    """What came of calling a step's function."""

    DONE = "done"
    """It returned."""

    REFUSED = "refused"
    """It raised an error of `Saga.refused`: no, and asking again will not change it (R3)."""

    OUTAGE = "outage"
    """It raised one of `Saga.outage`: no saga can go on there until a person mends something (R4)."""

    MISMATCH = "mismatch"
    """It raised one of `Saga.mismatch`: something happened, and it is not what was asked."""

    TRANSIENT = "transient"
    """It raised one of `Retry.on`: it did not happen, and may go well another time (R1)."""

    UNKNOWN = "unknown"
    """It raised one of `Saga.unknown`, or broke off: it may have happened (U1)."""

    BUG = "bug"
    """It raised what the declaration does not name."""


class FailureKind(enum.StrEnum):
    """Why a step, or its saga, failed: an outcome that was not success, or a reason that is no outcome."""

    REFUSED = "refused"
    OUTAGE = "outage"
    MISMATCH = "mismatch"
    TRANSIENT = "transient"
    UNKNOWN = "unknown"
    BUG = "bug"

    LATE = "late"
    """The database was in the way of a local step, not the step: no attempt is counted (R5)."""

    TIMEOUT = "timeout"
    """A clock ran out."""

    CANCELLED = "cancelled"
    """Its owner asked for it to be undone."""

    OPERATOR = "operator"
    """An operator said so."""

    CHILD = "child"
    """A child of it needs a person: nothing of its own failed. Only ever a saga's, and no step's."""


class Clock(enum.StrEnum):
    """Which clock ran out, where one did."""

    ATTEMPT = "attempt"
    """`Step.timeout`."""

    BUDGET = "budget"
    """`Step.budget`."""

    WAIT = "wait"
    """`Wait.limit`."""

    LEASE = "lease"
    """The worker did not come back in time."""

    DEADLINE = "deadline"
    """`Saga.deadline`."""

    UNDO_DEADLINE = "undo-deadline"
    """`Saga.undo_deadline`."""


class Next(enum.Enum):
    """What the chain that carried a step is to do next."""

    CONTINUE = "continue"
    """The next step may try: the row says so, or will say otherwise."""

    STOP = "stop"
    """End quietly: the row says when the sweep must look again."""

    COMPENSATE = "compensate"
    """The saga is compensating now: have the error callback called, which sends the chain of undos."""
