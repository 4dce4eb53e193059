"""What `make up` shows of the logs: how orders end and what goes wrong, and nothing of how Celery works."""

import logging

from orders import outcome, saga
from saga_project import logs
from saga_project.local import terminal


def line(level: str, logger: str, text: str) -> str:
    """As settings.LOGGING writes it."""
    return f"2026-03-01 12:00:00,123 {level} {logger} [-] {text}"


def shown(*lines: str) -> list[tuple[str, str]]:
    choice = terminal.Choice()
    return [found for one in lines if (found := choice("payments", one)) is not None]


def test_an_order_that_ends_is_a_line_of_its_own_whoever_ended_it():
    assert outcome.logger.name == terminal.ORDERS
    assert shown(line("INFO", terminal.ORDERS, "ORD-FNY5DHFB fulfilled in 1.2 s")) == [
        ("orders", "ORD-FNY5DHFB fulfilled in 1.2 s")
    ]


def test_an_order_that_needs_a_person_is_told_once_and_by_its_number():
    needs = f"saga 01a22878 ({saga.ORDER_FULFILMENT.name}) needs attention: The bank refused. Settle it."

    assert shown(
        line("WARNING", terminal.ORDERS, "ORD-FNY5DHFB needs a person: The bank refused."),
        line("ERROR", "sagas", needs),
        line("ERROR", "sagas", needs.replace(saga.ORDER_FULFILMENT.name, "trip")),
    ) == [
        ("orders", "ORD-FNY5DHFB needs a person: The bank refused."),
        ("payments", "ERROR saga 01a22878 (trip) needs attention: The bank refused. Settle it."),
    ]


def test_what_celery_and_its_workers_do_is_left_to_the_files():
    assert not shown(
        "",
        line("INFO", "celery.worker.strategy", "Task order-fulfilment.take-payment[5e0c] received"),
        line("INFO", "celery.app.trace", "Task order-fulfilment.take-payment[5e0c] succeeded in 0.1s: None"),
        line("INFO", "celery.apps.worker", "payments@127.0.0.1 ready."),
        "/venv/celery/platforms.py:841: SecurityWarning: You're running the worker with superuser privileges",
        "absolutely not recommended!",
        line("WARNING", "django.request", "Not Found: /favicon.ico"),
        line("WARNING", "flower.inspector", "Inspect method stats failed"),
    )


def test_what_goes_wrong_is_shown_with_its_traceback():
    error = line("ERROR", "sagas", "saga step take-payment met a bug:")

    assert shown(
        line("INFO", "celery.worker.strategy", "Task a[5e0c] received"),
        error,
        "Traceback (most recent call last):",
        "ZeroDivisionError: division by zero",
        line("INFO", "celery.worker.strategy", "Task b[5e0c] received"),
        "more of the same",
        line("ERROR", "django.request", "Internal Server Error: /api/v1/orders"),
    ) == [
        ("payments", "ERROR saga step take-payment met a bug:"),
        ("payments", "Traceback (most recent call last):"),
        ("payments", "ZeroDivisionError: division by zero"),
        ("payments", "ERROR Internal Server Error: /api/v1/orders"),
    ]


def test_what_is_logged_as_json_is_chosen_alike():
    def as_json(level: str, logger: str, text: str) -> str:
        made = logging.LogRecord(logger, getattr(logging, level), "module.py", 1, text, (), None)
        return logs.Json().format(made)

    assert shown(
        as_json("INFO", terminal.ORDERS, "ORD-FNY5DHFB fulfilled in 1.2 s"),
        as_json("INFO", "celery.apps.worker", "payments@127.0.0.1 ready."),
        as_json("ERROR", "sagas", "saga step take-payment met a bug:"),
    ) == [
        ("orders", "ORD-FNY5DHFB fulfilled in 1.2 s"),
        ("payments", "ERROR saga step take-payment met a bug:"),
    ]
