"""The first page's figures and pictures."""

from collections.abc import Iterator
from typing import Any

from django import http

from sagas import conf
from sagas.console import approving, families, health, notices, panels
from sagas.console.admin import callbacks, charts
from sagas.console.models import BulkRun, Consent
from sagas.declaration.states import SagaState

QUEUE_SHOWN = 5
"""So many sagas that need a person stand on the first page."""


def context(request: http.HttpRequest) -> dict[str, Any]:
    """What the first page shows; `?window=` chooses how much time."""
    window = request.GET.get("window", "24h")
    if window not in health.WINDOWS:
        window = "24h"
    figures = health.read(window, children=False)
    waiting = list(families.longest_waiting()[:QUEUE_SHOWN])
    for_child = figures.for_a_childs_sake
    subjects = panels.describe([*waiting, *([figures.oldest] if figures.oldest else [])])
    return {
        "figures": figures,
        "now": figures.now,
        "window": window,
        "windows": list(health.WINDOWS),
        "live_counts": [
            (
                state,
                figures.live.get(state, 0) - (for_child if state == SagaState.NEEDS_ATTENTION else 0),
                figures.live_children.get(state, 0),
            )
            for state in (SagaState.NEEDS_ATTENTION, SagaState.RUNNING, SagaState.COMPENSATING)
        ],
        "totals": [(state, figures.totals[state]) for state in charts.STACK],
        "throughput": charts.throughput(figures),
        "failures": charts.failures(figures),
        "alarms": list(_alarms(figures)),
        "waiting": [(saga, subjects.get(saga.pk)) for saga in waiting],
        "waiting_in_all": figures.live.get(SagaState.NEEDS_ATTENTION, 0) - for_child,
        "callbacks_waiting": list(callbacks.waiting()[:QUEUE_SHOWN]),
        "oldest_subject": subjects.get(figures.oldest.pk) if figures.oldest else None,
        "steps": charts.steps(figures.steps),
        "longest": charts.longest(figures.steps),
        "consents_waiting": Consent.objects.filter(state=Consent.State.ASKED)[:20].count(),
        "approvals_asked": approving.waiting(request.user)[:20].count(),
        "runs_live": list(BulkRun.objects.filter(state=BulkRun.State.RUNNING)[:5]),
        "flower": conf.flower_url(),
    }


def _alarms(figures: health.Health) -> Iterator[str]:
    """What keeps every saga from going on, or from beginning, and no saga's row says."""
    if figures.unswept:
        yield notices.nobody_sweeps(figures.swept)
    for queue in figures.queues:
        if queue.silent and queue.silence is not None:
            yield notices.nobody_listens(queue.name, queue.silence)
        if queue.full:
            yield notices.line_full(queue.name, queue.in_line)
