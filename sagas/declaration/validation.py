"""Whether a declaration makes sense: everything that is wrong with it, found at import, with hints.

Pure: the standard library only.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
import inspect
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sagas.declaration import definition

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_NAME_LENGTH = 50


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


def problems(saga: definition.Saga) -> Iterator[Problem]:
    """Everything that is wrong, in the order of the ids."""
    for check in (_names, _uniqueness, _signatures, _supplies, _undos, _kinds, _waits, _clocks, _errors):
        yield from check(saga)


def _names(saga: definition.Saga) -> Iterator[Problem]:
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


def _uniqueness(saga: definition.Saga) -> Iterator[Problem]:
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


def _signatures(saga: definition.Saga) -> Iterator[Problem]:
    for step in saga.steps:
        secrets = {name for each in saga.steps for name in each.secrets}
        for function, inputs in (
            (step.do, list(step.inputs)),
            (step.undo, taken(step, step.undo, secrets)),
            (step.ask, taken(step, step.ask, secrets)),
        ):
            if function is not None and (problem := _misfit(function, inputs)):
                yield Problem(
                    id="sagas.E003",
                    message=f"{step.name}: {problem}",
                    hint="A step's functions take keyword-only arguments: `key`; `do` all of the step's"
                    " `inputs`, and `undo` and `ask` those inputs and outputs that they name and that are no"
                    " secrets.",
                )
        if "key" in step.inputs:
            yield Problem(
                id="sagas.E003",
                message=f"{step.name} takes a fact named 'key'.",
                hint="Every function is called with the engine's `key`: give the fact another name.",
            )
    for hook in (saga.on_completed, saga.on_compensated, saga.on_attention, saga.on_closed):
        if hook is not None and (problem := _misfit(hook, [])):
            yield Problem(id="sagas.E003", message=problem, hint="A hook takes `key`, keyword-only.")


def taken(step: definition.Step, function: definition.StepFunction | None, secrets: set[str]) -> list[str]:
    """What an undo or an ask is called with beside the key: of the step's facts, those that it names.

    Arguments:
        step: whose function it is.
        function: its `undo` or its `ask`, if it has one.
        secrets: names of facts that are struck from the row before an undo may come.
    """
    if function is None or not callable(function):
        return []
    available = {*step.inputs, *step.outputs} - secrets
    return [name for name in parameters(function) if name in available]


def _supplies(saga: definition.Saga) -> Iterator[Problem]:
    known = set(saga.inputs)
    for step in saga.steps:
        for name in [name for name in (*step.inputs, *step.secrets) if name not in known]:
            yield Problem(
                id="sagas.E004",
                message=f"{step.name} takes {name!r}, which no step provides.",
                hint="Name it in the saga's `inputs`, or in the `outputs` of an earlier step; one that is not"
                " optional, and none that names it in its `secrets`.",
            )
        if not step.optional:
            known.update(step.outputs)
        known.difference_update(step.secrets)
    for name in [name for name in saga.personal if name not in saga.inputs]:
        yield Problem(
            id="sagas.E004",
            message=f"{name!r} is named as personal, and is no input.",
            hint="Name inputs of the saga; what an action answers is named in its Step's `personal`.",
        )


def _undos(saga: definition.Saga) -> Iterator[Problem]:
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


def _kinds(saga: definition.Saga) -> Iterator[Problem]:
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


def _waits(saga: definition.Saga) -> Iterator[Problem]:
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


def _clocks(saga: definition.Saga) -> Iterator[Problem]:
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


def _errors(saga: definition.Saga) -> Iterator[Problem]:
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


def parameters(function: definition.StepFunction) -> list[str]:
    """The names that the function takes beside `key`, without those that a partial has filled in."""
    filled = set(function.keywords) if isinstance(function, functools.partial) else set()
    kinds = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    found = inspect.signature(function).parameters.values()
    return [each.name for each in found if each.kind in kinds and each.name not in {"key", *filled}]


def _misfit(function: definition.StepFunction, inputs: Sequence[str]) -> str | None:
    """What is wrong with calling the function with `key` and those names; None if nothing is."""
    if not callable(function):
        return f"{function!r} is no function: it cannot be called."
    name = getattr(function, "__name__", str(function))
    if inspect.iscoroutinefunction(_plain(function)):
        return f"{name} is a coroutine, which the engine does not await."
    parameters = inspect.signature(function).parameters.values()
    anything = any(p.kind is p.VAR_KEYWORD for p in parameters)
    keyword = {p.name for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)}
    required = {p.name for p in parameters if p.default is p.empty and p.kind is not p.VAR_KEYWORD}
    called_with = {"key", *inputs}
    if not required <= called_with or not (anything or called_with <= keyword):
        takes = sorted(keyword - {"key"}) if "key" in keyword else f"no `key` but {sorted(keyword)}"
        return f"{name} takes {takes}, and would be called with {sorted(inputs)}."
    return None


def _plain(function: definition.StepFunction) -> definition.StepFunction:
    return function.func if isinstance(function, functools.partial) else function


def _repeated(items: Iterable[Any]) -> list[Any]:
    seen: list[Any] = []
    repeated: list[Any] = []
    for item in items:
        (repeated if item in seen and item not in repeated else seen).append(item)
    return repeated
