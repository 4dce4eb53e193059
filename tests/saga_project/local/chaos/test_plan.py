"""What the nemesis plans, before anything runs."""

import itertools

import pytest

from saga_project.local.chaos import __main__ as command
from saga_project.local.chaos import campaign, faults, plan, rules

KINDS = [fault.kind for fault in faults.FAULTS.values()]


def blows(seed=7, seconds=180, every_s=2, kinds=KINDS):
    return plan.made(seed=seed, seconds=seconds, every_s=every_s, kinds=kinds)


def test_the_same_seed_brings_the_same_blows_and_another_one_others():
    assert blows(seed=7) == blows(seed=7)
    assert blows(seed=7) != blows(seed=8)


def test_a_fault_strikes_every_so_many_seconds_and_all_is_whole_at_the_end():
    planned = blows(seconds=900)

    assert len(planned) == pytest.approx(900 / 2, rel=0.1)
    assert [blow.at_s for blow in planned] == sorted(blow.at_s for blow in planned)
    assert [blow.number for blow in planned] == list(range(1, len(planned) + 1))
    assert max(blow.ends_s for blow in planned) <= 900
    # To the end: what is quiet after the last fault was struck a moment ago.
    assert planned[-1].at_s > 890


def test_every_kind_has_its_turn_and_the_release_rolls_out_once():
    planned = blows(seconds=600)
    counts = {kind.name: sum(blow.kind == kind.name for blow in planned) for kind in KINDS}

    assert all(counts.values()), counts
    assert counts["rolled-out"] == 1
    # A reset link is seven times as likely as a database whose disk is full.
    assert counts["link-reset"] > counts["database-log-full"]


def test_what_a_fault_holds_is_left_alone_until_it_stands_again():
    by_name = {kind.name: kind for kind in KINDS}
    planned = blows(seconds=600)

    for before, after in itertools.combinations(planned, 2):
        both = by_name[before.kind].holds(before.target) & by_name[after.kind].holds(after.target)
        if both and not by_name[after.kind].once:
            assert after.at_s >= before.ends_s + by_name[before.kind].rests_s - 0.01, (before, after)


def test_kinds_that_are_all_busy_strike_less_often_rather_than_twice_at_once():
    (kind,) = [kind for kind in KINDS if kind.name == "broker-stopped"]

    planned = blows(seconds=60, every_s=0.5, kinds=[kind])

    assert 4 < len(planned) < 60
    for before, after in itertools.pairwise(planned):
        assert after.at_s >= before.ends_s


def test_every_fault_says_what_it_does():
    for name, fault in faults.FAULTS.items():
        assert fault.kind.told, name
        assert fault.kind.targets, name


def test_a_plan_says_which_command_repeats_it():
    assert campaign.Plan().command == "make chaos SEED=7 MINUTES=3"
    assert campaign.Plan(
        seed=3, minutes=0.5, faults=("killed",), per_second=11.5, every_s=1, quiet_within_s=60
    ).command == (
        'make chaos SEED=3 MINUTES=0.5 FAULTS=killed ARGS="--per-second 11.5 --every 1 --quiet-within 60"'
    )


@pytest.mark.parametrize("arguments", [["--faults", "flood"], ["--minutes", "0"], ["--every", "never"]])
def test_an_option_that_makes_no_sense_is_refused(arguments, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["chaos", *arguments])

    with pytest.raises(SystemExit):
        command.main()

    assert arguments[0] in capsys.readouterr().err


def test_customers_are_a_hundred_of_many_fates():
    shares = rules.shares()

    assert sum(share for share, _ in shares) == 100
    assert {end for _, fate in shares for end in fate.ends} == {"fulfilled", "cancelled", "attention"}
