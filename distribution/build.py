"""`make wheel`: the engine and its console as a wheel, for other projects than this one.

The package is copied beside `pyproject.toml` of this folder into one that is thrown away: flit builds what
it finds there. What stands on this project is left out: the console's REST API, which needs `api`.
"""

import argparse
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


def build(to: pathlib.Path) -> pathlib.Path:
    """Build the wheel into that folder; its path. It needs no network."""
    with tempfile.TemporaryDirectory(prefix="sagas-wheel-") as place:
        project = assemble(pathlib.Path(place))
        subprocess.run(
            [
                sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check",
                "--no-build-isolation", "--no-deps", "--wheel-dir", str(to), str(project),
            ],
            check=True,
        )  # fmt: skip
    return to / f"django_celery_sagas-{version()}-py3-none-any.whl"


def assemble(place: pathlib.Path) -> pathlib.Path:
    """Put together what flit builds; where it is."""
    project = place / "project"
    project.mkdir(parents=True)
    shutil.copy(HERE / "README.md", project)
    shutil.copy(ROOT / "LICENSE", project)
    described = (HERE / "pyproject.toml").read_text()
    told, count = re.subn(
        r'^dynamic = \["version"\]$', f'version = "{version()}"', described, flags=re.MULTILINE
    )
    assert count == 1, "pyproject.toml of the wheel says a version of its own"
    (project / "pyproject.toml").write_text(told)
    shutil.copytree(ROOT / "sagas", project / "sagas", ignore=_ignored)
    return project


def version() -> str:
    """That of the repository."""
    found: str = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    return found


def _ignored(folder: str, names: list[str]) -> set[str]:
    here = pathlib.PurePath(folder).relative_to(ROOT)
    return {name for name in names if name == "__pycache__" or here / name in LEFT_OUT}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Build the wheel of the engine and its console.")
    parser.add_argument("--to", type=pathlib.Path, default=ROOT / "dist", help="where to (dist)")
    print(build(parser.parse_args().to))
