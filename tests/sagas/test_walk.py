"""The way of one message through the engine is as docs/architecture.md tells it."""

import re
import sys

import pytest

from saga_project.local import runfile
from sagas import engine
from sagas.declaration.states import Direction
from tests.sagas import harness
from tests.sagas.sample_app import saga as toys

ENGINE = "sagas.engine."
METHODS = ("store.Transactions.lock", "store.UnitOfWork.commit")
HANDS_ON = {"saga_id", "saga", "work", "attempt", "step"}
"""What a function's first argument is called, if the saga is handed on to it."""


def told(kind):
    """The functions that the document lists, in its order."""
    text = (runfile.ROOT / "docs" / "architecture.md").read_text()
    (listed,) = re.findall(rf"<!-- begin walk {kind} -->(.*?)<!-- end walk {kind} -->", text, re.DOTALL)
    return re.findall(r"^\d+\. `([\w.]+)`", listed, re.MULTILINE)


def walk(saga, step):
    """The engine's public functions to which the saga is handed on, as a step's message first enters each."""
    entered = []

    def note(frame, event, _):
        module, code = frame.f_globals.get("__name__", ""), frame.f_code
        if event == "call" and module.startswith(ENGINE):
            name = f"{module.removeprefix(ENGINE)}.{code.co_qualname}"
            handed_on = bool(HANDS_ON & set(code.co_varnames[:1])) or name in METHODS
            if handed_on and not re.search(r"\._|<", name) and name not in entered:
                entered.append(name)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        engine.perform(saga.pk, epoch=1, step=step, direction=Direction.FORWARD)
    finally:
        sys.setprofile(before)
    return entered


@pytest.mark.parametrize(("kind", "declared"), [("local", toys.LOCAL), ("remote", toys.REMOTE)])
def test_a_step_goes_the_way_that_the_document_tells(broker, kind, declared):
    saga = harness.begin(declared)

    entered = walk(saga, "a")

    assert entered == told(kind)
    saga.refresh_from_db()
    assert saga.position == 1
