"""Orders from a file: the rules of the REST API, each line once, and a wrong one keeps no other back."""

import csv
import json
import uuid

import pytest
from django.core.management import CommandError, call_command

from api import models as api
from orders import importing, models
from sagas import models as sagas
from tests.orders.conftest import order


def jsonl(path, *bodies):
    path.write_text("\n".join(body if isinstance(body, str) else json.dumps(body) for body in bodies))
    return path


def keyed(key, **changes):
    return {"key": key, **order(**changes)}


def run(capsys, path, *options):
    """What the command says, and its exit code."""
    try:
        call_command("import_orders", str(path), "--owner", "ana", *options)
        code = 0
    except SystemExit as end:
        code = end.code
    said = capsys.readouterr()
    return code, said.out.strip(), said.err.strip().splitlines()


def test_each_line_is_placed_once_and_a_wrong_one_keeps_no_other_back(ana, broker, capsys, tmp_path):
    nobody = order()["customer"] | {"tax_id": "111"}
    path = jsonl(
        tmp_path / "orders.jsonl",
        keyed("a"),
        keyed("b", customer=nobody),
        "{not json",
        keyed("c", lines=[{"sku": "NO-SUCH", "quantity": 1}]),
        "",
        keyed("d", payment={"method": "pix"}),
        keyed("a"),
        keyed("d"),
        order(),
    )

    code, out, err = run(capsys, path, "--batch", "4")

    assert (code, out) == (1, "2 placed, 1 placed before, 5 wrong.")
    assert [line.partition(":")[0] for line in err] == ["line 2", "line 3", "line 4", "line 8", "line 9"]
    assert err[0].startswith("line 2: customer.tax_id: This must be")
    assert err[2] == "line 4: lines[0] NO-SUCH: There is no such product."
    placed = models.Order.objects.order_by("id")
    assert [(row.owner, row.payment_method, row.total_amount) for row in placed] == [
        (ana.user, "card", 18290),
        (ana.user, "pix", 18290),
    ]
    assert sagas.SagaInstance.objects.count() == 2

    again = run(capsys, path)

    assert again[:2] == (1, "0 placed, 3 placed before, 5 wrong.")
    assert models.Order.objects.count() == 2


def test_an_order_of_a_file_is_as_one_of_the_api(ana, broker, capsys, tmp_path):
    assert ana.order(order(), key="k").status_code == 202
    assert run(capsys, jsonl(tmp_path / "one.jsonl", keyed("k")))[0] == 0

    by_api, by_file = (
        {name: value for name, value in row.items() if name not in ("id", "number", "saga_id", "created_at")}
        for row in models.Order.objects.order_by("id").values()
    )
    assert by_file == by_api
    first, second = sagas.SagaInstance.objects.order_by("id").values_list("facts", "version")
    assert first == second


def test_a_line_at_another_total_is_wrong_and_keeps_none_from_being_placed(ana, broker, capsys, tmp_path):
    at = [{"amount": amount, "currency": "BRL"} for amount in (18290, 18291)]
    path = jsonl(tmp_path / "orders.jsonl", *(keyed(f"k-{one['amount']}", total=one) for one in at))

    code, out, err = run(capsys, path)

    assert (code, out) == (1, "1 placed, 0 placed before, 1 wrong.")
    assert err[0].startswith("line 2: The order comes to 18290 BRL, and not to 18291 BRL")
    assert models.Order.objects.count() == 1


def test_a_spreadsheet_has_the_same_names_as_columns(ana, broker, capsys, tmp_path):
    path = tmp_path / "orders.csv"
    body = order()
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        rows = csv.DictWriter(file, [name for name in importing.COLUMNS if "token" not in name])
        rows.writeheader()
        row = {"key": "a", "lines": "MUG-BLUE:2 POSTER-MAP:1", "payment.method": "pix", "reference": "R, 1"}
        row |= {"total.amount": "18290", "total.currency": "BRL"}
        for part in ("customer", "shipping_address"):
            row |= {f"{part}.{name}": value for name, value in body[part].items()}
        rows.writerow(row)
        rows.writerow(row | {"key": "b", "lines": "MUG-BLUE 2"})
        file.write("c,too,few\n")

    code, out, err = run(capsys, path)

    assert (code, out) == (1, "1 placed, 0 placed before, 2 wrong.")
    assert err[0] == f"line 3: lines: {importing.LINES_LOOK}"
    assert err[1].startswith("line 4: It must have 18 cells")
    assert [line.sku for line in models.Order.objects.get(reference="R, 1").lines.all()] == [
        "MUG-BLUE",
        "POSTER-MAP",
    ]


def test_to_check_places_nothing(ana, broker, capsys, tmp_path):
    path = jsonl(tmp_path / "orders.jsonl", keyed("a"), keyed("b", lines=[]))

    code, out, _ = run(capsys, path, "--check")

    assert (code, out) == (1, "1 would be placed, 0 placed before, 1 wrong.")
    assert not models.Order.objects.exists()
    assert not api.IdempotencyKey.objects.exists()


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("orders.txt", "", "neither .jsonl nor .csv"),
        ("orders.csv", "sku,quantity\n", "must name the columns"),
        ("gone.jsonl", None, "cannot be read"),
    ],
)
def test_a_file_that_cannot_be_taken_says_why(ana, capsys, tmp_path, name, text, says):
    path = tmp_path / name
    if text is not None:
        path.write_text(text)

    with pytest.raises(CommandError, match=says):
        run(capsys, path)


def test_somebody_has_to_order(ana, capsys, tmp_path):
    with pytest.raises(CommandError, match="There is no user"):
        call_command("import_orders", str(jsonl(tmp_path / "a.jsonl")), "--owner", str(uuid.uuid4()))
