"""What a process of `manage.py saga_worker` does when something that it does again and again fails.

Its processes are tried in tests/acceptance/test_transports.py.
"""

import datetime
import logging

import django.db
import psycopg
import pytest

from sagas import errors, housekeeping
from sagas.transports import worker


@pytest.fixture
def safely(monkeypatch):
    """`_safely`, which is in a hurry here, of a function that raises."""
    monkeypatch.setattr(worker, "AGAIN_S", 0)

    def do(error):
        def fail():
            raise error

        return worker._safely(fail)

    return do


def of_database(kind, cause):
    """Django's error, as it makes one of the driver's."""
    error = kind("what it says")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error",
    [
        of_database(django.db.OperationalError, psycopg.OperationalError("the connection is lost")),
        of_database(django.db.OperationalError, psycopg.errors.LockNotAvailable()),
        of_database(django.db.InterfaceError, psycopg.InterfaceError("the connection is closed")),
        of_database(django.db.InternalError, psycopg.errors.ReadOnlySqlTransaction()),
        errors.LostRace(),
        # What the connection that listens says is the driver's own.
        psycopg.OperationalError("the connection is lost"),
        psycopg.errors.AdminShutdown(),
        psycopg.InterfaceError("the connection is closed"),
    ],
    ids=repr,
)
def test_a_database_that_is_away_is_warned_of_in_a_line(safely, caplog, error):
    assert safely(error) is False

    (said,) = caplog.records
    assert (said.levelno, said.exc_info) == (logging.WARNING, None)
    assert str(error) in said.getMessage()


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        FileNotFoundError(2, "No such file or directory", "/etc/ssl/ca.pem"),
        ConnectionRefusedError(111, "Connection refused"),
        of_database(django.db.ProgrammingError, psycopg.errors.UndefinedTable()),
        of_database(django.db.IntegrityError, psycopg.errors.UniqueViolation()),
        psycopg.ProgrammingError("no such statement"),
    ],
    ids=repr,
)
def test_what_is_no_database_that_is_away_is_not_called_so_and_says_where_it_comes_from(
    safely, caplog, error
):
    assert safely(error) is False

    (said,) = caplog.records
    assert said.levelno == logging.ERROR
    assert said.exc_info[1] is error
    assert "database" not in said.getMessage()


def test_a_bug_ends_the_process(safely):
    with pytest.raises(ZeroDivisionError):
        safely(ZeroDivisionError())


def test_what_is_done_is_not_done_again():
    done = []

    assert worker._safely(lambda: done.append(1)) is True
    assert done == [1]


def _finds_no_file():
    raise FileNotFoundError(2, "No such file or directory", "/etc/ssl/ca.pem")


def test_a_duty_that_fails_is_named_and_the_others_are_done(caplog):
    duty = housekeeping.Duty(do=_finds_no_file, every=datetime.timedelta(seconds=1))

    worker._do(duty)

    (said,) = caplog.records
    assert said.getMessage() == f"{__name__}._finds_no_file failed"
    assert isinstance(said.exc_info[1], FileNotFoundError)


def test_a_duty_to_which_the_database_is_away_is_left_to_another_time():
    away = of_database(django.db.OperationalError, psycopg.OperationalError("the connection is lost"))

    def do():
        raise away

    with pytest.raises(django.db.OperationalError):
        worker._do(housekeeping.Duty(do=do, every=datetime.timedelta(seconds=1)))
