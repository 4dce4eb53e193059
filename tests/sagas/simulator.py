"""A small world gone wrong, by a seed: messages lost, doubled and shuffled, crashes, cancels, callbacks.

Sagas of random shapes run on the real database. A remote function is a conversation with a provider that
has books of its own; in the middle of it anything else may happen, its lease's end included. When the
seed has had its way everything heals, and every rule must hold (tests/sagas/rules.py).
"""

import collections
import contextlib
import dataclasses
import datetime
import random

from django.db import DatabaseError, connection, transaction

from sagas import Approval, Child, ForEach, Parallel, Retry, Saga, Step, Wait, engine, errors, models
from sagas.declaration import registry
from sagas.engine import dispatching, pacing, transport
from sagas.testing import clocks, crashes, memory_transport
from tests.sagas import rules
from tests.sagas.sample_app import functions
from tests.sagas.sample_app import models as toys

SECOND = datetime.timedelta(seconds=1)
HOUR = datetime.timedelta(hours=1)
WHO = {"actor": "chance", "reason": "the seed wants it"}


class Violation(BaseException):
    """A rule is broken. In a function, the engine would take an Exception for the function's own bug."""


@dataclasses.dataclass
class Account:
    """What the provider knows of a key."""

    made: int = 0
    unmade: int = 0
    closed: bool = False
    """The tombstone: no later action takes effect."""

    begun: bool = False
    """It will take effect when somebody settles it."""

    doubt: bool = False
    """Whether the last action may have happened, as far as the caller can know (U2)."""


@dataclasses.dataclass(frozen=True)
class Call:
    """An action that is being done at this moment."""

    key: str
    until: datetime.datetime
    """The end of its lease, on the simulator's own clock."""


class Simulation:
    """One run of a seed."""

    def __init__(self, seed, *, inline=False, sagas=3, actions=110):
        self.chance = random.Random(seed)
        random.seed(seed)  # The engine's own chance: jitter.
        self.seed, self.actions = seed, actions
        self.broker = memory_transport.MemoryTransport(
            chance=self.chance,
            lose=self.chance.choice([0, 0.02, 0.15]),
            double=self.chance.choice([0, 0.05, 0.2]),
            shuffle=self.chance.random() < 0.7,
            redeliver=self.chance.random() < 0.5,
            # Where the lane ends is one more thing that may happen anywhere.
            inline=(lambda: self.chance.random() < 0.8) if inline else None,
            full=lambda: self.chance.random() < 0.4,
        )
        self.provider = collections.defaultdict(Account)
        self.inflight = []
        """Requests whose sender gave up: they arrive all the same, some day."""
        self.callbacks = []
        self.calls = []
        self.depth = 0
        self.shifted = datetime.timedelta(0)
        self.unruly = True
        self.doomed = False
        """Whether whoever does something now dies of it."""
        self.trace = []
        self.declared = [registry.add(self._shape(number)) for number in range(sagas)]
        self.sagas = []
        self.failures = {}

    def run(self):
        """Let the seed have its way; then heal, and check the rules."""
        before, functions.WORLD = functions.WORLD, self
        window, dispatching.WINDOW = dispatching.WINDOW, self.chance.randint(1, 4)
        full, pacing.FULL = pacing.FULL, 1
        look_again_s, pacing.LOOK_AGAIN_S = pacing.LOOK_AGAIN_S, 0
        try:
            with transport.use(self.broker):
                for _ in range(self.actions):
                    self._act()
                self._heal()
                self._check()
        finally:
            functions.WORLD, dispatching.WINDOW = before, window
            pacing.FULL, pacing.LOOK_AGAIN_S = full, look_again_s

    # --- Shapes -------------------------------------------------------------------------------

    def _shape(self, number):
        chance = self.chance
        undoable, pivots, only_on = chance.randint(0, 4), chance.randint(0, 1), chance.randint(0, 3)
        kinds = ["compensatable"] * undoable + ["pivot"] * pivots + ["retriable"] * only_on
        kinds = kinds or ["compensatable"]
        undoable = kinds.count("compensatable")
        steps = [self._step("abcdefgh"[n], kind) for n, kind in enumerate(kinds)]
        if chance.random() < 0.4:
            self._insert_family(steps, number, undoable, pivots)
        if chance.random() < 0.25:
            steps.insert(chance.randint(0, undoable), self._approval())
        return self._saga(f"sim-{self.seed}-{number}", self._stages(steps), ["yes", "items"])

    def _saga(self, name, steps, inputs):
        chance = self.chance
        return Saga(
            name=name,
            steps=steps,
            inputs=inputs,
            retry=self._retry(chance.randint(2, 4)),
            undo_retry=self._retry(chance.randint(4, 6)),
            refused=[functions.Refused],
            unknown=[functions.Unknown],
            outage=[functions.KeyExpired],
            deadline=chance.choice([HOUR, 24 * HOUR]),
            on_completed=functions.completed,
            on_compensated=functions.compensated,
            on_attention=functions.attention,
        )

    def _insert_family(self, steps, number, undoable, pivots):
        """Somewhere among the steps one that has children, of whatever kind may stand there."""
        chance = self.chance
        kind = chance.choice(["compensatable", "compensatable", "retriable", "pivot"])
        if kind == "compensatable":
            steps.insert(chance.randint(0, undoable), self._family(number, kind))
        elif kind == "retriable":
            steps.insert(chance.randint(undoable + pivots, len(steps)), self._family(number, kind))
        elif pivots:
            steps[undoable] = self._family(number, kind)

    def _family(self, number, kind, *, nested=False):
        chance = self.chance
        one = nested or kind == "pivot" or chance.random() < 0.3
        many = chance.randint(1, 3)
        kinds = ["compensatable"] * many
        if kind != "compensatable" and chance.random() < 0.5:
            kinds = sorted(chance.choice(["compensatable", "retriable"]) for _ in range(many))
        steps = [self._step("xyz"[n], each) for n, each in enumerate(kinds)]
        if not nested and chance.random() < 0.15:
            grandchild = self._family(f"{number}-child", "compensatable", nested=True)
            steps.insert(chance.randint(0, kinds.count("compensatable")), grandchild)
        inputs = ["yes"] if one else ["yes", "item"]
        child = self._saga(f"sim-{self.seed}-{number}-child", steps, inputs)
        common = {"saga": child, "inputs": ["yes"], "kind": kind, **self._condition(0.1)}
        if one:
            return Child("family", **common)
        limit, need = chance.randint(0, 1), chance.choice(["all", "all", 1, 2])
        failed = chance.choice(["compensate", "keep"])
        rest = "finish" if (need, failed) == (1, "compensate") else "cancel"
        return ForEach("family", of="items", limit=limit, need=need, rest=rest, failed=failed, **common)

    def _stages(self, steps):
        """Some of them at once: two or three neighbours, which are of one kind and no pivot."""
        stages, left = [], list(steps)
        while left:
            many = self.chance.choice([1, 1, 2, 3])
            members = [step for step in left[:many] if step.kind == left[0].kind != "pivot"]
            if len(members) > 1:
                undo = self.chance.choice(["together", "reverse"])
                name = f"stage-{len(stages)}"
                stages.append(Parallel(name, steps=members, undo=undo, **self._condition(0.1, members)))
            else:
                members = left[:1]
                stages += members
            del left[: len(members)]
        return stages

    def _condition(self, share, members=()):
        """Perhaps one; of a stage, none that a member contradicts."""
        if any(member.when or member.unless for member in members) or self.chance.random() >= share:
            return {}
        return {self.chance.choice(["when", "unless"]): "yes"}

    def _approval(self):
        chance = self.chance
        return Approval(
            "review",
            permission="world.review",
            limit=600 * SECOND,
            remind=[60 * SECOND] * chance.randint(0, 1),
            lapse=chance.choice(["refuse", "approve", "attention"]),
            persons=chance.randint(1, 2),
            **self._condition(0.2),
        )

    def _step(self, name, kind):
        chance = self.chance
        remote = chance.random() < 0.6
        ask = functions.look_up if remote and chance.random() < 0.5 else None
        poll = 10 * SECOND if ask and chance.random() < 0.5 else None
        waits = remote and chance.random() < 0.3
        undo = functions.cancel if remote else functions.unmake
        return Step(
            name,
            functions.book if remote else functions.make,
            undo=undo if kind == "compensatable" else None,
            ask=ask,
            kind=kind,
            remote=remote,
            queue="world" if remote else "toys",
            timeout=5 * SECOND,
            wait=Wait(until="settled", limit=600 * SECOND, poll=poll) if waits else None,
            **self._condition(0.15),
        )

    def _retry(self, attempts):
        first = self.chance.choice([0, 1, 5]) * SECOND
        return Retry(on=[functions.Unavailable], attempts=attempts, first=first)

    # --- What may happen ----------------------------------------------------------------------

    def _act(self):
        acts = {
            self._deliver: 50,
            self._sweep: 10,
            self._wait_a_little: 8,
            self._wait_long: 2,
            self._replay: 4,
            self._false_alarm: 2,
            self._cancel: 1.5,
            self._operate: 2,
            self._answer: 3,
            self._settle: 5,
            self._tell: 6,
            self._arrive: 4,
            self._crash: 5,
            self._begin: 12,
        }
        act = self.chance.choices(list(acts), list(acts.values()))[0]
        self._say(act.__name__.strip("_"))
        with contextlib.suppress(crashes.Crash, DatabaseError, errors.SagaError):
            act()

    def _say(self, *words):
        self.trace.append("  " * self.depth + " ".join(str(word) for word in words))

    def _deliver(self):
        if not self.broker.deliver():
            left = clocks.until_due()
            if left is not None and left < 60 * SECOND:
                self._pass(left + clocks.A_MOMENT)
                engine.sweep()

    def _sweep(self):
        engine.sweep()

    def _wait_a_little(self):
        self._pass(self.chance.choice([0.5, 3, 10, 30]) * SECOND)

    def _wait_long(self):
        self._pass(self.chance.choice([120 * SECOND, 900 * SECOND, 2 * HOUR, 30 * HOUR]))

    def _pass(self, span):
        self._say("passes", span)
        clocks.pass_time(span)
        self.shifted += span

    def _replay(self):
        """A message comes once more, an hour late."""
        if not self.broker.sent:
            return
        message = self.chance.choice(self.broker.sent)
        # Inline, its worker carries on what stands in a line as well, and that may be the same saga.
        idle = not models.SagaInstance.objects.filter(in_line_for__isnull=False).exists()
        void = self._void(message) if idle else None
        before = rules.snapshot(void) if void else None
        self.broker.carry_out(message)
        _require(not void or rules.snapshot(void) == before, f"D3: {message} was void, and changed something")

    def _void(self, message):
        """The saga of a step's message, where it has been sent on anew since."""
        if not isinstance(message, memory_transport.StepMessage):
            return None
        saga = models.SagaInstance.objects.get(pk=message.dispatch.saga_id)
        epoch = saga.epoch
        if message.dispatch.member:
            epoch = saga.steps.get(name=message.dispatch.messages[0].step).epoch
        return saga if epoch > message.dispatch.epoch else None

    def _false_alarm(self):
        if saga := self._some():
            row = self._at_hand(saga)
            epoch, name = (row.epoch, row.name) if row.is_member else (saga.epoch, None)
            engine.on_chain_error(saga.pk, epoch - self.chance.randint(0, 1), name)

    def _at_hand(self, saga):
        """The step that the saga is at; of a stage that is done at once, any of its members."""
        steps = list(saga.steps.order_by("position"))
        stage = saga.definition.stage_at(min(saga.position, len(steps) - 1))
        return self.chance.choice([steps[position] for position in stage.positions])

    def _cancel(self):
        if saga := self._some():
            engine.cancel(saga.pk, **WHO)

    def _operate(self):
        if not (saga := self._some()):
            return
        move = self.chance.choice(
            ["retry", "resume", "hold", "release", "compensate", "extend", "ask", "resolve"]
        )
        step = self._at_hand(saga)
        self._say(move, step.name)
        if move == "extend":
            engine.extend(saga.pk, seen=engine.look(saga.pk, step.name), by=HOUR, **WHO)
        elif move == "resolve":
            self._resolve(saga, step.name)
        else:
            getattr(engine, move)(saga.pk, seen=engine.look(saga.pk, step.name), **WHO)

    def _resolve(self, saga, name):
        """An operator never lies: he looks into the provider's books, and has them put in order first."""
        with transaction.atomic():
            step = saga.steps.get(name=name)
            if not (declared := saga.definition.all_steps[step.position]).remote:
                return
            account = self.provider[step.key]
            if account.begun or step.key in self.inflight:
                return  # Nobody can know yet.
            if saga.direction == -1:
                happened = account.closed and account.made == account.unmade
            else:
                happened = bool(account.made)
            engine.resolve(saga.pk, seen=engine.look(saga.pk, name), happened=happened, **WHO)
            if not happened:
                account.doubt = False
                # The provider was told to see to it that it never happens, where it is not to be tried again.
                account.closed = account.closed or declared.kind != "retriable"

    def _answer(self):
        """A person says yes, or sometimes no, whether or not anybody asks."""
        if saga := self._some():
            self._answer_one(saga, "approve" if self.chance.random() < 0.8 else "refuse")

    def _answer_one(self, saga, answer):
        if "review" in saga.definition.positions:
            actor = self.chance.choice(["alice", "bob"])
            self._say(actor, answer)
            getattr(engine, answer)(saga.pk, "review", actor=actor, reason="so it is")

    def _settle(self):
        """What was begun takes effect, even if nobody wants it any more."""
        begun = [key for key, account in self.provider.items() if account.begun]
        if begun:
            self._settle_one(self.chance.choice(begun))

    def _settle_one(self, key):
        account = self.provider[key]
        account.begun, account.made = False, 1
        # Polls find what no callback tells of; what comes too late, only a callback can tell.
        if not self.unruly or account.closed or self.chance.random() < 0.8:
            self.callbacks.append((key, {"facts": {"settled": True}}))

    def _tell(self):
        if self.callbacks:
            callback = self.chance.choice(self.callbacks)
            for_the_last_time = self.chance.random() < 0.8
            self._receive(*callback)
            # Who takes it and dies has not answered: then its sender tells it once more.
            if for_the_last_time:
                self.callbacks.remove(callback)

    def _receive(self, key, what):
        engine.receive(source="world", event_id=f"settled {key}", key=key, **what)

    def _arrive(self):
        if self.inflight:
            self._effect(self.inflight.pop(self.chance.randrange(len(self.inflight))))

    def _crash(self):
        """Whoever commits next dies, or the one after: before or after it is true."""
        at, before, dead = self.chance.randint(1, 3), self.chance.random() < 0.5, self.chance.random() < 0.7
        self._say("at commit", at, "before" if before else "after", "dies" if dead else "loses the database")
        with crashes.crash_at(at, before=before, dead=dead):
            for _ in range(3):
                self.chance.choice([self._deliver, self._deliver, self._deliver, self._sweep, self._tell])()

    def _begin(self):
        if len(self.sagas) < len(self.declared) and not connection.in_atomic_block:
            declared = self.declared[len(self.sagas)]
            try:
                with transaction.atomic():
                    engine.begin(
                        declared,
                        key=declared.name,
                        inputs={
                            "yes": self.chance.random() < 0.5,
                            "items": ["apple", "pear", "plum"][: self.chance.choice([0, 1, 2, 3, 3])],
                        },
                        actor="chance",
                        not_before=self._later() if self.chance.random() < 0.1 else None,
                    )
            finally:
                # Whoever dies after the commit has begun it all the same.
                self.sagas += models.SagaInstance.objects.filter(key=declared.name)

    def _later(self):
        return models.database_now() + self.chance.choice([-1, 20, 600]) * SECOND

    def _some(self):
        return self.chance.choice(self._all()) if self.sagas else None

    def _all(self):
        """Every saga as it stands now: those that were begun, and the children of those."""
        instances = list(models.SagaInstance.objects.order_by("name", "parent_item"))
        return [saga for saga in instances if saga.name.startswith(f"sim-{self.seed}-")]

    # --- The functions ----------------------------------------------------------------------------

    def do(self, key, *, local=False):
        self._nobody_else_is_at_it(key, undo=False)
        answer = self._roll(well=6, flake=2, shut=0.5, fail=0.7, lose=1, drop=1, bug=0.3, die=0.5)
        self._say("do", key[-9:], "" if local else "remotely", answer)
        if local:
            return self._do_here(key, answer)
        return self._do_there(key, answer)

    def _do_here(self, key, answer):
        if toys.Toy.objects.filter(key=key, closed=True).exists():
            raise functions.Refused("E5")
        if answer in ("well", "lose", "die"):
            functions.Scripted()._make(key, local=True)
        self._react(answer)

    def _do_there(self, key, answer):
        _require(not connection.in_atomic_block, "a remote function was called inside a transaction")
        step = self._declared(key)
        account = self.provider[key]
        _require(not (account.doubt and step.ask), f"U2: {key} may have happened, and nobody asked")
        doubt_before, account.doubt = account.doubt, True
        lease = models.StepInstance.objects.get(saga_id=key[:36], name=step.name).lease_until
        with self._calling(key, lease):
            self._meanwhile()
            if account.closed and not account.made:
                raise functions.Refused("E5")
            if answer in ("well", "lose", "die"):
                self._effect(key)
            elif answer == "drop" and self.chance.random() < 0.5:
                self.inflight.append(key)
            self._meanwhile()
            if answer == "die":
                raise crashes.Crash
        if answer == "fail" and (account.made or account.begun or key in self.inflight):
            answer = "flake"  # A provider does not refuse what it has done.
        if answer in ("flake", "shut", "fail"):
            account.doubt = doubt_before
        self._react(answer)
        return {"settled": bool(account.made)}

    def undo(self, key, *, local=False):
        self._nobody_else_is_at_it(key, undo=True)
        answer = self._roll(well=6, flake=1.5, shut=0.5, fail=0.2, lose=1, drop=1, bug=0.2, die=0.5)
        self._say("undo", key[-9:], "" if local else "remotely", answer)
        if answer in ("well", "lose", "die"):
            if local:
                functions.Scripted()._unmake(key, local=True)
            else:
                self._take_back(key)
        if not local:
            self._meanwhile()
        self._react(answer)

    def ask(self, key):
        answer = self._roll(well=6, flake=1, shut=0.5, lose=1, bug=0.2, die=0.5)
        self._say("ask", key[-9:], answer)
        self._meanwhile()
        self._react(answer)
        account = self.provider[key]
        if account.made or account.begun:
            return {"settled": bool(account.made)}
        account.doubt = False
        # None is a promise: what is still under way of it will be refused.
        self.inflight = [other for other in self.inflight if other != key]
        return None

    def _roll(self, **weights):
        if not self.unruly:
            return "well"
        if self.doomed:
            return "die"
        return self.chance.choices(list(weights), list(weights.values()))[0]

    def _react(self, answer):
        if answer == "flake":
            raise functions.Unavailable("later")
        if answer == "shut":
            raise functions.KeyExpired("for nobody")
        if answer == "fail":
            raise functions.Refused("no")
        if answer in ("lose", "drop"):
            raise functions.Unknown("nobody knows")
        if answer == "bug":
            raise ZeroDivisionError("a bug")
        if answer == "die":
            raise crashes.Crash

    def _effect(self, key):
        """The provider does it: once for a key, and never after its tombstone (E1, E5)."""
        account = self.provider[key]
        if account.closed or account.made:
            return
        if self._declared(key).wait and not account.begun and self.chance.random() < 0.7:
            account.begun = True
        elif not account.begun:
            account.made = 1

    def _take_back(self, key):
        """Content to find nothing, or to come too early (E4); what was begun may yet be settled, late."""
        account = self.provider[key]
        account.closed = True
        account.unmade = account.made
        if account.begun and self.chance.random() < 0.7:
            account.begun = False

    def _meanwhile(self):
        """While a function talks to the world, the world goes on: other messages, sweeps, the lease's end."""
        if not self.unruly or self.depth >= 2 or self.chance.random() < 0.75:
            return
        self.depth += 1
        if self.chance.random() < 0.1:
            self._lose_the_lease()
        for _ in range(self.chance.randint(1, 4)):
            self._act()
        self.depth -= 1

    def _lose_the_lease(self):
        """It takes too long; a second worker is sent, and dies."""
        self._say("the lease is lost")
        self._pass(60 * SECOND)
        engine.sweep()
        self.doomed = True
        for _ in range(3):
            with contextlib.suppress(crashes.Crash, DatabaseError, errors.SagaError):
                self._deliver()
        self.doomed = False

    # --- What must hold at every moment ---------------------------------------------------------

    def _now(self):
        return models.database_now() + self.shifted

    @contextlib.contextmanager
    def _calling(self, key, lease):
        # Without a lease it is the call of one who lost it: nobody waits for him any more.
        call = Call(key, lease + self.shifted if lease else self._now())
        self.calls.append(call)
        try:
            yield
        except crashes.Crash:
            raise  # What the dead have sent may still be on its way: until the lease is over, it counts.
        except BaseException:
            self.calls.remove(call)
            raise
        self.calls.remove(call)

    def _nobody_else_is_at_it(self, key, *, undo):
        """O2: no undo of a saga is called while an attempt at an action may hold a valid fence.

        No action is, either, but those of one stage, which are done at once; and none once it has turned.
        """
        if not undo:
            saga = _saga_of(key)
            _require(saga.direction == 1, f"O2: {key} was called on the way back")
            if saga.parent_id is not None:
                self._no_more_than_may_run(saga)
        for call in self.calls:
            if call.key[:36] == key[:36] and (undo or not self._are_at_once(call.key, key)):
                _require(call.until <= self._now(), f"O2: {key} was called during a call of {call.key}")

    def _no_more_than_may_run(self, child):
        step = models.SagaInstance.objects.get(pk=child.parent_id).definition.step(child.parent_step)
        if limit := getattr(step, "limit", 0):
            siblings = models.SagaInstance.objects.filter(parent_id=child.parent_id, finished_at=None)
            under_way = siblings.filter(epoch__gt=0, position__lt=len(child.definition.all_steps))
            _require(under_way.count() <= limit, f"{under_way.count()} children run at once, not {limit}")

    def _are_at_once(self, one, other):
        declared = _saga_of(one).definition
        first, second = (declared.positions[key.split(".")[1]] for key in (one, other))
        return one != other and declared.stage_at(first) is declared.stage_at(second)

    def _declared(self, key):
        return _saga_of(key).definition.step(key.split(".")[1])

    # --- The end --------------------------------------------------------------------------------

    def _heal(self):
        """Every provider works, the broker keeps its word, and operators do what is asked of them."""
        self._say("all heals")
        self.unruly = False
        self.broker.lose = self.broker.double = 0
        while self.inflight:
            self._arrive()
        for _ in range(400):
            while self.broker.deliver():
                pass
            for key in [key for key, account in self.provider.items() if account.begun]:
                self._settle_one(key)
            while self.callbacks:
                self._receive(*self.callbacks.pop())
            if self._at_rest():
                return
            self._help()
            if not self.broker.waiting:
                left = clocks.until_due()
                if left is not None:
                    self._pass(left + clocks.A_MOMENT)
                engine.sweep()
        states = [(saga.name, saga.parent_item, saga.state, saga.attention) for saga in self._all()]
        raise AssertionError(f"T2: it never came to rest: {states}")

    def _at_rest(self):
        late_compensations = models.Signal.objects.filter(wake_at__isnull=False)
        told = models.SagaInstance.objects.filter(tells_parent_at__isnull=False)
        return all(saga.finished_at for saga in self._all()) and not (
            told.exists() or late_compensations.exists() or self.broker.waiting
        )

    def _help(self):
        """Operators see to what needs attention, and let go of what is held."""
        for saga in self._all():
            with contextlib.suppress(errors.NotAllowed, errors.MovedOn):
                if saga.held_at is not None:
                    engine.release(saga.pk, seen=engine.look(saga.pk), **WHO)
                elif saga.steps.filter(name="review", state="waiting").exists():
                    self._answer_one(saga, "approve")
                elif saga.state == "needs_attention" and self._has_failed_children(saga):
                    seen = engine.look(saga.pk, "family")
                    engine.resolve(saga.pk, seen=seen, happened=True, **WHO)
                elif saga.state == "needs_attention":
                    engine.resume(saga.pk, seen=engine.look(saga.pk), **WHO)

    def _has_failed_children(self, saga):
        """Whether the children of a step are not done for good, and its saga can only go on."""
        failed = saga.steps.filter(name="family", state="failed").exists()
        ended = models.SagaInstance.objects.filter(parent_id=saga.pk, finished_at=None)
        return failed and saga.direction == 1 and not ended.exists()

    def _check(self):
        assert self.broker.bugs == [], self.broker.bugs
        every = self._all()
        before = [rules.snapshot(saga) for saga in every]
        for saga in every:
            rules.check(saga, self._books(saga))
        for message in self.chance.sample(self.broker.sent, min(25, len(self.broker.sent))):
            self.broker.carry_out(message)
        for saga in every:
            engine.on_chain_error(saga.pk, saga.epoch)
            for row in saga.steps.filter(epoch__isnull=False):
                engine.on_chain_error(saga.pk, row.epoch, row.name)
        assert [rules.snapshot(saga) for saga in every] == before, "T3"

    def _books(self, saga):
        local = {toy.key: (toy.made, toy.unmade) for toy in toys.Toy.objects.all()}
        books = {}
        for step in saga.definition.all_steps:
            key = f"{saga.pk}.{step.name}"
            account = self.provider[key]
            books[step.name] = (account.made, account.unmade) if step.remote else local.get(key, (0, 0))
        return books


def _saga_of(key):
    return models.SagaInstance.objects.get(pk=key[:36])


def _require(holds, what):
    if not holds:
        raise Violation(what)
