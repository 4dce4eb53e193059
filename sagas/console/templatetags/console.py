"""Words and marks for the console's templates: badges, moments to the millisecond, durations."""

import datetime
import json
import re
import uuid
from typing import Any

from django import template
from django.utils import html, timezone
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from sagas import models
from sagas.console import (
    event_names,
    families,
    formatting,
    interventions,
    marks,
    panels,
    redaction,
    summary,
    translation,
)

register = template.Library()
register.simple_tag(marks.badge)
register.filter(marks.moment)

_TABLE = re.compile(r"<table\b.*?</table>", re.DOTALL)
_HEAD = re.compile(r"<thead\b.*?</thead>", re.DOTALL)
_HEAD_CELL = re.compile(r"<th\b[^>]*>(.*?)</th>", re.DOTALL)
_NOT_THE_NAME = re.compile(r'<span class="sortpriority".*?</span>', re.DOTALL)
"""Where a list is sorted by several columns their places among them stand beside their names."""
_ROW_OR_CELL = re.compile(r"<(tr|td|th)\b")


@register.tag
def labelled(parser: template.base.Parser, token: template.base.Token) -> template.Node:
    """Tables whose cells know their columns' names, so that on a telephone each row stands as a list."""
    inside = parser.parse(("endlabelled",))
    parser.delete_first_token()
    return _Labelled(inside)


class _Labelled(template.Node):
    def __init__(self, inside: template.NodeList) -> None:
        self.inside = inside

    def render(self, context: template.Context) -> SafeString:
        tables = _TABLE.sub(_with_labels, self.inside.render(context))
        return SafeString(f'<div class="labelled">{tables}</div>')


def _with_labels(table: re.Match[str]) -> str:
    head = _HEAD.search(table[0])
    if head is None:
        return table[0]
    cells = _HEAD_CELL.findall(_NOT_THE_NAME.sub("", head[0]))
    names = [" ".join(html.strip_tags(cell).split()) for cell in cells]
    column = iter(names)

    def label(found: re.Match[str]) -> str:
        nonlocal column
        if found[1] == "tr":
            column = iter(names)
            return found[0]
        return f'{found[0]} data-label="{next(column, "")}"'

    return table[0][: head.end()] + _ROW_OR_CELL.sub(label, table[0][head.end() :])


def kind_names() -> dict[str, str]:
    """Every kind of outcome that the engine tells apart, in the viewer's language."""
    return {
        "refused": _("refused"), "outage": _("outage"),
        "transient": _("unavailable"), "unknown": _("outcome unknown"), "timeout": _("time ran out"),
        "bug": _("bug"), "cancelled": _("cancelled"),
        "operator": _("by an operator"), "mismatch": _("not what was asked"), "child": _("child in need"),
    }  # fmt: skip


@register.filter
def trouble(error: dict[str, Any]) -> SafeString:
    """What kind of trouble an error is, in words, and for engineers the class of it, where it has one."""
    return trouble_of(error.get("kind") or "", error.get("error") or "")


@register.simple_tag
def trouble_of(kind: str, error: str) -> SafeString:
    """The same of a kind and a class."""
    behind = html.format_html(' <code class="error-class">{}</code>', error) if error else ""
    return html.format_html("<strong>{}</strong>{}", kind_name(kind), behind)


@register.filter
def kind_name(kind: str) -> str:
    """A kind of outcome in the viewer's language."""
    # What is late is no failure, and nothing is ever found by it.
    return {**kind_names(), "late": _("database busy")}.get(kind, kind)


@register.filter
def event_name(kind: str) -> str:
    """What a kind of event is called."""
    return event_names.name(kind)


@register.filter
def fate_name(fate: str) -> str:
    """What became of a callback."""
    return event_names.of_fate(fate)


@register.filter
def iso_moment(text: str | None) -> str | SafeString:
    """The same for a moment that is written down as text."""
    return marks.moment(datetime.datetime.fromisoformat(text)) if text else "–"


@register.filter
def iso_since(text: str | None, now: datetime.datetime) -> str:
    """How long ago a moment was that is kept as text."""
    return formatting.length(now - datetime.datetime.fromisoformat(text)) if text else "–"


@register.filter
def duration(time: datetime.timedelta | None) -> str:
    """A duration as people read it."""
    return formatting.length(time) or "–"


@register.filter
def since(at: datetime.datetime | None, now: datetime.datetime) -> str:
    """How long ago it was."""
    return formatting.length(now - at) if at is not None else "–"


@register.filter
def pretty(value: Any) -> str:
    """JSON for people."""
    return json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True)


@register.filter
def percent(share: float) -> str:
    """A share in percent, to one digit where it is small."""
    return formatting.decimal(f"{share * 100:.1f}" if 0 < share < 0.1 else f"{share * 100:.0f}") + " %"


@register.filter
def say(text: str | None) -> str:
    """What a row says, in the viewer's language; children are called as people call them."""
    return families.without_keys(translation.translate(text or ""))


@register.filter
def step_label(step: models.StepInstance) -> str:
    """What people call a step, in the viewer's language."""
    return panels.label(step.saga.name, step.name)


@register.filter
def why(saga: models.SagaInstance) -> str:
    """Why it stands before a person, or what went wrong first."""
    return summary.why(saga)


@register.filter
def hour(at: datetime.datetime) -> str | SafeString:
    """A moment for an axis, to the minute."""
    local = timezone.localtime(at)
    return html.format_html('<time datetime="{}">{}</time>', at.isoformat(), local.strftime("%Y-%m-%d %H:%M"))


@register.filter
def intervention_label(name: str) -> str:
    """What an intervention's button says."""
    return str(interventions.INTERVENTIONS[name].label) if name in interventions.INTERVENTIONS else name


@register.filter
def rule(error: dict[str, Any] | None) -> str:
    """Which rule chose what became of the error."""
    return summary.rule(error) if error else ""


@register.filter
def state_name(state: str) -> str:
    """A state's name."""
    return marks.state_names().get(str(state), str(state))


@register.filter
def redact(value: Any, names: redaction.Hidden) -> Any:
    """The same data, with what is personal or secret struck out."""
    return redaction.redact(value, names)


@register.filter
def unlocalized(number: float) -> str:
    """A number as SVG wants it, whatever the language does to decimal points."""
    return f"{number:g}"


@register.filter
def plus_half(start: float, width: float) -> str:
    """The middle of a stretch, as SVG wants it."""
    return f"{start + width / 2:g}"


@register.simple_tag(takes_context=True)
def overview(context: template.Context) -> str:
    """Have the figures of the first page in the context, where the viewer may see sagas."""
    from sagas.console.admin import dashboard  # Not before the admin's site is there.

    if context["request"].user.has_perm("sagas.view_sagainstance"):
        for name, value in dashboard.context(context["request"]).items():
            context[name] = value
    return ""


@register.simple_tag
def saga_of(row: Any) -> uuid.UUID | None:
    """The saga on whose behalf a service's row exists, if its key names one."""
    key = getattr(row, "key", None) or getattr(row, "step_key", None)
    owner = getattr(row, "saga_id", None)
    if isinstance(owner, uuid.UUID):
        return owner
    try:
        return uuid.UUID(str(key).partition(".")[0]) if key and "." in str(key) else None
    except ValueError:
        return None
