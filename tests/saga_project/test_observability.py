"""The files that Prometheus and Grafana read: sound, of metrics that there are, each alert with its page."""

import itertools
import json
import pathlib
import re
import subprocess
from typing import Any

import pytest
import yaml
from django.contrib.auth import models as auth
from django.test import Client
from prometheus_client import parser

from api import tokens
from api.models import Scope
from saga_project import dashboards, metrics
from tests.support import services

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROMETHEUS = ROOT / "deploy/observability/prometheus"
RULES = [
    rule
    for group in yaml.safe_load((PROMETHEUS / "sagas.rules.yml").read_text())["groups"]
    for rule in group["rules"]
]
ALERTS = [rule for rule in RULES if "alert" in rule]
RECORDED = {rule["record"] for rule in RULES if "record" in rule}
TESTS = sorted(PROMETHEUS.glob("*.tests.yml"))
OPERATIONS = (ROOT / "docs/operations.md").read_text()

each_alert = pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    services.need("promtool")
    return subprocess.run(["promtool", *arguments], cwd=PROMETHEUS, capture_output=True, text=True)


# --- The rules --------------------------------------------------------------------------------------


@pytest.mark.integration
def test_prometheus_takes_the_rules_and_each_fires_when_it_should_and_only_then() -> None:
    for arguments in (
        ("check", "config", "--syntax-only", "prometheus.yml"),
        ("check", "rules", "--lint-fatal", "sagas.rules.yml"),
        ("test", "rules", *(file.name for file in TESTS)),
    ):
        ran = promtool(*arguments)
        assert ran.returncode == 0, ran.stdout + ran.stderr


def test_every_alert_is_tested_both_ways() -> None:
    tried: dict[str, set[bool]] = {}
    for group in itertools.chain(*(yaml.safe_load(file.read_text())["tests"] for file in TESTS)):
        for one in group["promql_expr_test"]:
            (alert,) = re.findall(r'alertname="(\w+)"', one["expr"])
            tried.setdefault(alert, set()).add(bool(one["exp_samples"]))

    assert tried == {alert["alert"]: {True, False} for alert in ALERTS}


@each_alert
def test_an_alert_leads_to_what_one_does(alert: dict[str, Any]) -> None:
    url = alert["annotations"]["runbook_url"]
    (anchor,) = re.fullmatch(
        r'\{\{ or \$externalLabels\.runbooks "docs/operations\.md" \}\}#(\w+)', url
    ).groups()  # type: ignore[union-attr]
    sections = {
        heading.lower(): text
        for heading, text in re.findall(r"^### (\w+)\n(.*?)(?=^##)", OPERATIONS, re.MULTILINE | re.DOTALL)
    }

    assert alert["labels"]["severity"] in ("critical", "warning")
    assert alert["annotations"].keys() == {"summary", "description", "runbook_url"}
    for word in ("**Seen:**", "**For orders:**", "**Do:**"):
        assert word in sections[anchor], f"{anchor} does not say {word}"


def test_every_section_on_an_alert_is_of_one() -> None:
    part = OPERATIONS.partition("\n## Alerts\n")[2].partition("\n## ")[0]
    linked = {alert["annotations"]["runbook_url"].rpartition("#")[2] for alert in ALERTS}

    assert {heading.lower() for heading in re.findall(r"^### (\w+)$", part, re.MULTILINE)} == linked


# --- The dashboards ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", dashboards.DASHBOARDS)
def test_a_dashboard_is_what_the_code_says(name: str) -> None:
    kept = (dashboards.HOME / f"{name}.json").read_text()

    assert kept == dashboards.render(name), "run `make docs`"
    asked = [target["expr"] for panel in json.loads(kept)["panels"] for target in panel.get("targets", [])]
    assert asked == dashboards.expressions(name)


@pytest.mark.integration
def test_every_expression_of_a_dashboard_is_one(tmp_path: pathlib.Path) -> None:
    asked = sorted({one for name in dashboards.DASHBOARDS for one in dashboards.expressions(name)})
    rules = [
        {"record": f"n:{n}", "expr": one.replace(dashboards.WINDOW, "5m")} for n, one in enumerate(asked)
    ]
    file = tmp_path / "dashboards.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboards", "rules": rules}]}))

    ran = promtool("check", "rules", str(file))

    assert ran.returncode == 0, ran.stdout + ran.stderr


# --- The metrics ------------------------------------------------------------------------------------

NAME = re.compile(r"\b(?:sagas_\w+|webhooks_\w+|followers)\b(?=\{|\[|\)|,|$)")
"""A metric in an expression: none of Prometheus' functions, and none of our labels, is called so."""

LABELS = re.compile(r"\b([a-z_]+)=~?\"|\b([a-z_]+)!=\"|\bby \(([^)]*)\)")
FROM_PROMETHEUS = {"job", "instance", "pod", "le", ""}


@pytest.mark.django_db
def test_every_metric_that_is_asked_for_is_told_by_ours_with_these_labels(client: Client) -> None:
    alice = auth.User.objects.create_user("alice", is_staff=True)
    _, secret = tokens.create(user=alice, scope=Scope.STAFF, name="Prometheus")
    answer = client.get("/metrics", headers={"Authorization": f"Token {secret}"})
    told = {family.name: family.type for family in parser.text_string_to_metric_families(answer.text)}
    labels = {family.name: set(family._labelnames) for family in metrics._Rows().collect()}  # type: ignore[attr-defined]
    asked = {
        *(rule["expr"] for rule in RULES),
        *(one for name in dashboards.DASHBOARDS for one in dashboards.expressions(name)),
        *dashboards.CHOICES.values(),
    }

    for expression in asked:
        names = set(NAME.findall(expression))
        assert names or any(name in expression for name in RECORDED), expression
        families = {family(name, told) for name in names}
        known = FROM_PROMETHEUS.union(*(labels[one] for one in families))
        used = {
            label.strip()
            for found in LABELS.findall(expression)
            for group in found
            for label in group.split(",")
        }
        assert names == set() or used <= known, expression


def family(name: str, told: dict[str, str]) -> str:
    """The metric that a name in an expression is of: a counter's and a histogram's have endings."""
    for ending, kind in (("_total", "counter"), ("_bucket", "histogram"), ("_count", "histogram")):
        if name.endswith(ending):
            assert told.get(name.removesuffix(ending)) == kind, f"{name} is not told"
            return name.removesuffix(ending)
    assert told.get(name) == "gauge", f"{name} is not told"
    return name
