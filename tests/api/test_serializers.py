"""A shape makes what it describes."""

import dataclasses
import datetime
from typing import Any

import pytest
from rest_framework import serializers

from api.serializers import Shape, page
from sagas import strictjson


class Door(Shape):
    name = serializers.CharField()
    from_ = serializers.CharField(source="came", allow_null=True)
    note = serializers.CharField(source="facts.note", allow_null=True)
    late = serializers.IntegerField(required=False)


class House(Shape):
    built_at = serializers.DateTimeField()
    doors = Door(many=True)
    best = Door(allow_null=True)
    whole = Door(source="*")
    count = serializers.IntegerField()

    def get_best(self, house: Any) -> Any:
        return house.doors[0] if house.doors else None

    def get_count(self, house: Any) -> int:
        return len(house.doors)


@dataclasses.dataclass
class Row:
    name: str = "front"
    came: str = ""
    facts: Any = dataclasses.field(default_factory=dict)
    late: int | None = None
    doors: Any = ()
    built_at: Any = datetime.datetime(2026, 1, 31, 12, tzinfo=datetime.UTC)


FRONT = {"name": "front", "from": None, "note": None}


def test_members_are_read_from_objects_by_their_source_or_their_method() -> None:
    house = House.of(Row(doors=[Row(came="west", facts={"note": "red"}), Row()]))

    first = FRONT | {"from": "west", "note": "red"}
    assert house == {
        "built_at": Row().built_at, "doors": [first, FRONT], "best": first, "whole": FRONT, "count": 2,
    }  # fmt: skip
    assert b'"built_at":"2026-01-31T12:00:00.000000Z"' in strictjson.dumps(house)
    assert House.of(Row())["best"] is None


@pytest.mark.parametrize(
    ("kept", "told"),
    [
        ({"name": "front", "came": ""}, FRONT),
        ({"name": "front", "frames": ["secret"]}, FRONT),
        ({"name": "front", "late": 2}, FRONT | {"late": 2}),
        ({"name": "front", "late": None}, FRONT | {"late": None}),
    ],
)
def test_of_a_dict_no_more_is_told_than_is_described(kept: dict[str, Any], told: dict[str, Any]) -> None:
    kept.setdefault("facts", {})
    assert Door.of(kept) == told


def test_a_page_is_of_its_items() -> None:
    pages = page(Door)

    assert pages.__name__ == "DoorPage"
    assert list(pages().fields) == ["next", "previous", "results"]
