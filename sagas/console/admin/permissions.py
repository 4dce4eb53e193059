"""What the person behind a request may do, and how events name them."""

from django import http

from sagas.console import approving, interventions


def may(request: http.HttpRequest, intervention: interventions.Intervention) -> bool:
    """Whether they may intervene so."""
    return request.user.has_perm(f"sagas.{intervention.permission}")


def may_answer(request: http.HttpRequest, question: approving.Question) -> bool:
    """Whether they may approve, or refuse, what is asked."""
    return approving.may(request.user, question)


def actor(request: http.HttpRequest) -> str:
    """Their login, as long as an event can keep it."""
    return request.user.get_username()[:150]
