"""The checker finds what is wrong with a campaign, and nothing in one that is sound: one planted fault each.

The campaign was recorded on a real stack (record.py). The faults are such as the database's constraints, or
the services, would refuse: they are planted in copies of the tables that have none.
"""

import copy
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from saga_project.local.checker import history, rules
from tests.saga_project.local.checker import campaigns
from tests.saga_project.local.checker.campaigns import Campaign
from tests.support import database as test_database

pytestmark = pytest.mark.integration

ROOT = pathlib.Path(__file__).resolve().parents[4]

FINE, CANCELLED, DIGITAL, STUCK = (
    "card accepted", "booking refused", "digital goods", "rejected, refund refused",
)  # fmt: skip
"""Fates of orders: fulfilled, undone to the last step, fulfilled without a parcel, before a person."""
TWICE = "same order sent twice at once"
RETURNED = "delivery fails"
VOIDED = "invoice rejected"


@pytest.fixture(scope="module")
def recorded() -> Iterator[str]:
    with campaigns.database(os.environ["DATABASE_URL"]) as place:
        yield place


@pytest.fixture
def campaign(recorded: str, tmp_path: pathlib.Path) -> Iterator[Campaign]:
    with psycopg.connect(recorded) as connection, connection.transaction(force_rollback=True):
        yield Campaign(connection, tmp_path)


def test_a_sound_campaign_breaks_no_rule(campaign: Campaign) -> None:
    report = campaign.check()

    assert not report.broken, str(report)
    assert report.wanted == report.acknowledged > 12
    assert {"fulfilled", "cancelled", "attention"} == set(report.ends)
    assert report.requests > report.wanted


# --- Planted faults -----------------------------------------------------------------------------------

Plant = Callable[[Campaign], None]
PLANTED: dict[str, tuple[str, Plant]] = {}


def planted(rule: str) -> Callable[[Plant], Plant]:
    def declare(plant: Plant) -> Plant:
        PLANTED[plant.__name__] = rule, plant
        return plant

    return declare


# Clients.


@planted("acknowledged")
def an_order_is_never_answered(campaign: Campaign) -> None:
    for line in campaign.told(FINE):
        line |= {"status": None, "answer": None, "error": "ReadTimeout"}


@planted("acknowledged")
def an_order_is_refused(campaign: Campaign) -> None:
    for line in campaign.told(FINE):
        line |= {"status": 422, "answer": {"title": "No"}}


def _turned_away(campaign: Campaign, fate: str) -> None:
    """Whenever its client asked the shop took no more."""
    for line in campaign.told(fate):
        line |= {"status": 503, "answer": {"type": "/api/problems/overloaded"}, "error": None}


@planted("turned-away")
def an_order_exists_whose_client_was_turned_away(campaign: Campaign) -> None:
    _turned_away(campaign, FINE)


@planted("exists")
def an_acknowledged_order_is_lost(campaign: Campaign) -> None:
    saga = campaign.saga(FINE)
    campaign.sql("DELETE FROM orders_order WHERE saga_id = %s", saga)


@planted("exists")
def an_order_has_another_number_than_was_told(campaign: Campaign) -> None:
    campaign.sql("UPDATE orders_order SET number = 'ORD-OTHER' WHERE saga_id = %s", campaign.saga(FINE))


@planted("one-number")
def a_key_is_acknowledged_with_two_orders(campaign: Campaign) -> None:
    line = copy.deepcopy(campaign.told(FINE)[-1])
    line["answer"] |= {"number": "ORD-OTHER", "id": campaign.told(DIGITAL)[-1]["answer"]["id"]}
    campaign.lines.append(line)


@planted("same-answer")
def a_request_that_is_sent_again_is_answered_otherwise(campaign: Campaign) -> None:
    campaign.told(TWICE)[-1]["answer"]["status"] = "cancelling"


@planted("once-per-key")
def an_order_is_there_twice(campaign: Campaign) -> None:
    campaign.sql(
        "INSERT INTO orders_order SELECT (jsonb_populate_record(o, %s::jsonb)).* FROM orders_order o"
        " WHERE saga_id = %s",
        json.dumps({"id": "019ad000-0000-7000-8000-000000000000", "number": "ORD-OTHER"}),
        campaign.saga(FINE),
    )


@planted("asked-for")
def nobody_wanted_an_order(campaign: Campaign) -> None:
    campaign.lines = [line for line in campaign.lines if line["key"] != campaign.key(FINE)]


@planted("as-asked")
def an_order_has_one_more_of_something(campaign: Campaign) -> None:
    campaign.sql(
        "UPDATE orders_orderline SET quantity = quantity + 1 FROM orders_order o"
        " WHERE o.id = order_id AND saga_id = %s",
        campaign.saga(FINE),
    )


@planted("as-asked")
def an_order_goes_to_another_town(campaign: Campaign) -> None:
    campaign.sql("UPDATE orders_order SET city = 'Lisboa' WHERE saga_id = %s", campaign.saga(FINE))


@planted("as-asked")
def a_client_was_told_another_total(campaign: Campaign) -> None:
    for line in campaign.told(FINE):
        if line["answer"]:
            line["answer"]["total"]["amount"] += 1


# Ends.


@planted("ended")
def an_order_has_not_ended(campaign: Campaign) -> None:
    campaign.sql("UPDATE sagas_saga SET state = 'running' WHERE id = %s", campaign.saga(FINE))


@planted("ended")
def a_late_callback_is_not_undone(campaign: Campaign) -> None:
    campaign.sql("UPDATE sagas_signal SET wake_at = now(), compensated_at = NULL WHERE fate = 'late'")


@planted("foretold")
def an_order_of_a_declined_card_is_fulfilled(campaign: Campaign) -> None:
    for line in campaign.told(FINE):
        line["request"]["payment"]["token"] = "tok_declined"


@planted("foretold")
def an_order_without_a_reason_is_cancelled(campaign: Campaign) -> None:
    for line in campaign.told(CANCELLED):
        line["request"]["shipping_address"]["postal_code"] = "01310-100"


@planted("end-seen")
def a_client_saw_another_end(campaign: Campaign) -> None:
    end = next(line for line in campaign.lines if line["key"] == campaign.key(FINE) and "end" in line)
    end["end"] = "cancelled"


@planted("end-seen")
def a_client_saw_the_end_of_another_order(campaign: Campaign) -> None:
    end = next(line for line in campaign.lines if line["key"] == campaign.key(FINE) and "end" in line)
    end["order"] = campaign.told(DIGITAL)[-1]["answer"]["number"]


@planted("no-person")
def an_order_needs_a_person_and_nothing_asked_for_one(campaign: Campaign) -> None:
    for line in campaign.told(STUCK):
        line["request"]["payment"]["token"] = "tok_ok"


@planted("no-person")
def a_callback_calls_a_person(campaign: Campaign) -> None:
    campaign.sql(
        "UPDATE sagas_signal SET attention_at = now(), attention = 'a mismatch' WHERE step_key LIKE %s",
        f"{campaign.saga(FINE)}%",
    )


@planted("order-and-saga-agree")
def an_order_says_nothing_of_its_end(campaign: Campaign) -> None:
    campaign.sql("UPDATE orders_order SET fulfilled_at = NULL WHERE saga_id = %s", campaign.saga(FINE))


@planted("nothing-half-done")
def a_step_of_a_completed_saga_is_pending(campaign: Campaign) -> None:
    _step(campaign, FINE, "issue-invoice", "pending")


@planted("nothing-half-done")
def a_step_of_a_compensated_saga_is_done(campaign: Campaign) -> None:
    _step(campaign, CANCELLED, "issue-invoice", "done")


def _step(campaign: Campaign, fate: str, name: str, state: str) -> None:
    campaign.sql(
        "UPDATE sagas_step SET state = %s WHERE saga_id = %s AND name = %s", state, campaign.saga(fate), name
    )


# Money.


@planted("one-charge")
def an_order_is_charged_twice(campaign: Campaign) -> None:
    charge = campaign.held("charges", FINE)
    campaign.books["charges"].append(charge | {"key": charge["key"] + "-again"})


@planted("exact-charge")
def a_centavo_less_was_charged(campaign: Campaign) -> None:
    campaign.held("charges", FINE)["captured"] -= 1


@planted("nothing-kept")
def the_money_of_a_cancelled_order_is_kept(campaign: Campaign) -> None:
    campaign.held("charges", CANCELLED)["refunded"] = 0


@planted("refunds-within-captures")
def more_is_given_back_than_was_taken(campaign: Campaign) -> None:
    campaign.held("charges", CANCELLED)["refunded"] += 1


@planted("payments-equal-the-bank")
def a_payment_says_another_amount_than_the_bank(campaign: Campaign) -> None:
    campaign.sql(
        "UPDATE payments_payment SET captured = captured - 1 WHERE key LIKE %s", f"{campaign.saga(FINE)}%"
    )


@planted("no-strange-charge")
def the_bank_has_a_charge_of_nobody(campaign: Campaign) -> None:
    campaign.books["charges"].append(campaign.held("charges", FINE) | {"key": "nobody.take-payment"})


@planted("ledger-adds-up")
def a_line_of_the_ledger_is_missing(campaign: Campaign) -> None:
    campaign.sql(
        "DELETE FROM payments_operation WHERE kind = 'refund' AND payment_id ="
        " (SELECT id FROM payments_payment WHERE key LIKE %s)",
        f"{campaign.saga(CANCELLED)}%",
    )


@planted("bank-balance")
def the_bank_s_balance_is_wrong(campaign: Campaign) -> None:
    campaign.held("charges", DIGITAL)["refunded"] += 100


# Invoices.


@planted("one-invoice")
def a_fulfilled_order_has_no_invoice(campaign: Campaign) -> None:
    campaign.books["invoices"].remove(campaign.held("invoices", FINE))


@planted("one-invoice")
def a_fulfilled_order_has_two_invoices(campaign: Campaign) -> None:
    invoice = campaign.held("invoices", FINE)
    campaign.books["invoices"].append(invoice | {"key": invoice["key"] + "-again", "access_key": "other"})


@planted("one-invoice")
def an_invoice_is_over_another_amount(campaign: Campaign) -> None:
    campaign.held("invoices", FINE)["total"] += 1


@planted("invoice-taken-back")
def the_invoice_of_a_cancelled_order_stands(campaign: Campaign) -> None:
    campaign.held("invoices", CANCELLED)["status"] = "authorized"


@planted("invoice-taken-back")
def a_return_note_takes_too_little_back(campaign: Campaign) -> None:
    saga = campaign.saga(RETURNED)
    (note,) = [
        one for one in campaign.books["invoices"] if one["kind"] == "return" and one["key"].startswith(saga)
    ]
    note["total"] -= 1


@planted("invoices-equal-the-authority")
def an_invoice_has_another_number_at_the_authority(campaign: Campaign) -> None:
    campaign.held("invoices", FINE)["number"] += 100


@planted("no-strange-invoice")
def the_authority_has_an_invoice_of_nobody(campaign: Campaign) -> None:
    campaign.books["invoices"].append(campaign.held("invoices", FINE) | {"key": "nobody.issue-invoice"})


@planted("numbers-once")
def a_number_is_used_twice(campaign: Campaign) -> None:
    number = campaign.held("invoices", DIGITAL)["number"]
    campaign.sql(
        "UPDATE invoicing_invoice SET number = %s WHERE key LIKE %s", number, f"{campaign.saga(FINE)}%"
    )


@planted("numbers-once")
def a_number_is_used_and_declared_void(campaign: Campaign) -> None:
    invoice = campaign.held("invoices", FINE)
    campaign.books["voided_numbers"].append({"series": invoice["series"], "number": invoice["number"]})


@planted("no-gap")
def there_is_a_gap_in_the_numbers(campaign: Campaign) -> None:
    campaign.sql("DELETE FROM invoicing_invoice WHERE key LIKE %s", f"{campaign.saga(VOIDED)}%")


@planted("no-gap")
def the_authority_was_not_told_of_an_unused_number(campaign: Campaign) -> None:
    document = campaign.connection.execute(
        "SELECT number FROM invoicing_invoice WHERE key LIKE %s", [f"{campaign.saga(VOIDED)}%"]
    ).fetchone()
    assert document
    kept = [one for one in campaign.books["voided_numbers"] if one["number"] != document[0]]
    assert len(kept) == len(campaign.books["voided_numbers"]) - 1
    campaign.books["voided_numbers"] = kept


@planted("no-gap")
def the_series_went_on_for_nothing(campaign: Campaign) -> None:
    campaign.sql("UPDATE invoicing_series SET next_number = next_number + 1")


# Parcels.


@planted("one-parcel")
def a_fulfilled_order_has_no_parcel(campaign: Campaign) -> None:
    campaign.books["shipments"].remove(campaign.held("shipments", FINE))


@planted("one-parcel")
def a_fulfilled_order_has_two_parcels(campaign: Campaign) -> None:
    shipment = campaign.held("shipments", FINE)
    campaign.books["shipments"].append(shipment | {"key": shipment["key"] + "-again"})


@planted("one-parcel")
def a_parcel_is_still_on_its_way(campaign: Campaign) -> None:
    campaign.held("shipments", FINE)["status"] = "handed_over"


@planted("one-parcel")
def another_invoice_travels_with_a_parcel(campaign: Campaign) -> None:
    other = campaign.held("invoices", CANCELLED)["access_key"]
    campaign.held("shipments", FINE)["reference"] = other


@planted("no-parcel")
def a_cancelled_order_is_delivered(campaign: Campaign) -> None:
    campaign.held("shipments", RETURNED)["status"] = "delivered"


@planted("shipments-equal-the-carrier")
def a_shipment_is_elsewhere_by_the_carrier_s_word(campaign: Campaign) -> None:
    campaign.held("shipments", RETURNED)["status"] = "failed"


@planted("no-strange-parcel")
def the_carrier_has_a_parcel_of_nobody(campaign: Campaign) -> None:
    campaign.books["shipments"].append(campaign.held("shipments", FINE) | {"key": "nobody.deliver-order"})


# Stock.


@planted("stock-adds-up")
def one_of_the_goods_is_lost(campaign: Campaign) -> None:
    campaign.sql(
        "UPDATE inventory_product SET available = available - 1 WHERE sku = (SELECT min(sku) FROM"
        " inventory_product)"
    )


@planted("movements-add-up")
def goods_moved_by_themselves(campaign: Campaign) -> None:
    campaign.sql(
        "UPDATE inventory_product SET available = available - 1, shipped = shipped + 1 WHERE sku ="
        " (SELECT min(sku) FROM inventory_product)"
    )


@planted("goods-of-orders")
def goods_went_out_for_another_order(campaign: Campaign) -> None:
    campaign.sql(
        "UPDATE inventory_movement SET reservation_id = %s WHERE kind = 'shipped' AND reservation_id = %s",
        f"{campaign.saga(TWICE)}.reserve-stock",
        f"{campaign.saga(FINE)}.reserve-stock",
    )


@planted("goods-of-orders")
def the_goods_of_a_cancelled_order_are_held(campaign: Campaign) -> None:
    campaign.sql(
        "DELETE FROM inventory_movement WHERE kind = 'released' AND reservation_id = %s",
        f"{campaign.saga(CANCELLED)}.reserve-stock",
    )


@planted("reservations-agree")
def the_reservation_of_a_cancelled_order_is_held(campaign: Campaign) -> None:
    campaign.sql(
        "UPDATE inventory_reservation SET status = 'held' WHERE key LIKE %s", f"{campaign.saga(CANCELLED)}%"
    )


# Events.


@planted("lawful-moves")
def a_step_was_done_twice(campaign: Campaign) -> None:
    _again(campaign, FINE, "take-payment", "step.done")


@planted("rows-are-their-events")
def a_row_says_otherwise_than_its_events(campaign: Campaign) -> None:
    _step(campaign, FINE, "take-payment", "waiting")


@planted("no-do-after-undo")
def a_step_begins_after_its_undo(campaign: Campaign) -> None:
    _again(campaign, CANCELLED, "take-payment", "step.started")


@planted("no-do-after-undo")
def a_step_is_done_after_its_undo(campaign: Campaign) -> None:
    _again(campaign, CANCELLED, "take-payment", "step.done")


@planted("no-undo-before-do")
def what_never_began_is_undone(campaign: Campaign) -> None:
    campaign.sql(
        "DELETE FROM sagas_event WHERE saga_id = %s AND subject = 'take-payment' AND kind LIKE 'step.%%'",
        campaign.saga(CANCELLED),
    )


@planted("undone-in-reverse")
def the_first_is_undone_first(campaign: Campaign) -> None:
    campaign.sql(
        "UPDATE sagas_event SET id = -id WHERE saga_id = %s AND kind LIKE 'undo.%%'",
        campaign.saga(CANCELLED),
    )
    # The undos in the opposite order, at the end.
    campaign.sql("UPDATE sagas_event SET id = 1000000 + id WHERE id < 0")


@planted("attempts-in-a-row")
def an_attempt_is_missing(campaign: Campaign) -> None:
    campaign.sql(
        "UPDATE sagas_event SET attempt = attempt + 1 WHERE saga_id = %s AND kind = 'step.started'"
        " AND attempt > 1",
        campaign.saga("bank fails twice"),
    )


@planted("one-worker-at-a-time")
def two_workers_are_at_a_step(campaign: Campaign) -> None:
    campaign.sql(
        "INSERT INTO sagas_event SELECT (jsonb_populate_record(e, jsonb_build_object("
        "'id', id + 1, 'kind', 'step.unknown', 'data', %s::jsonb, 'at', at + interval '2 seconds'))).*"
        " FROM sagas_event e WHERE saga_id = %s AND subject = 'take-payment' AND kind = 'step.started'",
        json.dumps({"clock": "lease"}),
        campaign.saga(FINE),
    )


@planted("ends-are-final")
def something_happens_after_the_end(campaign: Campaign) -> None:
    _again(campaign, FINE, "take-payment", "step.started")


@planted("begun-once")
def a_saga_has_no_beginning(campaign: Campaign) -> None:
    campaign.sql("DELETE FROM sagas_event WHERE kind = 'saga.begun' AND saga_id = %s", campaign.saga(FINE))


def _again(campaign: Campaign, fate: str, step: str, kind: str) -> None:
    """The same event once more, at the end of all."""
    campaign.sql(
        "INSERT INTO sagas_event SELECT (jsonb_populate_record(e, '{\"id\": 1000000}')).* FROM sagas_event e"
        " WHERE saga_id = %s AND subject = %s AND kind = %s",
        campaign.saga(fate),
        step,
        kind,
    )


@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_fault_is_found_by_its_rule(campaign: Campaign, fault: str) -> None:
    rule, plant = PLANTED[fault]

    plant(campaign)

    report = campaign.check()
    assert rule in report.broken, f"{fault} broke {sorted(report.broken)}"
    assert not report.holds


def test_an_order_may_be_given_up_when_a_provider_was_away_or_the_stock_was_sold_out(
    campaign: Campaign,
) -> None:
    an_order_without_a_reason_is_cancelled(campaign)
    campaign.sql(
        "UPDATE orders_order SET postal_code = '01310-100' WHERE saga_id = %s", campaign.saga(CANCELLED)
    )
    campaign.sql(
        "UPDATE sagas_saga SET failure = jsonb_set(failure, '{kind}', '\"transient\"') WHERE id = %s",
        campaign.saga(CANCELLED),
    )

    given_up = campaign.check()
    assert not given_up.broken, str(given_up)
    assert given_up.gave_up == 1

    campaign.sql(
        "UPDATE sagas_saga SET failure = jsonb_set(failure, '{kind}', '\"refused\"') WHERE id = %s",
        campaign.saga(CANCELLED),
    )
    assert "foretold" in campaign.check().broken
    campaign.sql("UPDATE inventory_movement SET quantity = 1 WHERE kind = 'received'")
    assert "foretold" not in campaign.check().broken


def test_a_client_may_go_elsewhere_that_the_shop_took_no_order_of(campaign: Campaign) -> None:
    _turned_away(campaign, TWICE)
    before = campaign.check()
    assert before.broken == {"turned-away"}, "the order is there, and its client was told that it is not"
    assert before.turned_away == 1

    # Where a request was not answered it may have placed the order: who goes then has lost it.
    for place in (0, -1):
        line = campaign.told(TWICE)[place]
        said = {**line}
        line |= {"status": None, "answer": None, "error": "ReadTimeout"}
        assert campaign.check().broken == {"acknowledged"}
        line |= said

    # But where nobody was there to send it to, or the shop said that it was asked too often.
    campaign.told(TWICE)[0] |= {"status": None, "answer": None, "error": "ConnectError"}
    assert campaign.check().broken == {"turned-away"}
    campaign.told(TWICE)[0] |= {"status": 429, "error": None}
    assert campaign.check().broken == {"turned-away"}

    # The shop had another reason, and the client was to ask again.
    for line in campaign.told(TWICE):
        line |= {"status": 503, "answer": {"type": "/api/problems/unavailable"}, "error": "503"}
    assert campaign.check().broken == {"acknowledged"}


def test_an_order_that_was_turned_away_and_never_placed_breaks_no_rule(campaign: Campaign) -> None:
    another = copy.deepcopy(campaign.told(FINE)[0]) | {"key": "elsewhere"}
    another |= {"status": 503, "answer": {"type": "/api/problems/overloaded"}, "error": None}
    campaign.lines.append(another)

    report = campaign.check()

    assert not report.broken, str(report)
    assert (report.turned_away, report.acknowledged) == (1, report.wanted - 1)


def test_what_is_wrong_is_told_by_the_key_of_the_client(campaign: Campaign) -> None:
    a_centavo_less_was_charged(campaign)

    told = campaign.check().by_key("balance")

    assert set(told) == {campaign.key(FINE), ""}
    assert any("exact-charge" in one for one in told[campaign.key(FINE)])
    assert all("bank-balance" in one for one in told[""])


def test_every_rule_has_a_planted_fault() -> None:
    assert {rule.name for rule in rules.RULES} == {rule for rule, _ in PLANTED.values()}


def test_the_documentation_has_every_rule() -> None:
    page = (ROOT / "docs" / "checker.md").read_text()

    assert [line for line in page.splitlines() if line.startswith("| `") and line.count("|") == 4] == [
        f"| `{rule.name}` | {rule.kind} | {rule.says} |" for rule in rules.RULES
    ]


# --- From outside -------------------------------------------------------------------------------------


def test_the_command_prints_every_rule_and_its_exit_code_says_whether_they_hold(
    recorded: str, campaign: Campaign, tmp_path: pathlib.Path
) -> None:
    campaign.write()
    sound = _command(tmp_path / "history.jsonl", recorded, tmp_path)
    assert sound.returncode == 0, sound.stdout + sound.stderr
    assert all(rule.name in sound.stdout for rule in rules.RULES)
    assert "Every rule holds." in sound.stdout

    the_money_of_a_cancelled_order_is_kept(campaign)
    campaign.write()
    broken = _command(tmp_path / "history.jsonl", recorded, tmp_path, "--json")
    assert broken.returncode == 1
    told = json.loads(broken.stdout)
    assert {one["rule"] for one in told["rules"] if one["violations"]} >= {"nothing-kept", "bank-balance"}
    assert told["kinds"]["balance"] > 0

    assert _command(tmp_path / "nothing.jsonl", recorded, tmp_path).returncode == 2


def _command(*arguments: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "saga_project.local.checker", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_it_loads_nothing_of_what_it_judges() -> None:
    code = "import sys, saga_project.local.checker.__main__; print(*sys.modules)"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    loaded = done.stdout.split()
    ours = {name for name in loaded if name.startswith("saga_project")}
    assert {name for name in ours if not name.startswith("saga_project.local.checker")} == {
        "saga_project",
        "saga_project.local",
    }
    others = {name.partition(".")[0] for name in loaded}
    assert not others & {"django", "celery", "sagas", "orders", "payments", "inventory", "sandbox"}
    assert "psycopg" in others


@pytest.mark.django_db
def test_what_it_reads_is_there_in_the_real_tables(tmp_path: pathlib.Path) -> None:
    """An empty shop is sound; a column that is gone or renamed would be an error."""
    (tmp_path / "history.jsonl").write_text("")
    nothing = {name: [] for name in ("charges", "invoices", "shipments", "voided_numbers")}
    (tmp_path / "books.json").write_text(json.dumps(nothing))
    place = test_database.environment()["DATABASE_URL"]

    done = _command(tmp_path / "history.jsonl", place, tmp_path)

    assert done.returncode == 0, done.stdout + done.stderr


def test_a_history_that_is_none_is_refused_but_for_a_last_line_that_was_cut_off(
    tmp_path: pathlib.Path,
) -> None:
    path = tmp_path / "history.jsonl"
    line = json.dumps({"at": "2026-01-01T00:00:00+00:00", "key": "a", "request": {}, "status": None})

    path.write_text(f"{line}\n{line[:20]}")
    assert len(history.read(path)["a"].bodies) == 1

    for wrong in (f"{line[:20]}\n{line}", '{"at": ""}', '{"key": "a", "what": "dance"}'):
        path.write_text(wrong)
        with pytest.raises(history.Malformed):
            history.read(path)
