"""The lifecycle, drawn from the tables in `sagas.declaration.states`, with a reason for every transition.

Where a stage and a child stand (`sagas.declaration.phases`) is drawn from the transitions written here.

    python -m sagas.declaration.diagram docs/lifecycle.md

rewrites what stands between the markers of that file. `make docs` calls it, and a test holds the
file and the tables equal: a transition without its reason is refused here, at import.
"""

import ast
import enum
import inspect
import itertools
import pathlib
import re
import string
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from sagas.declaration import states
from sagas.declaration.phases import ChildPhase, StagePhase
from sagas.declaration.states import SagaState, StepState

Transitions = Mapping[tuple[str, str], str]
"""From where to where, and why."""


def _read(explained: str) -> Transitions:
    """The transitions in a text of lines `from -> to: why`; an indented line continues the one above it."""
    lines = re.sub(r"\n +", " ", explained.strip()).splitlines()
    found = [re.fullmatch(r"(\w+) -> (\w+): (.+)", line) for line in lines]
    assert all(found), "a line that is no `from -> to: why`"
    return {(match[1], match[2]): match[3] for match in found if match}


SAGA = _read("""
running -> completed: The last step is done. `completed` is called in the same transaction.
running -> compensating: A step failed, the deadline ran out, or a person cancelled, all before the pivot.
    The first failure is kept.
running -> needs_attention: A step is not done, and the saga is past the point where it could be undone.
compensating -> compensated: Everything begun is undone. `compensated` is called in the same transaction.
compensating -> needs_attention: An undo was refused or spent its budget, or the time for undoing ran out.
needs_attention -> running: Forwards again: an operator retries, settles or skips the step, a callback settles
    it, or its pause (`resume_every`, then ever longer) is over where trying again may help.
needs_attention -> compensating: Backwards again, for reasons of the same kind; or backwards at last, because
    it is now known that the pivot did not happen.
""")

FORWARD = _read("""
pending -> running: A worker claims it: the intent is committed before a remote function is called.
pending -> waiting: A local function began what a callback will end; or people are asked for their approval.
pending -> done: A local function and its record committed together: such a step is never seen running.
pending -> failed: A local function was refused, met a bug, or spent its attempts; it was rolled back.
pending -> skipped: A condition (`when`, `unless`) left it out when its turn came; an operator left out a step
    that is declared optional; or its stage drained before it began.
running -> pending: It did not happen, or its worker vanished and it was rolled back; it will be tried again.
running -> waiting: The function answered "not yet": its facts lack what `Wait.until` names.
running -> done: The function answered, and the fence still held.
running -> failed: It was refused, met a bug, or spent its attempts or its budget.
running -> unknown: The reply was lost, or the lease ran out with its worker: it may have happened.
waiting -> running: The provider is asked how it stands: at every `Wait.poll`, and when the limit is over.
waiting -> done: A callback said that it is done; or as many people have approved as it takes, or nobody
    answered where that counts as a yes.
waiting -> failed: A callback said that it will not be done; or the limit is over, with nobody to ask. Of an
    approval: a person refused, or nobody answered in time.
waiting -> unknown: Its limit is over and nobody knows, at the pivot or past it: it may have happened.
unknown -> running: It is asked about with the same key, before anything else.
unknown -> pending: It is known that it did not happen, and past the pivot there is only forwards.
unknown -> waiting: A local pivot whose wait had run out was begun once more, and a callback ends it.
unknown -> done: An operator says with evidence that it happened, or a callback does.
unknown -> failed: An operator says with evidence that it did not happen; or a local function was refused.
failed -> pending: Past the pivot there is only forwards: it is tried again.
failed -> done: An operator says with evidence that it happened after all, or a callback does.
failed -> skipped: An operator left out a step that is declared optional.
""")

BACKWARD = _read("""
done -> undoing: Its undo is claimed, the last begun first.
done -> undone: A local undo and its record committed together.
waiting -> undoing: What was waited for is not wanted any more: its undo is claimed.
waiting -> undone: The same, where the undo is local; or an approval is withdrawn, and nobody is asked any
    more.
unknown -> undoing: It may have happened, so it is undone as if it had.
failed -> undoing: A remote step that failed is undone too: what it began must not stay.
failed -> undone: A local step had begun what it waited for. One whose action failed has nothing to undo.
pending -> undoing: A remote step was begun, and would have been tried again. One never begun stays pending.
skipped -> undoing: A remote step was tried before it was left out, and may have begun something.
undoing -> undone: The undo succeeded; it is content to find nothing.
undoing -> undo_failed: The undo was refused or spent its budget: a person is called.
undo_failed -> undoing: It is tried again, by an operator or by itself.
undo_failed -> undone: An operator says with evidence that it is undone.
""")


STAGE = _read("""
ahead -> under_way: Its turn has come: its conditions are read, once, and each member that is to be done is
    sent, asks people, or gets its children.
under_way -> done: Whoever records the last member, under the lock of the saga's row, advances the saga.
under_way -> draining: A member definitely failed, the deadline ran out, or somebody cancelled. The first
    failure is kept; members that never began are skipped, those that wait are not waited for, and those at
    work may record until their leases end.
under_way -> undoing: The same, and no attempt was under way.
under_way -> undone: The same, and nothing of it had begun.
under_way -> stopped: Nobody has answered an approval in time that asks for a person then; or, past the pivot,
    a member is not done.
draining -> undoing: The last attempt is recorded, or its lease has ended: then it may have happened.
draining -> undone: The same, and nothing of it is left to undo.
draining -> stopped: The time for undoing ran out.
done -> undoing: The saga turned round behind it, and everything behind it is undone.
undoing -> undone: Every member that began is undone. Only now an earlier stage is.
undoing -> stopped: An undo was refused, or spent its budget, and no other member is left to be undone; or the
    time for undoing ran out.
stopped -> under_way: Forwards again: somebody has answered, or what stopped it is tried again.
stopped -> draining: Somebody cancelled or refused, or another member failed, while attempts are under way.
stopped -> undoing: The same with none under way; or backwards again, for reasons as forwards.
stopped -> undone: An operator says with evidence that the last undo happened.
stopped -> done: The last answer that was wanted is a yes; or an operator says that the member happened.
""")

CHILD = _read("""
listed -> under_way: Its parent starts it, `limit` at a time.
listed -> compensated: It is over before it began: enough others are done, its parent is being undone or was
    put aside, or somebody cancelled it.
under_way -> waiting: Its last step is done, and its parent may yet undo it. Its parent's step is done once
    enough children are.
under_way -> completed: Its last step is done, and its parent is past undoing.
under_way -> undoing: It failed, its own deadline ran out, or it was cancelled: by an operator, or by its
    parent, which is being undone or has enough others.
under_way -> compensated: The same, and nothing had begun.
under_way -> stopped: It is past its own pivot, and a step of it is not done. Its parent needs a person, too.
waiting -> completed: Its parent has completed, is past its pivot by now, or was put aside.
waiting -> undoing: Its parent undoes the step that it is.
undoing -> compensated: Its last undo is done. Its parent's step is undone once that is so of every child.
undoing -> stopped: An undo was refused or spent its budget, or the time for undoing ran out. Its parent needs
    a person, too.
stopped -> under_way: It is tried again, by an operator or by itself; its parent goes on by itself.
stopped -> undoing: The same on the way back.
stopped -> completed: An operator says with evidence that its last step happened.
stopped -> compensated: An operator says with evidence that its last undo happened.
stopped -> aside: An operator puts it aside for good.
""")


def _declared(table: Mapping[Any, Iterable[Any]]) -> set[tuple[str, str]]:
    return {(source, target) for source, targets in table.items() for target in targets}


assert set(SAGA) == _declared(states.SAGA_TRANSITIONS), (
    "a saga's transition without its reason, or the reverse"
)
assert set(FORWARD) | set(BACKWARD) == _declared(states.STEP_TRANSITIONS), (
    "a step's transition without its reason"
)
assert not set(FORWARD) & set(BACKWARD), "a transition is drawn once"

_FINAL = [
    str(state)
    for table in (states.SAGA_TRANSITIONS, states.STEP_TRANSITIONS)
    for state, targets in table.items()
    if not targets
]


def parts() -> dict[str, str]:
    """What is generated, by the name in the markers."""
    return {
        "saga states": table(SagaState),
        "saga transitions": diagram(SAGA, first=SagaState.RUNNING),
        "step states": table(StepState),
        "step transitions forward": diagram(FORWARD, first=StepState.PENDING),
        "step transitions back": diagram(BACKWARD),
        "stage phases": table(StagePhase),
        "stage transitions": diagram(STAGE, first=StagePhase.AHEAD, last=[StagePhase.DONE]),
        "child phases": table(ChildPhase),
        "child transitions": diagram(CHILD, first=ChildPhase.LISTED, last=[ChildPhase.ASIDE]),
    }


def table(members: type[enum.Enum]) -> str:
    """The members, each with the sentence that stands under it in the code."""
    rows = [f"| `{name}` | {sentence} |" for name, sentence in sentences(members).items()]
    return "\n".join(["| State | Meaning |", "|---|---|", *rows])


def diagram(transitions: Transitions, *, first: str | None = None, last: Iterable[str] = ()) -> str:
    """The transitions as lettered edges, with a line under the drawing for each letter.

    Arguments:
        transitions: what is drawn.
        first: where it begins.
        last: where it may end, beside the states that are final by the tables.
    """
    letters = dict(zip(transitions, string.ascii_lowercase, strict=False))
    assert len(letters) == len(transitions), "more transitions than letters"
    drawn = {state for transition in transitions for state in transition}
    edges = [f"    [*] --> {first}"] if first else []
    edges += [f"    {source} --> {target}: {letter}" for (source, target), letter in letters.items()]
    edges += [f"    {state} --> [*]" for state in (*_FINAL, *last) if state in drawn]
    lines = [
        f"- **{letters[transition]}** `{transition[0]}` → `{transition[1]}`: {why}"
        for transition, why in transitions.items()
    ]
    return "\n".join(["```mermaid", "stateDiagram-v2", *edges, "```", "", *lines])


def sentences(members: type[enum.Enum]) -> dict[str, str]:
    """The sentence under each member, by the member's persisted value."""
    (declared,) = ast.parse(inspect.getsource(members)).body
    assert isinstance(declared, ast.ClassDef), "members are declared in a class"
    found = {}
    for member, sentence in itertools.pairwise(declared.body):
        if isinstance(member, ast.Assign) and isinstance(sentence, ast.Expr):
            (target,) = member.targets
            assert isinstance(target, ast.Name), "a member has a name"
            found[str(members[target.id].value)] = " ".join(str(ast.literal_eval(sentence.value)).split())
    return found


def rewrite(text: str) -> str:
    """The text, with what stands between each pair of markers generated anew.

    Raises:
        ValueError: a marker is missing.
    """
    for name, generated in parts().items():
        begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
        pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
        if len(pattern.findall(text)) != 1:
            raise ValueError(f"the text needs one pair of markers {begin} and {end}")
        text = pattern.sub(lambda _, fresh=f"{begin}\n{generated}\n{end}": fresh, text)  # type: ignore[misc]
    return text


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        path = pathlib.Path(argument)
        path.write_text(rewrite(path.read_text()))
