"""The Python client as others get it: a wheel that needs nothing of this project, with its types."""

import pathlib
import subprocess
import sys
import zipfile

import pytest

from saga_orders import __version__

ROOT = pathlib.Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.integration  # It starts processes.

PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
import importlib.metadata
import saga_orders

with saga_orders.Client("https://shop.example", "ord_1"):
    pass
print(saga_orders.__file__)
print(importlib.metadata.version("saga-orders"), saga_orders.__version__)
modules = {name.partition(".")[0] for name in sys.modules}
print(sorted(modules & {"django", "celery", "sagas", "orders", "api"}))
"""

TYPED = """
import saga_orders

client = saga_orders.Client("https://shop.example", "ord_1")
for event in client.follow("0199c2e0-7a10-7cc3-98c4-dc0c0c07398f"):
    if isinstance(event, saga_orders.OrderEvent) and event.status == "fulfilled":
        total: int = client.get("0199c2e0-7a10-7cc3-98c4-dc0c0c07398f").total.amount
"""
SLIPS = """
import saga_orders

client = saga_orders.Client("https://shop.example", "ord_1")
order = client.get("0199c2e0-7a10-7cc3-98c4-dc0c0c07398f")
order.total.amuont
order.status == "fullfilled"
client.place(lines=[])
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A directory with nothing but what the wheel holds."""
    built, place = tmp_path_factory.mktemp("built"), tmp_path_factory.mktemp("installed")
    ran = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-index"),
            *("--no-build-isolation", "--no-deps", "--wheel-dir", built, ROOT / "clients/python"),
        ],
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    (wheel,) = built.iterdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place)
    return place


def test_it_is_imported_from_a_directory_of_its_own_and_needs_nothing_of_the_shop(
    installed: pathlib.Path,
) -> None:
    ran = subprocess.run(
        [sys.executable, "-I", "-c", PROGRAM, installed], cwd=installed, capture_output=True, text=True
    )

    assert ran.returncode == 0, ran.stderr
    file, versions, ours = ran.stdout.splitlines()
    assert pathlib.Path(file).is_relative_to(installed)
    assert versions == f"{__version__} {__version__}"
    assert ours == "[]"
    assert (installed / "saga_orders/py.typed").exists()


@pytest.fixture(scope="module")
def told(installed: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What mypy says of both programs."""
    place = tmp_path_factory.mktemp("programs")
    (place / "typed.py").write_text(TYPED)
    (place / "slips.py").write_text(SLIPS)
    (place / "mypy.ini").write_text(f"[mypy]\nmypy_path = {installed}\nstrict = true\n")
    ran = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", "mypy.ini", "typed.py", "slips.py"],
        cwd=place,
        capture_output=True,
        text=True,
    )
    assert "(checked 2 source files)" in ran.stdout, ran.stdout + ran.stderr
    return ran.stdout.splitlines()[:-1]


def test_a_program_that_uses_it_is_checked_strictly_and_only_the_slips_of_another_are_found(
    told: list[str],
) -> None:
    assert {line.partition(":")[0] for line in told} == {"slips.py"}


def test_slips_are_found(told: list[str]) -> None:
    said = "\n".join(told)

    assert 'no attribute "amuont"' in said
    assert "comparison-overlap" in said
    assert "Missing named argument" in said
