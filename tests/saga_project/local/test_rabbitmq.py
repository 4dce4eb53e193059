"""RabbitMQ on one machine; that it runs is seen in tests/acceptance/test_rabbitmq.py."""

import pytest

from saga_project.local import rabbitmq, servers


def test_a_directory_without_rabbitmq_is_refused_and_told_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("RABBITMQ_BIN", str(tmp_path))

    with pytest.raises(servers.NoBinaries, match=f"no rabbitmq-server in {tmp_path}.*make services"):
        rabbitmq.check_binaries()


@pytest.mark.integration  # It looks for a free port.
def test_what_is_kept_is_for_its_owner_alone_and_the_same_the_next_time(tmp_path):
    first = rabbitmq.Cluster(tmp_path / "broker", hosts=[rabbitmq.Host(address="192.0.2.1", prefix=("in",))])
    again = rabbitmq.Cluster(tmp_path / "broker", hosts=[rabbitmq.Host(address="192.0.2.1", prefix=("in",))])

    assert first.nodes[0].name == "rabbit1@192.0.2.1"
    assert first.environment() == again.environment()
    assert (tmp_path / "broker" / ".erlang.cookie").stat().st_mode & 0o777 == 0o400
    assert first.nodes[0]._password == again.nodes[0]._password
    assert (tmp_path / "broker" / "password").stat().st_mode & 0o777 == 0o600
