"""A real Prometheus with the files of deploy/observability asks a real server of ours, and calls a person."""

import collections.abc
import contextlib
import datetime
import pathlib
import signal
import subprocess
from typing import Any

import httpx
import pytest
import yaml

from api.models import Scope
from saga_project.local import servers
from sagas import models
from tests.orders import web_server
from tests.orders.conftest import member
from tests.support import services, waiting

pytestmark = pytest.mark.django_db(transaction=True)

FILES = pathlib.Path(__file__).resolve().parents[2] / "deploy/observability/prometheus"


@contextlib.contextmanager
def running(place: pathlib.Path, target: str, secret: str) -> collections.abc.Iterator[str]:
    """Prometheus with our configuration, but for whom it asks and how often; the address of its API."""
    program = services.need("prometheus")
    configuration = yaml.safe_load((FILES / "prometheus.yml").read_text())
    configuration["global"] |= {"scrape_interval": "1s", "evaluation_interval": "1s"}
    configuration["rule_files"] = [str(FILES / name) for name in configuration["rule_files"]]
    configuration["alerting"].pop("alertmanagers")
    (scrape,) = configuration["scrape_configs"]
    scrape["scheme"] = "http"
    scrape["static_configs"] = [{"targets": [target]}]
    (place / scrape["authorization"]["credentials_file"]).write_text(secret)
    (place / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    port = servers.free_port()
    with (place / "log").open("wb") as log:
        process = subprocess.Popen(
            [program, "--config.file=prometheus.yml", f"--web.listen-address=127.0.0.1:{port}"],
            cwd=place,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield f"http://127.0.0.1:{port}/api/v1"
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def test_prometheus_asks_with_its_token_and_its_alerts_fire_of_our_rows(
    web: web_server.Web, tmp_path: pathlib.Path
) -> None:
    staff = member("prometheus", scope=Scope.STAFF, is_staff=True)
    now = models.database_now()
    saga = models.SagaInstance.objects.create(
        name="order-fulfilment", version=2, fingerprint="f", key="1", state="needs_attention",
        attention={"since": (now - datetime.timedelta(minutes=11)).isoformat()}, failure={"kind": "bug"},
    )  # fmt: skip

    with running(tmp_path, web.url.removeprefix("http://"), staff.secret) as prometheus:

        def alerts() -> dict[str, Any]:
            with contextlib.suppress(httpx.HTTPError):
                answer = httpx.get(f"{prometheus}/alerts", timeout=10, verify=False)
                if answer.status_code == 200:  # While it starts it says 503.
                    return {one["labels"]["alertname"]: one for one in answer.json()["data"]["alerts"]}
            return {}

        told = waiting.until(
            lambda: (found := alerts()).keys() >= {"SagaNeedsAttention", "SagaSweepMissing"} and found,
            "a saga needs a person for eleven minutes, and nobody sweeps",
        )
        assert told["SagaNeedsAttention"]["state"] == "firing"
        assert told["SagaNeedsAttention"]["labels"]["saga"] == "order-fulfilment"
        assert told["SagaNeedsAttention"]["annotations"] == {
            "summary": told["SagaNeedsAttention"]["annotations"]["summary"],
            "description": "The saga does not go on by itself. Nothing is lost, and its customer waits.",
            "runbook_url": "https://docs.example.com/docs/operations.html#saganeedsattention",
        }
        assert (
            "order-fulfilment needs a person (bug) for 11m"
            in told["SagaNeedsAttention"]["annotations"]["summary"]
        )
        assert told["SagaSweepMissing"]["state"] == "pending", "it fires when a minute has gone by"

        # A person has seen to it.
        models.SagaInstance.objects.filter(pk=saga.pk).update(state="running", attention=None, wake_at=now)
        waiting.until(lambda: (found := alerts()) and "SagaNeedsAttention" not in found, "the alert is over")
