"""Takes the safeguard away, once the apps are there."""

import logging
import os

from django.apps import AppConfig

from saga_project.local import maimed

logger = logging.getLogger(__name__)


class Maimed(AppConfig):
    """An app without anything but the loss of a safeguard."""

    name = "saga_project.local.maimed"

    def ready(self) -> None:
        """Take it away, and say so."""
        without = os.environ[maimed.VARIABLE]
        maimed.WAYS[without](setattr)
        logger.error("this program runs WITHOUT ITS %s: it is a negative control", without.upper())
