"""`manage.py saga lock`: what is declared is written down, and held to it without a database."""

import pathlib
import sys

import pytest
from django.apps import apps
from django.core.management import CommandError, call_command

from orders import saga as orders_saga
from sagas import Child, checks, locking
from sagas.declaration import locks
from tests.sagas.sample_app import saga as toys

ORDERS = pathlib.Path(orders_saga.__file__).with_name(locking.FILE)


@pytest.fixture
def app(monkeypatch, tmp_path):
    """An app that declares what the test says, and has its file in a folder of its own."""
    config = apps.get_app_config("sample_app")
    monkeypatch.setattr(config, "path", str(tmp_path))
    monkeypatch.setattr(apps, "get_app_configs", lambda: [config])
    return App(monkeypatch, tmp_path / locking.FILE)


class App:
    def __init__(self, monkeypatch, file):
        self.file = file
        self._monkeypatch = monkeypatch

    def declares(self, *sagas):
        module = type(sys)("tests.sagas.sample_app.saga")
        vars(module).update({f"SAGA_{number}": saga for number, saga in enumerate(sagas)})
        self._monkeypatch.setitem(sys.modules, module.__name__, module)

    def found(self):
        return [(one.id, one.msg) for one in checks.check_locks()]


def trip(*steps, version=1, **rest):
    return toys.saga("toy-trip", *(steps or [toys.local("a"), toys.remote("b")]), version=version, **rest)


def test_this_projects_own_declarations_are_locked():
    call_command("saga", "lock", "orders", "examples", "--check")

    assert ORDERS.read_text() == locks.write(
        locks.locks([orders_saga.ORDER_FULFILMENT_V1, orders_saga.ORDER_FULFILMENT])
    )


def test_what_is_written_is_read_again_whatever_its_steps_are(app):
    declared = [value for value in vars(toys).values() if isinstance(value, type(toys.ONE))]

    locked = locks.locks(declared)

    assert locks.read(locks.write(locked)) == locked
    assert len({one.fingerprint for one in locked.values()}) == len(locked)


def test_each_step_is_a_line_and_sagas_are_sorted(app):
    app.declares(trip(version=2), trip(), toys.ONE)

    call_command("saga", "lock")

    lines = app.file.read_text().splitlines()
    assert [line for line in lines if line.startswith("[")] == [
        f'["{toys.ONE}"]', '["toy-trip v1"]', '["toy-trip v2"]'
    ]  # fmt: skip
    assert sum(line.startswith('    "b: ') for line in lines) == 2
    assert app.found() == []


def test_a_change_without_a_new_version_is_refused_and_says_which_step_and_what_to_do(app):
    app.declares(trip())
    call_command("saga", "lock")
    before = app.file.read_text()
    app.declares(trip(toys.local("a"), toys.remote("b", when="total"), toys.local("c"), inputs=["total"]))

    ((id_, told),) = app.found()

    assert id_ == "sagas.E021"
    assert "it takes other inputs, b is changed, c is new" in told
    with pytest.raises(CommandError, match="declare the change as version 2 beside it"):
        call_command("saga", "lock")
    with pytest.raises(CommandError, match="is not what"):
        call_command("saga", "lock", "--check")
    assert app.file.read_text() == before

    call_command("saga", "lock", "--replace", "toy-trip")

    assert app.found() == []


def test_a_new_version_beside_the_old_one_only_has_to_be_locked(app):
    app.declares(trip())
    call_command("saga", "lock")
    app.declares(trip(), trip(toys.local("a"), version=2))

    assert [id_ for id_, _ in app.found()] == ["sagas.E022"]

    call_command("saga", "lock")

    assert app.found() == []
    assert app.file.read_text().count('["toy-trip v') == 2


def test_a_version_that_is_gone_is_warned_of_until_it_is_locked(app, capsys):
    app.declares(trip(), trip(version=2))
    call_command("saga", "lock")
    app.declares(trip(version=2))

    assert [id_ for id_, _ in app.found()] == ["sagas.W010"]

    call_command("saga", "lock")

    assert "Be sure that none of its sagas is live" in capsys.readouterr().out
    assert app.found() == []


def parent_of(*steps):
    return trip(toys.local("a"), Child("c", saga=toys.saga("toy-of-a-trip", *steps)))


def test_a_child_is_locked_with_its_parent_and_its_change_is_both_their_change(app):
    app.declares(parent_of(toys.local("x")))
    call_command("saga", "lock")
    app.declares(parent_of(toys.local("x"), toys.local("extra")))

    found = app.found()

    assert [id_ for id_, _ in found] == ["sagas.E021", "sagas.E021"]
    assert any("extra is new" in told for _, told in found)


def test_a_retry_or_a_time_may_change_without_a_new_version(app):
    app.declares(trip())
    call_command("saga", "lock")
    app.declares(trip(deadline=toys.HOUR))

    assert app.found() == []


def test_a_merge_that_is_not_done_is_named(app):
    app.declares(trip())
    app.file.write_text("<<<<<<< HEAD\n")

    assert [id_ for id_, _ in app.found()] == ["sagas.E023"]


def test_an_app_without_the_file_is_only_named_before_a_deployment(app):
    app.declares(trip())

    assert app.found() == []
    assert "sagas.W011" in [one.id for one in checks.check_deployment()]
    with pytest.raises(CommandError, match="is not in"):
        call_command("saga", "lock", "--check")
