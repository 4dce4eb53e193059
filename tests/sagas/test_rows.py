"""What the database itself refuses, whoever asks: appended events stay, and no row contradicts itself."""

import pytest
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.db.models.functions import Now

from sagas import errors, models
from sagas.declaration import states
from sagas.engine import dispatching, store, transport
from sagas.engine.kinds import EventKind
from tests.sagas import harness
from tests.sagas.sample_app import saga as toys


@pytest.fixture
def saga(broker):
    return harness.begin(toys.LOCAL)


def test_an_event_is_never_changed_and_never_deleted(saga):
    for forget in (
        lambda: saga.events.update(reason="it was not me"),
        lambda: saga.events.all().delete(),
        lambda: execute("UPDATE sagas_event SET actor = 'nobody'"),
        lambda: execute("DELETE FROM sagas_event"),
        lambda: saga.delete(),
    ):
        with pytest.raises(DatabaseError), transaction.atomic():
            forget()

    assert saga.events.get().actor == "test"


def execute(sql):
    with connection.cursor() as cursor:
        cursor.execute(sql)


SENSELESS = {
    "saga_state_is_known|saga_finished_at_iff_final": {"state": "confused"},
    "saga_direction_is_known": {"direction": 0},
    "saga_finished_at_iff_final": [{"state": "completed"}, {"finished_at": Now(), "wake_at": None}],
    "saga_live_has_wake_at": [{"wake_at": None}, {"state": "completed", "finished_at": Now()}],
}


@pytest.mark.parametrize("name", SENSELESS)
def test_a_saga_that_contradicts_itself_is_refused(saga, name):
    given = SENSELESS[name]
    for fields in given if isinstance(given, list) else [given]:
        with pytest.raises(IntegrityError, match=name), transaction.atomic():
            models.SagaInstance.objects.filter(pk=saga.pk).update(**fields)


def test_a_step_in_no_known_state_is_refused(saga):
    with pytest.raises(IntegrityError, match="step_state_is_known"), transaction.atomic():
        saga.steps.update(state="confused")


def test_a_step_is_there_once(saga):
    for fields in ({"position": 0, "name": "z"}, {"position": 9, "name": "a"}):
        with pytest.raises(IntegrityError), transaction.atomic():
            models.StepInstance.objects.create(saga=saga, **fields)


def test_one_live_saga_has_a_key(saga):
    with pytest.raises(IntegrityError, match="saga_one_live_per_key"), transaction.atomic():
        models.SagaInstance.objects.create(
            name=saga.name, version=1, fingerprint="", key=saga.key, wake_at=Now(), facts={}
        )


def test_a_callback_is_there_once(rows):
    models.Signal.objects.create(source="world", event_id="1", step_key="k")

    with pytest.raises(IntegrityError), transaction.atomic():
        models.Signal.objects.create(source="world", event_id="1", step_key="other")


def test_a_transition_that_is_not_in_the_table_is_refused_before_it_is_written(saga):
    with transaction.atomic():
        work = store.lock(saga.pk)
        with pytest.raises(errors.NotAllowed, match="does not go"):
            work.transition(states.SagaState.COMPENSATED, EventKind.SAGA_COMPENSATED)
        with pytest.raises(errors.NotAllowed, match="does not go"):
            work.transition_step(states.StepState.UNDO_FAILED, EventKind.UNDO_FAILED)


def test_a_row_that_changed_meanwhile_is_not_written_and_neither_is_the_event(saga):
    work = read(saga)
    saga.steps.filter(name="a").update(state="done")
    work.transition_step(states.StepState.RUNNING, EventKind.STEP_STARTED)

    with pytest.raises(errors.LostRace), transaction.atomic():
        work.commit()

    assert (saga.steps.get(name="a").state, saga.events.count()) == ("done", 1)


def test_the_effects_of_a_commit_come_after_the_rows_and_a_rolled_back_one_has_none(saga):
    seen = []

    def hook(*, key):
        seen.append(("hook", models.SagaInstance.objects.get(pk=saga.pk).cancel_reason))

    class Recording:
        def send(self, dispatch):
            seen.append(("sent", dispatch.epoch))

    def commit():
        with transaction.atomic():
            work = store.lock(saga.pk)
            work.set(cancel_reason="written")
            work.send(dispatching.dispatch_of(work.saga))
            work.call(hook)
            work.commit()
            seen.append(("committed", not work.collected))

    with transport.use(Recording()):
        commit()
        assert seen == [("hook", "written"), ("committed", True), ("sent", 1)]
        seen.clear()
        with transaction.atomic():
            commit()
            transaction.set_rollback(True)
        assert ("sent", 1) not in seen


def read(saga):
    with transaction.atomic():
        return store.lock(saga.pk)


def test_final_states_have_no_way_out():
    assert {state.value for state in states.FINAL} == {"completed", "compensated"}
    assert states.STEP_TRANSITIONS[states.StepState.UNDONE] == set()
