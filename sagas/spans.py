"""A saga's trace, made of its rows and events after the fact: so it is complete after any crash.

Pure: rows in, spans out; what sends them is `sagas.tracing`. Every id is derived from the saga and its
events, so that a span that is made twice is the same span.

    saga order-fulfilment                 from its begin to its end; what people and callbacks did, as events
      take-payment                        from the first attempt until it is done
        take-payment attempt              one attempt, from its claim to its outcome
          call payments                   the provider's call in it, as far as rows know
        take-payment wait                 while it waits for a callback, an approval, its children
      receive payments                    a message under way; the attempt links to it
      undo take-payment                   links to what it undoes
"""

import dataclasses
import datetime
import hashlib
from collections.abc import Sequence
from typing import Any

from sagas import errors
from sagas.declaration import definition
from sagas.declaration.states import SagaState
from sagas.models import Event, SagaInstance, StepInstance

Attributes = dict[str, str | int | bool]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Moment:
    """Something that happened within a span."""

    name: str
    at: datetime.datetime
    attributes: Attributes


@dataclasses.dataclass(kw_only=True)
class Span:
    """One span, as OpenTelemetry has it."""

    id: int
    parent: int | None
    """The span's in the same trace; None for none."""

    name: str
    kind: str = "internal"
    """`internal`, `client` for a provider's call, `consumer` for a message that was received."""

    start: datetime.datetime
    end: datetime.datetime | None = None
    closed_by: int = 0
    """The id of the event with which it ended."""

    error: str | None = None
    """The kind of the failure with which it ended; None if it went well."""

    attributes: Attributes = dataclasses.field(default_factory=dict)
    moments: list[Moment] = dataclasses.field(default_factory=list)
    links: list[int] = dataclasses.field(default_factory=list)
    """Spans of the same trace that it is about, without being a part of them."""


def span_id(saga: SagaInstance, role: str) -> int:
    """The id of a span, from what it is: never 0, which would be none."""
    digest = hashlib.sha256(f"{saga.pk}:{role}".encode()).digest()
    return int.from_bytes(digest[:8], "big") or 1


def step_span_id(saga: SagaInstance, step: str) -> int:
    """The id of the span of a step's action, which is the parent of the children that are the step."""
    return span_id(saga, f"step:{step}:forward:1")


_OPENS = ("step.started", "step.asked", "undo.started")
_ENDS_ATTEMPT = {
    "step.done": "done", "step.waiting": "waiting", "step.retry": "retry", "step.late": "late",
    "step.unknown": "unknown", "step.failed": "failed",
    "undo.done": "done", "undo.retry": "retry", "undo.late": "late", "undo.failed": "failed",
}  # fmt: skip
_ENDS_STEP = ("step.done", "step.failed", "undo.done", "undo.failed")
_ENDS_SAGA = ("saga.completed", "saga.compensated", "operator.close")


def of(
    saga: SagaInstance, steps: Sequence[StepInstance], events: Sequence[Event], *, broker: str = ""
) -> list[Span]:
    """The spans of a saga that have ended, in the order of their ends; those under way are left out.

    Arguments:
        saga: the saga.
        steps: its steps.
        events: all of its events, in their order.
        broker: OpenTelemetry's name of the messaging system, such as `rabbitmq`.
    """
    return sorted(_Trace(saga, steps, broker).read(events), key=lambda span: span.closed_by)


class _Trace:
    """A saga's events, read in their order."""

    def __init__(self, saga: SagaInstance, steps: Sequence[StepInstance], broker: str) -> None:
        self._saga = saga
        self._rows = {row.name: row for row in steps}
        self._broker = broker
        self._done: list[Span] = []
        self._open: dict[str, Span] = {}
        """By role: of the steps, their waits and their attempts."""

        self._seen: set[tuple[str, str, int | None]] = set()
        """Step, direction and number of the attempts that are known."""

        self._runs: dict[str, int] = {}
        self._root = Span(
            id=span_id(saga, "saga"), parent=None, name=f"saga {saga.name}", start=saga.created_at,
            attributes={
                "saga.id": str(saga.pk), "saga.name": saga.name, "saga.version": saga.version,
                "saga.key": saga.key,
            },
        )  # fmt: skip

    def read(self, events: Sequence[Event]) -> list[Span]:
        """The spans that have ended."""
        for event in events:
            if event.subject in self._rows and event.kind.startswith(("step.", "undo.")):
                self._of_step(event)
            elif event.kind in _ENDS_SAGA:
                self._end(event)
            elif event.kind != "saga.begun":
                self._moment(event)
        return self._done

    # --- The saga ----------------------------------------------------------------------------------

    def _moment(self, event: Event) -> None:
        """What people, callbacks and the saga itself did: who and why is not told, for it may be personal."""
        moment = Moment(name=event.kind, at=event.at, attributes=_about(event))
        if self._root.end is None:
            self._root.moments.append(moment)
            return
        # The saga's own span has been sent: what comes after its end stands beside it.
        late = self._span(f"event:{event.pk}", event.kind, event.at, attributes=_about(event))
        self._close(late, event)

    def _end(self, event: Event) -> None:
        for role in list(self._open):
            unfinished = self._open.pop(role)
            unfinished.attributes["saga.outcome"] = "unfinished"
            self._close(unfinished, event)
        state = "closed" if event.kind == "operator.close" else self._saga.state
        self._root.attributes["saga.state"] = state
        if state != SagaState.COMPLETED:
            self._root.error = (self._saga.failure or {}).get("kind") or state
        if event.kind == "operator.close":
            self._moment(event)
        self._close(self._root, event)

    # --- Steps -------------------------------------------------------------------------------------

    def _of_step(self, event: Event) -> None:
        way = "backward" if event.kind.startswith("undo.") else "forward"
        if event.kind in _OPENS:
            self._attempt(event, way, event.at)
            return
        outcome = _ENDS_ATTEMPT.get(event.kind)
        if outcome is None:
            self._moment(event)
            return
        attempt = self._open.pop(f"attempt:{event.subject}:{way}", None)
        waits = f"wait:{event.subject}"
        if attempt is None and event.attempt and (event.subject, way, event.attempt) not in self._seen:
            # A local attempt: intent and outcome are one transaction, and so one event.
            attempt = self._attempt(event, way, self._began(event, way))
            del self._open[f"attempt:{event.subject}:{way}"]
        if attempt is not None:
            self._end_attempt(attempt, event, outcome)
        if event.kind == "step.waiting":
            step = self._step(event, way, event.at)
            self._open.setdefault(
                waits,
                self._span(
                    f"wait:{event.subject}:{self._runs.get(f'{event.subject}:forward', 1)}",
                    f"{event.subject} wait", event.at, parent=step.id, attributes=_of(event),
                ),
            )  # fmt: skip
        if event.kind in _ENDS_STEP:
            if (wait := self._open.pop(waits, None)) is not None:
                self._close(wait, event, error=_kind(event, outcome))
            self._end_step(event, way, outcome)

    def _began(self, event: Event, way: str) -> datetime.datetime:
        row = self._rows[event.subject]
        began = row.undo_started_at if way == "backward" else row.started_at
        return began if event.attempt == 1 and began is not None and began <= event.at else event.at

    def _step(self, event: Event, way: str, start: datetime.datetime) -> Span:
        """The span of the step in that direction, begun if it is not."""
        which = f"{event.subject}:{way}"
        if (known := self._open.get(f"step:{which}")) is not None:
            return known
        run = self._runs[which] = self._runs.get(which, 0) + 1
        undo = way == "backward"
        span = self._span(
            f"step:{which}:{run}", f"undo {event.subject}" if undo else event.subject, start,
            attributes={**_of(event), "saga.direction": way},
            links=[self._deed(event.subject)] if undo and f"{event.subject}:forward" in self._runs else [],
        )  # fmt: skip
        self._open[f"step:{which}"] = span
        return span

    def _deed(self, step: str) -> int:
        return span_id(self._saga, f"step:{step}:forward:{self._runs[f'{step}:forward']}")

    def _end_step(self, event: Event, way: str, outcome: str) -> None:
        self._step(event, way, event.at)
        span = self._open.pop(f"step:{event.subject}:{way}")
        span.attributes["saga.outcome"] = outcome
        self._close(span, event, error=_kind(event, outcome))

    # --- Attempts ----------------------------------------------------------------------------------

    def _attempt(self, event: Event, way: str, start: datetime.datetime) -> Span:
        self._seen.add((event.subject, way, event.attempt))
        step = self._step(event, way, start)
        role = f"attempt:{event.subject}:{way}"
        if (lost := self._open.pop(role, None)) is not None:
            self._end_attempt(lost, event, "lost")
        attributes = {**_of(event), "saga.direction": way, "saga.attempt": event.attempt or 0}
        for name, key in (("worker", "saga.worker"), ("task_id", "celery.task_id")):
            if isinstance(value := event.data.get(name), str) and value:
                attributes[key] = value
        links = []
        waited = event.data.get("waited_ms")
        if isinstance(waited, int):
            links = [self._received(event, start, datetime.timedelta(milliseconds=waited))]
        word = "ask" if event.kind == "step.asked" else "attempt"
        name = f"{'undo ' * (way == 'backward')}{event.subject} {word}"
        span = self._span(
            f"attempt:{event.pk}", name, start, parent=step.id, attributes=attributes, links=links
        )
        self._open[role] = span
        return span

    def _received(self, event: Event, claimed: datetime.datetime, waited: datetime.timedelta) -> int:
        """The message under way: beside the attempt, which links to it, as conventions for messaging ask."""
        queue = self._queue(event.subject)
        span = self._span(
            f"receive:{event.pk}", f"receive {queue}", max(claimed - waited, self._root.start),
            kind="consumer",
            attributes={
                "messaging.operation.type": "receive", "messaging.operation.name": "receive",
                "messaging.destination.name": queue,
                **({"messaging.system": self._broker} if self._broker else {}),
            },
        )  # fmt: skip
        self._close(span, event, at=claimed)
        return span.id

    def _end_attempt(self, span: Span, event: Event, outcome: str) -> None:
        if event.data.get("clock") == "lease":
            outcome = "lost"
        span.attributes["saga.outcome"] = outcome
        went_well = outcome in ("done", "waiting")
        error = None if went_well else _kind(event, outcome)
        self._close(span, event, error=error)
        declared = self._declared(event.subject)
        if declared is not None and declared.remote:
            call = self._span(
                f"call:{span.id}", f"call {declared.queue}", span.start, parent=span.id, kind="client",
                attributes={
                    "peer.service": declared.queue, "saga.idempotency_key": self._rows[event.subject].key,
                },
            )  # fmt: skip
            self._close(call, event, error=error)

    # --- Spans -------------------------------------------------------------------------------------

    def _span(
        self, role: str, name: str, start: datetime.datetime, *, parent: int | None = None, **more: Any
    ) -> Span:
        return Span(
            id=span_id(self._saga, role), parent=parent or self._root.id, name=name, start=start, **more
        )

    def _close(
        self, span: Span, event: Event, *, error: str | None = None, at: datetime.datetime | None = None
    ) -> None:
        # The clocks are the database's, and yet a lock may have been had a moment after another's event.
        span.end = max(at or event.at, span.start)
        span.closed_by = event.pk
        span.error = span.error or error
        self._done.append(span)

    def _declared(self, step: str) -> definition.Step | None:
        try:
            declared = self._saga.definition
        except errors.UnknownSaga:
            return None
        return next((one for one in declared.all_steps if one.name == step), None)

    def _queue(self, step: str) -> str:
        declared = self._declared(step)
        return declared.queue if declared is not None else "unknown"


def _of(event: Event) -> Attributes:
    return {"saga.step": event.subject}


def _about(event: Event) -> Attributes:
    about: Attributes = {"saga.step": event.subject} if event.subject else {}
    kind = event.data.get("kind")
    if isinstance(kind, str) and event.kind.startswith("saga."):
        about["saga.failure.kind"] = kind
    return about


def _kind(event: Event, outcome: str) -> str | None:
    """The kind of the failure; no message, for there may be personal data in it."""
    if outcome in ("done", "waiting"):
        return None
    kind = event.data.get("kind")
    return kind if isinstance(kind, str) else outcome
