"""What Brazil asks of a tax id, a state and a postal code."""

import re

STATES = frozenset(
    ["AC", "AL", "AM", "AP", "BA", "CE", "DF", "ES", "GO", "MA", "MG", "MS", "MT", "PA", "PB", "PE", "PI",
     "PR", "RJ", "RN", "RO", "RR", "RS", "SC", "SE", "SP", "TO"]
)  # fmt: skip

TAX_ID_RULE = "a CPF (11 digits) or a CNPJ (14 characters) with correct check digits"
POSTAL_CODE_RULE = "a CEP: 8 digits, such as 01310-100 or 01310100"


def tax_id(text: str) -> str | None:
    """The CPF or CNPJ without its punctuation; None where its check digits are wrong.

    A CNPJ may hold letters in its first twelve places, as those issued since July 2026 do. One digit
    repeated (111.111.111-11) has correct check digits and is nobody's.
    """
    bare = re.sub(r"[.\-/ ]", "", text).upper()
    if len(set(bare)) == 1:
        return None
    if re.fullmatch(r"[0-9]{11}", bare):
        return bare if _checks(bare, cpf=True) else None
    if re.fullmatch(r"[0-9A-Z]{12}[0-9]{2}", bare):
        return bare if _checks(bare, cpf=False) else None
    return None


def postal_code(text: str) -> str | None:
    """The CEP as NNNNN-NNN; None where it is none."""
    match = re.fullmatch(r"([0-9]{5})-?([0-9]{3})", text.strip())
    return f"{match[1]}-{match[2]}" if match else None


def _checks(bare: str, *, cpf: bool) -> bool:
    """Whether the last two characters are the check digits of those before them.

    Modulo 11, from the right: weights count up from 2 without end (CPF) or start again after 9 (CNPJ).
    """
    body = bare[:-2]
    for _ in range(2):
        weights = [2 + (place if cpf else place % 8) for place in range(len(body))]
        total = sum(
            (ord(sign) - ord("0")) * weight for sign, weight in zip(reversed(body), weights, strict=True)
        )
        body += str(0 if total % 11 < 2 else 11 - total % 11)
    return body == bare
