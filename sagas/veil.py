"""What is personal or secret, struck out before anybody is shown the facts of a saga (A3)."""

import re
from typing import Any

SECRETIVE = re.compile(
    r"token|secret|password|tax|email|name$|street|complement|district|recipient|phone|copy_paste|postal",
    re.IGNORECASE,
)
"""Names of facts that are personal or open doors: their values are shown to nobody (A3)."""

VEIL = "•••"


def over(value: Any, name: str = "") -> Any:
    """The same facts, with what is personal or secret struck out (A3)."""
    if isinstance(value, dict):
        return {key: over(item, key) for key, item in value.items()}
    if isinstance(value, list):
        return [over(item, name) for item in value]
    if isinstance(value, str) and value and SECRETIVE.search(name):
        return VEIL
    return value
