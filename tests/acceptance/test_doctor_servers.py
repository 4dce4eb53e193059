"""The doctor of PostgreSQL, its standby and Valkey: what is planted is found, and its line cures it."""

import contextlib
import datetime
import subprocess

import psycopg
import pytest
import redis
from django.db import connection, connections

from saga_project import broker, postgres
from saga_project import examinations as project
from saga_project.local import servers
from sagas import doctor, examinations
from tests.acceptance.test_rabbitmq import publishing_to
from tests.sagas.conftest import transactional_db  # noqa: F401 - the fixture
from tests.support import clusters, waiting

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

MEGABYTE = 1 << 20


@pytest.fixture(scope="module")
def copies(django_db_setup, django_db_blocker):
    with django_db_blocker.unblock(), clusters.pair() as pair:
        yield pair


@pytest.fixture
def pair(copies, transactional_db, monkeypatch, settings):  # noqa: F811 - the fixture
    """A primary and its standby, in the place of the server that all tests share, and of its replica."""
    connection.close()
    where = {"HOST": copies.primary.address, "PORT": str(copies.primary.port)}
    for name, value in (where | {"PASSWORD": copies.primary.password}).items():
        monkeypatch.setitem(connection.settings_dict, name, value)
    settings.DATABASE_URL = copies.url
    settings.DATABASE_REPLICA_URL = copies.standby.url
    entry = postgres.replica_settings(
        copies.standby.url,
        limits=settings.DATABASE_LIMITS["command"],
        peer=settings.DATABASE_PEER_TIMEOUT,
        pooled=False,
    )
    monkeypatch.setitem(connections.databases, "replica", entry)
    connections.configure_settings(connections.databases)
    if copies.standby.process is None:
        copies.rejoin()
    try:
        yield copies
    finally:
        connection.close()
        connections["replica"].close()
        del connections["replica"]


def found():
    """What new sessions find, by its id; that the tests' servers may lose what was committed is left out."""
    connection.close()
    connections["replica"].close()
    parts = (examinations.postgresql, project.standbys, project.replica)
    all_said = [said for part in parts for said in part()]
    return {one.id: one for one in all_said if not isinstance(one, str) and one.id != "sagas.D002"}


def carry_out(node, statements):
    """The line that a finding says, at the primary."""
    with psycopg.connect(node.url, autocommit=True) as link:
        for statement in filter(None, map(str.strip, statements.split(";"))):
            link.execute(statement)


def test_what_is_planted_in_postgresql_and_its_standby_is_found_and_the_line_to_change_cures_it(
    pair, monkeypatch, settings
):
    assert found() == {}

    # Lower bounds, so that nobody waits for ten seconds and a gigabyte.
    monkeypatch.setattr(examinations, "KEPT_BYTES", MEGABYTE)
    monkeypatch.setattr(project, "LAG_S", 0.3)
    settings.DATABASE_REPLICA_MAX_LAG = datetime.timedelta(seconds=project.LAG_S)
    primary, database = pair.primary, connection.ops.quote_name(connection.settings_dict["NAME"])
    carry_out(
        primary,
        "ALTER SYSTEM SET autovacuum = off; SELECT pg_reload_conf();"
        f"ALTER DATABASE {database} SET default_transaction_isolation = 'repeatable read';"
        f"ALTER DATABASE {database} SET synchronous_commit = 'local';"
        "SELECT pg_create_physical_replication_slot('forgotten', true)",
    )
    pair.standby.ask("SELECT pg_wal_replay_pause()")
    planted = {
        "sagas.D003": "autovacuum is off, by its configuration file",
        "sagas.D004": "default_transaction_isolation is repeatable read, by its database",
        "sagas.D006": "The replication slot forgotten is used by nobody",
        "project.D003": "There is a synchronous standby (FIRST 1 (beta)), and synchronous_commit is local",
        "project.D006": "The standby beta is behind: streaming",
        "project.D009": "The replica is ",
    }

    def write_and_look():
        """A standby is behind when there is something that it has not."""
        primary.ask("SELECT pg_logical_emit_message(true, 'doctor', repeat('x', 2097152))")
        seen = found()
        return seen if seen.keys() == planted.keys() else None

    seen = waiting.until(write_and_look, "all of it is found, and nothing else")
    for id, what in planted.items():
        assert what in seen[id].what
        assert seen[id].effect

    for id in ("sagas.D003", "sagas.D004", "sagas.D006", "project.D003"):
        carry_out(primary, seen[id].change.removeprefix("Start who reads it, or "))
    pair.standby.ask("SELECT pg_wal_replay_resume()")

    def write_and_look_again():
        primary.ask("SELECT pg_logical_emit_message(true, 'doctor', 'x')")
        return found() == {}

    waiting.until(write_and_look_again, "all of it is cured")


def test_standbys_that_nobody_waits_for_or_that_are_not_there_are_found(pair, monkeypatch):
    primary = pair.primary
    with psycopg.connect(primary.url, autocommit=True) as link:
        link.execute("CREATE ROLE passer_by LOGIN PASSWORD 'a-password-for-tests'")
    with monkeypatch.context() as patched:
        for name, value in {"USER": "passer_by", "PASSWORD": "a-password-for-tests"}.items():
            patched.setitem(connection.settings_dict, name, value)
        assert found()["project.D001"].change == "GRANT pg_monitor TO the role in DATABASE_URL;"
    with monkeypatch.context() as patched:
        patched.setitem(connection.settings_dict, "PORT", str(servers.free_port()))
        connection.close()
        with pytest.raises(doctor.Away) as away:
            list(examinations.postgresql())
        assert away.value.finding.id == "sagas.D001"

    primary.configure(synchronous_standby_names="")
    waiting.until(lambda: found().keys() == {"project.D004"}, "no commit waits for the standby")
    carry_out(primary, found()["project.D004"].change.partition(" with ")[0].replace("NAME", "beta"))
    waiting.until(lambda: found() == {}, "one does again")

    pair.standby.kill()
    waiting.until(lambda: found().keys() == {"project.D002", "project.D007"}, "commits wait for nobody")
    primary.configure(synchronous_standby_names="")
    waiting.until(lambda: found().keys() == {"project.D005", "project.D007"}, "nobody follows")
    assert "names several hosts, and no standby follows" in found()["project.D005"].what


# --- Valkey -------------------------------------------------------------------------------------------


@contextlib.contextmanager
def started(home, **options):
    """A Valkey with these options, as the broker of this process."""
    home.mkdir()
    port = servers.free_port()
    given = {"port": port, "bind": "127.0.0.1", "save": "", "dir": home} | options
    words = [word for name, value in given.items() for word in (f"--{name}", *str(value).split(" "))]
    with (home / "log").open("wb") as log:
        server = subprocess.Popen([servers.valkey_binary(), *words], stdout=log, stderr=log)
    try:
        with redis.Redis(port=port) as client:
            waiting.until(lambda: answers(client), "it answers")
        url = f"redis://127.0.0.1:{port}/0"
        with publishing_to(url):
            yield broker.parse(url), port
    finally:
        server.terminate()
        server.wait(20)


def answers(client):
    with contextlib.suppress(redis.ConnectionError):
        return client.ping()
    return False


@pytest.mark.usefixtures("transactional_db")
def test_a_server_of_valkeys_that_can_be_no_broker_is_found_and_the_doctor_goes_on(tmp_path, settings):
    kinds = {"project.D014", "project.D016", "sagas.D016"}

    def seen():
        letter = doctor.examine()
        assert letter.left_out == []
        return {one.id: one for _, one in letter.findings if one.id in kinds}

    with started(tmp_path / "alone") as (settings.BROKER, port):
        assert seen() == {}
        with started(tmp_path / "replica", replicaof=f"127.0.0.1 {port}") as (settings.BROKER, _):
            found = seen()
            assert found.keys() == {"project.D016", "sagas.D016"}
            assert "takes no messages" in found["project.D016"].what
            assert "read only replica" in found["sagas.D016"].what
    with started(tmp_path / "cluster", **{"cluster-enabled": "yes"}) as (settings.BROKER, _):
        assert "Cluster" in seen()["project.D014"].what
