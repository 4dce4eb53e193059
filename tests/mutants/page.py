"""docs/mutants.md: its figures, of the last recorded run, and the answers. `--record` writes both anew."""

import collections
import json
import pathlib
import re
import textwrap
from collections.abc import Mapping, Sequence

from tests.mutants.answers import FILE as ANSWERS
from tests.mutants.answers import Answer, read
from tests.mutants.trial import KILLED, SURVIVED, TIMED_OUT, UNTESTED, Tried

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/mutants.md"
FIGURES = ROOT / "docs/mutants.json"

HEADINGS = {
    "equivalent": "Equivalent: nobody can tell them from the original",
    "accepted": "Accepted",
    "killed": "Noticed since by a test that was written for them",
}


def figures(found: Mapping[str, Sequence[Tried]], generated: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """The numbers of a run, by modules."""
    counted = {}
    for module, tried in found.items():
        fates = collections.Counter(one.fate for one in tried)
        counted[module] = {
            "mutants": generated[module],
            "tried": len(tried),
            **{fate: fates[fate] for fate in (KILLED, TIMED_OUT, SURVIVED, UNTESTED)},
        }
    return counted


def table(counted: Mapping[str, Mapping[str, int]]) -> str:
    """The numbers as a table, with their sums."""
    columns = ["mutants", "tried", KILLED, TIMED_OUT, SURVIVED, UNTESTED]
    sums = {name: sum(row[name] for row in counted.values()) for name in columns}
    rows = [(f"`{module}`", row) for module, row in counted.items()] + [("all", sums)]
    lines = [
        "| Module | " + " | ".join(name.capitalize() for name in columns) + " |",
        "| --- |" + " ---: |" * len(columns),
        *(f"| {name} | " + " | ".join(f"{row[one]:,}" for one in columns) + " |" for name, row in rows),
    ]
    return "\n".join(lines) + "\n"


def told(answers: Sequence[Answer]) -> str:
    """The answers as the page has them."""
    parts = []
    for verdict, heading in HEADINGS.items():
        chosen = [one for one in answers if one.verdict == verdict]
        if chosen:
            parts.append(f"### {heading}\n")
        parts += [_told(one) for one in chosen]
    return "\n".join(parts)


def _told(answer: Answer) -> str:
    where = {place.where.removeprefix("sagas.") for place in answer.mutants}
    changes = "".join(
        "\n".join([*(f"- {line}" for line in place.was.splitlines()),
                   *(f"+ {line}" for line in place.now.splitlines())]) + "\n"
        for place in answer.mutants
    )  # fmt: skip
    says = f"Noticed by `{answer.says}`." if answer.verdict == "killed" else " ".join(answer.says.split())
    text = f"{', '.join(f'`{name}`' for name in sorted(where))}: {says}"
    wrapped = textwrap.fill(text, 140, break_long_words=False, break_on_hyphens=False)
    return f"{wrapped}\n\n```diff\n{changes}```\n"


def rewrite(text: str, answers: Sequence[Answer]) -> str:
    """The page with the figures and the answers in it, between their marks."""
    kept = json.loads(FIGURES.read_text())
    parts = {"figures": table(kept["modules"]), "answers": told(answers)}
    for name, part in parts.items():
        text = re.sub(
            f"<!-- {name} -->.*<!-- /{name} -->",
            lambda _, name=name, part=part: f"<!-- {name} -->\n{part}<!-- /{name} -->",
            text,
            flags=re.DOTALL,
        )
    return text


def main() -> None:
    """Write the page anew, of the figures and the answers that there are."""
    PAGE.write_text(rewrite(PAGE.read_text(), read(ANSWERS.read_text())))


if __name__ == "__main__":
    main()
