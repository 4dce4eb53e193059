"""What must hold at every node and after every move: the rules of docs/rules.md, by their names."""

import collections

from sagas import models
from sagas.declaration.definition import Approval, ForEach
from sagas.engine import approvals, children, refusals
from tests.sagas.explorer import memory
from tests.sagas.explorer.memory import require

SAGA_FINAL = ("completed", "compensated")


def check_claim(world, attempt):
    """What must hold when a worker begins a call."""
    name, saga_id = attempt.step.name, attempt.row.saga_id
    stage = attempt.declared.stage_at(attempt.row.position)
    book = world.book(saga_id, name)
    if not attempt.undo:
        waits = any((call.saga, call.step, call.undo) == (saga_id, name, False) for call in world.calls)
        # One that can only be done is tried again after a refusal, which was an answer.
        may_have = attempt.step.remote and attempt.step.kind != "retriable" and (book.made or waits)
        asks = attempt.doubtful or attempt.only_asks
        require(not may_have or asks, f"U2: {name} may have happened, and is not asked about")
        return
    at_work = sorted(lease[1] for lease in world.leases if lease[0] == saga_id)
    require(not at_work, f"O2: {name} is undone while the lease of {at_work} lives")
    if stage.parallel is not None and stage.parallel.undo == "reverse":
        for other in world.steps[saga_id][stage.first : stage.last + 1]:
            left = other.begun and other.state not in ("undone", "undo_failed", "failed")
            later = other.started_at and attempt.row.started_at and other.started_at > attempt.row.started_at
            require(not (left and later), f"O1: {name} is undone before {other.name}, which began later")
            others = other is not attempt.row and memory.is_at_work(other)
            require(not others, f"O1: {name} is undone while {other.name} is, which are to be one by one")


def check(world, before):
    """The rules that a single move can break, from the events that it wrote and the rows that it left."""
    for saga_id, saga in world.sagas.items():
        if (was := before.sagas.get(saga_id)) is not None:
            _check_events(world, before, saga)
            _check_stays(world, before, saga, was)
        _check_rows(world, saga)
        for step in world.steps[saga_id] if world.signals else ():
            _check_stored(world, before, saga, step)
        if saga.definition.children:
            _check_children(world, saga)
    for (_, name), book in world.books.items():
        require(not book.unmade or book.made, f"E2: {name} was undone without having been done")


def _check_events(world, before, saga):
    was, steps = before.sagas[saga.pk], world.steps[saga.pk]
    for saga_id, kind, subject, from_state, to_state in world.events:
        if saga_id != saga.pk or not subject:
            continue
        step = saga.definition.step(subject)
        if kind in ("step.started", "step.asked"):
            require(was.direction == 1, f"O2: an attempt at {subject} on the way back")
        if kind in ("undo.started", "undo.done") and (step.has_worker or kind == "undo.started"):
            require(saga.direction == -1, f"O2: an undo of {subject} on the way forward")
            last = saga.definition.stage_at(saga.definition.positions[subject]).last
            for other in steps[last + 1 :]:
                left = other.begun and saga.definition.all_steps[other.position].undoable
                done = not left or other.state == "undone"
                require(done, f"O1, O3: {subject} is undone before {other.name}")
        if kind == "undo.started":
            running = [row.name for row in steps if row.state == "running"]
            require(not running, f"O2: {subject} is undone while an attempt at {running} is not recorded")
        if step.remote and (from_state, to_state) == ("running", "pending"):
            told = any(call.saga == saga_id and call.step == subject for call in before.calls - world.calls)
            require(told, f"U1: what became of {subject} is unknown, and it counts as not happened")


def _check_stays(world, before, saga, was):
    """T3, A2: what has ended stays as it is, and the first failure is kept."""
    require(was.failure is None or saga.failure == was.failure, "A2: another failure than the first is kept")
    if was.finished_at is not None:
        stood = was.state, [step.state for step in before.steps[saga.pk]]
        stands = saga.state, [step.state for step in world.steps[saga.pk]]
        require(stood == stands, f"T3: it had ended, {stood}, and is {stands}")
    if was.closed_at is not None and was.finished_at is None:
        require(saga.state in (was.state, "completed"), f"T3: it was put aside, and is {saga.state}")


def _check_rows(world, saga):
    steps, declared = world.steps[saga.pk], saga.definition
    needs = saga.state == "needs_attention"
    require((saga.finished_at is not None) == (saga.state in SAGA_FINAL), "T3: an end without its state")
    looked_after = saga.wake_at is not None or needs
    require(saga.finished_at is not None or looked_after, "D1: it lives, and nobody looks at it again")
    require(needs == (saga.attention is not None), "A4: attention without a reason, or the reverse")
    parked_with_message = saga.parked_for is not None and saga.dispatched_at is not None
    require(not parked_with_message, "D1: it waits for a circuit, and for a message")
    if saga.state == "completed":
        left = [step.name for step in steps if step.state not in ("done", "skipped")]
        require(not left, f"T5: completed without {left}")
        wanted = saga.cancel_requested_at is None or saga.parent_id is not None
        may_go_on = wanted or declared.pivot < len(steps)
        require(may_go_on, "I3: it was cancelled in time, and has completed")
    _check_conditions(saga, steps)
    if needs and saga.closed_at is None:
        _check_call(saga, steps)
    if saga.state == "compensated":
        undone = ("undone", "skipped")
        left = [
            step.name
            for step in steps
            if step.begun and step.state not in undone and declared.all_steps[step.position].undoable
        ]
        require(not left, f"T5: compensated, and {left} is not undone")
    if declared.pivot < len(steps) and steps[declared.pivot].state == "done":
        require(saga.direction == 1, "P1: the pivot has happened, and it is undone")
    for step in steps:
        told = declared.all_steps[step.position]
        if isinstance(told, Approval) and step.state == "done":
            said = {one["actor"] for one in step.facts[approvals.APPROVALS]}
            enough = len(said) >= told.persons or (told.lapse == "approve" and step.wait_until is None)
            require(enough, f"{step.name} is approved by {len(said)} of {told.persons} persons")
        _check_book(world, saga, step)


def _check_call(saga, steps):
    """Who is called may say what became of what was tried at a provider, where that is not known."""
    for row in saga.definition.stage_at(saga.position).positions:
        step, declared = steps[row], saga.definition.all_steps[row]
        forward = saga.direction == 1
        tried = step.attempts if forward else step.undo_attempts
        known = ("done", "skipped") if forward else ("undone", "skipped")
        if declared.remote and tried and step.state not in known and not memory.is_at_work(step):
            why = refusals.resolve(saga, step, saga.definition, memory.NOW)
            require(not why, f"A4: {step.name} is in doubt, and nobody may say what became of it: {why}")


def _check_conditions(saga, steps):
    """A step is done where its condition holds, and left out where it does not; nobody decides that again."""
    for stage in saga.definition.stages:
        for row, conditions in zip(steps[stage.first : stage.last + 1], stage.conditions, strict=True):
            if not conditions:
                continue
            holds = all(bool(saga.facts.get(each.fact)) is each.wanted for each in conditions)
            require(holds or row.state in ("pending", "skipped"), f"conditions: {row.name} is {row.state}")
            left_out = saga.state == "completed" and holds and row.state == "skipped"
            require(not left_out, f"conditions: {row.name} is to be done, and was left out")


def _check_stored(world, before, saga, step):
    """D3: what a callback tells ends a wait at once; what came while a person was called, with a message."""
    has_worker = saga.definition.all_steps[step.position].has_worker
    waits = saga.state == "running" and step.state == "waiting" and has_worker
    told = _told(world, step) if waits else []
    if not told:
        return
    was, stood = before.sagas[saga.pk], before.row(saga.pk, step.name)
    came_before = set(told) <= set(_told(before, stood))
    was_called = was.state == "needs_attention" or (was.state == "running" and stood.state == "waiting")
    cursor = step if step.is_member else saga
    is_sent = cursor.dispatched_at is not None or saga.in_line_for is not None
    is_next = came_before and was_called and is_sent
    require(is_next, f"D3: {step.name} waits for what a stored callback tells")


def _told(world, step):
    """The stored callbacks of a step that tell that what it waits for has come, or that it will not."""
    stored = [one for one in world.signals if one.fate == models.Signal.Fate.STORED]
    mine = [one for one in stored if one.step_key == step.key]
    return [one.event_id for one in mine if one.refused is not None or (one.facts or {}).get("settled")]


def _check_book(world, saga, step):
    if saga.finished_at is None:
        return
    declared, book = saga.definition.all_steps[step.position], world.book(saga.pk, step.name)
    signals = [one for one in world.signals if one.step_key == step.key]
    stored = [one for one in signals if one.fate == models.Signal.Fate.STORED]
    require(not stored, f"D3: a callback of {step.name} is stored, and nobody looks at it again")
    late = any(one.fate == models.Signal.Fate.LATE and one.compensated_at is None for one in signals)
    call = any((one.saga, one.step) == (saga.pk, step.name) for one in world.calls)
    if book.begun or book.telling or late or call or not declared.has_worker:
        return
    if saga.state == "compensated":
        require(book.made == book.unmade, f"E2: compensated, and {step.name} was left")
    elif step.state == "done":
        require(book.made and not book.unmade, f"E2: completed, and {step.name} is not made")
    else:
        require(book.made == book.unmade, f"E2: {step.name} was left out, and is made")


def _check_children(world, saga):
    """No child outlives its parent's end: all are done, or all undone, but for what may be kept."""
    for declared in saga.definition.children:
        step = world.row(saga.pk, declared.name)
        found = [one for one in world.sagas.values() if one.parent_id == saga.pk]
        states = [one.state for one in found]
        live = [one for one in found if one.finished_at is None and one.closed_at is None]
        aside = [one for one in found if one.closed_at is not None]
        if saga.state == "compensated":
            require("completed" not in states, f"T5: compensated, and of {declared.name}: {states}")
        if saga.finished_at is not None or step.state == "undone":
            lives = [] if step.state == "done" and saga.finished_at is None else live
            require(not lives, f"O3: {declared.name} is {step.state}, and of its children: {states}")
        if step.state == "undone":
            left = [one for one in found if one.state != "compensated" and one.closed_at is None]
            require(not left, f"O3: {declared.name} is undone, and of its children: {states}")
        may_be = saga.state == "completed" or saga.closed_at is not None or declared.kind != "compensatable"
        require(may_be or "completed" not in states, f"T5: a child has completed, its parent {saga.state}")
        if step.standing is not None:
            _check_sums(saga, declared, step.standing, found)
        if not isinstance(declared, ForEach):
            continue  # Of a single child there is nothing more to say.
        if declared.limit:
            forward = [one for one in live if one.epoch > 0 and one.direction == 1]
            busy = [one for one in forward if not children.waits_for_parent(one)]
            require(len(busy) <= declared.limit, f"{len(busy)} children at once, of {declared.limit}")
        if step.state == "done" and saga.direction == 1 and declared.failed != "keep":
            done = [one for one in found if one.state == "completed" or children.waits_for_parent(one)]
            need = len(found) if declared.need == "all" else min(declared.need, len(found))
            short = len(done) + (len(aside) if saga.closed_at else 0) < need
            require(not short, f"T5: {declared.name} is done with {len(done)} of {need}")


def _check_sums(saga, declared, kept, found):
    """What a parent has counted is what its children's rows say, once it has heard of all of them."""
    said = dict(collections.Counter(str(one.counted_as) for one in found))
    require(kept["counts"] == said, f"sums: {declared.name} counts {kept['counts']}, the rows say {said}")
    if saga.finished_at is not None or saga.closed_at is not None:
        return  # It hears of nothing any more.
    for one in found:
        is_now = memory.counted(one, len(declared.child.all_steps))
        told = one.tells_parent_at is not None or one.counted_as == is_now
        require(
            told, f"sums: child {one.parent_item} is {is_now}, counts as {one.counted_as}, and tells nobody"
        )
        waits = one.counted_as == is_now == children.Counted.UNSTARTED
        passed = waits and one.parent_item < kept["first"]
        require(not passed, f"sums: child {one.parent_item} is to be started, and is not looked for")


def is_at_rest(world):
    """Whether nothing has to happen any more: all has ended, or a person was called."""
    if world.root.state == "needs_attention" and world.root.closed_at is None:
        return True
    return all(_rests(saga) for saga in world.sagas.values())


def _rests(saga):
    return saga.finished_at is not None or saga.closed_at is not None or saga.state == "needs_attention"
