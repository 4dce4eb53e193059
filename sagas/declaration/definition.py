"""What a saga is: a list of stages, most of them one step each, refused at import when senseless.

Pure: the standard library only. A declaration is data, so that the admin, the documentation, the
checks and the tests read the same list that the engine runs.
"""

import dataclasses
import datetime
import decimal
import functools
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sagas.declaration import validation
from sagas.declaration.stages import Stage, laid_out
from sagas.declaration.steps import (
    APPROVED,
    DAY,
    HOUR,
    MINUTE,
    SECOND,
    Approval,
    Child,
    ForEach,
    Parallel,
    Retry,
    Step,
    StepFunction,
    Wait,
    named,
)

# Whoever runs or shows a declaration finds all of it here.
__all__ = [
    "APPROVED",
    "DAY",
    "HOUR",
    "MINUTE",
    "SECOND",
    "Approval",
    "Child",
    "ForEach",
    "Parallel",
    "Retry",
    "Saga",
    "Step",
    "StepFunction",
    "Wait",
]

NOBODY = "sagas.declaration.definition._nobody"
"""What a fingerprint says does a step without a worker: data, and no longer the path of anything."""

LONGEST_RESUME_PAUSE = DAY
RESUME_JITTER = 0.25
"""The share of that pause that is left to chance: what was stopped together does not come back together."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Saga:
    """A business transaction over services that share none: stages in order, undone in reverse.

    Raises:
        BadDeclaration: the declaration is senseless; it lists everything that is wrong.
    """

    name: str
    """Persisted: data, never to be reused for something else."""

    steps: Sequence[Step | Parallel]
    """Its stages, in the order of doing: most are one step each."""

    retry: Retry
    """For every step that has none of its own."""

    version: int = 1
    """Raise it with every change of the steps; keep the old one declared while instances of it live."""

    inputs: Sequence[str] = ()
    """Names of the facts that `begin` must be given."""

    personal: Sequence[str] = ()
    """Names of inputs that are personal or open doors: they are shown to nobody (A3)."""

    undo_retry: Retry | None = None
    """For every undo; by default the errors of `retry` with a far larger budget."""

    refused: Sequence[type[Exception]] = ()
    """Errors that say: no, and asking again will not change it (R3)."""

    unknown: Sequence[type[Exception]] = ()
    """Errors that say: it may have happened (U1)."""

    outage: Sequence[type[Exception]] = ()
    """Errors that say: it did not happen, and with this provider no saga can go on until a person
    mends something, such as a key of ours that expired (R4). Raised by a remote function such an error opens
    the service's circuit at once and calls a person, once per outage; the attempt is not counted."""

    mismatch: Sequence[type[Exception]] = ()
    """Errors that say: something happened, and it is not what was asked. Trying again would not change that,
    and to go on as if it were would make the books wrong: a person is called. Undoing takes back what was
    really done."""

    inline: bool = True
    """Whether a worker that has recorded a step may go on with the next one at once, in the same task. False:
    each step has a message of its own. The setting SAGAS_INLINE says the same for all sagas."""

    deadline: datetime.timedelta = DAY
    """For the whole way forward; then what was done is undone, or, past the pivot, a person is called."""

    undo_deadline: datetime.timedelta = DAY
    """For the whole way back; then a person is called."""

    resume_every: datetime.timedelta = 15 * MINUTE
    """How soon a saga that needs attention is tried again by itself, where trying may help. The pause
    doubles with each time in vain, to a day at most (or to this, where this is longer), and a quarter of
    it is left to chance. It begins anew when the saga has got on, or a person has resumed it."""

    on_completed: Callable[..., object] | None = None
    """`on_completed(*, key, ...)`: called in the transaction that completes it, with the saga's key and those
    of its facts that the hook names. A fact that is not there is the hook's default for it, or None."""

    on_compensated: Callable[..., object] | None = None
    """`on_compensated(*, key, ...)`: called in the transaction that ends its undoing."""

    on_attention: Callable[..., object] | None = None
    """`on_attention(*, key, ...)`: called once, when it first needs a person (A4)."""

    on_closed: Callable[..., object] | None = None
    """`on_closed(*, key, ...)`: called in the transaction in which an operator puts it aside for good. When
    it raises, the saga is not put aside."""

    def __post_init__(self) -> None:
        for field in ("steps", "inputs", "personal", "refused", "unknown", "outage", "mismatch"):
            object.__setattr__(self, field, tuple(getattr(self, field)))
        if self.undo_retry is None:
            patient = dataclasses.replace(self.retry, attempts=max(50, self.retry.attempts), cap=5 * MINUTE)
            object.__setattr__(self, "undo_retry", patient)
        problems = list(validation.problems(self))
        if problems:
            raise validation.BadDeclaration(self.name, problems)

    def __str__(self) -> str:
        return f"{self.name} v{self.version}"

    @functools.cached_property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change when the steps do."""
        shape: list[object] = [[*shape_of(step).values(), *_beyond_a_list(step)] for step in self.all_steps]
        # Only where there is any: the fingerprint of a plain list is what it was before there were stages.
        at_once = [
            [each.undo, each.when, each.unless, *(step.name for step in each.steps)] for each in self.at_once
        ]
        shape += [at_once] if at_once else []
        text = json.dumps([self.name, self.version, list(self.inputs), shape])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def at_once(self) -> list[Parallel]:
        """The stages of which the steps are done at once."""
        return [each for each in self.steps if isinstance(each, Parallel)]

    @functools.cached_property
    def secrets(self) -> frozenset[str]:
        """Names of facts that are struck from the row once their step is done."""
        return frozenset(name for step in self.all_steps for name in step.secrets)

    @functools.cached_property
    def secret_outputs(self) -> frozenset[str]:
        """Those of the secrets that a step puts out: its row has them, too."""
        return self.secrets & {name for step in self.all_steps for name in step.outputs}

    @functools.cached_property
    def hidden_facts(self) -> frozenset[str]:
        """Names of its own facts that are shown to nobody: personal and secret ones, also to a child."""
        of_steps = (name for step in self.all_steps for name in (*step.personal, *step.secrets))
        of_children = (name for step in self.children for name in step.hides)
        return frozenset((*self.personal, *of_steps, *of_children))

    @functools.cached_property
    def hidden(self) -> frozenset[str]:
        """Names that are struck out wherever they stand: those facts, and what its children hide.

        What children are given and put out stands among their parent's facts, under their names.
        """
        return self.hidden_facts.union(*(step.child.hidden for step in self.children))

    @property
    def has_secrets(self) -> bool:
        """Whether anything is struck out of the facts that it is given, or that its steps put out."""
        return bool(self._secretive)

    @functools.cached_property
    def _secretive(self) -> tuple[Step, ...]:
        return tuple(step for step in self.all_steps if step.has_secrets)

    def without_secrets(self, facts: dict[str, Any]) -> dict[str, Any]:
        """What is left of the facts once it has ended; the same object, where nothing is struck out."""
        for step in self._secretive:
            facts = step.without_secrets(facts)
        return facts

    @functools.cached_property
    def stages(self) -> tuple[Stage, ...]:
        """The stages, each with the places of its steps in `all_steps`."""
        return laid_out(self.steps)

    @functools.cached_property
    def all_steps(self) -> tuple[Step, ...]:
        """Every step, those that are done at once among them one after the other: what has a row each."""
        return tuple(step for stage in self.stages for step in stage.steps)

    @functools.cached_property
    def _stage_at(self) -> tuple[Stage, ...]:
        return tuple(stage for stage in self.stages for _ in stage.steps)

    def stage_at(self, position: int) -> Stage:
        """The stage that the step at that place belongs to."""
        return self._stage_at[position]

    @functools.cached_property
    def positions(self) -> Mapping[str, int]:
        """The place of each step in the order of doing, from 0."""
        return {step.name: position for position, step in enumerate(self.all_steps)}

    @functools.cached_property
    def pivot(self) -> int:
        """The position of the first step that is not compensatable; the number of steps if all are."""
        kinds = [step.kind for step in self.all_steps]
        return next((n for n, kind in enumerate(kinds) if kind != "compensatable"), len(kinds))

    @functools.cached_property
    def is_plain(self) -> bool:
        """Whether every step comes after the one before, and is begun if it does."""
        return all(stage.is_plain and not stage.steps[0].optional for stage in self.stages)

    @functools.cached_property
    def children(self) -> tuple[Child, ...]:
        """The steps that are sagas of their own."""
        return tuple(step for step in self.all_steps if isinstance(step, Child))

    @functools.cached_property
    def arguments(self) -> Mapping[tuple[str, str], tuple[str, ...]]:
        """By a step's name and function: the facts that it takes by name, beside the key."""
        return {
            (step.name, which): tuple(validation.taken(step, function, self.secrets))
            for step in self.all_steps
            for which, function in (("undo", step.undo), ("ask", step.ask))
        }

    @functools.cached_property
    def first_queue(self) -> str | None:
        """The queue of the step with whose message it begins; None where it never begins with just one.

        It may begin with more, too: with a stage before that step, where the facts do not leave that out.
        """
        for stage in self.stages:
            if stage.is_plain:
                return stage.steps[0].queue
            if stage.parallel is not None or not stage.conditions[0]:
                break
        return None

    def step(self, name: str) -> Step:
        """The step with that name.

        Raises:
            KeyError: no step has that name.
        """
        return self.all_steps[self.positions[name]]

    def resume_pause(self, *, resumes: int, chance: float) -> datetime.timedelta:
        """How long a saga needs attention before it is tried again by itself.

        Arguments:
            resumes: how often that was in vain.
            chance: in [0, 1).
        """
        longest = max(self.resume_every, LONGEST_RESUME_PAUSE)
        whole_s = min(self.resume_every.total_seconds() * 2.0 ** min(resumes, 60), longest.total_seconds())
        return datetime.timedelta(seconds=whole_s * (1 - RESUME_JITTER * chance))

    def retry_of(self, step: Step, *, undo: bool) -> Retry:
        """The policy for that step's action, or for its undo."""
        if undo:
            return step.undo_retry or self.undo_retry or self.retry
        return step.retry or self.retry


def shape_of(step: Step) -> dict[str, Any]:
    """What a fingerprint says of every step, by what it is: data, in this order."""
    return {
        "name": step.name,
        "kind": step.kind,
        "remote": step.remote,
        "inputs": list(step.inputs),
        "outputs": list(step.outputs),
        # What is secret to a child its own fingerprint says.
        "secrets": [] if isinstance(step, Child) else list(step.secrets),
        "do": _path(step.do) if step.has_worker else NOBODY,
        "undo": _path(step.undo),
        "ask": _path(step.ask),
        "until": step.wait.until if step.wait else None,
    }


def beyond(step: Step) -> dict[str, Any]:
    """What it says of a step that is more than one of a list; empty for any other."""
    return {name: value for said in _beyond_a_list(step) for name, value in said.items()}


def _beyond_a_list(step: Step) -> list[dict[str, Any]]:
    """What a fingerprint says of a step that is more than one of a list; nothing for any other."""
    said: dict[str, Any] = {name: value for name in ("when", "unless") if (value := getattr(step, name))}
    if isinstance(step, Approval):
        said["approval"] = [step.permission, step.lapse, step.persons]
    if isinstance(step, Child):
        said["child"] = [step.child.name, step.child.version, step.child.fingerprint]
        for field, pairs in (("inputs", step.given), ("outputs", step.returned)):
            if renamed := [pair for pair in pairs if pair[0] != pair[1]]:
                said[field] = renamed
    if isinstance(step, ForEach):
        said["each"] = [step.of, step.need, step.failed]
        if step.rest != "cancel":
            said["rest"] = step.rest
    return [said] if said else []


def _path(function: StepFunction | None) -> object:
    """Where the function is; with the arguments that functools.partial has filled in, if it has any."""
    if function is None:
        return None
    path = _address(named(function))
    if not isinstance(function, functools.partial) or not (function.args or function.keywords):
        return path
    return [path, _filled(function.args), _filled(dict(sorted(function.keywords.items())))]


def _filled(value: object) -> object:
    """What a fingerprint says of a filled in argument: the same in every process that has the same code."""
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(name): _filled(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_filled(inner) for inner in value]
    if isinstance(value, datetime.timedelta | datetime.date | decimal.Decimal):
        return str(value)
    # Of any other object nobody knows what it is made of, and its text may hold where it lies in memory.
    return _address(value if callable(value) and hasattr(value, "__qualname__") else type(value))


def _address(found: Any) -> str:
    return f"{found.__module__}.{getattr(found, '__qualname__', type(found).__qualname__)}"
