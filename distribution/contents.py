"""What an archive for other projects must have, and what it must not: looked at before a release is made.

An archive is held against the checkout that it was built from, and against what its pyproject.toml says.
"""

import base64
import configparser
import csv
import dataclasses
import email
import email.message
import fnmatch
import hashlib
import io
import pathlib
import re
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import Any

from distribution import build

MACHINE = re.compile(rb"/(?:home|Users|root|work|tmp|private|mnt|build|var/folders)/[\w.-]+")
"""Where files lie on the machine of whoever builds."""

TESTS = ["*/tests/*", "*/test_*.py", "*/conftest.py"]

BOUND = re.compile(r"<|==|~=")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the two archives of one project have to have."""

    folder: pathlib.PurePath
    """Where its pyproject.toml lies in the checkout."""

    package: pathlib.PurePath
    """The package that is installed, in the checkout."""

    source: str
    """Where a source archive has it."""

    must: tuple[str, ...]
    """Patterns of names: for each at least one file is there."""

    left_out: tuple[str, ...] = ()
    """Folders of the checkout's package that stay behind."""

    bounded: tuple[str, ...] = ()
    """Names of what it needs with an upper bound, for a reason that its pyproject.toml gives."""


ENGINE = Wanted(
    folder=pathlib.PurePath("distribution"),
    package=pathlib.PurePath("sagas"),
    source="sagas",
    must=(
        "sagas/py.typed", "sagas/migrations/0001_*.py", "sagas/console/migrations/0001_*.py",
        "sagas/console/templates/sagas/*.html", "sagas/console/static/sagas/*.css",
        "sagas/console/static/sagas/*.js", "sagas/console/locale/*/LC_MESSAGES/django.mo",
        "sagas/management/app_template/*-tpl", "sagas/testing/plugin.py",
    ),
    left_out=tuple(f"{path}/" for path in build.LEFT_OUT),
)  # fmt: skip

CLIENT = Wanted(
    folder=build.CLIENT,
    package=build.CLIENT / "src" / "saga_orders",
    source="src/saga_orders",
    must=("saga_orders/py.typed", "saga_orders/client.py", "saga_orders/async_client.py"),
    bounded=("httpx",),
)


def problems(archive: pathlib.Path, wanted: Wanted, root: pathlib.Path) -> list[str]:
    """What is wrong with an archive, a line each.

    Arguments:
        archive: a wheel or a source archive.
        wanted: what it is to have.
        root: the checkout that it was built from, in which nothing lies but what belongs to it.
    """
    look = _of_a_wheel if archive.suffix == ".whl" else _of_a_source_archive
    return [f"{archive.name}: {problem}" for problem in look(read(archive), wanted, root)]


def read(archive: pathlib.Path) -> dict[str, bytes]:
    """The files in it, by their names; those of a source archive with the one folder that they lie in."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as file:
            return {name: file.read(name) for name in file.namelist()}
    with tarfile.open(archive) as tar:
        streams = {member.name: tar.extractfile(member) for member in tar.getmembers()}
        return {name: stream.read() for name, stream in streams.items() if stream is not None}


def _of_a_wheel(files: dict[str, bytes], wanted: Wanted, root: pathlib.Path) -> Iterator[str]:
    project = _project(wanted, root)
    about = f"{project['name'].replace('-', '_')}-{build.version(root)}.dist-info"
    package = wanted.package.name
    inside = {name: data for name, data in files.items() if name.startswith(f"{package}/")}
    yield from _of_the_package(inside, wanted, root)
    beside = {f"{about}/{name}" for name in ("METADATA", "WHEEL", "RECORD", "licenses/LICENSE")}
    if "entry-points" in project:
        beside.add(f"{about}/entry_points.txt")
    yield from _compared(files.keys() - inside.keys(), beside)
    if beside - files.keys():
        return  # The rest looks into these.
    yield from _of_what_it_says(files[f"{about}/METADATA"], wanted, root)
    if files[f"{about}/licenses/LICENSE"] != (root / "LICENSE").read_bytes():
        yield "its licence is another one than the repository's"
    if b"\nTag: py3-none-any\n" not in files[f"{about}/WHEEL"]:
        yield "it is not for every Python 3"
    if "entry-points" in project:
        parser = configparser.ConfigParser()
        parser.read_string(files[f"{about}/entry_points.txt"].decode())
        if {name: dict(parser[name]) for name in parser.sections()} != project["entry-points"]:
            yield "its entry points are others than those of pyproject.toml"
    yield from _of_its_record(files, f"{about}/RECORD")


def _of_a_source_archive(files: dict[str, bytes], wanted: Wanted, root: pathlib.Path) -> Iterator[str]:
    project = _project(wanted, root)
    top = f"{project['name'].replace('-', '_')}-{build.version(root)}/"
    if astray := sorted(name for name in files if not name.startswith(top)):
        yield f"it has {astray[0]}, which is not in {top}"
        return
    files = {name.removeprefix(top): data for name, data in files.items()}
    place = f"{wanted.source}/"
    inside = {
        f"{wanted.package.name}/{name.removeprefix(place)}": data
        for name, data in files.items()
        if name.startswith(place)
    }
    yield from _of_the_package(inside, wanted, root)
    beside = {name for name in files if not name.startswith(place)}
    yield from _compared(beside, {"pyproject.toml", "PKG-INFO", "README.md", "LICENSE"})
    if "PKG-INFO" in files:
        yield from _of_what_it_says(files["PKG-INFO"], wanted, root)


def _of_the_package(inside: Mapping[str, bytes], wanted: Wanted, root: pathlib.Path) -> Iterator[str]:
    there = root / wanted.package
    named = {
        f"{wanted.package.name}/{path.relative_to(there).as_posix()}"
        for path in there.rglob("*")
        if path.is_file()
    }
    yield from _compared(
        inside.keys(), {name for name in named if not name.startswith(wanted.left_out or ("/",))}
    )
    for pattern in wanted.must:
        if not fnmatch.filter(inside, pattern):
            yield f"it has no {pattern}"
    for pattern in TESTS:
        for name in fnmatch.filter(inside, pattern):
            yield f"it has a test: {name}"
    for name in inside:
        if name.endswith(".po") and name.removesuffix("po") + "mo" not in inside:
            yield f"{name} is not compiled"
    for name, data in inside.items():
        for found in {*MACHINE.findall(data), *re.findall(re.escape(str(root).encode()), data)}:
            yield f"{name} names a place of a machine: {found.decode()}"


def _compared(has: AbstractSet[str], should: AbstractSet[str]) -> Iterator[str]:
    for name in sorted(should - has):
        yield f"it lacks {name}"
    for name in sorted(has - should):
        yield f"it has {name}, which does not belong there"


def _of_what_it_says(metadata: bytes, wanted: Wanted, root: pathlib.Path) -> Iterator[str]:
    project = _project(wanted, root)
    told: email.message.Message = email.message_from_bytes(metadata)
    for field, value in (
        ("Name", project["name"]),
        ("Version", build.version(root)),
        ("License-Expression", project["license"]),
        ("Requires-Python", project["requires-python"]),
        ("Description-Content-Type", "text/markdown"),
    ):
        if told[field] != value:
            yield f"its {field} is {told[field]}, and should be {value}"
    readme = (root / wanted.folder / "README.md").read_text().strip()
    if not told["Summary"] or metadata.decode().partition("\n\n")[2].strip() != readme:
        yield "its description is not the README"
    requires = told.get_all("Requires-Dist", [])
    if {one for one in requires if ";" not in one} != set(project["dependencies"]):
        yield f"it needs {', '.join(requires)}, and pyproject.toml says something else"
    if set(told.get_all("Provides-Extra", [])) != set(project.get("optional-dependencies", {})):
        yield "its extras are others than those of pyproject.toml"
    for one in [*requires, f"Python {told['Requires-Python']}"]:
        name = re.match(r"[\w.-]+", one)
        if BOUND.search(one.partition(";")[0]) and not (name and name[0] in wanted.bounded):
            yield f"it sets an upper bound: {one}"


def _of_its_record(files: dict[str, bytes], record: str) -> Iterator[str]:
    rows = {row[0]: row[1] for row in csv.reader(io.StringIO(files[record].decode()))}
    yield from (f"RECORD: {line}" for line in _compared(rows.keys(), set(files)))
    for name in rows.keys() & files.keys() - {record}:
        digest = base64.urlsafe_b64encode(hashlib.sha256(files[name]).digest()).rstrip(b"=").decode()
        if rows[name] != f"sha256={digest}":
            yield f"RECORD has another sum of {name}"


def _project(wanted: Wanted, root: pathlib.Path) -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((root / wanted.folder / "pyproject.toml").read_text())["project"]
    return found
