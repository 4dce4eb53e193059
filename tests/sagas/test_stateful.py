"""The engine on PostgreSQL beside a model of it, by chance: whatever is done to a saga, both say the same.

Hypothesis chooses a saga's steps, approvals and a list of children among them, what is done to it, and what
the world answers. A worker that dies in a local step, and steps at once, are left to the simulator and the
explorer. To go on for longer:

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

from sagas import Approval, ForEach, Retry, Saga, Step, Wait, engine, errors, models
from sagas.declaration import registry
from sagas.engine import children, kinds, parents, transitions, transport
from sagas.testing import clocks, crashes, memory_transport
from tests.sagas import conftest, harness, reference, rules
from tests.sagas.sample_app import functions
from tests.sagas.sample_app import saga as toys

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
        self.steps = {step.name: step for step in [*steps, *(step.child for step in steps if step.child)]}
        self.model = model
        self.saga_id = None
        """The saga's, once it has one: any other is a child's."""
        self.accounts = collections.defaultdict(Account)
        self.answer = "well"
        self.wait_ended = False

    def do(self, key, *, local=False):
        step, model = self._meant(key)
        model.called("do", step.name)
        answer = self._take()
        if local:
            # What dies in a local step is rolled back: tests/sagas/test_crashes.py.
            answer = answer if answer in ("well", "begun", "fail") else "flake"
            answer = "well" if answer == "begun" else answer
            if answer == "well":
                functions.Scripted()._make(key, local=True)
            return self._react(model, answer)
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
        self._react(model, answer)
        return {"settled": bool(account.made)}

    def undo(self, key, *, local=False):
        step, model = self._meant(key)
        model.called("undo", step.name)
        answer = {"begun": "well", "fail": "flake", "drop": "flake"}.get(answer := self._take(), answer)
        if local:
            answer = answer if answer == "well" else "flake"
        if answer in ("well", "lose", "perish"):
            if local:
                functions.Scripted()._unmake(key, local=True)
            else:
                account = self.accounts[key]
                account.closed, account.begun, account.unmade = True, False, account.made
        self._react(model, answer)

    def ask(self, key):
        step, model = self._meant(key)
        model.called("ask", step.name)
        account = self.accounts[key]
        answer = "well" if account.made else "begun" if account.begun else "miss"
        model.answered(answer, ended=self.wait_ended)
        return None if answer == "miss" else {"settled": bool(account.made)}

    def _meant(self, key):
        """The step, and the model of its saga: the one, or a child."""
        saga_id, name = key.split(".")
        if saga_id == str(self.saga_id):
            return self.steps[name], self.model
        return self.steps[name], self.model.family[models.SagaInstance.objects.get(pk=saga_id).parent_item]

    def _take(self):
        answer, self.answer = self.answer, "well"
        return answer

    def _react(self, model, answer):
        model.answered("die" if answer == "perish" else answer)
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
    steps = [draw(one_step("abcde"[number], kind)) for number, kind in enumerate(kinds)]
    last = kinds.count("compensatable")
    for extra in draw(st.permutations([approvals(), families()]))[: draw(st.integers(0, 2))]:
        steps.insert(draw(st.integers(1, last)), draw(extra))
    return steps


@st.composite
def approvals(draw):
    persons, lapse = draw(st.integers(1, 2)), draw(st.sampled_from(["refuse", "attention"]))
    return reference.Step(name="p", kind="compensatable", remote=False, persons=persons, lapse=lapse)


@st.composite
def families(draw):
    child = reference.Step(name="y", kind="compensatable", remote=True, asks=draw(st.booleans()))
    children = draw(st.integers(1, 2))
    return reference.Step(name="f", kind="compensatable", remote=False, children=children, child=child)


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
    given = ["items"] if any(step.children for step in steps) else []
    return registry.add(_saga([_declared(step) for step in steps], inputs=given))


def _saga(steps, *, inputs):
    return Saga(
        name=f"stateful-{next(numbers)}",
        steps=steps,
        inputs=inputs,
        retry=_retry(ATTEMPTS),
        undo_retry=_retry(UNDO_ATTEMPTS),
        refused=[functions.Refused],
        unknown=[functions.Unknown],
        deadline=400 * DAY,
        undo_deadline=400 * DAY,
    )


def _retry(attempts):
    return Retry(on=[functions.Unavailable], attempts=attempts, first=0 * MINUTE)


def _declared(step):
    if step.persons:
        return Approval(
            step.name, permission=toys.MAY_APPROVE, limit=2 * DAY, lapse=step.lapse, persons=step.persons
        )
    if step.children:
        return ForEach(step.name, of="items", saga=_saga([_declared(step.child)], inputs=["item"]))
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
        families = [step for step in steps if step.children]
        inputs = {"items": list(range(families[0].children))} if families else {}
        with transaction.atomic():
            self.saga = engine.begin(declare(steps), key=f"key-{next(numbers)}", inputs=inputs, actor="test")
        self.world.saga_id = self.saga.pk

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
        for model in [self.model, *self.model.family]:
            model.lease_over()

    def _may_tire(self):
        model = self.model
        return model.waiting and not (model.backward or model.stuck or self.world.wait_ended)

    @stateful.precondition(_may_tire)
    @stateful.rule()
    def a_wait_ends(self):
        self.world.wait_ended = True
        self._pass(3 * DAY)
        self.model.wait_over()

    def _has_not_ended(self):
        model = self.model
        at_children = model.step is not None and model.step.children  # They have deadlines of their own.
        return model.step is not None and not (model.stuck or model.turns or at_children)

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

    def _is_asked(self):
        model = self.model
        return bool(model.step and model.step.persons and not model.backward)

    @stateful.precondition(_is_asked)
    @stateful.rule(person=st.sampled_from(["Ann", "Ben"]), yes=st.sampled_from([True, True, False]))
    def a_person_answers(self, person, yes):
        if not yes:
            self.model.refused()
            engine.refuse(self.saga.pk, "p", actor=person, reason="no")
        elif self.model.approved(person):
            engine.approve(self.saga.pk, "p", actor=person)
            self.world.wait_ended = False
        else:
            with pytest.raises(errors.NotAllowed):
                engine.approve(self.saga.pk, "p", actor=person)

    def _in_need(self):
        return self.model.in_need is not None

    def _in_its_way(self):
        """The model of what needs a person, and its row's id: the saga's, or a child's."""
        model = self.model.in_need
        if model is self.model:
            return model, self.saga.pk
        return model, self._children()[self.model.family.index(model)].pk

    def _children(self):
        return list(models.SagaInstance.objects.filter(parent_id=self.saga.pk).order_by("parent_item"))

    @stateful.precondition(_in_need)
    @stateful.rule()
    def an_operator_resumes(self):
        model, saga_id = self._in_its_way()
        engine.resume(saga_id, seen=engine.look(saga_id), **WHO)
        model.resumed()
        self.world.wait_ended = self.world.wait_ended and not self._is_asked()

    def _can_be_resolved(self):
        return self._in_need() and self.model.in_need.step.remote

    @stateful.precondition(_can_be_resolved)
    @stateful.rule()
    def an_operator_resolves(self):
        """He looks into the provider's books, and says what is true."""
        model, saga_id = self._in_its_way()
        step = model.step
        account = self.world.accounts[f"{saga_id}.{step.name}"]
        happened = account.closed if model.backward else bool(account.made)
        try:
            engine.resolve(
                saga_id, seen=engine.look(saga_id), happened=happened,
                facts={"settled": True} if happened and step.waits else None, **WHO,
            )  # fmt: skip
        except errors.NotAllowed:
            tried = model.tried["undo" if model.backward else "do", step.name]
            assert model.late, "nobody may say what became of what is in doubt"
            assert not tried, "it may have happened, and nobody may say so"
            return  # Its time was over before there was anything to doubt.
        if not happened and not model.backward and step.kind != "retriable":
            account.closed = True
        model.resolved(happened=happened)

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
        self._children_are_as_the_model_says()
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

    def _children_are_as_the_model_says(self):
        rows = self._children()
        assert len(rows) == len(self.model.family)
        for row, child in zip(rows, self.model.family, strict=True):
            if row.direction == -1 and child.turns:
                child.turn()
        self.model.hear()
        for row, child in zip(rows, self.model.family, strict=True):
            done = "completed" if self.model.keeps_children else "running"
            state = done if child.step is None and not child.backward else child.state
            assert (row.state, row.direction == -1) == (state, child.backward), f"child {row.parent_item}"

    def _being_undone(self, standing):
        return {name for name, state in standing.items() if state in ("undoing", "undo_failed")}

    def _books(self, saga=None):
        saga = saga or self.saga
        return {
            name: (account.made, account.unmade) if self.world.steps[name].remote else made
            for name, made in harness.books(saga).items()
            for account in [self.world.accounts[f"{saga.pk}.{name}"]]
        }

    def _rest(self):
        """All heals: it ends, as the model does; and what comes after that changes nothing."""
        for _ in range(600):
            self.rows_are_as_the_model_says()
            if self.model.step is None:
                break
            if self._in_need():
                self.an_operator_resumes()
            elif self._is_asked():
                self.a_person_answers(["Ann", "Ben"][len(self.model.said_yes)], yes=True)
            elif self.broker.waiting:
                self._carry_out(self.broker.waiting.pop(0))
            elif self._settling():
                self.a_provider_calls_back(1)
            elif any(model.lost for model in [self.model, *self.model.family]):
                self.a_lease_ends()
            else:
                clocks.skip()
                engine.sweep()
        else:
            told = {name: value for name, value in vars(self.model).items() if value}
            raise AssertionError(f"T2: {self.saga.state} for ever, {told}")
        rules.check(self.saga, self._books())
        for child in self._children():
            rules.check(child, self._books(child))
        before = rules.snapshot(self.saga)
        for message in [*self.broker.waiting[:10], *self.broker.sent[-10:]]:
            self._carry_out(message)
        engine.sweep()
        assert rules.snapshot(self.saga) == before, "T3"


class OneOfAFew(OneSaga):
    """The same for an approval, or children, between two steps."""

    @stateful.initialize(extra=st.one_of(approvals(), families()))
    def begin(self, extra):
        ends = [reference.Step(name=name, kind="compensatable", remote=name == "b") for name in "ab"]
        super().begin([ends[0], extra, ends[1]])


def run(machine, examples):
    stateful.run_state_machine_as_test(
        machine,
        settings=hypothesis.settings(
            max_examples=examples, stateful_step_count=ACTS, deadline=None, database=None,
            suppress_health_check=list(hypothesis.HealthCheck), report_multiple_bugs=False,
            # The quick part is the same every time, and does not spend minutes on making small what it found.
            derandomize=not LONG, phases=[hypothesis.Phase.generate],
        ),
    )  # fmt: skip


def test_a_saga_does_what_the_model_does(rows):
    run(OneSaga, EXAMPLES)


def one_of_two_persons_is_enough(work, facts, **event):
    transitions.finish_step(work, {"approvals": [event], "approved": True})
    return transitions.advance(work)


PLANTED = {
    "one of two persons is enough": (transitions, "approve", one_of_two_persons_is_enough),
    "a child completes before its parent": (children, "ends_with_parent", lambda saga: False),
    "a child that fails is not minded": (parents, "_failed", lambda step: "keep"),
    "a lapsed approval is not refused": (transitions, "lapse", lambda work: kinds.Next.STOP),
}


@pytest.mark.thorough
@pytest.mark.timeout(600)
@pytest.mark.parametrize("fault", PLANTED)
def test_what_is_planted_in_the_engine_is_found(rows, monkeypatch, fault):
    monkeypatch.setattr(*PLANTED[fault])

    with pytest.raises(AssertionError):
        run(OneOfAFew, 60)
