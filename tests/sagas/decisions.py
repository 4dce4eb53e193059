"""What the engine decides about a saga in memory, whole: what it writes, says, sends and has done.

Parts that are empty are left out, so that a test compares a decision with no more than what there is of it.
"""

import functools

from sagas.engine.store import UnitOfWork
from tests.sagas.explorer import memory, shapes
from tests.sagas.explorer.memory import ROOT
from tests.sagas.sample_app import saga as toys


def standing(*steps, saga=None, rows=None, **declared):
    """A world with one saga of these steps, which is at the first of them.

    Arguments:
        steps: as a declaration has them.
        saga: fields of its row that are otherwise.
        rows: the same of its steps, by their names.
        declared: what else the declaration says; it has no hooks.
    """
    hooks = {"on_completed": None, "on_compensated": None, "on_attention": None}
    return world_of(toys.saga("toy-decided", *steps, **{**hooks, **declared}), saga=saga, rows=rows)


def world_of(declared, *, saga=None, rows=None):
    """The same with a saga that is declared already.

    Arguments:
        declared: the declaration.
        saga: fields of its row that are otherwise.
        rows: the same of its steps, by their names.
    """
    world = memory.World(shapes.Shape(saga=declared, about="a test's own"), 0)
    _have(world.root, saga or {})
    for name, fields in (rows or {}).items():
        _have(world.row(ROOT, name), fields)
    return world


def _have(row, fields):
    for name, value in fields.items():
        setattr(row, name, value)


def decision(world, at, what, *given, **more):
    """What a function of the engine decides.

    Arguments:
        world: the rows.
        at: the name of the step at hand.
        what: the function: it takes a unit of work.
        given: what else it is given.
        more: the same, by names.
    """
    work = Deciding(world, world.row(ROOT, at))
    with memory.in_use():
        memory.use(world)
        returns = what(work, *given, **more)
    return {"returns": returns, **decided(work)}


def decided(work):
    """What has been decided in a unit of work so far, and is not written."""
    written = [(row, fields) for row, _, fields in work._aside.values()] + [(work.step, work._step_set)]
    parts = {
        "saga": _values(work.saga, work._saga_set),
        "steps": {row.name: _values(row, fields) for row, fields in written if fields},
        "events": [event(*said[1:5], **_more(*said[5:])) for said in work._events],
        "onward": work.onward and _sent(work.onward),
        "sends": [_sent(dispatch) for dispatch in work._dispatches],
        "does": [_call(do) for do in work._more],
        "hooks": work._hooks,
        "tells": work._notices,
        "alerts": work._alerts,
        "looks": [(one.parent_id, one.step) for one in work._told],
        "drops": work._unneeded,
        "counts": [statement.parameters for statement in work._also],
    }
    return {name: part for name, part in parts.items() if part}


class Deciding(memory.Rows):
    """Keeps of an event all that it says."""

    def note(self, kind, **said):
        UnitOfWork.note(self, kind, **said)


def event(kind, subject="", was="", now="", **more):
    """An event; by names, what it says beside that."""
    return str(kind), subject, str(was), str(now), more


def _more(attempt, actor, reason, data):
    said = {"attempt": attempt, "actor": actor, "reason": reason, "data": data}
    usual = {"attempt": None, "actor": "engine", "reason": "", "data": {}}
    return {name: value for name, value in said.items() if value != usual[name]}


def _values(row, fields):
    return {name: getattr(row, name) for name in fields}


def _sent(dispatch):
    return (dispatch.epoch, *(message.step for message in dispatch.messages))


def _call(do):
    assert isinstance(do, functools.partial)
    return (do.func.__name__, *do.args)
