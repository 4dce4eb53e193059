"""A file that says that a worker or beat goes round: whoever supervises the process looks at its age.

Neither listens on a port, and `celery inspect ping` starts a second Django for each question.
"""

import pathlib

from django.conf import settings


def touch() -> None:
    """Say so now, where `ALIVE_FILE` names a file."""
    if settings.ALIVE_FILE:
        pathlib.Path(settings.ALIVE_FILE).touch()
