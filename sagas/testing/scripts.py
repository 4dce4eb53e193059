"""Scripts: what a saga does and what the world answers, one line each, rehearsed without any machinery.

    do take-payment, do reserve-stock, fail issue-invoice,
    undo issue-invoice, undo reserve-stock, undo take-payment, compensated

A line that names a step is a call of one of its functions, with the world's answer in front:

    do a        it goes well              undo a        it goes well
    begin a     it will end later         ask a         asked: it happened
    fail a      refused                   begin ask a   asked: begun, not ended
    flake a     unavailable               miss ask a    asked: it never happened
    lose a      done, the answer lost     fail, flake, lose, drop, break undo a
    drop a      not done, nobody knows    flake, break ask a
    break a     a bug

` while cancelled` or ` while told` behind it says what comes during the call. The other lines are acts
of somebody else, when everything before them has happened, or say where the saga stands:

    cancel, too late      tell a, tell a no      poll a, outwait a, outlast      retry, resolve a yes|no
    approve a, refuse a   completed, compensated, needs attention

Of steps that are done at once nobody knows the order. A group says what each of them does, and that all of it
comes before what follows:

    [do take-payment | do reserve-stock, tell reserve-stock], do issue-invoice, completed

A script is right when its rehearsal is equal to it. The rehearsal is a second, much simpler telling
of the engine's rules, and knows nothing of rows and messages: the two check each other.
"""

import collections
import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sagas.declaration import definition

FUNCTIONS = ("do", "undo", "ask")
ACTS = ("cancel", "tell", "poll", "outwait", "outlast", "retry", "resolve", "approve", "refuse")
STANDS = ("completed", "compensated", "needs attention", "too late")


@dataclasses.dataclass(frozen=True)
class Line:
    """One line that is a call."""

    function: str
    step: str
    answer: str = "well"
    meanwhile: str = ""

    def __str__(self) -> str:
        words = [self.answer, self.function, self.step]
        if self.answer == "well":
            words.remove("well")
        elif self.function == "do":
            words.remove("do")
        return " ".join(words) + (f" while {self.meanwhile}" if self.meanwhile else "")


Answers = dict[tuple[str, str], list[tuple[str, str]]]
"""By function and step: what each call is answered, and what comes meanwhile."""


@dataclasses.dataclass(frozen=True)
class Script:
    """The lines of a script, and in which order they come."""

    lines: tuple[str, ...]
    after: tuple[frozenset[int], ...]
    """By line: the numbers of those that come before it; of what is done at once, none of the others'."""

    @classmethod
    def read(cls, text: str) -> "Script":
        """Read a script: lines separated by commas or line ends, groups in brackets.

        Raises:
            ValueError: a bracket is not closed, or within another one.
        """
        found: list[str] = []
        after: list[frozenset[int]] = []
        for part in re.split(r"(\[[^\[\]]*\])", text):
            if (
                "[" in part.strip("[]")
                or "]" in part.strip("[]")
                or part.startswith("[") != part.endswith("]")
            ):
                raise ValueError(f"The brackets of this script do not match: {part!r}")
            before = frozenset(range(len(found)))
            for branch in part[1:-1].split("|") if part.startswith("[") else [part]:
                behind = before
                for line in _split(branch):
                    after.append(behind)
                    found.append(line)
                    behind |= {len(found) - 1}
        return cls(tuple(found), tuple(after))

    def match(self, played: Sequence[str]) -> set[int] | None:
        """Which of its lines have been played; None if something else was, or in another order."""
        matched: set[int] = set()
        for line in played:
            number = next((n for n in self._possible(matched) if self.lines[n] == line), None)
            if number is None:
                return None
            matched.add(number)
        return matched

    def arrange(self, played: Sequence[str]) -> list[str]:
        """What was played, in the script's order; unchanged if the script tells something else."""
        matched = self.match(played)
        return list(played) if matched is None else [self.lines[number] for number in sorted(matched)]

    def act_due(self, played: Sequence[str]) -> str | None:
        """The line that is somebody's act and comes next, if one does."""
        matched = self.match(played)
        if matched is None:
            return None
        return next((self.lines[n] for n in self._possible(matched) if is_act(self.lines[n])), None)

    def _possible(self, matched: set[int]) -> Iterator[int]:
        for number, before in enumerate(self.after):
            if number not in matched and before <= matched:
                yield number


def lines(script: str) -> list[str]:
    """The lines of a script, separated by commas or line ends; one may say `3x flake a`."""
    return list(Script.read(script).lines)


def _split(text: str) -> list[str]:
    found: list[str] = []
    for line in (" ".join(line.split()) for line in re.split(r"[,\n]", text)):
        times, _, rest = line.partition("x ")
        if times.isdigit():
            found += [rest] * int(times)
        elif line:
            found.append(line)
    return found


def is_act(line: str) -> bool:
    """Whether the line is an act of somebody else."""
    return line.split()[0] in ACTS


def parse(line: str) -> Line | None:
    """The call that a line stands for; None if it is none."""
    if is_act(line) or line in STANDS:
        return None
    call, _, meanwhile = line.partition(" while ")
    words = call.split()
    if words[0] not in FUNCTIONS and words[1] not in FUNCTIONS:
        words.insert(1, "do")
    answer = words.pop(0) if words[0] not in FUNCTIONS else "well"
    function, step = words
    return Line(function=function, step=step, answer=answer, meanwhile=meanwhile)


def answers(script: str) -> Answers:
    """What the world of that script answers to each function's calls, in their order."""
    found: Answers = collections.defaultdict(list)
    for line in lines(script):
        if call := parse(line):
            found[call.function, call.step].append((call.answer, call.meanwhile))
    return dict(found)


def rehearse(saga: definition.Saga, script: str, inputs: Mapping[str, Any] | None = None) -> list[str]:
    """What the saga does in the world of that script, from its declaration alone.

    Arguments:
        saga: the declaration.
        script: what the world answers, and what others do.
        inputs: the facts that it is given, for its conditions.

    Returns:
        The lines as they happen, those of steps that are done at once in the script's order; equal to the
        script's own if that is right.
    """
    return Script.read(script).arrange(_Rehearsal(saga, script, inputs or {}).play())


class _Rehearsal:
    """One pass through a declaration."""

    def __init__(self, saga: definition.Saga, script: str, inputs: Mapping[str, Any]) -> None:
        self.saga = saga
        self.script = Script.read(script)
        self.facts = dict(inputs)
        self.answers = {call: iter(given) for call, given in answers(script).items()}
        self.played: list[str] = []
        self.stands = ""
        self.backward = False
        self.stage = 0
        self.attempts: collections.Counter[tuple[str, str]] = collections.Counter()
        self.due: list[definition.Step] = []
        """Of the stage, the steps that are to be called, in turn."""

        self.waiting: list[definition.Step] = []
        self.stuck: list[definition.Step] = []
        """Those for which a person is called."""

        self.doubt: set[str] = set()
        self.cancelled = False
        self.told: dict[str, bool] = {}
        self.happened: set[str] = set()
        self.undone: set[str] = set()
        self._enter(0)

    def play(self) -> list[str]:
        """Go on until nothing is left to do, and nobody acts."""
        while True:
            if act := self.script.act_due(self.played):
                self._act(act)
            elif self.stands or not self.due:
                return self.played
            elif self.backward:
                self._undo(self.due.pop(0))
            else:
                self._do(self.due.pop(0))

    def _enter(self, number: int) -> None:
        """Begin with a stage, without the steps that its conditions leave out."""
        for stage in self.saga.stages[number:]:
            self.stage = self.saga.stages.index(stage)
            chosen = [
                step
                for step, conditions in zip(stage.steps, stage.conditions, strict=True)
                if all(bool(self.facts.get(each.fact)) is each.wanted for each in conditions)
            ]
            if chosen:
                self.due = [step for step in chosen if step.has_worker]
                self.waiting = [step for step in chosen if not step.has_worker]
                return
        self._stand("completed")

    def _call(self, function: str, step: definition.Step) -> str:
        answer, meanwhile = next(self.answers.get((function, step.name), iter(())), ("well", ""))
        self.played.append(str(Line(function, step.name, answer, meanwhile)))
        if meanwhile == "cancelled":
            self.cancelled = True
        elif meanwhile == "told":
            self.told[step.name] = True
        return answer

    def _do(self, step: definition.Step) -> None:
        """One attempt at an action; one that may have happened is asked about first (U2)."""
        self.attempts["do", step.name] += 1
        answer = ""
        if step.name in self.doubt and step.ask:
            answer = self._call("ask", step)
            if answer == "miss":
                self.doubt.discard(step.name)
                answer = ""
        answer = answer or self._call("do", step)
        if answer in ("well", "begin"):
            self._went(step, answer)
        elif answer in ("flake", "lose", "drop"):
            if step.remote and answer != "flake":
                self.doubt.add(step.name)
            if self.attempts["do", step.name] >= self.saga.retry_of(step, undo=False).attempts:
                self._failed(step, provable=step.name not in self.doubt)
            elif self.cancelled and not self._past_pivot():
                self._turn()
            else:
                self.due.append(step)
        else:
            self._failed(step, provable=answer == "fail" or not step.remote)

    def _went(self, step: definition.Step, answer: str) -> None:
        """It is done, or begun: a wait that somebody has already ended is none."""
        self.doubt.discard(step.name)
        self.happened.add(step.name)
        if answer == "well":
            self._done(step)
            return
        self.waiting.append(step)
        told = self.told.pop(step.name, None)
        if told is not None:
            self._tell(step, told)
        elif self.cancelled and not self._past_pivot(at_work=True):
            self._turn()

    def _done(self, step: definition.Step) -> None:
        """Whoever is the last of its stage has the next one begun."""
        self._leave(step)
        self.doubt.discard(step.name)
        if self.cancelled and self.saga.positions[step.name] < self.saga.pivot:
            self._turn()
        elif not (self.due or self.waiting or self.stuck):
            self._enter(self.stage + 1)

    def _leave(self, step: definition.Step) -> None:
        for steps in (self.due, self.waiting, self.stuck):
            if step in steps:
                steps.remove(step)

    def _failed(self, step: definition.Step, *, provable: bool) -> None:
        """Round, or to a person where that is no longer possible (P1)."""
        self._leave(step)
        self.doubt = self.doubt - {step.name} if provable else self.doubt | {step.name}
        if step.kind == "compensatable" or (step.kind == "pivot" and provable):
            self._turn()
        else:
            self.stuck.append(step)
            self._stand("needs attention")

    def _turn(self) -> None:
        """Everything that happened or may have is undone, the last begun first (O1)."""
        self.backward, self.stands = True, ""
        self._back(self.stage)

    def _back(self, number: int) -> None:
        """Undo what began of the stages from that one down."""
        self.due, self.waiting, self.stuck = [], [], []
        for place in range(number, -1, -1):
            self.stage = place
            self.due = [step for step in reversed(self.saga.stages[place].steps) if self._may_have(step)]
            if self.due:
                return
        self._stand("compensated")

    def _may_have(self, step: definition.Step) -> bool:
        # A local action that did not go well never happened: its transaction was rolled back.
        happened = self.attempts["do", step.name] > 0 if step.remote else step.name in self.happened
        return happened and step.undo is not None and step.name not in self.undone

    def _undo(self, step: definition.Step) -> None:
        self.attempts["undo", step.name] += 1
        answer = self._call("undo", step)
        spent = self.attempts["undo", step.name] >= self.saga.retry_of(step, undo=True).attempts
        if answer == "well":
            self._undone(step)
        elif answer in ("fail", "break") or spent:
            self.stuck.append(step)
            self._rest_of_stage()
        else:
            one_by_one = getattr(self.saga.stages[self.stage].parallel, "undo", "") == "reverse"
            self.due.insert(0 if one_by_one else len(self.due), step)

    def _undone(self, step: definition.Step) -> None:
        self._leave(step)
        self.undone.add(step.name)
        self._rest_of_stage()

    def _rest_of_stage(self) -> None:
        """Nothing below is undone before all of the stage is; a person comes when nothing else is left."""
        if self.due:
            return
        if self.stuck:
            self._stand("needs attention")
        else:
            self._back(self.stage - 1)

    def _ask_whether_ended(self, step: definition.Step, *, over: bool) -> None:
        """A poll, or the last question when the limit is over."""
        answer = self._call("ask", step) if step.ask else "begin"
        if answer == "well":
            self._done(step)
        elif answer == "miss":
            self._failed(step, provable=True)
        elif over:
            self._failed(step, provable=False)

    def _tell(self, step: definition.Step, well: bool) -> None:
        if well:
            self._done(step)
        else:
            self._failed(step, provable=True)

    def _stand(self, where: str) -> None:
        self.stands = where
        self.played.append(where)

    def _past_pivot(self, *, at_work: bool = False) -> bool:
        """Whether there is no way back (P1), a pivot whose outcome is open included."""
        pivot, stage = self.saga.pivot, self.saga.stages[self.stage]
        if pivot not in stage.positions:
            return stage.first > pivot
        at_pivot = self.saga.all_steps[pivot]
        open_ = at_work or at_pivot in self.waiting or at_pivot.name in self.doubt
        return open_ or self.stands == "needs attention" or at_pivot.kind == "retriable"

    def _act(self, act: str) -> None:
        self.played.append(act)
        word, *about = act.split()
        if word == "cancel":
            if self.stands in ("completed", "compensated") or self._past_pivot():
                self.played.append("too late")
            elif not self.backward:
                self._turn()
        elif word == "tell":
            self._told(self.saga.step(about[0]), well=len(about) == 1)
        elif word in ("approve", "refuse"):
            self._tell(self.saga.step(about[0]), word == "approve")
        elif word in ("poll", "outwait"):
            self._ask_whether_ended(self.saga.step(about[0]), over=word == "outwait")
        elif word == "outlast":
            self._outlasted()
        else:
            self.stands = ""
            if word == "resolve":
                self._resolve(self.saga.step(about[0]), well=about[1] == "yes")
            else:
                self.due, self.stuck = [*self.stuck, *self.due], []

    def _told(self, step: definition.Step, *, well: bool) -> None:
        if step in self.waiting:
            self._tell(step, well)
        elif self.stands == "needs attention" and not self.backward and step in self.stuck:
            if well:
                self.stands = ""
                self._done(step)
        elif step.name in self.undone and well:
            # A late one: what it tells of is undone once more (M3).
            self._call("undo", step)
        elif not self.backward and self.saga.positions[step.name] >= self.saga.stages[self.stage].first:
            self.told[step.name] = well

    def _outlasted(self) -> None:
        """The deadline of the direction has passed."""
        if self.backward or self._past_pivot():
            self.stuck = [*self.due, *self.waiting, *self.stuck]
            self.due, self.waiting = [], []
            self._stand("needs attention")
        else:
            self._turn()

    def _resolve(self, step: definition.Step, *, well: bool) -> None:
        """Somebody says, with evidence, whether it happened."""
        self._leave(step)
        if self.backward:
            if well:
                self._undone(step)
            else:
                self.due.insert(0, step)
        elif well:
            self._done(step)
        elif step.kind != "retriable":
            self._turn()
        else:
            self.doubt.discard(step.name)
            self.due.insert(0, step)
