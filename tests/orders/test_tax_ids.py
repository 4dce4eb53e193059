"""Tax ids and postal codes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orders import tax_ids


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        ("529.982.247-25", "52998224725"),
        ("11144477735", "11144477735"),
        ("00000000191", "00000000191"),  # Correct check digits; what becomes of it is the authority's matter.
        ("11.222.333/0001-81", "11222333000181"),
        ("12.ABC.345/01DE-35", "12ABC34501DE35"),
        ("12.abc.345/01de-35", "12ABC34501DE35"),
    ],
)
def test_a_tax_id_with_correct_check_digits_is_kept_without_punctuation(text: str, bare: str) -> None:
    assert tax_ids.tax_id(text) == bare


@pytest.mark.parametrize(
    "text",
    [
        "",
        "12345678901",
        "529.982.247-26",
        "111.111.111-11",
        "00000000000",
        "11222333000180",
        "1122233300018",
        "A2ABC34501DE35",
        "٥٢٩٩٨٢٢٤٧٢٥",  # Digits, but not those of a tax id.
        "52998224725x",
    ],
)
def test_any_other_tax_id_is_refused(text: str) -> None:
    assert tax_ids.tax_id(text) is None


@given(st.text("0123456789", min_size=9, max_size=9), st.integers(1, 9), st.sampled_from([9, 10]))
def test_of_all_check_digits_only_one_pair_is_right(body: str, shift: int, place: int) -> None:
    right = [text for n in range(100) if tax_ids.tax_id(text := f"{body}{n:02}")]

    assert len(right) == 1 or len(set(body)) == 1
    for text in right:
        wrong = text[:place] + str((int(text[place]) + shift) % 10) + text[place + 1 :]
        assert tax_ids.tax_id(wrong) is None


@pytest.mark.parametrize("text", ["01310-100", "01310100", " 01310100 "])
def test_a_postal_code_is_kept_with_its_dash(text: str) -> None:
    assert tax_ids.postal_code(text) == "01310-100"


@pytest.mark.parametrize("text", ["", "0131-0100", "013101000", "01310–100", "O1310100", "01310-10"])
def test_any_other_postal_code_is_refused(text: str) -> None:
    assert tax_ids.postal_code(text) is None


@given(st.text())
def test_no_text_upsets_the_readers(text: str) -> None:
    assert tax_ids.tax_id(text) is None or len(tax_ids.tax_id(text) or "") in (11, 14)
    assert tax_ids.postal_code(text) is None or len(tax_ids.postal_code(text) or "") == 9
