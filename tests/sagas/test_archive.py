"""What has ended goes to the archive whole, and comes back as it was; nobody else may take an event away."""

import datetime
import uuid

import psycopg
import pytest
from django.db import DatabaseError, connection, transaction

from sagas import engine, errors, models, reading
from sagas.console.models import BulkItem, BulkRun, Consent
from sagas.declaration.states import Direction
from sagas.engine import archive
from sagas.testing import clocks
from tests.sagas import harness, rules, test_inbox
from tests.sagas.console import admin_client
from tests.sagas.sample_app import saga as toys

ALL = datetime.timedelta(0)
DAY = datetime.timedelta(days=1)


@pytest.fixture
def ended(broker):
    return completed(broker)


def completed(broker, declared=toys.LOCAL, script=""):
    saga = harness.begin(declared, script)
    harness.drive(broker, saga)
    assert saga.finished_at
    return saga


def given_up(broker):
    """It was undone before the callback for its step `w` came."""
    saga = harness.begin(toys.BLIND_WAIT, "begin w")
    broker.deliver_all()
    engine.cancel(saga.pk, actor="customer", reason="too slow")
    harness.drive(broker, saga)
    return saga


def tell(saga, event_id="1"):
    key = f"{saga.pk}.w"
    return engine.receive(source="world", event_id=event_id, key=key, facts={"settled": True})


def rows_of(saga):
    """Everything of it in the live tables."""
    pk = saga.pk
    keys = [f"{pk}.{step.name}" for step in saga.definition.all_steps]
    found = {
        "saga": list(models.SagaInstance.objects.filter(pk=pk).values()),
        "steps": list(models.StepInstance.objects.filter(saga_id=pk).order_by("id").values()),
        "events": list(models.Event.objects.filter(saga_id=pk).order_by("id").values()),
        "signals": list(models.Signal.objects.filter(step_key__in=keys).order_by("id").values()),
        "consents": list(Consent.objects.filter(saga_id=pk).order_by("id").values()),
    }
    for row in found["saga"]:
        del row["updated_at"]  # That it was restored touches it.
    return found


def move():
    return archive.run(older_than=ALL)


def test_a_saga_leaves_the_live_tables_with_all_that_belongs_to_it_and_comes_back_as_it_was(broker):
    saga = given_up(broker)
    tell(saga)
    models.Signal.objects.update(wake_at=None, compensated_at=models.ClockTimestamp())
    Consent.objects.create(
        saga=saga, intervention="compensate", actor="olga", reason="why", state=Consent.State.REFUSED
    )
    before = rows_of(saga)
    assert all(before.values())

    assert move() == 1

    assert not any(rows_of(saga).values())
    row = models.ArchivedSaga.objects.get()
    assert (row.pk, row.key, row.state, row.ended_at) == (saga.pk, saga.key, "compensated", saga.finished_at)
    assert row.failed_kind == "cancelled"
    assert list(archive.broken()) == []

    assert archive.restore(saga.pk)
    assert rows_of(saga) == before
    assert not models.ArchivedSaga.objects.exists()
    rules.check(saga)


def test_what_is_read_from_the_archive_is_what_the_rows_were(ended):
    steps, events = list(ended.steps.values()), list(ended.events.values())
    move()

    found = reading.archived(ended.pk)

    assert found.saga.archived_at is not None
    with_columns = [field.attname for field in models.SagaInstance._meta.concrete_fields]
    assert all(getattr(found.saga, name) == getattr(ended, name) for name in with_columns)
    for instances, rows in ((found.saga.steps.all(), steps), (found.saga.events.all(), events)):
        assert [
            {name: getattr(one, name) for name in row} for one, row in zip(instances, rows, strict=True)
        ] == rows
    assert reading.in_bulk([ended.pk, uuid.uuid4()]).keys() == {ended.pk}


def test_only_what_ended_long_enough_ago_is_moved(broker):
    new, old = completed(broker), completed(broker)
    under_way, put_aside = harness.begin(toys.BLIND_WAIT, "begin w"), admin_client.attention()
    broker.deliver_all()
    admin_client.act(engine.close, put_aside, actor="olga", reason="settled by hand")
    for saga in (old, put_aside):
        clocks.pass_time(2 * DAY, saga.pk)

    assert archive.run(older_than=DAY) == 2

    assert set(models.ArchivedSaga.objects.values_list("pk", flat=True)) == {old.pk, put_aside.pk}
    assert set(models.SagaInstance.objects.values_list("pk", flat=True)) == {new.pk, under_way.pk}
    assert models.ArchivedSaga.objects.get(pk=put_aside.pk).closed_at is not None


def test_so_many_are_moved_and_no_more(broker):
    for _ in range(3):
        completed(broker, toys.ONE)

    assert archive.run(older_than=ALL, limit=2) == 2
    assert archive.run(older_than=ALL, seconds=0) == 0
    assert archive.run(older_than=ALL) == 1


def needed_by_a_late_callback(saga):
    models.Signal.objects.create(
        source="world", event_id="1", step_key=f"{saga.pk}.a", wake_at=models.ClockTimestamp()
    )


def needed_by_a_person(saga):
    models.Signal.objects.create(
        source="world", event_id="1", step_key=f"{saga.pk}.a", attention_at=models.ClockTimestamp()
    )


def needed_by_a_consent(saga):
    Consent.objects.create(saga=saga, intervention="compensate", actor="olga", reason="why")


def needed_by_a_bulk_run(saga):
    run = BulkRun.objects.create(intervention="resume", actor="olga", reason="why")
    BulkItem.objects.create(run=run, saga=saga, number=1)


NEEDS = [needed_by_a_late_callback, needed_by_a_person, needed_by_a_consent, needed_by_a_bulk_run]


@pytest.mark.parametrize("need", NEEDS)
def test_what_is_still_needed_stays_and_holds_up_nobody(broker, need, monkeypatch):
    monkeypatch.setattr(archive, "BATCH", 1)
    needed, other = completed(broker), completed(broker)
    need(needed)

    assert move() == 1

    assert models.SagaInstance.objects.get().pk == needed.pk
    assert models.ArchivedSaga.objects.get().pk == other.pk


def test_a_finished_turn_of_a_bulk_run_still_names_its_saga(ended):
    run = BulkRun.objects.create(intervention="resume", actor="olga", reason="why")
    BulkItem.objects.create(run=run, saga=ended, number=1, state=BulkItem.State.HELPED)

    assert move() == 1

    assert BulkItem.objects.get().saga.key == ended.key
    (item,) = BulkItem.objects.prefetch_related("saga")
    with_no_more_statements = item.saga
    assert with_no_more_statements.archived_at is not None


def test_a_saga_that_somebody_holds_is_passed_over(ended):
    settings = connection.settings_dict
    with psycopg.connect(
        host=settings["HOST"], port=settings["PORT"], user=settings["USER"], dbname=settings["NAME"]
    ) as session:
        session.execute("SELECT 1 FROM sagas_saga FOR UPDATE")
        assert move() == 0
    assert move() == 1


def test_where_the_count_is_wrong_nothing_of_that_saga_is_moved_and_the_others_are(
    broker, monkeypatch, caplog
):
    """Somebody deletes a step under the archiver's eyes."""
    ended, other = completed(broker), completed(broker)
    build = archive.documents.build

    def meanwhile(**rows):
        if rows["saga"]["id"] == ended.pk:
            models.StepInstance.objects.filter(saga_id=ended.pk, name="c").delete()
        return build(**rows)

    monkeypatch.setattr(archive.documents, "build", meanwhile)

    assert move() == 1

    assert f"saga {ended.pk} could not be archived" in caplog.text
    assert models.ArchivedSaga.objects.get().pk == other.pk
    assert ended.steps.count() == 3
    assert ended.events.count() > 3


def test_nobody_but_the_archiver_takes_an_event_away(ended):
    for saying in ("", "SET LOCAL sagas.moving = 'on';"):
        with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
            execute(f"{saying} DELETE FROM sagas_event")
    assert ended.events.exists()


def test_an_archived_saga_is_neither_changed_nor_deleted(ended):
    move()
    for statement in (
        "DELETE FROM sagas_archive",
        "SET LOCAL sagas.moving = 'on'; DELETE FROM sagas_archive",
        "UPDATE sagas_archive SET document = ''",
        "SET LOCAL sagas.striking = 'on'; UPDATE sagas_archive SET digest = ''",
        "TRUNCATE sagas_archive",
        f"TRUNCATE {archive.months()[-1].table}",
    ):
        with pytest.raises(DatabaseError, match="is refused"), transaction.atomic():
            execute(statement)

    with transaction.atomic():
        execute("SET LOCAL sagas.striking = 'on'; UPDATE sagas_archive SET document = ''")
    ((row, why),) = archive.broken()
    assert (row.pk, "opened" in why) == (ended.pk, True)


def test_a_forged_event_is_found(ended):
    move()
    row = models.ArchivedSaga.objects.get()
    document = archive.documents.unpack(bytes(row.document), row.dictionary)
    document["events"][1]["to_state"] = "skipped"
    with transaction.atomic():
        execute("SET LOCAL sagas.striking = 'on'")
        models.ArchivedSaga.objects.update(document=archive.documents.pack(document))

    assert [(found.pk, why) for found, why in archive.broken()] == [
        (ended.pk, "Its events are not those that were archived: one was changed, left out or put elsewhere.")
    ]


# --- A live system ---------------------------------------------------------------------------------


def test_a_callback_that_comes_after_the_move_is_undone_as_ever(broker):
    saga = given_up(broker)
    move()

    signal = tell(saga)

    assert signal.fate == "late"
    assert move() == 0  # While it is being undone.
    engine.sweep()
    broker.deliver_all()
    signal.refresh_from_db()
    assert signal.compensated_at is not None
    assert harness.kinds(saga, "w")[-1] == "signal.compensated"
    saga.refresh_from_db()
    rules.check(saga)
    assert move() == 1


def test_a_payment_that_lands_for_an_archived_saga_that_was_put_aside_is_undone_too(broker):
    saga = test_inbox.put_aside(broker, "begin w, fail undo w, undo w")
    move()

    assert tell(saga).fate == "late"


def test_a_callback_that_came_before_the_move_is_known_again_after_it(broker):
    saga = completed(broker, toys.LOCAL_WAIT)
    first = engine.receive(source="world", event_id="7", key=f"{saga.pk}.a")
    assert first.fate == "noted"
    move()

    again = engine.receive(source="world", event_id="7", key=f"{saga.pk}.a")

    assert (again.pk, again.fate, models.Signal.objects.count()) == (first.pk, "noted", 1)


def test_a_callback_about_nothing_is_told_apart_from_one_about_an_archived_saga(ended):
    move()

    unknown = engine.receive(source="world", event_id="1", key=f"{uuid.uuid4()}.a")
    known = engine.receive(source="world", event_id="2", key=f"{ended.pk}.a")

    assert (unknown.fate, known.fate) == ("unmatched", "noted")


def test_an_archived_saga_is_refused_to_owners_and_operators_with_a_clear_word(ended):
    move()

    with pytest.raises(errors.TooLate, match="in the archive"):
        engine.cancel(ended.pk, actor="alice", reason="no")
    with pytest.raises(errors.SagaError, match="in the archive"):
        engine.hold(ended.pk, seen=engine.look(ended.pk), actor="olga", reason="wait")
    assert models.ArchivedSaga.objects.get().pk == ended.pk


def test_a_message_of_old_finds_nothing_to_do(ended):
    move()

    left = engine.perform(ended.pk, epoch=1, step="a", direction=Direction.FORWARD)

    assert left.next is engine.Next.STOP


def test_once_a_saga_is_back_its_events_are_guarded_again_in_the_same_transaction(ended):
    move()
    with transaction.atomic():
        archive.restore(ended.pk)
        with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
            execute("DELETE FROM sagas_event")
    assert ended.events.exists()


# --- The task --------------------------------------------------------------------------------------


def test_the_task_moves_and_forgets_as_the_settings_say(broker, settings):
    from sagas import tasks

    old, new = completed(broker), completed(broker)
    clocks.pass_time(70 * DAY, old.pk)
    settings.SAGAS_ARCHIVE_AFTER = None
    tasks.archive_what_has_ended()
    assert not models.ArchivedSaga.objects.exists()

    settings.SAGAS_ARCHIVE_AFTER = 30 * DAY
    tasks.archive_what_has_ended()
    assert [one.pk for one in models.ArchivedSaga.objects.all()] == [old.pk]

    settings.SAGAS_ARCHIVE_KEEP = 30 * DAY
    tasks.archive_what_has_ended()
    assert not models.ArchivedSaga.objects.exists()
    assert [one.pk for one in models.SagaInstance.objects.all()] == [new.pk]


# --- Partitions ------------------------------------------------------------------------------------


def test_old_months_are_forgotten_whole(broker):
    old, new = completed(broker), completed(broker)
    clocks.pass_time(70 * DAY, old.pk)
    move()
    months = archive.months()
    assert [month.sagas for month in months if month.sagas] == [1, 1]

    long_ago = models.database_now() - 70 * DAY
    finished = BulkRun.objects.create(intervention="resume", actor="olga", reason="why", finished_at=long_ago)
    BulkItem.objects.create(run=finished, saga=new, number=1, state=BulkItem.State.HELPED)
    BulkRun.objects.create(intervention="resume", actor="olga", reason="why")
    for number, settled_at in enumerate((long_ago, None)):
        models.Signal.objects.create(
            source="world", event_id=str(number), step_key="", fate=models.Signal.Fate.UNREADABLE,
            attention_at=long_ago, settled_at=settled_at, settled_by="olga", settlement="seen to",
        )  # fmt: skip

    gone = archive.forget(before=months[-1].first)

    assert gone == 1
    assert [run.finished_at for run in BulkRun.objects.all()] == [None]
    assert [signal.settled_at for signal in models.Signal.objects.all()] == [None]
    assert [one.pk for one in models.ArchivedSaga.objects.all()] == [new.pk]
    assert not archive.restore(old.pk)
    assert [month.first for month in archive.months()] == [months[-1].first]


def test_an_id_is_looked_for_in_no_month_before_it_was_made(broker):
    old, new = completed(broker), completed(broker)
    clocks.pass_time(70 * DAY, old.pk)
    move()

    plan = models.ArchivedSaga.around([new.pk]).explain()

    assert archive.months()[-1].table in plan
    assert archive.months()[0].table not in plan


def execute(sql):
    with connection.cursor() as cursor:
        cursor.execute(sql)
