"""The page of a saga tells what happened, what comes next and who must act, whatever its state."""

import csv
import html
import io
import itertools
import json
import re

import pytest
from django.core.management import call_command
from django.db import connection
from django.test import utils
from django.urls import reverse

from sagas import engine, models
from sagas.console import history, interventions, marks, panels
from sagas.declaration import states
from sagas.models import SagaInstance
from sagas.testing import clocks
from tests.sagas import scripts
from tests.sagas.console import admin_client
from tests.sagas.sample_app import saga as toys

pytestmark = pytest.mark.usefixtures("rows")


@pytest.mark.timeout(600)  # A hundred and more sagas, each with its page.
@pytest.mark.parametrize("first", [0, *(pytest.param(n, marks=pytest.mark.thorough) for n in (1, 2))])
def test_whatever_happened_to_a_saga_its_page_tells_it(first):
    viewer = admin_client.viewer()
    seen = set()
    for saga, script in scripts.ALL[first::3]:
        instance = admin_client.play(saga, script)

        response = viewer.get(admin_client.page(instance))

        assert response.status_code == 200, script
        told = response.context["summary"]
        assert told.what, script
        assert told.next, script
        assert told.who, script
        body = response.content.decode()
        assert not re.search(r"<style|\sstyle=|<script(?![^>]*\ssrc=)|\son[a-z]+=", body), (
            "inline, in " + script
        )
        seen.add(instance.state)
        seen |= {step.state for step in response.context["record"].steps}
    assert seen >= {"completed", "compensated", "done", "undone"}


EIGHT = toys.saga("toy-eight", *(toys.local(name) for name in "abcdefgh"))


def running():
    return admin_client.under_way(EIGHT, "", 3)


def compensating():
    return admin_client.under_way(toys.LOCAL, "do a, fail b", 3)


def retrying():
    return admin_client.under_way(toys.REMOTE, "do a, flake b", 2)


def unknown():
    return admin_client.under_way(toys.MIXED, "do a, lose b", 2)


def held():
    return admin_client.act(engine.hold, admin_client.waiting(), actor="olga", reason="The customer called.")


def closed():
    return admin_client.act(engine.close, admin_client.attention(), actor="olga", reason="Settled by hand")


VERDICTS = [
    (running, "Running", "3 of 8 steps are done", "Nobody has to act"),
    (compensating, "Compensating", "b was refused: no.", "Nobody has to act"),
    (retrying, "Running", "b failed attempt 1 of 3: later. Tried again", "Nobody has to act"),
    (unknown, "Running", "Whether b happened is unknown; the provider is asked", "Nobody has to act"),
    (
        admin_client.waiting,
        "Running",
        "w has begun, and waits for a word from outside",
        "a word from outside is waited for",
    ),
    (held, "Held", "olga has held it since", "An operator must release it"),
    (
        admin_client.attention,
        "Needs attention",
        "b could not be undone, after 1 attempt: no.",
        "A supervisor, or whoever else has the permission sagas.resolve_saga.",
    ),
    (admin_client.stuck, "Needs attention", "Nobody knows whether p happened", "An operator."),
    (closed, "Put aside", "olga put it aside for good: Settled by hand.", "Nobody has to act"),
]


@pytest.mark.parametrize(
    ("make", "badge", "what", "who"), VERDICTS, ids=[row[0].__name__ for row in VERDICTS]
)
def test_the_verdict_says_what_happened_and_who_must_act(make, badge, what, who):
    said = admin_client.text(admin_client.viewer().get(admin_client.page(make())))

    assert badge in said
    assert what in said
    assert who in said


def test_the_verdict_names_the_root_cause_the_step_its_key_and_what_helps():
    saga = admin_client.attention()

    response = admin_client.supervisor().get(admin_client.page(saga))
    body = response.content.decode()
    verdict = body[body.index('id="part-summary"') : body.index('id="part-notices"')]

    assert "Why it was turned back" in verdict
    assert response.context["summary"].cause in html.unescape(verdict)
    assert f'data-copy="{saga.pk}.b"' in verdict
    # The provider said no: to ask it again helps nobody.
    assert response.context["primary"]["intervention"].name == "happened"
    assert "button-strong intervention-happened" in verdict
    assert "button-strong" not in body[body.index('id="part-interventions"') :]


RECOMMENDED = [
    (admin_client.attention, "happened"),
    (
        lambda: admin_client.play(toys.LOCAL, "do a, do b, fail c, undo b, 4x flake undo a, needs attention"),
        "resume",
    ),
    (admin_client.stuck, "resume"),
    (held, "release"),
    (admin_client.waiting, ""),
    (running, ""),
    (closed, ""),
]


@pytest.mark.parametrize(("make", "name"), RECOMMENDED, ids=range(len(RECOMMENDED)))
def test_the_recommended_intervention_is_the_one_strong_button(make, name):
    context = admin_client.supervisor().get(admin_client.page(make())).context

    assert context["summary"].recommended == name
    assert (context["primary"] or {}).get("title", "") == (
        "" if not name else interventions.INTERVENTIONS[name].title(context["record"])
    )
    listed = {offer["intervention"].name for _step, offers in context["offers"] for offer in offers}
    assert name not in listed


@pytest.mark.parametrize(("make", "name"), RECOMMENDED[:4], ids=range(4))
def test_who_must_act_is_who_may_do_what_is_recommended(make, name):
    who = admin_client.viewer().get(admin_client.page(make())).context["summary"].who

    may_operate = interventions.INTERVENTIONS[name].permission == "operate_saga"
    assert ("operator" in who, interventions.INTERVENTIONS[name].permission in who) == (
        may_operate,
        not may_operate,
    )


def test_who_must_act_where_an_approval_has_lapsed_is_who_may_answer_it():
    saga = admin_client.asked(toys.LAPSES["attention"])
    admin_client.finish(saga)
    assert saga.state == "needs_attention"

    who = admin_client.viewer().get(admin_client.page(saga)).context["summary"].who

    assert "sample_app.approve_toy, to answer; or an operator, to ask anew" in who


def test_who_may_not_make_the_recommended_intervention_has_no_button_for_it():
    body = admin_client.viewer().get(admin_client.page(admin_client.attention())).content.decode()

    assert "button-strong" not in body


def test_what_is_put_aside_has_no_deadline_that_counts_down():
    assert "Deadline for undoing" in admin_client.text(
        admin_client.viewer().get(admin_client.page(admin_client.attention()))
    )
    assert "Deadline" not in admin_client.text(admin_client.viewer().get(admin_client.page(closed())))


def test_every_state_has_its_mark_and_its_word():

    for state in [*states.SagaState, *states.StepState]:
        assert marks.state_names()[state]
        assert marks.GLYPHS[state]


def test_attempts_are_told_with_their_errors_and_the_rule_that_decided():
    saga = admin_client.play(toys.REMOTE, "do a, 3x flake b, undo b, undo a, compensated")

    response = admin_client.viewer().get(admin_client.page(saga))

    of_b = [a for a in response.context["attempts"] if a.step == "b" and not a.undo]
    assert [(a.number, a.outcome) for a in of_b] == [(1, "retry"), (2, "retry"), (3, "failed")]
    assert all(a.error["error"] == "Unavailable" and a.error["message"] == "later" for a in of_b)
    assert "is tried again while attempts are left" in admin_client.text(response)
    assert [a.step for a in response.context["attempts"] if a.undo] == ["b", "a"]


def test_what_was_never_reached_says_so_once_the_saga_has_turned_back():
    viewer = admin_client.viewer()
    for saga, state in (
        (admin_client.play(toys.LOCAL, "do a, fail b, undo a, compensated"), "Not reached"),
        (compensating(), "Not reached"),
        (admin_client.waiting(), "Pending"),
    ):
        response = viewer.get(admin_client.page(saga))

        body = response.content.decode()
        step = body[body.index('id="step-c"') : body.index('id="part-pictures"')]
        assert set(re.findall("Pending|Not reached", step)) == {state}
        (node, _undo) = [node for node in response.context["graph"].nodes if node.name == "c"]
        assert node.label == state


CANCELLED_MEANWHILE = "do a, begin w, cancel, undo w, undo a, compensated"


def withdrawn():
    """Nobody is asked any more, for the saga is cancelled."""
    saga = admin_client.asked()
    engine.cancel(saga.pk, actor="olga", reason="Not wanted")
    return admin_client.finish(saga)


def unanswered():
    """Nobody has answered in time, and the saga was put aside with the question open."""
    saga = admin_client.finish(admin_client.asked(toys.LAPSES["attention"]))
    return admin_client.act(engine.close, saga, actor="olga", reason="Settled by hand")


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: admin_client.play(toys.WAIT, CANCELLED_MEANWHILE), "w"),
        (lambda: admin_client.play(toys.LOCAL_WAIT, CANCELLED_MEANWHILE), "w"),
        (lambda: admin_client.play(toys.REMOTE, "do a, flake b, cancel, undo b, undo a, compensated"), "b"),
        (withdrawn, "ok"),
        (unanswered, "ok"),
    ],
    ids=["waits", "waits-locally", "is-tried-again", "is-asked", "is-asked-and-put-aside"],
)
def test_what_was_begun_and_is_wanted_no_more_is_called_off_and_waits_for_nothing(make, name):
    saga = make()
    viewer = admin_client.viewer()

    response = viewer.get(admin_client.page(saga))
    body = response.content.decode()
    step = body[body.index(f'id="step-{name}"') : body.index('id="part-pictures"')]
    shown = io.StringIO()
    call_command("saga", "show", str(saga.pk), stdout=shown)

    assert "Called off" in step
    assert not re.search("Waiting|Pending", step)
    (node, *_undo) = [node for node in response.context["graph"].nodes if node.name == name]
    assert node.state == "called_off"
    assert {one.outcome for one in response.context["attempts"] if one.waits} <= {"called_off"}
    assert all(one.ended_at for one in response.context["attempts"])
    assert {moment.state for moment in panels.story(saga.pk).moments}.isdisjoint({"waiting", "pending"})
    assert f"{name} called_off" in " ".join(shown.getvalue().split())
    in_portuguese = viewer.get(admin_client.page(saga), headers={"Accept-Language": "pt-br"})
    assert "Cancelada" in in_portuguese.content.decode()


def test_marks_of_one_moment_stand_side_by_side_on_the_time_line():
    saga = admin_client.play(toys.WAIT, CANCELLED_MEANWHILE)

    marks_ = admin_client.viewer().get(admin_client.page(saga)).context["timeline"].marks

    assert marks_[0].x == pytest.approx(marks_[1].x, abs=2), "it is cancelled, and turns back"
    on_a_telephone = [mark.x / 100 * 340 + mark.dx for mark in marks_]
    assert all(after - before >= 12 for before, after in itertools.pairwise(on_a_telephone))


def test_an_undo_is_due_only_while_somebody_will_do_it():
    viewer = admin_client.viewer()

    assert "Undo is due" in admin_client.text(viewer.get(admin_client.page(admin_client.attention())))
    assert "Undo is due" not in admin_client.text(viewer.get(admin_client.page(closed())))


def test_an_error_is_told_in_words_and_its_class_stands_behind_them():
    saga = admin_client.attention()
    viewer = admin_client.viewer()
    for page in (admin_client.page(saga), reverse("admin:sagas_groups")):
        for language, word in (("en", "refused"), ("pt-br", "recusado")):
            body = viewer.get(page, headers={"accept-language": language}).content.decode()

            assert f'<strong>{word}</strong> <code class="error-class">Refused</code>' in body, (page, word)


def test_a_wait_is_told_as_a_wait_and_ends_with_its_callback():
    saga = admin_client.play(toys.WAIT, "do a, begin w, tell w, do c, completed")

    attempts = history.attempts(history.read(saga.pk))

    assert [(a.step, a.waits, a.outcome) for a in attempts] == [
        ("a", False, "done"),
        ("w", False, "begun"),
        ("w", True, "done"),
        ("c", False, "done"),
    ]


def test_the_pivot_is_drawn_and_beyond_it_there_is_no_undo():
    response = admin_client.viewer().get(
        admin_client.page(admin_client.play(toys.PIVOTAL, "do a, do p, do r, do s, completed"))
    )

    assert [view.pivot_above for view in response.context["steps"]] == [False, True, False, False]
    assert [view.backward is None for view in response.context["steps"]] == [False, True, True, True]
    assert "point of no return" in admin_client.text(response)


def test_a_late_callback_is_announced_with_its_compensation():
    saga = admin_client.play(
        toys.BLIND_WAIT, "do a, begin w, cancel, undo w, undo a, compensated, tell w, undo w"
    )

    said = admin_client.text(admin_client.viewer().get(admin_client.page(saga)))

    assert "came too late" in said
    assert "was undone by itself" in said


def test_banners_tell_of_what_it_depends_upon():
    saga = admin_client.waiting()
    now = models.database_now()
    models.Queue.objects.create(name="world", probed_at=now)
    clocks.pass_time(clocks.A_MOMENT * 60_000)
    models.Circuit.objects.create(name="world", opened_at=now, open_until=now + clocks.A_MOMENT * 90_000)

    kinds = {notice.kind for notice in admin_client.viewer().get(admin_client.page(saga)).context["notices"]}

    assert kinds == {"queue", "circuit", "sweep"}


FIVE_MINUTES = 300_000 * clocks.A_MOMENT


def silent(queue, **more):
    """A queue that was probed for five minutes, and no worker gave a sign."""
    now = models.database_now()
    since = {"probed_at": now, "unanswered_since": now - FIVE_MINUTES}
    models.Queue.objects.update_or_create(name=queue, defaults=since | more)


def test_that_no_worker_listens_on_its_queue_is_said_under_next_and_under_who_must_act():
    saga = admin_client.under_way(toys.LOCAL, "", 0)
    silent("toys")

    summary = admin_client.viewer().get(admin_client.page(saga)).context["summary"]

    assert summary.next == "a is next, but no worker listens on toys."
    assert summary.who == "Whoever runs the workers: start one for it (celery worker --queues=toys)."


def test_a_backlog_that_somebody_works_on_needs_nobody_to_act():
    saga = admin_client.under_way(toys.LOCAL, "", 0)
    silent("toys", heard_at=models.database_now())

    context = admin_client.viewer().get(admin_client.page(saga)).context

    assert [notice.kind for notice in context["notices"]] == ["backlog"]
    assert context["summary"].who == "Nobody has to act."


def test_that_nobody_sweeps_is_said_of_every_saga_that_is_due():
    saga = admin_client.under_way(toys.LOCAL, "", 0)
    clocks.pass_time(FIVE_MINUTES)

    context = admin_client.viewer().get(admin_client.page(saga)).context

    assert [notice.kind for notice in context["notices"]] == ["sweep"]
    assert context["summary"].next.startswith(
        "Nothing: the regular check (sagas.sweep) does not run, and this has been due for 4 min"
    )
    who = "Whoever runs the workers: start beat, and a worker on the queue sagas-sweep."
    assert context["summary"].who == who


def test_so_is_one_of_a_saga_that_has_ended():
    """A version may go once none of its sagas lives; their pages stay."""
    saga = admin_client.play(toys.LOCAL, "do a, fail b, undo a, compensated")
    SagaInstance.objects.filter(pk=saga.pk).update(version=99)

    page = admin_client.text(admin_client.viewer().get(admin_client.page(saga)))

    assert "Compensated" in page
    assert "b was refused: no." in page


def test_a_declaration_that_is_gone_is_said_and_the_page_still_tells_the_rest():
    saga = admin_client.waiting()
    SagaInstance.objects.filter(pk=saga.pk).update(version=99)

    response = admin_client.supervisor().get(admin_client.page(saga))

    assert response.status_code == 200
    assert [notice.kind for notice in response.context["notices"]] == ["undeclared"]
    assert not [offer for offer in response.context["interventions"] if not offer["refusal"]]


def test_a_page_costs_a_bounded_number_of_statements_however_long_the_saga_is():
    viewer = admin_client.viewer()
    counts = {}
    for saga in (
        admin_client.play(toys.ONE, "do a, completed"),
        admin_client.play(
            EIGHT, "do a, do b, do c, do d, do e, do f, do g, fail h,"
                  " undo h, undo g, undo f, undo e, undo d, undo c, undo b, undo a, compensated"),
    ):  # fmt: skip
        viewer.get(admin_client.page(saga))
        with utils.CaptureQueriesContext(
            connection,
        ) as captured:
            viewer.get(admin_client.page(saga))
        counts[saga.name] = len(captured)

    assert counts["toy-one"] == counts["toy-eight"]
    # Session, user, permissions (2), and the story's seven.
    assert counts["toy-eight"] <= 12


def test_events_can_be_filtered_and_taken_away_as_json_and_csv():
    saga = admin_client.act(engine.hold, admin_client.waiting(), actor="olga", reason="=1+1")
    viewer = admin_client.viewer()

    response = viewer.get(admin_client.page(saga), {"actor": "olga"})
    assert [event.kind for event in response.context["events"]] == ["operator.hold"]
    assert f"{reverse('admin:sagas_saga_csv', args=[saga.pk])}?actor=olga" in response.content.decode()

    told = viewer.get(reverse("admin:sagas_saga_json", args=[saga.pk]))
    assert json.loads(told.content)["summary"]["who"]
    assert len(json.loads(told.content)["events"]) == saga.events.count()
    assert "attachment" in told["Content-Disposition"]

    table = viewer.get(reverse("admin:sagas_saga_csv", args=[saga.pk]), {"kind": "operator.hold"})
    lines = list(csv.DictReader(io.StringIO(table.content.decode())))
    # A reason that looks like a formula is none.
    assert [(line["actor"], line["reason"]) for line in lines] == [("olga", "'=1+1")]


def test_the_live_part_is_sent_only_when_something_changed():
    saga = admin_client.play(toys.ONE, "do a, completed")
    viewer, live = admin_client.viewer(), reverse("admin:sagas_saga_live", args=[saga.pk])

    first = viewer.get(live)
    again = viewer.get(live, headers={"If-None-Match": first["ETag"]})

    assert (first.status_code, first["X-Saga-Live"]) == (200, "0")
    assert (again.status_code, again.content) == (304, b"")


def test_the_live_part_of_a_moving_saga_is_sent_anew_when_it_moves():
    saga = admin_client.waiting()
    viewer, live = admin_client.viewer(), reverse("admin:sagas_saga_live", args=[saga.pk])
    first = viewer.get(live)

    engine.hold(saga.pk, seen=engine.look(saga.pk), actor="olga", reason="wait")
    again = viewer.get(live, headers={"If-None-Match": first["ETag"]})

    assert again.status_code == 200
    assert "olga has held it" in admin_client.text(again)


def test_a_saga_that_is_not_there_is_not_found():
    absent = reverse("admin:sagas_sagainstance_change", args=["01980000-0000-7000-8000-000000000000"])

    assert admin_client.viewer().get(absent).status_code == 404


def test_attempts_link_to_their_tasks_in_flower(settings):
    settings.FLOWER_URL = "http://127.0.0.1:5555/"

    body = admin_client.viewer().get(admin_client.page(admin_client.waiting())).content.decode()

    assert re.search(r'href="http://127\.0\.0\.1:5555/task/task-\d+"', body)
