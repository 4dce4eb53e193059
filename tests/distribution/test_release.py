"""A release is made in a clone of this repository, by git and flit; what may not be released is refused."""

import datetime
import filecmp
import io
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator

import pytest

from distribution import build, contents, release
from saga_project.local import runfile

pytestmark = pytest.mark.integration  # It starts processes.

NEXT = "987.0.0"
NAMES = ["django_celery_sagas", "saga_orders"]

UNRELEASED = (
    "# Changelog\n\nWhat changes.\n\n## Unreleased\n\nFor operators:\n\n- **Something** is better.\n\n"
)


class Clone:
    """A clone of the repository as it stands in the checkout."""

    def __init__(self, place: pathlib.Path) -> None:
        self.place = place

    def git(self, *arguments: str) -> str:
        return run(self.place, "git", *arguments).stdout.rstrip()

    def write(self, file: str, text: str) -> None:
        (self.place / file).parent.mkdir(parents=True, exist_ok=True)
        (self.place / file).write_text(text)

    def text(self, file: str) -> str:
        return (self.place / file).read_text()

    def commit(self) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", "What the test changed")

    def release(self, *arguments: str, code: int = 0) -> str:
        done = run(
            self.place, sys.executable, "-P", "-m", "distribution.release", *arguments,
            code=code, PYTHONPATH=str(self.place),
        )  # fmt: skip
        return done.stderr if code else done.stdout


def run(
    place: pathlib.Path, *command: str, code: int = 0, **environment: str
) -> subprocess.CompletedProcess[str]:
    bare = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    alone = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    done = subprocess.run(
        command, cwd=place, env=bare | alone | environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone with something unreleased."""
    place = tmp_path_factory.mktemp("release") / "clone"
    run(runfile.ROOT, "git", "clone", "--quiet", "--depth=1", "--no-tags", runfile.ROOT.as_uri(), str(place))
    listed = run(runfile.ROOT, "git", "ls-files", "--modified", "--others", "--exclude-standard").stdout
    clone = Clone(place)
    for name in listed.splitlines():
        if (runfile.ROOT / name).exists():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(runfile.ROOT / name, place / name)
        else:
            (place / name).unlink()
    clone.git("config", "user.name", "Alice")
    clone.git("config", "user.email", "alice@shop.example")
    clone.write("CHANGELOG.md", UNRELEASED + newest_of(clone.text("CHANGELOG.md")))
    clone.commit()
    return clone


def newest_of(changes: str) -> str:
    """The changelog from its newest version on."""
    found = release.STANDS["CHANGELOG.md"].search(changes)
    assert found
    return changes[found.start() :]


@pytest.fixture
def clone(origin: Clone) -> Iterator[Clone]:
    """That clone, as if no test had done anything to it."""
    base = origin.git("rev-list", "--max-count=1", "HEAD")
    yield origin
    origin.git("config", "user.name", "Alice")
    shutil.rmtree(origin.place / "dist", ignore_errors=True)
    (origin.place / ".git/hooks/pre-commit").unlink(missing_ok=True)
    origin.git("reset", "--quiet", "--hard", base)
    origin.git("clean", "--quiet", "--force", "-d")
    for tag in origin.git("tag").split():
        origin.git("tag", "--delete", tag)


# --- A release --------------------------------------------------------------------------------------


def test_a_release_has_its_archives_its_commit_and_its_tag_and_whoever_builds_it_again_has_the_same(
    clone: Clone, tmp_path: pathlib.Path
) -> None:
    days = [datetime.datetime.now(datetime.UTC).date()]
    said = clone.release(NEXT)
    days.append(datetime.datetime.now(datetime.UTC).date())

    archives = [
        f"dist/{NEXT}/{name}-{NEXT}{end}" for name in NAMES for end in ("-py3-none-any.whl", ".tar.gz")
    ]
    assert said.splitlines()[-5:-1] == archives
    assert clone.git("status", "--porcelain") == ""
    assert clone.git("log", "--max-count=1", "--format=%s") == f"Version {NEXT}"
    assert sorted(clone.git("show", "--name-only", "--format=").split()) == sorted(release.STANDS)
    assert clone.git("cat-file", "-t", f"v{NEXT}") == "tag"
    assert clone.git("rev-parse", f"v{NEXT}^{{commit}}") == clone.git("rev-parse", "HEAD")
    assert clone.git("tag", "--list", "--format=%(contents)", f"v{NEXT}") == (
        f"Version {NEXT}\n\nFor operators:\n\n- **Something** is better."
    )
    assert {release.said(clone.place, file) for file in release.STANDS} == {NEXT}
    heading = re.search(
        rf"^## {re.escape(NEXT)} \((\S+)\)\n\nFor operators", clone.text("CHANGELOG.md"), re.M
    )
    assert heading
    assert datetime.date.fromisoformat(heading[1]) in days
    assert "## Unreleased" not in clone.text("CHANGELOG.md")

    when = run(clone.place, "date", "-u", "-d", heading[1], "+%s").stdout.strip()
    again = run(
        clone.place, sys.executable, "distribution/build.py", "--to", str(tmp_path), SOURCE_DATE_EPOCH=when
    ).stdout.strip()
    assert filecmp.cmp(again, clone.place / archives[0], shallow=False)

    assert f"{NEXT} does not come after {NEXT}" in clone.release(NEXT, code=1)


@pytest.mark.thorough
def test_a_rehearsal_makes_the_archives_and_changes_nothing(clone: Clone) -> None:
    before = clone.git("rev-parse", "HEAD")

    said = clone.release(NEXT, "--dry-run")

    assert "can be released; nothing was committed" in said
    assert len(list((clone.place / "dist" / NEXT).iterdir())) == 4
    assert clone.git("status", "--porcelain") == ""
    assert clone.git("rev-parse", "HEAD") == before
    assert clone.git("tag") == ""


# --- What is refused ------------------------------------------------------------------------------


def refused(clone: Clone, version: str, why: str) -> None:
    """It is refused for that reason, and nothing has changed."""
    before = clone.git("rev-parse", "HEAD"), clone.git("status", "--porcelain"), clone.git("tag")

    assert why in clone.release(version, code=1)

    assert before == (clone.git("rev-parse", "HEAD"), clone.git("status", "--porcelain"), clone.git("tag"))
    assert not (clone.place / "dist").exists()


@pytest.mark.parametrize("file", ["LICENSE", "sagas/another.py"])
def test_a_checkout_with_changes_is_refused(clone: Clone, file: str) -> None:
    clone.write(file, "pass\n")

    refused(clone, NEXT, f"not committed:\n{' M' if file == 'LICENSE' else '??'} {file}")


@pytest.mark.parametrize("version", ["1.2", "v1.2.3", "01.2.3"])
def test_what_is_no_version_is_refused(clone: Clone, version: str) -> None:
    refused(clone, version, "is no version")


def test_a_version_that_does_not_come_after_the_last_is_refused(clone: Clone) -> None:
    last = build.version(clone.place)

    refused(clone, last, f"{last} does not come after {last}")
    refused(clone, "0.0.9", f"0.0.9 does not come after {last}")


@pytest.mark.parametrize("unreleased", ["", "## Unreleased\n\n", "## Unreleased\n\nFor operators:\n\n"])
def test_a_release_of_nothing_is_refused(clone: Clone, unreleased: str) -> None:
    clone.write("CHANGELOG.md", f"# Changelog\n\n{unreleased}{newest_of(clone.text('CHANGELOG.md'))}")
    clone.commit()

    refused(clone, NEXT, 'nothing under "## Unreleased"')


def test_what_is_unreleased_below_a_version_is_refused(clone: Clone) -> None:
    clone.write(
        "CHANGELOG.md", clone.text("CHANGELOG.md").replace("## Unreleased", "## 0.0.1\n\n## Unreleased")
    )
    clone.write(
        "pyproject.toml", re.sub(r"(?m)^version = .*$", 'version = "0.0.1"', clone.text("pyproject.toml"))
    )
    clone.write("clients/python/src/saga_orders/version.py", '"""It."""\n\n__version__ = "0.0.1"\n')
    clone.commit()

    refused(clone, NEXT, "does not stand above the versions")


@pytest.mark.parametrize("file", list(release.STANDS))
def test_versions_that_differ_are_refused(clone: Clone, file: str) -> None:
    last = build.version(clone.place)
    clone.write(file, clone.text(file).replace(last, "0.0.1", 1))
    clone.commit()

    refused(clone, NEXT, f"{file} says 0.0.1")


def test_a_newest_tag_that_is_not_the_version_is_refused(clone: Clone) -> None:
    last = build.version(clone.place)
    for tag in ("v0.0.9", f"v{last}", "v900.10.0", "v900.9.0", "vacation"):
        clone.git("tag", tag)

    refused(clone, NEXT, "the newest tag says 900.10.0")


USE = "sagas.engine.transport.use"
MOVED = f"  {USE} has an argument elsewhere\n  {USE} wants another argument\n"


@pytest.fixture
def tagged(clone: Clone) -> Clone:
    """Its last version has its tag, and something public has gone since."""
    clone.git("tag", f"v{build.version(clone.place)}")
    clone.write("sagas/ids.py", clone.text("sagas/ids.py").replace("def uuid7(", "def uuid8("))
    transport = clone.text("sagas/engine/transport.py")
    clone.write("sagas/engine/transport.py", transport.replace("def use(", "def use(more: str, "))
    clone.commit()
    return clone


def test_a_patch_that_takes_away_what_is_public_is_refused(tagged: Clone) -> None:
    major, minor, patch = build.version(tagged.place).split(".")

    refused(
        tagged,
        f"{major}.{minor}.{int(patch) + 1}",
        f"may not take away what is public:\n{MOVED}  sagas.ids.uuid7 is gone\n",
    )


@pytest.mark.thorough
def test_what_is_gone_and_is_not_named_in_the_changes_is_refused(tagged: Clone) -> None:
    said = tagged.text("CHANGELOG.md").replace("**Something**", "`uuid7` is `uuid8` now; **something**", 1)
    tagged.write("CHANGELOG.md", said)
    tagged.commit()
    last = build.version(tagged.place)

    refused(tagged, NEXT, f"is no longer as in {last}:\n{MOVED}")


def test_where_git_does_not_know_who_commits_it_is_refused_before_anything_is_built(clone: Clone) -> None:
    clone.git("config", "user.useConfigOnly", "true")
    clone.git("config", "--unset", "user.name")

    refused(clone, NEXT, "git does not know who you are")


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("file", "text", "why"),
    [
        ("sagas/py.typed", None, "it has no sagas/py.typed"),
        ("sagas/testing/test_kit.py", "", "it has a test: sagas/testing/test_kit.py"),
        ("distribution/pyproject.toml", ("Django>=5.2", "Django>=5.2,<7"), "upper bound: Django>=5.2,<7"),
    ],
)
def test_archives_that_are_not_as_they_should_be_are_refused(
    clone: Clone, file: str, text: str | tuple[str, str] | None, why: str
) -> None:
    if text is None:
        (clone.place / file).unlink()
    else:
        clone.write(file, text if isinstance(text, str) else clone.text(file).replace(*text))
    clone.commit()

    refused(clone, NEXT, why)


@pytest.mark.thorough
def test_where_git_refuses_the_commit_the_checkout_is_as_it_was(clone: Clone) -> None:
    hook = clone.place / ".git/hooks/pre-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho 'Not on a Friday.' >&2\nexit 1\n")
    hook.chmod(0o755)
    before = clone.git("rev-parse", "HEAD")

    assert "all is as it was:\nNot on a Friday." in clone.release(NEXT, code=1)

    assert clone.git("rev-parse", "HEAD") == before
    assert clone.git("status", "--porcelain") == ""


# --- What is in an archive --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tree(origin: Clone, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """What is committed there, and nothing else."""
    place = tmp_path_factory.mktemp("tree")
    packed = place / "tree.tar"
    origin.git("archive", "--output", str(packed), "HEAD")
    with tarfile.open(packed) as tar:
        tar.extractall(place / "tree", filter="data")
    return place / "tree"


@pytest.fixture(scope="module")
def archives(tree: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> list[pathlib.Path]:
    """The engine's: the source archive, and the wheel."""
    place = tmp_path_factory.mktemp("archives")
    return build.ask(build.assemble(place, tree), place, build.SDIST, build.WHEEL)


def with_changes(
    archive: pathlib.Path, place: pathlib.Path, changes: dict[str, bytes | None]
) -> pathlib.Path:
    """The same archive with other files: `*` stands for the folder that has the version in its name."""
    files = contents.read(archive)
    (about,) = {name.partition("/")[0] for name in files if re.match(r"django_celery_sagas-", name)}
    for name, data in changes.items():
        files.pop(name.replace("*", about), None)
        if data is not None:
            files[name.replace("*", about)] = data
    changed = place / archive.name
    if archive.suffix == ".whl":
        with zipfile.ZipFile(changed, "w") as file:
            for name, data in files.items():
                file.writestr(name, data)
    else:
        with tarfile.open(changed, "w:gz") as tar:
            for name, data in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return changed


def test_archives_as_they_are_built_have_what_they_should(
    archives: list[pathlib.Path], tree: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    for archive in archives:
        assert contents.problems(archive, contents.ENGINE, tree) == []
    for archive in build.ask(tree / build.CLIENT, tmp_path, build.SDIST, build.WHEEL):
        assert contents.problems(archive, contents.CLIENT, tree) == []


METADATA = (
    b"Metadata-Version: 2.5\nName: django-celery-sagas\nVersion: 0.0.1\n"
    b"Requires-Dist: Django<7,>=5.2\n\nIt.\n"
)


@pytest.mark.parametrize(
    ("which", "changes", "found"),
    [
        (1, {"sagas/py.typed": None}, "it lacks sagas/py.typed"),
        (1, {"sagas/migrations/0001_initial.py": None}, "it lacks sagas/migrations/0001_initial.py"),
        (1, {"sagas/console/locale/pt_BR/LC_MESSAGES/django.mo": None}, "django.po is not compiled"),
        (1, {"sagas/console/api/views.py": b""}, "sagas/console/api/views.py, which does not belong there"),
        (1, {"orders/saga.py": b""}, "it has orders/saga.py, which does not belong there"),
        (1, {"sagas/console/tests/test_pages.py": b""}, "it has a test: sagas/console/tests/test_pages.py"),
        (1, {"sagas/errors.py": b"# /home/alice/shop/x.py"}, "names a place of a machine: /home/alice"),
        (1, {"sagas/errors.py": b"pass"}, "RECORD has another sum of sagas/errors.py"),
        (1, {"*/licenses/LICENSE": b"All rights reserved."}, "its licence is another one"),
        (1, {"*/licenses/LICENSE": None}, "/licenses/LICENSE"),
        (1, {"*/entry_points.txt": b"[pytest11]\nsagas = sagas.another\n"}, "its entry points are others"),
        (1, {"*/WHEEL": b"Wheel-Version: 1.0\nTag: cp311-cp311-linux_x86_64\n"}, "not for every Python 3"),
        (1, {"*/METADATA": METADATA}, "its Version is 0.0.1, and should be"),
        (1, {"*/METADATA": METADATA}, "its Requires-Python is None, and should be >=3.11"),
        (1, {"*/METADATA": METADATA}, "it sets an upper bound: Django<7,>=5.2"),
        (1, {"*/METADATA": METADATA}, "pyproject.toml says something else"),
        (1, {"*/METADATA": METADATA}, "its extras are others"),
        (1, {"*/METADATA": METADATA}, "its description is not the README"),
        (0, {"*/sagas/py.typed": None}, "it lacks sagas/py.typed"),
        (0, {"*/LICENSE": None}, "it lacks LICENSE"),
        (0, {"*/PKG-INFO": METADATA}, "its License-Expression is None, and should be MIT"),
        (0, {"*/tests/conftest.py": b""}, "it has tests/conftest.py, which does not belong there"),
        (0, {"elsewhere.py": b""}, "it has elsewhere.py, which is not in"),
    ],
)
def test_what_is_wrong_with_an_archive_is_found(
    archives: list[pathlib.Path],
    tree: pathlib.Path,
    tmp_path: pathlib.Path,
    which: int,
    changes: dict[str, bytes | None],
    found: str,
) -> None:
    archive = with_changes(archives[which], tmp_path, changes)

    said = contents.problems(archive, contents.ENGINE, tree)

    assert [problem for problem in said if found in problem], said
    assert all(problem.startswith(f"{archive.name}: ") for problem in said)
