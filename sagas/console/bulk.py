"""One intervention for many sagas, in waves of 1, 5, 25, ...: one that does not help stops itself early.

The rows are the run: the task `sagas.bulk` drives it, or `manage.py saga_worker`, and any number of workers
may. A wave is sent, and looked at until each of its sagas is seen to get past the point where it stood, or to
stand there again; only then comes the next wave.

Each saga has a transaction of its own, which takes the run's lock first and then that saga's (I4):
two runs over the same sagas wait for each other now and then, and never in a ring. Where the database could
not give a saga its turn, nothing is known of it, and it is tried again.
"""

import datetime
import logging
import uuid
from collections.abc import Iterable, Mapping, Sequence

from django.db import IntegrityError, OperationalError, transaction
from django.utils.translation import gettext as _

from sagas import database, errors, models
from sagas.console import history, interventions, translation
from sagas.console.models import BulkItem, BulkRun
from sagas.declaration.states import SagaState, StepState
from sagas.engine import failures, messages, refusals
from sagas.engine.seen import Seen

logger = logging.getLogger("sagas")

INTERVENTIONS = ("resume", "compensate")
"""What may be done in bulk."""

FIRST_WAVE, GROWTH, LARGEST_WAVE = 1, 5, 625
"""1, 5, 25, 125, 625, 625, ...: what one or six sagas show need not be paid for with thousands."""

TOLERATED = 0.2
"""A wave of which a larger share fails again stops the run."""

PATIENCE = datetime.timedelta(minutes=5)
"""A saga of which nothing was seen for so long counts as failed again."""

SENT_AT_ONCE = 50
"""In how many sagas one drive intervenes at most: others wait meanwhile."""

LARGEST_RUN = 20_000


def look(saga_ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, Seen]:
    """How each of these sagas stands now, in their order; in one statement. What is not there is left out."""
    wanted = list(dict.fromkeys(saga_ids))
    at: dict[uuid.UUID, models.StepInstance] = {}
    rows = models.StepInstance.objects.select_related("saga").filter(saga__in=wanted)
    for step in rows.order_by("saga_id", "position"):
        if step.position <= step.saga.position:
            at[step.saga_id] = step
    return {pk: Seen.of(at[pk].saga, at[pk]) for pk in wanted if pk in at}


def begin(*, chosen: Mapping[uuid.UUID, Seen], intervention: str, actor: str, reason: str) -> BulkRun:
    """Begin a run over these sagas, in this order; its first wave is sent with the next tick.

    Arguments:
        chosen: the sagas, each with how it stood when it was chosen: one that has moved on when its turn
            comes is left alone.
        intervention: one of `INTERVENTIONS`.
        actor: who decided.
        reason: why.

    Raises:
        NotAllowed: there are none, or too many, or the intervention is not one for bulk.
    """
    if intervention not in INTERVENTIONS or not chosen or len(chosen) > LARGEST_RUN:
        raise errors.NotAllowed(
            _("A bulk run is over 1 to %(most)s sagas, and its intervention one of: %(interventions)s.")
            % {"most": LARGEST_RUN, "interventions": ", ".join(INTERVENTIONS)}
        )
    waits = interventions.needs_two(interventions.INTERVENTIONS[intervention])
    with transaction.atomic():
        run = BulkRun.objects.create(
            intervention=intervention,
            actor=actor,
            reason=reason,
            state=BulkRun.State.ASKED if waits else BulkRun.State.RUNNING,
        )
        BulkItem.objects.bulk_create(
            [
                BulkItem(run=run, saga_id=pk, number=number, seen=str(seen))
                for number, (pk, seen) in enumerate(chosen.items(), start=1)
            ],
            batch_size=2000,
        )
    return run


def agree(run_id: uuid.UUID, *, actor: str) -> None:
    """Agree, as the second person, that a run begins.

    Raises:
        NotAllowed: it does not wait for that, or was asked for by the same person.
    """
    with transaction.atomic():
        run = BulkRun.objects.select_for_update().get(pk=run_id)
        if run.state != BulkRun.State.ASKED:
            raise errors.NotAllowed(_("That is decided already."))
        if run.actor == actor:
            raise errors.NotAllowed(_("A second person must agree: you asked for it yourself."))
        run.state, run.approved_by = BulkRun.State.RUNNING, actor
        run.save(update_fields=["state", "approved_by"])


def stop(run_id: uuid.UUID, *, actor: str, reason: str) -> None:
    """Stop a run after what is under way; what was not tried is left alone.

    Raises:
        NotAllowed: it is not running.
    """
    with transaction.atomic():
        run = BulkRun.objects.select_for_update().get(pk=run_id)
        if run.state not in (BulkRun.State.RUNNING, BulkRun.State.ASKED):
            raise errors.NotAllowed(_("It is not running."))
        _stop(run, translation.RUN_STOPPED % {"actor": actor, "reason": reason})


def go_on(run_id: uuid.UUID, *, actor: str) -> None:
    """Let a stopped run go on, with waves that begin small again.

    Raises:
        NotAllowed: it is not stopped, or nobody else agreed to it yet where somebody must.
    """
    with transaction.atomic():
        run = BulkRun.objects.select_for_update().get(pk=run_id)
        unapproved = (
            interventions.needs_two(interventions.INTERVENTIONS[run.intervention]) and not run.approved_by
        )
        if run.state != BulkRun.State.STOPPED or unapproved:
            raise errors.NotAllowed(_("It is not stopped, or was never agreed to."))
        run.state, run.stopped_why = BulkRun.State.RUNNING, ""
        # An empty wave in between: waves grow from the one before, and so begin small again.
        run.wave += 1
        run.save(update_fields=["state", "stopped_why", "wave"])
        run.items.filter(state=BulkItem.State.PENDING).update(wave=0)


@transaction.atomic
def forget(before: datetime.datetime) -> int:
    """Delete runs that finished before that moment, with their items; how many runs it was."""
    old = list(BulkRun.objects.filter(finished_at__lt=before).values_list("pk", flat=True))
    BulkItem.objects.filter(run__in=old).delete()
    return BulkRun.objects.filter(pk__in=old).delete()[0]


def drive() -> int:
    """Take every running run a bit further, with each tick of `sagas.bulk`; returns how many there are."""
    pks = list(BulkRun.objects.filter(state=BulkRun.State.RUNNING).values_list("pk", flat=True))
    for pk in pks:
        try:
            for item in _look_over(pk):
                _send(pk, item)
        except Exception:
            # One run must not keep the others waiting.
            logger.exception("bulk run %s could not be driven", pk)
    return len(pks)


def _running(pk: uuid.UUID) -> BulkRun | None:
    """The run, locked, if it is still running and no other worker is at it."""
    runs = BulkRun.objects.select_for_update(skip_locked=True)
    return runs.filter(pk=pk, state=BulkRun.State.RUNNING).first()


@transaction.atomic
def _look_over(pk: uuid.UUID) -> list[int]:
    """See how far one run got.

    1. Look at what is under way.
    2. Stop, if too much of the wave failed again.
    3. Begin the next wave when everything of this one is seen.

    Returns:
        The items of the wave that are to be sent now.
    """
    run = _running(pk)
    if run is None:
        return []
    now = models.database_now()
    sent = list(run.items.filter(state=BulkItem.State.SENT).prefetch_related("saga"))
    rows: dict[uuid.UUID, list[models.StepInstance]] = {}
    for row in models.StepInstance.objects.filter(saga__in=[item.saga_id for item in sent]):
        rows.setdefault(row.saga_id, []).append(row)
    for item in sent:
        _look(item, rows.get(item.saga_id, []), now)
    if why := _recurs(run):
        _stop(run, why)
        return []
    pending = run.items.filter(state=BulkItem.State.PENDING, wave=run.wave, wave__gt=0)
    queued = list(pending.values_list("pk", flat=True)[:SENT_AT_ONCE])
    if not queued and not run.items.filter(state=BulkItem.State.SENT).exists():
        _next_wave(run, now)
    return queued


def _next_wave(run: BulkRun, now: datetime.datetime) -> None:
    settled = run.items.filter(wave=run.wave, wave__gt=0).count()
    larger = min(settled * GROWTH, LARGEST_WAVE) if settled else FIRST_WAVE
    chosen = list(run.items.filter(state=BulkItem.State.PENDING).values_list("pk", flat=True)[:larger])
    if not chosen:
        run.state, run.finished_at = BulkRun.State.FINISHED, now
        run.save(update_fields=["state", "finished_at"])
        return
    run.wave += 1
    run.save(update_fields=["wave"])
    run.items.filter(pk__in=chosen).update(wave=run.wave)


def _send(run_pk: uuid.UUID, item_pk: int) -> None:
    """Intervene in one saga, and write down what came of it in the same transaction."""
    try:
        with transaction.atomic():
            run = _running(run_pk)
            item = BulkItem.objects.get(pk=item_pk)
            if run is not None and item.state == BulkItem.State.PENDING:
                _intervene(run, item)
                item.save()
    except (OperationalError, errors.Busy) as error:
        if not (isinstance(error, errors.Busy) or database.is_busy(error)):
            raise
        # Somebody else had its lock, which is not its failure: it is pending still, for the next tick.
        logger.warning("a saga of bulk run %s could not be moved now: %s", run_pk, failures.text_of(error))
    except IntegrityError as bug:
        # A deferred constraint refused its owner's rows at the commit.
        BulkItem.objects.filter(pk=item_pk, state=BulkItem.State.PENDING).update(
            state=BulkItem.State.FAILED, message=failures.text_of(bug), settled_at=models.ClockTimestamp()
        )


def _intervene(run: BulkRun, item: BulkItem) -> None:
    intervention = interventions.INTERVENTIONS[run.intervention]
    now = models.database_now()
    try:
        seen = Seen.parse(item.seen)
        record = history.read(item.saga_id).looking_at(seen.step)
        item.position = record.saga.position
        if intervention.moved_on(seen, record):
            raise errors.MovedOn
        if why := intervention.refused(record):
            raise errors.NotAllowed(why)
        with transaction.atomic():
            intervention.make(record, seen=seen, actor=run.actor, reason=run.reason, arguments={})
    except (errors.MovedOn, errors.BadSeen):  # Version 0.1.0 did not write down what was seen.
        item.state, item.message, item.settled_at = BulkItem.State.MOVED, messages.MOVED_ON, now
    except (OperationalError, errors.Busy):
        raise
    except errors.SagaError as error:
        item.state, item.message, item.settled_at = BulkItem.State.REFUSED, str(error), now
    except Exception as bug:
        # A hook of its owner failed, say: that is one saga's trouble, and not the end of the run.
        logger.error("saga %s could not be moved: %s", item.saga_id, failures.traced(bug, item.saga.facts))
        item.state, item.message, item.settled_at = BulkItem.State.FAILED, failures.text_of(bug), now
    else:
        item.state, item.sent_at = BulkItem.State.SENT, models.database_now()


def _look(item: BulkItem, steps: Sequence[models.StepInstance], now: datetime.datetime) -> None:
    """See whether the saga got past the point where it stood, or stands there again.

    Of steps that are done at once one that failed again is enough for the latter.
    """
    saga = item.saga
    sent_at = item.sent_at
    assert sent_at is not None, "only what was sent is looked at"
    rows = _stood_at(item, steps)
    errors_ = [row.error for row in rows if row.error and "at" in row.error]
    again = [error for error in errors_ if datetime.datetime.fromisoformat(error["at"]) > sent_at]
    waits = any(row.state == StepState.WAITING for row in rows) and all(
        row.state in (StepState.WAITING, StepState.DONE, StepState.SKIPPED) for row in rows
    )
    if saga.is_final:
        state, message = BulkItem.State.HELPED, str(SagaState(saga.state).label)
    elif saga.state == SagaState.NEEDS_ATTENTION:
        state, message = BulkItem.State.FAILED, str((saga.attention or {}).get("why", ""))
    elif saga.position != item.position or waits:
        state, message = BulkItem.State.HELPED, translation.RUN_GOES_ON
    elif again:
        state, message = BulkItem.State.FAILED, str(again[0].get("message", ""))
    elif now - sent_at > PATIENCE:
        state, message = BulkItem.State.FAILED, translation.NOTHING_SEEN
    else:
        return
    item.state, item.message, item.settled_at = state, message, now
    item.save()


def _stood_at(item: BulkItem, steps: Sequence[models.StepInstance]) -> list[models.StepInstance]:
    """The step at which the saga stood, or those that are done at once there."""
    if item.position >= len(steps):
        return []  # All were done, and its owner could not take that.
    stage = history.stage_of(refusals.declaration(item.saga), steps[item.position])
    return [steps[item.position]] if stage is None else list(steps[stage.first : stage.last + 1])


def _recurs(run: BulkRun) -> str:
    """Why the run had better stop; empty while the wave goes well enough."""
    wave = run.items.filter(wave=run.wave, wave__gt=0)
    tried = wave.exclude(state__in=[BulkItem.State.REFUSED, BulkItem.State.MOVED]).count()
    failed = wave.filter(state=BulkItem.State.FAILED).count()
    if tried and failed / tried > TOLERATED:
        return translation.WAVE_FAILED % {
            "wave": run.wave,
            "failed": failed,
            "tried": tried,
        }
    return ""


def _stop(run: BulkRun, why: str) -> None:
    run.state, run.stopped_why = BulkRun.State.STOPPED, why
    run.save(update_fields=["state", "stopped_why"])
