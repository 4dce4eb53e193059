"""Every way through a stage of three, and through a parent of two children, with a fault on it.

`make explore` goes those with more. That it finds what is wrong is shown with faults planted in the engine.
"""

import collections
import dataclasses
import itertools
import types

import pytest
from django.db import connection

from sagas import Parallel, engine, models
from sagas.declaration import diagram
from sagas.declaration.states import SagaState
from sagas.engine import (
    approvals,
    children,
    dispatching,
    execution,
    inbox,
    operations,
    parallel,
    parents,
    refusals,
    transitions,
)
from sagas.engine.kinds import EventKind
from tests.sagas import harness, simulator
from tests.sagas.explorer import memory, search, shapes, ways
from tests.sagas.explorer.memory import World
from tests.sagas.sample_app import saga as toys

QUICK = {
    "row": 1, "wait": 0, "polled": 1, "pivot-waits": 1, "approved-approve": 1, "approved-refuse": 1,
    "choice": 1, "choice-at-once": 1, "child-pivot": 0, "grandchild": 0,
    "together": 0, "reverse": 0, "same": 1, "same-reverse": 1, "local": 1,
    "each-1-all-compensate": 0, "each-2-1-compensate": 0, "each-2-all-keep": 0, "each-beside": 0,
}  # fmt: skip
"""So many faults on each way through these shapes are gone through in a second."""


@pytest.mark.parametrize("shape", QUICK)
def test_every_rule_holds_on_every_way_through(shape):
    found = search.explore(shapes.SHAPES[shape], QUICK[shape])

    assert found.nodes > 25
    assert found.runs > 70
    assert "completed" in found.ends
    assert QUICK[shape] == 0 or "compensated" in found.ends
    assert found.phases["stage"] <= set(diagram.STAGE)
    assert found.phases["child"] <= set(diagram.CHILD)


# --- Where stages and children stand -----------------------------------------------------------------


SEEN_WITH_MORE_FAULTS = {
    "stage": {("draining", "stopped"), ("draining", "undone")},
    "child": {("undoing", "stopped"), ("stopped", "undoing"), ("stopped", "compensated")},
}


@pytest.mark.parametrize(
    ("kind", "drawn", "chosen"),
    [
        ("stage", diagram.STAGE, ["callback", "approval", "pivot"]),
        ("child", diagram.CHILD, ["each-1-1-keep", "each-past-undoing"]),
    ],
)
def test_every_rule_holds_with_a_fault_and_the_diagrams_are_what_is_seen(kind, drawn, chosen):
    found = [search.explore(shapes.SHAPES[shape], 1) for shape in chosen]

    assert set().union(*(one.ends for one in found)) == {"completed", "compensated", "needs_attention"}
    assert set().union(*(one.phases[kind] for one in found)) == set(drawn) - SEEN_WITH_MORE_FAULTS[kind]


# --- Planted faults ------------------------------------------------------------------------------------


def planted(rule, shape="same", faults=1):
    """Have a test see to it that the explorer finds the fault that the function plants."""

    def declare(plant):
        PLANTED[plant.__name__] = plant, rule, shape, faults
        return plant

    return declare


PLANTED = {}


@planted("O1")
def the_first_begun_is_undone_first(replace):
    def lowest(work, *, below, **_):
        rows = [row for row in work.below(below) if row.begun and row.state != "undone"]
        return rows[-1].position if rows else None

    replace(transitions, "next_to_undo", lowest)


@planted("O1", shape="reverse")
def the_first_begun_of_a_stage_is_undone_first(replace):
    right = parallel.left_to_undo
    replace(parallel, "left_to_undo", lambda *stands: right(*stands)[::-1])


@planted("O2")
def what_is_at_work_is_not_waited_for(replace):
    replace(parallel, "busy_until", lambda work: None)


@planted("O3", shape="each-2-all-compensate")
def a_parent_is_undone_before_its_children(replace):
    def at_once(work):
        work.transition_step("undone", EventKind.UNDO_DONE)
        transitions.dispatching.follow(work, transitions.advance(work))

    replace(parents, "_undo", at_once)


@planted("E1|E2|does not go")
def a_worker_that_lost_its_lease_records(replace):
    replace(execution, "_is_void", lambda work, attempt: False)


@planted("E2", shape="callback")
def what_a_late_callback_tells_of_is_left(replace):
    noted = models.Signal.Fate.NOTED
    replace(inbox, "_compensate_late", lambda work, signal: inbox._note(work, signal, noted))


@planted("U1")
def a_vanished_worker_has_done_nothing(replace):
    def pending(work, failure):
        work.transition_step("pending", EventKind.STEP_RETRY)

    replace(transitions, "mark_unknown", pending)


@planted("U2")
def what_may_have_happened_is_done_again(replace):
    right = execution.claim

    def sure(work, message):
        return dataclasses.replace(right(work, message), doubtful=False)

    replace(execution, "claim", sure)


@planted("T5|E2")
def what_may_have_happened_is_not_undone(replace):
    replace(models.StepInstance, "begun", property(lambda row: row.facts is not None))


@planted("T2")
def nothing_is_due(replace):
    replace(parallel, "due", lambda work: [])


@planted("T2")
def a_deadline_that_is_over_stops_nothing(replace):
    replace(execution, "_compensate_if_due", lambda work: False)


@planted("T3")
def an_operator_moves_what_has_ended(replace):
    replace(refusals, "_ended", lambda saga: "")


@planted("T5")
def one_member_is_enough(replace):
    replace(parallel, "is_done", lambda work: any(row.state == "done" for row in work.members(work.stage)))


@planted("O1|T5")
def what_began_is_not_looked_for(replace):
    replace(parallel, "to_undo", lambda work: [])


@planted("I3", shape="approval")
def a_cancellation_is_forgotten(replace):
    replace(transitions, "compensate_if_cancelled", lambda work: False)


@planted("D3", shape="callback")
def a_callback_that_came_early_is_forgotten(replace):
    replace(inbox, "take_stored", lambda work: None)


@planted("D3", shape="polled")
def a_callback_is_left_to_the_message_that_is_under_way(replace):
    right = inbox._act

    def act(work, signal):
        waits = work.saga.state == "running" and work.step.state == "waiting"
        if waits and work.cursor.dispatched_at is not None:
            inbox._note(work, signal, models.Signal.Fate.STORED)
        else:
            right(work, signal)

    replace(inbox, "_act", act)


@planted("E2", shape="callback")
def a_callback_that_comes_twice_is_late(replace):
    replace(inbox, "_GIVEN_UP", {*inbox._GIVEN_UP, "done"})


@planted("does not go from", shape="together")
def what_has_begun_is_left_out(replace):
    def refuse(saga, step, declared, now):
        return "" if declared.step(step.name).optional and saga.direction == 1 else "no"

    replace(refusals, "skip", refuse)


@planted("T3|does not go from")
def what_is_being_undone_is_to_be_undone(replace):
    replace(refusals, "compensate", lambda *_: "")


@planted("T2|D3, T3", shape="callback")
def what_is_resumed_on_the_way_back_goes_forwards(replace):
    right = transitions.reopen

    def reopen(work, **event):
        right(work, **event)
        work.set(state="running")

    replace(transitions, "reopen", reopen)


@planted("P1", shape="pivot")
def what_is_past_its_pivot_may_be_cancelled(replace):
    replace(transitions, "past_pivot", lambda saga, step: False)


@planted("A2", faults=2)
def the_last_failure_is_kept(replace):
    replace(transitions, "keep_first_failure", lambda work, failure: work.set(failure=failure.as_json()))


@planted("E2|T5", faults=2)
def an_operators_no_is_taken_for_a_yes(replace):
    right = operations._resolve_undo
    replace(operations, "_resolve_undo", lambda work, happened, event: right(work, True, event))


@planted("held")
def what_is_held_goes_on(replace):
    right = execution.admit

    def admit(work, message):
        work.saga.held_at, held_at = None, work.saga.held_at
        try:
            return right(work, message)
        finally:
            work.saga.held_at = held_at

    replace(execution, "admit", admit)


@planted("of 2 persons", shape="approval")
def one_of_two_persons_is_enough(replace):
    def approve(work, facts, **event):
        transitions.finish_step(work, {approvals.APPROVALS: [event], "approved": True})
        return transitions.advance(work)

    replace(transitions, "approve", approve)


@planted("children at once", shape="each-1-all-compensate")
def all_children_start_at_once(replace):
    right = parents._start_more

    def start(work, step, standing):
        right(work, step, dataclasses.replace(standing, total=standing.total - 1))

    replace(parents, "_start_more", start)


@planted("T5", shape="each-2-all-compensate")
def a_child_completes_before_its_parent(replace):
    replace(children, "ends_with_parent", lambda saga: False)


@planted("T5", shape="each-2-all-compensate")
def some_children_are_enough(replace):
    replace(parents, "_need", lambda step: 1)


@planted("T2", shape="each-1-all-compensate")
def children_are_not_told(replace):
    replace(parents, "_turn_some", lambda work, why: None)


@planted("sums", shape="each-2-all-compensate")
def what_is_heard_is_not_counted(replace):
    replace(children, "_keep", lambda work, sums: None)


@planted("sums: child", shape="each-2-all-compensate")
def a_child_that_is_done_tells_nobody(replace):
    right = children.report

    def report(work):
        if not children.waits_for_parent(work.saga):
            right(work)

    replace(children, "report", report)


@planted("conditions", shape="choice")
def a_step_is_done_whatever_its_condition(replace):
    replace(transitions, "_chosen", lambda work, stage: list(stage.positions))


@planted("conditions", shape="choice-at-once")
def a_condition_is_read_the_wrong_way_round(replace):
    right = transitions._chosen

    def chosen(work, stage):
        facts = {name: not value for name, value in work.saga.facts.items()}
        facts, work.saga.facts = work.saga.facts, facts
        try:
            return right(work, stage)
        finally:
            work.saga.facts = facts

    replace(transitions, "_chosen", chosen)


@planted("D3|O1|does not go", shape="row")
def a_message_of_before_is_carried_out(replace):
    replace(dispatching, "at_hand", lambda work: True)


@planted("D3", shape="polled")
def a_message_that_nobody_expects_is_carried_out(replace):
    right = execution.admit

    def admit(work, message):
        expected, work.cursor.dispatched_at = work.cursor.dispatched_at, memory.NOW
        try:
            return right(work, message)
        finally:
            if work.cursor.dispatched_at is memory.NOW:
                work.cursor.dispatched_at = expected

    replace(execution, "admit", admit)


@planted("A4", shape="row", faults=3)
def what_the_deadline_cut_off_counts_as_known(replace):
    right = transitions.in_doubt

    def in_doubt(saga, step):
        return right(saga, step) and (step.state != "undoing" or bool(step.error))

    replace(transitions, "in_doubt", in_doubt)


@planted("A4", shape="choice-at-once", faults=2)
def what_a_dead_worker_left_while_a_person_was_called_counts_as_known(replace):
    right = transitions.in_doubt
    replace(transitions, "in_doubt", lambda saga, step: step.state != "running" and right(saga, step))


@planted("D6|does not go", shape="row")
def a_fence_is_ignored(replace):
    replace(execution, "_is_void", lambda work, attempt: False)


@planted("E2", shape="row")
def a_tombstone_is_not_kept(replace):
    right = World.change

    def change(world, saga_id, name, **fields):
        right(world, saga_id, name, **{**fields, "closed": False})

    replace(World, "change", change)


@planted("O3", shape="child-pivot", faults=0)
def a_child_waits_for_its_parent_for_ever(replace):
    replace(children, "complete", lambda work, steps: None)


@planted("is not looked for", shape="each-1-all-compensate")
def what_comes_next_is_not_looked_for(replace):
    right = children._Sums.as_json
    replace(children._Sums, "as_json", lambda sums: {**right(sums), "first": 2 * sums.first})


@pytest.mark.parametrize(
    "fault",
    [name if not n % 3 else pytest.param(name, marks=pytest.mark.thorough) for n, name in enumerate(PLANTED)],
)
def test_a_planted_fault_is_found_and_told_as_a_timeline(monkeypatch, fault):
    plant, rule, shape, faults = PLANTED[fault]
    plant(monkeypatch.setattr)

    with pytest.raises(search.Counterexample, match=rule) as counterexample:
        search.explore(shapes.SHAPES[shape], faults)

    what, *timeline = str(counterexample.value).splitlines()
    assert what
    assert 0 < len(timeline) < 25
    assert timeline[0].startswith("  1. ")


# --- How many runs there are -------------------------------------------------------------------------------


def test_runs_are_counted_and_who_goes_round_in_a_circle_is_counted_once():
    edges = [(0, 1), (0, 2), (1, 3), (1, 3), (2, 3), (2, 4), (3, 5), (4, 2), (4, 4)]
    sources, targets = zip(*edges, strict=True)

    assert ways.count(6, sources, targets, {5}) == 3
    assert ways.count(6, sources, targets, {3, 5}) == 6
    assert ways.count(6, sources, targets, {0}) == 1


# --- On PostgreSQL ---------------------------------------------------------------------------------------


class Staged(simulator.Simulation):
    """The simulator's world, with nothing in it but stages of three."""

    def _shape(self, number):
        members = [self._step(name, "compensatable") for name in "bcd"]
        stage = Parallel("all", steps=members, undo=self.chance.choice(["together", "reverse"]))
        return toys.saga(
            f"staged-{self.seed}-{number}", self._step("a", "compensatable"), stage,
            self._step("e", "compensatable"), inputs=["yes"],
        )  # fmt: skip


@harness.both_ways
@pytest.mark.parametrize("seed", range(1, 6))
def test_so_does_the_engine_on_postgresql_on_ways_that_chance_takes(rows, seed, inline):
    simulation = Staged(seed, inline=inline)
    try:
        simulation.run()
    except BaseException:
        print("\n".join(simulation.trace[-80:]))
        raise


def test_the_explorer_counts_a_child_as_the_database_does(rows):
    """`children._COUNTED`, which is not run in memory, of every row that there could be."""
    names = "state", "direction", "position", "epoch", "in_line_for", "cancel_requested_at", "closed_at"
    found = itertools.product(
        list(SagaState), (1, -1), (1, 2, 3), (0, 1), (None, "queue"), *[(None, memory.NOW)] * 2
    )
    every = [dict(zip(names, one, strict=True)) for one in found]
    values = ", ".join(["(%s::text, %s, %s, %s, %s::text, %s::timestamptz, %s::timestamptz)"] * len(every))
    values = values % tuple(f"%(v{number})s" for number in range(len(names) * len(every)))
    given = (value for one in every for value in one.values())
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {children._COUNTED} FROM (VALUES {values}) AS g ({', '.join(names)})",
            {"steps": 2, **{f"v{number}": value for number, value in enumerate(given)}},
        )
        expected = [name for (name,) in cursor.fetchall()]

    assert [memory.counted(types.SimpleNamespace(**one), 2) for one in every] == expected
    assert set(expected) == set(children.Counted)


class Compared:
    """Answers in memory as well what parents ask with SQL of their own, and compares the rows after it."""

    def __init__(self):
        self.seen = set()
        self.differences = []
        """Not raised where they are found: the engine would take it for a bug of its own."""

    def __call__(self, execute, statement, parameters, many, context):
        answer_to = memory.answer_to(statement)
        if answer_to is None:
            return execute(statement, parameters, many, context)
        world = types.SimpleNamespace(sagas=models.SagaInstance.objects.in_bulk(), held=(), events=[])
        memory.use(world)
        answer, expected = answer_to(parameters), []
        result = execute(statement, parameters, many, context)
        cursor = context["cursor"].cursor
        if cursor.rowcount and cursor.description is not None:
            expected = cursor.fetchall()
            cursor.scroll(0, mode="absolute")  # The engine reads them now.
        if answer:
            self.seen.add(memory.name_of(statement))
        stands, is_so = (
            {pk: _of(one) for pk, one in found.items()}
            for found in (world.sagas, models.SagaInstance.objects.in_bulk())
        )
        if collections.Counter(answer) != collections.Counter(expected):
            self.differences.append((statement, parameters, answer, expected))
        if stands != is_so:
            self.differences.append((statement, parameters, stands, is_so))
        return result


def _of(row):
    moments = row.tells_parent_at, row.finished_at, row.wake_at, row.deadline_at, row.dispatched_at
    stands = str(row.state), row.direction, row.epoch, row.dispatches, row.in_line_for, row.counted_as
    return *stands, *(at is None for at in moments)


def test_the_explorers_answers_to_parents_are_the_databases(broker):
    compared = Compared()
    inputs = {"parcels": ["one", "two", "three", "four", "five"]}
    with connection.execute_wrapper(compared):
        cancelled = harness.begin(toys.A_FEW_AT_ONCE, inputs=inputs)
        for _ in range(6):
            broker.deliver()
        engine.cancel(cancelled.pk, actor="customer", reason="changed my mind")
        broker.deliver_all()
        models.SagaInstance.objects.update(counted_as=None)  # As an older release has left them.
        done = harness.begin(toys.A_FEW_AT_ONCE, inputs=inputs)
        for _ in range(6):
            broker.deliver()
        models.SagaInstance.objects.update(counted_as=None)
        models.StepInstance.objects.update(standing=None)
        broker.deliver_all()

    assert not compared.differences
    cancelled.refresh_from_db()
    done.refresh_from_db()
    assert (cancelled.state, done.state) == ("compensated", "completed")
    assert compared.seen == {"_HEAR", "_HEAR_ALL", "_COUNT", "_NEXT", "_SEND", "_WANTED", "_COMPLETE"}
