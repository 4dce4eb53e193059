"""What the checker says: every rule with what breaks it."""

import collections
import dataclasses
import json
import pathlib
from typing import Any

from saga_project.local.checker import books, history, rows, rules, world

Json = dict[str, Any]

SHOWN = 20
"""So many violations of one rule are printed; all of them are in the report and in the JSON."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """One rule, and what breaks it."""

    rule: str
    kind: str
    """`lost`, `doubled`, `balance` or `order`: what a violation of it means."""
    says: str
    violations: list[rules.Violation]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """What was looked at, and what was found."""

    wanted: int
    """Orders that clients wanted."""
    acknowledged: int
    """Of them, those that the shop acknowledged."""
    requests: int
    """Requests for them: more than orders, for clients ask again."""
    ends: dict[str, int]
    """How the orders stand."""
    gave_up: int
    """Orders that were to be fulfilled, and were cancelled because somebody was away for too long."""
    turned_away: int
    """Orders that clients took elsewhere, for the shop took no more whenever it was asked."""
    results: list[Result]
    keys: dict[str, str] = dataclasses.field(repr=False)
    """The clients' keys, by what violations are about."""

    @property
    def violations(self) -> int:
        """How many there are."""
        return sum(len(result.violations) for result in self.results)

    @property
    def holds(self) -> bool:
        """Whether every rule does."""
        return not self.violations

    @property
    def broken(self) -> set[str]:
        """The rules that do not hold."""
        return {result.rule for result in self.results if result.violations}

    def of_kind(self, kind: str) -> int:
        """How many orders, or whatever else, are `lost`, `doubled`, out of `balance` or out of `order`."""
        results = [result for result in self.results if result.kind == kind]
        return len({violation.about for result in results for violation in result.violations})

    def by_key(self, kind: str) -> dict[str, list[str]]:
        """What is wrong of one kind, in words, by the client's key; under "" what is about no order."""
        found = collections.defaultdict(list)
        for result in self.results:
            if result.kind == kind:
                for violation in result.violations:
                    told = f"{violation.about}: {result.rule}: {violation.told}"
                    found[self.keys.get(violation.about, "")].append(told)
        return dict(found)

    def as_json(self) -> Json:
        """All of it, as plain data."""
        return {
            **{
                name: getattr(self, name)
                for name in ("wanted", "acknowledged", "requests", "ends", "gave_up", "turned_away")
            },
            "violations": self.violations,
            "kinds": {kind: self.of_kind(kind) for kind in rules.KINDS},
            "rules": [dataclasses.asdict(result) for result in self.results],
        }

    def __str__(self) -> str:
        """For a terminal: every rule with its count, and what breaks it."""
        widest = max(len(result.rule) for result in self.results)
        lines = [
            f"{len(result.violations):5}  {result.rule:{widest}}  {result.says}" for result in self.results
        ]
        for result in self.results:
            if result.violations:
                lines += ["", f"{result.rule}:"]
                lines += [f"  {violation.about}: {violation.told}" for violation in result.violations[:SHOWN]]
            if (more := len(result.violations) - SHOWN) > 0:
                lines.append(f"  and {more} more")
        ends = ", ".join(f"{count} {end}" for end, count in sorted(self.ends.items())) or "none"
        lines += [
            "",
            f"{self.wanted} orders wanted in {self.requests} requests, {self.acknowledged} acknowledged:"
            f" {ends}. {self.gave_up} were given up because somebody was away for too long."
            f" {self.turned_away} were taken elsewhere, for the shop took no more.",
            "Every rule holds."
            if self.holds
            else f"{self.violations} violations of {len(self.broken)} rules.",
        ]
        return "\n".join(lines)


def check(history_file: pathlib.Path, database: str, providers: pathlib.Path) -> Report:
    """Hold what clients were told, the database's rows and the providers' books against each other.

    Args:
        history_file: what the clients were told: JSON lines, as the package's docstring says.
        database: the connection string of the database; it is only read, in one snapshot.
        providers: the directory with `books.json`.

    Raises:
        OSError: a file is not there.
        ValueError: a file is not what it should be.
        psycopg.Error: the database is away, or is another one.
    """
    return judge(world.World(history.read(history_file), rows.read(database), books.read(providers)))


def judge(campaign: world.World) -> Report:
    """The report about a campaign that was read already."""
    results = [
        Result(rule=rule.name, kind=rule.kind, says=rule.says, violations=list(rule.broken(campaign)))
        for rule in rules.RULES
    ]
    wanted = campaign.wanted.values()
    ours = campaign.ours
    return Report(
        wanted=sum(bool(one.bodies) for one in wanted),
        acknowledged=sum(bool(one.answers) for one in wanted),
        requests=sum(len(one.bodies) for one in wanted),
        ends=dict(collections.Counter(campaign.end(order) for _, order in ours)),
        gave_up=sum(
            campaign.end(order) == "cancelled"
            and "cancelled" not in campaign.fate(one, order)
            and campaign.gave_up(order)
            for one, order in ours
        ),
        turned_away=sum(one.turned_away for one in wanted),
        results=results,
        keys={key: key for key in campaign.wanted} | {order["number"]: one.key for one, order in ours},
    )


def dump(report: Report) -> str:
    """The report as JSON text."""
    return json.dumps(report.as_json(), indent=2, ensure_ascii=False, default=str)
