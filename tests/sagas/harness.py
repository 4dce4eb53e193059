"""Where a script is played: the same lines, with the machinery behind them or without.

- `rehearse` (in sagas.testing): the declaration alone.
- `InMemory`: the engine on PostgreSQL, messages in memory, time that passes when told to.
- `RealWorker`: the engine, a broker, and a worker in another process.
"""

import contextlib
import datetime
import itertools
import random
import time
import uuid

import pytest
from django.db import transaction

from sagas import engine, errors, models, testing
from sagas.declaration import registry, states
from sagas.engine import children, transport
from sagas.testing import clocks, crashes, memory_transport, scripts
from tests.sagas.sample_app import functions, recorder
from tests.sagas.sample_app import models as toys


def begin(saga, script="", *, key=None, inputs=None):
    """Begin a saga in the world of that script."""
    registry.add(saga)
    with transaction.atomic():
        instance = engine.begin(saga, key=key or str(uuid.uuid4()), inputs=inputs or {}, actor="test")
        recorder.direct(instance.pk, testing.answers(script))
    return instance


both_ways = pytest.mark.parametrize("inline", [False, True], ids=["one by one", "inline"])
"""A message for each step, and one that carries a saga on for as long as it goes."""

both_ways_in_full = pytest.mark.parametrize(
    "inline", [pytest.param(False, marks=pytest.mark.thorough), True], ids=["one by one", "inline"]
)
"""The same where each costs much: by default as it is shipped."""

every_commit_in_full = pytest.mark.parametrize(
    "every", [3, pytest.param(1, marks=pytest.mark.thorough)], ids=["every third", "each"]
)
"""How many commits a process that dies goes on by, from one run to the next."""


def commits(about, every):
    """The commits at which to die: every so many, the first by chance, which a scenario's name seeds."""
    return itertools.count(random.Random(about).randint(1, every), every)


def step_messages(broker):
    """The steps' messages that were ever sent."""
    return [m for m in broker.sent if isinstance(m, memory_transport.StepMessage)]


def always():
    """A lane that always goes on."""
    return True


SOON = datetime.timedelta(seconds=1)
"""The toys' retries pause for no time, and no message is lost here: nothing has a reason to sleep."""


class Player:
    """One saga on its way through a script."""

    def __init__(self, saga, script, inputs=None):
        self.script = scripts.Script.read(script)
        self.stood = ""
        registry.add(saga)
        with transaction.atomic():
            self.saga = engine.begin(saga, key=str(uuid.uuid4()), inputs=inputs or {}, actor="test")
            recorder.direct(self.saga.pk, testing.answers(script))
            # A saga that is cancelled before anything else is so in the transaction that begins it.
            self.act_if_due()

    @property
    def played(self):
        """What happened; of steps that are done at once, in the order of the script."""
        return self.script.arrange(recorder.lines(self.saga.pk))

    @property
    def has_all(self):
        """Whether as much has happened as the script tells."""
        return len(self.played) >= len(self.script.lines)

    def nobody_acts(self):
        """Whether the script has nobody act now."""
        return self.script.act_due(recorder.lines(self.saga.pk)) is None

    def act_if_due(self):
        """Act if the script says that it is time; note where the saga stands if it came to stand there."""
        self.saga.refresh_from_db()
        state = states.SagaState(self.saga.state)
        stands = state.label.lower() if self.saga.wake_at is None or state.value == "needs_attention" else ""
        if stands != self.stood:
            self.stood = stands
            if stands:
                recorder.note(self.saga.pk, stands)
        line = self.script.act_due(recorder.lines(self.saga.pk))
        if line is None or not self._at_rest(line):
            return False
        recorder.note(self.saga.pk, line)
        self.act(*line.split())
        return True

    def family(self):
        """The saga and all of its children, and theirs."""
        found = [self.saga]
        for one in found:
            found += models.SagaInstance.objects.filter(parent_id=one.pk)
        return found

    def meant(self, word, about):
        """The saga that an act is about, the step that it names, if it names one, and what else it says."""
        place, *rest = [*about, ""] if about else [""]
        *words, step = (
            place.split(".") if word not in scripts.ABOUT_SAGA else [*filter(None, place.split(".")), ""]
        )
        saga = self.saga
        for name, number in zip(words[::2], words[1::2], strict=True):
            saga = models.SagaInstance.objects.get(parent_id=saga.pk, parent_step=name, parent_item=number)
        return saga, step, [word for word in rest if word]

    def _at_rest(self, line):
        """Whether the line above has not only been called, but recorded: what is to be outwaited waits."""
        word, *about = line.split()
        saga, step, _ = self.meant(word, about)
        steps = saga.steps.filter(state="running")
        if (steps.filter(name=step) if step and in_stage(saga, step) else steps).exists():
            return False
        return word != "outwait" or saga.steps.filter(name=step, wait_until__isnull=False).exists()

    def act(self, word, *about):
        saga, step, rest = self.meant(word, about)
        pk = saga.pk
        said = {"actor": "somebody", "reason": "the script says so"}
        if word == "cancel":
            try:
                engine.cancel(pk, **said)
            except errors.TooLate:
                recorder.note(self.saga.pk, "too late")
        elif word == "tell":
            key, well = f"{pk}.{step}", not rest
            what = {"facts": {"settled": True}} if well else {"refused": "no"}
            if not well and saga.state == "running":
                toys.Toy.objects.filter(key=key).update(made=0)  # What was begun has come to nothing.
            engine.receive(source="world", event_id=str(uuid.uuid4()), key=key, **what)
        elif word == "poll":
            row = saga.steps.get(name=step)
            clocks.pass_time((row.wake_at or saga.wake_at) - models.database_now(), pk)
        elif word == "outwait":
            clocks.pass_time(saga.steps.get(name=step).wait_until - models.database_now(), pk)
        elif word == "outlast":
            clocks.pass_time(saga.deadline_at - models.database_now(), pk)
        elif word == "retry":
            again = engine.resume if saga.state == "needs_attention" else engine.retry
            again(pk, seen=engine.look(pk), **said)
            self.stood = ""
        elif word in ("approve", "refuse"):
            getattr(engine, word)(pk, step, **said)
        elif word == "resolve":
            self._settle(saga, f"{pk}.{step}", rest == ["yes"])
            engine.resolve(pk, seen=engine.look(pk, step), happened=rest == ["yes"], **said)
            self.stood = ""

    def _settle(self, saga, key, happened):
        """What an operator says is the truth: he has seen to it."""
        undoing = saga.direction == states.Direction.BACKWARD
        made, unmade = (1, 1 if happened else 0) if undoing else (1 if happened else 0, 0)
        toys.Toy.objects.update_or_create(key=key, defaults={"made": made, "unmade": unmade})

    @property
    def idle(self):
        """Whether nothing more will happen by itself."""
        self.saga.refresh_from_db()
        family = self.family()
        return self._idle(self.saga) and all(is_over(one) or self._idle(one) for one in family[1:])

    def _idle(self, saga):
        own = [step.name for step in saga.definition.children]
        resting = saga.state == "needs_attention" or saga.finished_at is not None
        if resting or not saga.steps.filter(state="waiting").exists():
            # Of one whose children are being undone these decide.
            return resting or saga.steps.filter(state="undoing", name__in=own).exists()
        # Beside a step that waits others of its stage may be on their way.
        return not saga.steps.filter(dispatched_at__isnull=False).exists()

    @property
    def late_compensations(self):
        return models.Signal.objects.filter(step_key__startswith=f"{self.saga.pk}.", wake_at__isnull=False)


class InTurn(memory_transport.MemoryTransport):
    """Messages that are sent at the same time come in the order of the declaration.

    Those of steps that are done at once may come in any; a script that tells which of them was first wants
    to know.
    """

    def send(self, dispatch):
        place = registry.get(dispatch.name, 1).positions[dispatch.messages[0].step]
        super().send(dispatch)
        sent = self.waiting.pop()
        behind = [
            number
            for number, message in enumerate(self.waiting)
            if isinstance(message, memory_transport.StepMessage)
            and message.dispatch.member
            and message.dispatch.direction == states.Direction.FORWARD == dispatch.direction
            and message.dispatch.saga_id == dispatch.saga_id
            and registry.get(dispatch.name, 1).positions[message.dispatch.messages[0].step] > place
        ]
        self.waiting.insert(behind[0] if behind and dispatch.member else len(self.waiting), sent)


class InMemory:
    """The engine on the database; whoever calls `play` is the worker, the broker and the clock.

    Inline, its worker goes on with a saga until somebody is to act.
    """

    def __init__(self, *, inline=False):
        self.inline = inline

    def play(self, saga, script, inputs=None):
        goes_on = (lambda: self.player.nobody_acts()) if self.inline else None
        self.post = InTurn(inline=goes_on)
        with transport.use(self.post):
            self.player = Player(saga, script, inputs)
            for _ in range(20 + 10 * len(self.player.script.lines)):
                if self.player.act_if_due() or self.post.deliver():
                    continue
                if self.player.idle and not self._due():
                    break
                left = clocks.until_due()
                assert left is not None, f"nobody will ever look at it again: {self.player.played}"
                assert left < SOON, f"after {self.player.played} it sleeps for {left}"
                clocks.skip()
                engine.sweep()
            else:
                raise AssertionError(f"it never came to rest: {self.player.played}")
        assert self.post.bugs == []
        return self.player.played

    def _due(self):
        """Whether an act just now has made something due: a wait that is over, a late compensation."""
        saga = self.player.saga
        if self.player.late_compensations.exists():
            return True
        if saga.state == "needs_attention":
            return False
        family = self.player.family()
        steps = models.StepInstance.objects.filter(saga__in=[one.pk for one in family])
        times = [*(one.wake_at for one in family), *steps.values_list("wake_at", flat=True)]
        now = models.database_now()
        return any(at is not None and at <= now for at in times)


class RealWorker:
    """Many scripts at once, on whatever workers listen; `patience_s` bounds the whole of it."""

    def __init__(self, patience_s=60):
        self.patience_s = patience_s

    def play(self, scripts_):
        self.players = players = [Player(saga, script) for saga, script in scripts_]
        patience = time.monotonic() + self.patience_s
        under_way = list(players)
        while under_way and time.monotonic() < patience:
            under_way = [player for player in under_way if not self._ended(player)]
            time.sleep(0.1)  # They are many: to look often takes time from those who play.
        return [player.played for player in players]

    def _ended(self, player):
        acted = player.act_if_due()
        return not acted and player.has_all and player.idle


def in_stage(saga, name):
    """Whether the step is done at once with others."""
    return saga.definition.stage_at(saga.definition.positions[name]).parallel is not None


def is_over(child):
    """Whether a child has nothing to do: its parent starts it later, or it ends with its parent."""
    return (child.epoch == 0 and child.in_line_for is None) or children.waits_for_parent(child)


def books(saga):
    """What the world knows of a saga's steps: (made, unmade) by name."""
    found = {
        toy.key: (toy.made, toy.unmade) for toy in toys.Toy.objects.filter(key__startswith=f"{saga.pk}.")
    }
    return {step.name: found.get(f"{saga.pk}.{step.name}", (0, 0)) for step in saga.definition.all_steps}


def drive(broker, *sagas, rounds=200):
    """Deliver, let time pass and sweep until those sagas have come to rest."""
    for _ in range(rounds):
        for saga in sagas:
            saga.refresh_from_db()
        if not broker.waiting and all(saga.finished_at or saga.state == "needs_attention" for saga in sagas):
            return
        with contextlib.suppress(crashes.Crash):
            if not broker.deliver():
                clocks.skip()
                engine.sweep()
    raise AssertionError([(saga.state, recorder.lines(saga.pk)[-9:]) for saga in sagas])


def kinds(saga, *about):
    """The kinds of a saga's events, of those about a step if one is named."""
    events = saga.events.filter(subject__in=about) if about else saga.events.all()
    return [event.kind for event in events.order_by("id")]


def suppress_death():
    """Where a worker dies, the test goes on."""
    return contextlib.suppress(crashes.Crash)


class Meanwhile(functions.Scripted):
    """A world in which something happens once, during the first call of a remote function."""

    def __init__(self, happen):
        self.happen = happen

    def do(self, key, **rest):
        happen, self.happen = self.happen, lambda: None
        happen()
        return super().do(key, **rest)


class MeanwhileUndoing(functions.Scripted):
    """The same, during the first undo."""

    def __init__(self, happen):
        self.happen = happen

    def undo(self, key, **rest):
        happen, self.happen = self.happen, lambda: None
        happen()
        return super().undo(key, **rest)


class Slow(Meanwhile):
    """A world whose first answer takes longer than the lease, while everybody else goes on."""

    def __init__(self, broker, saga, lease):
        super().__init__(lambda: self._go_on(broker, saga, lease))
        self.meanwhile = None

    def _go_on(self, broker, saga, lease):
        clocks.pass_time(lease)
        engine.sweep()
        drive(broker, saga)
        self.meanwhile = saga.state
