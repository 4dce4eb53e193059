"""The roles that operators have: three groups, made with the schema, and then the administrator's own.

- viewer: sees everything and does nothing.
- operator: also retries, asks, holds, releases and extends.
- supervisor: also compensates, says what happened, skips and puts aside; what moves money. And answers
  where a declared saga waits for a person's approval.
"""

from collections.abc import Iterable
from typing import Any

from django.apps import apps
from django.contrib.auth import management

from sagas import conf
from sagas.declaration import definition, registry

VIEWER, OPERATOR, SUPERVISOR = "saga viewer", "saga operator", "saga supervisor"

MAY: dict[str, tuple[str, ...]] = {
    VIEWER: (),
    OPERATOR: ("operate_saga",),
    SUPERVISOR: ("operate_saga", "compensate_saga", "resolve_saga"),
}
"""Beside seeing, which each of them may."""


def make(using: str = "default", **_: Any) -> None:
    """Make the roles that are missing; called after each migration.

    A role that is there is left as it is: it belongs to whoever changed it.
    """
    from django.contrib.auth.models import Group, Permission

    missing = [name for name in MAY if not Group.objects.using(using).filter(name=name).exists()]
    if not missing:
        return
    answers = _answers()
    for label in dict.fromkeys(name.partition(".")[0] for name in (*_seen(), *answers)):
        # Ours are there; those of apps that are migrated after this one may not be yet.
        management.create_permissions(apps.get_app_config(label), verbosity=0, using=using)
    permissions = {
        f"{permission.content_type.app_label}.{permission.codename}": permission
        for permission in Permission.objects.using(using).select_related("content_type")
    }
    for name in missing:
        group = Group.objects.using(using).create(name=name)
        wanted = [*(_view(model) for model in _seen()), *(f"sagas.{permission}" for permission in MAY[name])]
        group.permissions.set([permissions[permission] for permission in wanted])
        if name == SUPERVISOR:
            # One that no model declares is nobody's.
            group.permissions.add(*(permissions[one] for one in answers if one in permissions))


def _answers() -> list[str]:
    """The permissions with which the declared approvals are answered."""
    steps = (step for saga in registry.everything() for step in saga.all_steps)
    named = {step.permission for step in steps if isinstance(step, definition.Approval)}
    return sorted(name for name in named if name.partition(".")[0] in apps.app_configs)


def _seen() -> Iterable[str]:
    """The models that every role sees: the engine's, the console's, and those of settings.SAGAS_ROLES_SEE."""
    own = [
        model._meta.label_lower
        for label in ("sagas", "sagas_console")
        for model in apps.get_app_config(label).get_models()
    ]
    return [*own, *conf.roles_see()]


def _view(model: str) -> str:
    label, _, name = model.partition(".")
    return f"{label}.view_{name}"
