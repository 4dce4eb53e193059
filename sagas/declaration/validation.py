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
from collections.abc import Iterable, Iterator, Sequence, Set
from typing import TYPE_CHECKING, Any

from sagas.declaration import stages, steps

if TYPE_CHECKING:
    # A saga refuses itself with these checks: only the types know each other both ways.
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
    if misplaced := list(_misplaced(saga)):
        yield from misplaced
        return
    for check in (
        _names, _uniqueness, _signatures, _supplies, _undos, _kinds, _waits, _clocks, _errors, _stages,
        _approvals, _children, _handed_down, _struck_parts,
    ):  # fmt: skip
        yield from check(saga)


def _misplaced(saga: definition.Saga) -> Iterator[Problem]:
    """What stands where a stage belongs, and is none: nothing else can be said of such a list."""
    for element in saga.steps:
        inside = element.steps if isinstance(element, steps.Parallel) else [element]
        for each in inside:
            if not isinstance(each, steps.Step):
                within = f" within {element.name}" if isinstance(element, steps.Parallel) else ""
                yield Problem(
                    id="sagas.E014",
                    message=f"{each!r}{within} is no step.",
                    hint="`steps` is a list of Step, Approval, Child, ForEach and Parallel; a Parallel holds"
                    " any of the others.",
                )


def _names(saga: definition.Saga) -> Iterator[Problem]:
    if not saga.all_steps:
        yield Problem(id="sagas.E001", message="It has no steps.", hint="Declare at least one Step.")
    together = [stage.parallel.name for stage in saga.stages if stage.parallel is not None]
    for name in [saga.name, *(step.name for step in saga.all_steps), *together]:
        if not _NAME.fullmatch(name) or len(name) > _NAME_LENGTH:
            yield Problem(
                id="sagas.E001",
                message=f"{name!r} is no name.",
                hint=f"Names are data: lowercase words joined by dashes, at most {_NAME_LENGTH} characters.",
            )
    if saga.version < 1:
        yield Problem(id="sagas.E001", message=f"Version {saga.version}.", hint="Versions count from 1.")


def _uniqueness(saga: definition.Saga) -> Iterator[Problem]:
    together = [stage.parallel.name for stage in saga.stages if stage.parallel is not None]
    for name in _repeated([*(step.name for step in saga.all_steps), *together]):
        yield Problem(
            id="sagas.E002",
            message=f"Two steps are named {name!r}.",
            hint="The name is part of the idempotency key: give each step its own.",
        )
    given: dict[str, list[Conditions]] = {name: [frozenset()] for name in saga.inputs}
    twice = _repeated(saga.inputs)
    for step, conditions in _under_conditions(saga):
        for name in step.outputs:
            if name not in twice and not all(_exclusive(conditions, other) for other in given.get(name, ())):
                twice.append(name)
            given.setdefault(name, []).append(conditions)
    for name in twice:
        yield Problem(
            id="sagas.E002",
            message=f"The fact {name!r} is provided twice.",
            hint="Every fact has one source, or one in each branch of a choice (`when` and `unless`): rename"
            " one of them.",
        )


Conditions = frozenset[tuple[str, bool]]
"""Facts, and whether each must be true."""


def _under_conditions(saga: definition.Saga) -> Iterator[tuple[steps.Step, Conditions]]:
    """Every step, and what must hold for it to be done."""
    for stage in saga.stages:
        yield from _under_conditions_of(stage)


def _exclusive(one: Conditions, other: Conditions) -> bool:
    """Whether no saga ever does both."""
    return any((fact, not wanted) in other for fact, wanted in one)


def _surely(provided: Iterable[Conditions], taker: Conditions) -> bool:
    """Whether a fact that is provided under these conditions is there wherever the taker's hold."""
    missing = [conditions - taker for conditions in provided]
    return any(not lack for lack in missing) or any(
        len(lack) == 1 and any(other == {(fact, not wanted)} for other in missing)
        for lack in missing
        for fact, wanted in lack
    )


def _signatures(saga: definition.Saga) -> Iterator[Problem]:
    for step in (step for step in saga.all_steps if step.has_worker):
        for function, inputs in (
            (step.do, list(step.inputs)),
            (step.undo, taken(step, step.undo, saga.secrets)),
            (step.ask, taken(step, step.ask, saga.secrets)),
        ):
            if function is not None and (problem := _misfit(function, inputs)):
                yield Problem(
                    id="sagas.E003",
                    message=f"{step.name}: {problem}",
                    hint="A step's functions take keyword-only arguments: `key`; `do` all of the step's"
                    " `inputs`, and `undo` and `ask` those inputs and outputs that they name and that are no"
                    " secrets.",
                )
    for step in saga.all_steps:
        if "key" in step.inputs:
            yield Problem(
                id="sagas.E003",
                message=f"{step.name} takes a fact named 'key'.",
                hint="Every function is called with the engine's `key`: give the fact another name.",
            )
    facts = {*saga.inputs, *(name for step in saga.all_steps for name in step.outputs)} - saga.secrets
    notices = [getattr(step, "notify", None) for step in saga.all_steps]
    for hook in (saga.on_completed, saga.on_compensated, saga.on_attention, saga.on_closed, *notices):
        if hook is not None and (problem := _misfit(hook, _named(hook, facts))):
            yield Problem(
                id="sagas.E003",
                message=problem,
                hint="A hook takes `key`, and by their names any of the saga's facts that are no secrets: its"
                " inputs, and what its steps put out; all keyword-only.",
            )


def _named(function: steps.StepFunction, facts: Set[str]) -> list[str]:
    """Those of the facts that the function takes by name."""
    return [name for name in parameters(function) if name in facts] if callable(function) else []


def taken(step: steps.Step, function: steps.StepFunction | None, secrets: Set[str]) -> list[str]:
    """What an undo or an ask is called with beside the key: of the step's facts, those that it names.

    Arguments:
        step: whose function it is.
        function: its `undo` or its `ask`, if it has one.
        secrets: names of facts that are struck from the row before an undo may come.
    """
    if function is None:
        return []
    return _named(function, {*step.inputs, *step.outputs} - secrets)


def _supplies(saga: definition.Saga) -> Iterator[Problem]:
    known: dict[str, list[Conditions]] = {name: [frozenset()] for name in saga.inputs}
    for stage in saga.stages:
        takers = list(_under_conditions_of(stage))
        for step, conditions in takers:
            yield from _unsupplied(step, conditions, known)
        for step, conditions in takers:
            for name in step.outputs:
                # One that an operator may leave out provides nothing that can be relied upon.
                given = conditions | {(f"{step.name} is left out", False)} if step.optional else conditions
                known.setdefault(name, []).append(given)
        for step, _ in takers:
            for name in step.secrets:
                known.pop(name, None)
    for name in [name for name in saga.personal if name not in saga.inputs]:
        yield Problem(
            id="sagas.E004",
            message=f"{name!r} is named as personal, and is no input.",
            hint="Name inputs of the saga; what an action answers is named in its Step's `personal`.",
        )


def _unsupplied(
    step: steps.Step, conditions: Conditions, known: dict[str, list[Conditions]]
) -> Iterator[Problem]:
    spared = set(step.inputs) if step.has_worker else set()
    for function in (step.do, step.undo, step.ask):
        if function is not None and callable(function):
            spared -= {name for name in parameters(function) if name not in defaults(function)}
    for name in dict.fromkeys((*step.inputs, *step.secrets)):
        if name not in known:
            yield Problem(
                id="sagas.E004",
                message=f"{step.name} takes {name!r}, which no step provides.",
                hint="Name it in the saga's `inputs`, or in the `outputs` of a step of an earlier stage, and"
                " of none that names it in its `secrets`.",
            )
        elif not _surely(known[name], conditions) and name not in spared:
            yield Problem(
                id="sagas.E004",
                message=f"{step.name} takes {name!r}, which is not always there: the step that provides it"
                " may be left out.",
                hint="Give the step the same `when` or `unless`, or each of its functions that takes it a"
                f" default for {name!r}, with which it is called then.",
            )
    for fact, _ in sorted(conditions):
        if not _surely(known.get(fact, ()), conditions - {(fact, True), (fact, False)}):
            yield Problem(
                id="sagas.E004",
                message=f"Whether {step.name} is done depends on {fact!r}, which no step before it is sure to"
                " provide.",
                hint="`when` and `unless` name a fact of the saga's `inputs`, or of an earlier stage's"
                " `outputs`: the decision is made when the stage is entered.",
            )


def _under_conditions_of(stage: stages.Stage) -> Iterator[tuple[steps.Step, Conditions]]:
    for step, conditions in zip(stage.steps, stage.conditions, strict=True):
        yield step, frozenset((each.fact, each.wanted) for each in conditions)


def _undos(saga: definition.Saga) -> Iterator[Problem]:
    for step in saga.all_steps:
        if step.kind == "compensatable" and step.undo is None and step.has_worker:
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
    # Where an approval stands is said by its own check.
    kinds = [step.kind for step in saga.all_steps if step.has_worker or step.undoable]
    unknown = [
        step.name for step in saga.all_steps if step.kind not in ("compensatable", "pivot", "retriable")
    ]
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


def _stages(saga: definition.Saga) -> Iterator[Problem]:
    for step, conditions in _under_conditions(saga):
        if any((fact, not wanted) in conditions for fact, wanted in conditions):
            yield Problem(
                id="sagas.E014",
                message=f"{step.name} would never be done: it wants a fact to be true, and not to be.",
                hint="Remove its `when` or its `unless`.",
            )
    for stage in saga.stages:
        if (declared := stage.parallel) is None:
            continue
        if len(declared.steps) < 2:
            yield Problem(
                id="sagas.E014",
                message=f"{declared.name} holds fewer than two steps.",
                hint="A step that is alone stands in the list itself.",
            )
        if declared.undo not in ("together", "reverse"):
            yield Problem(
                id="sagas.E014",
                message=f"{declared.name} is undone in no known way: {declared.undo!r}.",
                hint='Its members are undone "together", or in "reverse".',
            )
        if len({step.kind for step in declared.steps} - {"pivot"}) > 1:
            yield Problem(
                id="sagas.E014",
                message=f"{declared.name} holds steps of two kinds.",
                hint="Where one of its members fails, the others are undone, or none is: make it two stages.",
            )
        for step in declared.steps:
            if step.kind == "pivot":
                yield Problem(
                    id="sagas.E014",
                    message=f"{step.name} is a pivot beside other steps.",
                    hint="A pivot stands alone: while its outcome is open, nothing else may be. Make it a"
                    " stage of its own.",
                )


def _approvals(saga: definition.Saga) -> Iterator[Problem]:
    for position, step in enumerate(saga.all_steps):
        if not isinstance(step, steps.Approval):
            continue
        for is_wrong, message, hint in (
            (
                not re.fullmatch(r"[a-z0-9_]+\.[a-z0-9_]+", step.permission),
                f"{step.permission!r} is no permission.",
                'Name one as Django does: "orders.review_order".',
            ),
            (
                step.lapse not in ("refuse", "approve", "attention"),
                f"{step.lapse!r} says nothing about what no answer means.",
                'It lapses to "refuse", "approve" or "attention".',
            ),
            (step.persons < 1, "Nobody is to approve it.", "Say persons=1, or more."),
            (
                any(not datetime.timedelta(0) < after < step.limit for after in step.remind),
                "People are reminded when it is over.",
                "Each of `remind` lies between the beginning and the limit.",
            ),
            (
                bool(step.outputs) and step.lapse == "approve",
                "When nobody answers, nobody states its outputs.",
                'Let it lapse to "refuse" or "attention", or leave the outputs out.',
            ),
            (
                not set(step.personal) <= set(step.outputs),
                f"{sorted(set(step.personal) - set(step.outputs))} is personal, and nobody states it.",
                "`personal` names some of its `outputs`.",
            ),
            (
                position > saga.pivot,
                "It comes after the point of no return, where a no could change nothing.",
                "Ask before the pivot.",
            ),
        ):
            if is_wrong:
                yield Problem(id="sagas.E015", message=f"{step.name}: {message}", hint=hint)


def _children(saga: definition.Saga) -> Iterator[Problem]:
    for step in saga.children:
        child, each = step.child, step if isinstance(step, steps.ForEach) else None
        put_out = {name for inner in child.all_steps for name in inner.outputs}
        given = {name for _, name in step.given}
        for is_wrong, message, hint in (
            (
                len(given) < len(step.given),
                "It gives its child one input twice.",
                "Each of the child's inputs comes of one fact.",
            ),
            (
                each is None and given != set(child.inputs),
                f"It gives its child {sorted(given)}, which takes {sorted(child.inputs)}.",
                "`inputs` names all of the child's inputs, and nothing else. Where a fact has another name"
                ' here: {"order_total": "amount"}, the fact and the input.',
            ),
            (
                each is not None and not given < set(child.inputs),
                f"Beside its element it gives a child {sorted(given)}, which takes {sorted(child.inputs)}.",
                "`inputs` names some of the child's inputs; the others come of the element.",
            ),
            (
                step.kind == "compensatable" and child.pivot < len(child.all_steps),
                f"Its child {child} has a step that cannot be undone.",
                "A child that its parent may have to undo consists of compensatable steps; or make it the"
                ' pivot (kind="pivot"), or one after it (kind="retriable").',
            ),
            (
                each is not None and step.kind == "pivot",
                "It is the pivot, of which there is one.",
                "Some of many may be done when another fails; place it before the pivot, or behind it"
                ' (kind="retriable").',
            ),
            (
                each is None and not {name for name, _ in step.returned} <= put_out,
                f"It puts out {sorted(name for name, _ in step.returned)}, and its child {sorted(put_out)}.",
                "`outputs` names outputs of the child's steps. Where the fact is to have another name here:"
                ' {"receipt": "hotel_receipt"}, the output and the fact.',
            ),
            (
                each is not None and len(step.outputs) > 1,
                "It puts out more than one fact.",
                "`outputs` is one name at most: of the list of what became of each child.",
            ),
            (
                each is not None and (each.limit < 0 or each.most < 1),
                "Its limits make no sense.",
                "`limit` is how many children run at once, 0 for all; `most` how many there may be.",
            ),
            (
                each is not None
                and each.need != "all"
                and not (isinstance(each.need, int) and each.need > 0),
                f"It needs {each.need if each else 0!r} of them.",
                'It needs "all", or a number from 1.',
            ),
            (
                each is not None and each.rest not in ("cancel", "finish"),
                f"Once enough are done it does {each.rest if each else ''!r} with the others.",
                'It does "cancel" them, or lets them "finish".',
            ),
            (
                each is not None and each.rest == "finish" and (each.need == "all" or each.failed == "keep"),
                "The others are to finish, and nothing depends on how many are done.",
                '`rest="finish"` wants `need` to be a number, and failed="compensate". Where it goes on'
                ' however many are done, failed="keep" alone says so: then all of them come to their end.',
            ),
            (
                each is not None and each.failed not in ("compensate", "keep"),
                f"When too many fail it does {each.failed if each else ''!r}.",
                'It does "compensate" or "keep".',
            ),
        ):
            if is_wrong:
                yield Problem(id="sagas.E016", message=f"{step.name}: {message}", hint=hint)


def _handed_down(saga: definition.Saga) -> Iterator[Problem]:
    """What is secret or personal is handed down to no child to which it is not, and comes up from none."""
    hidden_parts = _hidden_parts(saga)
    for step in saga.children:
        child = step.child
        for name, fact in step.returned:
            if fact in saga.hidden_facts and name not in child.hidden:
                yield Problem(
                    id="sagas.E017",
                    message=f"{step.name}: {fact!r} is secret or personal here, and {name!r}, as which its"
                    f" child {child} puts it out, is not.",
                    hint="Name it in the `personal` of the child's step that puts it out: it would be shown"
                    " there.",
                )
        for fact, name in _handed(step):
            kind = ""
            if fact in saga.secrets and name not in child.secrets:
                kind = "is secret"
            elif _keeps_secret_parts(saga, fact, step, name):
                kind = "holds what is secret"
            elif name not in child.hidden and fact in saga.hidden_facts:
                kind = "is personal"
            elif name not in child.hidden and not hidden_parts.get(fact, set()) <= child.hidden:
                kind = "holds what is personal"
            if kind:
                called = "" if name == fact else f", there {name!r},"
                yield Problem(
                    id="sagas.E017",
                    message=f"{step.name}: {fact!r}{called} {kind} here, and not to its child {child}.",
                    hint="What is handed down stays what it is: name it in the child's `personal`, or in the"
                    " `secrets` of the child's step that takes it. Of a list of which only parts are personal"
                    " it is enough that the child names those: they are so here as well.",
                )


def _handed(step: steps.Child) -> Iterator[tuple[str, str]]:
    """Each fact that a child is given, or given a part of, with the child's name for it."""
    yield from step.given
    if isinstance(step, steps.ForEach):
        yield from ((step.of, name) for name in step.of_element)


def _hidden_parts(saga: definition.Saga) -> dict[str, set[str]]:
    """By the names of lists: what of their elements, or of what is told of those, children hide."""
    found: dict[str, set[str]] = {}
    for step in saga.children:
        if isinstance(step, steps.ForEach):
            put_out = {name for inner in step.child.all_steps for name in inner.outputs}
            for fact, names in [(step.of, {*step.of_element}), *((name, put_out) for name in step.outputs)]:
                found.setdefault(fact, set()).update(names & step.child.hidden)
    return found


def _keeps_secret_parts(saga: definition.Saga, fact: str, taker: steps.Child, name: str) -> bool:
    """Whether a list's elements hold what another step's children strike out, and the taker's child keeps."""
    for step in saga.children:
        if isinstance(step, steps.ForEach) and step.of == fact and (fact, name) in taker.given:
            element = dict.fromkeys(step.of_element, "")
            (left,) = taker.child.without_secrets({name: [element]}).get(name, [{}])
            if not step.child.secrets.isdisjoint(left):
                return True
    return False


def _struck_parts(saga: definition.Saga) -> Iterator[Problem]:
    """Nobody is given those parts of a list's elements that were struck out before."""
    struck: dict[str, dict[str, str]] = {}
    for stage in saga.stages:
        each = [step for step in stage.steps if isinstance(step, steps.ForEach)]
        for step in each:
            for name in set(step.of_element) & struck.get(step.of, {}).keys():
                yield Problem(
                    id="sagas.E004",
                    message=f"{step.name} takes {name!r} of each of {step.of!r}, where it is struck out once"
                    f" {struck[step.of][name]} is done.",
                    hint="It is secret to the children of that step: put those that need it first, or all"
                    " of them in one stage.",
                )
        for step in each:
            secret = set(step.of_element) & step.child.secrets
            struck.setdefault(step.of, {}).update(dict.fromkeys(secret, step.name))


def _waits(saga: definition.Saga) -> Iterator[Problem]:
    for step in saga.all_steps:
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
    own = [policy for step in saga.all_steps for policy in (step.retry, step.undo_retry)]
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
    for step in saga.all_steps:
        if step.timeout <= datetime.timedelta(0):
            yield Problem(id="sagas.E008", message=f"{step.name} has no time.", hint="Raise its timeout.")
        if step.budget is not None and step.budget <= datetime.timedelta(0):
            yield Problem(id="sagas.E008", message=f"{step.name} has no budget.", hint="Raise it.")
    if saga.deadline <= datetime.timedelta(0) or saga.undo_deadline <= datetime.timedelta(0):
        yield Problem(id="sagas.E008", message="A deadline is not positive.", hint="Raise it.")
    if saga.resume_every <= datetime.timedelta(0):
        yield Problem(id="sagas.E008", message="It is resumed without a pause.", hint="Raise `resume_every`.")


def _errors(saga: definition.Saga) -> Iterator[Problem]:
    own = [policy for step in saga.all_steps for policy in (step.retry, step.undo_retry)]
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


def parameters(function: steps.StepFunction) -> list[str]:
    """The names that the function takes beside `key`, without those that a partial has filled in."""
    filled = set(function.keywords) if isinstance(function, functools.partial) else set()
    kinds = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    found = inspect.signature(function).parameters.values()
    return [each.name for each in found if each.kind in kinds and each.name not in {"key", *filled}]


def defaults(function: steps.StepFunction) -> set[str]:
    """The names of those arguments that the function has a default for."""
    found = inspect.signature(function).parameters.values()
    return {each.name for each in found if each.default is not each.empty}


def _misfit(function: steps.StepFunction, inputs: Sequence[str]) -> str | None:
    """What is wrong with calling the function with `key` and those names; None if nothing is."""
    if not callable(function):
        return f"{function!r} is no function: it cannot be called."
    name = getattr(function, "__name__", str(function))
    if inspect.iscoroutinefunction(steps.named(function)):
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


def _repeated(items: Iterable[Any]) -> list[Any]:
    seen: list[Any] = []
    repeated: list[Any] = []
    for item in items:
        (repeated if item in seen and item not in repeated else seen).append(item)
    return repeated
