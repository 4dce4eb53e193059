"""What docs/sandbox.md shows is what happens."""

import json
import re
import shutil
import subprocess

import pytest

from sandbox import bank, core, server
from tests.sandbox import process

TEXT = (process.ROOT / "docs" / "sandbox.md").read_text()
# What differs each time: the bank's ids, codes to pay with, times, and the year in a protocol.
VARYING = re.compile(r"ch_[0-9a-f]{32}|000201[^\"]*6304[0-9A-F]{4}|\d{4}-\d\d-\d\dT[\d:.]+Z|(?<=\"135)\d\d")


@pytest.mark.integration
@pytest.mark.skipif(not shutil.which("curl"), reason="the page is written for curl, which is not here")
def test_each_command_prints_what_the_page_says(data):
    blocks = re.findall(r"^```console\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    steps = [step for block in blocks for step in re.findall(r"^\$ (.*)\n(.*)\n", block, re.MULTILINE)]
    assert len(steps) >= 15

    with process.running(data) as running:
        for command, printed in steps:
            output = subprocess.run(
                ["bash", "-c", command],
                env={"SANDBOX_URL": running.url, "PATH": "/usr/bin:/bin"},
                capture_output=True,
                text=True,
                check=True,
                timeout=20,
            ).stdout
            assert masked(output) == masked(printed), command


def masked(text: str) -> dict:
    return json.loads(VARYING.sub("*", text))


def test_the_page_names_every_path_variable_token_and_fault():
    settings = {"WEBHOOK_TARGET", "WEBHOOK_RETRY_AFTER_S", "PIX_AUTOPAY_AFTER_S"}
    settings |= {"PAYMENTS_WEBHOOK_SECRETS", "SHIPPING_WEBHOOK_SECRETS"}
    settings |= {"CARRIER_PACE_S", "FISCAL_CANCEL_WINDOW_S", "SEED"}
    assert {field.upper() for field in core.Settings.__dataclass_fields__} == settings

    words = {path for _, path, _ in server.ROUTES} | settings | set(bank.Card)
    assert {word for word in words if word not in TEXT} == set()
