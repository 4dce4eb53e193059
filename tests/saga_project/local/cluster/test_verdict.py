"""The drill's verdict: each violation that is planted is found, beside the fault under which it happened."""

import copy
import datetime
import json

import pytest

from saga_project.local import checker, fates, ledger
from saga_project.local.checker.rules import Violation
from saga_project.local.cluster import __main__ as command
from saga_project.local.cluster import verdict

BEGAN = 1_800_000_000.0
STRUCK = BEGAN + 60
UNTIL = BEGAN + 200

PAID = fates.Fate(name="card accepted")
DECLINED = fates.Fate(name="card declined", ends=("cancelled",))


def wanted(key, at, **changes):
    return ledger.Wanted(
        **{"key": key, "fate": PAID, "wanted_at": at, "acknowledged_at": at + 0.1, "ids": {f"id-{key}"}}
        | {"requests": 1}
        | changes
    )


def order(key, ended_at, **changes):
    return {
        "id": f"id-{key}",
        "number": f"ORD-{key}",
        "reference": key,
        "status": "fulfilled",
        "total": {"amount": 500, "currency": "BRL"},
        "payment": {"key": f"saga-{key}.take-payment"},
        "saga": {"id": f"saga-{key}"},
        "updated_at": datetime.datetime.fromtimestamp(ended_at, datetime.UTC).isoformat(),
        **changes,
    }


def found(*violations):
    """The checker's report, with these violations: kind, and what each is about."""
    results = [
        checker.Result(rule=kind, kind=kind, says="", violations=[Violation(about=about, told="planted")])
        for kind, about in violations
    ]
    return checker.Report(
        wanted=2, acknowledged=2, requests=2, ends={}, gave_up=0, turned_away=0, results=results,
        keys={"a": "a", "b": "b", "ORD-a": "a", "ORD-b": "b"},
    )  # fmt: skip


class Run:
    """A run in which all is well: one order before the fault, one after it."""

    def __init__(self):
        self.book = ledger.Ledger(
            wanted=[wanted("a", BEGAN), wanted("b", STRUCK + 1)],
            requests=[
                ledger.Request(what="probe", sent_at=BEGAN + s, ended_at=BEGAN + s + 0.1) for s in range(200)
            ],
            strikes=[ledger.Strike(name="a broker is killed", told="broker1", bar_s=10, struck_at=STRUCK)],
        )
        self.orders = [order("a", BEGAN + 2), order("b", STRUCK + 4)]
        self.report = found()
        self.audit = {"discrepancies": []}

    def judged(self):
        return verdict.judge(self.book, orders=self.orders, report=self.report, audit=self.audit, until=UNTIL)

    def fail(self, sent_at, ended_at, failure="ReadTimeout"):
        self.book.requests.append(
            ledger.Request(what="place", sent_at=sent_at, ended_at=ended_at, failure=failure)
        )


@pytest.fixture
def run():
    return Run()


def test_a_run_in_which_all_is_well_holds(run):
    judged = run.judged()

    assert judged.holds
    assert judged.wrong == []
    calm, struck = judged.rows
    assert (calm.fault, calm.orders) == (verdict.CALM, 1)
    assert (struck.fault, struck.orders, struck.answers_again_s) == ("a broker is killed", 1, 0)
    assert struck.ends_again_s == pytest.approx(4)


def an_order_is_lost(run):
    run.report = found(("lost", "b"))


def an_order_is_doubled(run):
    run.report = found(("doubled", "ORD-b"))


def an_order_is_out_of_balance(run):
    run.report = found(("balance", "ORD-b"))


def things_happened_in_the_wrong_order(run):
    run.report = found(("order", "ORD-b"))


def turned_back(run):
    run.orders[1]["status"] = "cancelled"


def found_by_the_audit(run):
    run.audit["discrepancies"].append({"about": "ORD-b", "room": "inventory", "finding": "sold, not moved"})


@pytest.mark.parametrize(
    ("planted", "kind"),
    [
        (an_order_is_lost, "lost"),
        (an_order_is_doubled, "doubled"),
        (an_order_is_out_of_balance, "out_of_balance"),
        (things_happened_in_the_wrong_order, "out_of_balance"),
        (turned_back, "out_of_balance"),
        (found_by_the_audit, "out_of_balance"),
    ],
)
def test_each_planted_violation_is_found_beside_its_fault(run, planted, kind):
    planted(run)

    judged = run.judged()

    assert not judged.holds
    assert judged.wrong
    calm, struck = judged.rows
    assert calm.holds
    assert not struck.holds
    assert getattr(struck, kind) > 0


def test_what_is_about_no_order_of_a_customer_is_not_left_out(run):
    run.audit["discrepancies"].append({"about": "MUG-STONEWARE", "room": "inventory", "finding": "-1 left"})
    run.report = found(("doubled", "ORD-stranger"))

    judged = run.judged()

    assert not judged.holds
    assert (judged.rows[0].out_of_balance, judged.rows[0].doubled) == (1, 1)
    assert any("stranger" in told for told in judged.wrong)


def test_a_pix_that_was_paid_too_late_may_end_either_way(run):
    run.book.wanted[1].fate = fates.Fate(name="PIX", ends=("fulfilled", "cancelled"))
    run.orders[1]["status"] = "cancelled"

    assert run.judged().holds


def test_the_longest_stretch_of_failures_counts_and_slow_answers_with_it(run):
    run.fail(STRUCK + 1, STRUCK + 3)
    run.fail(STRUCK + 5, STRUCK + 6, failure="")  # Answered in time: no failure.
    run.fail(STRUCK + 4, STRUCK + 9, failure="")  # Answered, and slowly.
    run.fail(STRUCK + 30, STRUCK + 31, failure="503")  # Another outage, and a shorter one.

    assert run.judged().rows[1].answers_again_s == pytest.approx(8)
    assert run.judged().holds


def test_what_failed_before_a_fault_is_not_laid_to_it(run):
    run.fail(STRUCK - 20, STRUCK - 1, failure="503")

    assert run.judged().rows[1].answers_again_s == 0


def test_an_api_that_answers_too_late_misses_the_bar(run):
    run.fail(STRUCK, STRUCK + 10.5, failure="503")

    judged = run.judged()

    assert not judged.holds
    assert judged.wrong == ["a broker is killed: the API answered again after 10.5 s, not within 10 s"]


def test_orders_that_do_not_flow_before_the_next_fault_miss_the_bar(run):
    run.book.strikes.append(
        ledger.Strike(name="a host vanishes", told="worker1", bar_s=10, struck_at=STRUCK + 60)
    )
    run.book.wanted[1].wanted_at = STRUCK + 59
    run.orders[1] = order("b", STRUCK + 70)

    judged = run.judged()

    assert not judged.holds
    assert any("no order that was placed after it ended" in told for told in judged.wrong)


def test_a_delayed_order_is_counted_and_is_no_violation(run):
    run.orders[1] = order("b", STRUCK + 31)

    judged = run.judged()

    assert judged.holds
    struck = judged.rows[1]
    assert (struck.delayed, struck.longest_s) == (1, pytest.approx(30))
    assert struck.on_time_again_s == pytest.approx(1)


def test_the_page_shows_the_run_that_is_kept():
    kept = json.loads(command.KEPT.read_text())
    page = command.PAGE.read_text()

    assert command.written(page, kept) == page, "make cluster ARGS=--record"
    assert kept["holds"]
    assert kept["wrong"] == []


def test_a_report_tells_the_same_when_it_is_read_again(run):
    rows = run.judged().rows
    kept = copy.deepcopy([vars(row) for row in rows])

    assert [verdict.Row(**row) for row in json.loads(json.dumps(kept))] == rows
