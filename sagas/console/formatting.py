"""Lengths, moments and sentences as people read them, in the viewer's language and zone."""

import datetime

from django.utils import formats, timezone
from django.utils.translation import gettext as _

from sagas.console import translation


def length(time: datetime.timedelta | None) -> str:
    """A duration as people read it: 3 ms, 1.25 s, 2 min 5 s, 3 h 12 min, 2 d 4 h."""
    if time is None:
        return ""
    seconds = abs(time.total_seconds())
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return decimal(f"{seconds:.2f}".rstrip("0").rstrip(".")) + " s"
    whole = int(seconds)
    for large, small, units in ((60, 1, ("min", "s")), (3600, 60, ("h", "min")), (86400, 3600, ("d", "h"))):
        if whole < large * {60: 60, 3600: 24, 86400: 10**9}[large]:
            rest = whole % large // small
            return f"{whole // large} {units[0]}" + (f" {rest} {units[1]}" if rest else "")
    raise AssertionError(seconds)


def decimal(number: str) -> str:
    """A number with the decimal sign of the viewer's language."""
    return number.replace(".", str(formats.get_format("DECIMAL_SEPARATOR")))


def when(at: datetime.datetime | None, now: datetime.datetime) -> str:
    """How far off a moment is: in 3 s, or any moment now."""
    if at is None:
        return _("at an unknown time")
    if at <= now + datetime.timedelta(seconds=1):
        return _("any moment now")
    return _("in %(length)s") % {"length": length(at - now)}


def moment(at: datetime.datetime | None) -> str:
    """A moment in the viewer's zone, which the page's head names, to the millisecond."""
    if at is None:
        return ""
    local = timezone.localtime(at)
    return local.replace(tzinfo=None).isoformat(sep=" ", timespec="milliseconds") + (
        "" if local.utcoffset() else " UTC"
    )


def sentence(text: str) -> str:
    """With a full stop, where it has none."""
    text = text.strip()
    return text if not text or text[-1] in ".!?…" else f"{text}."


def spoken(text: str) -> str:
    """What the rows say, in the viewer's language, as a sentence."""
    return sentence(translation.translate(text))
