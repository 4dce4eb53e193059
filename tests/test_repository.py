"""What holds for the repository as a whole: documents and code that must say the same."""

import ast
import inspect
import pathlib
import re
import tomllib

from django.conf import settings as django_settings

from orders import saga
from saga_project import env, settings
from saga_project.local import stack
from sagas import conf

ROOT = pathlib.Path(__file__).resolve().parents[1]
CONFIGURATION = (ROOT / "docs" / "configuration.md").read_text()

assert settings.DATABASES, "reading the settings fills env.VARIABLES"


def rows(heading):
    """The rows of the table under a heading, as lists of cells without backquotes."""
    section = re.search(rf"^## {heading}$(.*?)(?=^## |\Z)", CONFIGURATION, re.MULTILINE | re.DOTALL)
    lines = re.findall(r"^\| (`.*) \|$", section[1], re.MULTILINE)
    return [[cell.strip().strip("`") for cell in line.split(" | ")] for line in lines]


def test_every_variable_that_the_settings_read_is_described():
    described = {name: (kind, default) for name, kind, default, _ in rows("What the project reads")}
    read = {
        variable.name: (
            variable.kind,
            "**required**" if variable.default is None else variable.default or "empty",
        )
        for variable in env.VARIABLES.values()
    }

    assert described == read


def test_every_setting_of_the_engine_is_described_there_and_where_it_is_read():
    """Names in the page's table, in the module's own, and those that it reads."""
    described = [name for name, _, _ in rows("What the engine reads")]
    read = set(re.findall(r'_read\("(\w+)"', inspect.getsource(conf)))
    own = set(re.findall(r"^\| `(\w+)` \|", conf.__doc__, re.MULTILINE))

    assert len(described) == len(set(described))
    assert set(described) == read == own


def test_every_setting_of_the_engine_has_a_default(monkeypatch):
    """In a project that names none of them the engine starts: all that it asks for is an application."""
    for name in {name for name, _, _ in rows("What the engine reads")}:
        monkeypatch.delattr(django_settings, name, raising=False)
    monkeypatch.setattr(conf, "_noted", ["an application"])

    assert conf.problems() == []


def test_every_variable_that_the_local_stack_reads_is_described():
    described = {name for name, _, _ in rows("What the local stack reads")}
    told = set(stack.CONTRACT) | {"DJANGO_SETTINGS_MODULE"}

    assert described - {"DATABASE_URL", "BROKER_URL"} == read_by_the_local_stack() - told


def test_the_ports_are_the_described_ones():
    described = {name: default for name, default, _ in rows("What the local stack reads")}

    assert {name: int(described[name]) for name in stack.PORTS} == stack.PORTS


def test_every_variable_that_the_local_stack_tells_is_described():
    assert [name for name, _ in rows("What the local stack tells")] == list(stack.CONTRACT)


def test_every_package_is_checked_for_its_types_and_its_imports():
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests", "benchmarks"}

    assert set(tools["mypy"]["files"]) == packages | {"manage.py", "clients/python"}
    assert set(tools["importlinter"]["root_packages"]) == packages


PLAN = {"__init__.py", "admin.py", "apps.py", "audit.py", "errors.py", "models.py", "services.py"}


def test_every_service_has_the_same_plan():
    """A service is the package of a declared step; one that has a provider has a gateway to it."""
    steps = [step for step in saga.ORDER_FULFILMENT.all_steps if step.has_worker]
    assert len({step.queue for step in steps}) == len(steps)

    for step in steps:
        wanted = PLAN | {"gateway.py"} if step.remote else PLAN
        files = {path.name for path in (ROOT / step.queue).glob("*.py")}
        own = {"checks.py", "access_key.py"} if step.queue == "invoicing" else set()
        assert files == wanted | own, step.queue


SESSION_LOCK = re.compile(r"pg_(try_)?advisory_(un)?lock\b")


def test_no_lock_outlives_its_transaction():
    """A pooler shares connections between transactions: the lock of a session there is anybody's."""
    assert [path for path in modules_of_the_product() if SESSION_LOCK.search(path.read_text())] == []


BATCH = re.compile(r"\bIN\s*\(\s*SELECT\b(?:[^()]|\([^()]*\))*\bLIMIT\b[^()]*\bSKIP LOCKED")


def test_no_batch_is_asked_for_once_for_each_row():
    """Under some plans PostgreSQL does, skips what it locked, and takes more: `= ANY (ARRAY())` is right."""
    statements = {
        path: re.sub(r'"(?:  # [^\n]*)?\s+f?"', "", path.read_text()) for path in modules_of_the_product()
    }

    assert [path for path, text in statements.items() if BATCH.search(text)] == []


ASKED_AT_ONCE = re.compile(r"^\s*assert\b.*\.(count\(\)|is_\w+\(\)|inner_text\(\)|page\.url)", re.MULTILINE)


def test_what_a_page_shows_is_waited_for():
    """After a click the next page may still be on its way: `expect` waits for it, an assertion does not."""
    tests = {path: path.read_text() for path in (ROOT / "tests").rglob("test_*.py")}
    browsing = {path: text for path, text in tests.items() if "support import browser" in text}

    assert browsing
    assert {path: found for path, text in browsing.items() if (found := ASKED_AT_ONCE.findall(text))} == {}


def modules_of_the_product():
    rooms = [path.parent for path in ROOT.glob("*/__init__.py") if path.parent.name != "tests"]
    modules = [path for room in rooms for path in room.rglob("*.py")]
    assert len(modules) > 100
    return modules


def read_by_the_local_stack():
    """Names that saga_project/local looks up in os.environ; the sandbox has a page of its own."""
    names = set(stack.PORTS)
    for path in (ROOT / "saga_project" / "local").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case (
                    ast.Subscript(value=ast.Attribute(attr="environ"), slice=ast.Constant(str(name)))
                    | ast.Call(
                        func=ast.Attribute(value=ast.Attribute(attr="environ")),
                        args=[ast.Constant(str(name)), *_],
                    )
                    | ast.Compare(left=ast.Constant(str(name)), comparators=[ast.Attribute(attr="environ")])
                ):
                    names.add(name)
    return names
