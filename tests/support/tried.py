"""How much of the trials a run has: some of each saga, or all with `TRIALS=all`."""

import os
from typing import Any

ALL = os.environ.get("TRIALS") == "all"

SAGA: dict[str, Any] = {} if ALL else {"kinds": ["goes well", "cancels"], "chance": 0}
"""For `trials.of`."""

VERBS: dict[str, Any] = {} if ALL else {"only": ["is undone", "undo comes first"]}
"""For `trials.verbs`."""
