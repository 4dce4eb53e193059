"""The test kit that ships with the engine: for its own tests, and for those of your sagas.

- `scripts`: what a saga does, line by line, rehearsed from its declaration alone. Pure.
- `memory_transport`: a transport in memory that loses, doubles and reorders messages by a seed.
- `clocks`: time that passes when the test says so.
- `cases`: the base of tests that commit.
- `crashes`: a process that dies at its n-th commit.
"""

from sagas.testing.scripts import answers, lines, rehearse

__all__ = ["answers", "lines", "rehearse"]
