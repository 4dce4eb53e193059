"""How the log reads: for machines one object on a line, for people nothing that only the clock brings."""

import json
import logging
import logging.config
import subprocess
import sys
from typing import Any

import pytest
from celery.app import trace
from django.test import Client

from saga_project import celery, logs
from tests.support import database


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What a record becomes."""
    return lambda record: json.loads(logs.Json().format(record))


def record(message: str, *args: Any, level: int = logging.INFO, name: str = "sagas", **fields: Any) -> Any:
    made = logging.LogRecord(name, level, "module.py", 1, message, args, fields.pop("exc_info", None))
    vars(made).update(fields)
    return made


def test_a_record_is_one_line_with_what_is_named_and_nothing_else_that_a_library_puts_there(
    told: Any,
) -> None:
    made = record(
        "café %s", "one\ntwo", saga="trip", attempt=2, step="", request_id="-", email="ana@example.com"
    )
    made.created = 1_700_000_000.25

    assert "\n" not in logs.Json().format(made)
    assert told(made) == {
        "time": "2023-11-14T22:13:20.250Z",
        "level": "INFO",
        "logger": "sagas",
        "message": "café one\ntwo",
        "saga": "trip",
        "attempt": 2,
    }


def test_a_traceback_is_a_part_of_its_line(told: Any) -> None:
    try:
        raise ZeroDivisionError("why")
    except ZeroDivisionError:
        made = record("it failed", exc_info=sys.exc_info())

    assert told(made)["error"].splitlines()[-1] == "ZeroDivisionError: why"


def test_what_a_task_logs_names_it_and_what_comes_after_does_not(told: Any) -> None:
    logs.at_work("sagas.sweep", "5e0c")
    during = told(record("."))
    logs.at_rest()

    assert (during["task"], during["task_id"]) == ("sagas.sweep", "5e0c")
    assert "task" not in told(record("."))


@pytest.mark.parametrize("logger", ["celery.worker.strategy", "celery.app.trace"])
def test_what_the_clock_sends_does_not_bury_what_happens(logger: str) -> None:
    """The texts are Celery's own, as it hands them to its logger."""
    filters = logs.TicksAreDetails()
    texts = {"celery.worker.strategy": trace.LOG_RECEIVED, "celery.app.trace": trace.LOG_SUCCESS}
    scheduled = [entry["task"] for entry in celery.app.conf.beat_schedule.values()]

    def about(task: str, **more: Any) -> Any:
        context = {
            "id": "5e0c",
            "name": task,
            "return_value": "None",
            "runtime": 0.1,
            "args": "",
            "kwargs": "",
        }
        return record(texts[logger], context, name=logger, **more)

    for task in [*scheduled, "sagas.probe-returned"]:
        assert task in about(task).getMessage()
        assert not filters.filter(about(task))
        assert filters.filter(about(task, level=logging.ERROR))
    assert filters.filter(about("order-fulfilment.take-payment"))


def test_that_beat_sends_something_is_a_detail_and_that_it_starts_is_not() -> None:
    filters = logs.TicksAreDetails()

    assert not filters.filter(
        record("Scheduler: Sending due task %s (%s)", "sweep", "sagas.sweep", name="celery.beat")
    )
    assert filters.filter(record("beat: Starting...", name="celery.beat"))


def test_each_request_is_a_line_where_that_is_wanted_without_what_was_searched_for(
    settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "saga_project.access"):
        Client().get("/livez?q=12345678909")
        assert not caplog.records

        settings.ACCESS_LOG = True
        Client().get("/livez?q=12345678909", headers={"X-Request-Id": "from-the-proxy"})

    (line,) = caplog.records
    assert (line.method, line.path, line.status) == ("GET", "/livez", 200)  # type: ignore[attr-defined]
    assert "12345678909" not in line.getMessage()


@pytest.mark.integration
def test_whatever_a_process_logs_with_log_format_json_is_json() -> None:
    """Ours and Django's own, in a process with the project's settings."""
    told = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=database.environment(LOG_FORMAT="json"),
        capture_output=True,
        text=True,
    )

    assert told.returncode == 0, told.stderr
    assert [json.loads(line)["message"] for line in told.stderr.splitlines()] == [
        "one",
        "Not Found: /nowhere",
    ]


SCRIPT = """
import django, logging
django.setup()
logging.getLogger("sagas").info("one", extra={"email": "ana@example.com"})
logging.getLogger("sagas").debug("two")
logging.getLogger("django.request").warning("Not Found: %s", "/nowhere")
"""
