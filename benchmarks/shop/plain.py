"""The floor as people write it: a Celery application that is told its broker, and nothing else.

So it sends no events, takes eight messages ahead with two processes, acknowledges before it works, compresses
nothing and keeps no results. In one thing it is faster than Celery's defaults: it keeps its connection to
PostgreSQL, which by default is closed around every task. `python -m celery -A benchmarks.shop.plain`, with
`benchmarks.plain_settings`, so that nothing of this project's own application is loaded.
"""

import os
import urllib.parse

import celery
import django

# The chain's functions need the shop's models. Where the settings are those of the benchmark, that is done.
django.setup(set_prefix=False)

from benchmarks.shop import chains  # noqa: E402

QUEUE = "celery"

BROKER_URL = urllib.parse.urlsplit(os.environ["BROKER_URL"])._replace(path="/1").geturl()
"""Another database of the same Valkey, so that the workers of one system hear nothing of the other."""

# Not the current application: where it only publishes, that is this project's.
app = celery.Celery("plain", broker=BROKER_URL, set_as_current=False)
app.conf.update(CELERY_DB_REUSE_MAX=1_000_000_000)

CHAIN = chains.Chain(app, queue=QUEUE)
