"""The shop and the examples use of `sagas` what docs/in-your-project.md says is public, and nothing else."""

import ast
import importlib
import pathlib
from collections.abc import Iterator

from saga_project.local import reference, runfile

USERS = [
    "saga_project", "api", "orders", "webhooks", "payments", "inventory", "invoicing", "shipping",
    "providers", "backoffice", "examples",
]  # fmt: skip


def is_module(name: str) -> bool:
    place = runfile.ROOT.joinpath(*name.split("."))
    return place.with_suffix(".py").exists() or (place / "__init__.py").exists()


def taken(path: pathlib.Path) -> Iterator[tuple[str, str]]:
    """What a file takes of `sagas`: modules, and names in them."""
    tree = ast.parse(path.read_text())
    modules = {}
    """By the name that the file has for each."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "sagas":
            for name in node.names:
                if is_module(f"{node.module}.{name.name}"):
                    modules[name.asname or name.name] = f"{node.module}.{name.name}"
                else:
                    yield str(node.module), name.name
        elif isinstance(node, ast.Import):
            ours = [name for name in node.names if name.name.partition(".")[0] == "sagas"]
            modules |= {name.asname or name.name: name.name for name in ours}
    for node in ast.walk(tree):
        module = modules.get(ast.unparse(node.value)) if isinstance(node, ast.Attribute) else None
        if module and not is_module(f"{module}.{node.attr}"):
            yield module, node.attr


def test_the_shop_and_the_examples_take_nothing_else():
    listed = reference.public()

    used = {
        (*one, str(path.relative_to(runfile.ROOT)))
        for package in USERS
        for path in (runfile.ROOT / package).rglob("*.py")
        if "maimed" not in path.parts  # The negative control takes safeguards out of the engine.
        for one in taken(path)
    }

    assert {
        ("sagas.engine", "begin_many", "orders/services.py"),
        ("sagas.ids", "uuid7", "orders/models.py"),
    } <= used
    assert sorted(one for one in used if one[1] not in listed.get(one[0], ())) == []


def test_what_is_listed_is_there():
    missing = [
        f"{module}.{name}" for module, names in reference.public().items() for name in names
        if not hasattr(importlib.import_module(module), name)
    ]  # fmt: skip

    assert missing == []
    assert min(map(len, reference.public().values())) > 0
