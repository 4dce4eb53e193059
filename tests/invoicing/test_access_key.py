"""The access key says who issued which invoice, and its last digit checks the others."""

import datetime

import hypothesis
import pytest
from hypothesis import strategies

from invoicing import access_key

KEYS = strategies.builds(
    access_key.compose,
    state=strategies.sampled_from(sorted(access_key.STATE_CODES)),
    issued_on=strategies.dates(datetime.date(2006, 1, 1), datetime.date(2099, 12, 31)),
    cnpj=strategies.from_regex(r"[0-9]{14}", fullmatch=True),
    series=strategies.integers(0, 999),
    number=strategies.integers(1, 999_999_999),
    code=strategies.integers(0, 99_999_999),
)


def test_it_is_made_of_its_parts():
    key = access_key.compose(
        state="SP",
        issued_on=datetime.date(2026, 3, 14),
        cnpj="11222333000181",
        series=1,
        number=42,
        code=12345678,
    )

    assert key[:-1] == "3526031122233300018155001000000042112345678"
    assert access_key.is_valid(key)


@pytest.mark.parametrize(
    "published",
    [
        # Examples of the authority's manual and of invoices published as samples.
        "35080599999090910270550010000000015180051273",
        "52060433009911002506550120000007800267301615",
    ],
)
def test_it_agrees_with_keys_that_others_made(published):
    assert access_key.is_valid(published)


@hypothesis.given(key=KEYS, data=strategies.data())
def test_one_digit_changed_is_noticed(key, data):
    place = data.draw(strategies.integers(0, access_key.LENGTH - 1))
    other = data.draw(strategies.sampled_from([digit for digit in "0123456789" if digit != key[place]]))

    assert access_key.is_valid(key)
    changed = key[:place] + other + key[place + 1 :]
    # The remainders 0 and 1 share the check digit 0, so it is the one slip that may pass.
    assert not access_key.is_valid(changed) or key[-1] == changed[-1] == "0"


@pytest.mark.parametrize("text", ["", "1" * 43, "1" * 45, "x" * 44, "٣" * 44])
def test_what_is_no_key_is_none(text):
    assert not access_key.is_valid(text)


def test_a_part_that_is_too_long_is_refused():
    with pytest.raises(ValueError, match="too long"):
        access_key.compose(
            state="SP",
            issued_on=datetime.date(2026, 3, 14),
            cnpj="11222333000181",
            series=1000,
            number=1,
            code=2,
        )
