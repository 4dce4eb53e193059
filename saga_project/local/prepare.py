"""`python -m saga_project.local.prepare`: a database made ready for the local stack.

Schema, static files, catalogue, the administrator's account and two tokens. All of it may be run again
and again; what is there stays as it is. Prints, as JSON and for the stack alone, the tokens and the queues
that need a worker: the stack itself has no settings to read the declarations with.
"""

import json
import os
import sys

import django
from django.core import management


def main() -> None:
    """Prepare, and tell the tokens and the queues on standard output."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "saga_project.settings")
    django.setup()
    management.call_command("migrate", interactive=False, verbosity=0, stdout=sys.stderr)
    management.call_command("collectstatic", interactive=False, verbosity=0, stdout=sys.stderr)
    management.call_command("seed_catalogue", stdout=sys.stderr)
    _administrator(os.environ["ADMIN_USER"], os.environ["ADMIN_PASSWORD"])
    tokens = {"API_TOKEN": _token("API_TOKEN", "customer"), "STAFF_TOKEN": _token("STAFF_TOKEN", "staff")}
    print(json.dumps({"tokens": tokens, "queues": _queues()}))


def _administrator(name: str, password: str) -> None:
    from django.contrib.auth import get_user_model

    user, _ = get_user_model().objects.get_or_create(
        username=name, defaults={"is_staff": True, "is_superuser": True}
    )
    if not user.check_password(password):
        user.set_password(password)
        user.save()


def _queues() -> list[str]:
    # Not before the apps are there, whose sagas it asks.
    from saga_project import queues

    return queues.everything()


def _token(variable: str, scope: str) -> str:
    """The token of an earlier run while it is still good, or a new one."""
    from django.contrib.auth import get_user_model

    from api import tokens

    secret = os.environ.get(variable, "")
    if secret and tokens.find(secret):
        return secret
    trusted = {"is_staff": True, "is_superuser": True} if scope == "staff" else {}
    user, _ = get_user_model().objects.update_or_create(username=f"local-{scope}", defaults=trusted)
    _, secret = tokens.create(user=user, name="local stack", scope=scope)
    return secret


if __name__ == "__main__":
    main()
