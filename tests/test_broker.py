"""What a test does to the broker stops at its own numbered database."""

import pytest
import redis

from tests.support import broker


@pytest.fixture
def neighbour(valkey):
    """A connection to another numbered database, as another test process has one."""
    place = valkey.connection_pool.connection_kwargs
    number = (place["db"] + 1) % 16
    with broker.Numbered(**{name: place[name] for name in ("host", "port", "password")}, db=number) as client:
        yield client


def test_who_is_cut_off_takes_nobody_elses_connections_along(valkey, neighbour):
    own = redis.Redis(connection_pool=redis.ConnectionPool(**valkey.connection_pool.connection_kwargs))
    before = own.client_id(), neighbour.client_id()

    valkey.cut_off()

    assert (own.client_id() != before[0], neighbour.client_id() == before[1]) == (True, True)
    own.close()


@pytest.mark.parametrize("wide", [
    lambda client: client.flushall(),
    lambda client: client.config_set("maxmemory-policy", "allkeys-lru"),
    lambda client: client.client_kill_filter(_type="normal"),
])  # fmt: skip
def test_what_the_whole_server_would_do_is_refused(valkey, wide):
    with pytest.raises(ValueError, match="other processes"):
        wide(valkey)
