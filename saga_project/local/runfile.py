"""`.run/env`: what a running local stack tells the shell and `manage.py` about itself."""

import os
import pathlib
import shlex

ROOT = pathlib.Path(__file__).resolve().parents[2]
RUN_DIR = pathlib.Path(os.environ.get("RUN_DIR", ROOT / ".run")).absolute()
PATH = RUN_DIR / "env"


def load() -> None:
    """Put the variables of a running local stack into the environment, if there is one."""
    if PATH.exists():
        for name, value in read(PATH).items():
            os.environ.setdefault(name, value)


def read(path: pathlib.Path) -> dict[str, str]:
    """The variables of a shell-sourceable file of `export NAME='value'` lines."""
    pairs = {}
    for line in path.read_text().splitlines():
        for word in shlex.split(line.removeprefix("export "), comments=True):
            name, _, value = word.partition("=")
            pairs[name] = value
    return pairs


def write(path: pathlib.Path, pairs: dict[str, str]) -> None:
    """Write the variables so that a shell can source them; private, for it holds secrets.

    The file is there whole or not at all: a process that waits for it may read it at once.
    """
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    fresh.touch(mode=0o600)
    fresh.write_text("".join(f"export {name}={shlex.quote(value)}\n" for name, value in pairs.items()))
    fresh.rename(path)
