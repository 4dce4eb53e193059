"""Where the answers are written, and what they were measured on."""

import importlib.metadata
import os
import pathlib
import platform

PACKAGES = ("celery", "kombu", "django", "psycopg", "uvicorn")


def machine() -> str:
    """The machine and the versions, in one line."""
    versions = [f"python {platform.python_version()}"]
    versions += [f"{name} {importlib.metadata.version(name)}" for name in PACKAGES]
    return f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}; " + ", ".join(versions)


def write(page: pathlib.Path, question: str, table: str) -> None:
    """Put a table between the marks that a page has for that question."""
    text = page.read_text()
    before, mark, rest = text.partition(f"<!-- measured: {question} -->\n")
    _, end, after = rest.partition("<!-- end -->")
    if not (mark and end):
        raise SystemExit(f"{page} has lost the marks between which the numbers of {question!r} stand.")
    page.write_text(f"{before}{mark}{table}\n{end}{after}")
