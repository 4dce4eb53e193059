"""The benchmark's shop is a project of its own, whose workers start."""

import subprocess
import sys

from saga_project.local import runfile


def test_the_workers_of_the_benchmark_find_what_they_load(environment):
    modules = "benchmarks.shop.tasks, benchmarks.guarantees, saga_project.admin"
    loaded = f"import django; django.setup(); import {modules}"

    run = subprocess.run(
        [sys.executable, "-c", loaded],
        cwd=runfile.ROOT,
        env=environment | {"DJANGO_SETTINGS_MODULE": "benchmarks.settings"},
        capture_output=True,
        text=True,
    )

    assert (run.returncode, run.stderr) == (0, "")
