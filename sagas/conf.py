"""The engine's settings: a sound default where there is one, and a clear word at start where there is none.

| Setting | Default | What it is |
|---|---|---|
| `SAGAS_CELERY_APP` | the configured one | the dotted path of the Celery application that carries messages |
| `SAGAS_TRANSPORT` | Celery | the dotted path of another transport: docs/transports.md |
| `SAGAS_GRACE` | 5 s | how long a message may be under way before the sweep asks whether it was lost |
| `SAGAS_LINE_DELAY` | 20 ms | how long live messages may wait for what stands in their queue's line |
| `SAGAS_LONGEST_LINE` | None | with so many in its first queue's line no saga begins; None: however many |
| `SAGAS_CIRCUIT_THRESHOLD` | 5 | how many different sagas in a row must find a service out |
| `SAGAS_SWEEP_EVERY` | 1 s | how often the sweep is meant to come: it is late after a multiple of that |
| `SAGAS_INLINE` | True | whether a worker goes on with a saga's next step in the task of the one before |
| `SAGAS_INLINE_TIME` | 1 s | how long one task goes on so; then the saga queues again |
| `SAGAS_INLINE_STEPS` | 20 | how many steps one task goes on with |
| `SAGAS_PINNED_QUEUES` | none | services whose local steps, too, only run on workers that serve their queue |
| `SAGAS_FOUR_EYES` | False | whether interventions that move money wait for a second person |
| `SAGAS_ARCHIVE_AFTER` | 30 days | how long a saga stays in the live tables after its end; None for ever |
| `SAGAS_ARCHIVE_KEEP` | None | how long the archive is kept after that; None for ever |
| `SAGAS_ROLES_SEE` | none | models, as `app.model`, that operators' roles see beside the engine's own |
| `SAGAS_OTLP_ENDPOINT` | none | where traces are sent, such as `http://collector:4318` (`sagas.tracing`) |
| `SAGAS_LOG_EVENTS` | False | whether each event of a saga is a line of the log, too (`sagas.eventlog`) |
| `FLOWER_URL` | none | where operators reach Flower |
"""

import dataclasses
import datetime
from collections.abc import Callable, Iterator
from typing import Any

from django.conf import settings
from django.core import exceptions
from django.utils import module_loading

CELERY_TRANSPORT = "sagas.tasks.CeleryTransport"
"""The one that is taken where the settings name none."""

POSTGRES_TRANSPORT = "sagas.transports.postgres.PostgresTransport"
"""The one that needs no broker, and has workers of its own."""

DJANGO_TASKS_TRANSPORT = "sagas.transports.django_tasks.DjangoTasksTransport"

SWEEP_TASK = "sagas.sweep"
"""The task that beat is to send."""

SWEEP_QUEUE = "sagas-sweep"
"""Where it goes: a queue of its own, so that no backlog of anything else stands before the sweep."""

ENGINE_QUEUE = "sagas"
"""Where the engine's other tasks go."""

BULK_TASK = "sagas.bulk"
"""The console's task that beat is to send: it takes operators' bulk runs further."""

BULK_QUEUE = "sagas-bulk"
"""Where that goes."""

BULK_EVERY = datetime.timedelta(seconds=1)
"""How often it comes."""

ARCHIVE_TASK = "sagas.archive"
"""The task that beat is to send, once in a minute or so: it moves what has ended into the archive."""

ARCHIVE_QUEUE = "sagas-archive"
"""Where that goes."""

ARCHIVE_EVERY = datetime.timedelta(minutes=1)
"""How often it comes."""

TRACES_TASK = "sagas.traces"
"""The task that beat is to send, once in a few seconds, where traces are wanted: it sends what has ended."""

TRACES_QUEUE = "sagas-traces"
"""Where that goes."""

TRACES_EVERY = datetime.timedelta(seconds=2)
"""How often it comes."""

ARCHIVE_AFTER = datetime.timedelta(days=30)
"""By then hardly anybody asks after it, and no callback is under way."""


def _schedule(name: str, task: str, queue: str) -> str:
    return (
        "Call sagas.celery.configure(app) at the end of the module that makes it, or add"
        f' "{name}": {{"task": "{task}", "schedule": 1.0}} to its beat_schedule; run `celery beat`, and'
        f" have a worker listen on the queue {queue} (celery worker --queues={queue})."
    )


SCHEDULE_THE_SWEEP = _schedule("sweep", SWEEP_TASK, SWEEP_QUEUE)
"""What to do where nothing schedules the sweep: the hint of a check."""

RUN_THE_SWEEP = "Run `manage.py saga_worker`; with --processes 0 it carries out no step."
"""Where it is not Celery that carries the messages."""

SCHEDULE_BULK_RUNS = _schedule("bulk-runs", BULK_TASK, BULK_QUEUE)
"""The same, of the console's bulk runs."""

HARD_LIMIT_MARGIN_S = 5
"""Between a soft limit, which a function can feel, and the hard one, which ends its process."""

CIRCUIT_THRESHOLD = 5
"""One order with an unlucky card is no outage, and neither are two."""

SILENT_AFTER = datetime.timedelta(seconds=30)
"""Who gave no sign for so long is not there: a worker that takes nothing, a sweep that does not come."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Problem:
    """A setting that makes no sense, as system checks report it."""

    id: str
    message: str
    hint: str


def problems() -> list[Problem]:
    """What is wrong with the settings, as far as it shows before any app is loaded."""
    return list(_problems())


def insist() -> None:
    """Refuse to start with settings that make no sense, all of them named at once.

    Raises:
        ImproperlyConfigured: with what is wrong, and what to write instead.
    """
    if found := problems():
        lines = [f"  {problem.id}: {problem.message} {problem.hint}" for problem in found]
        raise exceptions.ImproperlyConfigured(
            "\n".join(["The settings of the saga engine are refused:", *lines])
        )


def grace() -> datetime.timedelta:
    """How long a message may be under way before the sweep asks after it."""
    value: datetime.timedelta = _read("SAGAS_GRACE", datetime.timedelta(seconds=5))
    return value


def line_delay() -> datetime.timedelta:
    """How long a batch of what stands in a line may take: live messages wait for it."""
    value: datetime.timedelta = _read("SAGAS_LINE_DELAY", datetime.timedelta(milliseconds=20))
    return value


def longest_line() -> int | None:
    """With so many sagas in the line of its first queue no saga begins; None where there is no such bound."""
    value: int | None = _read("SAGAS_LONGEST_LINE", None)
    return value


def circuit_threshold() -> int:
    """How many different sagas in a row must find a service unavailable for its circuit to open."""
    return int(_read("SAGAS_CIRCUIT_THRESHOLD", CIRCUIT_THRESHOLD))


def sweep_every() -> datetime.timedelta:
    """How often the sweep is meant to come."""
    value: datetime.timedelta = _read("SAGAS_SWEEP_EVERY", datetime.timedelta(seconds=1))
    return value


def sweep_is_late_after() -> datetime.timedelta:
    """Without a sweep for so long there is none."""
    return max(SILENT_AFTER, 5 * sweep_every())


def inline() -> bool:
    """Whether a worker goes on with a saga's next step in the task of the one before."""
    return bool(_read("SAGAS_INLINE", True))


def inline_time() -> datetime.timedelta:
    """How long one task goes on so: what waits in the same queue waits no longer for it, beside one step."""
    value: datetime.timedelta = _read("SAGAS_INLINE_TIME", datetime.timedelta(seconds=1))
    return value


def inline_steps() -> int:
    """How many steps one task goes on with."""
    return int(_read("SAGAS_INLINE_STEPS", 20))


def pinned_queues() -> frozenset[str]:
    """The services whose local steps, too, only run on workers that serve their queue."""
    return frozenset(_read("SAGAS_PINNED_QUEUES", ()))


def four_eyes() -> bool:
    """Whether interventions that move money wait for a second person."""
    return bool(_read("SAGAS_FOUR_EYES", False))


def archive_after() -> datetime.timedelta | None:
    """How long a saga stays in the live tables after its end; None for ever."""
    value: datetime.timedelta | None = _read("SAGAS_ARCHIVE_AFTER", ARCHIVE_AFTER)
    return value


def archive_keep() -> datetime.timedelta | None:
    """How long the archive is kept, counted from the end of a saga; None for ever."""
    value: datetime.timedelta | None = _read("SAGAS_ARCHIVE_KEEP", None)
    return value


def roles_see() -> list[str]:
    """The models that operators' roles see beside the engine's own."""
    return list(_read("SAGAS_ROLES_SEE", ()))


def otlp_endpoint() -> str:
    """Where traces are sent, without a slash at its end; empty for nowhere."""
    return str(_read("SAGAS_OTLP_ENDPOINT", "")).rstrip("/")


def log_events() -> bool:
    """Whether each event of a saga is a line of the log, too."""
    return bool(_read("SAGAS_LOG_EVENTS", False))


def flower_url() -> str:
    """Where operators reach Flower, without a slash at its end; empty for none."""
    return str(_read("FLOWER_URL", "")).rstrip("/")


def transport() -> str:
    """The dotted path of what carries the messages."""
    return str(_read("SAGAS_TRANSPORT", CELERY_TRANSPORT))


def celery_app() -> Any:
    """The Celery application whose workers carry the messages.

    Raises:
        ImproperlyConfigured: none is named, or what is named is none.
    """
    path = _read("SAGAS_CELERY_APP", None)
    if not path and _noted:
        return _noted[-1]
    if not path:
        raise exceptions.ImproperlyConfigured(f"{_NO_APP.id}: {_NO_APP.message} {_NO_APP.hint}")
    try:
        app = module_loading.import_string(path)
    except ImportError as error:
        raise exceptions.ImproperlyConfigured(
            f"SAGAS_CELERY_APP is {path!r}, which cannot be imported: {error}."
        ) from error
    if not hasattr(app, "send_task"):
        raise exceptions.ImproperlyConfigured(
            f"SAGAS_CELERY_APP is {path!r}, which is no Celery application."
        )
    return app


_noted: list[Any] = []
"""The applications that `sagas.celery.configure` was given; the last one counts."""


def note_app(app: Any) -> None:
    """Have this Celery application carry the messages, where the settings name none."""
    _noted.append(app)


def is_noted(app: Any) -> bool:
    """Whether `sagas.celery.configure` was given this application."""
    return any(one is app for one in _noted)


def celery_path() -> str:
    """What `celery --app=` takes: the module of that application, such as `shop.celery`, or its name."""
    named = str(_read("SAGAS_CELERY_APP", None) or "").rpartition(".")[0]
    return named or (str(_noted[-1].main or "") if _noted else "")


def uses_celery() -> bool:
    """Whether it is Celery that carries the messages."""
    return transport() == CELERY_TRANSPORT


def worker_command(queue: str) -> str:
    """How a worker is started that takes from this queue."""
    if uses_celery():
        return f"celery worker --queues={queue}"
    if transport() == DJANGO_TASKS_TRANSPORT:
        return f"manage.py db_worker --queue-name={queue}"
    return f"manage.py saga_worker --queues={queue}"


NAME_THE_APP = 'Name your Celery application in the settings, such as SAGAS_CELERY_APP = "shop.celery.app".'
"""What to do where no Celery application is known: the hint of a check."""

_NO_APP = Problem(
    id="sagas.E012",
    message="no Celery application is known that carries sagas.",
    hint="Call sagas.celery.configure(app) at the end of your celery.py, and import app in your project's"
    ' __init__.py ("from shop.celery import app"); or name it in the settings, such as SAGAS_CELERY_APP ='
    ' "shop.celery.app".',
)


def _problems() -> Iterator[Problem]:
    if uses_celery() and not _noted and not _read("SAGAS_CELERY_APP", None):
        yield _NO_APP
    for name, sound, hint in _KINDS:
        value = getattr(settings, name, None)
        if value is not None and not sound(value):
            yield Problem(id="sagas.E013", message=f"{name} is {value!r}.", hint=hint)


def _is_time(value: Any) -> bool:
    return isinstance(value, datetime.timedelta) and value > datetime.timedelta(0)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _are_models(value: Any) -> bool:
    return not isinstance(value, str) and all(
        isinstance(name, str) and name.count(".") == 1 for name in value
    )


def _is_switch(value: Any) -> bool:
    return isinstance(value, bool)


def _are_queues(value: Any) -> bool:
    return not isinstance(value, str) and all(isinstance(name, str) and name for name in value)


def _is_endpoint(value: Any) -> bool:
    return isinstance(value, str) and (not value or value.startswith(("http://", "https://")))


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


_KINDS: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    ("SAGAS_CELERY_APP", _is_text, 'It is a dotted path, such as "shop.celery.app".'),
    ("SAGAS_TRANSPORT", _is_text, f'It is a dotted path, such as "{CELERY_TRANSPORT}".'),
    ("SAGAS_GRACE", _is_time, "It is a timedelta above zero, such as datetime.timedelta(seconds=5)."),
    (
        "SAGAS_LINE_DELAY",
        _is_time,
        "It is a timedelta above zero, such as datetime.timedelta(milliseconds=20).",
    ),
    (
        "SAGAS_LONGEST_LINE",
        _is_count,
        "It is a whole number above zero, such as 500, or None: sagas begin however many wait.",
    ),
    ("SAGAS_CIRCUIT_THRESHOLD", _is_count, "It is a whole number above zero, such as 5."),
    ("SAGAS_SWEEP_EVERY", _is_time, "It is a timedelta above zero, such as datetime.timedelta(seconds=1)."),
    ("SAGAS_INLINE", _is_switch, "It is True or False."),
    ("SAGAS_INLINE_TIME", _is_time, "It is a timedelta above zero, such as datetime.timedelta(seconds=1)."),
    ("SAGAS_INLINE_STEPS", _is_count, "It is a whole number above zero, such as 20."),
    ("SAGAS_PINNED_QUEUES", _are_queues, 'It is a list of queues, such as ["inventory"].'),
    ("SAGAS_FOUR_EYES", _is_switch, "It is True or False."),
    ("SAGAS_LOG_EVENTS", _is_switch, "It is True or False."),
    ("SAGAS_ARCHIVE_AFTER", _is_time, "It is a timedelta above zero, or None: nothing is archived then."),
    ("SAGAS_ARCHIVE_KEEP", _is_time, "It is a timedelta above zero, or None: nothing is forgotten then."),
    ("SAGAS_ROLES_SEE", _are_models, 'It is a list of models, such as ["orders.order"].'),
    (
        "SAGAS_OTLP_ENDPOINT",
        _is_endpoint,
        'It is the address of an OTLP receiver over HTTP, such as "http://collector:4318", or empty.',
    ),
    ("FLOWER_URL", _is_text, "It is an address, or empty."),
)


def _read(name: str, default: Any) -> Any:
    return getattr(settings, name, default)
