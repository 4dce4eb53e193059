"""`make wheel`: the engine and its console as a wheel, for other projects than this one.

The package is copied beside `pyproject.toml` of this folder into one that is thrown away: flit builds what
it finds there. What stands on this project is left out: the console's REST API, which needs `api`.
`make release` builds more with what is here: a source archive, too, and the same two of the Python client.
"""

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent

LEFT_OUT = [pathlib.PurePath("sagas/console/api")]

CLIENT = pathlib.PurePath("clients/python")

WHEEL, SDIST = "build_wheel", "build_sdist"
"""What flit is asked for: hooks of PEP 517."""

ASK = """\
import sys
from flit_core import buildapi
for hook in sys.argv[2:]:
    print(getattr(buildapi, hook)(sys.argv[1]))
"""


def build(to: pathlib.Path) -> pathlib.Path:
    """Build the engine's wheel into that folder; its path. It needs no network."""
    with tempfile.TemporaryDirectory(prefix="sagas-wheel-") as place:
        (wheel,) = ask(assemble(pathlib.Path(place)), to, WHEEL)
    return wheel


def ask(project: pathlib.Path, to: pathlib.Path, *hooks: str, epoch: int | None = None) -> list[pathlib.Path]:
    """Have flit build a project.

    Arguments:
        project: the folder with its pyproject.toml.
        to: the folder for what is built.
        hooks: WHEEL, SDIST or both.
        epoch: the time that the files in an archive have, in seconds since 1970; by default
            SOURCE_DATE_EPOCH, and flit's own where that is not set.

    Returns:
        The archives, in the order of the hooks.
    """
    to.mkdir(parents=True, exist_ok=True)
    when = {} if epoch is None else {"SOURCE_DATE_EPOCH": str(epoch)}
    said = subprocess.run(
        [sys.executable, "-c", ASK, str(to.resolve()), *hooks],
        cwd=project, env=os.environ | when, stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    return [to / name for name in said.stdout.split()]


def assemble(place: pathlib.Path, root: pathlib.Path = ROOT) -> pathlib.Path:
    """Put together what flit builds of the engine.

    Arguments:
        place: an empty folder for it.
        root: the checkout that it is taken from.

    Returns:
        The folder with its pyproject.toml.
    """
    project = place / "project"
    project.mkdir(parents=True)
    shutil.copy(root / "distribution" / "README.md", project)
    shutil.copy(root / "LICENSE", project)
    described = (root / "distribution" / "pyproject.toml").read_text()
    told, count = re.subn(
        r'^dynamic = \["version"\]$', f'version = "{version(root)}"', described, flags=re.MULTILINE
    )
    assert count == 1, "pyproject.toml of the wheel says a version of its own"
    (project / "pyproject.toml").write_text(told)
    shutil.copytree(root / "sagas", project / "sagas", ignore=lambda *of: _ignored(root, *of))
    return project


def version(root: pathlib.Path = ROOT) -> str:
    """That of the repository."""
    found: str = tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"]
    return found


def _ignored(root: pathlib.Path, folder: str, names: list[str]) -> set[str]:
    here = pathlib.PurePath(folder).relative_to(root)
    return {name for name in names if name == "__pycache__" or here / name in LEFT_OUT}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Build the wheel of the engine and its console.")
    parser.add_argument("--to", type=pathlib.Path, default=ROOT / "dist", help="where to (dist)")
    print(build(parser.parse_args().to))
