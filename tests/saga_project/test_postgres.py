"""How the processes connect to PostgreSQL, seen from the sessions and sockets that come of it."""

import contextlib
import dataclasses
import datetime
import json
import os
import pathlib
import socket
import subprocess
import sys
import threading

import psycopg
import pytest
from django.core import exceptions
from django.db import connection

from saga_project import checks, postgres
from saga_project.local import runfile
from sagas.declaration import registry

SECOND = datetime.timedelta(seconds=1)
LIMITS = postgres.Limits(lock=2 * SECOND, statement=60 * SECOND, idle_in_transaction=30 * SECOND)

ASK = """
import json
from django.db import connection
with connection.cursor() as cursor:
    cursor.execute(
        "SELECT name, reset_val FROM pg_settings WHERE name IN ('lock_timeout', 'statement_timeout',"
        " 'idle_in_transaction_session_timeout', 'tcp_keepalives_idle', 'tcp_user_timeout',"
        " 'client_connection_check_interval')"
    )
    print(json.dumps(dict(cursor.fetchall())))
"""
BECOMES = {
    "web": "import saga_project.asgi",
    "web by ASGI": "import saga_project.asgi",
    "worker": "import django; django.setup(); from saga_project import celery; from celery import signals;"
    " signals.worker_init.send(None)",
    "command": "import django; django.setup()",
}
HELD_TO = {
    "web": ("3000", "20000", "15000"),
    "web by ASGI": ("3000", "20000", "15000"),
    "worker": ("2000", "60000", "30000"),
    "command": ("10000", "0", "600000"),
}


@pytest.mark.parametrize("role", BECOMES)
def test_no_session_waits_for_ever_whatever_process_it_is_of(environment, role):
    said = subprocess.run(
        [sys.executable, "-c", BECOMES[role] + "\n" + ASK],
        cwd=runfile.ROOT, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    told = json.loads(said.stdout)

    names = ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout")
    assert tuple(told[name] for name in names) == HELD_TO[role]
    assert told["tcp_keepalives_idle"] == "10", "the server asks a silent client whether it lives"
    assert told["tcp_user_timeout"] == "40000"
    assert told["client_connection_check_interval"] == "10000"


@contextlib.contextmanager
def by_tcp():
    """A port that leads to the throw-away server, which itself only listens on a Unix socket."""
    settings = connection.settings_dict
    place = pathlib.Path(settings["HOST"]) / f".s.PGSQL.{settings['PORT']}"
    carriers = []
    with socket.create_server(("127.0.0.1", 0)) as door, contextlib.ExitStack() as open_:

        def carry(source, target):
            with contextlib.suppress(OSError):
                while data := source.recv(65536):
                    target.sendall(data)
            with contextlib.suppress(OSError):
                target.shutdown(socket.SHUT_RDWR)

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    client, _ = door.accept()
                    server = socket.socket(socket.AF_UNIX)
                    server.connect(str(place))
                    for one in (client, server):
                        open_.callback(one.close)
                    for ends in ((client, server), (server, client)):
                        carriers.append(threading.Thread(target=carry, args=ends, daemon=True))
                        carriers[-1].start()

        threading.Thread(target=serve, daemon=True).start()
        yield door.getsockname()[1]
        door.shutdown(socket.SHUT_RDWR)
        # A socket that a thread still reads from is not closed: the server would keep the session.
        for carrier in carriers:
            carrier.join(10)


@pytest.mark.django_db
def test_a_server_whose_host_vanished_is_noticed_within_the_minute():
    name, user = connection.settings_dict["NAME"], connection.settings_dict["USER"]
    options = postgres.connection_options(40 * SECOND)
    with (
        by_tcp() as port,
        psycopg.connect(f"postgresql://{user}@127.0.0.1:{port}/{name}", **options) as link,
        socket.socket(fileno=os.dup(link.fileno())) as ours,
    ):
        assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        silence = ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
        every = ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL)
        count = ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT)
        assert silence + every * count == 40
        assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 40_000


def settings_of(url, **how):
    return postgres.django_settings(url, **{"limits": LIMITS, "peer": 40 * SECOND, "pooled": False, **how})


def test_of_several_servers_the_one_that_takes_orders_is_chosen():
    told = settings_of("postgresql://shop:p%40ss@a:5432,b:5433/shop")

    assert (told["HOST"], told["PORT"]) == ("a,b", "5432,5433")
    assert (told["USER"], told["PASSWORD"], told["NAME"]) == ("shop", "p@ss", "shop")
    assert told["OPTIONS"]["target_session_attrs"] == "read-write"


def test_what_the_address_itself_asks_for_is_kept():
    told = settings_of(
        "postgresql://shop@a/shop?sslmode=verify-full&target_session_attrs=any&options=-c%20jit%3Doff"
    )

    assert told["OPTIONS"]["sslmode"] == "verify-full"
    assert told["OPTIONS"]["target_session_attrs"] == "any"
    assert told["OPTIONS"]["options"].endswith("-c jit=off")


@pytest.mark.parametrize("url", ["mysql://shop:secret@a/shop", "postgresql://shop:secret@a", "secret"])
def test_an_address_that_makes_no_sense_is_refused_and_not_repeated(url):
    with pytest.raises(exceptions.ImproperlyConfigured, match="must be as postgresql://") as refusal:
        postgres.parse(url)

    assert "secret" not in str(refusal.value)


def test_behind_a_pooler_nothing_is_sent_that_only_one_session_would_know():
    told = settings_of("postgresql://shop@a/shop", pooled=True)

    assert told["DISABLE_SERVER_SIDE_CURSORS"] is True
    assert told["OPTIONS"]["prepare_threshold"] is None
    assert not {"options", "server_side_binding"} & set(told["OPTIONS"])


# --- System checks --------------------------------------------------------------------------------


def found(settings, role="worker", **limits):
    changed = dataclasses.replace(settings.DATABASE_LIMITS[role], **limits)
    settings.DATABASE_LIMITS = {**settings.DATABASE_LIMITS, role: changed}
    return [message.id for message in checks.check_limits()]


@pytest.fixture
def orders_only(monkeypatch):
    """The shop's own sagas; the toys have steps of half a second."""
    monkeypatch.setattr(registry, "_sagas", {
        key: saga for key, saga in registry._sagas.items() if key[0] == "order-fulfilment"
    })  # fmt: skip


@pytest.mark.usefixtures("orders_only")
def test_limits_that_would_fight_each_other_are_told_before_they_do(settings):
    assert found(settings) == []
    assert found(settings, lock=60 * SECOND, statement=60 * SECOND) == ["project.W001", "project.W002"]
    assert found(settings, lock=0 * SECOND, statement=0 * SECOND) == ["project.W002"]
    assert found(settings, lock=9 * SECOND, statement=60 * SECOND) == ["project.W002"], (
        "the lease would be over"
    )
    assert found(settings, lock=SECOND, idle_in_transaction=10 * SECOND) == ["project.W003"]


@pytest.mark.usefixtures("orders_only")
def test_a_pooler_without_a_way_past_it_for_notifications_is_told_of(settings):
    settings.DATABASE_TRANSACTION_POOLING = True

    assert found(settings) == ["project.W004"]


@pytest.mark.django_db
def test_limits_that_do_not_reach_the_session_are_told_of():
    assert checks.check_session(databases=["default"]) == []

    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL lock_timeout = 0")
    (warning,) = checks.check_session(databases=["default"])

    assert warning.id == "project.W005"
    assert "lock_timeout" in warning.msg
