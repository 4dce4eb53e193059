"""The sentences that the engine writes on its rows, in English; the console translates what it shows.

The rows keep English, so that the log, the API and the database agree in every language.
"""

from django.utils.translation import gettext_noop

PAST_UNDOING = gettext_noop("%(step)s is not done, and the saga is past the point where it could be undone.")
UNDO_FAILED = gettext_noop("%(step)s cannot be undone: %(message)s")
TIME_TO_DO_OVER = gettext_noop("The time for doing it ran out at %(step)s.")
TIME_TO_UNDO_OVER = gettext_noop("The time for undoing it ran out at %(step)s.")
OWNER_FAILED = gettext_noop("Every step went well, and its owner could not take that: %(error)s: %(message)s")
CANNOT_BE_MOVED = gettext_noop("It cannot be moved: %(error)s: %(message)s")

MISMATCH = gettext_noop("%(step)s came to something else than was asked: %(message)s")

NOT_ANSWERED = gettext_noop("Nobody has approved %(step)s or refused it, in time.")
ANSWER = gettext_noop("Have somebody answer; or resume it, which gives them as much time again.")

ENOUGH_DONE = gettext_noop("Enough of them are done.")
PARENT_ASIDE = gettext_noop("Its parent was put aside.")
PARENT_UNDONE = gettext_noop("Its parent is undone.")
CHILDREN_FAILED = gettext_noop("%(failed)s of %(total)s children are not done.")
CHILD_IN_NEED = gettext_noop("A child of it needs attention.")
CHILD_NEEDS_ATTENTION = gettext_noop("%(step)s waits for its child %(child)s, which needs attention: %(why)s")
SEE_TO_THE_CHILD = gettext_noop("See to the child; its parent then goes on by itself.")

NOT_UNDONE = gettext_noop("It came too late, and what it tells of could not be undone: %(error)s")
UNDONE_AFTER_ALL = gettext_noop("What it tells of was undone after all.")
NO_SAGA = gettext_noop("It is about no saga of ours.")
NOT_ITS_STEP = gettext_noop("Its sender has nothing to do with the step that it is about.")
NOT_ASKED = gettext_noop("It tells something else than was asked: %(mismatch)s.")
NOT_UNDERSTOOD = gettext_noop("Its sender signed it, and it cannot be understood: %(why)s")

DEADLINE_OVER = gettext_noop("The saga's deadline ran out.")
TIME_OVER = gettext_noop("Its time is over.")
WAIT_OVER = gettext_noop("Nobody said that it is done, in time.")
NEVER_HAPPENED = gettext_noop("The provider knows nothing of it.")
WORKER_VANISHED = gettext_noop("Its worker vanished.")
LOCK_HELD = gettext_noop("Another session holds a lock that it needs.")
LOCK_HELD_IN = gettext_noop("Another session holds a lock that it needs, on a row of %(table)s.")
DATABASE_AWAY = gettext_noop("The database could not be used.")

SEE_TO_THE_CAUSE = gettext_noop(
    "See to the cause, then retry; or say with evidence that it happened, or did not."
)
SETTLE_WITH_PROVIDER = gettext_noop(
    "Settle it with the provider, then retry; or say with evidence that it is undone."
)
SETTLE_MISMATCH = gettext_noop(
    "Settle it with the provider; then retry, which asks it again, or have the saga undone, which takes back"
    " what was really done."
)
ASK_PROVIDER = gettext_noop("See whether the provider works and what it knows of the key, then retry.")
SEE_TO_THE_HOOK = gettext_noop("See to the cause, a hook of its owner perhaps; then retry.")

MOVED_ON = gettext_noop(
    "This has moved on since it was looked at; look again, and decide on what stands now."
)
