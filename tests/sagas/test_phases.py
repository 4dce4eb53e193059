"""Where stages and children stand, by what their rows say: each phase from the least that tells it."""

import datetime

import pytest

from sagas import models
from sagas.declaration import phases, stages
from tests.sagas.sample_app import saga as toys

NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)

BOTH = next(stage for stage in toys.AT_ONCE.stages if stage.parallel is not None)
"""The second of three stages: positions 1 and 2."""

BACK = {"state": "compensating", "direction": -1}
CALLED = {"state": "needs_attention"}
OVER = {"finished_at": NOW}


def members(*states, entered=True):
    epoch = 1 if entered else None
    return [
        models.StepInstance(name=name, position=at, state=state, epoch=epoch)
        for (at, name), state in zip([(1, "b"), (2, "c")], states, strict=True)
    ]


WAITING = members("pending", "pending", entered=False)
DONE = members("done", "done")


@pytest.mark.parametrize(
    ("phase", "position", "saga", "rows"),
    [
        ("ahead", 0, {}, WAITING),
        ("ahead", 0, {**BACK}, WAITING),
        ("under_way", 1, {}, members("pending", "pending")),
        ("under_way", 1, {}, members("done", "running")),
        # Left out before it was entered: it has been decided about.
        ("under_way", 1, {}, members("skipped", "pending", entered=False)),
        ("done", 3, {}, DONE),
        # Of a saga that has ended no stage is at hand, and be it the last.
        ("done", 1, {"state": "completed", **OVER}, DONE),
        ("stopped", 1, CALLED, members("done", "failed")),
        ("stopped", 1, {**BACK, **CALLED}, members("undone", "undo_failed")),
        ("done", 3, CALLED, DONE),
        ("done", 3, BACK, DONE),
        ("undone", 0, BACK, members("undone", "undone")),
        ("undone", 0, {**BACK, **CALLED}, members("undone", "undone")),
        ("undone", 3, {"state": "compensated", "direction": -1, **OVER}, members("undone", "undone")),
        ("draining", 1, BACK, members("done", "running")),
        ("undoing", 1, BACK, members("done", "undoing")),
        ("undoing", 2, BACK, members("undone", "undoing")),
    ],
)
def test_a_stage_stands_where_its_rows_say(phase, position, saga, rows):
    row = models.SagaInstance(position=position, **{"state": "running", "direction": 1, **saga})

    assert phases.of_stage(BOTH, row, rows) == phase


@pytest.mark.parametrize(
    ("phase", "child"),
    [
        ("listed", {"epoch": 0}),
        ("under_way", {"epoch": 1}),
        # It waits for its turn in a queue, as its parent has started it.
        ("under_way", {"epoch": 0, "in_line_for": "payments"}),
        ("waiting", {"epoch": 1, "position": 2}),
        ("waiting", {"epoch": 0, "position": 2}),
        ("under_way", {"epoch": 1, "position": 1}),
        ("undoing", {"state": "compensating"}),
        ("stopped", {"state": "needs_attention"}),
        ("stopped", {"state": "needs_attention", "position": 2}),
        ("aside", {"state": "needs_attention", "closed_at": NOW}),
        ("completed", {"state": "completed", **OVER}),
        ("compensated", {"state": "compensated", **OVER}),
    ],
)
def test_a_child_stands_where_its_row_says(phase, child):
    row = models.SagaInstance(**{"state": "running", "position": 0, "epoch": 1, **child})

    assert phases.of_child(row, steps=2) == phase


def test_the_stages_of_a_declaration_lie_one_behind_the_other():
    elements = toys.AT_ONCE_TWICE.steps
    found = stages.laid_out(elements)

    assert [list(stage.positions) for stage in found] == [[0, 1], [2, 3], [4], [5, 6]]
    assert [stage.parallel for stage in found] == [elements[0], elements[1], None, elements[3]]
    assert [step.name for stage in found for step in stage.steps] == list("abcdprs")
