"""What the database and the engine refuse, as problems of the REST APIs."""

import logging
import random

from api import problems
from sagas import database, errors

logger = logging.getLogger(__name__)


OVERLOADED_RETRY_S = (10, 20)
"""Shortest and longest. A line that is full soon has places again; but each request that is refused costs
something, too, and those that were refused together are not to come back together."""


@problems.translate
def of(error: Exception) -> problems.Problem | None:
    """Somebody holds what is wanted, too much waits, or the database is away; anything else is a bug."""
    database.let_go(error)
    if isinstance(error, errors.Busy):
        detail = "Somebody else is at this order just now."
        return problems.Problem(problems.BUSY, detail, headers={"Retry-After": "1"})
    if isinstance(error, errors.LineFull):
        detail = "So many orders wait to be worked on that no more are taken just now."
        wait_s = random.randint(*OVERLOADED_RETRY_S)  # noqa: S311 - chance, not secrecy
        return problems.Problem(problems.OVERLOADED, detail, headers={"Retry-After": str(wait_s)})
    if database.is_busy(error):
        detail = "Somebody else is at this just now."
        return problems.Problem(problems.BUSY, detail, headers={"Retry-After": "1"})
    if database.is_passing(error):
        # The database is away, or gave up on us; nothing was committed.
        logger.warning("The database could not be used: %s", type(error).__name__, exc_info=error)
        detail = "The database cannot be reached."
        return problems.Problem(problems.UNAVAILABLE, detail, headers={"Retry-After": "2"})
    return None
