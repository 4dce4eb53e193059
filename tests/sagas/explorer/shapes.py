"""The sagas that are gone through: a stage of three of every kind, and a parent of two children.

Each has as few steps as there can be: one before the stage and one behind it, so that what is undone before
and after it is seen as well.
"""

import dataclasses
import itertools

from sagas import Approval, ForEach, Retry
from sagas.declaration import definition
from tests.sagas.sample_app import functions
from tests.sagas.sample_app import saga as toys

ONCE = Retry(on=[functions.Unavailable], attempts=1, first=toys.NO_TIME)
TWICE = dataclasses.replace(ONCE, attempts=2)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shape:
    """One saga, and what of it looks the same from wherever it is seen."""

    saga: definition.Saga
    facts: dict = dataclasses.field(default_factory=dict)
    alike: tuple[str, ...] = ()
    """Members that are of one kind: it does not matter which of them something happened to."""

    about: str


def _saga(name, *steps, **rest):
    hooks = {"on_completed": None, "on_compensated": None, "on_attention": None}
    return toys.saga(
        name, *steps, **{"retry": ONCE, "undo_retry": ONCE, "inline": False, "outage": [], **hooks, **rest}
    )


def _waits():
    return toys.waits("w")


def _asked(name="r"):
    return toys.remote(name, **toys.ASK, retry=TWICE)


def _of_three(name, about, *members, alike=(), undo="together"):
    stage = toys.at_once("all", *members, undo=undo)
    saga = _saga(f"toy-explored-{name}", toys.local("a"), stage, toys.local("z"))
    return Shape(saga=saga, alike=alike, about=about)


def _mixed(name, about, **rest):
    return _of_three(name, about, _waits(), _asked(), toys.local("l", optional=True), **rest)


def _same(name, about, **rest):
    members = (toys.remote(each, **toys.ASK) for each in "rst")
    return _of_three(name, about, *members, alike=("r", "s", "t"), **rest)


CHILD = _saga("toy-explored-child", toys.remote("y", **toys.ASK), inputs=["item"])


def _family(limit, need, failed):
    words = f"limit={limit}, need={need!r}, failed={failed!r}"
    step = ForEach("each", of="items", saga=CHILD, limit=limit, need=need, failed=failed)
    saga = _saga(
        f"toy-explored-each-{limit}-{need}-{failed}", toys.local("a"), step, toys.local("z"), inputs=["items"]
    )
    return Shape(saga=saga, facts={"items": [1, 2]}, about=f"a ForEach of two children, {words}")


def _past_undoing():
    child = _saga(
        "toy-explored-forward-child", toys.remote("y", **toys.ASK, **toys.RETRIABLE), inputs=["item"]
    )
    step = ForEach("each", of="items", saga=child, kind="retriable")
    saga = _saga("toy-explored-each-past-undoing", toys.local("a"), step, inputs=["items"])
    return Shape(saga=saga, facts={"items": [1, 2]}, about="a ForEach of two children, past the pivot")


def _approved(name, **rest):
    return Approval(name, permission=toys.MAY_APPROVE, limit=2 * toys.HOUR, **{"lapse": "attention", **rest})


SHAPES = (
    {
        "together": _mixed("together", "one that a callback ends, one that is asked about, a local one"),
        "reverse": _mixed("reverse", "the same, undone one after the other", undo="reverse"),
        "same": _same("same", "three remote ones of one kind"),
        "same-reverse": _same("same-reverse", "the same, undone one after the other", undo="reverse"),
        "local": _of_three(
            "local", "three local ones of one kind", *(toys.local(each) for each in "lmn"), alike=tuple("lmn")
        ),
        "approval": _of_three(
            "approval",
            "an approval beside a remote and a local one",
            _approved("p", persons=2),
            toys.remote("r", **toys.ASK),
            toys.local("l"),
        ),
    }
    | {
        f"each-{limit}-{need}-{failed}": _family(limit, need, failed)
        for limit, need, failed in itertools.product((1, 2), ("all", 1), ("compensate", "keep"))
    }
    | {"each-past-undoing": _past_undoing()}
)

LONG = dict.fromkeys(SHAPES, 2) | {"together": 1, "reverse": 1, "local": 3}
"""So many faults on each way are gone through in minutes."""
