"""What an operator sends: which sagas are wanted, and moves of one."""

import json
import re
import uuid
from typing import Any

from drf_spectacular import utils
from rest_framework import serializers

from api import fields
from api.serializers import Form, Page
from sagas import errors
from sagas.console.api import samples
from sagas.declaration import states
from sagas.engine import seen

PARENT = r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}(?:\.[a-z0-9-]{1,50})?"
"""A saga's id, or the key of one of its steps."""


@utils.extend_schema_field({"type": "string", "maxLength": seen.LONGEST, "pattern": f"^{seen.PATTERN}$"})
class Seen(fields.Said):
    """How a saga stood when somebody decided on something: what its representation calls `seen`."""

    allowed = (
        "This must be `seen` of the saga as it was when you decided, such as"
        " take-payment:forward:waiting:1; GET /api/v1/sagas/{{id}} shows it."
    )

    def to_internal_value(self, data: Any) -> seen.Seen:
        """What the text says."""
        try:
            return seen.Seen.parse(data if isinstance(data, str) else "")
        except errors.BadSeen:
            self.fail("invalid")


@utils.extend_schema_field({"type": "object", "additionalProperties": True})
class Facts(serializers.DictField):
    """An object of facts, of no great size."""

    def to_internal_value(self, data: Any) -> Any:
        """The object."""
        if not isinstance(data, dict) or len(json.dumps(data)) > 4096 or "\\u0000" in json.dumps(data):
            raise serializers.ValidationError(
                "This must be an object of at most 4096 characters as JSON, without NUL."
            )
        return data


@utils.extend_schema_field(
    {"type": "string", "maxLength": 87, "pattern": f"^{PARENT}$", "examples": [samples.SAGA]}
)
class Parent(fields.Said):
    """A saga whose children are wanted, or one of its steps."""

    allowed = (
        "This must be the id of a saga, or the key of one of its steps, such as"
        f" {samples.SAGA}.send-parcels; GET /api/v1/sagas/{{{{id}}}} shows both."
    )

    def to_internal_value(self, data: Any) -> tuple[uuid.UUID, str | None]:
        """The saga's id, and the step's name if one is meant."""
        if not isinstance(data, str) or len(data) > 87 or not re.fullmatch(PARENT, data):
            self.fail("invalid")
        saga_id, _dot, step = data.partition(".")
        return uuid.UUID(saga_id), step or None


class SagaQuery(Page):
    """Which sagas."""

    state = fields.Choice(states.SagaState.values(), required=False)
    step = fields.Text(max_length=50, required=False, help_text="The step that it stands at.")
    error = fields.Text(max_length=100, required=False, help_text="The class of its first failure.")
    key = fields.Text(
        max_length=100, required=False, help_text="Its business key, or the number of its order."
    )
    # A field's own `parent` is the form in which it stands, and this form stands in none.
    parent = Parent(  # type: ignore[assignment]
        required=False,
        help_text="Only its children: of a saga by its id, or of one of its steps by the key of that.",
    )
    roots = fields.Choice(
        ["true", "false"], required=False, help_text="Whether to leave out the children of other sagas."
    )
    approval = fields.Choice(
        ["mine", "any"],
        required=False,
        help_text="Of which an approval is waited for: one that the caller may give, or whichever.",
    )
    older_than = fields.Age(required=False, help_text="Begun longer ago than this, such as 15m.")
    younger_than = fields.Age(required=False, help_text="Begun less long ago than this, such as 2h.")
    archived = fields.Choice(
        ["true", "false"],
        required=False,
        help_text="Whether it is the archive that is listed, with those that ended long ago; `step` is then"
        " the one that failed first.",
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Older than the younger: the other way round no saga is both, which is a slip."""
        if "older_than" in attrs and "younger_than" in attrs and attrs["older_than"] >= attrs["younger_than"]:
            raise serializers.ValidationError(
                {"older_than": "This is no less than younger_than, so no saga can be both."}, "range"
            )
        return attrs


class Move(Form):
    """What an operator decided on, and why: both are kept with the event."""

    seen = Seen(help_text="`seen` of the saga as it was when you decided.")
    reason = fields.Text(max_length=500)

    sample = samples.MOVE


class Refusal(Form):
    """A no where an approval is waited for."""

    step = fields.Text(max_length=50, help_text="The approval, by the name of its step.")
    reason = fields.Text(max_length=500)

    sample = samples.REFUSAL


class Approval(Refusal):
    """A yes where an approval is waited for."""

    facts = Facts(required=False, help_text="What the approval puts out: exactly these facts, by name.")

    sample = samples.APPROVAL


class Resolution(Move):
    """What an operator knows about the step that was seen."""

    happened = fields.Flag(help_text="Whether the action (on the way back: its undo) took effect.")
    facts = Facts(required=False, help_text="What the action would have answered, for later steps.")

    sample = samples.RESOLUTION
