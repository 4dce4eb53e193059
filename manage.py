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
    except exceptions.ImproperlyConfigured as error:
        sys.exit(f"manage.py: {error}")


if __name__ == "__main__":
    main()
