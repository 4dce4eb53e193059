"""Submits an order for each line that comes in, and answers each: the other end of `compare.Peer.submit`."""

import collections.abc
import sys


def serve(submit: collections.abc.Callable[[str], object]) -> None:
    """Until nobody asks any more."""
    print("ready", flush=True)
    for line in sys.stdin:
        submit(line.strip())
        print("ok", flush=True)
