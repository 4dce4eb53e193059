"""Over REST a child names its parent, a parent's step says how its children stand, and lists find either."""

import datetime

import pytest
from django.contrib.auth import models as auth
from django.db import connection
from django.test import Client, utils

from api import tokens
from api.models import Scope
from sagas import Child, ForEach, engine, models
from sagas.engine import archive
from tests.sagas import harness
from tests.sagas.console import admin_client
from tests.sagas.sample_app import functions
from tests.sagas.sample_app import saga as toys

pytestmark = pytest.mark.usefixtures("rows")

WAITS = toys.saga("toy-api-parcel", toys.local("x"), toys.waits("y"), inputs=["parcel"])
DELIVERS = toys.saga(
    "toy-api-deliver",
    toys.local("a"),
    ForEach("deliver", of="parcels", saga=WAITS, limit=2),
    toys.local("z"),
    inputs=["parcels"],
)
WITHOUT_LIMIT = toys.saga(
    "toy-api-deliver-all", toys.local("a"), ForEach("deliver", of="parcels", saga=toys.PARCEL),
    toys.local("z"), inputs=["parcels"],
)  # fmt: skip


class World(functions.Scripted):
    """Some calls are answered otherwise than well: by function, step and element."""

    def __init__(self, **answers):
        self.answers = answers

    def _answer(self, function, key):
        saga_id, step = key.split(".")
        item = models.SagaInstance.objects.get(pk=saga_id).parent_item
        return self.answers.get(f"{function}_{step}_{item}", "well")


@pytest.fixture
def world(monkeypatch):
    def use(**answers):
        monkeypatch.setattr(functions, "WORLD", World(**answers))

    return use


@pytest.fixture
def as_staff():
    """Somebody's client, with a token of the staff and these permissions."""
    users = []

    def begin(name, *permissions, **rest):
        user, _ = auth.User.objects.get_or_create(username=name, defaults={"is_staff": True, **rest})
        user.user_permissions.set(auth.Permission.objects.filter(codename__in=permissions))
        users.append(user)
        _, secret = tokens.create(user=user, name="tests", scope=Scope.STAFF)
        return Client(headers={"Authorization": f"Token {secret}"})

    yield begin
    for user in users:
        user.delete()


@pytest.fixture
def olga(as_staff):
    return as_staff("olga", is_superuser=True)


def begin(declared, count):
    return harness.begin(declared, inputs={"parcels": [f"parcel {number}" for number in range(count)]})


def read(person, path):
    answer = person.get(path)
    assert answer.status_code == 200, answer.content
    return answer.json()


def ids(person, query):
    return [one["id"] for one in read(person, f"/api/v1/sagas?{query}")["results"]]


def under_way(broker, world):
    """A parent of four, of which one is done, one waits for a callback, and two have not begun."""
    world(do_y_0="well", do_y_1="begin", do_y_2="begin")
    saga = begin(DELIVERS, 4)
    broker.deliver_all()
    saga.refresh_from_db()
    return saga


def test_a_step_that_is_sagas_says_how_many_stand_where_and_where_they_are_listed(broker, world, olga):
    saga = under_way(broker, world)

    steps = {step["name"]: step for step in read(olga, f"/api/v1/sagas/{saga.pk}")["steps"]}

    assert (steps["a"]["children"], steps["z"]["children"]) == (None, None)
    told = steps["deliver"]["children"]
    link = told.pop("link")
    assert {name: count for name, count in told.items() if count} == {
        "total": 4, "done": 1, "waiting": 1, "running": 2, "coming": 1,
    }  # fmt: skip
    found = read(olga, link)["results"]
    assert sorted(one["parent"]["item"] for one in found) == [0, 1, 2, 3]
    assert {one["name"] for one in found} == {"toy-api-parcel"}


def test_a_child_names_its_parent_and_leads_there(broker, world, olga):
    saga = under_way(broker, world)
    child = models.SagaInstance.objects.get(parent_id=saga.pk, parent_item=2)

    parent = read(olga, f"/api/v1/sagas/{child.pk}")["parent"]

    assert parent == {
        "id": str(saga.pk), "key": saga.key, "step": "deliver", "item": 2,
        "link": f"/api/v1/sagas/{saga.pk}",
    }  # fmt: skip
    assert read(olga, parent["link"])["parent"] is None


def test_a_list_is_of_children_or_of_nobodys_children(broker, world, olga):
    saga, other = under_way(broker, world), under_way(broker, world)

    mine = {str(one.pk) for one in models.SagaInstance.objects.filter(parent_id=saga.pk)}
    assert set(ids(olga, f"parent={saga.pk}")) == set(ids(olga, f"parent={saga.pk}.deliver")) == mine
    assert ids(olga, f"parent={saga.pk}.a") == []
    assert ids(olga, "roots=true") == [str(other.pk), str(saga.pk)]
    assert len(ids(olga, "roots=false")) == 10
    assert len(ids(olga, f"parent={saga.pk}&step=y")) == 2


@pytest.mark.parametrize("query", ["parent=", "parent=7", "parent=a.b", "roots=1", "approval=yours"])
def test_a_senseless_question_about_families_is_refused(olga, query):
    answer = olga.get(f"/api/v1/sagas?{query}")

    assert answer.status_code == 400
    assert answer.json()["errors"][0]["parameter"] == query.partition("=")[0]


def test_the_archive_knows_families_too(broker, world, olga):
    world()
    saga = begin(WITHOUT_LIMIT, 3)
    harness.drive(broker, saga)
    archive.run(older_than=datetime.timedelta(0))
    assert not models.SagaInstance.objects.exists()

    told = read(olga, f"/api/v1/sagas/{saga.pk}")["steps"][1]["children"]
    found = read(olga, told["link"])["results"]

    assert (told["total"], told["done"], told["completed"]) == (3, 3, 3)
    assert {one["parent"]["item"] for one in found} == {0, 1, 2}
    assert {one["parent"]["key"] for one in found} == {saga.key}
    assert ids(olga, "archived=true&roots=true") == [str(saga.pk)]


def test_a_saga_that_needs_a_person_for_a_child_says_for_which(broker, world, olga):
    world(do_y_1="fail", undo_y_1="fail")
    saga = begin(WITHOUT_LIMIT, 2)
    while broker.deliver():
        pass
    child = models.SagaInstance.objects.get(parent_id=saga.pk, parent_item=1)

    told = read(olga, f"/api/v1/sagas/{saga.pk}")

    assert (told["state"], told["attention"]["child"]) == ("needs_attention", str(child.pk))
    assert told["steps"][1]["children"]["attention"] == 1
    assert read(olga, f"/api/v1/sagas/{child.pk}")["attention"]["child"] is None


def test_a_list_that_was_empty_has_no_children_and_one_not_begun_says_nothing(broker, world, olga):
    world()
    empty = begin(WITHOUT_LIMIT, 0)
    harness.drive(broker, empty)

    assert read(olga, f"/api/v1/sagas/{empty.pk}")["steps"][1]["children"]["total"] == 0
    fresh = begin(WITHOUT_LIMIT, 1)
    assert read(olga, f"/api/v1/sagas/{fresh.pk}")["steps"][1]["children"] is None


def test_a_page_of_families_takes_as_many_statements_however_large_they_are(broker, world, olga):
    world()
    inner = toys.saga("toy-api-inner", toys.local("i"))
    declared = toys.saga(
        "toy-api-two",
        ForEach("deliver", of="parcels", saga=toys.PARCEL),
        Child("wrap", saga=inner),
        toys.waits("w"),
        inputs=["parcels"],
    )

    def asked():
        with utils.CaptureQueriesContext(connection) as captured:
            results = read(olga, "/api/v1/sagas?limit=100")["results"]
        return len(results), len(captured)

    begin(declared, 1)
    broker.deliver_all()
    asked()  # Whatever is asked once only.
    few, statements = asked()
    for count in (3, 7):
        begin(declared, count)
    broker.deliver_all()

    assert (few, asked()) == (3, (3 + 5 + 9, statements))


# --- Approvals that one may give ------------------------------------------------------------------


def test_whoever_asks_is_told_what_waits_for_an_answer_of_theirs(as_staff):
    asked, two = admin_client.asked(), admin_client.asked(toys.APPROVED_BY_TWO)
    admin_client.waiting()
    rita, otto = as_staff("rita", "approve_toy"), as_staff("otto", "operate_saga")

    both = [str(two.pk), str(asked.pk)]
    assert ids(rita, "approval=mine") == ids(rita, "approval=any") == ids(otto, "approval=any") == both
    assert ids(otto, "approval=mine") == []
    assert ids(rita, "approval=mine&archived=true") == []

    engine.approve(asked.pk, "ok", actor="rita")
    engine.refuse(two.pk, "ok", actor="rita", reason="no")
    assert ids(rita, "approval=any") == []
    assert not models.StepInstance.objects.filter(asked_at__isnull=False).exists()


def test_what_waits_for_an_answer_is_found_by_an_index_among_whatever_else_lives(as_staff):
    asked = admin_client.asked()
    many = [
        models.SagaInstance(
            name="toy-approved", version=1, fingerprint="f", key=f"{n}", wake_at=asked.wake_at
        )
        for n in range(3000)
    ]
    models.SagaInstance.objects.bulk_create(many, batch_size=500)
    models.StepInstance.objects.bulk_create(
        [
            models.StepInstance(saga=saga, position=n, name=name)
            for saga in many
            for n, name in enumerate(("a", "ok", "c"))
        ],
        batch_size=500,
    )
    rita = as_staff("rita", "approve_toy")
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE sagas_saga, sagas_step")
    with utils.CaptureQueriesContext(connection) as captured:
        assert ids(rita, "approval=mine") == [str(asked.pk)]

    (question,) = [
        one["sql"] for one in captured if "asked_at" in one["sql"] and "prefetch" not in one["sql"]
    ][:1]
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN {question}")
        plan = "\n".join(line for (line,) in cursor.fetchall())
    assert "step_asked" in plan, plan
    assert "Seq Scan" not in plan, plan
