"""`manage.py saga` and families: children are listed by their parent, and changed as they were looked at."""

import datetime
import io
import json

import pytest
from django.core.management import CommandError, call_command

from sagas import models
from sagas.engine import archive
from tests.sagas import harness
from tests.sagas.sample_app import saga as toys

TWO = {"parcels": ["one", "two"]}


def saga(*arguments):
    out = io.StringIO()
    call_command("saga", *arguments, stdout=out, stderr=out)
    return out.getvalue()


def ids(*arguments):
    return [line.split()[0] for line in saga("list", *arguments).splitlines() if line[:1].isdigit()]


def children_of(one):
    return list(models.SagaInstance.objects.filter(parent_id=one.pk).order_by("parent_item"))


def test_children_are_listed_by_their_parent_and_left_out_of_the_roots(broker):
    one = broker.play(harness.begin(toys.EACH, inputs=TWO))
    other = broker.play(harness.begin(toys.EACH, inputs=TWO))

    mine = {str(child.pk) for child in children_of(one)}
    for parent in (str(one.pk), one.key, f"{one.pk}.deliver"):
        assert set(ids("--parent", parent)) == mine
    assert ids("--parent", f"{one.pk}.a") == []
    assert ids("--roots") == [str(other.pk), str(one.pk)]
    archive.run(older_than=datetime.timedelta(0))
    assert set(ids("--archived", "--parent", str(one.pk))) == mine
    assert set(ids("--archived", "--roots")) == {str(one.pk), str(other.pk)}
    with pytest.raises(CommandError, match="There is no saga"):
        saga("list", "--parent", "nobody")


def test_a_child_is_found_by_its_own_key(broker):
    one = broker.play(harness.begin(toys.EACH, inputs=TWO))
    child = children_of(one)[1]

    told = json.loads(saga("show", child.key, "--json"))

    assert (child.key, told["id"]) == (f"{one.pk}.deliver.1", str(child.pk))
    assert json.loads(saga("show", f"{child.pk}.x", "--json"))["id"] == str(child.pk)


def test_each_line_has_what_an_intervention_wants_for_all_children_of_a_parent(broker):
    script = "fail deliver.0.y, fail undo deliver.0.y, fail deliver.1.y, fail undo deliver.1.y"
    one = broker.play(harness.begin(toys.EACH_KEPT, script, inputs=TWO))
    assert {child.state for child in children_of(one)} == {"needs_attention"}

    listed = saga("list", "--parent", str(one.pk), "--state", "needs_attention", "--json")
    lines = [json.loads(line) for line in listed.splitlines()]
    assert [line["parent"]["item"] for line in sorted(lines, key=lambda line: line["parent"]["item"])] == [
        0,
        1,
    ]
    for line in lines:
        saga("retry", line["id"], "--seen", line["seen"], "--reason", "The carrier is back")

    assert broker.play(one).state == "completed"
    assert {child.state for child in children_of(one)} == {"compensated"}


def test_a_parent_is_shown_with_its_children_folded_and_those_that_need_a_person_by_name(broker):
    script = "fail deliver.1.y, fail undo deliver.1.y"
    one = broker.play(harness.begin(toys.EACH, script, inputs=TWO))
    first, second = children_of(one)

    said = saga("show", str(one.pk))

    lines = [line.strip() for line in said.splitlines()]
    below = lines[next(n for n, line in enumerate(lines) if line.startswith("deliver ")) :]
    assert "1 of 2 undone, 1 needs attention" in below
    (named,) = [line for line in below if str(second.pk) in line and line.startswith("deliver 2 of 2: ")]
    assert "y cannot be undone" in named
    assert str(first.pk) not in said
    assert (
        f"Child deliver 2 of 2 of toy-each {one.key}  {one.pk}" in saga("show", str(second.pk)).splitlines()
    )


def test_more_children_in_need_than_are_named_are_counted_and_listed_by_the_command_that_is_named(broker):
    many = 12
    script = ", ".join(f"fail deliver.{n}.y, fail undo deliver.{n}.y" for n in range(many))
    one = broker.play(harness.begin(toys.EACH_KEPT, script, inputs={"parcels": ["p"] * many}))

    said = saga("show", str(one.pk))

    (told,) = [line.strip() for line in said.splitlines() if " more: saga list" in line]
    count, _, command = told.removeprefix("and ").partition(" more: saga ")
    assert int(count) == many - 10
    assert len(ids(*command.split()[1:])) == many
