"""System checks of the console's settings, and of what its bulk runs need."""

from typing import Any

from django.apps import apps
from django.core import checks

from sagas import checks as engine_checks
from sagas import conf


def check_settings(**_: Any) -> list[checks.CheckMessage]:
    """Report models in SAGAS_ROLES_SEE that are not installed (E013)."""
    found: list[checks.CheckMessage] = []
    for name in conf.roles_see():
        try:
            apps.get_model(name)
        except (LookupError, ValueError):
            hint = "Name installed models as app.model, or leave it out."
            found.append(
                checks.Error(f"SAGAS_ROLES_SEE names {name!r}: no such model.", hint=hint, id="sagas.E013")
            )
    return found


def check_schedule(**_: Any) -> list[checks.CheckMessage]:
    """Report that nothing drives bulk runs (W005), where the Celery application can say so."""
    return [
        checks.Warning(
            f"Nothing in the beat_schedule of {app} starts {conf.BULK_TASK}: bulk runs would be begun in the "
            "console, and never be driven.",
            hint=conf.SCHEDULE_BULK_RUNS,
            id="sagas.W005",
        )
        for app in engine_checks.does_not_start(conf.BULK_TASK)
    ]
