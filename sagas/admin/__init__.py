"""The operator's console: what happened to a saga, what comes next, who must act, and the means to act.

Other rooms add to it through `sagas.panels`; the engine itself knows none of them.
"""

from sagas.admin import callbacks as callbacks
from sagas.admin import rows as rows
from sagas.admin import runs as runs
from sagas.admin import saga as saga
