"""The negative control: the same programs with one safeguard off. A campaign with them must fail.

A checker that finds nothing proves nothing, unless it does find what goes wrong where a safeguard is missing.
Three can be taken away, one at a time: `WAYS`. Nothing in the project's settings does so, and no variable of
its own: a program is maimed only if it is started with other settings, which name this package and say so in
every log (`environment`). They refuse to load without PLAIN_HTTP, which only the local stack sets.
"""

from saga_project.local.maimed.ways import WAYS

__all__ = ["VARIABLE", "WAYS", "environment"]

VARIABLE = "MAIMED_WITHOUT"


def environment(without: str) -> dict[str, str]:
    """What a program must find in its environment to run without this safeguard.

    Args:
        without: one of `WAYS`.

    Raises:
        KeyError: there is no such safeguard.
    """
    WAYS[without]
    return {"DJANGO_SETTINGS_MODULE": "saga_project.local.maimed.settings", VARIABLE: without}
