"""`python -m sandbox --port N --data DIR`: the outside world as a process."""

import argparse
import os
import pathlib
import signal
import sqlite3
import sys
import threading
import traceback

from sandbox import books, clock, core, faults, server, webhooks


def main() -> int:
    """Serve until SIGTERM or Ctrl-C."""
    options = _options()
    try:
        settings = core.read_settings(os.environ)
        sandbox = core.Sandbox(
            books=books.Books(options.data), faults=faults.Faults(settings.seed), settings=settings
        )
        listening = server.Server((options.host, options.port), sandbox)
    except core.Misconfigured as error:
        return _refuse(str(error))
    except sqlite3.OperationalError as error:
        return _refuse(f"The books in {options.data} cannot be opened ({error}): is another sandbox running?")
    except OSError as error:
        return _refuse(f"Cannot listen on {options.host}:{options.port}: {error.strerror}.")

    # A sandbox whose clock or sender of callbacks died must not go on as if nothing had happened.
    threading.excepthook = _die
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    threading.Thread(target=listening.serve_forever, name="server", daemon=True).start()
    clock.Clock(sandbox).start()
    if settings.webhook_target:
        webhooks.Deliverer(sandbox, settings.webhook_target).start()
    print(f"Sandbox on http://{options.host}:{listening.server_port}", flush=True)
    stop.wait()
    sandbox.books.close()
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m sandbox",
        description="A bank, a fiscal authority and a carrier with books of their own.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=int, required=True, help="the port; 0 takes a free one and prints it")
    parser.add_argument("--data", type=pathlib.Path, required=True, help="the folder that keeps the books")
    return parser.parse_args()


def _refuse(reason: str) -> int:
    print(reason, file=sys.stderr)
    return 2


def _die(args: threading.ExceptHookArgs) -> None:
    traceback.print_exception(args.exc_type, args.exc_value, args.exc_traceback)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
