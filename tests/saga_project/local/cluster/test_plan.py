"""What the drill plans, before anything runs."""

import pytest

from saga_project.local import fates, load, release, runfile
from saga_project.local.cluster import __main__ as command
from saga_project.local.cluster import drill, faults


def test_the_same_seed_brings_the_same_customers_and_another_one_others():
    def first(seed):
        people = load.crowd(seed)
        return [next(people).name for _ in range(250)]

    assert first(7) == first(7)
    assert first(7) != first(8)
    assert set(first(7)) == {fate.name for _, fate in fates.CROWD}


def test_faults_and_pauses_fill_the_time_that_was_asked_for():
    plan = drill.Plan(minutes=13)

    assert plan.slot_s * (len(plan.faults) + 0.5) == pytest.approx(13 * 60)
    assert 2 * plan.hold_s < plan.slot_s


def test_a_plan_says_which_command_repeats_it():
    assert drill.Plan().command == "make cluster SEED=7 MINUTES=8"
    assert drill.Plan(seed=3, minutes=0.5, faults=("web-drained",), per_second=1).command == (
        'make cluster SEED=3 MINUTES=0.5 FAULTS=web-drained ARGS="--per-second 1"'
    )


@pytest.mark.parametrize(
    "arguments", [["--faults", "flood"], ["--minutes", "0"], ["--minutes", "soon"], ["--small"]]
)
def test_an_option_that_makes_no_sense_is_refused_with_what_does(arguments, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["cluster", *arguments])

    with pytest.raises(SystemExit):
        command.main()

    assert arguments[0] in capsys.readouterr().err


def test_every_fault_has_a_bar_and_a_name_of_its_own():
    assert len({fault.name for fault in faults.FAULTS.values()}) == len(faults.FAULTS)
    assert {name: fault.bar_s for name, fault in faults.FAULTS.items() if fault.bar_s != faults.BAR_S} == {
        "primary-lost": faults.FAILOVER_BAR_S
    }


def test_the_next_release_declares_a_version_beside_todays():
    declared = (runfile.ROOT / "orders" / "saga.py").read_text()

    before = release.changed(declared, release.CHANGES["saga_v2.py"])
    after = release.changed(declared, release.CHANGES["saga.py"])

    assert "ORDER_FULFILMENT_V2 = Saga(" in before
    assert "version=2," in before
    assert f"version={release.VERSION}," in after
    assert "import ORDER_FULFILMENT_V2" in after
    for text in (before, after):
        compile(text, "saga.py", "exec")


def test_a_declaration_that_reads_otherwise_is_no_release_that_changes_nothing():
    with pytest.raises(release.NotMade, match="version=2"):
        release.changed("version = 4", release.CHANGES["saga.py"][1:])


def test_customers_pause_ever_longer_but_never_give_up():
    pauses = load._pauses()
    told = [next(pauses) for _ in range(7)]

    longest = [0.5, 1, 2, 4, 8, 8, 8]
    assert all(most / 2 <= pause <= most for pause, most in zip(told, longest, strict=True))
    assert len(set(told)) == len(told), "those that failed together do not come again together"
