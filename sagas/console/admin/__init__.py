"""The operator's console: what happened to a saga, what comes next, who must act, and the means to act.

Other apps add to it through `sagas.console.panels`; the engine itself knows none of them.
"""

from sagas.console.admin import archived as archived
from sagas.console.admin import callbacks as callbacks
from sagas.console.admin import rows as rows
from sagas.console.admin import runs as runs
from sagas.console.admin import saga as saga
