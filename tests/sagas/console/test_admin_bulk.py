"""Bulk runs: in waves that grow while it goes well, and stop by themselves when it does not."""

import concurrent.futures
import threading

import pytest
from django.db import connection, transaction
from django.urls import reverse

from sagas import errors, models
from sagas.console import bulk, failure_groups
from sagas.console.models import BulkItem, BulkRun, FailureNote
from sagas.engine import store, transport
from sagas.testing import clocks, memory_transport
from tests.sagas import harness
from tests.sagas.console import admin_client
from tests.sagas.sample_app import saga as toys

pytestmark = pytest.mark.usefixtures("rows")

GETS_BETTER = "fail a, fail undo a, needs attention, undo a"
STAYS_BAD = "fail a, 9x fail undo a"


def standing(script):
    """A saga that stands before a person; resumed, it goes as the script says."""
    posted = memory_transport.MemoryTransport()
    with transport.use(posted):
        saga = harness.begin(toys.REMOTE, script)
        posted.deliver_all()
    saga.refresh_from_db()
    if saga.state != "needs_attention":
        admin_client.finish(saga)
    assert saga.state == "needs_attention"
    return saga


def drive(run, rounds=30):
    """Sweep after sweep, as the beat would."""
    posted = memory_transport.MemoryTransport()
    waves = []
    with transport.use(posted):
        for _ in range(rounds):
            bulk.drive()
            run.refresh_from_db()
            sent = run.items.filter(state=BulkItem.State.SENT).count()
            if sent:
                waves.append(sent)
            posted.deliver_all()
            if run.state != BulkRun.State.RUNNING:
                return waves
    raise AssertionError(f"the run does not come to rest: {run.state}, wave {run.wave}")


def begin(sagas, intervention="resume", actor="olga"):
    chosen = bulk.look(saga.pk for saga in sagas)
    return bulk.begin(chosen=chosen, intervention=intervention, actor=actor, reason="Ticket 12")


def states(run):
    return [item.state for item in run.items.order_by("number")]


def test_waves_grow_while_it_helps():
    sagas = [standing(GETS_BETTER) for _ in range(8)]

    run = begin(sagas)
    waves = drive(run)

    assert waves == [1, 5, 2]
    assert run.state == BulkRun.State.FINISHED
    assert states(run) == ["helped"] * 8
    for saga in sagas:
        saga.refresh_from_db()
        assert saga.state == "compensated"
        assert saga.events.get(kind="operator.retry").reason == "Ticket 12"


def test_the_first_that_fails_again_stops_the_run_and_the_rest_is_left_alone():
    sagas = [standing(STAYS_BAD), *(standing(GETS_BETTER) for _ in range(6))]

    run = begin(sagas)
    waves = drive(run)

    assert waves == [1]
    assert run.state == BulkRun.State.STOPPED
    assert "1 of 1" in run.stopped_why
    assert states(run) == ["failed"] + ["pending"] * 6
    assert not sagas[3].events.filter(kind="operator.retry").exists()


def test_a_stopped_run_goes_on_with_small_waves():
    sagas = [standing(STAYS_BAD), *(standing(GETS_BETTER) for _ in range(6))]
    run = begin(sagas)
    drive(run)

    bulk.go_on(run.pk, actor="olga")
    run.refresh_from_db()
    waves = drive(run)

    assert waves == [1, 5]
    assert (run.state, states(run)[1:]) == (BulkRun.State.FINISHED, ["helped"] * 6)


def test_a_later_wave_that_fails_too_often_stops_the_run():
    sagas = [
        standing(GETS_BETTER),
        *(standing(STAYS_BAD) for _ in range(2)),
        *(standing(GETS_BETTER) for _ in range(10)),
    ]

    run = begin(sagas)
    drive(run)

    assert run.state == BulkRun.State.STOPPED
    assert (run.wave, states(run).count("failed"), states(run).count("pending")) == (2, 2, 7)


def test_a_saga_to_which_it_does_not_apply_is_left_alone_and_shown():
    done = admin_client.play(toys.ONE, "do a, completed")

    run = begin([done, standing(GETS_BETTER)])
    drive(run)

    assert run.state == BulkRun.State.FINISHED
    assert states(run) == ["refused", "helped"]
    assert (
        "goes on by itself" in run.items.get(number=1).message or "ended" in run.items.get(number=1).message
    )


def test_sagas_are_compensated_in_bulk():
    waiting = [admin_client.waiting() for _ in range(3)]

    run = begin(waiting, intervention="compensate")
    drive(run)

    assert states(run) == ["helped"] * 3
    for saga in waiting:
        saga.refresh_from_db()
        assert saga.state == "compensated"


def test_what_nothing_is_seen_of_in_time_counts_as_failed():
    saga = standing(GETS_BETTER)
    run = begin([saga, standing(GETS_BETTER)])
    bulk.drive()  # Makes the wave.
    bulk.drive()  # Sends it; nobody carries the message.
    assert states(run) == ["sent", "pending"]

    BulkItem.objects.filter(run=run, number=1).update(
        sent_at=models.database_now() - bulk.PATIENCE - clocks.A_MOMENT
    )
    bulk.drive()

    run.refresh_from_db()
    assert (run.state, states(run)) == (BulkRun.State.STOPPED, ["failed", "pending"])


def test_a_run_needs_sagas_and_an_intervention_that_is_one_for_bulk():
    for ids, intervention in (
        ([], "resume"),
        ([admin_client.waiting().pk], "close"),
        ([admin_client.waiting().pk], "nonsense"),
    ):
        with pytest.raises(errors.NotAllowed):
            bulk.begin(chosen=bulk.look(ids), intervention=intervention, actor="olga", reason="x")


def test_the_whole_way_through_the_pages():
    sagas = [standing(GETS_BETTER) for _ in range(3)]
    operator = admin_client.operator()

    chosen = operator.post(
        "/admin/sagas/sagainstance/",
        {"action": "bulk_resume", "_selected_action": [str(saga.pk) for saga in sagas]},
    )
    assert chosen["Location"] == reverse("admin:sagas_console_bulkrun_begin")
    preview = operator.get(chosen["Location"])
    assert "is done to 3 sagas, in waves" in admin_client.text(preview)

    choice = preview.context["choice"]
    begun = operator.post(chosen["Location"], {"choice": choice, "reason": "Ticket 12"})
    run = BulkRun.objects.get()
    assert begun["Location"] == reverse("admin:sagas_console_bulkrun_change", args=[run.pk])
    assert operator.get(reverse("admin:sagas_console_bulkrun_live", args=[run.pk]))["X-Saga-Live"] == "1"
    drive(run)

    page = admin_client.text(admin_client.viewer().get(begun["Location"]))
    assert "3 of 3 sagas are settled" in page
    assert page.count("Helped") >= 3


def test_a_whole_failure_group_is_resumed_from_its_page():
    sagas = {standing(GETS_BETTER).pk for _ in range(2)}
    (group,) = failure_groups.groups(failure_groups.ATTENTION)
    operator = admin_client.operator()

    operator.post(reverse("admin:sagas_groups"), {"signature": group.signature, "text": "See ticket 12"})
    operator.post(reverse("admin:sagas_groups"), {"signature": group.signature, "intervention": "resume"})
    assert "What is known of this failure See ticket 12" in admin_client.text(
        operator.get(reverse("admin:sagas_console_bulkrun_begin"))
    )
    begin_page = reverse("admin:sagas_console_bulkrun_begin")
    choice = operator.get(begin_page).context["choice"]
    operator.post(begin_page, {"choice": choice, "reason": "The bank is back"})

    assert {item.saga_id for item in BulkRun.objects.get().items.all()} == sagas


def test_what_is_known_of_a_failure_is_said_wherever_its_sagas_are_chosen():
    known, other = [standing(GETS_BETTER) for _ in range(2)], admin_client.attention()
    group = next(g for g in failure_groups.groups(failure_groups.ATTENTION) if g.count == 2)
    said = {"text": "See ticket 12", "actor": "olga", "at": known[0].created_at}
    FailureNote.objects.update_or_create(signature=group.signature, defaults=said)
    operator, begin_page = admin_client.operator(), reverse("admin:sagas_console_bulkrun_begin")

    for path, chosen, said in (
        ("", known, "What is known of this failure See ticket 12"),
        (f"?group=attention:{group.signature}", known[:1], "What is known of this failure See ticket 12"),
        ("", [*known, other], "What is known of the failure of 2 of them See ticket 12"),
    ):
        ticked = {"action": "bulk_resume", "_selected_action": [str(saga.pk) for saga in chosen]}
        operator.post(f"/admin/sagas/sagainstance/{path}", ticked)
        assert said in admin_client.text(operator.get(begin_page))

    operator.post(
        "/admin/sagas/sagainstance/", {"action": "bulk_resume", "_selected_action": [str(other.pk)]}
    )
    assert "ticket 12" not in admin_client.text(operator.get(begin_page))


def test_a_run_is_stopped_by_hand():
    run = begin([standing(GETS_BETTER) for _ in range(2)])

    admin_client.operator().post(
        reverse("admin:sagas_console_bulkrun_change", args=[run.pk]), {"act": "stop", "reason": "lunch"}
    )
    bulk.drive()

    run.refresh_from_db()
    assert (run.state, run.stopped_why) == (BulkRun.State.STOPPED, "operator stopped it: lunch")
    assert states(run) == ["pending", "pending"]


def test_who_may_not_compensate_begins_no_run_that_does():
    saga, operator = admin_client.waiting(), admin_client.operator()
    operator.post(
        "/admin/sagas/sagainstance/", {"action": "bulk_compensate", "_selected_action": [str(saga.pk)]}
    )
    session = operator.session
    seen = {str(saga.pk): str(bulk.look([saga.pk])[saga.pk])}
    session["sagas-bulk"] = {"intervention": "compensate", "seen": seen, "choice": "x"}
    session.save()

    assert (
        operator.post(
            reverse("admin:sagas_console_bulkrun_begin"), {"choice": "x", "reason": "x"}
        ).status_code
        == 403
    )
    assert not BulkRun.objects.exists()


def test_a_run_that_moves_money_begins_when_a_second_person_agrees(settings):
    settings.SAGAS_FOUR_EYES = True
    supervisor, waiting = admin_client.supervisor(), admin_client.waiting()
    run = begin([waiting], intervention="compensate", actor="supervisor")
    bulk.drive()
    assert states(run) == ["pending"]
    page = reverse("admin:sagas_console_bulkrun_change", args=[run.pk])

    supervisor.post(page, {"act": "agree"})
    run.refresh_from_db()
    assert run.state == BulkRun.State.ASKED

    admin_client.supervisor("second").post(page, {"act": "agree"})
    run.refresh_from_db()
    drive(run)
    assert (run.state, run.approved_by, states(run)) == (BulkRun.State.FINISHED, "second", ["helped"])


def test_a_task_of_the_console_drives_the_runs():
    from sagas.console import tasks

    run = begin([standing(GETS_BETTER)])
    with transport.use(memory_transport.MemoryTransport()):
        tasks.drive_bulk_runs()
        tasks.drive_bulk_runs()

    run.refresh_from_db()
    assert run.wave == 1


def test_a_saga_whose_owner_fails_stops_no_other():
    def fall(*, key):
        raise LookupError("no such order")

    stuck, other = toys.saga("bulk-stuck", toys.local("a"), on_compensated=fall), toys.ONE
    with transport.use(memory_transport.MemoryTransport()):
        sagas = [*(harness.begin(other) for _ in range(5)), harness.begin(stuck)]

    run = begin(sagas, intervention="compensate")
    drive(run)

    assert states(run) == ["helped"] * 5 + ["failed"]
    assert "no such order" in run.items.get(number=6).message


# --- Beside others --------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_two_runs_over_the_same_sagas_the_other_way_round_wait_for_each_other_and_finish():
    """A saga's lock is held for that saga's intervention alone, after the run's (I4)."""
    for _ in range(3):
        sagas = [admin_client.waiting() for _ in range(8)]
        runs = [begin(sagas, intervention="compensate"), begin(sagas[::-1], intervention="compensate")]
        for run in runs:
            BulkRun.objects.filter(pk=run.pk).update(wave=1)
            run.items.update(wave=1)
        both = threading.Barrier(2)

        def drive_one(run, both=both):
            try:
                with transport.use(memory_transport.MemoryTransport()):
                    both.wait(30)
                    for item in bulk._look_over(run.pk):
                        bulk._send(run.pk, item)
            finally:
                connection.close()

        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            for done in [pool.submit(drive_one, run) for run in runs]:
                done.result(60)

        for run in runs:
            assert not {"failed", "pending"} & set(states(run)), states(run)
        assert sum(states(run).count("sent") for run in runs) == len(sagas), "each was moved once"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("sqlstate", ["40001", "40P01", "55P03"])
def test_a_saga_that_somebody_else_has_locked_has_not_failed_again(sqlstate, monkeypatch):
    """The error is PostgreSQL's own, raised once in the middle of the intervention."""
    sagas = [standing(GETS_BETTER) for _ in range(2)]
    run = begin(sagas)
    hindered = []
    lock = store.lock

    def contended(*args):
        if not hindered:
            hindered.append(args)
            with connection.cursor() as cursor:
                cursor.execute(
                    f"DO $$ BEGIN RAISE EXCEPTION 'contended' USING ERRCODE = '{sqlstate}'; END $$"
                )
        return lock(*args)

    monkeypatch.setattr("sagas.engine.store.lock", contended)
    bulk.drive()
    assert states(run) == ["pending", "pending"], "the first wave"
    with transport.use(memory_transport.MemoryTransport()):
        bulk.drive()
    assert hindered
    assert states(run) == ["pending", "pending"], "it was hindered, and is not failed"

    drive(run)

    assert (run.state, states(run)) == (BulkRun.State.FINISHED, ["helped", "helped"])


@pytest.mark.django_db(transaction=True)
def test_a_saga_whose_lock_is_not_to_be_had_keeps_no_other_of_its_wave_waiting():
    sagas = [standing(GETS_BETTER) for _ in range(3)]
    run = begin(sagas)
    BulkRun.objects.filter(pk=run.pk).update(wave=1)
    run.items.update(wave=1)
    taken, done = threading.Event(), threading.Event()

    def hold_the_first():
        try:
            with transaction.atomic():
                store.lock(sagas[0].pk)
                taken.set()
                assert done.wait(60)
        finally:
            connection.close()

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        holding = pool.submit(hold_the_first)
        try:
            assert taken.wait(30)
            with connection.cursor() as cursor:
                cursor.execute("SET lock_timeout = '50ms'")
            with transport.use(memory_transport.MemoryTransport()):
                bulk.drive()
            assert states(run) == ["pending", "sent", "sent"]
        finally:
            done.set()
            holding.result(60)
            with connection.cursor() as cursor:
                cursor.execute("RESET lock_timeout")
    with transport.use(memory_transport.MemoryTransport()):
        bulk.drive()
    assert states(run)[0] == "sent"
