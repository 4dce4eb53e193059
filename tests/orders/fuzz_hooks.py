"""What schemathesis needs to know to say something sensible: formats, and which products there are."""

import contextlib
import datetime
import re
from typing import Any
from urllib import parse

import schemathesis
from hypothesis import strategies as st

from orders import tax_ids

SKUS = [f"SKU-{n:03}" for n in range(100)]
PRINTABLE = st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs"))


def _with_check_digits(body: str) -> str:
    return next(text for n in range(100) if tax_ids.tax_id(text := f"{body}{n:02}"))


TAX_IDS = (
    st.from_regex(r"[0-9]{9}", fullmatch=True).filter(lambda body: len(set(body)) > 1).map(_with_check_digits)
)
instants = st.datetimes(
    datetime.datetime(1901, 1, 1), datetime.datetime(2199, 1, 1), timezones=st.just(datetime.UTC)
)
schemathesis.openapi.format("tax-id", TAX_IDS)
schemathesis.openapi.format("instant", instants.map(datetime.datetime.isoformat))
schemathesis.openapi.format("public-url", st.sampled_from(["https://example.com/hooks", "https://8.8.8.8/"]))
schemathesis.openapi.format(
    "email", st.from_regex(r"[a-z]{1,20}(\.[a-z]{1,9})?@[a-z]{1,20}\.(com|br|example)", fullmatch=True)
)


@schemathesis.hook
def map_body(context: Any, body: Any) -> Any:
    """Where a SKU could be one, let it be one of those that there are, each once."""
    with contextlib.suppress(TypeError, KeyError):
        for line, sku in zip(body["lines"], SKUS, strict=False):
            if isinstance(line["sku"], str) and re.fullmatch(r"[\w -]{1,32}", line["sku"].strip()):
                line["sku"] = sku
    return body


@schemathesis.hook
def map_query(context: Any, query: Any) -> Any:
    """Nobody has all day."""
    if query and isinstance(query.get("wait"), int) and 1 < query["wait"] <= 30:
        query["wait"] = 1
    return query


@schemathesis.hook
def filter_query(context: Any, query: Any) -> bool:
    """A request line of more than four kilobytes never reaches the API: the web server answers 414."""
    return len(parse.urlencode(query or {}, doseq=True)) < 3000
