"""`manage.py saga` says and does what the admin does."""

import io
import json
import re

import pytest
from django.core.management import CommandError, call_command

from sagas import engine, models
from sagas.console.models import Consent
from tests.sagas.console import admin_client
from tests.sagas.sample_app import saga as toys

pytestmark = pytest.mark.usefixtures("rows")


def saga(*arguments):
    out = io.StringIO()
    call_command("saga", *arguments, stdout=out, stderr=out)
    return out.getvalue()


def listed(*arguments):
    """The lines of a list, below its head."""
    head, *lines = saga("list", *arguments).splitlines()
    assert head.split()[:4] == ["SAGA", "STATE", "NAME", "NUMBER"]
    return lines


def seen(one):
    """What `show` prints, as it is typed."""
    (line,) = re.findall(r"^Seen: (\S+)$", saga("show", str(one.pk)), re.MULTILINE)
    return ["--seen", line]


def test_it_lists_the_newest_first_and_narrows_down():
    attention, waiting = admin_client.attention(), admin_client.waiting()
    held = admin_client.act(engine.hold, admin_client.waiting(), actor="olga", reason="wait")

    everything = [line.split()[0] for line in listed()]
    assert everything == [str(one.pk) for one in (held, waiting, attention)]
    assert listed("--state", "needs_attention")[0].split()[:2] == [str(attention.pk), "needs_attention"]
    assert listed("--state", "held")[0].split()[0] == str(held.pk)
    assert listed("--step", "c")[0].split()[0] == str(attention.pk)
    assert listed("--key", waiting.key)[0].split()[0] == str(waiting.pk)
    assert saga("list", "--name", "toy-none") == ""
    assert len(listed("--limit", "2")) == 2
    told = [json.loads(line) for line in saga("list", "--json").splitlines()]
    assert (told[0]["id"], told[0]["held"]) == (str(held.pk), True)


def test_it_shows_the_verdict_and_a_timeline():
    attention = admin_client.attention()

    said = saga("show", str(attention.pk), "--events")

    assert "b could not be undone, after 1 attempt: no." in said
    assert "Who must act: A supervisor, or whoever else has the permission sagas.resolve_saga." in said
    assert [line.split()[:2] for line in said.splitlines() if "|" in line][:4] == [
        ["a", "done"],
        ["b", "done"],
        ["undo", "b"],
        ["c", "failed"],
    ]
    assert f"Key of b: {attention.pk}.b" in said
    assert "Possible now: retry, resolve --happened, resolve --did-not-happen" in said
    assert not [line for line in said.splitlines() if line.endswith(":")]
    assert "saga.attention" in said


@pytest.mark.parametrize(
    ("make", "advice"),
    [
        (admin_client.attention, "then `resolve --happened`"),
        (
            lambda: admin_client.play(
                toys.LOCAL, "do a, do b, fail c, undo b, 4x flake undo a, needs attention"
            ),
            "then `retry`, or `resolve --happened`",
        ),
        (admin_client.stuck, "then `retry`, or `resolve --happened` or `resolve --did-not-happen`"),
        (lambda: admin_client.finish(admin_client.asked(toys.LAPSES["attention"])), "`approve` or `refuse`"),
    ],
    ids=range(4),
)
def test_what_is_advised_is_spelt_as_it_is_typed(make, advice):
    said = saga("show", str(make().pk))

    (who,) = [line for line in said.splitlines() if line.startswith("Who must act: ")]
    assert advice in who
    for typed in re.findall(r"`([^`]+)`", who):
        assert typed in said.partition("Possible now: ")[2] or typed in ("approve", "refuse"), typed
    assert "resume" not in said.lower()


def test_of_a_saga_that_this_process_does_not_know_it_says_that_somebody_must_deploy_it():
    waiting = admin_client.waiting()
    models.SagaInstance.objects.filter(pk=waiting.pk).update(version=9)

    said = saga("show", str(waiting.pk))

    assert "Nobody has to act" not in said
    assert "Next: It goes on only where the code of a worker has version 9 of toy-wait" in said
    assert "Who must act: Whoever deploys the code" in said


def test_what_an_ended_saga_never_came_to_is_shown_as_not_reached():
    undone = admin_client.play(toys.LOCAL, "do a, fail b, undo a, compensated")

    lines = [line.split()[:2] for line in saga("show", str(undone.pk)).splitlines() if "|" in line]

    assert ["c", "not_reached"] in lines
    assert "pending" not in saga("show", str(undone.pk))
    assert json.loads(saga("show", str(undone.pk), "--json"))["steps"][2]["state"] == "pending", "to machines"


def test_it_shows_a_saga_by_its_key_and_as_json():
    waiting = admin_client.waiting()

    told = json.loads(saga("show", waiting.key, "--json"))

    assert (told["id"], told["state"]) == (str(waiting.pk), "running")
    assert [step["state"] for step in told["steps"]] == ["done", "waiting", "pending"]
    assert told["events"][0]["kind"] == "saga.begun"


def test_each_intervention_is_made_with_a_reason_and_an_actor():
    for function, make, more, kind in [
        ("retry", admin_client.attention, [], "operator.retry"),
        ("compensate", admin_client.waiting, [], "operator.compensate"),
        ("resolve", admin_client.attention, ["--happened"], "operator.resolve"),
        ("resolve", admin_client.stuck, ["--did-not-happen"], "operator.resolve"),
        ("ask", admin_client.waiting, [], "operator.ask"),
        ("hold", admin_client.waiting, [], "operator.hold"),
        ("extend", admin_client.waiting, ["--hours", "2"], "operator.extend"),
        ("close", admin_client.attention, [], "operator.close"),
    ]:
        one = make()
        saga(function, str(one.pk), *seen(one), "--reason", "Ticket 12", "--actor", "olga", *more)

        event = models.Event.objects.get(saga_id=one.pk, kind=kind)
        assert (event.actor, event.reason) == ("olga", "Ticket 12"), function


def test_held_sagas_are_released():
    one = admin_client.act(engine.hold, admin_client.waiting(), actor="olga", reason="wait")

    saga("release", str(one.pk), *seen(one), "--reason", "go on")

    one.refresh_from_db()
    assert one.held_at is None


def test_a_dry_run_says_what_it_would_do_and_does_nothing():
    waiting = admin_client.waiting()

    said = saga("compensate", str(waiting.pk), "--reason", "x", "--dry-run")

    assert "These steps are undone, in this order: w, a." in said
    waiting.refresh_from_db()
    assert waiting.direction == 1


def test_an_intervention_that_does_not_apply_is_an_error_that_says_why():
    done = admin_client.play(toys.ONE, "do a, completed")

    for function in ("retry", "compensate", "hold", "release", "skip", "close", "ask"):
        with pytest.raises(CommandError) as refused:
            saga(function, str(done.pk), "--reason", "x")
        assert str(refused.value)


def test_an_intervention_without_a_reason_is_refused():
    with pytest.raises(CommandError, match="--reason"):
        saga("retry", str(admin_client.attention().pk))


def test_what_is_not_there_is_not_found():
    for absent in ("01980000-0000-7000-8000-000000000000", "no-such-key"):
        with pytest.raises(CommandError, match="There is no saga"):
            saga("show", absent)


def test_what_is_possible_now_is_spelt_as_it_is_typed():
    for make in (admin_client.attention, admin_client.waiting, admin_client.stuck):
        one = make()
        (possible,) = re.findall(r"^Possible now: (.+)$", saga("show", str(one.pk)), re.MULTILINE)

        for intervention in possible.split(", "):
            hours = ["--hours", "1"] if intervention == "extend" else []
            assert saga(*intervention.split(), str(one.pk), "--reason", "x", "--dry-run", *hours), (
                intervention
            )


def test_an_intervention_that_needs_a_second_person_waits_for_one(settings):
    settings.SAGAS_FOUR_EYES = True
    waiting = admin_client.waiting()

    with pytest.raises(SystemExit) as ended:
        saga("compensate", str(waiting.pk), *seen(waiting), "--reason", "Ticket 12", "--actor", "olga")

    assert ended.value.code == 3
    waiting.refresh_from_db()
    assert waiting.direction == 1
    assert Consent.objects.get(saga=waiting).actor == "olga"


@pytest.mark.parametrize("facts", ['{"number": 1e999}', '{"number": NaN}', '{"a": "\\u0000"}', "[1]", "{"])
def test_facts_that_cannot_be_kept_are_refused_at_the_shell(facts):
    one = admin_client.attention()

    with pytest.raises(CommandError, match="--facts"):
        saga("resolve", str(one.pk), "--happened", "--reason", "so", "--facts", facts)


# --- Watching ---------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    """What is written to one, if it is one."""

    def __init__(self, is_one):
        super().__init__()
        self.is_one = is_one

    def isatty(self):
        return self.is_one


def watch(one, *more, terminal=False):
    out = Terminal(terminal)
    with pytest.raises(SystemExit) as ended:
        call_command("saga", "watch", str(one.pk), *more, stdout=out)
    return ended.value.code, out.getvalue()


def test_watching_ends_with_a_code_that_says_how_the_saga_stands():
    closed = admin_client.attention()
    saga("close", str(closed.pk), *seen(closed), "--reason", "Ticket 12")

    assert watch(admin_client.play(toys.ONE, "do a, completed"))[0] == 0
    assert watch(admin_client.play(toys.ONE, "fail a, compensated"))[0] == 4
    assert watch(admin_client.attention())[0] == 5
    assert watch(closed)[0] == 6
    assert watch(admin_client.waiting(), "--seconds", "0")[0] == 124


def test_watched_from_a_program_each_event_is_a_line():
    done = admin_client.play(toys.ONE, "do a, completed")

    _, said = watch(done)

    head, *lines, end = said.splitlines()
    assert head.split() == [done.key, toys.ONE.name, "v1", str(done.pk)]
    kinds = [line.split()[1] for line in lines]
    assert (kinds[0], kinds[-1]) == ("saga.begun", "saga.completed")
    assert len(lines) == models.Event.objects.filter(saga_id=done.pk).count()
    assert end.startswith("The step was done")
    assert "\x1b" not in said


def test_watched_on_a_terminal_it_is_the_timeline_in_colours(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    attention = admin_client.attention()

    _, said = watch(attention, terminal=True)
    monkeypatch.setenv("NO_COLOR", "1")
    _, plain = watch(attention, terminal=True)

    assert re.search(r"^a +\x1b\[32mdone\x1b\[0m", said, re.MULTILINE)
    assert "\x1b[35mneeds_attention\x1b[0m, " in said
    assert "\x1b" not in plain
    assert [line.split()[:2] for line in plain.splitlines() if "|" in line][:3] == [
        ["a", "done"],
        ["b", "done"],
        ["undo", "b"],
    ]


def test_watching_goes_on_while_the_saga_does():
    """The picture is drawn anew over the last one, until the saga has ended."""
    waiting, pictures = admin_client.waiting(), []

    class Screen(Terminal):
        def write(self, text):
            if not pictures:
                engine.cancel(waiting.pk, actor="olga", reason="enough")
                admin_client.finish(waiting)
            pictures.append(text)
            return super().write(text)

    with pytest.raises(SystemExit) as ended:
        call_command("saga", "watch", waiting.key, stdout=Screen(True))

    assert ended.value.code == 4
    first, last = pictures
    assert "running" in first
    assert re.match(r"\x1b\[\d+F\x1b\[J", last)
    assert "compensated" in last
