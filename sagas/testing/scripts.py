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

A step that is sagas (`Child`, `ForEach`) is not called itself. Braces behind its name say what each of its
children does, the first one first, in lines of the child's own; one that does nothing is left empty:

    do pay, deliver{do pick, do send, undo send, undo pick | fail pick, undo pick}, undo pay, compensated

Nobody knows either in which order they come, but for the lines of one child, and all of them come before what
follows. Each is a line of the saga itself, about a step that has the child in its name, and may be written so
anywhere: `do deliver.0.pick`, `cancel deliver.1`. That a child is done or undone is no line: it follows. One
that needs attention is why its parent needs it.

A script is right when its rehearsal is equal to it. The rehearsal is a second, much simpler telling
of the engine's rules, and knows nothing of rows and messages: the two check each other.
"""

import collections
import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from sagas.declaration import definition

FUNCTIONS = ("do", "undo", "ask")
"""What a line can call: a step's functions."""

ACTS = ("cancel", "tell", "poll", "outwait", "outlast", "retry", "resolve", "approve", "refuse")
"""What somebody can do between two calls, or time can."""

ABOUT_SAGA = ("cancel", "outlast", "retry")
"""The acts that are about a saga as a whole, and name no step."""

STANDS = ("completed", "compensated", "needs attention", "too late")
"""How a saga can stand at the end."""


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

    branches: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """By the name of a step that is sagas: for how many children there are lines between braces."""

    @classmethod
    def read(cls, text: str) -> "Script":
        """Read a script: lines separated by commas or line ends, groups in brackets or braces.

        Raises:
            ValueError: a bracket is not closed, or stands within another one; braces have no step before
                them, or a child is said to stand somewhere.
        """
        reader = _Reader(text)
        reader.sequence(frozenset(), within="", child="")
        return cls(tuple(reader.lines), tuple(reader.after), dict(reader.branches))

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


CLOSING = {"[": "]", "{": "}"}
"""What ends what these begin."""


class _Reader:
    """Reads the text of a script from the left to the right."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.parts = [part for part in re.split(r"([\[\]{}|])", text) if part.strip()]
        self.lines: list[str] = []
        self.after: list[frozenset[int]] = []
        self.branches: collections.Counter[str] = collections.Counter()
        """By the name of a step that is sagas: for how many children there is something between braces."""

    def sequence(self, before: frozenset[int], *, within: str, child: str) -> frozenset[int]:
        """Lines and groups one after the other, until the bracket closes in which they stand.

        Arguments:
            before: the lines that come before them.
            within: the brackets in which they stand, the innermost last.
            child: whose lines they are, such as `deliver.0`; empty for those of the saga itself.

        Returns:
            The lines that come before what follows.
        """
        while self.parts and self.parts[0] not in ("|", "]", "}"):
            part = self.parts.pop(0)
            if part == "[":
                if within.endswith("["):
                    raise self._mismatch()
                before = self._group("[", before, within, child)
            elif part == "{":
                raise ValueError(f"Braces need the name of a step before them: {self.text!r}")
            elif self.parts and self.parts[0] == "{":
                del self.parts[0]
                head, _, name = part.replace("\n", ",").rpartition(",")
                before = self._add(head, before, child)
                before = self._group("{", before, within, _place(child, name.strip()))
            else:
                before = self._add(part, before, child)
        if self.parts and not within:
            raise self._mismatch()
        return before

    def _group(self, opening: str, before: frozenset[int], within: str, child: str) -> frozenset[int]:
        """Branches of which nobody knows the order, up to the bracket that closes them."""
        behind, number = before, 0
        if opening == "{" and (not child or child.endswith(".")):
            raise ValueError(f"Braces need the name of a step before them: {self.text!r}")
        empty = self.parts[:1] == ["}"]
        while True:
            of_child = f"{child}.{number}" if opening == "{" else child
            behind |= self.sequence(before, within=within + opening, child=of_child)
            closing = self.parts.pop(0) if self.parts else ""
            number += 1
            if closing == CLOSING[opening]:
                if opening == "{":
                    self.branches[child] = max(self.branches[child], 0 if empty else number)
                return behind
            if closing != "|":
                raise self._mismatch()

    def _add(self, text: str, before: frozenset[int], child: str) -> frozenset[int]:
        for line in _split(text):
            self.after.append(before)
            self.lines.append(_of_child(line, child) if child else line)
            before |= {len(self.lines) - 1}
        return before

    def _mismatch(self) -> ValueError:
        return ValueError(f"The brackets of this script do not match: {self.text!r}")


def _place(child: str, step: str) -> str:
    return f"{child}.{step}" if child else step


def _of_child(line: str, child: str) -> str:
    """A child's line as one of the saga's.

    Raises:
        ValueError: it says where the child stands.
    """
    if line in STANDS:
        raise ValueError(f"Where a child stands follows from what is done: {line!r} of {child}.")
    call, while_, meanwhile = line.partition(" while ")
    words = call.split()
    if not is_act(line):
        words[-1] = f"{child}.{words[-1]}"
    elif words[0] in ABOUT_SAGA:
        words.insert(1, child)
    else:
        words[1] = f"{child}.{words[1]}"
    return " ".join(words) + while_ + meanwhile


def _of_element(step: definition.Child, element: Any) -> dict[str, Any]:
    """What a child is given of its element."""
    wanted = step.of_element if isinstance(step, definition.ForEach) else ()
    if isinstance(element, dict) and (set(element) == set(wanted) or len(wanted) != 1):
        return dict(element)
    return dict.fromkeys(wanted[:1], element)


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
    world = _Scripted(script)
    return world.script.arrange(play(saga, world, inputs))


class World(Protocol):
    """What a rehearsal is told by: what calls are answered, and what somebody else does."""

    @property
    def branches(self) -> Mapping[str, int]:
        """By the name of a step that is sagas: how many they are, where no fact is the list."""

    def answer(self, function: str, step: str) -> tuple[str, str]:
        """What the next call of a step's function is answered, and what comes meanwhile."""

    def act_due(self, played: Sequence[str], waiting: Sequence[str] | None) -> str | None:
        """The line that is somebody's act and comes next, if one does.

        Arguments:
            played: what has happened.
            waiting: None while there are calls to be made; then the names of the steps that are waited for.
        """


class _Scripted:
    """The world of a script."""

    def __init__(self, text: str) -> None:
        self.script = Script.read(text)
        self.branches = self.script.branches
        self._answers = {call: iter(given) for call, given in answers(text).items()}

    def answer(self, function: str, step: str) -> tuple[str, str]:
        """What the script says; what it does not name goes well."""
        return next(self._answers.get((function, step), iter(())), ("well", ""))

    def act_due(self, played: Sequence[str], waiting: Sequence[str] | None) -> str | None:
        """When everything before it has happened."""
        return self.script.act_due(played) if waiting is None else None


def play(saga: definition.Saga, world: World, inputs: Mapping[str, Any] | None = None) -> list[str]:
    """What the saga does in a world, from its declaration alone: the lines, as they happen.

    Arguments:
        saga: the declaration.
        world: what happens to it.
        inputs: the facts that it is given, for its conditions and lists.
    """
    return _Rehearsal(saga, world, inputs or {}).play()


class _Rehearsal:
    """One pass through a declaration; a child has one of its own, with the same script.

    Arguments:
        saga: the declaration.
        world: what happens to all of them.
        inputs: the facts that it is given.
        root: the pass of the saga that nobody is parent of; None for itself.
        parent: that of its parent, with the step that it is.
        place: how its lines name it, such as `deliver.0`; empty for the root.
    """

    def __init__(
        self,
        saga: definition.Saga,
        world: World,
        inputs: Mapping[str, Any],
        *,
        root: "_Rehearsal | None" = None,
        parent: "tuple[_Rehearsal, definition.Child] | None" = None,
        place: str = "",
    ) -> None:
        self.saga = saga
        self.world = world
        self.root = root or self
        self.parent = parent
        self.place = place
        self.facts = dict(inputs)
        self.stands = ""
        self.backward = False
        self.begun = False
        self.over = ""
        """Of a child: done, where it waits for its parent's outcome or has completed; or undone."""

        self.stage = 0
        self.attempts: collections.Counter[tuple[str, str]] = collections.Counter()
        self.due: list[definition.Step] = []
        """Of the stage, the steps that are to be called, in turn."""

        self.waiting: list[definition.Step] = []
        self.undoing: list[definition.Step] = []
        """Those whose children are being undone."""

        self.stuck: list[definition.Step] = []
        """Those for which a person is called."""

        self.doubt: set[str] = set()
        self.cancelled = False
        self.told: dict[str, bool] = {}
        self.happened: set[str] = set()
        self.undone: set[str] = set()
        self.children: dict[str, list[_Rehearsal]] = {}
        if root is None:
            self.played: list[str] = []
            self.turns: list[_Rehearsal] = [self]
            """Whose turn it is: one call of each, as their messages come."""

            self.looks: list[tuple[_Rehearsal, definition.Child]] = []
            """Who is to look at the children of which step: something has become of one."""

            self.begun = True
            self._enter(0)

    def play(self) -> list[str]:
        """Go on until nothing is left to do, and nobody acts."""
        while True:
            if self.looks:
                one, step = self.looks.pop(0)
                one._look(step)
            elif act := self.world.act_due(self.played, None):
                self._act(act)
            elif (one := next((one for one in self.turns if one.can_go_on), self)).can_go_on:
                self.turns.remove(one)
                self.turns.append(one)
                one._go_on()
            elif act := self.world.act_due(self.played, self._waiting()):
                self._act(act)
            else:
                return self.played

    def _waiting(self) -> list[str]:
        """The steps of it and of its children that only wait, by their names in lines."""
        waiting = [(one, step) for one in self.root.turns if not one.backward for step in one.waiting]
        return [_place(one.place, step.name) for one, step in waiting]

    @property
    def can_go_on(self) -> bool:
        """Whether there is a call that is to be made now."""
        one_by_one = getattr(self.saga.stages[self.stage].parallel, "undo", "") == "reverse"
        return bool(self.due) and not self.stands and not (one_by_one and self.undoing)

    def _go_on(self) -> None:
        if self.backward:
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
                for step in chosen:
                    if isinstance(step, definition.Child):
                        self._begin_children(step)
                return
        if self.parent is None:
            self._stand("completed")
        else:
            self.over = "done"
            self._report()

    def _call(self, function: str, step: definition.Step) -> str:
        name = _place(self.place, step.name)
        answer, meanwhile = self.world.answer(function, name)
        self.root.played.append(str(Line(function, name, answer, meanwhile)))
        if meanwhile == "cancelled":
            self.cancelled = True
        elif meanwhile == "told":
            self.told[step.name] = True
        return answer

    def _do(self, step: definition.Step) -> None:
        """One attempt at an action; one that may have happened is asked about first (U2)."""
        if isinstance(step, definition.Child):
            # Somebody has it tried again: what its children are by now decides.
            self.waiting.append(step)
            self.root.looks.append((self, step))
            return
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
        for steps in (self.due, self.waiting, self.undoing, self.stuck):
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
        self.backward, self.stands, self.over = True, "", ""
        self._report()
        self._back(self.stage)

    def _back(self, number: int) -> None:
        """Undo what began of the stages from that one down."""
        self.due, self.waiting, self.stuck = [], [], []
        for place in range(number, -1, -1):
            self.stage = place
            self.due = [step for step in reversed(self.saga.stages[place].steps) if self._may_have(step)]
            if self.due:
                return
        if self.parent is None:
            self._stand("compensated")
        else:
            self.over = "undone"
            self._report()

    def _may_have(self, step: definition.Step) -> bool:
        if step.name in self.undone:
            return False
        if isinstance(step, definition.Child):
            return step.name in self.children and step.undoable
        # A local action that did not go well never happened: its transaction was rolled back.
        happened = self.attempts["do", step.name] > 0 if step.remote else step.name in self.happened
        return happened and step.undo is not None

    def _undo(self, step: definition.Step) -> None:
        if isinstance(step, definition.Child):
            self.undoing.append(step)
            self.root.looks.append((self, step))
            return
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
        if self.due or self.undoing:
            return
        if self.stuck:
            self._stand("needs attention")
        else:
            self._back(self.stage - 1)

    # --- Children ---------------------------------------------------------------------------------

    def _begin_children(self, step: definition.Child) -> None:
        """They are there from now on; none is started yet. A list that no input gives is the script's."""
        elements: Sequence[Any] = [{}]
        if isinstance(step, definition.ForEach):
            place = _place(self.place, step.name)
            elements = self.facts.get(step.of, [{}] * self.world.branches.get(place, 0))
        given = {name: self.facts[fact] for fact, name in step.given if fact in self.facts}
        self.children[step.name] = [
            _Rehearsal(
                step.child,
                self.world,
                given | _of_element(step, element),
                root=self.root,
                parent=(self, step),
                place=f"{_place(self.place, step.name)}.{number}",
            )
            for number, element in enumerate(elements)
        ]
        self.root.looks.append((self, step))

    def _report(self) -> None:
        """Something has become of a child: its parent looks."""
        if self.parent is not None:
            self.root.looks.append(self.parent)

    def _look(self, step: definition.Child) -> None:
        """What the step's children have come to decides, however often it is asked."""
        children = self.children[step.name]
        left = [child for child in children if not child.over]
        if step in self.undoing:
            live = [child for child in children if child.over != "undone"]
            if live:
                self._mind(step, live)
                self._tell_off(live)
            else:
                self._relieve(step)
                self._undone(step)
            return
        if self.backward or step not in (*self.waiting, *self.stuck):
            return
        # A single child has to be done, and there is no other that could be cancelled.
        need, keeps, cancels = len(children), False, False
        if isinstance(step, definition.ForEach) and step.need != "all":
            need = min(step.need, len(children))
            cancels = step.rest == "cancel"
        if isinstance(step, definition.ForEach):
            keeps = step.failed == "keep"
        done = sum(child.over == "done" for child in children)
        enough = done >= need
        possible = done + sum(not (child.backward or child.cancelled) for child in left) >= need
        if left and enough and cancels:
            self._mind(step, left)
            self._tell_off(left)
        elif left and (possible or keeps or step.kind != "compensatable"):
            self._mind(step, left)
            self._start(step, left)
        elif enough or keeps:
            self._relieve(step)
            self._done(step)
        else:
            self._relieve(step)
            self._failed(step, provable=True)

    def _start(self, step: definition.Child, left: "Sequence[_Rehearsal]") -> None:
        """Start as many as may run at once, the first elements first."""
        limit = step.limit if isinstance(step, definition.ForEach) else 0
        waiting = [child for child in left if not child.begun]
        room = limit - (len(left) - len(waiting)) if limit else len(waiting)
        for child in waiting[: max(room, 0)]:
            child.begun = True
            self.root.turns.append(child)
            child._enter(0)

    def _tell_off(self, children: "Sequence[_Rehearsal]") -> None:
        """They are not wanted any more; one that is past its own pivot goes on."""
        for child in children:
            if not (child.backward or child.cancelled):
                child.cancelled = True
                if not child.begun or not child._past_pivot():
                    child._turn()

    def _mind(self, step: definition.Child, children: "Sequence[_Rehearsal]") -> None:
        """A person is called for as long as one of them needs one."""
        if any(child.stands == "needs attention" for child in children):
            if not self.stands:
                self._stand("needs attention")
        elif not self.stuck:
            self._relieve(step)

    def _relieve(self, step: definition.Child) -> None:
        """Nobody is called for it any more."""
        if self.stands == "needs attention" and self.stuck in ([], [step]):
            self.stands = ""
            self._report()

    # --- What others do ---------------------------------------------------------------------------

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
        self._report()
        if self.parent is None:
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
        """Somebody acts on the saga, or on the child that the line names."""
        self.played.append(act)
        word, *about = act.split()
        place = about[0] if about else ""
        one, name = self._named(place) if word in ABOUT_SAGA else self._of(place)
        one._act_on(word, name, about[1:])

    def _named(self, place: str) -> "tuple[_Rehearsal, str]":
        """The saga itself, or the child of that name."""
        one = self
        words = place.split(".") if place else []
        for name, number in zip(words[::2], words[1::2], strict=True):
            one = one.children[name][int(number)]
        return one, ""

    def _of(self, step: str) -> "tuple[_Rehearsal, str]":
        """The saga or the child whose step has that name, and the name that it has there."""
        place, _, name = step.rpartition(".")
        return self._named(place)[0], name

    def _act_on(self, word: str, name: str, about: Sequence[str]) -> None:
        if word == "cancel":
            if self.stands in ("completed", "compensated") or self.over or self._past_pivot():
                self.root.played.append("too late")
            elif not self.backward:
                self._turn()
        elif word == "tell":
            self._told(self.saga.step(name), well=not about)
        elif word in ("approve", "refuse"):
            self._tell(self.saga.step(name), word == "approve")
        elif word in ("poll", "outwait"):
            self._ask_whether_ended(self.saga.step(name), over=word == "outwait")
        elif word == "outlast":
            self._outlasted()
        else:
            self.stands = ""
            self._report()
            if word == "resolve":
                self._resolve(self.saga.step(name), well=about[0] == "yes")
            else:
                self.due, self.stuck = [*self.stuck, *self.due], []
                for step in (*self.waiting, *self.undoing):
                    if isinstance(step, definition.Child):
                        self.root.looks.append((self, step))

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
