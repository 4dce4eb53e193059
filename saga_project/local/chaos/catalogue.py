"""The table of docs/chaos.md: `python -m saga_project.local.chaos.catalogue` writes it anew."""

import re

from saga_project.local import runfile
from saga_project.local.chaos import faults

PAGE = runfile.ROOT / "docs" / "chaos.md"


def written(page: str) -> str:
    """The page with the table in it, between its marks."""
    return re.sub(
        r"<!-- faults -->.*<!-- /faults -->",
        lambda _: f"<!-- faults -->\n{markdown()}<!-- /faults -->",
        page,
        flags=re.DOTALL,
    )


def markdown() -> str:
    """The table."""
    rows = [
        f"| `{name}` | {fault.kind.told} | {_lasts(fault.kind.lasts_s)} |"
        for name, fault in faults.FAULTS.items()
    ]
    return "\n".join(["| Fault | What is done | Lasts |", "| --- | --- | ---: |", *rows]) + "\n"


def _lasts(lasts_s: tuple[float, float]) -> str:
    least, most = lasts_s
    if not most:
        return ""
    return f"{least:g} s" if least == most else f"{least:g} to {most:g} s"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))
