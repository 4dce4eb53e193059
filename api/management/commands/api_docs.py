"""Writes the documentation of the API that comes from the code."""

import argparse
import pathlib
from typing import Any

from django.conf import settings
from django.core import management
from django.core.management import base

from api import problems


class Command(base.BaseCommand):
    """`manage.py api_docs`: docs/openapi.yaml and docs/problems.md."""

    help = "Writes docs/openapi.yaml and docs/problems.md anew; a test holds them equal to the code."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Where to."""
        parser.add_argument("--into", type=pathlib.Path, default=settings.BASE_DIR / "docs")

    def handle(self, *args: Any, into: pathlib.Path, **options: Any) -> None:
        """Write both."""
        management.call_command(
            "spectacular", file=str(into / "openapi.yaml"), fail_on_warn=True, validate=True
        )
        (into / "problems.md").write_text(text())


def text() -> str:
    """Every kind of problem, as docs/problems.md has it."""
    parts = [
        "# Problems",
        "",
        "Every error of the API is an `application/problem+json` document (RFC 9457). `type` is one of",
        "these, and leads to the same words on the running server; it is a path, so it is the same",
        "everywhere and may be compared. `request_id` is in the logs and in `X-Request-Id`. Written by",
        "`make docs`.",
    ]
    for kind in problems.listed():
        parts += ["", f"## {kind.title}", "", f"`{kind.type}` · {kind.status}", "", kind.advice]
    return "\n".join(parts) + "\n"
