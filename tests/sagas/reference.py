"""What a saga of steps in a row must do, told a second time: no rows, no messages, no clocks.

It hears of each call of a step's function and of each act of somebody else, says whether that may be, and
where the saga stands then. tests/sagas/test_stateful.py compares the engine's rows with it.
"""

import collections
import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
    """What the declaration says of a step."""

    name: str
    kind: str
    remote: bool
    asks: bool = False
    waits: bool = False
    persons: int = 0
    """Of an approval, how many must say yes; no worker carries it out."""

    lapse: str = ""
    """Of an approval, what it means that nobody answers: "refuse" or "attention"."""

    children: int = 0
    """Of a step that is a saga for each element of a list, how many there are; each has one step, `child`."""

    child: "Step | None" = None


class Reference:
    """One saga.

    Arguments:
        steps: in their order; those that can be undone, then perhaps the pivot, then the rest.
        attempts: how often an action is tried.
        undo_attempts: how often an undo is.
    """

    def __init__(self, steps, *, attempts, undo_attempts):
        self.steps = steps
        self.budget = {"do": attempts, "undo": undo_attempts}
        self.tried = collections.Counter()
        self.at = 0
        self.done, self.undone, self.left = [], [], []
        """By name: done, undone, and on the way back what is still to be undone, the next one last."""

        self.backward = False
        self.doubt = self.waiting = self.stuck = self.asked = False
        """Of the step at hand: it may have happened; it has begun; it needs a person; it was asked about."""

        self.lost = False
        """Whether the worker that tried it is gone, and holds its lease still."""

        self.late = False
        """Whether it needs a person because its time is over."""

        self.turns = False
        """Whether the next to look at it turns it round."""

        self.said_yes = set()
        """Who has approved the step at hand."""

        self.family = []
        """The children, once the step that has them has begun."""

    # --- Where it stands --------------------------------------------------------------------------

    @property
    def step(self):
        """The step at hand; None at the end."""
        by_name = {step.name: step for step in self.steps}
        if self.backward:
            return by_name[self.left[-1]] if self.left else None
        return self.steps[self.at] if self.at < len(self.steps) else None

    @property
    def state(self):
        """The state of the saga's row."""
        if self.step is None:
            return "compensated" if self.backward else "completed"
        if self.in_need is not None:
            return "needs_attention"
        return "compensating" if self.backward else "running"

    @property
    def in_need(self):
        """What needs a person: the saga itself, or the child that is in its way; None for nothing."""
        if self.stuck:
            return self
        here = self.family if self.step is not None and self.step.children else []
        return next((child for child in here if child.stuck), None)

    @property
    def keeps_children(self):
        """Whether nothing undoes any more what its children did: then those have completed."""
        kinds = [step.kind for step in self.steps]
        return not self.backward and (
            self.step is None or "pivot" in kinds[: self.at] or "retriable" in kinds[: self.at + 1]
        )

    @property
    def past_pivot(self):
        """Whether nothing can be undone any more, or nobody knows (P1, P4)."""
        if self.backward or self.step is None:
            return False
        kinds = [step.kind for step in self.steps[: self.at + 1]]
        open_ = self.doubt or self.waiting or self.lost or self.stuck
        return "retriable" in kinds or "pivot" in kinds[:-1] or (kinds[-1] == "pivot" and open_)

    # --- What the engine does ---------------------------------------------------------------------

    def called(self, function, name):
        """A function is called: only the step at hand's, in the saga's direction, and asked first (U2)."""
        if self.turns and function == "undo":
            self.turn()
        assert self.step is not None, f"T3: {function} {name} after the end"
        assert not self.stuck, f"{function} {name} while it needs a person"
        assert not self.lost, f"D6: {function} {name} while another worker holds the lease"
        assert (function == "undo") == self.backward, f"O2: {function} {name} in the wrong direction"
        assert name == self.step.name, f"O1: {function} {name}, and {self.step.name} is at hand"
        assert not self.turns, f"O2: {function} {name}, and it is to be undone"
        if function == "do":
            assert not (self.doubt and self.step.asks), f"U2: {name} may have happened, and nobody asked"
            assert not self.waiting, f"{name} has begun"
        if not self.waiting and not self.asked:
            self.tried["undo" if self.backward else "do", name] += 1
        self.asked = function == "ask"

    def answered(self, answer, *, ended=False):
        """The function has returned, or has not: `well`, `begun`, `miss`, or how it failed.

        Arguments:
            answer: what came of the call.
            ended: of a question, whether the wait's limit is over.
        """
        step, function = self.step, "undo" if self.backward else "do"
        spent = self.tried[function, step.name] >= self.budget[function]
        if answer == "miss" and not self.waiting:
            self.doubt = False  # The same attempt does it now.
            return
        self.asked = False
        if answer == "die":
            self.lost, self.doubt = True, self.doubt or step.remote
        elif self.backward:
            if answer == "well":
                self._undone()
            elif spent:
                self.stuck = True
        elif answer == "well":
            self._done()
        elif answer == "begun":
            self.waiting, self.doubt = True, False
            if ended:
                self._failed(provable=False)
        elif answer in ("fail", "miss"):
            self._failed(provable=True)
        else:
            self.doubt = self.doubt or (step.remote and answer != "flake")
            if spent:
                self._failed(provable=not self.doubt)

    def lease_over(self):
        """The worker that vanished counts as lost: the step is tried again, within its budget."""
        function = "undo" if self.backward else "do"
        if not self.lost:
            return
        self.lost = False
        if self.tried[function, self.step.name] < self.budget[function]:
            return
        if self.backward:
            self.stuck = True
        else:
            self._failed(provable=not self.step.remote)

    def wait_over(self):
        """What it waits for has not come. Who can be asked is asked; else it has failed."""
        if self.step.persons:
            if self.step.lapse == "refuse":
                self.refused()
            else:
                self.stuck = True
        elif not self.step.asks:
            self.turns = True

    def deadline_over(self):
        """Round where that is still possible, else to a person."""
        if self.backward or self.past_pivot:
            self.lost, self.stuck, self.late = False, True, True
        else:
            self.turn()

    # --- What others do -----------------------------------------------------------------------------

    def cancelled(self):
        """Whether a cancellation is accepted; a worker that is at the step ends its attempt first."""
        if self.step is None or self.past_pivot:
            return False
        if self.lost and not self.backward:
            self.turns = True
        elif not self.backward:
            self.turn()
        return True

    def told(self, name):
        """A callback says that the step is done."""
        if not self.backward and self.step and self.step.name == name and self.waiting:
            self._done()

    def approved(self, person):
        """Whether a yes is accepted: each counts once."""
        if person in self.said_yes:
            return False
        self.said_yes.add(person)
        self.stuck = False
        if len(self.said_yes) == self.step.persons:
            self._done()
        return True

    def refused(self):
        """Somebody says no, or nobody has answered: it has failed, and there is nothing to undo."""
        self.waiting = False
        self.turn()

    def resumed(self):
        """A person has it tried once more."""
        self.stuck = self.late = False

    def resolved(self, *, happened):
        """A person says what became of the step at hand."""
        self.stuck = self.late = False
        if self.backward:
            if happened:
                self._undone()
        elif happened:
            self._done()
        elif self.step.kind == "retriable":
            self.doubt = False
        else:
            self.turn()

    # --- Children -------------------------------------------------------------------------------------

    def hear(self):
        """What its children make of it: done, or undone, once all are; and one that fails is enough."""
        if self.step is None or not self.step.children:
            return
        if self.backward:
            if all(child.state == "compensated" for child in self.family):
                self._undone()
        elif any(child.backward for child in self.family):
            self.turn()
        elif all(child.step is None for child in self.family):
            self._done()

    def _tell_children(self):
        """They are not wanted any more: each turns when somebody looks at it, or its attempt has ended."""
        for child in self.family:
            child.turns = not child.backward

    # --- Moves ----------------------------------------------------------------------------------------

    def _done(self):
        self.done.append(self.step.name)
        self.at += 1
        self.doubt = self.waiting = False
        if self.step is not None:
            self._begin()

    def _begin(self):
        """A step without a worker begins when its turn comes: people are asked, or children begin."""
        self.waiting = bool(self.step.persons)
        if self.step.children:
            budget = {"attempts": self.budget["do"], "undo_attempts": self.budget["undo"]}
            self.family = [Reference([self.step.child], **budget) for _ in range(self.step.children)]

    def _failed(self, *, provable):
        if self.step.kind == "compensatable" or (self.step.kind == "pivot" and provable):
            self.turn()
        else:
            self.stuck, self.waiting, self.doubt = True, False, not provable

    def turn(self):
        """What was done, and what may have been, is undone, the last one first (O1)."""
        if self.step is not None and self.step.persons and self.waiting:
            self.undone.append(self.step.name)  # Nobody is asked any more.
        self.left = [
            step.name
            for step in self.steps[: self.at + 1]
            if step.kind == "compensatable" and not step.persons and self._may_have_happened(step)
        ]
        self.backward = True
        self.doubt = self.waiting = self.stuck = self.lost = self.turns = self.asked = False
        self._go_back()

    def _may_have_happened(self, step):
        tried = step.remote and self.tried["do", step.name]
        return step.name in self.done or tried or (step.children and self.family)

    def _undone(self):
        self.undone.append(self.left.pop())
        self.doubt = False
        self._go_back()

    def _go_back(self):
        if self.step is not None and self.step.children:
            self._tell_children()
