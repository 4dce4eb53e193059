"""Django for those peers that live in it: the benchmark's shop, and procrastinate where that is installed."""

import importlib.util

from benchmarks.plain_settings import *  # noqa: F403 - all of them, but for what follows

INSTALLED_APPS = ["benchmarks.shop"]
if importlib.util.find_spec("procrastinate"):
    INSTALLED_APPS.append("procrastinate.contrib.django")

PROCRASTINATE_IMPORT_PATHS = ["benchmarks.peers.procrastinate_peer"]
# The shop's own tasks are Celery's.
PROCRASTINATE_AUTODISCOVER_MODULE_NAME = "procrastinate_tasks"
