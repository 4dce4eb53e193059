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
    completed, compensated, needs attention

A script is right when its rehearsal is equal to it. The rehearsal is a second, much simpler telling
of the engine's rules, and knows nothing of rows and messages: the two check each other.
"""

import collections
import dataclasses
import re

from sagas.declaration import definition

FUNCTIONS = ("do", "undo", "ask")
ACTS = ("cancel", "tell", "poll", "outwait", "outlast", "retry", "resolve")
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


def lines(script: str) -> list[str]:
    """The lines of a script, separated by commas or line ends; one may say `3x flake a`."""
    found: list[str] = []
    for line in (" ".join(line.split()) for line in re.split(r"[,\n]", script)):
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


def rehearse(saga: definition.Saga, script: str) -> list[str]:
    """What the saga does in the world of that script, from its declaration alone.

    Returns:
        The lines as they happen; equal to the script's own if that is right.
    """
    return _Rehearsal(saga, script).play()


class _Rehearsal:
    """One pass through a declaration."""

    def __init__(self, saga: definition.Saga, script: str) -> None:
        self.saga = saga
        self.script = lines(script)
        self.answers = {call: iter(given) for call, given in answers(script).items()}
        self.played: list[str] = []
        self.stands = ""
        self.backward = False
        self.position = 0
        self.attempts: collections.Counter[tuple[str, str]] = collections.Counter()
        self.doubt = self.waiting = self.cancelled = False
        self.told: dict[str, bool] = {}
        self.happened: set[str] = set()
        self.undone: set[str] = set()

    def play(self) -> list[str]:
        """Go on until nothing is left to do, and nobody acts."""
        while True:
            if act := self._act_due():
                self._act(act)
            elif self.stands or self.waiting:
                return self.played
            elif self.backward:
                self._undo()
            else:
                self._do()

    @property
    def _step(self) -> definition.Step:
        return self.saga.steps[self.position]

    def _call(self, function: str, step: definition.Step) -> str:
        answer, meanwhile = next(self.answers.get((function, step.name), iter(())), ("well", ""))
        self.played.append(str(Line(function, step.name, answer, meanwhile)))
        if meanwhile == "cancelled":
            self.cancelled = True
        elif meanwhile == "told":
            self.told[step.name] = True
        return answer

    def _do(self) -> None:
        """One attempt at an action; one that may have happened is asked about first (U2)."""
        step = self._step
        self.attempts["do", step.name] += 1
        answer = ""
        if self.doubt and step.ask:
            answer = self._call("ask", step)
            if answer == "miss":
                self.doubt, answer = False, ""
        answer = answer or self._call("do", step)
        if answer in ("well", "begin"):
            self._went(answer)
        elif answer in ("flake", "lose", "drop"):
            self.doubt = self.doubt or (step.remote and answer != "flake")
            if self.attempts["do", step.name] >= self.saga.retry_of(step, undo=False).attempts:
                self._failed(provable=not self.doubt)
            elif self.cancelled and not self._past_pivot():
                self._turn()
        else:
            self._failed(provable=answer == "fail" or not step.remote)

    def _went(self, answer: str) -> None:
        """It is done, or begun: a wait that somebody has already ended is none."""
        self.doubt = False
        self.happened.add(self._step.name)
        if answer == "well":
            self._done()
            return
        told = self.told.pop(self._step.name, None)
        if told is not None:
            self._tell(told)
        elif self.cancelled and not self._past_pivot(at_work=True):
            self._turn()
        else:
            self.waiting = True

    def _done(self) -> None:
        self.waiting = self.doubt = False
        self.position += 1
        if self.cancelled and self.position - 1 < self.saga.pivot:
            self._turn()
        elif self.position == len(self.saga.steps):
            self._stand("completed")

    def _failed(self, *, provable: bool) -> None:
        """Round, or to a person where that is no longer possible (P1)."""
        self.waiting, self.doubt = False, not provable
        kind = self._step.kind
        if kind == "compensatable" or (kind == "pivot" and provable):
            self._turn()
        else:
            self._stand("needs attention")

    def _turn(self) -> None:
        """Everything that happened or may have is undone, the last begun first (O1)."""
        self.backward, self.waiting, self.stands = True, False, ""
        self.position = len(self.saga.steps)
        self._back()

    def _back(self) -> None:
        while self.position:
            self.position -= 1
            step = self._step
            # A local action that did not go well never happened: its transaction was rolled back.
            may_have = self.attempts["do", step.name] if step.remote else step.name in self.happened
            if may_have and step.undo:
                return
        self._stand("compensated")

    def _undo(self) -> None:
        step = self._step
        self.attempts["undo", step.name] += 1
        answer = self._call("undo", step)
        spent = self.attempts["undo", step.name] >= self.saga.retry_of(step, undo=True).attempts
        if answer == "well":
            self.undone.add(step.name)
            self._back()
        elif answer in ("fail", "break") or spent:
            self._stand("needs attention")

    def _ask_whether_ended(self, *, over: bool) -> None:
        """A poll, or the last question when the limit is over."""
        answer = self._call("ask", self._step) if self._step.ask else "begin"
        if answer == "well":
            self._done()
        elif answer == "miss":
            self._failed(provable=True)
        elif over:
            self._failed(provable=False)

    def _tell(self, well: bool) -> None:
        if well:
            self._done()
        else:
            self._failed(provable=True)

    def _stand(self, where: str) -> None:
        self.stands = where
        self.played.append(where)

    def _past_pivot(self, *, at_work: bool = False) -> bool:
        """Whether there is no way back (P1), a pivot whose outcome is open included."""
        pivot = self.saga.pivot
        if self.position != pivot:
            return self.position > pivot
        open_ = at_work or self.waiting or self.doubt or self.stands == "needs attention"
        return pivot < len(self.saga.steps) and (open_ or self._step.kind == "retriable")

    def _act_due(self) -> str | None:
        played = len(self.played)
        due = played < len(self.script) and self.script[:played] == self.played
        return self.script[played] if due and is_act(self.script[played]) else None

    def _act(self, act: str) -> None:
        self.played.append(act)
        word, *about = act.split()
        if word == "cancel":
            if self.stands in ("completed", "compensated") or self._past_pivot():
                self.played.append("too late")
            elif not self.backward:
                self._turn()
        elif word == "tell":
            self._told(about[0], well=len(about) == 1)
        elif word in ("poll", "outwait"):
            self._ask_whether_ended(over=word == "outwait")
        elif word == "outlast":
            self._outlasted()
        else:
            self.stands = ""
            if word == "resolve":
                self._resolve(well=about[1] == "yes")

    def _told(self, name: str, *, well: bool) -> None:
        if self.waiting and self._step.name == name:
            self._tell(well)
        elif self.stands == "needs attention" and not self.backward and self._step.name == name:
            if well:
                self.stands = ""
                self._done()
        elif name in self.undone and well:
            # A late one: what it tells of is undone once more (M3).
            self._call("undo", self.saga.step(name))
        elif not self.backward and self.saga.positions[name] >= self.position:
            self.told[name] = well

    def _outlasted(self) -> None:
        """The deadline of the direction has passed."""
        if self.backward or self._past_pivot():
            self.waiting = False
            self._stand("needs attention")
        else:
            self._turn()

    def _resolve(self, *, well: bool) -> None:
        """Somebody says, with evidence, whether it happened."""
        if self.backward:
            if well:
                self.undone.add(self._step.name)
                self._back()
        elif well:
            self._done()
        elif self._step.kind != "retriable":
            self._turn()
        else:
            self.doubt = False
