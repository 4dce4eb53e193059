"""What a provider tells us is held against what it was asked, before anything of it is believed.

A provider that contradicts us has neither refused nor failed: something happened, and it is not what was
asked. Trying again would not change that, and to go on as if it were would make the books wrong. Each service
says what must agree; who asked gets a `Mismatch` with the figures, and a person is called.
"""

from collections.abc import Mapping

from providers import client


class Mismatch(client.Failure):
    """The provider tells something else than was asked. Have a person settle it with the provider."""


def differences(told: Mapping[str, object], asked: Mapping[str, object]) -> str:
    """What the provider tells and what was asked, where they differ, as text; empty where they agree.

    Arguments:
        told: by name, as people know it, what the provider tells. What it does not tell is left out.
        asked: by the same names, what was asked.
    """
    return ", ".join(
        f"{name} {_shown(value)} instead of {_shown(asked[name])}"
        for name, value in told.items()
        if value != asked[name]
    )


def _shown(value: object) -> str:
    return str(value).replace(" ", "_") if value not in ("", None) else "none"
