"""Flower's own settings: beside a step's arguments, where its saga is told in full.

Flower reads this file by its path (`--conf`); its templates have no room for a link of ours, so the
address stands as text among the task's arguments, to be opened from there.
"""

import os
import re
from typing import Any

_SAGA = re.compile(r"'saga_id': '([0-9a-f-]{36})'")


def format_task(task: Any) -> Any:
    """Add the address of the saga's page; everything else stays as it is."""
    found = _SAGA.search(str(task.kwargs or ""))
    if found and "WEB_URL" in os.environ:
        task.kwargs = f"{task.kwargs} {os.environ['WEB_URL']}/admin/sagas/sagainstance/{found[1]}/change/"
    return task
