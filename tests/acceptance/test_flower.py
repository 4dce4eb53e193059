"""Flower shows the same tasks, leads back to it, and can harm nothing."""

import contextlib
import os
import re
import uuid

import httpx
import pytest

from saga_project import celery
from saga_project.local import servers
from sagas import conf, engine
from sagas.testing import clocks
from tests.acceptance import processes
from tests.sagas import harness
from tests.sagas.conftest import rows, transactional_db  # noqa: F401 - fixtures
from tests.sagas.sample_app import saga as toys
from tests.support import waiting


def answer(url):
    with contextlib.suppress(httpx.TransportError):
        response = httpx.get(url, verify=False)
        return response if response.status_code == 200 else None
    return None


@contextlib.contextmanager
def flower(*arguments, **more):
    port = servers.free_port()
    url = f"http://127.0.0.1:{port}"
    config = f"--conf={os.path.abspath('saga_project/flowerconfig.py')}"
    with processes.celery("flower", "--address=127.0.0.1", f"--port={port}", config, *arguments, **more):
        waiting.until(lambda: answer(f"{url}/healthcheck"), "Flower starts")
        yield url


@pytest.mark.usefixtures("rows")
def test_a_task_leads_to_the_page_of_its_saga_and_cannot_be_touched():
    saga_id, task_id = str(uuid.uuid4()), str(uuid.uuid4())
    web = "http://127.0.0.1:8000"
    with flower("--read_only=True", WEB_URL=web) as url:

        def told():
            # What a worker says when a message comes; said again, for Flower may not have listened yet.
            with (
                celery.app.connection_for_write() as broker,
                celery.app.events.Dispatcher(broker, hostname="payments@test") as events,
            ):
                events.send(
                    "task-received", uuid=task_id, name="order-fulfilment.take-payment", args="()",
                    kwargs=repr({"saga_id": saga_id, "epoch": 1, "odd": "<b>"}), retries=0,
                )  # fmt: skip
            return answer(f"{url}/task/{task_id}")

        page = waiting.until(told, "Flower hears of the task").text
        revoked = httpx.post(f"{url}/api/task/revoke/{task_id}?terminate=true")

    assert "order-fulfilment.take-payment" in page
    address = f"{web}/admin/sagas/sagainstance/{saga_id}/change/"
    assert f'<a href="{address}">{address}</a>' in page
    assert "<b>" not in page, "arguments are text, whatever they look like"
    assert revoked.status_code in (401, 403), "read-only means: nothing can be revoked from here"


def test_ticks_and_probes_do_not_drown_the_steps():
    celery.app.loader.import_default_modules()
    told = {name for name, task in celery.app.tasks.items() if task.send_events is not False}

    assert not told & {conf.SWEEP_TASK, conf.ARCHIVE_TASK, conf.BULK_TASK, "sagas.probe-returned"}
    assert "order-fulfilment.take-payment" in told


@pytest.mark.usefixtures("rows")
@pytest.mark.timeout(300)
def test_revoking_and_terminating_a_step_in_flower_harms_nothing():
    """A Flower that may write, as ours may not, cuts a step off in the middle: it is done once."""
    queues = ",".join(processes.toys(without=[conf.SWEEP_QUEUE]))
    worker = ("worker", f"--queues={queues}", "--concurrency=1", "--hostname=toys@test")
    with processes.celery(*worker), flower(FLOWER_UNAUTHENTICATED_API="true") as url:
        saga = harness.begin(toys.REMOTE, "do a, stall b")

        def at_b():
            row = saga.steps.get(name="b")
            return row.flower_task_id if row.state == "running" else None

        def revoked():
            # Flower learns of its workers by asking them; until then it knows nobody to tell.
            return httpx.post(f"{url}/api/task/revoke/{task_id}?terminate=true&signal=SIGKILL").is_success

        task_id = waiting.until(at_b, "a worker is at b")
        waiting.until(revoked, "Flower passes it on")
        clocks.pass_time(saga.steps.get(name="b").lease_until - saga.steps.get(name="b").started_at, saga.pk)

        def completed():
            engine.sweep()
            saga.refresh_from_db()
            return saga.state == "completed"

        waiting.until(completed, "the saga goes on")

    made = harness.books(saga)
    assert made == {"a": (1, 0), "b": (1, 0), "c": (1, 0)}
    kinds = list(saga.events.filter(subject="b").values_list("kind", flat=True))
    assert "step.unknown" in kinds, "what was cut off may have happened, and is said so"
    assert re.match(r"[0-9a-f-]{36}$", task_id)
