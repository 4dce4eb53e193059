"""A process of a test's: servers that keep something on small disks, where there can be such, and stop."""

import contextlib
import pathlib
import sys

import psycopg
import redis

from saga_project.local.chaos import disks


def main(home: pathlib.Path) -> None:
    """Write one thing to each, and leave it for others to read."""
    with contextlib.suppress(disks.NotPossible):
        disks.enter(["-m", __spec__.name, str(home)])
    postgres, valkey = disks.Postgres(home / "postgres"), disks.Valkey(home / "valkey")
    with (home / "log").open("wb") as log:
        for server in (postgres, valkey):
            server.start(log)
        with psycopg.connect(postgres.url) as link:
            link.execute("CREATE TABLE kept AS SELECT 42 AS answer")
        with redis.Redis.from_url(valkey.url) as client:
            client.set("answer", 42)
        for server in (postgres, valkey):
            server.stop()
            server.move_off()


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
