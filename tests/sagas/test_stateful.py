"""The engine on PostgreSQL beside a model of it, by chance: whatever is done to a saga, both say the same.

Hypothesis chooses a saga's steps, what is done to it, and what the world answers. A worker that dies in a
local step, steps at once and children are left to the simulator and the explorer. To go on for longer:

    STATEFUL_EXAMPLES=2000 make pytest ARGS="-n 0 tests/sagas/test_stateful.py"
"""

import collections
import contextlib
import dataclasses
import datetime
import itertools
import os

import hypothesis
import pytest
from django.db import transaction
from hypothesis import stateful
from hypothesis import strategies as st

from sagas import Retry, Saga, Step, Wait, engine, errors
from sagas.declaration import registry
from sagas.engine import transport
from sagas.testing import clocks, crashes, memory_transport
from tests.sagas import conftest, harness, reference, rules
from tests.sagas.sample_app import functions

LONG = "STATEFUL_EXAMPLES" in os.environ
EXAMPLES = int(os.environ.get("STATEFUL_EXAMPLES", "6"))
ACTS = 20
ATTEMPTS, UNDO_ATTEMPTS = 2, 3

MINUTE = datetime.timedelta(minutes=1)
DAY = datetime.timedelta(days=1)
A_LEASE = MINUTE
"""Longer than any lease; and a hundred of them are shorter than a wait, a hundred waits than a deadline."""

WHO = {"actor": "somebody", "reason": "by chance"}
ANSWERS = ["well", "well", "well", "begun", "fail", "flake", "lose", "drop", "die", "perish"]

numbers = itertools.count(1)


@dataclasses.dataclass
class Account:
    """What a provider knows of a key."""

    made: int = 0
    unmade: int = 0
    begun: bool = False
    closed: bool = False


class World:
    """The steps' functions. Each call is told to the model, and answered as the example wants."""

    def __init__(self, steps, model):
        self.steps = {step.name: step for step in steps}
        self.model = model
        self.accounts = collections.defaultdict(Account)
        self.answer = "well"
        self.wait_ended = False

    def do(self, key, *, local=False):
        step = self.steps[key.split(".")[1]]
        self.model.called("do", step.name)
        answer = self._take()
        if local:
            # What dies in a local step is rolled back: tests/sagas/test_crashes.py.
            answer = answer if answer in ("well", "begun", "fail") else "flake"
            answer = "well" if answer == "begun" else answer
            if answer == "well":
                functions.Scripted()._make(key, local=True)
            return self._react(answer)
        account = self.accounts[key]
        if answer == "begun" and not step.waits:
            answer = "well"
        if answer == "fail" and (account.made or account.begun):
            answer = "flake"  # A provider does not refuse what it has done.
        if answer in ("well", "begun", "lose", "perish") and not account.closed and not account.made:
            account.begun = step.waits and (account.begun or answer != "well")
            account.made = 0 if account.begun else 1
        if answer in ("well", "begun"):
            answer = "begun" if account.begun else "well"
        self._react(answer)
        return {"settled": bool(account.made)}

    def undo(self, key, *, local=False):
        self.model.called("undo", key.split(".")[1])
        answer = {"begun": "well", "fail": "flake", "drop": "flake"}.get(answer := self._take(), answer)
        if local:
            answer = answer if answer == "well" else "flake"
        if answer in ("well", "lose", "perish"):
            if local:
                functions.Scripted()._unmake(key, local=True)
            else:
                account = self.accounts[key]
                account.closed, account.begun, account.unmade = True, False, account.made
        self._react(answer)

    def ask(self, key):
        self.model.called("ask", key.split(".")[1])
        account = self.accounts[key]
        answer = "well" if account.made else "begun" if account.begun else "miss"
        self.model.answered(answer, ended=self.wait_ended)
        return None if answer == "miss" else {"settled": bool(account.made)}

    def _take(self):
        answer, self.answer = self.answer, "well"
        return answer

    def _react(self, answer):
        self.model.answered("die" if answer == "perish" else answer)
        if answer == "fail":
            raise functions.Refused("no")
        if answer == "flake":
            raise functions.Unavailable("later")
        if answer in ("lose", "drop"):
            raise functions.Unknown("nobody knows")
        if answer in ("die", "perish"):
            raise crashes.Crash


@st.composite
def rows_of_steps(draw):
    """Steps that can be undone, perhaps a pivot, then some that can only be done."""
    kinds = ["compensatable"] * draw(st.integers(1, 3))
    kinds += ["pivot"] * draw(st.integers(0, 1)) + ["retriable"] * draw(st.integers(0, 1))
    return [draw(one_step("abcde"[number], kind)) for number, kind in enumerate(kinds)]


@st.composite
def one_step(draw, name, kind):
    remote = kind == "pivot" or draw(st.booleans())
    return reference.Step(
        name=name,
        kind=kind,
        remote=remote,
        asks=remote and draw(st.booleans()),
        waits=remote and kind == "compensatable" and draw(st.booleans()),
    )


def declare(steps):
    """The saga that the model's steps are."""
    return registry.add(
        Saga(
            name=f"stateful-{next(numbers)}",
            steps=[_declared(step) for step in steps],
            retry=_retry(ATTEMPTS),
            undo_retry=_retry(UNDO_ATTEMPTS),
            refused=[functions.Refused],
            unknown=[functions.Unknown],
            deadline=400 * DAY,
            undo_deadline=400 * DAY,
        )
    )


def _retry(attempts):
    return Retry(on=[functions.Unavailable], attempts=attempts, first=0 * MINUTE)


def _declared(step):
    undo = functions.cancel if step.remote else functions.unmake
    return Step(
        step.name,
        functions.book if step.remote else functions.make,
        undo=undo if step.kind == "compensatable" else None,
        ask=functions.look_up if step.asks else None,
        kind=step.kind,
        remote=step.remote,
        queue="world" if step.remote else "toys",
        timeout=datetime.timedelta(seconds=5),
        wait=Wait(until="settled", limit=2 * DAY) if step.waits else None,
    )


class OneSaga(stateful.RuleBasedStateMachine):
    """Everything that may happen to one saga."""

    @stateful.initialize(steps=rows_of_steps())
    def begin(self, steps):
        self.broker = memory_transport.MemoryTransport()
        self.model = reference.Reference(steps, attempts=ATTEMPTS, undo_attempts=UNDO_ATTEMPTS)
        self.world = World(steps, self.model)
        self.open = contextlib.ExitStack()
        self.open.enter_context(transport.use(self.broker))
        self.open.callback(setattr, functions, "WORLD", functions.WORLD)
        functions.WORLD = self.world
        with transaction.atomic():
            self.saga = engine.begin(declare(steps), key=f"key-{next(numbers)}", inputs={}, actor="test")

    def teardown(self):
        if not hasattr(self, "saga"):
            return
        try:
            self._rest()
        finally:
            self.open.close()
            conftest.clear()

    # --- Messages -----------------------------------------------------------------------------------

    def _waiting(self):
        return bool(self.broker.waiting)

    @stateful.precondition(_waiting)
    @stateful.rule(place=st.integers(0, 3), answer=st.sampled_from(ANSWERS))
    def deliver(self, place, answer):
        message = self.broker.waiting.pop(place % len(self.broker.waiting))
        self._carry_out(message, answer)

    def _steps_waiting(self):
        return harness.step_messages(self.broker) and self._next_step() is not None

    def _next_step(self):
        kind = memory_transport.StepMessage
        return next((message for message in self.broker.waiting if isinstance(message, kind)), None)

    @stateful.precondition(_steps_waiting)
    @stateful.rule(answers=st.lists(st.sampled_from(ANSWERS), min_size=1, max_size=4))
    def go_on(self, answers):
        """Some steps, one after the other: what a calm minute brings."""
        for answer in answers:
            if (message := self._next_step()) is None:
                engine.sweep()
            else:
                self.broker.waiting.remove(message)
                self._carry_out(message, answer)
                self.rows_are_as_the_model_says()

    @stateful.precondition(_waiting)
    @stateful.rule(place=st.integers(0, 3))
    def drop(self, place):
        self.broker.waiting.pop(place % len(self.broker.waiting))

    @stateful.precondition(_waiting)
    @stateful.rule(place=st.integers(0, 3))
    def double(self, place):
        self.broker.waiting.append(self.broker.waiting[place % len(self.broker.waiting)])

    @stateful.rule(place=st.integers(0, 20), answer=st.sampled_from(ANSWERS))
    def come_again(self, place, answer):
        """A message that was sent at any time comes, perhaps once more."""
        if self.broker.sent:
            self._carry_out(self.broker.sent[place % len(self.broker.sent)], answer)

    def _carry_out(self, message, answer="well"):
        self.world.answer = answer
        with contextlib.suppress(crashes.Crash):
            self.broker.carry_out(message)
        self.world.answer = "well"

    # --- Clocks -------------------------------------------------------------------------------------

    @stateful.rule()
    def sweep(self):
        engine.sweep()

    @stateful.rule()
    def a_lease_ends(self):
        self._pass(A_LEASE)
        self.model.lease_over()

    def _may_tire(self):
        return self.model.waiting and not self.model.backward and not self.world.wait_ended

    @stateful.precondition(_may_tire)
    @stateful.rule()
    def a_wait_ends(self):
        self.world.wait_ended = True
        self._pass(3 * DAY)
        self.model.wait_over()

    def _has_not_ended(self):
        return self.model.step is not None and not self.model.stuck and not self.model.turns

    @stateful.precondition(_has_not_ended)
    @stateful.rule()
    def its_deadline_passes(self):
        self.model.deadline_over()
        self._pass(500 * DAY)

    def _pass(self, span):
        clocks.pass_time(span)
        engine.sweep()

    # --- People and providers -----------------------------------------------------------------------

    @stateful.rule()
    def its_owner_cancels(self):
        accepted = self.model.cancelled()
        if accepted:
            engine.cancel(self.saga.pk, **WHO)
        else:
            with pytest.raises(errors.TooLate):
                engine.cancel(self.saga.pk, **WHO)

    def _may_be_compensated(self):
        model = self.model
        return model.step and not (model.backward or model.past_pivot or model.turns)

    @stateful.precondition(_may_be_compensated)
    @stateful.rule()
    def an_operator_compensates(self):
        engine.compensate(self.saga.pk, seen=engine.look(self.saga.pk), **WHO)
        self.model.cancelled()

    def _stuck(self):
        return self.model.stuck

    @stateful.precondition(_stuck)
    @stateful.rule()
    def an_operator_resumes(self):
        engine.resume(self.saga.pk, seen=engine.look(self.saga.pk), **WHO)
        self.model.resumed()

    def _can_be_resolved(self):
        return self.model.stuck and self.model.step.remote

    @stateful.precondition(_can_be_resolved)
    @stateful.rule()
    def an_operator_resolves(self):
        """He looks into the provider's books, and says what is true."""
        step = self.model.step
        account = self.world.accounts[f"{self.saga.pk}.{step.name}"]
        happened = account.closed if self.model.backward else bool(account.made)
        try:
            engine.resolve(
                self.saga.pk, seen=engine.look(self.saga.pk), happened=happened,
                facts={"settled": True} if happened and step.waits else None, **WHO,
            )  # fmt: skip
        except errors.NotAllowed:
            tried = self.model.tried["undo" if self.model.backward else "do", step.name]
            assert self.model.late, "nobody may say what became of what is in doubt"
            assert not tried, "it may have happened, and nobody may say so"
            return  # Its time was over before there was anything to doubt.
        if not happened and not self.model.backward and step.kind != "retriable":
            account.closed = True
        self.model.resolved(happened=happened)

    def _settling(self):
        """What has begun, unless nobody waits for it any more, or will not from the next look on."""
        ready = not (self.world.wait_ended or self.model.turns)
        return [key for key, account in self.world.accounts.items() if account.begun and ready]

    @stateful.precondition(lambda self: bool(self._settling()))
    @stateful.rule(times=st.integers(1, 2))
    def a_provider_calls_back(self, times):
        key = self._settling()[0]
        account = self.world.accounts[key]
        account.begun, account.made = False, 1
        for _ in range(times):
            engine.receive(source="world", event_id=f"settled {key}", key=key, facts={"settled": True})
        self.model.told(key.split(".")[1])

    # --- What must hold -------------------------------------------------------------------------------

    @stateful.invariant()
    def rows_are_as_the_model_says(self):
        if not hasattr(self, "saga"):
            return
        assert self.broker.bugs == []
        self.saga.refresh_from_db()
        if self.saga.direction == -1 and self.model.turns:
            self.model.turn()
        if not (self.model.waiting and not self.model.backward):
            self.world.wait_ended = False
        standing = {row.name: row.state for row in self.saga.steps.all()}
        undone = {name for name, state in standing.items() if state == "undone"}
        done = {name for name, state in standing.items() if state == "done"}
        assert (self.saga.direction == -1) == self.model.backward
        assert self.saga.state == self.model.state
        assert undone == set(self.model.undone)
        assert done == set(self.model.done) - undone - self._being_undone(standing)
        for name, (made, unmade) in self._books().items():
            assert made <= 1, f"E1: {name} was done twice"
            assert unmade <= made, f"E2: {name} was undone, and not done"

    def _being_undone(self, standing):
        return {name for name, state in standing.items() if state in ("undoing", "undo_failed")}

    def _books(self):
        local = harness.books(self.saga)
        return {
            step.name: (account.made, account.unmade) if step.remote else local[step.name]
            for step in self.world.steps.values()
            for account in [self.world.accounts[f"{self.saga.pk}.{step.name}"]]
        }

    def _rest(self):
        """All heals: it ends, as the model does; and what comes after that changes nothing."""
        for _ in range(600):
            self.rows_are_as_the_model_says()
            if self.model.step is None:
                break
            if self.model.stuck:
                self.an_operator_resumes()
            elif self.broker.waiting:
                self._carry_out(self.broker.waiting.pop(0))
            elif self._settling():
                self.a_provider_calls_back(1)
            elif self.model.lost:
                self.a_lease_ends()
            else:
                clocks.skip()
                engine.sweep()
        else:
            told = {name: value for name, value in vars(self.model).items() if value}
            raise AssertionError(f"T2: {self.saga.state} for ever, {told}")
        rules.check(self.saga, self._books())
        before = rules.snapshot(self.saga)
        for message in [*self.broker.waiting[:10], *self.broker.sent[-10:]]:
            self._carry_out(message)
        engine.sweep()
        assert rules.snapshot(self.saga) == before, "T3"


def test_a_saga_does_what_the_model_does(rows):
    stateful.run_state_machine_as_test(
        OneSaga,
        settings=hypothesis.settings(
            max_examples=EXAMPLES, stateful_step_count=ACTS, deadline=None, database=None,
            suppress_health_check=list(hypothesis.HealthCheck), report_multiple_bugs=False,
            # The quick part is the same every time, and does not spend minutes on making small what it found.
            derandomize=not LONG, phases=[hypothesis.Phase.generate],
        ),
    )  # fmt: skip
