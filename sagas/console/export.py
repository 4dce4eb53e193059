"""A saga's history as data, for machines and for the record."""

import dataclasses
import datetime
from collections.abc import Sequence
from typing import Any

from sagas import models, reading
from sagas.console import families, history, redaction, summary
from sagas.declaration.states import Direction


def saga(record: history.History, *, events: Sequence[models.Event] | None = None) -> dict[str, Any]:
    """The whole history, or the given events of it, as JSON-able data."""
    saga = record.saga
    said, left_out = summary.of(record), history.left_out(record)
    seen = {one.step.pk: str(one.seen) for one in record.at_each} if record.live else {}
    return {
        "id": str(saga.pk),
        "name": saga.name,
        "version": saga.version,
        "key": saga.key,
        "state": saga.state,
        "direction": Direction(saga.direction).name.lower(),
        "position": saga.position,
        "epoch": saga.epoch,
        "seen": str(record.seen),
        "created_at": _iso(saga.created_at),
        "updated_at": _iso(saga.updated_at),
        "finished_at": _iso(saga.finished_at),
        "deadline_at": _iso(saga.deadline_at),
        "wake_at": _iso(saga.wake_at),
        "starts_at": _iso(record.starts_at),
        "held_at": _iso(saga.held_at),
        "closed_at": _iso(saga.closed_at),
        "archived_at": _iso(saga.archived_at),
        "parent": _parent(record),
        "failure": saga.failure,
        "attention": saga.attention,
        "summary": {"what": said.what, "next": said.next, "who": said.who, "advice": said.advice},
        "answers": [
            {
                "step": answer.step,
                "undo": answer.undo,
                "what": answer.what,
                "actor": answer.actor,
                "reason": answer.reason,
                "at": _iso(answer.at),
            }
            for answer in history.answers(record).values()
        ],
        "steps": [
            {
                "name": row.name,
                "key": row.key,
                "stage": history.stage_name(record.declared, row),
                "state": row.state,
                "skipped": {"facts": left_out[row.name]} if row.name in left_out else None,
                "seen": seen.get(row.pk),
                "attempts": row.attempts,
                "undo_attempts": row.undo_attempts,
                "started_at": _iso(row.started_at),
                "finished_at": _iso(row.finished_at),
                "undo_started_at": _iso(row.undo_started_at),
                "undone_at": _iso(row.undone_at),
                "wake_at": _iso(row.wake_at),
                "dispatched_at": _iso(row.dispatched_at),
                "error": row.error,
                "facts": redaction.redact(row.facts, record.hidden),
                "worker": row.worker,
                "task_id": row.task_id,
            }
            for row in record.steps
        ],
        "children": _children(record),
        "events": [event(row, record.hidden) for row in (record.events if events is None else events)],
    }


def _parent(record: history.History) -> dict[str, Any] | None:
    """Whose child it is: said also where the parent is nowhere any more."""
    place = families.place_of(record.saga)
    if place is None:
        return None
    key = record.parent.saga.key if record.parent is not None else None
    return {"id": str(place.parent_id), "step": place.step, "item": place.item, "key": key}


def _children(record: history.History) -> list[dict[str, Any]]:
    """By step, how many of its children stand where, and each of them."""
    every = families.every(record.steps, record.children)
    return [
        {
            "step": step,
            "total": counts.total,
            "counts": dataclasses.asdict(counts),
            "sagas": [
                {
                    "id": str(row.pk),
                    "item": place.item if (place := families.place_of(row)) is not None else None,
                    "key": row.key,
                    "stands": reading.child_place(row),
                    "archived": isinstance(row, models.ArchivedSaga),
                }
                for row in every[step]
            ],
        }
        for step, counts in record.children.items()
    ]


def event(row: models.Event, hidden: redaction.Hidden) -> dict[str, Any]:
    """One event as JSON-able data."""
    return {
        "id": row.pk,
        "at": _iso(row.at),
        "kind": row.kind,
        "subject": row.subject,
        "from_state": row.from_state,
        "to_state": row.to_state,
        "attempt": row.attempt,
        "actor": row.actor,
        "reason": row.reason,
        "data": redaction.redact(row.data, hidden),
    }


def _iso(at: datetime.datetime | None) -> str | None:
    return None if at is None else at.isoformat()
