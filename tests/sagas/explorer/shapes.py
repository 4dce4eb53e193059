"""The sagas that are gone through: steps in a row, a stage of three of every kind, a parent of two children.

Each has as few steps as there can be: one before what it is about and one behind it, so that what is undone
before and after it is seen as well.
"""

import dataclasses
import itertools

from sagas import Approval, Child, ForEach, Retry, Wait
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
    says: dict[str, tuple[dict, ...]] = dataclasses.field(default_factory=dict)
    """Of local steps with outputs, what they may say."""

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


def _beside(name, **rest):
    step = ForEach("each", of="items", saga=CHILD)
    stage = toys.at_once("all", step, toys.remote("r", **toys.ASK), **rest)
    saga = _saga(f"toy-explored-{name}", toys.local("a"), stage, toys.local("z"), inputs=["items"])
    return Shape(saga=saga, facts={"items": [1]}, about="a ForEach of one child beside a remote step")


def _pivotal():
    stage = toys.at_once("all", toys.remote("r", **toys.ASK), toys.local("l"))
    pivot = toys.remote("p", **toys.ASK, **toys.PIVOT)
    saga = _saga("toy-explored-pivot", stage, pivot, toys.local("z", **toys.RETRIABLE))
    return Shape(saga=saga, about="a stage of two, the pivot, and one that can only be done")


def _past_undoing():
    child = _saga(
        "toy-explored-forward-child", toys.remote("y", **toys.ASK, **toys.RETRIABLE), inputs=["item"]
    )
    step = ForEach("each", of="items", saga=child, kind="retriable")
    saga = _saga("toy-explored-each-past-undoing", toys.local("a"), step, inputs=["items"])
    return Shape(saga=saga, facts={"items": [1, 2]}, about="a ForEach of two children, past the pivot")


def _approved(name, **rest):
    return Approval(name, permission=toys.MAY_APPROVE, limit=2 * toys.HOUR, **{"lapse": "attention", **rest})


def _in_a_row(name, about, *steps, **rest):
    return Shape(saga=_saga(f"toy-explored-{name}", toys.local("a"), *steps), about=about, **rest)


def _polled(name="w", **rest):
    wait = Wait(until="settled", limit=toys.HOUR, poll=toys.SECOND)
    return toys.waits(name, **{**toys.ASK, "wait": wait, "retry": TWICE, **rest})


def _retriable(name="z"):
    return toys.local(name, **toys.RETRIABLE)


def _row():
    steps = _asked(), toys.local("l", optional=True), toys.remote("z")
    return _in_a_row("row", "a remote one that is asked about, a local one, one that cannot be asked", *steps)


def _lapses(lapse):
    step = _approved("p", lapse=lapse, remind=[toys.HOUR / 2])
    about = f"an approval of which people are reminded, and what then counts is {lapse!r}"
    return _in_a_row(f"approved-{lapse}", about, step, toys.remote("z", **toys.ASK))


def _choice(name, about, *steps):
    first = toys.local("a", outputs=["yes"])
    saga = _saga(f"toy-explored-{name}", first, *steps, toys.local("z"))
    return Shape(saga=saga, says={"a": ({"yes": True}, {"yes": False})}, about=about)


def _choices():
    among = (
        toys.remote("r", when="yes", **toys.ASK),
        toys.local("l", unless="yes"),
        toys.remote("s", when="yes"),
    )
    members = toys.remote("r", **toys.ASK), toys.local("l", when="yes"), _approved("p", unless="yes")
    return {
        "choice": _choice("choice", "two of which the first step decides, or another one", *among),
        "choice-at-once": _choice(
            "choice-at-once",
            "a stage of which the first step decides which are done",
            toys.at_once("all", *members),
        ),
    }


def _child(name, about, *rest, kind="compensatable", child=None):
    child = child or _saga("toy-explored-one-child", toys.remote("y", **toys.ASK))
    return _in_a_row(name, about, Child("c", saga=child, kind=kind), *rest)


def _grandchild():
    inner = _saga("toy-explored-inner-child", toys.remote("y", **toys.ASK))
    child = _saga("toy-explored-outer-child", Child("g", saga=inner), toys.local("x"))
    return _child("grandchild", "a child with a child of its own", child=child)


SHAPES = (
    {
        "row": _row(),
        "wait": _in_a_row("wait", "one that only a callback ends", _waits(), toys.remote("z", **toys.ASK)),
        "polled": _in_a_row("polled", "one that a callback ends, or an answer", _polled(), toys.local("z")),
        "pivot-waits": _in_a_row(
            "pivot-waits",
            "a pivot that waits, and one that can only be done",
            _polled("p", **toys.PIVOT),
            _retriable(),
        ),
        "approved-refuse": _lapses("refuse"),
        "approved-approve": _lapses("approve"),
        "approved-attention": _lapses("attention"),
        "child": _child("child", "a child", toys.local("z")),
        "child-pivot": _child(
            "child-pivot", "a child, and then the pivot", toys.remote("p", **toys.ASK, **toys.PIVOT)
        ),
        "grandchild": _grandchild(),
    }
    | _choices()
    | {
        "together": _mixed("together", "one that a callback ends, one that is asked about, a local one"),
        "reverse": _mixed("reverse", "the same, undone one after the other", undo="reverse"),
        "same": _same("same", "three remote ones of one kind"),
        "same-reverse": _same("same-reverse", "the same, undone one after the other", undo="reverse"),
        "local": _of_three(
            "local", "three local ones of one kind", *(toys.local(each) for each in "lmn"), alike=tuple("lmn")
        ),
        "callback": _of_three(
            "callback", "one that a callback ends and a local one", _waits(), toys.local("l")
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
    | {
        "pivot": _pivotal(),
        "each-past-undoing": _past_undoing(),
        "each-beside": _beside("each-beside"),
        "each-beside-reverse": _beside("each-beside-reverse", undo="reverse"),
    }
)

LONG = {
    **{name: 1 if name.startswith("each-") else 2 for name in SHAPES},
    "together": 1,
    "reverse": 1,
    "local": 3,
    "each-1-1-keep": 2,
    "grandchild": 1,
}
"""So many faults on each way are gone through in minutes."""
