"""The rules that hold for every saga, whatever happened to it: numbered as in docs/architecture.md."""

import collections
import itertools

from django.db import connection

from sagas import ForEach, models
from sagas.declaration import states
from sagas.engine import children as engine_children
from sagas.engine import messages
from tests.sagas import harness
from tests.sagas.sample_app import models as toys


def check(saga, books=None):
    """Every rule that can be seen from the rows, and from the books of the world."""
    saga.refresh_from_db()
    events = list(saga.events.order_by("id"))
    steps = list(saga.steps.order_by("position"))
    it_ends(saga)
    rows_are_the_fold_of_events(saga, steps, events)
    first_failure_is_kept(saga, events)
    undone_in_reverse(saga, events)
    later_stages_are_undone_before_earlier_ones(saga, events)
    what_is_left_out_is_never_touched(saga, steps, events)
    never_forward_again(saga, events)
    never_back_after_the_pivot(saga, steps, events)
    hooks_are_called_once(saga)
    nothing_hangs(saga, steps)
    children_end_as_their_parent_says(saga, steps, events)
    a_child_that_is_done_is_its_parents(saga, events)
    effects_balance(saga, steps, harness.books(saga) if books is None else books)


def it_ends(saga):
    """T1: exactly one of completed, compensated, needs attention."""
    assert saga.state in ("completed", "compensated", "needs_attention"), f"T1: it is {saga.state}"
    assert (saga.finished_at is not None) == (saga.state != "needs_attention"), "T1"


def rows_are_the_fold_of_events(saga, steps, events):
    """A1: the last state that an event names is the row's, and every event begins where the last ended."""
    state = {"": None, **{step.name: states.StepState.PENDING.value for step in steps}}
    for event in events:
        if event.to_state:
            assert not event.from_state or event.from_state == state[event.subject], f"A1: {event}"
            state[event.subject] = event.to_state
    assert state.pop("") == saga.state, "A1: the saga"
    assert state == {step.name: step.state for step in steps}, "A1: its steps"
    for step in steps:
        for attempts, kind in ((step.attempts, "step."), (step.undo_attempts, "undo.")):
            about = [e for e in events if e.subject == step.name and e.kind.startswith(kind)]
            told = max([0, *(event.attempt or 0 for event in about)])
            assert 0 <= (step.excused if kind == "step." else step.undo_excused) <= attempts, "R4"
            assert told == attempts, (
                f"A1: attempts at {step.name}: {told} in the events, {attempts} in the row"
            )


def first_failure_is_kept(saga, events):
    """A2: what first turned it, or stopped it, is what the row says for ever."""
    decisive = ("step.failed", "saga.compensating", "saga.attention")
    first = next((event for event in events if event.kind in decisive), None)
    if first is None:
        assert saga.failure is None, "A2: it went well, and the row says otherwise"
    elif first.kind == "saga.attention":
        stopped = {("timeout", "deadline"), ("timeout", "wait"), ("bug", None), ("mismatch", None)}
        kept = (saga.failure["kind"], saga.failure["clock"])
        assert kept in stopped or (kept[0] == "child" and "child" in first.data), "A2"
    else:
        assert saga.failure == first.data, "A2"


def undone_in_reverse(saga, events):
    """O1, O3: undo follows undo from the last stage begun to the first, each after all of the one before."""
    declared = saga.definition
    stage = {step.name: declared.stage_at(place).first for step, place in _placed(declared)}
    undos = [event for event in events if event.kind.startswith("undo.")]
    places = [stage[event.subject] for event in undos]
    assert places == sorted(places, reverse=True), f"O1: {[event.subject for event in undos]}"
    done = [event.subject for event in undos if event.kind == "undo.done"]
    assert len(done) == len(set(done)), f"O3: undone twice: {done}"
    open_ = set()
    for before, after in itertools.pairwise(undos):
        open_ = (open_ | {before.subject}) - ({before.subject} if before.kind == "undo.done" else set())
        here = {name for name in open_ if stage[name] == stage[after.subject]}
        assert open_ == here, f"O3: {after} while {open_ - here} is not undone"
        at_once = declared.stage_at(stage[after.subject]).parallel
        if at_once is None or at_once.undo == "reverse":
            failed = {event.subject for event in events if event.kind == "undo.failed"}
            assert open_ - failed <= {after.subject}, f"O3: {after} while {open_} is not undone"


def later_stages_are_undone_before_earlier_ones(saga, events):
    """O1, T5: when an undo of a stage begins, all that may have happened behind that stage is undone."""
    declared = saga.definition
    begun = set()
    for event in events:
        step = event.subject and declared.step(event.subject)
        if not step or step.undo is None:
            continue
        if event.kind in ("step.done", "step.waiting") or (event.kind == "step.started" and step.remote):
            begun.add(step.name)
        if event.kind.startswith("undo."):
            behind = declared.stage_at(declared.positions[step.name]).last
            left = {name for name in begun if declared.positions[name] > behind}
            assert not left, f"O1: {event} while {left} is not undone"
        if event.kind == "undo.done":
            begun.discard(step.name)


def what_is_left_out_is_never_touched(saga, steps, events):
    """A step that its condition, or a stage's drain, has left out has no attempt and no undo."""
    left_out = {event.subject for event in events if event.kind == "step.skipped"}
    for step in steps:
        if step.name in left_out:
            assert step.state == "skipped", f"{step.name} was left out, and is {step.state}"
            assert (step.attempts, step.undo_attempts) == (0, 0), f"{step.name} was left out, and tried"
            told = {event.kind for event in events if event.subject == step.name and event.actor == "engine"}
            assert told <= {"step.chosen", "step.skipped"}, f"{step.name} was left out, and {told}"


def _placed(declared):
    return [(step, place) for place, step in enumerate(declared.all_steps)]


def never_forward_again(saga, events):
    """O2: once it was decided to turn round, no attempt at an action is made.

    One that was under way beside the step that turned it may be recorded, before anything is undone.
    """
    kinds = [event.kind for event in events]
    if "saga.compensating" in kinds:
        behind = events[kinds.index("saga.compensating") :]
        after = [event.kind for event in behind]
        assert not {kind for kind in after if kind in ("step.started", "step.asked")}, f"O2: {after}"
        declared, undone = saga.definition, set()
        for event in behind:
            if event.kind in ("step.done", "step.waiting"):
                assert declared.stage_at(declared.positions[event.subject]).parallel, f"O2: {after}"
                assert not undone, f"O2: {after}"
            if event.kind.startswith("undo.") and declared.step(event.subject).has_worker:
                undone.add(event.subject)  # An approval has nothing to undo: nobody is asked any more.


def never_back_after_the_pivot(saga, steps, events):
    """P1: nothing is undone once the pivot has happened; P2: it happened once."""
    declared = saga.definition
    if declared.pivot == len(steps) or declared.all_steps[declared.pivot].kind != "pivot":
        return
    name = steps[declared.pivot].name
    done = [event.kind for event in events if event.kind == "step.done" and event.subject == name]
    assert len(done) <= 1, "P2"
    if done:
        assert not [event for event in events if event.kind == "saga.compensating"], "P1"


def hooks_are_called_once(saga):
    """I1, A4: the owner hears of the end once, and of the need for attention at most once."""
    if saga.definition.on_completed is None:
        return
    kinds = sorted(end.kind for end in toys.End.objects.filter(key=saga.key))
    alerts = ["attention"] if saga.alerted_at else []
    assert kinds == sorted(alerts + ([] if saga.finished_at is None else [saga.state])), f"A4: {kinds}"


def nothing_hangs(saga, steps):
    """D1: what has ended is never looked at again, and nobody holds any of it."""
    if saga.finished_at is not None:
        assert (saga.wake_at, saga.dispatched_at, saga.attention) == (None, None, None), "T3"
        assert not [step for step in steps if step.state in ("running", "undoing", "waiting")], "T1"
        open_ = models.Signal.objects.filter(step_key__startswith=f"{saga.pk}.", fate="stored")
        assert not open_.exists(), "a callback was stored, and nobody looked at it again"


def children_end_as_their_parent_says(saga, steps, events):
    """No child outlives its parent's end: all are done, or all undone, but for what may be kept."""
    for step in saga.definition.children:
        (row,) = [row for row in steps if row.name == step.name]
        children = list(models.SagaInstance.objects.filter(parent_id=saga.pk, parent_step=step.name))
        found = {child.state for child in children}
        assert not [child for child in children if child.tells_parent_at], "a child was not heard"
        counted_right(saga, row, children)
        if saga.finished_at is not None:
            assert all(child.finished_at or child.closed_at for child in children), "a child lives on"
        if saga.state == "compensated":
            assert "completed" not in found, f"T5: {step.name} is not undone: {found}"
            assert row.state in ("undone", "pending", "skipped", "failed"), f"T5: {row.state}"
            assert step.kind == "pivot" or row.state != "failed" or not children, "T5: failed, and not undone"
        settled = [e for e in events if e.subject == step.name and e.kind == "operator.resolve"]
        some = isinstance(step, ForEach) and (step.need != "all" or step.failed == "keep")
        if saga.state == "completed" and not settled and not some:
            assert found <= {"completed"}, f"T5: {step.name} is not done: {found}"
        if undone := [e for e in events if e.subject == step.name and e.kind == "undo.done"]:
            ends = models.Event.objects.filter(saga__in=children, kind="saga.compensated")
            assert all(end.pk < undone[0].pk for end in ends), f"O3: {step.name} before its children"


def counted_right(saga, row, children):
    """What a live parent has counted is what its children are."""
    if saga.finished_at is None and saga.closed_at is None and row.standing is not None:
        kept = collections.Counter(row.standing["counts"])
        assert kept == collections.Counter(child.counted_as for child in children), "a sum is wrong"
        steps = len(children[0].definition.all_steps) if children else 0
        with connection.cursor() as cursor:
            cursor.execute(
                f"SELECT {engine_children._COUNTED}, count(*) FROM sagas_saga"
                " WHERE parent_id = %(parent)s AND parent_step = %(step)s GROUP BY 1",
                {"steps": steps, "parent": saga.pk, "step": row.name},
            )
            assert kept == dict(cursor.fetchall()), "it was not told of all that became of its children"


def a_child_that_is_done_is_its_parents(saga, events):
    """Once all of a child's steps are done nobody changes it but its parent."""
    kinds = [event.kind for event in events]
    if "saga.waiting" in kinds:
        behind = [e for e in events[kinds.index("saga.waiting") + 1 :] if not e.kind.startswith("signal.")]
        if behind and behind[0].kind != "saga.completed":
            assert (behind[0].kind, behind[0].reason) == ("cancel.requested", messages.PARENT_UNDONE)


def effects_balance(saga, steps, books):
    """E1, E2, T5: an action takes effect at most once, and one that is undone took it back once."""
    for step in steps:
        made, unmade = books[step.name]
        assert made <= 1, f"E1: {step.name} was made {made} times"
        assert unmade <= made, f"E2: {step.name} was unmade {unmade} times and made {made} times"
    if saga.state == "completed":
        people = {step.name for step in saga.definition.all_steps if not step.has_worker}
        kept = {step.name for step in steps if step.state != "skipped"} - people
        assert all(step.state in ("done", "skipped") for step in steps), "T5"
        assert all(books[name] == (1, 0) for name in kept), f"T5: {books}"
    if saga.state == "compensated":
        left = {name for name, (made, unmade) in books.items() if made != unmade}
        assert not left, f"T5: {left} was never undone"
        begun = {step.state for step in steps if step.begun and saga.definition.all_steps[step.position].undo}
        assert begun <= {"undone"}, f"T5: {begun}"


def snapshot(saga):
    """Everything that is written of a saga, to see whether something changed."""
    saga.refresh_from_db()
    return (
        models.SagaInstance.objects.filter(pk=saga.pk).values().get(),
        list(models.StepInstance.objects.filter(saga=saga).order_by("position").values()),
        list(saga.events.order_by("id").values()),
    )
