"""What a saga is: a list of steps, each an action and its undo, refused at import when senseless.

Pure: the standard library only. A declaration is data, so that the admin, the documentation, the
checks and the tests read the same list that the engine runs.
"""

import dataclasses
import datetime
import functools
import hashlib
import inspect
import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

Facts = Mapping[str, Any]
StepFunction = Callable[..., Any]
"""`do(*, key, **inputs)`, `undo(*, key)` or `ask(*, key)`; each returns facts (JSON) or None."""

Kind = Literal["compensatable", "pivot", "retriable"]

SECOND = datetime.timedelta(seconds=1)
MINUTE = datetime.timedelta(minutes=1)
DAY = datetime.timedelta(days=1)

LONGEST_RESUME_PAUSE = DAY
RESUME_JITTER = 0.25
"""The share of that pause that is left to chance: what was stopped together does not come back together."""

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_NAME_LENGTH = 50


@dataclasses.dataclass(frozen=True, kw_only=True)
class Retry:
    """Which errors are worth another attempt, how often, and how far apart (R1, R2).

    What `on` does not name was not meant to be retried (after hynek/stamina).
    """

    on: Sequence[type[Exception]]
    """Errors that say: it did not happen, and it may go well another time."""

    attempts: int = 5
    """How many attempts in all, the first one included."""

    first: datetime.timedelta = SECOND
    """The pause after the first attempt."""

    factor: float = 2.0
    """What each further pause is longer by."""

    cap: datetime.timedelta = MINUTE
    """No pause is longer than this."""

    jitter: float = 0.5
    """The share of a pause that is left to chance, so that a crowd does not come back at once."""

    def pause(self, *, attempt: int, chance: float) -> datetime.timedelta:
        """How long to wait after the attempt with that number (from 1), for a chance in [0, 1)."""
        # In seconds: a timedelta of so many doublings would be too long for its type.
        longest_s = self.first.total_seconds() * self.factor ** min(attempt - 1, 60)
        whole_s = min(longest_s, self.cap.total_seconds())
        return datetime.timedelta(seconds=whole_s * (1 - self.jitter * chance))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wait:
    """A step that is done only when somebody outside says so: a payer, a carrier, a person."""

    until: str
    """The fact that ends the wait: the step waits while its facts do not have it, or have it false."""

    limit: datetime.timedelta
    """How long to wait; then the step is asked about once more, and has failed if that is no help."""

    poll: datetime.timedelta | None = None
    """How often to ask meanwhile, in case the callback was lost. Needs the step's `ask`."""


@dataclasses.dataclass(frozen=True)
class Step:
    """An action, and the action that undoes it."""

    name: str
    """Persisted, and part of the idempotency key: data, never to be reused for something else."""

    do: StepFunction
    """`do(*, key, **inputs)`: idempotent by key, returns facts or None."""

    _: dataclasses.KW_ONLY

    undo: StepFunction | None = None
    """`undo(*, key)`: idempotent, content to find nothing or to come too early."""

    ask: StepFunction | None = None
    """`ask(*, key)`: the facts if the action happened, None if it provably did not (U2)."""

    inputs: Sequence[str] = ()
    """Names of the facts that `do` is called with."""

    outputs: Sequence[str] = ()
    """Names of the facts in `do`'s answer that later steps may ask for."""

    secrets: Sequence[str] = ()
    """Names of given facts that are struck from the row once the action is done: secrets, such as a card's
    token. No later step may ask for them."""

    remote: bool = False
    """False: runs inside the engine's transaction, exactly once. True: leaves the house."""

    wait: Wait | None = None
    """Set when the action only begins something that ends later."""

    kind: Kind = "compensatable"
    """Compensatable steps first, then at most one pivot, then retriable ones (P1)."""

    timeout: datetime.timedelta = 10 * SECOND
    """The longest one attempt may take before it is interrupted. While several versions of a saga are
    declared, the longest of theirs holds for all."""

    budget: datetime.timedelta | None = None
    """The longest all attempts together may take, from the first one on."""

    retry: Retry | None = None
    """Instead of the saga's."""

    undo_retry: Retry | None = None
    """Instead of the saga's."""

    queue: str = ""
    """Where its tasks are routed; by default the first word of the function's module: its service."""

    optional: bool = False
    """Whether an operator may skip it."""

    def __post_init__(self) -> None:
        if not self.queue:
            module = getattr(self.action, "__module__", None) or "sagas"
            object.__setattr__(self, "queue", module.partition(".")[0])

    @property
    def action(self) -> StepFunction:
        """The function behind `do`, as functools.partial had it: says what a step does, whatever its name."""
        return _named(self.do)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Saga:
    """A business transaction over services that share none: steps in order, undone in reverse.

    Raises:
        BadDeclaration: the declaration is senseless; it lists everything that is wrong.
    """

    name: str
    """Persisted: data, never to be reused for something else."""

    steps: Sequence[Step]
    """In the order of doing."""

    retry: Retry
    """For every step that has none of its own."""

    version: int = 1
    """Raise it with every change of the steps; keep the old one declared while instances of it live."""

    inputs: Sequence[str] = ()
    """Names of the facts that `begin` must be given."""

    undo_retry: Retry | None = None
    """For every undo; by default the errors of `retry` with a far larger budget."""

    refused: Sequence[type[Exception]] = ()
    """Errors that say: no, and asking again will not change it (R3)."""

    unknown: Sequence[type[Exception]] = ()
    """Errors that say: it may have happened (U1)."""

    outage: Sequence[type[Exception]] = ()
    """Errors that say: it did not happen, and with this provider nobody's saga can go on until a person
    mends something, such as a key of ours that expired (R4). Raised by a remote function such an error opens
    the service's circuit at once and calls a person, once per outage; the attempt is not counted."""

    mismatch: Sequence[type[Exception]] = ()
    """Errors that say: something happened, and it is not what was asked. Trying again would not change that,
    and to go on as if it were would make the books wrong: a person is called. Undoing takes back what was
    really done."""

    deadline: datetime.timedelta = DAY
    """For the whole way forward; then what was done is undone, or, past the pivot, a person is called."""

    undo_deadline: datetime.timedelta = DAY
    """For the whole way back; then a person is called."""

    resume_every: datetime.timedelta = 15 * MINUTE
    """How soon a saga that needs attention is tried again by itself, where trying may help. The pause
    doubles with each time in vain, to a day at most (or to this, where this is longer), and a quarter of
    it is left to chance. It begins anew when the saga has got on, or a person has resumed it."""

    on_completed: Callable[..., object] | None = None
    """`on_completed(*, key)`: called with the saga's key in the transaction that completes it."""

    on_compensated: Callable[..., object] | None = None
    """`on_compensated(*, key)`: called with the saga's key in the transaction that ends its undoing."""

    on_attention: Callable[..., object] | None = None
    """`on_attention(*, key)`: called with the saga's key, once, when it first needs a person (A4)."""

    on_closed: Callable[..., object] | None = None
    """`on_closed(*, key)`: called with the saga's key in the transaction in which an operator puts it aside for
    good. When it raises, the saga is not put aside."""

    def __post_init__(self) -> None:
        for field in ("steps", "inputs", "refused", "unknown", "outage", "mismatch"):
            object.__setattr__(self, field, tuple(getattr(self, field)))
        if self.undo_retry is None:
            patient = dataclasses.replace(self.retry, attempts=max(50, self.retry.attempts), cap=5 * MINUTE)
            object.__setattr__(self, "undo_retry", patient)
        problems = list(_problems(self))
        if problems:
            raise BadDeclaration(self.name, problems)

    def __str__(self) -> str:
        return f"{self.name} v{self.version}"

    @functools.cached_property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change when the steps do."""
        shape = [
            [
                step.name, step.kind, step.remote, list(step.inputs), list(step.outputs), list(step.secrets),
                _path(step.do), _path(step.undo), _path(step.ask),
                step.wait.until if step.wait else None,
            ]
            for step in self.steps
        ]  # fmt: skip
        text = json.dumps([self.name, self.version, list(self.inputs), shape])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @functools.cached_property
    def positions(self) -> Mapping[str, int]:
        """The place of each step in the order of doing, from 0."""
        return {step.name: position for position, step in enumerate(self.steps)}

    @functools.cached_property
    def pivot(self) -> int:
        """The position of the first step that is not compensatable; the number of steps if all are."""
        kinds = [step.kind for step in self.steps]
        return next((n for n, kind in enumerate(kinds) if kind != "compensatable"), len(kinds))

    @functools.cached_property
    def has_optional_steps(self) -> bool:
        """Whether an operator may leave a step out."""
        return any(step.optional for step in self.steps)

    def step(self, name: str) -> Step:
        """The step with that name.

        Raises:
            KeyError: no step has that name.
        """
        return self.steps[self.positions[name]]

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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing that is wrong with a declaration."""

    id: str
    """As `manage.py check` shows it: `sagas.E001`."""
    message: str
    hint: str


class BadDeclaration(ValueError):
    """A saga's declaration is senseless; every problem is listed with a hint."""

    def __init__(self, name: str, problems: Sequence[Problem]) -> None:
        self.name = name
        self.problems = list(problems)
        lines = [f"  {problem.id}: {problem.message} {problem.hint}" for problem in problems]
        super().__init__("\n".join([f"the declaration of saga {name!r} is refused:", *lines]))


def _problems(saga: Saga) -> Iterator[Problem]:
    """Everything that is wrong, in the order of the ids."""
    for check in (_names, _uniqueness, _signatures, _supplies, _undos, _kinds, _waits, _clocks, _errors):
        yield from check(saga)


def _names(saga: Saga) -> Iterator[Problem]:
    if not saga.steps:
        yield Problem(id="sagas.E001", message="It has no steps.", hint="Declare at least one Step.")
    for name in [saga.name, *(step.name for step in saga.steps)]:
        if not _NAME.fullmatch(name) or len(name) > _NAME_LENGTH:
            yield Problem(
                id="sagas.E001",
                message=f"{name!r} is no name.",
                hint=f"Names are data: lowercase words joined by dashes, at most {_NAME_LENGTH} characters.",
            )
    if saga.version < 1:
        yield Problem(id="sagas.E001", message=f"Version {saga.version}.", hint="Versions count from 1.")


def _uniqueness(saga: Saga) -> Iterator[Problem]:
    for name in _repeated(step.name for step in saga.steps):
        yield Problem(
            id="sagas.E002",
            message=f"Two steps are named {name!r}.",
            hint="The name is part of the idempotency key: give each step its own.",
        )
    for name in _repeated([*saga.inputs, *(name for step in saga.steps for name in step.outputs)]):
        yield Problem(
            id="sagas.E002",
            message=f"The fact {name!r} is provided twice.",
            hint="Every fact has one source: rename one of them.",
        )


def _signatures(saga: Saga) -> Iterator[Problem]:
    for step in saga.steps:
        for function, given in ((step.do, list(step.inputs)), (step.undo, []), (step.ask, [])):
            if function is not None and (problem := _misfit(function, given)):
                yield Problem(
                    id="sagas.E003",
                    message=f"{step.name}: {problem}",
                    hint="A function takes keyword-only arguments: `key`, and what the step is `inputs`.",
                )
        if "key" in step.inputs:
            yield Problem(
                id="sagas.E003",
                message=f"{step.name} is given a fact named 'key'.",
                hint="Every function is called with the engine's `key`: give the fact another name.",
            )
    for hook in (saga.on_completed, saga.on_compensated, saga.on_attention, saga.on_closed):
        if hook is not None and (problem := _misfit(hook, [])):
            yield Problem(id="sagas.E003", message=problem, hint="A hook takes `key`, keyword-only.")


def _supplies(saga: Saga) -> Iterator[Problem]:
    known = set(saga.inputs)
    for step in saga.steps:
        for name in [name for name in (*step.inputs, *step.secrets) if name not in known]:
            yield Problem(
                id="sagas.E004",
                message=f"{step.name} is given {name!r}, which nobody provides.",
                hint="Name it in the saga's `inputs`, or in the `outputs` of an earlier step; one that is not"
                " optional, and none that forgets it.",
            )
        if not step.optional:
            known.update(step.outputs)
        known.difference_update(step.secrets)


def _undos(saga: Saga) -> Iterator[Problem]:
    for step in saga.steps:
        if step.kind == "compensatable" and step.undo is None:
            yield Problem(
                id="sagas.E005",
                message=f"{step.name} has no undo.",
                hint='Give it one, or say kind="pivot" or kind="retriable".',
            )
        if step.kind != "compensatable" and step.undo is not None:
            yield Problem(
                id="sagas.E005",
                message=f"{step.name} is {step.kind} and has an undo, which would never be called.",
                hint="Remove the undo, or make the step compensatable.",
            )


def _kinds(saga: Saga) -> Iterator[Problem]:
    kinds = [step.kind for step in saga.steps]
    unknown = [step.name for step in saga.steps if step.kind not in ("compensatable", "pivot", "retriable")]
    for name in unknown:
        yield Problem(
            id="sagas.E006",
            message=f"{name} is of an unknown kind.",
            hint='A step is "compensatable", "pivot" or "retriable".',
        )
    if unknown:
        return
    if kinds.count("pivot") > 1:
        yield Problem(id="sagas.E006", message="It has two pivots.", hint="There is one point of no return.")
    order = sorted(kinds, key=["compensatable", "pivot", "retriable"].index)
    if kinds != order:
        yield Problem(
            id="sagas.E006",
            message="A step that can be undone comes after one that cannot.",
            hint="Compensatable steps first, then the pivot, then retriable steps.",
        )


def _waits(saga: Saga) -> Iterator[Problem]:
    for step in saga.steps:
        if step.wait and step.wait.poll is not None and step.ask is None:
            yield Problem(
                id="sagas.E007",
                message=f"{step.name} polls but has nothing to ask.",
                hint="Give it `ask`, a function that queries by key, or leave `poll` out.",
            )
        if step.wait and step.wait.limit <= datetime.timedelta(0):
            yield Problem(id="sagas.E007", message=f"{step.name} waits for no time.", hint="Raise its limit.")
        if step.wait and step.wait.poll is not None and step.wait.poll <= datetime.timedelta(0):
            yield Problem(
                id="sagas.E007", message=f"{step.name} polls without a pause.", hint="Raise `poll`."
            )
        if step.ask is not None and not step.remote:
            yield Problem(
                id="sagas.E007",
                message=f"{step.name} is local and has an `ask`, which would never be called.",
                hint="A local action's outcome is never unknown: leave `ask` out, or say remote=True.",
            )


def _clocks(saga: Saga) -> Iterator[Problem]:
    own = [policy for step in saga.steps for policy in (step.retry, step.undo_retry)]
    for retry in [saga.retry, saga.undo_retry, *own]:
        if retry is not None and (
            retry.attempts < 1
            or retry.factor < 1
            or not 0 <= retry.jitter <= 1
            or min(retry.first, retry.cap) < datetime.timedelta(0)
        ):
            yield Problem(
                id="sagas.E008",
                message=f"{retry} makes no sense.",
                hint="At least one attempt, a factor of at least 1, a jitter between 0 and 1.",
            )
    for step in saga.steps:
        if step.timeout <= datetime.timedelta(0):
            yield Problem(id="sagas.E008", message=f"{step.name} has no time.", hint="Raise its timeout.")
        if step.budget is not None and step.budget <= datetime.timedelta(0):
            yield Problem(id="sagas.E008", message=f"{step.name} has no budget.", hint="Raise it.")
    if saga.deadline <= datetime.timedelta(0) or saga.undo_deadline <= datetime.timedelta(0):
        yield Problem(id="sagas.E008", message="A deadline is not positive.", hint="Raise it.")
    if saga.resume_every <= datetime.timedelta(0):
        yield Problem(id="sagas.E008", message="It is resumed without a pause.", hint="Raise `resume_every`.")


def _errors(saga: Saga) -> Iterator[Problem]:
    own = [policy for step in saga.steps for policy in (step.retry, step.undo_retry)]
    worth_it = {error for policy in [saga.retry, saga.undo_retry, *own] if policy for error in policy.on}
    retried = sorted(worth_it, key=str)
    named = [*saga.refused, *saga.outage, *saga.mismatch, *saga.unknown, *retried]
    for error in named:
        if not (isinstance(error, type) and issubclass(error, Exception)):
            yield Problem(
                id="sagas.E009",
                message=f"{error!r} is no error.",
                hint="Name classes of exceptions; nothing else can be raised.",
            )
            return
    for error in _repeated(named):
        yield Problem(
            id="sagas.E009",
            message=f"{error.__qualname__} is named for two outcomes.",
            hint="An error is a refusal, an outage, a mismatch, unknown, or worth a retry: decide.",
        )
    for first, names in (
        (saga.refused, [*saga.outage, *saga.mismatch, *saga.unknown, *retried]),
        (saga.outage, [*saga.mismatch, *saga.unknown, *retried]),
        (saga.mismatch, [*saga.unknown, *retried]),
        (saga.unknown, retried),
    ):
        for base, error in itertools.product(first, names):
            if error is not base and issubclass(error, base):
                yield Problem(
                    id="sagas.E009",
                    message=f"{error.__qualname__} would never mean what it is named for: it is a"
                    f" {base.__qualname__}.",
                    hint="Refusals are recognised first, then outages, mismatches, and what is unknown: name"
                    f" the other kinds of {base.__qualname__} one by one.",
                )


def _misfit(function: StepFunction, given: Sequence[str]) -> str | None:
    """What is wrong with calling the function with `key` and those names; None if nothing is."""
    if not callable(function):
        return f"{function!r} is no function: it cannot be called."
    name = getattr(function, "__name__", str(function))
    if inspect.iscoroutinefunction(_named(function)):
        return f"{name} is a coroutine, which nobody would await."
    parameters = inspect.signature(function).parameters.values()
    anything = any(p.kind is p.VAR_KEYWORD for p in parameters)
    keyword = {p.name for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)}
    required = {p.name for p in parameters if p.default is p.empty and p.kind is not p.VAR_KEYWORD}
    called_with = {"key", *given}
    if not required <= called_with or not (anything or called_with <= keyword):
        takes = sorted(keyword - {"key"}) if "key" in keyword else f"no `key` but {sorted(keyword)}"
        return f"{name} takes {takes}, given {sorted(given)}."
    return None


def _repeated(items: Iterable[Any]) -> list[Any]:
    seen: list[Any] = []
    repeated: list[Any] = []
    for item in items:
        (repeated if item in seen and item not in repeated else seen).append(item)
    return repeated


def _path(function: StepFunction | None) -> str | None:
    if function is None:
        return None
    named = _named(function)
    return f"{named.__module__}.{getattr(named, '__qualname__', named)}"


def _named(function: StepFunction) -> StepFunction:
    """The function behind a function that has its arguments filled in by functools.partial."""
    return function.func if isinstance(function, functools.partial) else function
