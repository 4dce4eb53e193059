"""Money as people read it. Rows keep minor units, with which nobody makes a mistake in arithmetic."""

import decimal

from django.utils import formats

SIGNS = {"BRL": "R$"}


def figure(amount: int | str) -> str:
    """An amount in minor units without its currency, as it is written where the viewer lives: 1,234.50."""
    major = decimal.Decimal(amount) / 100
    return str(formats.number_format(major, decimal_pos=2, use_l10n=True, force_grouping=True))


def written(amount: int, currency: str = "BRL") -> str:
    """An amount in minor units as it is written where the viewer lives: R$ 1,234.50, or R$ 1.234,50."""
    return f"{SIGNS.get(currency, currency)} {figure(amount)}"
