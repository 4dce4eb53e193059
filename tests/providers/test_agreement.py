"""What differs between what was told and what was asked is said with both figures."""

from providers import agreement


def test_what_agrees_is_not_told_of():
    assert agreement.differences({"amount": 1, "currency": "BRL"}, {"amount": 1, "currency": "BRL"}) == ""


def test_both_figures_are_told():
    told = {"captured": 1, "currency": "USD", "method": "card"}
    asked = {"captured": 18290, "currency": "BRL", "method": "card"}

    assert agreement.differences(told, asked) == "captured 1 instead of 18290, currency USD instead of BRL"


def test_what_is_missing_is_none():
    assert agreement.differences({"reference": ""}, {"reference": "4205"}) == "reference none instead of 4205"
