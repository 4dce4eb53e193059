#!/usr/bin/env python
"""Django's command line, on the stack that `make up` started unless the environment names another."""

import os
import sys

from saga_project.local import runfile


def main() -> None:
    """Run a management command."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "saga_project.settings")
    if "DATABASE_URL" not in os.environ:
        runfile.load()
    from django.core import exceptions, management

    try:
        management.execute_from_command_line(sys.argv)
        sys.stdout.flush()
    except exceptions.ImproperlyConfigured as error:
        sys.exit(f"manage.py: {error}")
    except BrokenPipeError:
        # Whoever reads it, such as `head`, has seen enough. Python must not find that out again at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


if __name__ == "__main__":
    main()
