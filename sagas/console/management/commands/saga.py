"""`manage.py saga`: what the admin shows and does, at the shell."""

import argparse
import contextlib
import datetime
import getpass
import json
import sys
import uuid
from typing import Any

from django.core.management import base

from sagas import errors, models, reading, shell, strictjson
from sagas.console import (
    approving,
    archiving,
    export,
    families,
    formatting,
    history,
    interventions,
    notices,
    outcomes,
    panels,
    summary,
    translation,
    watching,
)
from sagas.declaration.states import LIVE, SagaState
from sagas.engine import refusals
from sagas.engine.seen import Seen

WHICH = "its id, its business key, or what the console's search finds it by, such as an order's number"

WIDTH = 48
"""Characters of the timeline."""

COMMANDS = {
    "retry": "try again now, with the same key",
    "ask": "ask the provider what became of the step",
    "compensate": "have everything undone that was done",
    "hold": "begin nothing new until it is released",
    "release": "let a held saga go on",
    "extend": "give it more time",
    "skip": "leave out an optional step",
    "close": "put it aside for good, as it stands",
}
"""The interventions that are commands of their own, in the order in which the help lists them."""

SPELLINGS = {
    "resume": "retry",
    "happened": "resolve --happened",
    "did-not-happen": "resolve --did-not-happen",
}
"""The others, as they are typed here."""

assert interventions.INTERVENTIONS.keys() == COMMANDS.keys() | SPELLINGS.keys()

ANSWERS = {
    approving.APPROVE: "say yes where an approval is waited for",
    approving.REFUSE: "say no where an approval is waited for",
}

BARS = {"done": "█", "begun": "█", "retry": "▒", "failed": "▓", "unknown": "?", "lost": "?", "running": ">"}


class Command(shell.Command):
    """List sagas, show the history of one, and intervene; that needs a reason, and is recorded."""

    help = "List sagas, show the history of one, and intervene. An intervention needs a reason."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """One function each, as on the admin's page."""
        functions = parser.add_subparsers(dest="function", required=True, metavar="COMMAND")
        listing = functions.add_parser("list", help="sagas, newest first")
        listing.add_argument(
            "--state", choices=[*SagaState.values(), "live", "held"], help="only in this state"
        )
        listing.add_argument("--name", help="only of this declaration")
        listing.add_argument("--step", help="only those that first failed at this step")
        listing.add_argument("--key", help="only with this business key")
        listing.add_argument(
            "--parent",
            metavar="SAGA",
            help="only the children of this saga, named as in the other commands; or of one of its steps, by"
            " the key of that",
        )
        listing.add_argument("--roots", action="store_true", help="without the children of other sagas")
        listing.add_argument("--limit", type=_count, default=20, help="at most so many (20)")
        listing.add_argument("--json", action="store_true", help="as JSON, one saga a line")
        listing.add_argument("--archived", action="store_true", help="those in the archive")
        showing = functions.add_parser("show", help="the history of one, with its timeline")
        showing.add_argument("saga", help=WHICH)
        showing.add_argument("--json", action="store_true", help="as JSON, events included")
        showing.add_argument("--events", action="store_true", help="with every event")
        watching.add_arguments(functions, WHICH)
        archiving.add_arguments(functions)
        shell.add_arguments(functions)
        for name, what in COMMANDS.items():
            self._intervention(functions, name, what)
        resolving = self._intervention(functions, "resolve", "say whether the step in doubt happened")
        said = resolving.add_mutually_exclusive_group(required=True)
        said.add_argument("--happened", action="store_true", help="it did")
        said.add_argument("--did-not-happen", action="store_true", help="it did not")
        resolving.add_argument(
            "--facts", type=_facts, default={}, help="what it would have answered, as JSON"
        )
        for name, what in ANSWERS.items():
            self._answering(functions, name, what)

    def _answering(self, functions: Any, name: str, what: str) -> None:
        parser: argparse.ArgumentParser = functions.add_parser(name, help=what)
        parser.add_argument("saga", help=WHICH)
        parser.add_argument("step", help="the approval, by the name of its step")
        parser.add_argument("--reason", required=True, help="why; kept in its events")
        parser.add_argument("--actor", default=getpass.getuser(), help="who you are (your login)")
        parser.add_argument("--dry-run", action="store_true", help="only say what it would do")
        parser.add_argument("--json", action="store_true", help="show the saga afterwards as JSON")
        if name == approving.APPROVE:
            parser.add_argument(
                "--fact",
                type=_fact,
                action="append",
                default=[],
                metavar="NAME=JSON",
                help="what it puts out, once for each; what is no JSON is taken as text",
            )

    def _intervention(self, functions: Any, name: str, what: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = functions.add_parser(name, help=what)
        parser.add_argument("saga", help=WHICH)
        parser.add_argument("--reason", required=True, help="why, or how you know; kept in its events")
        parser.add_argument(
            "--seen",
            type=_seen,
            help="what you decided on, as `show` and --dry-run print it; without it you are shown what stands"
            " now, and asked",
        )
        parser.add_argument("--step", help="of several steps that are done at once, the one that is meant")
        parser.add_argument("--actor", default=getpass.getuser(), help="who you are (your login)")
        parser.add_argument("--dry-run", action="store_true", help="only say what it would do")
        parser.add_argument("--json", action="store_true", help="show the saga afterwards as JSON")
        if name == "extend":
            parser.add_argument("--hours", type=float, required=True, help="by how much")
        return parser

    def handle(self, *args: Any, **options: Any) -> None:
        """Do what the function says; an intervention that does not apply is an error."""
        function = options["function"]
        try:
            if function == "list":
                self._list(options)
            elif function == "show":
                self._show(history.read(_find(options["saga"])), options)
            elif function == "watch":
                self._watch(options)
            elif function in archiving.COMMANDS:
                archiving.run(function, options, find=_find, write=self.stdout.write)
            elif function in shell.FUNCTIONS:
                shell.run(self, options)
            elif function in ANSWERS:
                self._answer(function, options)
            else:
                self._make(function, options)
        except errors.SagaError as error:
            raise base.CommandError(str(error)) from error

    def _list(self, options: dict[str, Any]) -> None:
        if options["archived"]:
            self._list_archived(options)
            return
        sagas = models.SagaInstance.objects.order_by("-created_at").prefetch_related("steps")
        state = options["state"]
        if state == "live":
            sagas = sagas.filter(state__in=LIVE, closed_at=None)
        elif state == "held":
            sagas = sagas.filter(state__in=LIVE, held_at__isnull=False)
        elif state:
            sagas = sagas.filter(state=state)
        if options["name"]:
            sagas = sagas.filter(name=options["name"])
        if options["key"]:
            sagas = sagas.filter(key=options["key"])
        if options["step"]:
            sagas = sagas.filter(failure__isnull=False, failure__step=options["step"])
        if options["parent"]:
            sagas = sagas.filter(reading.of_parent(*_find_parent(options["parent"])))
        if options["roots"]:
            sagas = sagas.filter(parent_id=None)
        self._lines(list(sagas[: options["limit"]]), options)

    def _list_archived(self, options: dict[str, Any]) -> None:
        """The same of the archive, where what ended last comes first."""
        chosen = {
            column: options[option]
            for option, column in (
                ("state", "state"),
                ("name", "name"),
                ("key", "key"),
                ("step", "failed_step"),
            )
            if options[option]
        }
        rows = models.ArchivedSaga.objects.filter(**chosen).order_by("-ended_at")
        if options["parent"]:
            rows = rows.filter(key__in=reading.child_keys(*_find_parent(options["parent"])))
        if options["roots"]:
            rows = rows.exclude(key__regex=reading.CHILD_KEY)
        self._lines([reading.opened(row).saga for row in rows[: options["limit"]]], options)

    def _lines(self, sagas: list[models.SagaInstance], options: dict[str, Any]) -> None:
        subjects = panels.describe(sagas)
        if sagas and not options["json"]:
            self.stdout.write(f"{'SAGA':36}  {'STATE':16} {'NAME':20} {'NUMBER OR KEY':14} WHY")
        for saga in sagas:
            subject = subjects.get(saga.pk)
            self._line(saga, options, subject.number if subject is not None else "")

    def _line(self, saga: models.SagaInstance, options: dict[str, Any], number: str) -> None:
        if options["json"]:
            self.stdout.write(json.dumps(_brief(saga, number)))
            return
        why = summary.why(saga) or summary.stands(saga)
        state = "put aside" if saga.closed_at else ("held, " if saga.held_at else "") + saga.state
        line = f"{saga.pk}  {state:16} {saga.name:20} {number or saga.key:14} {why}"
        self.stdout.write(line[:220].rstrip())

    def _watch(self, options: dict[str, Any]) -> None:
        try:
            sys.exit(watching.run(_find(options["saga"]), options, out=self.stdout, draw=timeline))
        except KeyboardInterrupt:
            sys.exit(130)

    def _show(self, record: history.History, options: dict[str, Any]) -> None:
        if options["json"]:
            self.stdout.write(json.dumps(export.saga(record), indent=2, ensure_ascii=False))
            return
        saga, said = record.saga, summary.of(record, typed=True)
        write = self.stdout.write
        arrow = "<-" if record.backward else "->"
        write(f"{saga.name} v{saga.version}  {saga.key}")
        write(f"{saga.pk}  {SagaState(saga.state).label}  {arrow}  {formatting.length(record.age)}")
        if record.parent is not None:
            above = record.parent.saga
            write(f"Child {record.parent.label} of {above.name} {above.key}  {above.pk}")
        write("")
        write(said.what)
        for answer in said.answers:
            write(answer)
        write(f"Next: {said.next}")
        write(f"Who must act: {said.who} {said.advice}".rstrip())
        for notice in notices.of(record):
            write(f"! {notice.text}")
        write("")
        for line in timeline(record):
            write(line)
        for each in record.at_each if not saga.is_final and saga.archived_at is None else ():
            write("")
            write(f"Key of {each.step.name}: {each.step.key}")
            write(f"Seen: {each.seen}")
        for asked in approving.questions(record):
            write("")
            until = formatting.moment(asked.row.wait_until) or "somebody answers"
            write(f"Waiting for approval: {asked.row.name}, until {until}")
            write(f"Who is asked: {asked.declared.persons} with the permission {asked.declared.permission}")
            for one in asked.given:
                write(f"Approved by {one['actor']}: {one['reason']}")
        several = bool(record.members)
        if possible := _possible(record, of_step=False if several else None):
            write("")
            write(f"Possible now: {', '.join(possible)}")
        for each in record.at_each if several else ():
            if possible := _possible(each, of_step=True):
                write(f"Possible now, with --step {each.step.name}: {', '.join(possible)}")
        if options.get("events"):
            write("")
            for event in record.events:
                change = f"{event.from_state} -> {event.to_state}" if event.to_state else ""
                by = "" if event.actor == "engine" else f"by {event.actor}"
                by += f": {event.reason}" if by and event.reason else ""
                at = formatting.moment(event.at)
                write(f"{at}  {event.kind:20} {event.subject:16} {change:28} {by}".rstrip())

    def _make(self, function: str, options: dict[str, Any]) -> None:
        saga_id = _find(options["saga"])
        record = history.read(saga_id)
        seen = options["seen"]
        step = options["step"] or (seen.step if seen else None)
        if seen is not None and seen.step != step:
            raise base.CommandError(f"--seen is about {seen.step}, and not about {step}.")
        if options["step"] and options["step"] not in [row.name for row in record.at_hand]:
            raise base.CommandError(f"It is not at {step}, but at {_names(record)}.")
        record = record.looking_at(step)
        seen = seen or record.seen
        name = function
        if function == "resolve":
            name = "happened" if options["happened"] else "did-not-happen"
        elif function == "retry" and record.saga.state == SagaState.NEEDS_ATTENTION:
            name = "resume"
        intervention = interventions.INTERVENTIONS[name]
        if intervention.of_step and step is None and len(record.at_hand) > 1:
            raise base.CommandError(f"It is at several steps: say with --step which of {_names(record)}.")
        arguments: dict[str, Any] = {}
        if function == "resolve":
            arguments = {"facts": options["facts"]}
        if function == "extend":
            arguments = {"hours": options["hours"]}
        if intervention.moved_on(seen, record):
            raise errors.MovedOn
        if why := intervention.refused(record):
            raise errors.NotAllowed(why)
        if options["dry_run"]:
            self._preview(record, intervention)
            return
        if options["seen"] is None:
            self._confirm(record, intervention)
        try:
            interventions.make(
                saga_id,
                intervention,
                seen=seen,
                actor=options["actor"][:150],
                reason=options["reason"],
                arguments=arguments,
            )
        except interventions.NeedsConsent as waits:
            self.stderr.write(str(waits))
            sys.exit(3)
        self._show(history.read(saga_id), options)

    def _answer(self, answer: str, options: dict[str, Any]) -> None:
        saga_id, step = _find(options["saga"]), options["step"]
        record = history.read(saga_id)
        if why := approving.refused(record, step):
            raise errors.NotAllowed(why)
        if options["dry_run"]:
            asked = approving.question(record, step)
            for line in approving.preview(record, asked, answer) if asked is not None else []:
                self.stdout.write(line)
            return
        approving.answer(
            saga_id,
            step,
            answer=answer,
            actor=options["actor"][:150],
            reason=options["reason"],
            facts=dict(options.get("fact", [])),
            through="shell",
        )
        self._show(history.read(saga_id), options)

    def _preview(self, record: history.History, intervention: interventions.Intervention) -> None:
        for line in [*intervention.preview(record), *outcomes.foretold(record, intervention.name)]:
            self.stdout.write(line)
        self.stdout.write(f"Seen: {record.seen}")

    def _confirm(self, record: history.History, intervention: interventions.Intervention) -> None:
        """Show what stands now, and have it agreed to.

        Raises:
            CommandError: nobody is there to be asked, or says no.
        """
        if not sys.stdin.isatty():
            raise base.CommandError(
                'Say what you decided on: --seen with what `manage.py saga show` prints after "Seen:". '
                "At a terminal you are asked instead."
            )
        self.stdout.write(summary.of(record).what)
        self._preview(record, intervention)
        # "Resume" is no command: it is asked for as it is typed.
        title = intervention.title(record) if intervention.name != "resume" else "Retry"
        self.stdout.write(f"{title}? [y/N] ", ending="")
        self.stdout.flush()
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            raise base.CommandError("Nothing was done.")


def timeline(record: history.History) -> list[str]:
    """The steps with their attempts as bars, in text."""
    attempts = history.attempts(record)
    began = record.saga.created_at
    ended = max([record.saga.finished_at or record.now, *(a.ended_at for a in attempts if a.ended_at)])
    in_need = _children_in_need(record)
    lines = []
    for view in history.step_views(record):
        inset = "  " if view.stage is not None else ""
        if view.opens_stage:
            lines.append(_stage_line(record, view))
        for undo, direction in ((False, view.forward), (True, view.backward)):
            mine = [a for a in attempts if a.step == view.row.name and a.undo == undo]
            if direction is None or (undo and not mine):
                continue
            name = inset + ("  undo " if undo else "") + view.row.name
            count = f"{direction.attempts}/{direction.budget or '?'}" if direction.attempts else ""
            bar, took = _bar(mine, began, ended), formatting.length(direction.took)
            lines.append(f"{name:24} {direction.state:12} {count:>6} |{bar}| {took}".rstrip())
            if direction.error and direction.state != "done":
                kind = direction.error.get("error") or direction.error.get("kind")
                lines.append(
                    f"{'':24} {kind}: {translation.translate(direction.error.get('message', ''))}"[:160]
                )
        if counts := record.children.get(view.row.name):
            backward = view.row.state in history.UNDO_STATES
            lines.append(f"{'':24} {families.words(counts, backward=backward)}"[:160])
        lines += in_need.get(view.row.name, [])
        if view.skipped and view.condition:
            lines.append(f"{'':24} {view.condition}"[:160])
    first, last = formatting.moment(began)[11:], formatting.moment(ended)[11:]
    lines.append(f"{'':45}|{first:{WIDTH // 2}}{last:>{WIDTH // 2}}|")
    return lines


def _stage_line(record: history.History, view: history.StepView) -> str:
    """The head of steps that are done at once: what they are called, and how many of them are done."""
    assert view.stage is not None, "only what is done at once has one"
    rows = record.steps[view.stage.first : view.stage.last + 1]
    done = sum(row.state == "done" for row in rows)
    return f"{history.stage_name(record.declared, view.row)}: {len(rows)} at once, {done} done"


def _children_in_need(record: history.History) -> dict[str, list[str]]:
    """By step, its children at which a person is to act, each by its id, and why."""
    if not any(counts.attention for counts in record.children.values()):
        return {}
    found = {}
    for step, brood in families.broods(record.steps, record.children, record.declared).items():
        named = [child for child in brood.named if reading.child_place(child.row) == "attention"]
        lines = [f"{'':24} {each.label}: {each.row.pk}  {summary.why(each.row)}"[:220] for each in named]
        if more := brood.counts.attention - len(named):
            lines.append(
                f"{'':24} and {more} more: saga list --parent {brood.step.key} --state needs_attention"
            )
        found[step] = lines
    return found


def _possible(record: history.History, *, of_step: bool | None) -> list[str]:
    return [
        SPELLINGS.get(name, name)
        for name, intervention in interventions.INTERVENTIONS.items()
        if of_step in (None, intervention.of_step) and not intervention.refused(record)
    ]


def _names(record: history.History) -> str:
    return ", ".join(row.name for row in record.at_hand)


def _bar(attempts: list[history.Attempt], began: datetime.datetime, ended: datetime.datetime) -> str:
    whole = max((ended - began).total_seconds(), 0.001)
    bar = [" "] * WIDTH
    for attempt in attempts:
        start = (attempt.started_at - began).total_seconds() / whole * WIDTH
        end = ((attempt.ended_at or ended) - began).total_seconds() / whole * WIDTH
        first = min(max(int(start), 0), WIDTH - 1)
        last = min(max(int(end), first), WIDTH - 1)
        mark = "." if attempt.waits else BARS.get(attempt.outcome, "#")
        bar[first : last + 1] = mark * (last + 1 - first)
    return "".join(bar)


def _find(text: str) -> uuid.UUID:
    """A saga by its id, by the business key of the live or else the latest one, or by the console's search.

    One in the archive is found as any other. A child has the key of its parent's step in its own.

    Raises:
        NotFound: there is none, or the search finds several.
    """
    with contextlib.suppress(ValueError):
        if text.count(".") > 1:
            raise ValueError("a child's key")
        saga_id = uuid.UUID(text.partition(".")[0])
        if models.SagaInstance.objects.filter(pk=saga_id).exists():
            return saga_id
        if models.ArchivedSaga.around([saga_id]).exists():
            return saga_id
    keyed = models.SagaInstance.objects.filter(key=text).order_by("-created_at")
    if saga := keyed.filter(finished_at=None).first() or keyed.first():
        return saga.pk
    gone = models.ArchivedSaga.objects.filter(key=text).order_by("-ended_at").values_list("pk", flat=True)
    if archived := gone.first():
        return archived
    found = panels.search(text)
    if len(found) > 1:
        raise errors.NotFound(f"{len(found)} sagas are found by {text!r}; give the id or key of one of them.")
    if not found:
        raise errors.NotFound(f"There is no saga with the id or key {text!r}, and the search finds none.")
    return found.pop()


def _find_parent(text: str) -> tuple[uuid.UUID, str | None]:
    """A saga, or one of its steps by the key of that; with a step its name.

    Raises:
        NotFound: there is none, or the search finds several.
    """
    saga_id, dot, step = text.partition(".")
    if dot and _is_uuid(saga_id) and "." not in step:
        return _find(saga_id), step
    return _find(text), None


def _is_uuid(text: str) -> bool:
    with contextlib.suppress(ValueError):
        return bool(uuid.UUID(text))
    return False


def _brief(saga: models.SagaInstance, number: str) -> dict[str, Any]:
    return {
        "id": str(saga.pk),
        "number": number or None,
        "name": saga.name,
        "version": saga.version,
        "key": saga.key,
        "parent": None
        if saga.parent_id is None
        else {"id": str(saga.parent_id), "step": saga.parent_step, "item": saga.parent_item},
        "state": saga.state,
        "seen": _seen_of(saga),
        "held": saga.held_at is not None,
        "closed": saga.closed_at is not None,
        "created_at": saga.created_at.isoformat(),
        "finished_at": saga.finished_at.isoformat() if saga.finished_at else None,
        "archived": saga.archived_at is not None,
        "failure": saga.failure,
        "attention": saga.attention,
    }


def _seen_of(saga: models.SagaInstance) -> str:
    """What an intervention in it names that is decided on this line."""
    steps: list[models.StepInstance] = list(saga.steps.all())  # type: ignore[arg-type]
    return str(Seen.of(saga, history.at_hand(saga, refusals.declaration(saga), steps)[0]))


def _count(text: str) -> int:
    count = int(text)
    if not 1 <= count <= 10_000:
        raise argparse.ArgumentTypeError("between 1 and 10000")
    return count


def _seen(text: str) -> Seen:
    try:
        return Seen.parse(text)
    except errors.BadSeen as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _fact(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError("NAME=JSON, such as limit=7")
    try:
        return name, approving.read_fact(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"not JSON: {error}") from error


def _facts(text: str) -> dict[str, Any]:
    try:
        facts = strictjson.loads(text)
    except strictjson.Refused as error:
        raise argparse.ArgumentTypeError(f"not JSON: {error}") from error
    if not isinstance(facts, dict):
        raise argparse.ArgumentTypeError('a JSON object, such as {"number": 7}')
    return facts
