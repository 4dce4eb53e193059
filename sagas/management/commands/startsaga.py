"""`manage.py startsaga trips book-hotel book-flight`: an app with a saga of these steps, ready to run."""

import argparse
import dataclasses
import keyword
import pathlib
import re
from typing import Any

from django.core.management import base, templates

from sagas import conf

TEMPLATE = pathlib.Path(__file__).parents[1] / "app_template"

PLACEHOLDERS = ["first-step", "second-step"]
"""The steps of a saga of which only the app's name was said."""


@dataclasses.dataclass(frozen=True)
class Step:
    """A step as the templates need it."""

    name: str

    @property
    def function(self) -> str:
        """Of the service: book_hotel."""
        return self.name.replace("-", "_")

    @property
    def given(self) -> str:
        """The fact that it takes: what comes behind the verb, so the hotel of book-hotel."""
        _, _, noun = self.name.partition("-")
        return noun.replace("-", "_") or "what"


class Command(templates.TemplateCommand):
    """Write an app: its saga, its services, their rows with a migration, and a test of all of it."""

    help = (
        "Writes an app that declares a saga of these steps: saga.py, services.py, models.py, a migration "
        "and tests.py. It runs as it stands; then replace what the services do."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """The app's name, and what its saga does."""
        parser.add_argument("name", help="of the app, such as trips")
        parser.add_argument(
            "steps",
            nargs="*",
            metavar="step",
            help="names of its steps, each a verb and what it is about: book-hotel book-flight",
        )
        parser.add_argument("--saga", help="the saga's name (the app's, in the singular)")
        parser.add_argument("--directory", help="where to write it (a new folder of the app's name)")

    def handle(self, *args: Any, **options: Any) -> None:
        """Write the app, and say what is left to do.

        Raises:
            CommandError: a name is none, or is taken; nothing was written.
        """
        name = options["name"]
        steps = [Step(step) for step in options["steps"] or PLACEHOLDERS]
        saga = options["saga"] or _singular(name.replace("_", "-"))
        for each in steps:
            _check(each)
        if len({step.name for step in steps}) < len(steps):
            raise base.CommandError("Two steps have the same name; it is part of their keys.")
        if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", saga):
            raise base.CommandError(f"{saga!r} is no name for a saga: small letters, digits and dashes.")
        target = None
        if options["directory"]:
            target = pathlib.Path(options["directory"]).expanduser().absolute()
            target.mkdir(parents=True, exist_ok=True)
        super().handle(
            "app",
            name,
            str(target) if target is not None else None,
            template=str(TEMPLATE),
            extensions=["py"],
            files=[],
            verbosity=options["verbosity"],
            module=_module(target, name),
            saga=saga,
            constant=saga.replace("-", "_").upper(),
            steps=steps,
            given=list(dict.fromkeys(step.given for step in steps)),
            refused=_refused(steps),
        )
        module = _module(target, name)
        if not options["verbosity"]:
            return
        self.stdout.write(
            f"Written: {target or name}, an app with the saga {saga!r}.\n"
            f'1. Add "{module}" to INSTALLED_APPS.\n'
            f"2. manage.py test {module}\n"
            "3. manage.py saga lock, which writes saga.lock: commit it, and `manage.py check` refuses a\n"
            "   change of the declaration that its live sagas could not go on with.\n"
            "4. manage.py migrate, and restart the web server, beat and the workers, so that all know it.\n"
            "   One more worker listens on its queue: "
            f"{_worker(module.partition('.')[0])}\n"
            f"5. Begin one, in `manage.py shell`:\n\n{_beginning(module, saga, steps)}"
        )


def _worker(queue: str) -> str:
    """The command that serves the queue."""
    if conf.uses_celery():
        return f"celery --app={conf.celery_path() or '...'} worker --queues={queue}"
    return f"manage.py saga_worker --queues={queue}"


def _check(step: Step) -> None:
    name = step.name
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name) or len(name) > 40:
        raise base.CommandError(
            f"{name!r} is no name for a step: at most 40 small letters, digits, dashes, such as book-hotel."
        )
    if keyword.iskeyword(step.function) or keyword.iskeyword(step.given) or step.given[0].isdigit():
        raise base.CommandError(f"{name!r} would be a function that Python cannot have.")
    if step.function == "cancel" or step.given == "key":
        raise base.CommandError(f"{name!r} would hide what every step has: `cancel`, and a key.")


def _singular(word: str) -> str:
    """The saga of an app trips is a trip; of an app status it is a status."""
    return word[:-1] if re.search(r"[^sui]s$", word) else word


def _module(target: pathlib.Path | None, name: str) -> str:
    """How the app is imported, from where the command runs."""
    here = pathlib.Path.cwd()
    if target is None or not target.is_relative_to(here) or target == here:
        return name
    return ".".join(target.relative_to(here).parts)


def _beginning(module: str, saga: str, steps: list[Step]) -> str:
    """How the saga is begun, as one may paste it."""
    inputs = ", ".join(f'"{given}": "some"' for given in dict.fromkeys(step.given for step in steps))
    return (
        "   from django.db import transaction\n"
        "   from sagas import engine\n"
        f"   from {module}.saga import {saga.replace('-', '_').upper()} as SAGA\n\n"
        "   with transaction.atomic():\n"
        f'       engine.begin(SAGA, key="{saga}-1", inputs={{{inputs}}}, actor="me")'
    )


def _refused(steps: list[Step]) -> str:
    """The script of a saga whose last step is refused."""
    done = [step.name for step in steps[:-1]]
    lines = [f"do {name}" for name in done] + [f"fail {steps[-1].name}"]
    return ", ".join([*lines, *(f"undo {name}" for name in reversed(done)), "compensated"])
