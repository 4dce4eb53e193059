"""`make mutants`: the engine's core with one thing wrong at a time, and what no test notices of it."""

import argparse
import dataclasses
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Container, Sequence

from tests.mutants import answers, page, trial
from tests.mutants.trial import KILLED, SURVIVED, TIMED_OUT, UNTESTED, Place, Tried

PLACE = page.ROOT / ".run/mutants"
"""Where the copy of the tree is, with mutmut's `mutants/` in it, until the next run."""


@dataclasses.dataclass(frozen=True)
class Core:
    """A module of the core."""

    postgres: tuple[str, ...]
    """Tests on PostgreSQL, for the mutants that those in memory let live."""


CORE = {
    "sagas/declaration/stages.py": Core(("tests/sagas/test_stages.py",)),
    "sagas/declaration/phases.py": Core(()),
    "sagas/engine/parallel.py": Core(("tests/sagas/test_stages.py", "tests/sagas/test_operations.py")),
    "sagas/engine/transitions.py": Core(("tests/sagas/test_operations.py",)),
    "sagas/engine/approvals.py": Core(("tests/sagas/test_approvals.py",)),
    "sagas/engine/refusals.py": Core(("tests/sagas/test_operations.py", "tests/sagas/test_approvals.py")),
}
"""The modules whose survivors are answered."""

ANOTHER = Core(("tests/sagas/test_operations.py",))
"""One that is named on the command line, and of which nobody has answered anything yet."""

EXPLORER = "tests/sagas/test_explorer.py"
IN_MEMORY = (
    EXPLORER,
    "tests/sagas/test_going_back.py",
    "tests/sagas/test_going_forwards.py",
    "tests/sagas/test_parallel.py",
    "tests/sagas/test_phases.py",
    "tests/sagas/test_scripts.py",
    "tests/sagas/test_definition.py",
    "tests/sagas/test_approval_decisions.py",
    "tests/sagas/test_refusals.py",
)

LONG = "test_every_rule_holds_with_a_fault_and_the_diagrams_are_what_is_seen"
"""Of the explorer's: seconds for each mutant. It is left to those that all others let live."""

PLANTED = "test_a_planted_fault_is_found"
"""What they plant takes the place of the very code that is mutated."""


def plan(modules: Sequence[str]) -> trial.Plan:
    """What mutmut is to do with those modules."""
    return trial.Plan(
        source="sagas",
        modules=modules,
        tests=IN_MEMORY,
        options=("-m", "unit", "-p", "no:cacheprovider", "-k", f"not {LONG} and not {PLANTED}"),
        not_mutated=(r"(?<!\w)_\(",),  # Sentences for people: their translations are tested elsewhere.
    )


def chosen(names: Sequence[str], sample: int | None, seed: int) -> list[str]:
    """Which mutants are tried, in the order of the module."""
    if sample is None or sample >= len(names):
        return list(names)
    kept = set(random.Random(f"{seed}").sample(sorted(names), sample))
    return [name for name in names if name in kept]


def on_postgres(
    copied: pathlib.Path, name: str, tests: Sequence[str], *, database: str = "--reuse-db"
) -> str:
    """What becomes of one mutant in front of the tests on real parts, and the explorer's long ones.

    Arguments:
        copied: where the tree was copied to.
        name: the mutant, as mutmut names it; an empty text for none.
        tests: the tests on real parts.
        database: pytest's option for the test database.

    Raises:
        trial.Unusable: pytest itself failed.
    """
    command = [sys.executable, "-m", "pytest", "-n", "0", "-x", "-q", database, "-p", "no:cacheprovider"]
    command += ["-k", f"{LONG} or not test_explorer", *tests, EXPLORER]
    try:
        ended = subprocess.run(
            command,
            cwd=copied / "mutants",
            env={**trial.environment(), "MUTANT_UNDER_TEST": name},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return TIMED_OUT
    if ended.returncode not in range(5):
        raise trial.Unusable(ended.stdout[-4000:])
    # Whatever fails, and be it the import of a test: without the mutant nothing does.
    return KILLED if ended.returncode else SURVIVED


def main() -> int:
    """Try the mutants, and say what the answers lack.

    Returns:
        The exit code: 0 if each survivor is answered, and each answer's mutant is there and survives.
    """
    parser = argparse.ArgumentParser(
        prog="make mutants",
        description="Tries mutants of the engine's core, and checks the answers about them.",
    )
    parser.add_argument("modules", nargs="*", metavar="MODULE", help=f"by default: {', '.join(CORE)}")
    parser.add_argument("--sample", type=int, help="so many mutants of each module; all by default")
    parser.add_argument("--seed", type=int, default=1, help="which mutants a sample has (default 1)")
    parser.add_argument(
        "--processes", type=int, default=os.cpu_count() or 1, help="so many mutants at a time"
    )
    parser.add_argument("--in-memory", action="store_true", help="without the tests on PostgreSQL")
    parser.add_argument(
        "--go-on", action="store_true", help="with what an interrupted run of the same tree left"
    )
    parser.add_argument("--record", action="store_true", help="write docs/mutants.json and docs/mutants.md")
    given = parser.parse_args()
    modules = given.modules or list(CORE)
    if unknown := [module for module in modules if not (page.ROOT / module).is_file()]:
        parser.error(f"no module: {', '.join(unknown)}")
    if given.record and set(modules) != set(CORE):
        parser.error("what is recorded is the whole core")

    began = time.monotonic()
    found, generated, lacking = {}, {}, []
    every = answers.read(answers.FILE.read_text())
    for module in modules:
        copied = PLACE / answers.dotted(module)
        if not given.go_on:
            shutil.rmtree(copied, ignore_errors=True)
        one = plan([module])
        if not copied.exists():
            trial.copy(page.ROOT, copied, one)
        trial.generate(copied)
        there = trial.places(copied, module)
        names = chosen(list(there), given.sample, given.seed)
        new = trial.untried(copied, module)
        trial.run(copied, [name for name in names if name in new], processes=given.processes)
        tried = [each for each in trial.results(copied, module) if each.name in set(names)]
        if not given.in_memory:
            alike = {place for each in every if each.verdict == "equivalent" for place in each.mutants}
            tried = _again(copied, module, tried, alike)
        found[module], generated[module] = tried, len(there)
        lacking += answers.complaints(tried, there.values(), answers.of_modules(every, [module]))
        print(page.table(page.figures({module: tried}, generated)), flush=True)
    seconds = round(time.monotonic() - began)
    print(page.table(page.figures(found, generated)))
    print(f"{seconds} s")
    if given.record:
        kept = {"command": "make mutants", "seed": given.seed, "modules": page.figures(found, generated)}
        page.FIGURES.write_text(json.dumps(kept, indent=2) + "\n")
        page.PAGE.write_text(page.rewrite(page.PAGE.read_text(), every))
    print("\n\n".join(lacking) or "Each survivor is answered.")
    return 1 if lacking else 0


def _again(copied: pathlib.Path, module: str, tried: Sequence[Tried], alike: Container[Place]) -> list[Tried]:
    """Those that no test in memory notices are tried once more, on real parts; no equivalent one."""
    kept = copied / "on-postgres.json"
    fates = json.loads(kept.read_text()) if kept.exists() else {}
    left = [
        one.name
        for one in tried
        if one.fate in (SURVIVED, UNTESTED) and one.name not in fates and one.place not in alike
    ]
    if left:
        _must_pass(copied, module)
    for name in left:
        database = "--create-db" if TIMED_OUT in fates.values() else "--reuse-db"
        fates[name] = on_postgres(copied, name, CORE.get(module, ANOTHER).postgres, database=database)
        kept.write_text(json.dumps(fates))
    if left:
        _must_pass(copied, module)  # It was the mutants that failed, and not the servers.
    return [dataclasses.replace(one, fate=fates.get(one.name, one.fate)) for one in tried]


def _must_pass(copied: pathlib.Path, module: str) -> None:
    if on_postgres(copied, "", CORE.get(module, ANOTHER).postgres, database="--create-db") != SURVIVED:
        raise trial.Unusable(f"Without any mutant these fail: {CORE.get(module, ANOTHER).postgres}")


if __name__ == "__main__":
    sys.exit(main())
