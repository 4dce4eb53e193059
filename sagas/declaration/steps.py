"""The steps of a saga, each an action and its undo, and what stages are made of them.

Several steps may be done at once (`Parallel`), a step may be left out (`when`, `unless`), one may wait for a
person (`Approval`), and one may be a saga of its own (`Child`, `ForEach`).

Pure: the standard library only. Elsewhere these are named as `sagas.declaration.definition` has them.
"""

import dataclasses
import datetime
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

if TYPE_CHECKING:
    # A saga has steps, and a step may be a saga: only the types know each other both ways.
    from sagas.declaration.definition import Saga

StepFunction = Callable[..., Any]
"""`do(*, key, **inputs)`, `undo(*, key, ...)` or `ask(*, key, ...)`; each returns facts (JSON) or None."""

Kind = Literal["compensatable", "pivot", "retriable"]

SECOND = datetime.timedelta(seconds=1)
"""A `timedelta`, as all spans of a declaration are: `30 * SECOND`."""

MINUTE = datetime.timedelta(minutes=1)
"""Sixty seconds."""

HOUR = datetime.timedelta(hours=1)
"""Sixty minutes."""

DAY = datetime.timedelta(days=1)
"""Twenty-four hours."""


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
    """A step that is done only when it is said from outside: a payer, a carrier, a person."""

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
    """`undo(*, key, ...)`: idempotent, content to find nothing or to come too early. It may take the step's
    `inputs` and `outputs` by name: an output is None where it is not known that the action returned it."""

    ask: StepFunction | None = None
    """`ask(*, key, ...)`: the facts if the action happened, None if it provably did not (U2). It may take
    `inputs` and `outputs` as `undo` does."""

    inputs: Sequence[str] = ()
    """Names of the facts that `do` is called with."""

    outputs: Sequence[str] = ()
    """Names of the facts in `do`'s answer that later steps, and the step's own `undo` and `ask`, may take."""

    secrets: Sequence[str] = ()
    """Names of inputs that are struck from the row once the action is done, such as a card's token. No later
    step may take them, and no `undo` or `ask`."""

    personal: Sequence[str] = ()
    """Names of facts in `do`'s answer that are personal or open doors: they are shown to nobody (A3)."""

    reference: str = ""
    """The fact in `do`'s answer by which the provider knows what it did: operators are shown it."""

    remote: bool = False
    """False: runs inside the engine's transaction, exactly once. True: calls a system of others."""

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

    when: str = ""
    """The name of a fact: the step is done only if that is true. It is read once, when the step's turn comes,
    and never again. Left out, the step is skipped: it has no attempt, and no undo."""

    unless: str = ""
    """The same for a fact that must not be true: two steps with `when` and `unless` are a choice."""

    has_worker: ClassVar[bool] = True
    """Whether a worker carries it out; where none does, the step begins and ends with what others say."""

    def __post_init__(self) -> None:
        if not self.queue:
            module = getattr(self.action, "__module__", None) or "sagas"
            object.__setattr__(self, "queue", module.partition(".")[0])
        for field in ("inputs", "outputs", "secrets", "personal"):
            object.__setattr__(self, field, tuple(getattr(self, field)))

    @property
    def action(self) -> StepFunction:
        """The function behind `do`, as functools.partial had it: says what a step does, whatever its name."""
        return named(self.do)

    @property
    def undoable(self) -> bool:
        """Whether there is anything to undo once it was done."""
        return self.undo is not None

    @property
    def has_secrets(self) -> bool:
        """Whether anything is struck out once it is done."""
        return bool(self.secrets)

    def without_secrets(self, facts: dict[str, Any]) -> dict[str, Any]:
        """What is left of the saga's facts once it is done; the same object, where nothing is struck out."""
        kept = {name: value for name, value in facts.items() if name not in self.secrets}
        return facts if len(kept) == len(facts) else kept


@dataclasses.dataclass(frozen=True)
class Parallel:
    """Steps that are done at once: the next stage comes after all of them.

    When one definitely fails, or the saga is not wanted any more, nothing new of the stage begins; what runs
    is waited for, for as long as its lease lasts; then everything that began is undone. The words are those
    of Step Functions and Camunda, which let branches run on.
    """

    name: str
    """For people: it is shown, and kept nowhere."""

    _: dataclasses.KW_ONLY

    steps: Sequence[Step]
    """Its members. None may take what another one puts out; a pivot is not among them."""

    undo: Literal["together", "reverse"] = "together"
    """Whether the members are undone at once, or one after the other, the last begun first."""

    when: str = ""
    """As for a step: none of the members is done unless that fact is true."""

    unless: str = ""
    """The same for a fact that must not be true."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", tuple(self.steps))


APPROVED = "approved"
"""The fact that ends an approval: whether it was given."""


@dataclasses.dataclass(frozen=True, init=False)
class Approval(Step):
    """A step without a worker: a person says yes or no, in the console, by REST, or with a signed link.

    A no is a failure like any other: the saga compensates. The shape is Camunda's user task, and Temporal's
    and DBOS's recipes for a person in the loop.

    Arguments:
        name: persisted, as a step's.
        permission: who may answer: a permission of Django's, `app_label.codename`.
        limit: how long to wait for an answer.
        remind: after so long people are reminded, each time once.
        lapse: what no answer within the limit means: "refuse", "approve", or "attention", which calls an
            operator.
        persons: how many different people must say yes; a no counts at once.
        notify: `notify(*, key, ...)`, called as a saga's hooks are when people are asked, or asked anew, and
            with each reminder, in the transaction; its failure changes nothing.
        outputs: facts that whoever approves states, for later steps. Where several persons must say yes, all
            of them state the same.
        personal: those of the outputs that are personal or open doors, as a step's.
        when: as for a step.
        unless: as for a step.
    """

    permission: str = ""
    remind: Sequence[datetime.timedelta] = ()
    lapse: Literal["refuse", "approve", "attention"] = "refuse"
    persons: int = 1
    notify: Callable[..., object] | None = None

    has_worker: ClassVar[bool] = False

    def __init__(
        self,
        name: str,
        *,
        permission: str,
        limit: datetime.timedelta,
        remind: Sequence[datetime.timedelta] = (),
        lapse: Literal["refuse", "approve", "attention"] = "refuse",
        persons: int = 1,
        notify: Callable[..., object] | None = None,
        outputs: Sequence[str] = (),
        personal: Sequence[str] = (),
        when: str = "",
        unless: str = "",
    ) -> None:
        for field, value in (
            ("permission", permission), ("remind", tuple(sorted(remind))), ("lapse", lapse),
            ("persons", persons), ("notify", notify),
        ):  # fmt: skip
            object.__setattr__(self, field, value)
        super().__init__(
            name, _nobody, outputs=outputs, personal=personal, wait=Wait(until=APPROVED, limit=limit),
            queue="people", when=when, unless=unless,
        )  # fmt: skip

    @property
    def limit(self) -> datetime.timedelta:
        """How long to wait for an answer."""
        assert self.wait is not None, "an approval waits"
        return self.wait.limit


@dataclasses.dataclass(frozen=True, init=False)
class Child(Step):
    """A step that is a saga of its own: done once all of that is done, undone once all of that is undone.

    A child whose last step is done waits for its parent's outcome: it completes with its parent, and
    compensates when its parent undoes this step. So a child of a step that can be undone has no pivot. The
    shape is Temporal's child workflow and Camunda's call activity, neither of which undoes it.

    What is secret or personal to the child is so to its parent: what the child strikes out once it has used
    it is struck from the parent's row once this step is done.

    Arguments:
        name: persisted, as a step's.
        saga: the child's declaration.
        inputs: names of facts that the child is given: all of its inputs. Where the child has another name
            for one, `{"order_total": "amount"}`: the fact here, and the child's input.
        outputs: names of facts among the outputs of the child's steps, for later steps of the parent. Where
            the parent has another name for one, `{"receipt": "hotel_receipt"}`: the child's output, and the
            fact here.
        kind: as a step's.
        when: as for a step.
        unless: as for a step.
    """

    saga: "Saga | None" = None
    given: tuple[tuple[str, str], ...] = ()
    """Each fact that the child is given, with the child's name for it."""

    returned: tuple[tuple[str, str], ...] = ()
    """Each output of the child's that is a fact here, with the name that it has here."""

    has_worker: ClassVar[bool] = False

    def __init__(
        self,
        name: str,
        *,
        saga: "Saga",
        inputs: Sequence[str] | Mapping[str, str] = (),
        outputs: Sequence[str] | Mapping[str, str] = (),
        kind: Kind = "compensatable",
        when: str = "",
        unless: str = "",
    ) -> None:
        given, returned = _pairs(inputs), _pairs(outputs)
        for field, value in (("saga", saga), ("given", given), ("returned", returned)):
            object.__setattr__(self, field, value)
        super().__init__(
            name, _nobody, inputs=[fact for fact, _ in given], outputs=[fact for _, fact in returned],
            secrets=[fact for fact, taken in given if taken in saga.secrets], kind=kind, queue="children",
            when=when, unless=unless,
        )  # fmt: skip

    @property
    def child(self) -> "Saga":
        """The child's declaration."""
        assert self.saga is not None, "a child is a saga"
        return self.saga

    @property
    def undoable(self) -> bool:
        """Whether its child can still be undone when it is done."""
        return self.kind == "compensatable"

    @property
    def hides(self) -> set[str]:
        """The facts that are secret or personal to the child, by their names here."""
        hidden = self.child.hidden
        return {
            *(fact for fact, name in self.given if name in hidden),
            *(fact for name, fact in self.returned if name in hidden),
        }

    @property
    def has_secrets(self) -> bool:
        """Whether anything is struck out once it is done: a fact, or a part of one."""
        return bool(self.secrets) or self.child.has_secrets

    def without_secrets(self, facts: dict[str, Any]) -> dict[str, Any]:
        """What is left of the saga's facts once it is done: what would be in a child that has ended."""
        given = [(fact, name) for fact, name in self.given if fact in facts]
        left = self.child.without_secrets({name: facts[fact] for fact, name in given})
        kept = {
            **super().without_secrets(facts),
            **{fact: left[name] for fact, name in given if name in left},
        }
        return facts if kept == facts else kept


@dataclasses.dataclass(frozen=True, init=False)
class ForEach(Child):
    """One child for each element of a list, which is read once, when the step's turn comes.

    An empty list is success. The shape is Step Functions' Map and Camunda's multi-instance activity.

    Arguments:
        name: persisted, as a step's.
        of: the name of a fact that is a list. Where the child has one input beside those of `inputs`, each
            element is that input; else it is an object with all of them.
        saga: the declaration of the children.
        inputs: the facts that each child is given beside its element, as for a Child.
        outputs: at most one name: of the list of what became of each child. Each has `item` (its place in the
            list), `element` (without what the child hides), `saga` (its id), `done`, `state`, `facts` (the
            outputs of its steps) and `failure`: None, or its `step`, `kind` and `message`.
        limit: how many children run at once; 0 for all.
        need: how many must be done: "all", or a number; where there are fewer elements, all of them.
        rest: what becomes of the others once `need` are done: "cancel" them, or let them "finish", so that as
            many are done as can be.
        failed: what it means that not so many can be done any more: "compensate" the saga, or "keep" what is
            done once all have ended, and go on.
        most: how many elements the list may have.
        kind: as a step's, but no pivot: some of many may be done when another fails.
        when: as for a step.
        unless: as for a step.
    """

    of: str = ""
    limit: int = 0
    need: Literal["all"] | int = "all"
    rest: Literal["cancel", "finish"] = "cancel"
    failed: Literal["compensate", "keep"] = "compensate"
    most: int = 1000

    def __init__(
        self,
        name: str,
        *,
        of: str,
        saga: "Saga",
        inputs: Sequence[str] | Mapping[str, str] = (),
        outputs: Sequence[str] = (),
        limit: int = 0,
        need: Literal["all"] | int = "all",
        rest: Literal["cancel", "finish"] = "cancel",
        failed: Literal["compensate", "keep"] = "compensate",
        most: int = 1000,
        kind: Kind = "compensatable",
        when: str = "",
        unless: str = "",
    ) -> None:
        given = _pairs(inputs)
        for field, value in (
            ("saga", saga), ("given", given), ("of", of), ("limit", limit), ("need", need), ("rest", rest),
            ("failed", failed), ("most", most),
        ):  # fmt: skip
            object.__setattr__(self, field, value)
        secrets = [fact for fact, taken in given if taken in saga.secrets]
        if len(self.of_element) == 1 and self.of_element[0] in saga.secrets:
            secrets.append(of)
        Step.__init__(
            self, name, _nobody, inputs=[*(fact for fact, _ in given), of], outputs=outputs, secrets=secrets,
            kind=kind, queue="children", when=when, unless=unless,
        )  # fmt: skip

    @property
    def of_element(self) -> tuple[str, ...]:
        """The child's inputs that come of its element."""
        shared = {name for _, name in self.given}
        return tuple(name for name in self.child.inputs if name not in shared)

    @property
    def hides(self) -> set[str]:
        """The list is hidden whole, too, where each element is the child's one input, and that is hidden."""
        one = self.of_element[0] if len(self.of_element) == 1 else ""
        return super().hides | ({self.of} if one in self.child.hidden else set())

    def inputs_of(self, element: Any) -> dict[str, Any] | None:
        """What an element gives to its child; None if that is not what the child takes."""
        wanted = self.of_element
        if isinstance(element, dict) and set(element) == set(wanted):
            return dict(element)
        return {wanted[0]: element} if len(wanted) == 1 else None

    def without_secrets(self, facts: dict[str, Any]) -> dict[str, Any]:
        """Of the list's elements, too, no more is left than what is left in their children."""
        kept = super().without_secrets(facts)
        elements = kept.get(self.of)
        if not isinstance(elements, list):
            return kept
        left = [self._left_of(element) for element in elements]
        return kept if left == elements else {**kept, self.of: left}

    def _left_of(self, element: Any) -> Any:
        given = self.inputs_of(element)
        if given is None:
            return element
        left = self.child.without_secrets(given)
        return left if isinstance(element, dict) and element.keys() == given.keys() else left.get(*given)


def _pairs(names: Sequence[str] | Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Names, each with the name that it has on the other side: the same, where nothing else is said."""
    return tuple(names.items()) if isinstance(names, Mapping) else tuple((name, name) for name in names)


def _nobody(*, key: str) -> None:
    raise NotImplementedError("no worker carries this out")


def named(function: StepFunction) -> StepFunction:
    """The function behind a function that has its arguments filled in by functools.partial."""
    return function.func if isinstance(function, functools.partial) else function
