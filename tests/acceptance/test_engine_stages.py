"""Stages on real workers over a real broker: steps that are done at once, and a child for each element."""

import os

import pytest
from django.db import transaction

from sagas import engine, models
from tests.acceptance import processes
from tests.sagas import harness, rules
from tests.sagas.conftest import rows, transactional_db  # noqa: F401 - fixtures
from tests.sagas.sample_app import saga as toys
from tests.support import waiting

pytestmark = [pytest.mark.usefixtures("rows"), pytest.mark.timeout(240)]


def ended(*sagas):
    """Whether all of them have come to their ends."""
    return not models.SagaInstance.objects.filter(
        pk__in=[saga.pk for saga in sagas], finished_at=None
    ).exists()


@harness.both_ways_in_full
def test_local_steps_that_are_done_at_once_do_not_take_turns_and_children_run(tmp_path, inline):
    with processes.worker(tmp_path, SAGAS_INLINE=str(inline)):
        meeting = harness.begin(toys.MEETING)
        waiting.until(lambda: ended(meeting), "its end")
        sagas = [harness.begin(toys.A_FEW_AT_ONCE, inputs={"parcels": list(range(20))}) for _ in range(3)]
        waiting.until(lambda: ended(*sagas), "their end")

    meeting.refresh_from_db()
    assert meeting.state == "completed"
    rules.check(meeting)
    for saga in sagas:
        children = list(models.SagaInstance.objects.filter(parent_id=saga.pk))
        assert [child.state for child in children] == ["completed"] * 20
        for one in (saga, *children):
            rules.check(one)


CHILDREN = int(os.environ.get("CHILDREN", "150"))
"""More than are told at a time; `CHILDREN=1000` has as many as a list may have."""


@pytest.mark.timeout(900)
def test_many_children(tmp_path):
    with processes.worker(tmp_path):
        with transaction.atomic():
            saga = engine.begin(toys.EACH, key="many", inputs={"parcels": list(range(CHILDREN))})
        waiting.until(lambda: ended(saga), "its end", seconds=800)

    children = models.SagaInstance.objects.filter(parent_id=saga.pk)
    assert children.filter(state="completed").count() == CHILDREN
    assert not children.filter(tells_parent_at__isnull=False).exists()
