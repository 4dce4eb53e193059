"""What is personal or secret, struck out before anybody is shown the facts of a saga (A3)."""

import re
from typing import Any

SECRETIVE = re.compile(
    r"token|secret|password|tax|email|name$|street|complement|district|recipient|phone|copy_paste|postal|cpf|cnpj",
    re.IGNORECASE,
)
"""Names of facts that are personal or open doors: their values are shown to nobody (A3)."""

VEIL = "•••"


def over(value: Any, name: str = "") -> Any:
    """The same facts, with what is personal or secret struck out (A3).

    Whatever a personal name stands for is struck out whole: a number, and what is inside of an object, too.
    """
    if isinstance(value, dict) and not SECRETIVE.search(name):
        return {key: over(item, str(key)) for key, item in value.items()}
    if isinstance(value, list):
        return [over(item, name) for item in value]
    if isinstance(value, bool) or value in (None, "", {}):
        return value
    return VEIL if SECRETIVE.search(name) else value
