"""The web server: `python -m saga_project.web --port 8000`. The local stack runs it, and so may you.

uvicorn with this project's options, each with its reason. Put a proxy in front of it for TLS.
"""

import argparse
import os
import sys

import uvicorn
from django.core import exceptions

from saga_project import connections, postgres


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(prog="python -m saga_project.web", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (default 127.0.0.1)")
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one (default 8000)")
    parser.add_argument("--workers", type=int, default=2, help="processes, one per core (default 2)")
    options = parser.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "saga_project.settings")
    try:
        postgres.refuse_unprepared()
    except exceptions.ImproperlyConfigured as refusal:
        # Here, because uvicorn would start processes that end again and again.
        sys.exit(f"The web server does not start: {refusal}")
    connections.allow_many()
    uvicorn.run(
        "saga_project.asgi:application",
        host=options.host,
        port=options.port,
        workers=options.workers,
        loop="saga_project.connections:Loop",
        http="saga_project.connections:Connection",
        ws="none",
        # Django has no start and no end to be told of.
        lifespan="off",
        # What became of a request is told by the rows, and refusals by the log of Django.
        access_log=False,
        server_header=False,
        # A request in the middle of its order ends before the process does; then it is cut off.
        timeout_graceful_shutdown=10,
        # A machine that is busy is not one that hangs.
        timeout_worker_healthcheck=30,
    )


if __name__ == "__main__":
    main()
