"""How a state and a moment look wherever the console, or an app beside it, shows one."""

import datetime

from django.utils import html, timezone
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from sagas.declaration.states import SagaState, StepState

GLYPHS = {
    "running": "▶", "compensating": "◀", "needs_attention": "!", "completed": "✓", "compensated": "↺",
    "pending": "○", "waiting": "…", "done": "✓", "failed": "✕", "unknown": "?", "undoing": "◀",
    "undone": "↺", "undo_failed": "!", "skipped": "⤼", "held": "‖", "closed": "■", "none": "–", "kept": "–",
    "due": "○", "not_reached": "–", "called_off": "–",
    "asked": "…", "stopped": "!", "finished": "✓", "sent": "▶", "helped": "✓", "refused": "–", "begun": "▶",
    "retry": "↻", "late": "◷", "lost": "?", "approved": "✓", "void": "–", "moved": "→",
}  # fmt: skip
"""A mark for each state, so that its colour is never the only sign of it."""

assert set(GLYPHS) >= {*SagaState, *StepState}, "a state without its mark"


def state_names() -> dict[str, str]:
    """Every state in the viewer's language."""
    return {
        "running": _("Running"), "compensating": _("Compensating"), "needs_attention": _("Needs attention"),
        "completed": _("Completed"), "compensated": _("Compensated"), "pending": _("Pending"),
        "waiting": _("Waiting"), "done": _("Done"), "failed": _("Failed"), "unknown": _("Unknown"),
        "undoing": _("Undoing"), "undone": _("Undone"), "undo_failed": _("Undo failed"),
        "skipped": _("Skipped"), "held": _("Held"), "closed": _("Put aside"), "none": _("Nothing to undo"),
        "kept": _("Not undone"),
        "due": _("Undo is due"), "not_reached": _("Not reached"), "called_off": _("Called off"),
        "asked": _("Waits for a second person"), "stopped": _("Stopped"),
        "finished": _("Finished"), "sent": _("Under way"), "helped": _("Helped"),
        "refused": _("Did not apply"), "begun": _("Begun"), "retry": _("Failed, tried again"),
        "late": _("Late, tried again"), "lost": _("Lost its worker"), "approved": _("Agreed"),
        "void": _("Void"), "moved": _("Moved on"),
    }  # fmt: skip


def badge(state: str, label: str = "") -> SafeString:
    """A state's mark, colour and name."""
    state = str(state)
    text = label or state_names().get(state, state)
    return html.format_html(
        '<span class="state state-{}"><span class="glyph" aria-hidden="true">{}</span>{}</span>',
        state,
        GLYPHS.get(state, "·"),
        text,
    )


LONGEST_NUMBER = 24
"""Letters of a number that is kept in one line; a whole id has 36, and no column has room for it."""


def subject(text: str) -> SafeString:
    """What a row of a list is about; no number in it is broken across lines."""
    words = [
        html.format_html('<span class="number">{}</span>', word)
        if len(word) <= LONGEST_NUMBER and any(letter.isdigit() for letter in word)
        else word
        for word in text.split()
    ]
    return html.format_html(
        '<span class="subject">{}</span>', html.format_html_join(" ", "{}", ((word,) for word in words))
    )


def moment(at: datetime.datetime | None) -> str | SafeString:
    """A moment in the viewer's zone, to the millisecond; the browser puts it in the browser's own."""
    if at is None:
        return "–"
    local = timezone.localtime(at)
    return html.format_html(
        '<time datetime="{}" title="{}">{} <span class="clock">{}</span></time>',
        at.isoformat(),
        f"{at.astimezone(datetime.UTC).isoformat(sep=' ', timespec='milliseconds')} UTC",
        local.strftime("%Y-%m-%d"),
        local.strftime("%H:%M:%S.") + f"{local.microsecond // 1000:03}",
    )


def minute(at: datetime.datetime | None, now: datetime.datetime) -> str | SafeString:
    """A moment as one says it beside others: 14:20, and the day where that is another than today's."""
    if at is None:
        return "–"
    local = timezone.localtime(at)
    today = local.date() == timezone.localtime(now).date()
    return html.format_html(
        '<time class="minute" datetime="{}" title="{}">{}</time>',
        at.isoformat(),
        f"{at.astimezone(datetime.UTC).isoformat(sep=' ', timespec='milliseconds')} UTC",
        local.strftime("%H:%M" if today else "%Y-%m-%d %H:%M"),
    )
