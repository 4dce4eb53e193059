"""The files in `deploy/` that list queues, and what is senseless in manifests.

- `python -m saga_project.deployment write` writes those files anew from the declared sagas; `make deployment`
  does. `compare` only says which of them are not as they would be written, and ends with 1 if any is not.
- `kubectl kustomize DIRECTORY | python -m saga_project.deployment check [--connections N]` reads what would
  be applied, says what makes no sense, and ends with 1 if anything does. N: what PostgreSQL allows.

Neither needs a server, nor a secret.
"""

import argparse
import os
import sys

import django
import yaml
from django.core import exceptions

from saga_project.deployment.documents import Document, configuration
from saga_project.local import throwaway


def main() -> int:
    """Run the command that the arguments name; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m saga_project.deployment",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=["write", "compare", "check"])
    parser.add_argument("--connections", type=int, help="how many PostgreSQL, or its pooler, allows")
    options = parser.parse_args()
    try:
        documents = (
            [one for one in yaml.safe_load_all(sys.stdin) if one] if options.command == "check" else []
        )
    except yaml.YAMLError as error:
        sys.exit(f"Standard input is no YAML: {error}")
    try:
        _set_up(documents)
    except exceptions.ImproperlyConfigured as error:
        print(f"The ConfigMap is refused, as each process would refuse it: {error}", file=sys.stderr)
        return 1
    match options.command:
        case "check":
            return _check(documents, options.connections)
        case "compare":
            return _compare()
    return _write()


def _set_up(documents: list[Document]) -> None:
    """Read the settings as a process of this installation would; secrets and servers are made up.

    Raises:
        ImproperlyConfigured: a value in the ConfigMap makes no sense.
    """
    os.environ.update(
        throwaway.environment(
            place="", database_url="postgresql://nobody@127.0.0.1:9/none", broker_url="redis://127.0.0.1:9/0"
        )
    )
    del os.environ["PLAIN_HTTP"]
    # So that the queue of what sends traces is there: the files have a worker for it.
    os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://127.0.0.1:9"
    os.environ.update(configuration(documents))
    os.environ["DJANGO_SETTINGS_MODULE"] = "saga_project.settings"
    django.setup()


def _write() -> int:
    from saga_project.deployment import files

    for path, text in files.everything().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        print(path.relative_to(files.DEPLOY.parent))
    return 0


def _compare() -> int:
    from saga_project.deployment import files

    wanted = files.everything()
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    # A drop-in of a queue that is gone.
    stale += [path for path in files.DEPLOY.glob("systemd/saga-worker@*.service.d/*") if path not in wanted]
    for path in stale:
        print(
            f"{path.relative_to(files.DEPLOY.parent)} is not what `make deployment` writes.", file=sys.stderr
        )
    return 1 if stale else 0


def _check(documents: list[Document], connections: int | None) -> int:
    from saga_project.deployment import layout, manifests

    found = manifests.problems(documents, workers=layout.workers(), connections=connections)
    for problem in found:
        print(problem, file=sys.stderr)
    print(f"{len(documents)} manifests, {len(found)} senseless")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
