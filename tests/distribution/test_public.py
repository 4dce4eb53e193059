"""The shop uses of `sagas` what docs/in-your-project.md says is public, and nothing else."""

import ast

from saga_project.local import reference, runfile

SHOP = [
    "saga_project", "api", "orders", "webhooks", "payments", "inventory", "invoicing", "shipping",
    "providers", "backoffice",
]  # fmt: skip


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
    used, listed = imported(), set(reference.modules())

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
        if module not in listed
    } == {}  # fmt: skip


def test_what_is_listed_is_there():
    assert [name for name in reference.modules() if not is_module(name)] == []
