"""Identifiers that sort by time: UUID version 7 (RFC 9562), until Python 3.14 brings its own."""

import datetime
import os
import time
import uuid


def uuid7() -> uuid.UUID:
    """A new UUIDv7: 48 bits of Unix milliseconds, then chance."""
    milliseconds = time.time_ns() // 1_000_000
    chance = int.from_bytes(os.urandom(10), "big")
    value = milliseconds << 80 | chance
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return uuid.UUID(int=value)


def made_at(value: uuid.UUID) -> datetime.datetime | None:
    """When an identifier of version 7 was made, by the clock of who made it; None for another's."""
    if value.version != 7:
        return None
    try:
        return datetime.datetime.fromtimestamp((value.int >> 80) / 1000, datetime.UTC)
    except (ValueError, OverflowError, OSError):
        return None  # No year that there is.
