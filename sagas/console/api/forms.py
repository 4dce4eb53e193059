"""What an operator sends: which sagas are wanted, and moves of one."""

import json
from typing import Any

from drf_spectacular import utils
from rest_framework import serializers

from api import fields
from api.serializers import Form, Page
from sagas import errors
from sagas.console.api import samples
from sagas.declaration import states
from sagas.engine import seen


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


class SagaQuery(Page):
    """Which sagas."""

    state = fields.Choice(states.SagaState.values(), required=False)
    step = fields.Text(max_length=50, required=False, help_text="The step that it stands at.")
    error = fields.Text(max_length=100, required=False, help_text="The class of its first failure.")
    key = fields.Text(
        max_length=100, required=False, help_text="Its business key, or the number of its order."
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
