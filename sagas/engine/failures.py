"""A failure as the rows keep it: plain data, and nothing personal in it (A3)."""

import dataclasses
import datetime
import inspect
import pathlib
import traceback
from typing import Any, Self

from sagas import models
from sagas.engine import messages
from sagas.engine.kinds import Clock, FailureKind

FRAMES_AT_MOST = 12
"""So many of a bug's innermost frames are kept: the outer ones are the engine's own, and always the same."""

LONGEST_TEXT = 500
"""Characters of an error's text that are kept."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Failure:
    """Why a step, or its saga, failed."""

    step: str | None
    kind: FailureKind
    error: str | None = None
    """The name of the error's class, if there was an error."""

    message: str = ""
    attempt: int | None = None
    """Of the action, or of the undo where that failed."""

    clock: Clock | None = None
    at: str
    """When, by the database's clock, in ISO 8601."""

    late: int = 0
    """How often in a row the database was in the way."""

    frames: tuple[str, ...] = ()
    """Where a bug came from, the innermost last: file, line and function, and no value of anything."""

    def as_json(self) -> dict[str, Any]:
        """As a row keeps it."""
        kept = dataclasses.asdict(self)
        for name in ("late", "frames"):
            if not kept[name]:
                del kept[name]
        return kept | ({"frames": list(self.frames)} if self.frames else {})

    @classmethod
    def from_json(cls, kept: dict[str, Any]) -> Self:
        """As a row kept it."""
        return cls(
            step=kept["step"],
            kind=FailureKind(kept["kind"]),
            error=kept.get("error"),
            message=kept.get("message", ""),
            attempt=kept.get("attempt"),
            clock=Clock(kept["clock"]) if kept.get("clock") else None,
            at=kept["at"],
            late=kept.get("late", 0),
            frames=tuple(kept.get("frames", ())),
        )


def failure(
    step: models.StepInstance | None,
    kind: FailureKind,
    *,
    now: datetime.datetime,
    error: BaseException | None = None,
    message: str = "",
    clock: Clock | None = None,
    undo: bool = False,
) -> Failure:
    """The failure of a step, now.

    Arguments:
        step: the step; None if it is the saga's alone.
        kind: why.
        now: the database's time.
        error: what was raised, if anything was; its text is the message where none is given.
        message: a sentence, without personal facts.
        clock: which clock ran out, if one did.
        undo: whether it is the step's undo that failed.
    """
    attempts = None if step is None else step.undo_attempts if undo else step.attempts
    return Failure(
        step=step.name if step else None,
        kind=kind,
        error=type(error).__name__ if error is not None else None,
        message=message or (_text(error, step, kind) if error is not None else ""),
        attempt=attempts,
        clock=clock,
        at=now.isoformat(),
        frames=_frames(error) if kind == FailureKind.BUG and error is not None else (),
    )


def deadline_over(step: models.StepInstance, now: datetime.datetime) -> Failure:
    """The failure of a saga whose deadline ran out at that step."""
    return failure(step, FailureKind.TIMEOUT, now=now, clock=Clock.DEADLINE, message=messages.DEADLINE_OVER)


def wait_over(step: models.StepInstance, now: datetime.datetime) -> Failure:
    """The failure of a step whose wait reached its limit."""
    return failure(step, FailureKind.TIMEOUT, now=now, clock=Clock.WAIT, message=messages.WAIT_OVER)


def text_of(error: BaseException, *, without: dict[str, Any] | None = None) -> str:
    """What an error says, as PostgreSQL can store it: that it failed is recorded whatever it says.

    Arguments:
        error: the error.
        without: facts whose texts are struck out (A3).
    """
    said = without_values(str(error) or _meaning(type(error)), without or {})[:LONGEST_TEXT]
    return said.replace("\0", "").encode(errors="replace").decode() or type(error).__name__


def without_values(text: str, facts: Any) -> str:
    """The text with the texts of these facts struck out of it, all but the shortest (A3)."""
    for value in sorted(set(_leaves(facts)), key=len, reverse=True):
        text = text.replace(value, "[given]")
    return text


def traced(error: BaseException, facts: dict[str, Any]) -> str:
    """A bug's traceback for the log, without the texts of these facts (A3)."""
    return without_values("".join(traceback.format_exception(error)).rstrip(), facts)


def _text(error: BaseException, step: models.StepInstance | None, kind: FailureKind) -> str:
    """The error's text. No declaration chose that of a bug: the saga's facts are struck out of it (A3)."""
    if kind != FailureKind.BUG:
        return text_of(error)
    text = text_of(error, without=step.saga.facts if step else {})
    frames = traceback.extract_tb(error.__traceback__)
    return f"{text} (in {frames[-1].name})" if frames else text


def _frames(error: BaseException) -> tuple[str, ...]:
    """Paths begin at the package, whatever the machine."""
    frames = traceback.extract_tb(error.__traceback__)[-FRAMES_AT_MOST:]
    return tuple(f"{'/'.join(_place(frame.filename))}:{frame.lineno} {frame.name}" for frame in frames)


def _place(filename: str) -> tuple[str, ...]:
    parts = pathlib.PurePath(filename).parts
    begins = [number for number, part in enumerate(parts) if part in ("site-packages", "dist-packages")]
    return parts[begins[-1] + 1 :] if begins else parts[-2:]


def _leaves(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [leaf for item in value.values() for leaf in _leaves(item)]
    if isinstance(value, list):
        return [leaf for item in value for leaf in _leaves(item)]
    return [value] if isinstance(value, str) and len(value) > 3 else []


def _meaning(kind: type[BaseException]) -> str:
    """What an error that says nothing means: the first line of its docstring, if it has one of its own."""
    return "" if kind.__module__ == "builtins" else inspect.cleandoc(kind.__doc__ or "").partition("\n")[0]
