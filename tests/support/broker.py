"""This test process's part of the broker. Another uses the same server, by a numbered database of its own."""

from typing import Any

import redis

WIDE = {
    "CLIENT PAUSE", "CONFIG RESETSTAT", "CONFIG SET", "FLUSHALL", "SCRIPT FLUSH", "SCRIPT KILL", "SHUTDOWN",
    "SWAPDB",
}  # fmt: skip
"""What the whole server does. So does CLIENT KILL, unless it is told whom."""


class Numbered(redis.Redis):
    """A client of one numbered database; raises ValueError for what would reach the others."""

    def execute_command(self, *args: Any, **options: Any) -> Any:
        command = str(args[0]).upper()
        if command in WIDE or (command == "CLIENT KILL" and b"ID" not in args):
            raise ValueError(f"{command} concerns the tests of other processes: start a server of your own.")
        return super().execute_command(*args, **options)

    def cut_off(self) -> None:
        """Close every connection to this database but this client's own."""
        number, own = str(self.connection_pool.connection_kwargs["db"]), str(self.client_id())
        for one in self.client_list(_type="normal"):
            if one["db"] == number and one["id"] != own:
                self.client_kill_filter(_id=one["id"])
