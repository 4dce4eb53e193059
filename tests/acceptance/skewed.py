"""A process of Celery's whose machine has the wrong time: `python -m tests.acceptance.skewed SECONDS ...`."""

import datetime
import sys
import time

SKEW_S = float(sys.argv.pop(1))
_right, _Right = time.time, datetime.datetime


class Wrong(_Right):
    """What such a machine takes for the time."""

    @classmethod
    def now(cls, tz=None):
        return _Right.fromtimestamp(time.time(), tz)

    @classmethod
    def utcnow(cls):
        return _Right.fromtimestamp(time.time(), datetime.UTC).replace(tzinfo=None)


def main():
    time.time = lambda: _right() + SKEW_S
    # Before anything of Celery's is imported, which keeps the name.
    datetime.datetime = Wrong
    from celery import __main__

    sys.argv[0] = "celery"
    __main__.main()


if __name__ == "__main__":
    main()
