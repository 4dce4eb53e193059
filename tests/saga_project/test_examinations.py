"""What the doctor can find is in the operator's pages, and what of it needs no server."""

import pathlib
import re

import pytest

from saga_project import examinations

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/operations.md").read_text()
ID = re.compile(r"\b((?:sagas\.D|project\.[DEW])\d{3})\b")
CODE = ["sagas/doctor.py", "sagas/examinations.py", "saga_project/examinations.py", "saga_project/checks.py"]


def test_the_operators_page_has_each_finding_once_with_what_one_does():
    table = PAGE.partition("\n### Each finding\n")[2].partition("\n## ")[0]
    rows = [line.split(" | ") for line in table.splitlines() if line.startswith("| `")]
    told = [id for row in rows for id in of_cell(row[0])]
    possible = {id for name in CODE for id in re.findall(rf'"{ID.pattern}"', (ROOT / name).read_text())}

    assert len(possible) > 40
    assert sorted(told) == sorted(possible)
    assert all(len(row) == 3 and all(cell.strip("| ") for cell in row) for row in rows)


def of_cell(cell):
    """Its findings: one, several, or from one to another."""
    found = ID.findall(cell)
    if " to " in cell:
        first, last = (int(id[-3:]) for id in found)
        return [f"{found[0][:-3]}{number:03}" for number in range(first, last + 1)]
    return found


@pytest.mark.parametrize(
    ("version", "ids"),
    [("3.9.29", ["project.D011"]), ("3.10.0", []), ("4.1.0-rc.1", []), ("", ["project.D011"])],
)
def test_an_old_rabbitmq_is_found_by_its_version(version, ids):
    assert [finding.id for finding in examinations.age(version)] == ids
