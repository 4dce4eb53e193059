"""What the services hold, as far as a trial compares it: before, when all went well, and after a fault."""

import dataclasses
import datetime
import functools
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from django.apps import apps
from django.db import models

from sagas.declaration import definition

Seen = list[Any]
"""A snapshot: what there is, item by item."""

World = Callable[[], Any] | Iterable["models.QuerySet[Any] | type[models.Model]"]
"""How a user says what stands: a callable that returns it, or query sets (or models) of the rows that do."""

TIMES = (models.DateTimeField, models.DateField, models.TimeField)


@dataclasses.dataclass(frozen=True)
class Difference:
    """Wherein two snapshots differ."""

    missing: list[str]
    added: list[str]

    def __bool__(self) -> bool:
        return bool(self.missing or self.added)

    def lines(self) -> list[str]:
        """For people."""
        return [*(f"- {item}" for item in self.missing), *(f"+ {item}" for item in self.added)]


class Watch:
    """Looks at the world.

    Arguments:
        world: what stands, as the user says it; None for all rows of the apps that the functions live in.
        saga: the declaration whose functions' apps are meant.
    """

    def __init__(self, world: World | None, saga: definition.Saga) -> None:
        self._world = world
        self.guessed = world is None
        self._models = tuple(_models_of(saga)) if world is None else ()

    def look(self, names: Mapping[str, str] | None = None) -> Seen:
        """What there is now.

        Arguments:
            names: of the ids of sagas, what is to stand in their place: so that two runs can be compared.
        """
        found: Any
        if callable(self._world):
            found = self._world()
        else:
            rows = self._models if self._world is None else self._world
            found = [item for each in rows for item in _rows(each)]
        return _items(_renamed(found, names or {}))

    def marks(self, seen: Seen) -> Seen:
        """Of a guessed world, the rows that carry a saga's key."""
        return [item for item in seen if "{saga}" in repr(item)]


def differences(before: Seen, after: Seen) -> Difference:
    """What is missing from the one, and what is new in the other."""
    missing, added = [repr(item) for item in before], []
    for item in after:
        text = repr(item)
        if text in missing:
            missing.remove(text)
        else:
            added.append(text)
    return Difference(missing=missing, added=added)


def _models_of(saga: definition.Saga) -> Iterable[type[models.Model]]:
    configs = {
        config for module in sorted(_modules(saga)) if (config := apps.get_containing_app_config(module))
    }
    for config in sorted(configs, key=lambda config: config.label):
        yield from config.get_models()


def _modules(saga: definition.Saga) -> set[str]:
    functions = (
        each for step in saga.all_steps if step.has_worker for each in (step.do, step.undo, step.ask)
    )
    own = {_named(function).__module__ for function in functions if function is not None}
    return own.union(*(_modules(step.child) for step in saga.children))


def _named(function: Any) -> Any:
    return function.func if isinstance(function, functools.partial) else function


def _rows(source: "models.QuerySet[Any] | type[models.Model]") -> Iterable[dict[str, Any]]:
    """The rows without what differs from run to run: times, and numbers that the database draws."""
    query = source._default_manager.all() if isinstance(source, type) else source.all()
    model = query.model
    if query.query.values_select or query.query.annotation_select:
        for row in query:
            yield {"": model._meta.object_name, "values": row}
        return
    fields = [
        field.attname
        for field in model._meta.concrete_fields
        if not isinstance(field, (*TIMES, models.AutoField))
    ]
    for values in query.values_list(*fields):
        yield {"": model._meta.object_name, **dict(zip(fields, values, strict=True))}


def _items(found: Any) -> Seen:
    if isinstance(found, Mapping):
        return [Item(f"{name}: {value!r}") for name, value in found.items()]
    if isinstance(found, str | bytes) or not isinstance(found, Iterable):
        return [Item(repr(found))]
    return sorted((Item(_said(item)) for item in found), key=repr)


class Item(str):
    """One thing of a snapshot, as it is shown."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def _said(item: Any) -> str:
    if isinstance(item, Mapping) and "" in item:
        values = ", ".join(f"{name}={value!r}" for name, value in item.items() if name)
        return f"{item['']}({values})"
    return repr(item)


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, uuid.UUID):
        return names.get(str(value), value)
    if isinstance(value, str):
        for saga_id, name in names.items():
            value = value.replace(saga_id, name)
        return value
    if isinstance(value, Mapping):
        return {_renamed(name, names): _renamed(inner, names) for name, inner in value.items()}
    if isinstance(value, models.QuerySet | set | frozenset | tuple | list) or (
        isinstance(value, Sequence) and not isinstance(value, bytes)
    ):
        return [_renamed(inner, names) for inner in value]
    if isinstance(value, datetime.datetime):
        return value.isoformat()
    return value
