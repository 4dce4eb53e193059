"""The saga engine: declare a business transaction as a list of steps, each with its undo.

```python
from sagas import Retry, Saga, Step, Wait     # the declaration: pure, no Django, no broker
from sagas import DAY, HOUR, MINUTE           # its clocks are timedeltas: 2 * DAY
from sagas import engine                      # begin, cancel, receive: rows and rules
```
"""

from sagas.declaration.definition import (
    DAY,
    HOUR,
    MINUTE,
    SECOND,
    Approval,
    Child,
    ForEach,
    Parallel,
    Retry,
    Saga,
    Step,
    StepFunction,
    Wait,
)
from sagas.declaration.validation import BadDeclaration

__all__ = [
    "DAY",
    "HOUR",
    "MINUTE",
    "SECOND",
    "Approval",
    "BadDeclaration",
    "Child",
    "ForEach",
    "Parallel",
    "Retry",
    "Saga",
    "Step",
    "StepFunction",
    "Wait",
]
