"""Writes `client.py`, for programs that do not await, from `async_client.py`; as httpcore does for itself."""

import pathlib
import re

PACKAGE = pathlib.Path(__file__).resolve().parent / "src" / "saga_orders"
WORDS = [
    (
        r'^"""The client\..*?"""$',
        '"""The client. Made of `async_client.py` by `make client`: edit that one."""',
    ),
    (r", for a program that awaits\.", "."),
    (r"^import asyncio\n", ""),
    (r"asyncio\.sleep", "time.sleep"),
    (r"\basync (def|with|for)\b", r"\1"),
    (r"\bawait ", ""),
    (r"\bAsync(Client|Iterator)\b", r"\1"),
    (r"\b__a(enter|exit)__\b", r"__\1__"),
    (r"\ba(close|read|iter_bytes)\b", r"\1"),
    (r"for (\w+) in page\.results:\n\s+yield \1$", "yield from page.results"),
]


def sync(source: str) -> str:
    """The same without a word of awaiting."""
    for pattern, word in WORDS:
        source = re.sub(pattern, word, source, flags=re.MULTILINE)
    # Import order: Iterable comes before Iterator.
    return source.replace("import Iterator, Iterable, Mapping", "import Iterable, Iterator, Mapping")


if __name__ == "__main__":
    (PACKAGE / "client.py").write_text(sync((PACKAGE / "async_client.py").read_text()))
