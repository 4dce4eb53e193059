"""The graph: every node that so many faults lead to, each once, the nearest first."""

import array
import collections
import dataclasses
import hashlib
import marshal
import time

from sagas import errors
from tests.sagas.explorer import memory, rules, ways
from tests.sagas.explorer.memory import Violation, World
from tests.sagas.explorer.moves import moves, strays


@dataclasses.dataclass(frozen=True)
class Found:
    """What an exploration has seen."""

    nodes: int
    moves: int
    runs: int
    """Ways from the beginning to where it comes to rest; who goes round in a circle is counted once."""

    ends: collections.Counter
    seconds: float
    """Of a processor."""

    phases: dict[str, set]
    """From where to where stages and children went, as `sagas.declaration.phases` has it."""


class Counterexample(AssertionError):
    """The way to where a rule is broken, as a timeline than which none is shorter."""

    def __init__(self, what, lines):
        numbered = [f"{number:3}. {line}" for number, line in enumerate(lines, 1)]
        super().__init__("\n".join([str(what), *numbered]))


def explore(shape, faults):
    """Go every way on which no more than so many faults lie.

    Arguments:
        shape: one of `shapes.SHAPES`.
        faults: how many faults, and interventions of people that nobody called, a run may have.

    Raises:
        Counterexample: a rule is broken.
    """
    with memory.in_use():
        return _Search(shape, faults).run()


class _Search:
    def __init__(self, shape, faults):
        self.shape, self.faults = shape, faults
        self.known = {}
        """Every node, by a digest of its key (of 128 bits), with its number."""
        self.came_from, self.words = array.array("I"), array.array("I")
        self.phrases = {}
        self.sources, self.targets, self.free = array.array("I"), array.array("I"), bytearray()
        """The moves, and whether each costs nothing: with those alone a saga comes to rest."""
        self.rests = set()
        self.ends = collections.Counter()
        self.made = 0
        self.phases = {"stage": set(), "child": set()}

    def run(self):
        began = time.process_time()
        first = self._first()
        self._add(first, 0, "")
        queue = collections.deque([first])
        here = -1
        while queue:
            world = queue.popleft()
            here += 1
            memory.use(world)
            if rules.is_at_rest(world):
                self.rests.add(here)
                self.ends[str(world.root.state)] += 1
            self._check_strays(world, here)
            memory.use(world)
            for move in list(moves(world)):
                if move.price > world.faults:
                    continue
                self.made += 1
                other = self._make(move, world, here)
                if other is None:
                    continue
                there, is_new = self._add(other, here, move.words)
                if is_new:
                    queue.append(other)
                self.sources.append(here)
                self.targets.append(there)
                self.free.append(not move.price)
        self._require_that_all_come_to_rest()
        runs = ways.count(len(self.known), self.sources, self.targets, self.rests)
        took_s = time.process_time() - began
        return Found(len(self.known), self.made, runs, self.ends, took_s, self.phases)

    def _first(self):
        first = World(self.shape, self.faults)
        memory.use(first)
        first.settle()
        return first

    def _add(self, world, came_from, words):
        digest = _digest(world)
        number = self.known.get(digest)
        if number is not None:
            return number, False
        number = self.known[digest] = len(self.known)
        self.came_from.append(came_from)
        self.words.append(self.phrases.setdefault(words, len(self.phrases)))
        return number, True

    def _make(self, move, world, here):
        """The node that the move leads to; None where a person finds that it is not possible any more."""
        other = world.copy()
        other.faults -= move.price
        memory.use(other)
        try:
            move.make(other)
            rules.check(other, world)
        except (Exception, Violation) as broken:
            if move.asks and _is_refusal(broken):
                return None
            what = broken if isinstance(broken, Violation) else f"{type(broken).__name__}: {broken}"
            raise Counterexample(what, [*self._timeline(here), move.words]) from broken
        other.settle(world)
        self._note_phases(world, other)
        return other

    def _note_phases(self, world, other):
        for kind, was in world.phases.items():
            for whose, phase in was.items():
                if (now := other.phases[kind][whose]) != phase:
                    self.phases[kind].add((str(phase), str(now)))

    def _check_strays(self, world, here):
        """D3, T3: messages of before change nothing, nor does what comes after the end; all together."""
        found = list(strays(world))
        if found and self._changed_by(found, world):
            wrong = ((self._changed_by([one], world), one) for one in found)
            what, changes = next(one for one in wrong if one[0])
            raise Counterexample(what, [*self._timeline(here), changes.words])

    def _changed_by(self, found, world):
        """What is wrong with what came of them; nothing, where nothing came of them."""
        other = world.copy()
        memory.use(other)
        for stray in found:
            try:
                stray.make(other)
            except (errors.NotAllowed, errors.TooLate):
                continue
            except Violation as broken:
                return broken
        other.settle(world)
        return "D3, T3: it comes too late, and changes something" if other.key() != world.key() else ""

    def _require_that_all_come_to_rest(self):
        """T1, T2: from wherever it is, without a further fault it may come to an end or to a person."""
        leads_to = collections.defaultdict(list)
        for source, target, free in zip(self.sources, self.targets, self.free, strict=True):
            if free:
                leads_to[target].append(source)
        fine, queue = set(self.rests), collections.deque(self.rests)
        while queue:
            for source in leads_to[queue.popleft()]:
                if source not in fine:
                    fine.add(source)
                    queue.append(source)
        for number in range(len(self.known)):
            if number not in fine:
                raise Counterexample("T2: from here it does not come to rest", self._timeline(number))

    def _timeline(self, number):
        """The moves that led to a node, each with how all stood after it."""
        numbers = [number]
        while numbers[-1]:
            numbers.append(self.came_from[numbers[-1]])
        phrases = list(self.phrases)
        digests = {number: digest for digest, number in self.known.items() if number in set(numbers)}
        world, lines = self._first(), []
        for following in numbers[-2::-1]:
            words = phrases[self.words[following]]
            memory.use(world)
            for move in [move for move in moves(world) if move.words == words]:
                other = world.copy()
                other.faults -= move.price
                memory.use(other)
                move.make(other)
                other.settle(world)
                if _digest(other) == digests[following]:
                    world = other
                    break
                memory.use(world)
            lines.append(f"{words:60} {_standing(world)}")
        return lines


def _is_refusal(error):
    """Whether a person is told that it is not possible; that the tables have no such transition is a bug."""
    refused = isinstance(error, errors.NotAllowed | errors.TooLate)
    return refused and "does not go from" not in str(error)


def _digest(world):
    return hashlib.blake2b(marshal.dumps(world.key(), 2), digest_size=16).digest()


def _standing(world):
    """How all stood, in a line."""
    return "; ".join(
        f"{world.label(saga)}{saga.state}: "
        + ", ".join(f"{step.name} {step.state}" for step in world.steps[pk] if step.state != "pending")
        for pk, saga in world.sagas.items()
    )
