"""System checks of the console's settings."""

from typing import Any

from django.apps import apps
from django.core import checks

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
