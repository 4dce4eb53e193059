"""The page to which a signed link leads: what is asked, and one button. Opening it changes nothing."""

from typing import Any

from django import http, shortcuts
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators import cache
from django.views.decorators import http as methods

from sagas import errors
from sagas.console import approving, formatting, forms, history, links, panels


@cache.never_cache
@methods.require_http_methods(["GET", "HEAD", "POST"])
def answer(request: http.HttpRequest, token: str) -> http.HttpResponse:
    """Show what the link would answer, and answer by POST.

    1. One that is not ours leads nowhere (404), one that is used, expired or no longer wanted says so (410).
    2. GET asks once more; POST answers, in the name of whom the link was made for.
    """
    try:
        link = links.read(token)
        record = history.read(link.saga_id)
        asked = approving.question(record, link.step)
        why = _over(link, record, asked)
    except (links.Unreadable, errors.NotFound):
        return _page(request, 404, over=_("This link is damaged or was never valid. Open it as it was sent."))
    if asked is None or why:
        return _page(request, 410, over=why)
    form = forms.AnswerForm(
        link.answer, asked.declared.outputs, request.POST if request.method == "POST" else None
    )
    if form.is_valid():
        try:
            approving.answer(
                link.saga_id, link.step, answer=link.answer, actor=link.actor,
                reason=form.cleaned_data["reason"], facts=form.facts, through="link",
            )  # fmt: skip
        except errors.BadFacts as error:
            form.add_error(None, str(error))
        except errors.NotAllowed as error:
            return _page(request, 410, over=str(error))
        else:
            return _page(request, 200, done=_done(link, asked))
    about = panels.describe([record.saga]).get(record.saga.pk)
    return _page(
        request, 400 if form.errors else 200,
        title=approving.LABELS[link.answer], link=link, question=asked, form=form,
        about=about.text if about else record.saga.key, amount=about.amount if about else "",
        until=_moment(link), preview=approving.preview(record, asked, link.answer),
    )  # fmt: skip


def _over(link: links.Link, record: history.History, asked: approving.Question | None) -> str:
    """Why the link cannot be used any more; empty where it can."""
    if approving.has_answered(record, link.step, link.actor):
        return _("It was answered in your name already: a link works once.")
    if asked is None:
        return approving.refused(record, link.step)
    if link.until <= record.now:
        return _("The time for an answer was over at %(at)s.") % {"at": _moment(link)}
    return ""


def _moment(link: links.Link) -> str:
    """Until when it may be used, with the zone: no page's head names it here."""
    at, zone = formatting.moment(link.until), timezone.get_current_timezone_name()
    return at if at.endswith(zone) else f"{at} ({zone})"


def _done(link: links.Link, asked: approving.Question) -> str:
    if link.answer == approving.REFUSE:
        return _("You have refused it. You may close this page.")
    if asked.missing > 1:
        return _("You have approved it; somebody else must, too. You may close this page.")
    return _("You have approved it. You may close this page.")


def _page(request: http.HttpRequest, status: int, **context: Any) -> http.HttpResponse:
    response = shortcuts.render(request, "sagas/link.html", context, status=status)
    response["X-Robots-Tag"] = "noindex"
    # The address is the key: no other site may learn it. "no-referrer" would have the form refused (CSRF).
    response["Referrer-Policy"] = "same-origin"
    return response
