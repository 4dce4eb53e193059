"""The step `wrap-gift`, added as the README says: its text is what is carried out."""

import contextlib
import importlib
import pathlib
import re
from collections.abc import Iterator
from typing import Any

from django.apps import apps
from django.db import connection

from orders import customer_messages
from orders import saga as order_saga
from sagas.declaration import registry
from tests.test_docs import README, ROOT, blocks

HEADING = "Adding a step"
AT_THE_END, IN_STEPS = "at the end", "below STEPS"


def additions() -> dict[str, str]:
    """What the README adds, by the file."""
    found: dict[str, str] = {}
    for block in blocks(README, "python", under=HEADING):
        if named := re.match(r"# (\S+\.py), (.+)\n", block):
            assert named[2] in (AT_THE_END, IN_STEPS), named[2]
            found[named[1]] = block
    return found


def line() -> str:
    """The line that declares the step."""
    (found,) = [block for block in blocks(README, "python", under=HEADING) if block.startswith("Step(")]
    return found


def declarations() -> str:
    """The text of orders/saga.py with the old version beside the new one."""
    text = (ROOT / "orders/saga.py").read_text()
    declared = text[text.index("ORDER_FULFILMENT = Saga(") :]
    old = declared.replace("ORDER_FULFILMENT = ", "ORDER_FULFILMENT_V2 = ", 1)
    place = '        Step("issue-invoice"'
    assert "version=2," in declared
    assert place in declared
    new = declared.replace("version=2,", "version=3,").replace(place, f"        {line()}\n{place}")
    return text.replace(declared, f"{old}\n{new}")


def into_a_copy(project: pathlib.Path) -> None:
    """Make the README's edits in a copy of the project."""
    (project / "orders/saga.py").write_text(declarations())
    for name, block in additions().items():
        file = project / name
        text = file.read_text()
        if name == "orders/customer_messages.py":
            end = text.index("\n}\n", text.index("\nSTEPS = {")) + len("\n}\n")
            file.write_text(f"{text[:end]}{block}\n{text[end:]}")
        else:
            file.write_text(f"{text}\n\n{block}\n")


def as_a_new_service(project: pathlib.Path) -> None:
    """Make them in a copy of the project as a service of its own: a package, and its name in the settings."""
    service = project / "gifts"
    (service / "migrations").mkdir(parents=True)
    files = {
        "__init__.py": "",
        "migrations/__init__.py": "",
        "models.py": f"from django.db import models\n\n\n{additions()['inventory/models.py']}\n",
        "services.py": f"{_HEAD}\n\n{additions()['inventory/services.py']}\n",
    }
    for name, text in files.items():
        (service / name).write_text(text)
    declared, refused, rest = declarations().rpartition("refused=[")
    text = f"{declared}{refused}gifts.Refused, {rest}"
    for old in ("inventory.wrap", "inventory.unwrap"):
        text = text.replace(old, old.replace("inventory", "gifts"))
    (project / "orders/saga.py").write_text(f"from gifts import services as gifts\n{text}")
    settings = project / "saga_project/settings.py"
    settings.write_text(settings.read_text().replace('    "orders",\n', '    "gifts",\n    "orders",\n', 1))


_HEAD = '''
from collections.abc import Iterable, Mapping
from typing import Any

from gifts import models


class Refused(Exception):
    """It cannot be wrapped."""
'''


@contextlib.contextmanager
def into_this_process(*, with_words: bool) -> Iterator[None]:
    """Make them in the code that runs here, and take them back at the end."""
    known, current, words = dict(registry._sagas), order_saga.ORDER_FULFILMENT, dict(customer_messages.STEPS)
    added = [(name, block) for name, block in additions().items() if name != "orders/customer_messages.py"]
    for name, block in added:
        _run(name, block)
    wrapping = apps.get_model("inventory", "Wrapping")
    with connection.schema_editor() as editor:
        editor.create_model(wrapping)
    try:
        names: dict[str, Any] = {"__name__": "orders.saga"}
        exec(compile(declarations(), "orders/saga.py", "exec"), names)
        registry.add(names["ORDER_FULFILMENT_V2"])  # Refused, were it not what it was.
        order_saga.ORDER_FULFILMENT = registry.add(names["ORDER_FULFILMENT"])
        if with_words:
            _run("orders/customer_messages.py", additions()["orders/customer_messages.py"])
        yield
    finally:
        with connection.schema_editor() as editor:
            editor.delete_model(wrapping)
        registry._sagas.clear()
        registry._sagas.update(known)
        order_saga.ORDER_FULFILMENT = current
        customer_messages.STEPS.clear()
        customer_messages.STEPS.update(words)
        apps.all_models["inventory"].pop("wrapping")
        apps.clear_cache()
        _forget()


def _run(name: str, block: str) -> None:
    module = importlib.import_module(name.removesuffix(".py").replace("/", "."))
    exec(compile(block, name, "exec"), vars(module))


def _forget() -> None:
    from inventory import models, services

    for module, name in ((models, "Wrapping"), (services, "wrap"), (services, "unwrap")):
        delattr(module, name)
