"""Beat's scheduler: Celery's own, with a sign of life in every round, and for a clock that is set back."""

from typing import Any

from celery import beat

from saga_project import alive


class Scheduler(beat.PersistentScheduler):
    """Says with every round that it goes round, and takes nothing for sent at a time that is yet to come.

    One that hangs sends nothing, and nothing else tells. And Celery reckons from the time at which it last
    sent a task: where the clock was a day ahead and is set right, no sweep would come for a day.
    """

    def tick(self, *args: Any, **kwargs: Any) -> Any:
        """Send what is due; how long until something is, in seconds."""
        alive.touch()
        self._forget_the_future()
        pause = super().tick(*args, **kwargs)
        # Where the clock was set back within that call, the pause reckons with a time that is yet to come.
        return 0 if self._forget_the_future() else pause

    def _forget_the_future(self) -> bool:
        """What was sent at a time that is yet to come was sent by a clock that was wrong: take it for now.

        Returns whether there was any.
        """
        now = self.app.now()
        ahead = [entry for entry in self.schedule.values() if entry.last_run_at and entry.last_run_at > now]
        for entry in ahead:
            entry.last_run_at = now
        if ahead:
            # They stand in it by the old time.
            self._heap = None
        return bool(ahead)
