"""`make release VERSION=x.y.z`: a version of the engine and of the Python client, as archives and as a tag.

The archives are built from what is committed, in a folder that is thrown away, and looked at there; only then
are the files changed in which the version stands, committed and tagged. Nothing leaves the machine:
docs/releases.md says what a person does next. `make release-check` does all but the commit and the tag.
"""

import argparse
import datetime
import filecmp
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile

from distribution import build, contents, public

ROOT = build.ROOT

NUMBERS = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)")

UNRELEASED = re.compile(r"^## Unreleased\n(?P<text>.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)

SOURCE = "pyproject.toml"
CHANGES = "CHANGELOG.md"

STANDS = {
    SOURCE: re.compile(r'^version = "(?P<version>.+)"$', re.MULTILINE),
    (build.CLIENT / "src/saga_orders/version.py").as_posix(): re.compile(
        r'^__version__ = "(?P<version>.+)"$', re.MULTILINE
    ),
    CHANGES: re.compile(r"^## (?P<version>\d\S*)", re.MULTILINE),
}
"""Where the version stands. pyproject.toml is the source; a release writes the others with it."""


class Refused(Exception):
    """No release can be made so; nothing was changed."""


def release(version: str, *, rehearsed: bool) -> pathlib.Path:
    """Make a release of what is committed.

    Arguments:
        version: its number.
        rehearsed: whether it is only tried: nothing is committed, and nothing tagged.

    Returns:
        The folder with its archives.

    Raises:
        Refused: it may not be made, or its archives are not as they should be.
    """
    refuse(version)
    base = _git("rev-parse", "HEAD")
    today = datetime.datetime.now(datetime.UTC).date()
    with tempfile.TemporaryDirectory(prefix="sagas-release-") as place:
        tree = export(base, pathlib.Path(place, "tree"))
        _refuse_what_the_number_does_not_say(version, tree, pathlib.Path(place, "before"))
        write(tree, version, today)
        archives = _built_twice(tree, pathlib.Path(place), today)
        for wanted, pair in archives.items():
            _look_at(pair, wanted, tree)
        kept = ROOT / "dist" / version
        shutil.rmtree(kept, ignore_errors=True)
        kept.mkdir(parents=True)
        for archive in [one for pair in archives.values() for one in pair]:
            shutil.copy(archive, kept)
    if not rehearsed:
        _refuse_a_dirty_tree()
        if _git("rev-parse", "HEAD") != base:
            raise Refused("Something was committed meanwhile: the archives are without it.")
        _commit(version, today, base)
    return kept


def refuse(version: str) -> None:
    """Look whether that version may be made of this checkout.

    Raises:
        Refused: it may not.
    """
    new = numbers(version)
    if new is None:
        raise Refused(f"{version or 'Nothing'} is no version: three numbers, as in 1.2.3.")
    _refuse_a_dirty_tree()
    stands = {file: said(ROOT, file) for file in STANDS}
    tags = [tag for tag in _git("tag", "--list", "v*").split() if numbers(tag[1:])]
    if tags:
        stands["the newest tag"] = max(tags, key=lambda tag: numbers(tag[1:]) or ())[1:]
    if len(set(stands.values())) > 1:
        told = ", ".join(f"{where} says {one}" for where, one in stands.items())
        raise Refused(f"The last version is not the same everywhere: {told}.")
    last = stands[SOURCE]
    if new <= (numbers(last) or ()):
        raise Refused(f"{version} does not come after {last}, the last version.")
    text = (ROOT / CHANGES).read_text()
    unreleased, released = UNRELEASED.search(text), STANDS[CHANGES].search(text)
    if unreleased is None or not re.search(r"^- ", unreleased["text"], re.MULTILINE):
        raise Refused(f'{CHANGES} says nothing under "## Unreleased": a release is for what changed.')
    if released and released.start() < unreleased.start():
        raise Refused(f'"## Unreleased" does not stand above the versions in {CHANGES}.')
    try:
        _git("var", "GIT_COMMITTER_IDENT")
    except subprocess.CalledProcessError:
        raise Refused("git does not know who you are: set user.name and user.email.") from None


def numbers(version: str) -> tuple[int, ...] | None:
    """The three numbers of a version; None if it has not just these."""
    found = NUMBERS.fullmatch(version)
    return tuple(int(number) for number in found.groups()) if found else None


def said(root: pathlib.Path, file: str) -> str:
    """Which version a file says; nothing where it says none."""
    found = STANDS[file].search((root / file).read_text())
    return found["version"] if found else ""


def export(commit: str, to: pathlib.Path, *paths: str) -> pathlib.Path:
    """What is committed, or these parts of it, and nothing else that lies in the checkout; where it is."""
    packed = to.with_suffix(".tar")
    _git("archive", "--output", str(packed), commit, "--", *paths)
    with tarfile.open(packed) as tar:
        tar.extractall(to, filter="data")
    return to


def write(root: pathlib.Path, version: str, date: datetime.date) -> None:
    """Write the version wherever it stands: what was unreleased is that version's now."""
    for file, place in STANDS.items():
        path = root / file
        text = path.read_text()
        if file == CHANGES:
            text = re.sub(r"^## Unreleased$", f"## {version} ({date})", text, count=1, flags=re.MULTILINE)
        else:
            found = place.search(text)
            assert found, f"{file} says no version"
            text = f"{text[: found.start('version')]}{version}{text[found.end('version') :]}"
        path.write_text(text)
        assert said(root, file) == version, file


def notes(root: pathlib.Path, version: str) -> str:
    """What changed with that version, as the changelog has it."""
    _, _, below = (root / CHANGES).read_text().partition(f"\n## {version} ")
    return below.partition("\n")[2].partition("\n## ")[0].strip()


def _refuse_what_the_number_does_not_say(version: str, tree: pathlib.Path, before: pathlib.Path) -> None:
    """Hold what is public against the last version, if that has a tag: docs/releases.md says what may go.

    Raises:
        Refused: something is gone with a version that takes nothing away, or the changes do not name it.
    """
    last = said(tree, SOURCE)
    if not _git("tag", "--list", f"v{last}"):
        print(f"There is no tag v{last}: what is public was not held against it.")
        return
    broken = public.broken(export(f"v{last}", before, *public.READ), tree)
    new, old = numbers(version) or (), numbers(last) or ()
    takes_nothing_away = new[:1] == old[:1] if new >= (1, 0, 0) else new[:2] == old[:2]
    if broken and takes_nothing_away:
        told = "\n".join(str(one) for one in broken)
        raise Refused(f"After {last}, {version} may not take away what is public:\n{told}")
    unreleased = UNRELEASED.search((tree / CHANGES).read_text())
    untold = [one for one in broken if unreleased is None or not one.is_named_in(unreleased["text"])]
    if untold:
        told = "\n".join(str(one) for one in untold)
        raise Refused(f'"## Unreleased" in {CHANGES} does not name what is no longer as in {last}:\n{told}')


def _built_twice(
    tree: pathlib.Path, place: pathlib.Path, date: datetime.date
) -> dict[contents.Wanted, list[pathlib.Path]]:
    """A wheel and a source archive of each project.

    Raises:
        Refused: built anew, they are others.
    """
    epoch = int(datetime.datetime.combine(date, datetime.time(), datetime.UTC).timestamp())
    built: list[dict[contents.Wanted, list[pathlib.Path]]] = []
    for turn in ("first", "second"):
        to = place / turn / "archives"
        projects = {
            contents.ENGINE: build.assemble(place / turn, tree),
            contents.CLIENT: tree / build.CLIENT,
        }
        built.append(
            {
                wanted: build.ask(project, to, build.SDIST, build.WHEEL, epoch=epoch)
                for wanted, project in projects.items()
            }
        )
    for wanted, pair in built[0].items():
        for one, other in zip(pair, built[1][wanted], strict=True):
            _insist_they_are_equal(one, other, "built a second time")
        with tarfile.open(pair[0]) as tar:
            tar.extractall(place / "unpacked", filter="data")
        source = place / "unpacked" / pair[0].name.removesuffix(".tar.gz")
        (again,) = build.ask(source, place / "unpacked" / "archives", build.WHEEL, epoch=epoch)
        _insist_they_are_equal(pair[1], again, "built from the source archive")
    return built[0]


def _insist_they_are_equal(one: pathlib.Path, other: pathlib.Path, how: str) -> None:
    if one.name != other.name or not filecmp.cmp(one, other, shallow=False):
        raise Refused(f"{one.name} is not the same to the byte when it is {how}.")


def _look_at(archives: list[pathlib.Path], wanted: contents.Wanted, tree: pathlib.Path) -> None:
    found = [problem for archive in archives for problem in contents.problems(archive, wanted, tree)]
    if found:
        raise Refused("\n".join(["The archives are not as they should be:", *found]))


def _refuse_a_dirty_tree() -> None:
    if changed := _git("status", "--porcelain"):
        raise Refused(f"There are changes that are not committed:\n{changed}")


def _commit(version: str, date: datetime.date, base: str) -> None:
    """Commit and tag; if git refuses, the checkout is as it was."""
    write(ROOT, version, date)
    try:
        _git("commit", "--quiet", "--message", f"Version {version}", "--", *STANDS)
        message = f"Version {version}\n\n{notes(ROOT, version)}\n"
        _git("tag", "--annotate", "--cleanup=whitespace", "--message", message, f"v{version}")
    except subprocess.CalledProcessError as error:
        _git("reset", "--quiet", "--hard", base)
        raise Refused(f"git refused, and all is as it was:\n{error.stderr.strip()}") from error


def _git(*arguments: str) -> str:
    command = ["git", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.rstrip()


def main() -> int:
    """Make it, and say what was made; 1 if it is refused."""
    parser = argparse.ArgumentParser(description="Make a release: archives, a commit and a tag.")
    parser.add_argument("version", help="its number, such as 1.2.3")
    parser.add_argument("--dry-run", action="store_true", help="all but the commit and the tag")
    asked = parser.parse_args()
    try:
        kept = release(asked.version, rehearsed=asked.dry_run)
    except Refused as refused:
        print(refused, file=sys.stderr)
        return 1
    for archive in sorted(kept.iterdir()):
        print(archive.relative_to(ROOT))
    if asked.dry_run:
        print(f"{asked.version} can be released; nothing was committed or tagged.")
    else:
        print(f"Committed, and tagged v{asked.version}. Nothing was published: docs/releases.md says how.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
