"""One move for many sagas, in waves of 1, 5, 25, ...: a move that does not help stops itself early.

The rows are the run: whoever sweeps drives it, and any number of sweepers may. A wave is sent, and
looked at until each of its sagas is seen to get past the point where it stood, or to stand there
again; only then comes the next wave.
"""

import datetime
import logging
import uuid
from collections.abc import Iterable

from django.db import transaction
from django.utils.translation import gettext as _

from sagas import errors, models, moves, steering, story, words
from sagas.models import BulkItem, BulkRun
from sagas.states import SagaState, StepState

logger = logging.getLogger("sagas")

MOVES = ("resume", "compensate")
"""What may be done in bulk."""

FIRST_WAVE, GROWTH, LARGEST_WAVE = 1, 5, 625
"""1, 5, 25, 125, 625, 625, ...: what one or six sagas show need not be paid for with thousands."""

TOLERATED = 0.2
"""A wave of which a larger share fails again stops the run."""

PATIENCE = datetime.timedelta(minutes=5)
"""A saga of which nothing was seen for so long counts as failed again."""

SENT_AT_ONCE = 50
"""How many sagas one drive moves at most: a sweep has other things to do."""

LARGEST_RUN = 20_000


def begin(*, saga_ids: Iterable[uuid.UUID], move: str, actor: str, reason: str) -> BulkRun:
    """Begin a run over these sagas, in this order; the sweep sends its first wave.

    Raises:
        NotAllowed: there are none, or too many, or the move is not one for bulk.
    """
    chosen = list(dict.fromkeys(saga_ids))
    if move not in MOVES or not chosen or len(chosen) > LARGEST_RUN:
        raise errors.NotAllowed(
            _("A bulk run is over 1 to %(most)s sagas, and its move one of: %(moves)s.")
            % {"most": LARGEST_RUN, "moves": ", ".join(MOVES)}
        )
    waits = steering.needs_two(steering.MOVES[move])
    with transaction.atomic():
        run = BulkRun.objects.create(
            move=move,
            actor=actor,
            reason=reason,
            state=BulkRun.State.ASKED if waits else BulkRun.State.RUNNING,
        )
        BulkItem.objects.bulk_create(
            [BulkItem(run=run, saga_id=pk, number=n) for n, pk in enumerate(chosen, start=1)],
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
        _stop(run, words.RUN_STOPPED % {"actor": actor, "reason": reason})


def go_on(run_id: uuid.UUID, *, actor: str) -> None:
    """Let a stopped run go on, with waves that begin small again.

    Raises:
        NotAllowed: it is not stopped, or nobody else agreed to it yet where somebody must.
    """
    with transaction.atomic():
        run = BulkRun.objects.select_for_update().get(pk=run_id)
        unapproved = steering.needs_two(steering.MOVES[run.move]) and not run.approved_by
        if run.state != BulkRun.State.STOPPED or unapproved:
            raise errors.NotAllowed(_("It is not stopped, or was never agreed to."))
        run.state, run.stopped_why = BulkRun.State.RUNNING, ""
        # An empty wave in between: waves grow from the one before, and so begin small again.
        run.wave += 1
        run.save(update_fields=["state", "stopped_why", "wave"])
        run.items.filter(state=BulkItem.State.PENDING).update(wave=0)


def drive() -> int:
    """Take every running run a bit further. Called by every sweep; returns how many runs there are."""
    pks = list(BulkRun.objects.filter(state=BulkRun.State.RUNNING).values_list("pk", flat=True))
    for pk in pks:
        try:
            with transaction.atomic():
                run = (
                    BulkRun.objects.select_for_update(skip_locked=True)
                    .filter(pk=pk, state=BulkRun.State.RUNNING)
                    .first()
                )
                if run is not None:
                    _drive(run)
        except Exception:
            # One run must not keep the sweep from the others, nor from its sagas.
            logger.exception("bulk run %s could not be driven", pk)
    return len(pks)


def _drive(run: BulkRun) -> None:
    """Take one run a bit further.

    1. Look at what is under way.
    2. Stop, if too much of the wave failed again.
    3. Send what is left of the wave.
    4. Begin the next one when everything of it is seen.
    """
    now = models.database_now()
    sent = list(run.items.filter(state=BulkItem.State.SENT).select_related("saga"))
    rows = {
        (row.saga_id, row.position): row
        for row in models.StepInstance.objects.filter(saga__in=[item.saga_id for item in sent])
    }
    for item in sent:
        _look(item, rows, now)
    if why := _recurs(run):
        _stop(run, why)
        return
    queued = list(run.items.filter(state=BulkItem.State.PENDING, wave=run.wave, wave__gt=0)[:SENT_AT_ONCE])
    for item in queued:
        _send(run, item, now)
    if queued or run.items.filter(state=BulkItem.State.SENT).exists():
        return
    _next_wave(run, now)


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


def _send(run: BulkRun, item: BulkItem, now: datetime.datetime) -> None:
    move = steering.MOVES[run.move]
    try:
        told = story.read(item.saga_id)
        item.position = told.saga.position
        if why := move.refusal(told):
            raise errors.NotAllowed(why)
        with transaction.atomic():
            move.make(told, actor=run.actor, reason=run.reason, given={})
    except errors.SagaError as error:
        item.state, item.message, item.settled_at = BulkItem.State.REFUSED, str(error), now
    except Exception as bug:
        # A hook of its owner failed, say: that is one saga's trouble, and not the end of the run.
        logger.error("saga %s could not be moved: %s", item.saga_id, moves.traced(bug, item.saga.facts))
        item.state, item.message, item.settled_at = BulkItem.State.FAILED, moves.words_of(bug), now
    else:
        item.state, item.sent_at = BulkItem.State.SENT, models.database_now()
    item.save()


def _look(
    item: BulkItem, rows: dict[tuple[uuid.UUID, int], models.StepInstance], now: datetime.datetime
) -> None:
    """See whether the saga got past the point where it stood, or stands there again."""
    saga = item.saga
    sent_at = item.sent_at
    assert sent_at is not None, "only what was sent is looked at"
    row = rows.get((saga.pk, item.position))
    error = (row.error or {}) if row else {}
    again = "at" in error and datetime.datetime.fromisoformat(error["at"]) > sent_at
    if saga.is_final:
        state, message = BulkItem.State.HELPED, str(SagaState(saga.state).label)
    elif saga.state == SagaState.NEEDS_ATTENTION:
        state, message = BulkItem.State.FAILED, str((saga.attention or {}).get("why", ""))
    elif saga.position != item.position or (row is not None and row.state == StepState.WAITING):
        state, message = BulkItem.State.HELPED, words.RUN_GOES_ON
    elif again:
        state, message = BulkItem.State.FAILED, str(error.get("message", ""))
    elif now - sent_at > PATIENCE:
        state, message = BulkItem.State.FAILED, words.NOTHING_SEEN
    else:
        return
    item.state, item.message, item.settled_at = state, message, now
    item.save()


def _recurs(run: BulkRun) -> str:
    """Why the run had better stop; empty while the wave goes well enough."""
    wave = run.items.filter(wave=run.wave, wave__gt=0)
    tried = wave.exclude(state=BulkItem.State.REFUSED).count()
    failed = wave.filter(state=BulkItem.State.FAILED).count()
    if tried and failed / tried > TOLERATED:
        return words.WAVE_FAILED % {
            "wave": run.wave,
            "failed": failed,
            "tried": tried,
        }
    return ""


def _stop(run: BulkRun, why: str) -> None:
    run.state, run.stopped_why = BulkRun.State.STOPPED, why
    run.save(update_fields=["state", "stopped_why"])
