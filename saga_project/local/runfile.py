"""`.run/env`: what a running local stack tells the shell and `manage.py` about itself."""

import os
import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[2]
PATH = pathlib.Path(os.environ.get("RUN_DIR", ROOT / ".run")) / "env"


def load() -> None:
    """Put the variables of a running local stack into the environment, if there is one."""
    if PATH.exists():
        for name, value in read(PATH).items():
            os.environ.setdefault(name, value)


def read(path: pathlib.Path) -> dict[str, str]:
    """The variables of a shell-sourceable file of `export NAME='value'` lines."""
    pairs = {}
    for line in path.read_text().splitlines():
        name, equals, value = line.removeprefix("export ").partition("=")
        if equals:
            pairs[name.strip()] = value.strip().strip("'")
    return pairs


def write(path: pathlib.Path, pairs: dict[str, str]) -> None:
    """Write the variables so that a shell can source them; private, for it holds secrets."""
    text = "".join(f"export {name}='{value}'\n" for name, value in pairs.items())
    path.touch(mode=0o600, exist_ok=True)
    path.write_text(text)
