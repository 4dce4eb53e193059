"""Trials of your own saga: on the engine and PostgreSQL, with all that may go wrong, one test each.

    from sagas.testing import trials

    BOOKED = Booking.objects.filter(cancelled=False)
    HOW = {"inputs": {"hotel": "Aurora", "flight": "LA3054"}, "world": [BOOKED]}

    @trials.of(TRIP, **HOW)
    def test_trip(trial):
        trial.run()

    @trials.verbs(TRIP, **HOW)
    def test_what_its_functions_promise(trial):
        trial.run()

The plugin `sagas` (`sagas.testing.plugin`) gives the fixture `trial`. Without pytest, `each` and `each_verb`
give the same trials as a list. docs/testing-your-saga.md says what is tried, and what the arguments mean.
"""

import dataclasses
import unittest
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from sagas.declaration import definition
from sagas.models import SagaInstance
from sagas.testing.trials import faults, plans, promises, reports, runs, worlds
from sagas.testing.trials.failed import Failed
from sagas.testing.trials.plans import KINDS
from sagas.testing.trials.promises import PROMISES
from sagas.testing.trials.rows import Rows, stage

__all__ = ["KINDS", "PROMISES", "Failed", "Trial", "each", "each_verb", "of", "verbs"]

CHANCE = 20
"""How many runs a trial by chance has."""

Test = TypeVar("Test", bound=Callable[..., Any])


class Trial(Protocol):
    """One trial: what the fixture `trial` is."""

    def run(self) -> None:
        """Try it.

        Raises:
            Failed: the saga, or one of its functions, does not do what it promises; the text is the report.
            unittest.SkipTest: what should go wrong never comes to happen with these inputs.
        """


def of(
    saga: definition.Saga,
    *,
    begin: Callable[[], object] | None = None,
    inputs: Mapping[str, Any] | None = None,
    furnish: Callable[[], object] | None = None,
    world: worlds.World | None = None,
    told: Mapping[str, Any] | None = None,
    outside: Mapping[str, type[Exception] | Exception] | None = None,
    check: Callable[[SagaInstance], object] | None = None,
    kinds: Collection[str] = KINDS,
    chance: int = CHANCE,
) -> Callable[[Test], Test]:
    """Have a test run once for each thing that may go wrong, each with a name of its own.

    Arguments:
        saga: the declaration.
        begin: begins the saga, as your own code does. In its place `inputs` may be given.
        inputs: the facts that it is begun with.
        furnish: makes, before each run, what the database does not keep: a provider's fake, say. Rows that it
            writes are taken back after the run.
        world: what stands: a callable that returns it, or query sets of the rows that do. By default all rows
            of the apps that the functions live in.
        told: by the name of a step that waits, or of an approval: the facts of the callback, or of the
            answer; or a callable of its `key` that has the provider do it, and returns the facts, or None
            where it has told the engine itself. By default the fact that ends the wait, and no other.
        outside: by the path of a function that calls a provider, such as `trips.bank.charge`: what it raises
            when no answer comes.
        check: looks at the saga, and at whatever else, at the end of each run, and asserts.
        kinds: which of `KINDS` are wanted.
        chance: how many runs there are in which several things go wrong; 0 for none.

    Returns:
        The decorator: the test takes the fixture `trial`.
    """
    return _parametrized(
        each(
            saga, begin=begin, inputs=inputs, furnish=furnish, world=world, told=told, outside=outside,
            check=check, kinds=kinds, chance=chance,
        )
    )  # fmt: skip


def each(
    saga: definition.Saga, *, kinds: Collection[str] = KINDS, chance: int = CHANCE, **subject: Any
) -> Sequence[Trial]:
    """The trials that `of` has a test run for; the arguments are the same.

    Raises:
        ValueError: a kind or a step that is named is none.
    """
    about = _subject(saga, subject)
    if unknown := set(kinds) - set(KINDS):
        raise ValueError(f"{sorted(unknown)} are no kinds of trials; there are {', '.join(KINDS)}.")
    found = plans.plans(about, chance=chance)
    return [SagaTrial(about, plan) for plan in found if plan.kind in kinds]


def verbs(
    saga: definition.Saga,
    *,
    begin: Callable[[], object] | None = None,
    inputs: Mapping[str, Any] | None = None,
    furnish: Callable[[], object] | None = None,
    world: worlds.World | None = None,
    told: Mapping[str, Any] | None = None,
    outside: Mapping[str, type[Exception] | Exception] | None = None,
    local: bool = False,
    only: Collection[str] = PROMISES,
) -> Callable[[Test], Test]:
    """Have a test run once for each promise of each step's functions, which are called by themselves.

    Arguments:
        saga: the declaration.
        begin: as for `of`; the saga is carried on up to the step whose functions are tried.
        inputs: as for `of`.
        furnish: as for `of`.
        world: as for `of`.
        told: as for `of`.
        outside: as for `of`.
        local: whether local functions are held to all promises, and not only to those that the engine needs
            of them. They are not, by default: the engine calls them exactly once.
        only: which of `PROMISES` are wanted.

    Returns:
        The decorator: the test takes the fixture `trial`.
    """
    return _parametrized(
        each_verb(
            saga, begin=begin, inputs=inputs, furnish=furnish, world=world, told=told, outside=outside,
            local=local, only=only,
        )
    )  # fmt: skip


def each_verb(
    saga: definition.Saga, *, local: bool = False, only: Collection[str] = PROMISES, **subject: Any
) -> Sequence[Trial]:
    """The trials that `verbs` has a test run for; the arguments are the same.

    Raises:
        ValueError: a promise or a step that is named is none.
    """
    about = _subject(saga, subject)
    if unknown := set(only) - set(PROMISES):
        raise ValueError(f"{sorted(unknown)} are no promises; there are {', '.join(PROMISES)}.")
    found = promises.of(about, local=local)
    return [trial for trial in found if trial.promise in only]


@dataclasses.dataclass(frozen=True, repr=False)
class SagaTrial:
    """A saga, and what goes wrong with it."""

    subject: runs.Subject
    plan: plans.Plan

    def __str__(self) -> str:
        return self.plan.name

    def __repr__(self) -> str:
        return f"<{self}>"

    def run(self) -> None:
        """Run it without a fault, then with those of the plan; report the shortest run that fails."""
        __tracebackhide__ = True
        with stage(self.subject.saga) as rows:
            failed = _Judge(self.subject, self.plan, rows).find()
        if failed is not None:
            raise Failed(failed)


class _Judge:
    """Runs a plan, and says what is wrong."""

    def __init__(self, subject: runs.Subject, plan: plans.Plan, rows: Rows) -> None:
        self.subject, self.plan, self.rows = subject, plan, rows
        self.well: runs.Outcome | None = None
        """What a run without a fault came to."""

    def find(self) -> str | None:
        """The report of the shortest run that is wrong; None if none is."""
        self.well = self.subject.known.get(self.plan.inline)
        if self.well is None or self.plan.kind == "goes well":
            self.well = well = self._play(())
            if problem := self._wrong(well, plans.COMPLETED) or self._blind(well):
                promise = plans.GOES_WELL
                return self._report((), problem, promise, well)
            self.subject.known[self.plan.inline] = well
        met = False
        for wrong in self._schedules():
            outcome = self._play(wrong) if wrong else self.well
            if outcome.before != self.well.before:
                # The world is another one than when it was first tried.
                del self.subject.known[self.plan.inline]
                return self.find()
            if self._wrong(outcome, self.plan.ends):
                return self._shortest(wrong)
            new = set(wrong) - set(self.plan.wrong) if self.plan.at_each is not None else set(wrong)
            met = met or not wrong or bool(outcome.met & new)
            if self.plan.at_each is not None and not outcome.met & new:
                break
        if not met:
            raise unittest.SkipTest(f"{self.plan.name}: with these inputs that never comes to happen")
        return None

    def _schedules(self) -> Iterable[tuple[faults.Fault, ...]]:
        if self.plan.at_each is not None:
            for number in range(1, plans.PLACES):
                yield (*self.plan.wrong, self.plan.at_each(number))
        elif self.plan.schedules:
            yield from self.plan.schedules
        else:
            yield self.plan.wrong

    def _shortest(self, wrong: tuple[faults.Fault, ...]) -> str:
        """Leave out one fault after the other, for as long as it is wrong without it (after ddmin)."""
        left = True
        while left:
            left = False
            for fault in wrong:
                fewer = tuple(each for each in wrong if each != fault)
                if self._wrong(self._play(fewer), self._ends_with(fewer)):
                    wrong, left = fewer, True
                    break
        outcome = self._play(wrong)
        ends = self._ends_with(wrong)
        problem = (
            self._wrong(outcome, ends) or "It is wrong now and then: the same faults went well another time."
        )
        return self._report(wrong, problem, self.plan.promise, outcome)

    def _ends_with(self, wrong: tuple[faults.Fault, ...]) -> frozenset[str]:
        """How it may end with fewer faults than the plan's: in any way that fits the world."""
        return self.plan.ends if set(self.plan.wrong) <= set(wrong) else plans.EITHER

    def _play(self, wrong: tuple[faults.Fault, ...]) -> runs.Outcome:
        self.rows.put_back()
        return runs.Run(self.subject, wrong, inline=self.plan.inline).play()

    def _blind(self, well: runs.Outcome) -> str:
        if worlds.differences(well.before, well.after):
            return ""
        return "It is completed, and the world looks as before. Say by `world=` what it does."

    def _wrong(self, outcome: runs.Outcome, ends: frozenset[str]) -> str:
        """What is wrong with what a run came to; empty where nothing is."""
        if outcome.problem:
            return outcome.problem
        if not outcome.ends:
            return self._apart(
                outcome.before, outcome.after, "It was never begun, and yet something is there"
            )
        if outcome.ends not in ends:
            return f"It is {outcome.ends}, and should be {' or '.join(sorted(ends))}."
        if outcome.ends == "compensated":
            return self._not_undone(outcome)
        if outcome.ends == "completed" and self.well is not None and not outcome.partial:
            text = "It is completed, and the world is not as when nothing goes wrong"
            return self._apart(self.well.after, outcome.after, text)
        return ""

    def _not_undone(self, outcome: runs.Outcome) -> str:
        text = "It is compensated, and the world is not as it was"
        watch = worlds.Watch(self.subject.world, self.subject.saga)
        if not watch.guessed:
            return self._apart(outcome.before, outcome.after, text)
        # Nobody says what stands: rows of the saga may be left, but none as it stands when all went well.
        marked = watch.marks(outcome.after)
        others = [item for item in outcome.after if item not in marked]
        standing = {repr(item) for item in watch.marks(self.well.after if self.well else [])}
        before = [*outcome.before]
        after = [*others, *(item for item in marked if repr(item) in standing)]
        return self._apart(before, after, text + " (say by `world=` what stands, if a row is only a record)")

    def _apart(self, wanted: worlds.Seen, found: worlds.Seen, text: str) -> str:
        apart = worlds.differences(wanted, found)
        return "\n".join([f"{text}:", *(f"  {line}" for line in apart.lines())]) if apart else ""

    def _report(
        self, wrong: Sequence[faults.Fault], problem: str, promise: str, outcome: runs.Outcome
    ) -> str:
        return reports.report(
            saga=str(self.subject.saga), promise=promise, problem=problem, wrong=wrong,
            timeline=outcome.timeline,
        )  # fmt: skip


def _subject(saga: definition.Saga, given: dict[str, Any]) -> runs.Subject:
    given = {name: value for name, value in given.items() if value is not None}
    known = {place.name for place in plans.places(saga)}
    if unknown := set(given.get("told", ())) - known:
        raise ValueError(f"{saga} has no steps {sorted(unknown)} that could be told something.")
    if given.get("begin") is None and set(given.get("inputs", ())) != set(saga.inputs):
        raise ValueError(f"{saga} is begun with {sorted(saga.inputs)}: give them as `inputs`, or `begin` it.")
    return runs.Subject(saga=saga, **given)


def _parametrized(trials: Sequence[Trial]) -> Callable[[Test], Test]:
    import pytest  # Only who tests with pytest needs it.

    return pytest.mark.parametrize("trial", trials, indirect=True, ids=str)
