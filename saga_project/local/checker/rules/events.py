"""What happened to a saga happened in an order in which it may (docs/lifecycle.md, said once more)."""

import datetime
from collections.abc import Iterator, Sequence

from saga_project.local.checker import world
from saga_project.local.checker.rules.rule import Rule, Violation, declare

RULES: list[Rule] = []

SAGA_MOVES = {
    "": ("running",),
    "running": ("completed", "compensating", "needs_attention"),
    "compensating": ("compensated", "needs_attention"),
    "needs_attention": ("running", "compensating"),
}
STEP_MOVES = {
    "pending": ("running", "waiting", "done", "failed", "undoing", "skipped"),
    "running": ("pending", "waiting", "done", "failed", "unknown"),
    "waiting": ("running", "done", "failed", "unknown", "undoing", "undone"),
    "unknown": ("running", "pending", "waiting", "done", "failed", "undoing"),
    "failed": ("pending", "done", "undoing", "undone", "skipped"),
    "done": ("undoing", "undone"),
    "undoing": ("undone", "undo_failed"),
    "undo_failed": ("undoing", "undone"),
    "skipped": ("undoing",),
}

LEASE = datetime.timedelta(seconds=15)
"""The least for which a worker has a step to itself, unless it says itself that it is done: what an attempt
may take, and fifteen seconds (docs/architecture.md)."""

BEGINS = {"step.started": "step", "undo.started": "undo"}
"""What begins an attempt that other workers can see."""
ENDS = {
    "step": ("step.done", "step.waiting", "step.retry", "step.late", "step.unknown", "step.failed"),
    "undo": ("undo.done", "undo.retry", "undo.late", "undo.failed"),
}
BY_PERSON = "operator."

Event = world.Row


@declare(RULES, "order", "Every saga and every step made only moves that it may make.")
def lawful_moves(campaign: world.World) -> Iterator[Violation]:
    """Each from the state to which the one before led."""
    for saga_id, events in campaign.events.items():
        states: dict[str, str] = {}
        for event in events:
            if not event["to_state"]:
                continue
            subject, after = event["subject"], event["to_state"]
            before = states.get(subject, "pending" if subject else "")
            moves = STEP_MOVES if subject else SAGA_MOVES
            if (event["from_state"] or before) != before or after not in moves.get(before, ()):
                told = f"{event['kind']}: {subject or 'the saga'} {event['from_state'] or before} -> {after}"
                yield Violation(
                    about=campaign.name(saga_id), told=f"{told}, where it was {before or 'nothing'}"
                )
            states[subject] = after


@declare(RULES, "order", "Every row says what its events add up to (A1).")
def rows_are_their_events(campaign: world.World) -> Iterator[Violation]:
    """The state of each saga and each step is where its last event led."""
    for saga in campaign.rows.sagas:
        states = {
            event["subject"]: event["to_state"]
            for event in campaign.events.get(saga["id"], ())
            if event["to_state"]
        }
        rows = {"": saga["state"]} | {step["name"]: step["state"] for step in campaign.steps[saga["id"]]}
        for subject, state in rows.items():
            folded = states.get(subject, "pending" if subject else "nothing")
            if folded != state:
                told = f"{subject or 'the saga'} is {state}, its events say {folded}"
                yield Violation(about=campaign.name(saga["id"]), told=told)


@declare(RULES, "order", "No step began after its saga had turned round, or after its undo (O2, E5).")
def no_do_after_undo(campaign: world.World) -> Iterator[Violation]:
    """The engine begins no action any more; one that had begun may still tell what came of it."""
    for saga_id, events in campaign.events.items():
        turned = False
        undone: set[str] = set()
        for event in events:
            kind, subject = event["kind"], event["subject"]
            if not subject and event["to_state"] in ("compensating", "running"):
                turned = event["to_state"] == "compensating"
            if kind.startswith("undo."):
                undone.add(subject)
            if kind == "step.started" and (turned or subject in undone):
                yield Violation(
                    about=campaign.name(saga_id), told=f"{subject} began after it was to be undone"
                )
            elif kind == "step.done" and subject in undone:
                yield Violation(about=campaign.name(saga_id), told=f"{subject} was done after its undo began")


@declare(RULES, "order", "No undo began before what it undoes.")
def no_undo_before_do(campaign: world.World) -> Iterator[Violation]:
    """What never began has nothing to be undone."""
    for saga_id, events in campaign.events.items():
        begun: set[str] = set()
        told: set[str] = set()
        for event in events:
            subject = event["subject"]
            if event["kind"].startswith(("step.", "approval.", BY_PERSON)):
                begun.add(subject)
            elif event["kind"].startswith("undo.") and subject not in begun | told:
                told.add(subject)
                yield Violation(about=campaign.name(saga_id), told=f"{subject} is undone, and never began")


@declare(RULES, "order", "What was done last was undone first (O1, O3).")
def undone_in_reverse(campaign: world.World) -> Iterator[Violation]:
    """A step that began after another was done is undone before the undo of that one begins."""
    for saga_id, events in campaign.events.items():
        began: dict[str, int] = {}
        done: dict[str, int] = {}
        undo: dict[str, int] = {}
        undone: dict[str, int] = {}
        for event in events:
            subject, kind = event["subject"], event["kind"]
            if kind.startswith("step.") and kind not in ("step.skipped", "step.chosen"):
                began.setdefault(subject, event["id"])
            if kind == "step.done":
                done[subject] = event["id"]
            if kind.startswith("undo."):
                undo.setdefault(subject, event["id"])
            if kind == "undo.done":
                undone[subject] = event["id"]
        for first, done_at in done.items():
            for second, began_at in began.items():
                later = began_at > done_at and first in undo and second in undo
                if later and undone.get(second, undo[second]) > undo[first]:
                    told = f"{first} was undone before {second}, which came after it"
                    yield Violation(about=campaign.name(saga_id), told=told)


@declare(RULES, "order", "Attempts are numbered without a gap, the action's and the undo's apart (R1).")
def attempts_in_a_row(campaign: world.World) -> Iterator[Violation]:
    """Each that begins before others' eyes has the number behind the last that was told of."""
    for saga_id, events in campaign.events.items():
        for told in _miscounted(events):
            yield Violation(about=campaign.name(saga_id), told=told)


def _miscounted(events: Sequence[Event]) -> Iterator[str]:
    last: dict[tuple[str, str], int] = {}
    for event in events:
        which = event["kind"].partition(".")[0]
        if which not in ENDS or event["attempt"] is None:
            continue
        # A local step's attempts are told of only once they have failed: any event counts as the last one.
        here = (event["subject"], which)
        before = last.get(here, 0)
        if event["kind"] in BEGINS and event["attempt"] != before + 1:
            yield f"{event['subject']}: attempt {event['attempt']} at its {which} follows {before}"
        last[here] = event["attempt"]


@declare(RULES, "doubled", "One worker at a time was at a step, until its lease ended (D6).")
def one_worker_at_a_time(campaign: world.World) -> Iterator[Violation]:
    """Another attempt begins when the one before has told its end, or its lease is over.

    A person's word may end an attempt, and then there is no lease any more.
    """
    for saga_id, events in campaign.events.items():
        at_work: dict[tuple[str, str], datetime.datetime] = {}
        for event in events:
            subject, kind = event["subject"], event["kind"]
            if kind.startswith(BY_PERSON):
                at_work.clear()
            begins = BEGINS.get(kind)
            since = at_work.get((subject, begins or kind.partition(".")[0]))
            # Somebody found that the worker had not come back in time.
            lost = event["data"].get("clock") == "lease"
            if since is not None and (begins or lost) and event["at"] - since < LEASE:
                seconds = (event["at"] - since).total_seconds()
                told = f"{subject}: a second worker was at it {seconds:.1f} s after the first had begun"
                yield Violation(about=campaign.name(saga_id), told=told)
            if begins:
                at_work[subject, begins] = event["at"]
            else:
                for which, ends in ENDS.items():
                    if kind in ends:
                        at_work.pop((subject, which), None)


@declare(RULES, "order", "Nothing happened to a saga after its end but late callbacks (T3).")
def ends_are_final(campaign: world.World) -> Iterator[Violation]:
    """They are noted, and undone once more."""
    for saga_id, events in campaign.events.items():
        final = ""
        for event in events:
            if final and not event["kind"].startswith(("signal.", BY_PERSON)):
                yield Violation(about=campaign.name(saga_id), told=f"{event['kind']} after it was {final}")
            if not event["subject"] and event["to_state"] in ("completed", "compensated"):
                final = event["to_state"]


@declare(RULES, "order", "Every saga's life begins with its beginning, and is an order's.")
def begun_once(campaign: world.World) -> Iterator[Violation]:
    """No events without a saga, and no saga without its first event or without an order."""
    for saga in campaign.rows.sagas:
        kinds = [event["kind"] for event in campaign.events.get(saga["id"], ())]
        if kinds[:1] != ["saga.begun"] or kinds.count("saga.begun") != 1:
            yield Violation(about=campaign.name(saga["id"]), told=f"it begins with {kinds[:1]}")
        if saga["id"] not in campaign.order_of_saga:
            yield Violation(about=saga["id"], told=f"a saga of no order, {saga['state']}")
