"""The one reader of JSON from outside: what no row can keep, or two readers read differently, is refused."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagas import strictjson

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-strictjson.LARGEST - 1, strictjson.LARGEST)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc"), inner, max_size=3),
    max_leaves=8,
)


@given(VALUES)
def test_what_json_writes_is_read(value):
    assert strictjson.loads(json.dumps(value)) == value
    assert strictjson.loads(json.dumps(value, ensure_ascii=False).encode()) == value


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "line 1"),
        ("{", "line 1"),
        ("NaN", "NaN"),
        ('{"a": -Infinity}', "Infinity"),
        ('{"a": 1e999}', "too large"),
        ('{"a": [-1e400]}', "too large"),
        ('{"a": 1, "a": 2}', "twice"),
        ('"\\ud800"', "UTF-8"),
        (b'"\xff"', "UTF-8"),
        ("[" * 33 + "]" * 33, "32 deep"),
        ("[" * 100_000, "32 deep"),
        ("9" * 5000, "4300"),
    ],
)
@pytest.mark.parametrize("keepable", [True, False])
def test_what_is_ambiguous_or_beyond_bounds_is_refused_with_the_reason(text, why, keepable):
    with pytest.raises(strictjson.Refused, match=why):
        strictjson.loads(text, keepable=keepable)


@pytest.mark.parametrize(
    "text", [f'{{"a": {10**30}}}', str(2**63), str(-(2**63) - 1), '["\\u0000"]', '{"\\u0000": 1}']
)
def test_what_no_column_keeps_is_refused_unless_somebody_can_point_to_it(text):
    with pytest.raises(strictjson.Refused):
        strictjson.loads(text)

    assert strictjson.loads(text, keepable=False) == json.loads(text)


@given(st.binary(max_size=60))
def test_no_bytes_upset_the_reader(body):
    with contextlib.suppress(strictjson.Refused):
        strictjson.loads(body)
