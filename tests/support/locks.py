"""Who waits for a lock. Other test processes use the same server: theirs are not asked for."""

from django.db import connection


def waiters(holder: int | None = None) -> list[int]:
    """Server processes (pids) that wait for what a session has locked: Django's own, or another pid's."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pid FROM pg_locks"
            " WHERE NOT granted AND coalesce(%s, pg_backend_pid()) = ANY (pg_blocking_pids(pid))",
            [holder],
        )
        return [pid for (pid,) in cursor.fetchall()]
