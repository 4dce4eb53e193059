"""Sagas of every shape, out of the same few toys."""

import datetime

from sagas import Approval, Child, ForEach, Parallel, Retry, Saga, Step, Wait
from tests.sagas.sample_app import functions

NO_TIME = datetime.timedelta(0)
SECOND = datetime.timedelta(seconds=1)
HOUR = datetime.timedelta(hours=1)
MAY_APPROVE = "sample_app.approve_toy"


def local(name, **rest):
    return Step(name, **{"do": functions.make, "undo": functions.unmake, "queue": "toys", **rest})


def remote(name, **rest):
    return Step(
        name, **{"do": functions.book, "undo": functions.cancel, "queue": "world", "remote": True, **rest}
    )


def waits(name, **rest):
    return remote(name, **{"wait": Wait(until="settled", limit=HOUR), **rest})


def approval(name="ok", **rest):
    return Approval(name, **{"permission": MAY_APPROVE, "limit": 2 * HOUR, **rest})


def saga(name, *steps, **rest):
    common = {
        "retry": Retry(on=[functions.Unavailable], attempts=3, first=NO_TIME),
        "undo_retry": Retry(on=[functions.Unavailable], attempts=4, first=NO_TIME),
        "refused": [functions.Refused],
        "unknown": [functions.Unknown],
        "outage": [functions.KeyExpired],
        "on_completed": functions.completed,
        "on_compensated": functions.compensated,
        "on_attention": functions.attention,
    }
    return Saga(name=name, steps=steps, **{**common, **rest})


ASK = {"ask": functions.look_up}
PIVOT = {"undo": None, "kind": "pivot"}
RETRIABLE = {"undo": None, "kind": "retriable"}

LOCAL = saga("toy-local", local("a"), local("b"), local("c"))
REMOTE = saga("toy-remote", remote("a"), remote("b"), remote("c"))
MIXED = saga("toy-mixed", local("a"), remote("b", **ASK), local("c"), remote("d"))
ONE = saga("toy-one", local("a"))
HELD = saga("toy-held", local("a"), remote("b", do=functions.hold, **ASK), local("c"))
SHORT = SECOND / 2
HASTY = saga("toy-hasty", local("a", timeout=SHORT), remote("b", timeout=SHORT, **ASK), local("c"))
ONE_REMOTE = saga("toy-one-remote", remote("a"))
LONG = saga("toy-long", *(local(name) for name in "abcdefghij"))
TWO_HUNDRED = saga("toy-two-hundred", *(local(f"s{number}") for number in range(200)))
BLIND_WAIT = saga("toy-blind-wait", local("a"), waits("w"), local("c"))
WAIT = saga(
    "toy-wait",
    local("a"),
    waits("w", **ASK, wait=Wait(until="settled", limit=HOUR, poll=10 * SECOND)),
    local("c"),
)
LOCAL_WAIT = saga(
    "toy-local-wait", local("a"), local("w", wait=Wait(until="settled", limit=HOUR)), local("c")
)
PIVOTAL = saga(
    "toy-pivotal", local("a"), remote("p", **ASK, **PIVOT), local("r", **RETRIABLE), remote("s", **RETRIABLE)
)
BLIND_PIVOT = saga("toy-blind-pivot", remote("a"), remote("p", **PIVOT), remote("r", **RETRIABLE))
LOCAL_PIVOT = saga("toy-local-pivot", local("a"), local("p", **PIVOT), local("r", **RETRIABLE))
ASKED_PIVOT_WAIT = saga(
    "toy-asked-pivot-wait", local("a"), waits("p", **ASK, **PIVOT), local("r", **RETRIABLE)
)
PIVOT_WAIT = saga("toy-pivot-wait", local("a"), waits("p", **PIVOT), local("r", **RETRIABLE))
FORWARD_ONLY = saga("toy-forward-only", local("a"), local("r", **RETRIABLE), local("s", **RETRIABLE))
LATE_WAIT = saga("toy-late-wait", local("a"), remote("p", **PIVOT), waits("r", **ASK, **RETRIABLE))


def at_once(name, *steps, **rest):
    return Parallel(name, steps=steps, **rest)


AT_ONCE = saga("toy-at-once", local("a"), at_once("both", remote("b"), local("c")), local("d"))
AT_ONCE_FIRST = saga("toy-at-once-first", at_once("all", local("a"), remote("b", **ASK), remote("c")))
AT_ONCE_REVERSE = saga(
    "toy-at-once-reverse", at_once("all", local("a"), local("b"), local("c"), undo="reverse"), local("d")
)
AT_ONCE_WAIT = saga(
    "toy-at-once-wait", local("a"), at_once("all", waits("w", **ASK), local("b"), remote("c")), local("d")
)
AT_ONCE_TWICE = saga(
    "toy-at-once-twice",
    at_once("first", local("a"), remote("b")),
    at_once("then", remote("c"), local("d")),
    remote("p", **PIVOT),
    at_once("last", local("r", **RETRIABLE), remote("s", **RETRIABLE)),
)
CHOICE = saga(
    "toy-choice", local("a"), local("b", when="yes"), remote("c", unless="yes"), local("d"), inputs=["yes"]
)
FIRST_LEFT_OUT = saga("toy-first-left-out", local("a", when="yes"), local("b"), inputs=["yes"])
ALL_LEFT_OUT = saga("toy-all-left-out", local("a", when="yes"), inputs=["yes"])
AT_ONCE_CHOICE = saga(
    "toy-at-once-choice",
    at_once("all", local("a", when="yes"), remote("b"), local("c", unless="yes")),
    at_once("more", local("d"), local("e"), when="yes"),
    remote("f"),
    inputs=["yes"],
)


APPROVED = saga("toy-approved", local("a"), approval(), local("c"))
APPROVAL_FIRST = saga("toy-approval-first", approval(), local("b"))
APPROVAL_LAST = saga("toy-approval-last", local("a"), approval())
APPROVED_BY_TWO = saga("toy-approved-by-two", local("a"), approval(persons=2), local("c"))
APPROVED_WITH_FACTS = saga(
    "toy-approved-with-facts",
    local("a"),
    approval(outputs=["limit", "note"]),
    local("c", do=functions.make_within, inputs=["limit"]),
)
LAPSES = {
    lapse: saga(f"toy-lapse-{lapse}", local("a"), approval(lapse=lapse), local("c"))
    for lapse in ("refuse", "approve", "attention")
}
REMINDED = saga(
    "toy-reminded",
    local("a"),
    approval(remind=[HOUR / 2, HOUR], notify=functions.asked, lapse="attention"),
    local("c"),
)
APPROVED_AT_ONCE = saga(
    "toy-approved-at-once",
    local("a"),
    at_once("all", approval(outputs=["limit"]), remote("b")),
    local("c", do=functions.make_within, inputs=["limit"]),
)

PARCEL = saga("toy-parcel", local("x"), remote("y"), inputs=["parcel"])
EACH = saga(
    "toy-each", local("a"), ForEach("deliver", of="parcels", saga=PARCEL), local("z"), inputs=["parcels"]
)


def each(name, child=PARCEL, **rest):
    step = ForEach("deliver", of="parcels", saga=child, **rest)
    return saga(name, local("a"), step, local("z"), inputs=["parcels"])


EACH_IN_TURN = each("toy-each-in-turn", limit=1)
EACH_KEPT = each("toy-each-kept", failed="keep")
TWO_OF_THEM = each("toy-two-of-them", limit=1, need=2)
WAITING_PARCEL = saga("toy-waiting-parcel", local("x"), waits("y"), inputs=["parcel"])
EACH_WAITS = each("toy-each-waits", WAITING_PARCEL)
INNER = saga("toy-inner-child", local("i"), remote("j"))
ONE_CHILD = saga("toy-one-child", local("a"), Child("c", saga=INNER), local("z"))
GRANDCHILDREN = each(
    "toy-grandchildren", saga("toy-outer-child", local("o"), Child("c", saga=INNER), inputs=["parcel"])
)
CHILDREN_BESIDE = saga(
    "toy-children-beside-b",
    at_once("all", ForEach("deliver", of="parcels", saga=PARCEL), local("b")),
    local("z"),
    inputs=["parcels"],
)
CHILDREN_LAST = saga(
    "toy-children-last",
    local("a"),
    remote("p", **PIVOT),
    ForEach("deliver", of="parcels", saga=PARCEL, kind="retriable"),
    inputs=["parcels"],
)
MEETING = saga(
    "toy-meeting",
    at_once(
        "all",
        local("a", do=functions.meet, timeout=30 * SECOND),
        local("b", do=functions.meet, timeout=30 * SECOND),
    ),
)
A_FEW_AT_ONCE = saga(
    "toy-a-few-at-once",
    local("a"),
    ForEach("deliver", of="parcels", saga=PARCEL, limit=3),
    local("z"),
    inputs=["parcels"],
)
