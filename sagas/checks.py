"""System checks: a wrong declaration is `sagas.E00n` with a hint, not an error at three in the morning."""

import collections
import contextlib
import datetime
from collections.abc import Iterable, Iterator
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core import checks, exceptions
from django.db import connections
from django.db.models import Count, QuerySet

from sagas import conf, doctor, errors, locking, models
from sagas.declaration import registry, states


def check_declarations(**_: Any) -> list[checks.CheckMessage]:
    """Report every declaration that was refused at import (E001 to E017), and doubtful ones (W001, W007)."""
    found: list[checks.CheckMessage] = [
        checks.Error(problem.message, hint=problem.hint, obj=bad.name, id=problem.id)
        for bad in registry.refused
        for problem in bad.problems
    ]
    found += [
        checks.Warning(
            f"{step.name} is undone with less patience than it is done.",
            hint="An undo must succeed in the end: give undo_retry at least as many attempts.",
            obj=saga.name,
            id="sagas.W001",
        )
        for saga in registry.everything()
        for step in saga.all_steps
        if step.undo and saga.retry_of(step, undo=True).attempts < saga.retry_of(step, undo=False).attempts
    ]
    found += [
        checks.Warning(
            f"{step.name} may wait for {step.wait.limit}, and the saga turns round after {saga.deadline}.",
            hint="Give the saga a longer deadline, or the step a shorter limit: the shorter one ends it.",
            obj=saga.name,
            id="sagas.W007",
        )
        for saga in registry.everything()
        for step in saga.all_steps
        if step.wait is not None and step.wait.limit > saga.deadline
    ]
    return found


def check_locks(**_: Any) -> list[checks.CheckMessage]:
    """Report declarations that are not what their saga.lock has (E021 to E023, W010); asks no database.

    An app without a file is left alone here: `check --deploy` says that it has none (W011).
    """
    locked = [one for one in locking.declarations() if one.is_locked]
    return [_of_lock(difference) for one in locked for difference in one.differences()]


def _of_lock(difference: locking.Difference) -> checks.CheckMessage:
    text, hint = difference.text, difference.hint
    match difference.matter:
        case locking.Matter.CHANGED:
            return checks.Error(text, hint=hint, id="sagas.E021")
        case locking.Matter.MISSING:
            return checks.Error(text, hint=hint, id="sagas.E022")
        case locking.Matter.UNREADABLE:
            return checks.Error(text, hint=hint, id="sagas.E023")
        case locking.Matter.REMOVED:
            return checks.Warning(text, hint=hint, id="sagas.W010")


def check_settings(**_: Any) -> list[checks.CheckMessage]:
    """Report settings that name what is not there (E012, E013). What shows earlier is refused at start."""
    found: list[checks.CheckMessage] = [
        checks.Error(problem.message, hint=problem.hint, id=problem.id) for problem in conf.problems()
    ]
    if not found and conf.uses_celery():
        try:
            conf.celery_app()
        except exceptions.ImproperlyConfigured as error:
            found.append(checks.Error(str(error), hint=conf.NAME_THE_APP, id="sagas.E012"))
    return found


def check_configured(**_: Any) -> list[checks.CheckMessage]:
    """Report a Celery application that `sagas.celery.configure` was not called for (W012)."""
    if not conf.uses_celery():
        return []
    try:
        app = conf.celery_app()
    except exceptions.ImproperlyConfigured:
        return []  # Which is an error of its own.
    if conf.is_noted(app):
        return []
    return [
        checks.Warning(
            f"The Celery application {app.main or ''} was not configured for sagas: its workers take messages"
            " that they cannot begin with, and what hangs is noticed late.".replace("  ", " "),
            hint="Call sagas.celery.configure(app) at the end of the module that makes it.",
            id="sagas.W012",
        )
    ]


def check_schedule(**_: Any) -> list[checks.CheckMessage]:
    """Report that nothing starts the sweep (W002), where the Celery application can say so.

    Where the schedule is kept elsewhere, in a database say, only the sweep's heartbeat tells (W003).
    """
    return [
        checks.Warning(
            f"Nothing in the beat_schedule of {app} starts the sweep: what is lost, late or due would stand "
            "still for ever.",
            hint=conf.SCHEDULE_THE_SWEEP,
            id="sagas.W002",
        )
        for app in does_not_start(conf.SWEEP_TASK)
    ]


def check_redelivery(**_: Any) -> list[checks.CheckMessage]:
    """Report a broker that hands a message out anew while a worker may still be at it (W006)."""
    if not conf.uses_celery():
        return []
    try:
        app = conf.celery_app()
    except exceptions.ImproperlyConfigured:
        return []  # Which is an error of its own.
    redelivery_s = (app.conf.broker_transport_options or {}).get("visibility_timeout")
    steps = [step for saga in registry.everything() for step in saga.all_steps]
    slowest = max((step.timeout for step in steps), default=datetime.timedelta(0))
    longest_s = (slowest + conf.inline_time()).total_seconds() + conf.HARD_LIMIT_MARGIN_S
    if redelivery_s is None or longest_s < redelivery_s:
        return []
    return [
        checks.Warning(
            f"A message may take {longest_s:.0f} s (SAGAS_INLINE_TIME, the longest Step.timeout and its hard "
            f"limit), and the broker hands it out anew after {redelivery_s} s.",
            hint="Raise visibility_timeout in broker_transport_options above that. Nothing is done twice, but"
            " workers are kept busy for nothing.",
            id="sagas.W006",
        )
    ]


def check_longest_line(**_: Any) -> list[checks.CheckMessage]:
    """Report a bound of lines in which nothing stands that begins (W013)."""
    if conf.longest_line() is None:
        return []
    if conf.uses_celery() and not conf.inline():
        why, hint = "SAGAS_INLINE is off", "Switch it on, or leave SAGAS_LONGEST_LINE out."
    elif conf.transport() == conf.DJANGO_TASKS_TRANSPORT:
        why, hint = "SAGAS_TRANSPORT is django.tasks", "Take another one, or leave SAGAS_LONGEST_LINE out."
    else:
        return []
    return [
        checks.Warning(
            f"SAGAS_LONGEST_LINE bounds lines in which no saga stands that begins, for {why}: however many"
            " begin, only what the sweep finds due can fill them.",
            hint=hint,
            id="sagas.W013",
        )
    ]


def does_not_start(task: str) -> list[str]:
    """The name of the Celery application whose beat_schedule lacks the task.

    Empty where it has the task, and where nobody can say: without Celery, or with a schedule kept elsewhere.
    """
    if not conf.uses_celery() or apps.is_installed("django_celery_beat"):
        return []
    try:
        app = conf.celery_app()
    except exceptions.ImproperlyConfigured:
        return []  # Which is an error of its own.
    app.finalize()  # add_periodic_task may wait for it.
    if any(entry.get("task") == task for entry in app.conf.beat_schedule.values()):
        return []
    return [app.main or "the Celery application"]


def check_deployment(**_: Any) -> list[checks.CheckMessage]:
    """Report settings that production would suffer from (E018 to E020, W009, W011): `check --deploy` asks."""
    return [finding.as_check() for finding in _of_deployment()]


def _of_deployment() -> Iterator[doctor.Finding]:
    if not settings.USE_TZ:
        yield doctor.error(
            "sagas.E018",
            what="USE_TZ is False.",
            effect="Times without a zone are off by hours: leases, timers and deadlines end when they"
            " should not.",
            change="USE_TZ = True",
        )
    for one in locking.declarations():
        if not one.is_locked:
            yield doctor.Finding(
                id="sagas.W011",
                severity=doctor.Severity.WARNING,
                what=f"The sagas that {one.label} declares are locked in no {locking.FILE}.",
                effect="One that is changed without a new version is only noticed where its sagas are live.",
                change=f"{locking.LOCK}, and commit what it writes",
            )
    if conf.transport().startswith("sagas.testing."):
        yield doctor.error(
            "sagas.E019",
            what=f"SAGAS_TRANSPORT is {conf.transport()}, which is for tests.",
            effect="Messages stay in the process that sends them: no worker gets any, and every saga"
            " stands still.",
            change=f'SAGAS_TRANSPORT = "{conf.CELERY_TRANSPORT}", or leave it out.',
        )
    if not conf.uses_celery():
        return
    try:
        app = conf.celery_app()
    except exceptions.ImproperlyConfigured:
        return  # Which is an error of its own.
    if app.conf.task_always_eager:
        yield doctor.error(
            "sagas.E020",
            what="Celery's task_always_eager is on: tasks run in the process that sends them.",
            effect="Whoever places an order waits for all of its steps, no time limit ends a step that"
            " hangs, and a "
            "web process that ends takes the step with it.",
            change="task_always_eager = False in the settings of the Celery application, or leave it out.",
        )
    if app.conf.worker_prefetch_multiplier != 1:
        yield doctor.warning(
            "sagas.W009",
            what=f"Celery's worker_prefetch_multiplier is {app.conf.worker_prefetch_multiplier}.",
            effect=HOARDS,
            change="worker_prefetch_multiplier = 1 in the settings of the Celery application.",
        )


HOARDS = (
    "A worker takes messages that it cannot begin with. Their sagas wait behind a slow step while other"
    " workers are "
    "free, and the sweep takes them for lost."
)


def check_who_works(databases: Iterable[str] | None = None, **_: Any) -> list[checks.CheckMessage]:
    """Report live instances for which nobody sweeps (W003), or whose queue no worker listens on (W004)."""
    using = _first(databases)
    if using is None or not migrated(using):
        return []
    now = models.database_now(using)
    live = models.SagaInstance.objects.using(using).filter(state__in=states.LIVE, closed_at=None)
    return [*_unswept(live, now), *_unheard(live, now)]


def _unswept(live: QuerySet[models.SagaInstance], now: datetime.datetime) -> Iterator[checks.CheckMessage]:
    oldest = live.order_by("created_at").values_list("created_at", flat=True).first()
    swept = models.Heartbeat.last_sweep().using(live.db).first()
    if oldest is None or now - max(swept or oldest, oldest) <= conf.sweep_is_late_after():
        return
    since = "ever has" if swept is None else f"has since {swept:%Y-%m-%d %H:%M:%S %Z}"
    yield checks.Warning(
        f"Nobody sweeps, and nobody {since}, while sagas are live ({live.count()}): what is lost, late or "
        "due stands still.",
        hint=conf.SCHEDULE_THE_SWEEP if conf.uses_celery() else conf.RUN_THE_SWEEP,
        id="sagas.W003",
    )


def _unheard(live: QuerySet[models.SagaInstance], now: datetime.datetime) -> Iterator[checks.CheckMessage]:
    sent = live.filter(dispatched_at__isnull=False, held_at=None).values("name", "version", "position")
    waiting: collections.Counter[str] = collections.Counter()
    for row in sent.annotate(count=Count("id")):
        with contextlib.suppress(errors.UnknownSaga):  # That is E011.
            steps = registry.get(row["name"], row["version"]).all_steps
            waiting[steps[min(row["position"], len(steps) - 1)].queue] += row["count"]
    members = models.StepInstance.objects.using(live.db).filter(
        dispatched_at__isnull=False, saga__in=live.filter(held_at=None)
    )
    for member in members.values("saga__name", "saga__version", "position").annotate(count=Count("id")):
        with contextlib.suppress(errors.UnknownSaga):
            steps = registry.get(member["saga__name"], member["saga__version"]).all_steps
            waiting[steps[member["position"]].queue] += member["count"]
    for queue in models.Queue.objects.using(live.db).filter(name__in=waiting).order_by("name"):
        silence = queue.silence(now)
        if silence is not None and silence > conf.SILENT_AFTER:
            yield checks.Warning(
                f"No worker listens on the queue {queue.name}, where sagas wait ({waiting[queue.name]}): "
                f"none has given a sign for {silence.total_seconds():.0f} s.",
                hint=f"Start one: {conf.worker_command(queue.name)}",
                obj=queue.name,
                id="sagas.W004",
            )


def check_live_versions(databases: Iterable[str] | None = None, **_: Any) -> list[checks.CheckMessage]:
    """Report live instances whose version is no longer declared, or declared otherwise (E011)."""
    using = _first(databases)
    if using is None or not migrated(using):
        return []
    declared = {(saga.name, saga.version): saga.fingerprint for saga in registry.everything()}
    live = (
        models.SagaInstance.objects.using(using)
        .filter(state__in=states.LIVE, closed_at=None)
        .values_list("name", "version", "fingerprint")
        .distinct()
    )
    return [
        checks.Error(
            f"Live instances began with {name} version {version}, which is no longer declared as it was.",
            hint="Keep the old declaration beside the new one until none of its instances is live.",
            obj=name,
            id="sagas.E011",
        )
        for name, version, fingerprint in live
        if declared.get((name, version)) != fingerprint
    ]


def _first(databases: Iterable[str] | None) -> str | None:
    """The database that is asked about: `check` names a list, `test` a mapping of them."""
    return next(iter(databases or ()), None)


def migrated(database: str) -> bool:
    """Whether the tables are there: before the first migration there are none to look into."""
    ours = {model._meta.db_table for model in (models.SagaInstance, models.Queue, models.Heartbeat)}
    return ours <= set(connections[database].introspection.table_names())
