"""What the rows say, in the viewer's language: the engine's own sentences, and other apps' messages.

What nobody can translate is shown as it stands.
"""

import re
from collections.abc import Callable

from django.utils.translation import gettext, gettext_noop

from sagas.engine import messages

WAVE_FAILED = gettext_noop("In wave %(wave)s, %(failed)s of %(tried)s sagas failed again.")
"""Why a bulk run stopped by itself."""

RUN_STOPPED = gettext_noop("%(actor)s stopped it: %(reason)s")
"""Why it stopped where a person stopped it."""

RUN_GOES_ON = gettext_noop("It goes on.")
"""Of a saga that a bulk run has resumed."""

NOTHING_SEEN = gettext_noop("Nothing was seen of it in time.")
"""Of one that a bulk run has resumed in vain."""

Interpreter = Callable[[str], str]
"""Says a message in the reader's language, or returns it as it came."""

_interpreters: list[Interpreter] = []


def register(interpreter: Interpreter) -> None:
    """Have an app say what its own messages mean.

    Arguments:
        interpreter: called with a message as the rows keep it; returns it as a sentence in the viewer's
            language, or an empty text if it does not know the message.
    """
    _interpreters.append(interpreter)


def translate(text: str) -> str:
    """A text from the rows, in the viewer's language where anybody knows it in that."""
    if not text:
        return ""
    for pattern, form in _FORMS:
        if found := pattern.fullmatch(text):
            return gettext(form) % {name: translate(given) for name, given in found.groupdict().items()}
    for interpreter in _interpreters:
        if meaning := interpreter(text):
            return meaning
    return gettext(text)


def _pattern(form: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"%\\\((\w+)\\\)s", r"(?P<\1>.+?)", re.escape(form)), re.DOTALL)


# Only a sentence with something to fill in needs looking for; the rest is found by its own text.
_FORMS = [
    (_pattern(form), form)
    for form in (
        messages.PAST_UNDOING,
        messages.UNDO_FAILED,
        messages.MISMATCH,
        messages.NOT_UNDONE,
        messages.NOT_ASKED,
        messages.NOT_UNDERSTOOD,
        messages.NOT_ANSWERED,
        messages.CHILD_NEEDS_ATTENTION,
        messages.CHILDREN_FAILED,
        messages.TIME_TO_DO_OVER,
        messages.TIME_TO_UNDO_OVER,
        messages.CANNOT_BE_MOVED,
        messages.OWNER_FAILED,
        messages.LOCK_HELD_IN,
        WAVE_FAILED,
        RUN_STOPPED,
    )
]
