"""System checks: a step of the order that has no words of its own works, but says less than it could."""

from typing import Any

from django.conf import settings
from django.core import checks
from django.utils import translation

from orders import customer_messages, saga
from sagas.declaration import registry


def check_wording(**_: Any) -> list[checks.CheckMessage]:
    """Report steps without words for customers (W001), and words without a translation (W002)."""
    versions = registry.versions(saga.ORDER_FULFILMENT.name)
    names = dict.fromkeys(step.name for version in versions for step in version.all_steps)
    found: list[checks.CheckMessage] = [
        checks.Warning(
            f"The step {name} has no messages for customers: they read"
            f" “{customer_messages.of_step(name).refused}”",
            hint=f"Add an entry for {name!r} to STEPS in orders/customer_messages.py.",
            obj=name,
            id="orders.W001",
        )
        for name in names
        if name not in customer_messages.STEPS
    ]
    for language, _label in settings.LANGUAGES:
        if language.partition("-")[0] == "en":
            continue
        folder = translation.to_locale(language)
        with translation.override(language):
            found += [
                checks.Warning(
                    f"The step {name} has no name in {language}.",
                    hint=f'Translate "{words.doing}" in orders/locale/{folder}/LC_MESSAGES/django.po, and'
                    " compile it: msgfmt -o django.mo django.po.",
                    obj=name,
                    id="orders.W002",
                )
                for name in names
                if (words := customer_messages.STEPS.get(name))
                and translation.gettext(words.doing) == words.doing
            ]
    return found
