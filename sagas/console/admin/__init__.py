"""The operator's console: what happened to a saga, what comes next, who must act, and the means to act.

Other apps add to it through `sagas.console.panels`; the engine itself knows none of them. An admin site of a
project's own may be made of `overview`, which is what a first page shows, `Moments`, a ModelAdmin that shows
times as the console does, and `Bounded`, a paginator that does not count its table to the end.
"""

# First, because a site of the project's own may want them when the others register with it.
from sagas.console.admin.moments import Moments as Moments  # isort: skip
from sagas.console.admin.paging import Bounded as Bounded  # isort: skip

from sagas.console.admin import archived as archived
from sagas.console.admin import callbacks as callbacks
from sagas.console.admin import rows as rows
from sagas.console.admin import runs as runs
from sagas.console.admin import saga as saga
from sagas.console.admin.dashboard import context as overview

__all__ = ["Bounded", "Moments", "overview"]
