"""When a request is made again, and when no more."""

import logging
import random

from saga_orders import errors

logger = logging.getLogger("saga_orders")

LONGEST_S = 60.0
"""Who is asked to wait for longer than this decides for himself: the error is raised at once."""
GROWTH_S = 8.0
"""A pause of ours grows no longer than this."""


class Retries:
    """The attempts of one call."""

    def __init__(self, *, most: int, first_pause_s: float) -> None:
        self._most = most
        self._first_s = first_pause_s
        self._count = 0

    def begin_anew(self) -> None:
        """It went on meanwhile: what goes wrong from here on is counted from one."""
        self._count = 0

    def pause(self, error: errors.Error) -> float:
        """For how many seconds to wait before the next attempt: longer each time, with jitter.

        No shorter than the server asks for.

        Raises:
            Error: it was this one, and there is no next attempt.
        """
        asked = error.retry_after or 0.0
        if not error.passing or self._count >= self._most or asked > LONGEST_S:
            raise error
        grown = min(self._first_s * 2.0**self._count, GROWTH_S)
        self._count += 1
        # Half of it is chance, so that clients that failed together do not come back together.
        pause = max(asked, grown * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
        logger.info("%s; trying again in %.1f s (%d of %d)", error, pause, self._count, self._most)
        return pause
