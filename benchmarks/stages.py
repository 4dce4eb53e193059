"""Do steps that are declared as done at once end in little more than the time of one?

Four steps that take 200 ms each, as a list and as a `Parallel`, local and remote: one saga at a time, by
turns, on the workers of `guarantees` (two with two processes, so that there is one for each step).
"""

import pathlib
import statistics
import time

from benchmarks import documents, measuring, systems, teams
from sagas import Saga

ROOT = pathlib.Path(__file__).resolve().parent.parent


def run(*, rounds: int, write: bool) -> None:
    """Measure, print, and write if asked."""
    took: dict[str, tuple[list[float], list[float]]] = {"local": ([], []), "remote": ([], [])}
    with teams.field("benchmarks.settings") as field:
        ours = systems.Ours()
        systems.open_shop()
        systems.start(field, [ours])
        from benchmarks.shop import saga

        kinds = {
            "local": (saga.LOCAL_LIST, saga.LOCAL_AT_ONCE),
            "remote": (saga.REMOTE_LIST, saga.REMOTE_AT_ONCE),
        }
        with field.turn(ours.name):
            for one in range(-1, rounds):  # The first warms up.
                for kind, pair in kinds.items():
                    for declared, times in zip(pair, took[kind], strict=True):
                        ms = _took_ms(declared)
                        if one >= 0:
                            times.append(ms)
    table = _table(took, rounds)
    print(table)
    if write:
        documents.write(ROOT / "docs" / "benchmarks.md", "stages", table)


def _took_ms(declared: Saga) -> float:
    """From the begin of one saga to its end, by the database's clock."""
    from django.db import transaction

    from sagas import engine

    with transaction.atomic():
        begun = engine.begin(declared, key=f"{declared.name}-{time.time_ns()}", inputs={}, actor="bench")

    def ended() -> bool:
        begun.refresh_from_db(fields=["finished_at", "state"])
        return begun.finished_at is not None

    measuring.wait(ended, f"{declared} did not end")
    assert begun.state == "completed", begun.state
    assert begun.finished_at is not None, "it has ended"
    return (begun.finished_at - begun.created_at).total_seconds() * 1000


def _table(took: dict[str, tuple[list[float], list[float]]], rounds: int) -> str:
    lines = ["| four steps of 200 ms | a list, ms | at once, ms | at once, worst |", "|---|---|---|---|"]
    for kind, (listed, at_once) in took.items():
        medians = f"{statistics.median(listed):.0f} | {statistics.median(at_once):.0f}"
        lines.append(f"| {kind} | {medians} | {max(at_once):.0f} |")
    lines += ["", f"Medians of {rounds} by turns; 2 x 2 prefork; {documents.machine()}."]
    return "\n".join(lines)
