"""What a failed campaign leaves can be opened, though its write-ahead log lay on a disk of its own."""

import subprocess
import sys

import psycopg
import pytest
import redis

from saga_project.local import runfile, servers
from tests.support import clusters

pytestmark = pytest.mark.integration


def test_what_was_kept_on_small_disks_is_there_when_the_process_and_its_disks_are_gone():
    with clusters.place() as home:
        home.mkdir(exist_ok=True)
        done = subprocess.run(
            [sys.executable, "-m", "tests.saga_project.local.chaos.on_small_disks", home],
            cwd=runfile.ROOT, capture_output=True, text=True, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        postgres, valkey = servers.Postgres(home / "postgres"), servers.Valkey(home / "valkey")
        with (home / "log").open("ab") as log:
            try:
                for server in (postgres, valkey):
                    server.start(log)
                with psycopg.connect(postgres.url) as link:
                    assert link.execute("SELECT answer FROM kept").fetchone() == (42,)
                with redis.Redis.from_url(valkey.url) as client:
                    assert client.get("answer") == b"42"
            finally:
                for server in (postgres, valkey):
                    server.stop()
