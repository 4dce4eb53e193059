"""Which trials a declaration calls for: what may go wrong at each of its steps, and how it is then to end."""

import dataclasses
import random
from collections.abc import Callable, Iterable, Iterator

from sagas.declaration import definition
from sagas.testing.trials import faults, runs

COMPLETED = frozenset({"completed"})
COMPENSATED = frozenset({"compensated"})
EITHER = COMPLETED | COMPENSATED

KINDS = (
    "goes well", "answers", "undos", "workers", "commits", "messages", "cancels", "deadlines", "callbacks",
    "outside", "chance",
)  # fmt: skip
"""What trials may be chosen by."""

GOES_WELL = "A saga that nothing happens to is completed, and the world shows what it did."

PLACES = 400
"""So many messages, deliveries or commits are tried one after the other: by then one was never met."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """One trial: what goes wrong, and how it ends all the same."""

    name: str
    kind: str
    promise: str
    """What holds, for the report."""

    ends: frozenset[str]
    wrong: tuple[faults.Fault, ...] = ()
    at_each: Callable[[int], faults.Fault] | None = None
    """Of a trial that goes through all places: what goes wrong at the n-th, from 1."""

    schedules: tuple[tuple[faults.Fault, ...], ...] = ()
    """Of a trial by chance: what goes wrong in each of its runs."""

    inline: bool = False


@dataclasses.dataclass(frozen=True)
class Place:
    """A step, with those of its parents before its name."""

    name: str
    step: definition.Step
    declared: definition.Saga
    depth: int

    @property
    def once(self) -> bool:
        """Whether one attempt is all that there is."""
        return self.declared.retry_of(self.step, undo=False).attempts == 1


def places(saga: definition.Saga, above: str = "", depth: int = 0) -> Iterator[Place]:
    """Every step, those of children among them."""
    for step in saga.all_steps:
        name = f"{above}{step.name}"
        if isinstance(step, definition.Child):
            yield from places(step.child, f"{name}.", depth + 1)
        else:
            yield Place(name, step, saga, depth)


def plans(subject: runs.Subject, *, chance: int) -> Iterator[Plan]:
    """Every trial of that saga.

    Arguments:
        subject: what is tried.
        chance: how many runs there are in which several things go wrong, by a seed.
    """
    every = list(places(subject.saga))
    turn = _turning(every)
    yield Plan(
        name="all goes well", kind="goes well", ends=COMPLETED,
        promise=GOES_WELL,
    )  # fmt: skip
    yield Plan(
        name="all goes well, carried on in one message", kind="goes well", ends=COMPLETED, inline=True,
        promise="It makes no difference whether each step has a message of its own.",
    )  # fmt: skip
    yield Plan(
        name="every message comes again when all is over", kind="messages", ends=COMPLETED,
        wrong=(faults.Again(),), promise="What has ended stays as it is.",
    )  # fmt: skip
    for place in every:
        if place.step.has_worker:
            yield from _answers(place)
            yield from _workers(place)
            yield from _undos(place, turn)
        yield from _told(place)
    for place in turn[-1:]:
        yield from _everywhere(
            (faults.Answer("do", place.name, "fail", 0),), f" while {place.name} is refused"
        )
    yield from _everywhere((), "")
    yield from _outside(subject)
    for number in range(chance and 1):
        yield Plan(
            name=f"by chance, {chance} runs", kind="chance", ends=EITHER,
            promise="Whatever goes wrong, and however much of it, all is done once or all is as it was.",
            schedules=tuple(_by_chance(every, seed) for seed in range(number, number + chance)),
        )  # fmt: skip


def _turning(every: Iterable[Place]) -> list[Place]:
    """The steps that turn the saga round when they are refused."""
    return [
        place
        for place in every
        if place.step.has_worker and place.step.kind != "retriable" and place.depth == 0
        and not (place.step.when or place.step.unless)
    ]  # fmt: skip


def _answers(place: Place) -> Iterator[Plan]:
    step = place.step
    given_up = COMPLETED if step.kind == "retriable" else COMPENSATED
    if place.depth:
        given_up = EITHER
    for answer, ends, promise in (
        ("fail", given_up, "What was done is undone when a step is refused; past the pivot it goes on."),
        (
            "break",
            given_up,
            "So it is when a step meets a bug, and past the pivot it goes on once that is mended.",
        ),
        ("flake", COMPLETED, "What says “not now” is tried again."),
        ("lose", COMPLETED, "An answer that is lost costs time: what was done is not done twice."),
        ("drop", COMPLETED, "A call that is lost costs time."),
    ):
        if answer == "break" and step.remote and step.kind != "compensatable":
            ends = EITHER
        if answer == "fail" and not runs.errors_of("fail", place.declared, step, undo=False):
            continue
        if answer in ("flake", "lose", "drop"):
            if (answer != "flake" and not step.remote) or not runs.errors_of(
                answer, place.declared, step, undo=False
            ):
                continue
            ends = EITHER if place.once else COMPLETED
        word = {"fail": "is refused", "break": "meets a bug", "flake": "is not available",
                "lose": "is done and its answer is lost", "drop": "is lost on its way"}[answer]  # fmt: skip
        # Who refuses refuses each time; past the pivot it would be for ever.
        for_good = answer == "fail" and ends == COMPENSATED
        yield Plan(
            name=f"{place.name} {word}", kind="answers", ends=ends, promise=promise,
            wrong=(faults.Answer("do", place.name, answer, time=0 if for_good else 1),),
        )  # fmt: skip


def _workers(place: Place) -> Iterator[Plan]:
    ends = EITHER if place.once else COMPLETED
    yield Plan(
        name=f"a worker dies before {place.name}", kind="workers", ends=ends,
        wrong=(faults.Answer("do", place.name, "die"),), promise="A worker that dies costs time.",
    )  # fmt: skip
    yield Plan(
        name=f"a worker dies behind {place.name}", kind="workers", ends=ends,
        wrong=(faults.Answer("do", place.name, "perish"),),
        promise="An action takes effect once, however often it is called with its key.",
    )  # fmt: skip
    if not place.step.remote:
        return
    yield Plan(
        name=f"{place.name} outlives its lease", kind="workers", ends=ends,
        wrong=(faults.Answer("do", place.name, "outlive"),),
        promise="An action takes effect once, though two workers call it with the same key.",
    )  # fmt: skip
    if place.step.undo is not None:
        yield Plan(
            name=f"a worker dies behind {place.name}, and it is cancelled", kind="workers", ends=COMPENSATED,
            wrong=(faults.Answer("do", place.name, "perish, cancelled"),),
            promise="What may have happened is undone as if it had.",
        )  # fmt: skip
        yield Plan(
            name=f"{place.name} arrives when it was undone", kind="workers", ends=COMPENSATED,
            wrong=(faults.Answer("do", place.name, "outlive, cancelled"),),
            promise="An action that comes after its undo is refused.",
        )  # fmt: skip


def _undos(place: Place, turn: list[Place]) -> Iterator[Plan]:
    """What goes wrong while a step is undone, because one behind it, or it itself, is refused."""
    if place.step.undo is None or not turn:
        return
    refused = faults.Answer("do", turn[-1].name, "fail", 0)
    for answer, word, promise in (
        ("flake", "is not available", "An undo is tried until it succeeds."),
        ("lose", "is done and its answer is lost", "What was undone is not undone twice."),
        ("fail", "is refused once", "A person is called, and has it tried again."),
        ("die", "kills its worker before it", "A worker that dies costs time."),
        ("perish", "kills its worker behind it", "What was undone is not undone twice."),
    ):
        named = answer in ("die", "perish") or runs.errors_of(answer, place.declared, place.step, undo=True)
        if named and (answer != "lose" or place.step.remote):
            yield Plan(
                name=f"the undo of {place.name} {word}", kind="undos", ends=COMPENSATED, promise=promise,
                wrong=(refused, faults.Answer("undo", place.name, answer)),
            )  # fmt: skip


def _told(place: Place) -> Iterator[Plan]:
    step = place.step
    if step.wait is None:
        return
    refused = COMPLETED if step.kind == "retriable" else EITHER if place.depth else COMPENSATED
    hows: dict[str, tuple[frozenset[str], str]] = {
        "no": (refused, "What was done is undone when somebody says no."),
        "never": (EITHER, "A wait has an end, and nothing is left half done at it."),
    }
    if not isinstance(step, definition.Approval):
        hows["twice"] = (COMPLETED, "What is told twice has happened once.")
        if step.remote:
            hows["early"] = (COMPLETED, "What is told too early is kept.")
        if step.undo is not None:
            hows["late"] = (COMPENSATED, "What is told when all was undone is undone once more.")
    for how, (ends, promise) in hows.items():
        fault = faults.Told(place.name, how)  # type: ignore[arg-type] # One of its words.
        yield Plan(name=str(fault), kind="callbacks", ends=ends, promise=promise, wrong=(fault,))


def _everywhere(base: tuple[faults.Fault, ...], when: str) -> Iterator[Plan]:
    """What may happen at any commit, message or moment."""
    ends = COMPENSATED if base else COMPLETED
    for inline in (False, True):
        how = ", carried on in one message" if inline else ""
        for dead in (True, False):
            for before in (True, False):
                what = "a process dies" if dead else "the database is lost"
                if inline and not dead:
                    continue
                yield Plan(
                    name=f"{what} {'before' if before else 'after'} each commit{when}{how}", kind="commits",
                    ends=ends, wrong=base, inline=inline,
                    at_each=lambda n, before=before, dead=dead: faults.Commit(n, before, dead),  # type: ignore[misc]
                    promise="A process may die at any instant: what it had not committed never was.",
                )  # fmt: skip
    for message, promise in (
        ("lost", "A message that is lost costs time."),
        ("doubled", "A message that comes twice changes nothing."),
        ("held back", "A message that comes late changes nothing."),
    ):
        yield Plan(
            name=f"each message is {message}{when}", kind="messages", ends=ends, wrong=base, promise=promise,
            at_each=lambda n, message=message: faults.Message(n, message),  # type: ignore[misc]
        )  # fmt: skip
    yield Plan(
        name=f"every message is doubled{when}", kind="messages", ends=ends,
        wrong=(*base, faults.Message(0, "doubled")), promise="Messages that come twice change nothing.",
    )  # fmt: skip
    yield Plan(
        name=f"cancelled before each message{when}", kind="cancels", ends=EITHER, wrong=base,
        at_each=lambda n: faults.Meanwhile(n, "cancel"),
        promise="What is cancelled in time is undone; else it is told that it is too late.",
    )  # fmt: skip
    yield Plan(
        name=f"its deadline passes before each message{when}", kind="deadlines", ends=EITHER, wrong=base,
        at_each=lambda n: faults.Meanwhile(n, "deadline"),
        promise="A saga that takes too long is undone; past the pivot a person has it go on.",
    )  # fmt: skip


def _outside(subject: runs.Subject) -> Iterator[Plan]:
    for path in subject.outside:
        for how, word, promise in (
            ("lost", "is done, and its answer is lost", "What was done is not taken for a failure."),
            ("dropped", "does not get through", "What did not get through is tried again."),
        ):
            yield Plan(
                name=f"each call of {path} {word}", kind="outside", ends=COMPLETED, promise=promise,
                at_each=lambda n, path=path, how=how: faults.Outside(path, how, n),  # type: ignore[misc]
            )  # fmt: skip


def _by_chance(every: list[Place], seed: int) -> tuple[faults.Fault, ...]:
    """Several faults; none that no world could have, such as a refusal of what was done."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    workers = [place for place in every if place.step.has_worker]
    waits = [place for place in every if place.step.wait is not None]
    found: dict[object, faults.Fault] = {}
    for _ in range(chance.randint(2, 6)):
        kind = chance.choice(["answer", "answer", "undo", "message", "commit", "meanwhile", "told"])
        if kind == "answer" and workers:
            place = chance.choice(workers)
            answers = ["die", "perish", "fail", "flake"] + (
                ["lose", "drop", "outlive"] if place.step.remote else []
            )
            answer = chance.choice(answers)
            if answer in ("die", "perish", "outlive") or runs.errors_of(
                answer, place.declared, place.step, undo=False
            ):
                # Who refuses refuses each time; past the pivot it would be for ever.
                always = answer == "fail" and place.step.kind != "retriable"
                found["do", place.name] = faults.Answer("do", place.name, answer, 0 if always else 1)
        elif kind == "undo" and (undoable := [each for each in workers if each.step.undo is not None]):
            place = chance.choice(undoable)
            answer = chance.choice(["die", "perish", "flake", "lose"])
            if answer in ("die", "perish") or runs.errors_of(answer, place.declared, place.step, undo=True):
                found["undo", place.name] = faults.Answer("undo", place.name, answer)
        elif kind == "message":
            number = chance.randint(1, 3 + 2 * len(every))
            found["message", number] = faults.Message(number, chance.choice(["lost", "doubled", "held back"]))
        elif kind == "commit":
            number = chance.randint(2, 4 + 4 * len(every))
            found["commit"] = faults.Commit(number, chance.random() < 0.5, chance.random() < 0.7)
        elif kind == "meanwhile":
            found["meanwhile"] = faults.Meanwhile(
                chance.randint(1, 2 + 2 * len(every)), chance.choice(["cancel", "deadline"])
            )
        elif kind == "told" and waits:
            place = chance.choice(waits)
            how = chance.choice(["no", "never"] if not place.step.has_worker else ["twice", "no", "never"])
            found["told", place.name] = faults.Told(place.name, how)  # type: ignore[arg-type] # As above.
    return tuple(found.values())
