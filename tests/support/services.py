"""Servers that come from the operating system and not as Python packages: `make services` installs them."""

import os
import shutil

import pytest


def need(program: str) -> str:
    """Where the program is. Without it the test is skipped, but never in CI.

    Arguments:
        program: its name, such as `promtool`.
    """
    if found := shutil.which(program):
        return found
    missing = f"{program} is not installed: `make services` does, from Debian"
    if os.environ.get("CI"):
        pytest.fail(missing)
    pytest.skip(missing)
