"""The whole state machine on one screen: members, a sentence each, and the table of transitions.

docs/lifecycle.md draws its diagrams from these tables, and a test holds the two equal.
"""

import enum


class State(enum.StrEnum):
    """A named state: its value is persisted, and its label is for people."""

    @property
    def label(self) -> str:
        """What people call it, in English: the value as words."""
        return self.value.replace("_", " ").capitalize()

    @classmethod
    def values(cls) -> list[str]:
        """Every persisted value."""
        return [member.value for member in cls]

    @classmethod
    def choices(cls) -> list[tuple[str, str]]:
        """Every member as Django's `choices` want them."""
        return [(member.value, member.label) for member in cls]


class SagaState(State):
    """Where a saga stands."""

    RUNNING = "running"
    """Steps are being done, from the first to the last. Nobody need do anything."""

    COMPENSATING = "compensating"
    """Steps are being undone, from the last begun to the first. Nobody need do anything."""

    NEEDS_ATTENTION = "needs_attention"
    """The engine cannot go on by itself; `attention` says why and what a person may do."""

    COMPLETED = "completed"
    """Final, set with the last step: every step was done."""

    COMPENSATED = "compensated"
    """Final, set with the last undo: every step that ran or may have run is undone."""


class StepState(State):
    """Where one step of a saga stands."""

    PENDING = "pending"
    """Not done yet: its turn has not come, or it will be tried again."""

    RUNNING = "running"
    """A worker is at it, and holds the lease until `lease_until`."""

    WAITING = "waiting"
    """Begun, and ended by a callback from outside, by a person's approval, or by `wait_until`."""

    DONE = "done"
    """It happened, and its facts are recorded."""

    FAILED = "failed"
    """It was refused, ran out of attempts or time, or met a bug. A local one never happened."""

    UNKNOWN = "unknown"
    """It may have happened: it will be asked about, or undone as if it had."""

    UNDOING = "undoing"
    """Its undo has begun, and is tried until it succeeds or its budget is spent."""

    UNDONE = "undone"
    """It never happened, or happens no more."""

    UNDO_FAILED = "undo_failed"
    """Its undo was refused or spent its budget. A person decides; see docs/operations.md."""

    SKIPPED = "skipped"
    """Left out: by its condition, by an operator where it is optional, or by a stage that drained before it
    began."""


class Direction(enum.IntEnum):
    """The sign in the one algorithm: forwards along the steps, or back."""

    FORWARD = 1
    BACKWARD = -1


SAGA_TRANSITIONS: dict[SagaState, set[SagaState]] = {
    SagaState.RUNNING: {SagaState.COMPLETED, SagaState.COMPENSATING, SagaState.NEEDS_ATTENTION},
    SagaState.COMPENSATING: {SagaState.COMPENSATED, SagaState.NEEDS_ATTENTION},
    SagaState.NEEDS_ATTENTION: {SagaState.RUNNING, SagaState.COMPENSATING},
    SagaState.COMPLETED: set(),
    SagaState.COMPENSATED: set(),
}
"""Where a saga can go from each state: nowhere from a final one."""

STEP_TRANSITIONS: dict[StepState, set[StepState]] = {
    StepState.PENDING: {
        StepState.RUNNING,
        StepState.WAITING,
        StepState.DONE,
        StepState.FAILED,
        StepState.UNDOING,
        StepState.SKIPPED,
    },
    StepState.RUNNING: {
        StepState.PENDING,
        StepState.WAITING,
        StepState.DONE,
        StepState.FAILED,
        StepState.UNKNOWN,
    },
    StepState.WAITING: {
        StepState.RUNNING,
        StepState.DONE,
        StepState.FAILED,
        StepState.UNKNOWN,
        StepState.UNDOING,
        StepState.UNDONE,
    },
    StepState.UNKNOWN: {
        StepState.RUNNING,
        StepState.PENDING,
        StepState.WAITING,
        StepState.DONE,
        StepState.FAILED,
        StepState.UNDOING,
    },
    StepState.FAILED: {
        StepState.PENDING,
        StepState.DONE,
        StepState.UNDOING,
        StepState.UNDONE,
        StepState.SKIPPED,
    },
    StepState.DONE: {StepState.UNDOING, StepState.UNDONE},
    StepState.UNDOING: {StepState.UNDONE, StepState.UNDO_FAILED},
    StepState.UNDO_FAILED: {StepState.UNDOING, StepState.UNDONE},
    StepState.UNDONE: set(),
    StepState.SKIPPED: {StepState.UNDOING},
}
"""Where a step can go from each state."""

FINAL = frozenset(state for state, targets in SAGA_TRANSITIONS.items() if not targets)
"""The states in which a saga has ended."""

LIVE = frozenset(SagaState) - FINAL
"""All others."""

assert set(SAGA_TRANSITIONS) == set(SagaState), "a saga state without a line in SAGA_TRANSITIONS"
assert set(STEP_TRANSITIONS) == set(StepState), "a step state without a line in STEP_TRANSITIONS"
