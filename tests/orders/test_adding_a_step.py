"""A step that is added as the README says works everywhere, and nothing breaks where a version is gone."""

import collections.abc
import contextlib
import io
import json
import os
import pathlib
import shutil
import subprocess
import sys
from typing import Any

import httpx
import pytest
from django.contrib.auth import models as auth
from django.core import checks, management
from django.test import Client
from django.urls import reverse
from prometheus_client import parser

from api.models import Scope
from orders import audit, customer_messages
from orders import saga as order_saga
from saga_project.local import fates, runfile, servers, stack, supervisor
from sagas import models as saga_models
from sagas.console import roles
from sagas.declaration import registry
from sagas.testing import memory_transport
from tests.orders import readme_step
from tests.orders.conftest import Api, deliver, member, order
from tests.orders.test_schema import is_described
from tests.sandbox.running import Sandbox
from tests.support import waiting
from tests.test_docs import README, ROOT, blocks
from tests.webhooks.receiver import Receiver, receiving
from webhooks import deliveries
from webhooks import models as outgoing

LIST = "/admin/sagas/sagainstance/"
NAMES = ["review-order", "take-payment", "reserve-stock", "issue-invoice", "deliver-order"]
NEW_NAMES = [*NAMES[:3], "wrap-gift", *NAMES[3:]]
DONE = ["skipped", *["done"] * 5]
"""What the steps of an order come to that needs no review."""

WORDS = {
    True: {
        "next": "We wrap the gift.",
        "refused": "This is too much to be wrapped as one gift.",
        "undo": "We unwrap the gift.",
    },
    False: {
        "next": "We carry out “wrap gift”.",
        "refused": "“Wrap gift” could not be done.",
        "undo": "We undo “wrap gift”.",
    },
}
"""What customers read, where the README's words were added and where they were not."""


@pytest.fixture
def receiver(settings: Any) -> collections.abc.Iterator[Receiver]:
    settings.WEBHOOKS_TO_PRIVATE_ADDRESSES = True
    with receiving() as one:
        yield one


@pytest.fixture
def mia(catalogue: None, receiver: Receiver) -> Api:
    """A merchant who is told of everything."""
    mia = member("mia", Scope.MERCHANT)
    wanted = {"url": receiver.url, "types": ["order.*", "saga.step.*"]}
    assert mia.post("/webhook-endpoints", wanted).status_code == 201
    return mia


@pytest.fixture
def olga(db: None) -> Api:
    """An operator, at the API."""
    return member("olga", Scope.STAFF, is_staff=True, is_superuser=True)


@pytest.fixture
def console(db: None) -> Client:
    """An operator, at the console."""
    roles.make()
    vera = auth.User.objects.create_user("vera", is_staff=True)
    vera.groups.add(auth.Group.objects.get(name=roles.VIEWER))
    client = Client()
    client.force_login(vera)
    return client


@pytest.fixture(params=[True, False], ids=["with words", "without words"])
def words(request: pytest.FixtureRequest, transactional_db: None) -> collections.abc.Iterator[dict[str, str]]:
    """The step is there; what customers read of it."""
    with readme_step.into_this_process(with_words=request.param):
        yield WORDS[request.param]


def too_much(**changes: Any) -> dict[str, Any]:
    """More than is wrapped as one gift."""
    return order(lines=[{"sku": "MUG-BLUE", "quantity": 11}], **changes)


def until(broker: memory_transport.MemoryTransport, shown: dict[str, Any], position: int) -> None:
    """Deliver until the order stands at that step."""
    saga = saga_models.SagaInstance.objects.get(pk=shown["saga"]["id"])
    while saga.position != position:
        assert broker.deliver()
        saga.refresh_from_db()


def names(shown: dict[str, Any]) -> list[str]:
    return [step["name"] for step in shown["saga"]["steps"]]


@pytest.mark.django_db(transaction=True)
def test_an_order_that_stands_at_a_new_step_is_shown_like_any_other(
    mia: Api, olga: Api, broker: memory_transport.MemoryTransport, sandbox: Sandbox, words: dict[str, str]
) -> None:
    shown = mia.order().json()
    until(broker, shown, 3)

    listed = mia.get("/orders")
    assert listed.status_code == 200
    (row,) = listed.json()["results"]
    assert names(row) == NEW_NAMES
    assert row["next"]["message"] == words["next"]
    is_described("Order", mia.get(f"/orders/{shown['id']}").json())
    assert mia.get(f"/orders/{shown['id']}?wait=0").json()["payment"]["status"] == "paid"

    sagas = olga.get("/sagas?step=wrap-gift")
    assert [row["step"] for row in sagas.json()["results"]] == ["wrap-gift"]


@pytest.mark.django_db(transaction=True)
def test_an_order_with_the_new_step_is_fulfilled_and_told_step_by_step(
    mia: Api,
    receiver: Receiver,
    broker: memory_transport.MemoryTransport,
    sandbox: Sandbox,
    words: dict[str, str],
    settings: Any,
) -> None:
    shown = mia.order().json()
    broker.deliver_all()
    deliver(mia, shown)
    broker.deliver_all()
    deliveries.run()

    done = mia.get(f"/orders/{shown['id']}").json()
    assert done["status"] == "fulfilled"
    assert [step["status"] for step in done["saga"]["steps"]] == DONE
    told = [(one["type"], one["data"].get("step", {}).get("name")) for one in receiver.told]
    assert ("saga.step.done", "wrap-gift") in told
    assert told[-1] == ("order.fulfilled", None)
    assert outgoing.Outbox.objects.count() == 0
    stream = mia.stream(f"/orders/{shown['id']}/events")
    assert '"step":"wrap-gift","from":"pending","to":"done"' in stream

    report = audit.run()
    assert [finding for finding in report.discrepancies if finding.room != "shipping"] == []


@pytest.mark.django_db(transaction=True)
def test_a_refusal_at_the_new_step_tells_the_customer_so_and_everything_is_undone(
    mia: Api,
    receiver: Receiver,
    broker: memory_transport.MemoryTransport,
    sandbox: Sandbox,
    words: dict[str, str],
) -> None:
    shown = mia.order(too_much()).json()
    broker.deliver_all()
    deliveries.run()

    told = mia.get(f"/orders/{shown['id']}").json()
    assert told["status"] == "cancelled"
    failure = {"step": "wrap-gift", "kind": "refused", "message": words["refused"]}
    assert told["failure"] == failure
    assert told["payment"]["status"] == "refunded"
    (step,) = [one for one in receiver.told if one["data"].get("step", {}).get("status") == "failed"]
    assert step["data"]["step"]["error"]["message"] == words["refused"]
    assert receiver.told[-1]["data"]["order"]["failure"] == failure
    stream = mia.stream(f"/orders/{shown['id']}/events")
    assert words["refused"] in stream
    assert audit.run().discrepancies == []


@pytest.mark.django_db(transaction=True)
def test_an_order_that_fails_later_has_its_new_step_undone_in_its_place(
    mia: Api, broker: memory_transport.MemoryTransport, sandbox: Sandbox, words: dict[str, str]
) -> None:
    body = order()
    body["customer"]["tax_id"] = "00000000191"
    shown = mia.order(body).json()
    until(broker, shown, 4)
    until(broker, shown, 3)

    under_way = mia.get(f"/orders/{shown['id']}").json()
    assert (under_way["status"], under_way["next"]["message"]) == ("cancelling", words["undo"])

    broker.deliver_all()
    ended = mia.get(f"/orders/{shown['id']}").json()
    assert ended["status"] == "cancelled"
    assert ended["saga"]["steps"][3]["status"] == "undone"


@pytest.mark.django_db(transaction=True)
def test_the_console_the_shell_and_the_metrics_show_the_new_step(
    mia: Api,
    olga: Api,
    console: Client,
    broker: memory_transport.MemoryTransport,
    sandbox: Sandbox,
    words: dict[str, str],
) -> None:
    well, refused = mia.order(key="well").json(), mia.order(too_much(), key="refused").json()
    broker.deliver_all()

    for language in ("en", "pt-BR"):
        for shown in (well, refused):
            page = console.get(f"{LIST}{shown['saga']['id']}/change/", headers={"Accept-Language": language})
            assert page.status_code == 200, language
            assert [row.name for row in page.context["timeline"].rows if not row.undo] == NEW_NAMES
            assert page.context["panels"][0].title in ("Money", "Dinheiro")
    listed = console.get(LIST, {"step": "wrap-gift"})
    assert [str(saga.pk) for saga in listed.context["cl"].result_list] == [refused["saga"]["id"]]
    label = "Wrap the gift" if words is WORDS[True] else "Wrap gift"
    assert f"wrap-gift ({label})" in listed.content.decode()
    assert console.get(reverse("admin:sagas_groups"), {"scope": "failed"}).status_code == 200
    assert console.get("/admin/").status_code == 200

    out = io.StringIO()
    management.call_command("saga", "show", refused["saga"]["id"], stdout=out)
    management.call_command("saga", "list", "--step", "wrap-gift", stdout=out)
    assert out.getvalue().count("wrap-gift") > 2

    text = olga.client.get("/metrics").text
    families = {family.name: family for family in parser.text_string_to_metric_families(text)}
    of_steps = [sample.labels["step"] for sample in families["sagas_step_p50_seconds"].samples]
    assert "wrap-gift" in of_steps


@pytest.mark.django_db(transaction=True)
def test_orders_that_began_before_go_on_beside_those_with_the_new_step(
    mia: Api, olga: Api, broker: memory_transport.MemoryTransport, sandbox: Sandbox
) -> None:
    before = mia.order(key="before").json()
    broker.deliver_all()
    with readme_step.into_this_process(with_words=False):
        after = mia.order(key="after").json()
        broker.deliver_all()

        old, new = (mia.get(f"/orders/{shown['id']}").json() for shown in (before, after))
        assert (names(old), names(new)) == (NAMES, NEW_NAMES)
        text = olga.client.get("/metrics").text
        lines = [line.rpartition(" ")[0] for line in text.splitlines() if line.startswith("sagas_step_")]
        assert sorted(lines) == sorted(set(lines)), "Prometheus takes no series twice"

        for shown in (before, after):
            deliver(mia, shown)
        broker.deliver_all()
        for shown in (before, after):
            assert mia.get(f"/orders/{shown['id']}").json()["status"] == "fulfilled"
        assert {finding.room for finding in audit.run().discrepancies} <= {"shipping"}


@pytest.mark.django_db(transaction=True)
def test_an_old_order_whose_steps_nobody_knows_any_more_breaks_no_page(
    mia: Api,
    olga: Api,
    receiver: Receiver,
    console: Client,
    broker: memory_transport.MemoryTransport,
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with readme_step.into_this_process(with_words=True):
        refused = mia.order(too_much(), key="refused").json()
        broker.deliver_all()
    monkeypatch.setattr(registry, "_sagas", {})
    monkeypatch.setattr(customer_messages, "STEPS", {})

    shown = mia.get(f"/orders/{refused['id']}").json()
    assert shown["failure"]["message"] == "“Wrap gift” could not be done."
    assert (shown["payment"], shown["invoice"], shown["shipment"]) == (None, None, None)
    is_described("Order", shown)
    assert mia.get("/orders").status_code == 200
    assert mia.stream(f"/orders/{refused['id']}/events")
    deliveries.run()
    assert receiver.types[-1] == "order.cancelled"
    for path in (f"/sagas/{refused['saga']['id']}", f"/sagas/{refused['saga']['id']}/events", "/sagas"):
        assert olga.get(path).status_code == 200
    for path in ("", "change/", "history.json", "events.csv"):
        where = f"{LIST}{refused['saga']['id']}/{path}" if path else LIST
        assert console.get(where).status_code == 200, where
    page = console.get(f"{LIST}{refused['saga']['id']}/change/")
    assert page.context["panels"][0].net.startswith("Nothing with us")
    management.call_command("saga", "show", refused["saga"]["id"], stdout=io.StringIO())
    assert audit.run().discrepancies == []


# --- The checks ----------------------------------------------------------------------------------


def complaints() -> list[tuple[str | None, str]]:
    return [(one.id, str(one.hint)) for one in checks.run_checks() if str(one.id).startswith("orders.")]


def test_every_step_of_ours_has_its_words_in_both_languages() -> None:
    assert complaints() == []


@pytest.mark.django_db(transaction=True)
def test_a_step_without_words_or_without_portuguese_is_named_by_the_check(words: dict[str, str]) -> None:
    ((id_, hint),) = complaints()

    if words is WORDS[True]:
        assert id_ == "orders.W002"
        assert "orders/locale/pt_BR/LC_MESSAGES/django.po" in hint
    else:
        assert id_ == "orders.W001"
        assert "orders/customer_messages.py" in hint


@pytest.fixture
def project(tmp_path: pathlib.Path) -> pathlib.Path:
    """A copy of the project, to be edited."""
    # With its compiled modules, or each of some twenty processes would compile them anew.
    left_out = shutil.ignore_patterns(".*", "staticfiles", "tests", "docs", "benchmarks")
    return pathlib.Path(shutil.copytree(ROOT, tmp_path / "project", ignore=left_out))


def test_the_readmes_edits_are_all_that_a_project_needs(
    project: pathlib.Path, environment: dict[str, str]
) -> None:
    readme_step.into_a_copy(project)

    def manage(*words: str) -> str:
        ran = subprocess.run(
            [sys.executable, "manage.py", *words],
            cwd=project,
            env=environment | {"PYTHONPATH": str(project), "DJANGO_SETTINGS_MODULE": "saga_project.settings"},
            capture_output=True,
            text=True,
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout + ran.stderr

    assert "orders/saga.lock: written." in manage("saga", "lock")
    assert "Create model Wrapping" in manage("makemigrations", "inventory")
    assert "No changes" in manage("makemigrations", "--check")
    told = manage("check")
    assert "orders.W002" in told
    assert "orders.W001" not in told

    (portuguese,) = blocks(README, "po", under=readme_step.HEADING)
    catalogue = project / "orders/locale/pt_BR/LC_MESSAGES/django.po"
    catalogue.write_text(f"{catalogue.read_text()}\n{portuguese}\n")
    if shutil.which("msgfmt"):
        subprocess.run(["msgfmt", "-o", "django.mo", "django.po"], cwd=catalogue.parent, check=True)
        assert "no issues" in manage("check", "--fail-level", "WARNING")
    declared = manage("shell", "-c", _DECLARED)
    assert json.loads(declared.strip().splitlines()[-1]) == {"1": NAMES[1:], "2": NAMES, "3": NEW_NAMES}


_DECLARED = """
import json
from sagas.declaration import registry
versions = registry.versions("order-fulfilment")
print(json.dumps({saga.version: [step.name for step in saga.steps] for saga in versions}))
"""


@pytest.mark.thorough  # That a new queue has its worker is a unit test's; this one goes all the way.
@pytest.mark.timeout(300)
def test_a_step_of_a_new_service_has_its_worker_on_the_local_stack_and_no_list_was_edited(
    project: pathlib.Path, environment: dict[str, str], tmp_path: pathlib.Path
) -> None:
    readme_step.as_a_new_service(project)
    run = tmp_path / "run"
    there = {"PYTHONPATH": str(project), "DJANGO_SETTINGS_MODULE": "saga_project.settings"}
    for words in (["saga", "lock"], ["makemigrations", "gifts"]):
        subprocess.run(
            [sys.executable, "manage.py", *words],
            cwd=project,
            env=environment | there,
            check=True,
            capture_output=True,
        )

    with local_stack(project, run, there) as told:
        assert "gifts" in supervisor.processes(run)
        with httpx.Client(
            base_url=f"{told['WEB_URL']}/api/v1",
            headers={"Authorization": f"Token {told['API_TOKEN']}"},
            timeout=30,
        ) as shop:
            sku = shop.get("/products").json()["results"][0]["sku"]
            wish = fates.body(fates.Fate(name="a gift"), sku)
            placed = shop.post("/orders", json=wish, headers={"Idempotency-Key": "gift-1"}).json()
            done = waiting.until(
                lambda: (
                    (shown := shop.get(f"/orders/{placed['id']}").json())["status"] == "fulfilled" and shown
                )
            )

    assert [(step["name"], step["status"]) for step in done["saga"]["steps"]] == [
        *zip(NEW_NAMES, DONE, strict=True)
    ]


@contextlib.contextmanager
def local_stack(
    project: pathlib.Path, run: pathlib.Path, more: dict[str, str]
) -> collections.abc.Iterator[dict[str, str]]:
    """The stack of a copy of the project, on ports of its own: what it tells of itself."""
    around = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "BROKER_URL")}
    ports = {name: str(servers.free_port()) for name in stack.PORTS}
    command = [sys.executable, "-m", "saga_project.local.stack"]
    where: dict[str, Any] = {"cwd": project, "env": around | ports | more | {"RUN_DIR": str(run)}}
    log = run.parent / "output"
    with log.open("wb") as output:
        process = subprocess.Popen([*command, "up"], stdout=output, stderr=output, **where)
    try:
        waiting.until(lambda: (run / "env").exists() or process.poll() is not None, seconds=90)
        assert process.poll() is None, log.read_text()
        yield runfile.read(run / "env")
    finally:
        process.terminate()
        process.wait(60)
        subprocess.run([*command, "discard"], check=True, **where)


def test_no_steps_name_is_written_outside_its_declaration_and_its_words() -> None:
    allowed = {
        "orders/saga.py",
        "orders/saga_v1.py",
        "orders/customer_messages.py",
        "orders/api/samples.py",
        "sagas/console/api/samples.py",
        "webhooks/api/samples.py",
        # It shares nothing with the shop, and says for itself what orders are made of.
        "saga_project/local/checker/world.py",
        "saga_project/local/checker/rules/ends.py",
    }
    rooms = (
        "api",
        "orders",
        "webhooks",
        "sagas",
        "payments",
        "inventory",
        "invoicing",
        "shipping",
        "saga_project",
        "backoffice",
    )
    own = {step.name for step in order_saga.ORDER_FULFILMENT.steps}

    found = {
        os.path.relpath(path, ROOT)
        for room in rooms
        for path in (ROOT / room).rglob("*")
        if path.suffix in (".py", ".html", ".js") and any(f'"{name}"' in path.read_text() for name in own)
    }

    assert found <= allowed
