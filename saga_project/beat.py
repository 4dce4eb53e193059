"""Beat's scheduler: Celery's own, and a sign of life with every round."""

from typing import Any

from celery import beat

from saga_project import alive


class Scheduler(beat.PersistentScheduler):
    """Says with every round that it goes round: one that hangs sends nothing, and nothing else tells."""

    def tick(self, *args: Any, **kwargs: Any) -> Any:
        """Send what is due; how long until something is, in seconds."""
        alive.touch()
        return super().tick(*args, **kwargs)
