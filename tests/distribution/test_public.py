"""The shop uses of `sagas` what docs/in-your-project.md says is public, and nothing else."""

import ast
import re

from saga_project.local import runfile
from tests.distribution.walk import PAGE

SHOP = [
    "saga_project", "api", "orders", "webhooks", "payments", "inventory", "invoicing", "shipping",
    "providers", "backoffice",
]  # fmt: skip


def public() -> set[str]:
    """The modules that the page lists, those that it names as a module's modules included."""
    chapter = PAGE.read_text().partition("## What is public")[2]
    found = set()
    for names, what in re.findall(r"^\| (`sagas[^|]*) \| (.*) \|$", chapter, re.MULTILINE):
        for name in re.findall(r"`([\w.]+)`", names):
            parts = re.search(r"Its modules (.*?)(?:, and of its admin (.*?))?:", what)
            if parts is None:
                found.add(name)
                continue
            found |= {f"{name}.{one}" for one in re.findall(r"`(\w+)`", parts[1])}
            found |= {f"{name}.admin.{one}" for one in re.findall(r"`(\w+)`", parts[2] or "")}
    return found


def imported() -> dict[str, set[str]]:
    """What modules of `sagas` the shop imports, and where; a name that is no module is its package's."""
    used: dict[str, set[str]] = {}
    for package in SHOP:
        for path in (runfile.ROOT / package).rglob("*.py"):
            if "maimed" in path.parts:
                continue  # The negative control takes safeguards out of the engine.
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "sagas":
                    modules = {f"{node.module}.{name.name}" for name in node.names}
                elif isinstance(node, ast.Import):
                    modules = {name.name for name in node.names if name.name.partition(".")[0] == "sagas"}
                else:
                    continue
                for module in modules:
                    while not is_module(module):
                        module = module.rpartition(".")[0]
                    used.setdefault(module, set()).add(str(path.relative_to(runfile.ROOT)))
    return used


def is_module(name: str) -> bool:
    place = runfile.ROOT.joinpath(*name.split("."))
    return place.with_suffix(".py").exists() or (place / "__init__.py").exists()


def test_the_shop_imports_nothing_else():
    used, listed = imported(), public()

    assert {
        "sagas",
        "sagas.engine",
        "sagas.celery",
        "sagas.declaration.registry",
        "sagas.console.panels",
    } <= listed
    assert len(used) > 10
    assert {
        module: sorted(where) for module, where in used.items()
        if module not in listed and not module.startswith("sagas.dbrules.")
    } == {}  # fmt: skip


def test_what_is_listed_is_there():
    assert [name for name in public() if not is_module(name)] == []
