"""What becomes of sagas under way when workers are killed?

So many sagas are under way, one in five of which will be refused at its last step. At random moments a
worker's main process or one of its children is killed with SIGKILL; a main process is started again at once,
as by whoever supervises it. When nothing moves any more, the shop's own rows are counted, in which no key is
unique: what was done twice is there twice. Then the events of the sagas.
"""

import dataclasses
import json
import random
import time
from typing import Any

from benchmarks import documents, guarantees, measuring, systems, teams

EARLIEST, LATEST = 0.05, 0.85
"""The share of the sagas that has ended when the first may be killed, and the last."""


def run(*, sagas: int, kills: int, seed: int | None, system: str, write: bool) -> None:
    """Kill, count, print, and write if asked; fails unless all is right with ours.

    Raises:
        SystemExit: one of our sagas was lost, or something was done twice.
    """
    seed = random.SystemRandom().randrange(10**6) if seed is None else seed
    killed = next(one for one in systems.everybody() if one.name == system)
    with teams.field("benchmarks.settings") as field:
        systems.open_shop()
        systems.start(field, [killed])
        answer = _kill(field, killed, sagas, kills, random.Random(seed)) | {
            "seed": seed,
            "machine": documents.machine(),
        }
    print(table(answer))
    if write:
        (teams.ROOT / "docs" / "benchmarks-kill.json").write_text(json.dumps(answer, indent=2) + "\n")
        documents.write(teams.ROOT / "docs" / "benchmarks.md", "kill", table(answer))
    if system == "ours" and not answer["right"]:
        raise SystemExit("Not every saga came to its end exactly once.")


def _kill(field: teams.Field, system: Any, sagas: int, kills: int, chance: random.Random) -> dict[str, Any]:
    prefix = f"{system.name}-killed-{time.time_ns()}-"
    shelves = systems.available(field.looker)
    moments = sorted(chance.uniform(EARLIEST, LATEST) for _ in range(kills))
    told = []
    field.still()
    for number in range(sagas):
        system.submit(f"{prefix}{number}" + (systems.REFUSED if number % 5 == 0 else ""))
    began = struck = time.time()
    with field.turn(system.name) as team:
        for moment in moments:
            _wait_until(field, system, prefix, sagas, moment)
            told.append(team.kill(chance))
            struck = time.time()
            left = system.left(field.looker, prefix, sagas)
            print(f"  {left} under way: killed {told[-1]}", flush=True)
        guarantees.await_what_comes(field, system, prefix, sagas)
    ended = systems.ends(field.looker, prefix)
    books = systems.books(field.looker, prefix, orders=sagas, before=shelves)
    events = systems.doubled_events(field.looker, prefix) if system.name == "ours" else None
    return {
        "system": system.name,
        "sagas": sagas,
        "killed": told,
        "seconds": max(ended.values(), default=began) - began,
        "seconds_after_last": max(ended.values(), default=struck) - struck,
        "books": dataclasses.asdict(books),
        "doubled_events": events,
        "right": books.right and not events,
    }


def _wait_until(field: teams.Field, system: Any, prefix: str, sagas: int, share: float) -> None:
    measuring.wait(
        lambda: system.left(field.looker, prefix, sagas) <= sagas * (1 - share),
        "too few have ended",
        seconds=guarantees.OUGHT_TO_MOVE_S,
        pause_s=0.005,
    )


def table(answer: dict[str, Any]) -> str:
    """The answer for people."""
    books, kinds = answer["books"], answer["killed"]
    counted = " and ".join(f"{kinds.count(kind)} times {kind}" for kind in dict.fromkeys(kinds))
    lines = [
        f"| {answer['system']}: {answer['sagas']} sagas, killed {counted or 'nobody'} | |",
        "|---|---|",
        f"| ended | {books['ended']} |",
        f"| lost | {books['lost']} |",
        f"| charged, invoiced or shipped twice, by the shop's rows | {books['doubled']} |",
        f"| pieces off the shelf that no shipped order explains | {books['off_the_shelf']} |",
        f"| turned back though nobody refused | {books['turned_back']} |",
    ]
    if answer["doubled_events"] is not None:
        lines.append(f"| recorded twice, by the sagas' events | {answer['doubled_events']} |")
    lines += [
        f"| all have ended after, s | {answer['seconds']:.1f} |",
        f"| after the last kill, s | {answer['seconds_after_last']:.1f} |",
        "",
        f"Seed {answer['seed']}; {teams.WORKERS} x {teams.CHILDREN} prefork; {answer['machine']}.",
    ]
    return "\n".join(lines)
