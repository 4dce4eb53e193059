"""What docs/services.md says of the services is so."""

import doctest
import pathlib
import re
from typing import Any

import pytest
from django.db import models as django

import inventory.models
import inventory.services
import invoicing.models
import invoicing.services
import payments.models
import payments.services
import providers.callbacks
import shipping.models
import shipping.services
from tests.sandbox.running import Sandbox

PAGE = pathlib.Path(__file__).resolve().parents[1] / "docs/services.md"


@pytest.mark.django_db
def test_its_examples_run_and_print_what_it_says(sandbox: Sandbox) -> None:
    blocks = re.findall(r"^```pycon\n(.*?)^```$", PAGE.read_text(), flags=re.DOTALL | re.MULTILINE)
    source = "\n".join(blocks)
    test = doctest.DocTestParser().get_doctest(source, {}, PAGE.name, str(PAGE), 0)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    said: list[str] = []
    runner.run(test, out=said.append)

    assert len(test.examples) > 5
    assert "".join(said) == ""


@pytest.mark.parametrize(
    ("heading", "statuses"),
    [
        ("Payments", payments.models.Status),
        ("Inventory", inventory.models.Status),
        ("Invoicing", invoicing.models.Status),
        ("Shipping", shipping.models.Status),
    ],
)
def test_every_status_is_explained(heading: str, statuses: type[django.TextChoices]) -> None:
    assert names(heading, column=0) == statuses.values


def test_every_function_is_named() -> None:
    rooms: dict[str, Any] = {
        room.__name__.partition(".")[0]: room
        for room in (payments.services, inventory.services, invoicing.services, shipping.services)
    }
    for line in lines("Functions"):
        room, *functions = re.findall(r"`(\w+)`", line)
        public = {name for name in rooms.pop(room).__all__ if name[0].islower()}
        assert set(functions) == public

    assert not rooms


def test_its_figures_are_the_codes() -> None:
    assert f"{providers.callbacks.TOLERANCE.total_seconds() / 60:.0f} minutes" == "5 minutes"
    assert "older\nthan five minutes" in PAGE.read_text()
    assert invoicing.models.NATIONAL_WINDOW.total_seconds() == 24 * 3600
    assert "The window is 24 hours" in PAGE.read_text()


def lines(heading: str) -> list[str]:
    """The rows of the first table under that heading."""
    section = PAGE.read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    table = re.search(r"^\|.*?(?=\n\n)", section, flags=re.DOTALL | re.MULTILINE)
    assert table
    return table[0].splitlines()[2:]


def names(heading: str, *, column: int) -> list[str]:
    return [row.strip("|").split("|")[column].strip(" `") for row in lines(heading)]
