"""The test kit that ships with the engine: for its own tests, and for those of your sagas.

- `scripts`: what a saga does, line by line, rehearsed from its declaration alone. Pure.
- `memory_transport`: messages in memory, lost, doubled and out of order by a seed; it plays a saga until it
  rests.
- `clocks`: time that passes when the test says so.
- `cases`: the base of tests that commit.
- `crashes`: a process that dies at its n-th commit.
- `trials`: all that may go wrong with a saga of yours, one test each; and what its functions promise.
- `plugin`: the pytest plugin, with the fixture `trial`.
"""

from sagas.testing.scripts import answers, lines, rehearse

__all__ = ["answers", "lines", "rehearse"]
