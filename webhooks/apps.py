"""The app's registration."""

from django import apps
from django.conf import settings


class WebhooksConfig(apps.AppConfig):
    """What tells merchants of their orders."""

    name = "webhooks"

    def ready(self) -> None:
        """Have old messages cleared with all that has outlived its use; register the kinds of problems."""
        from orders import cleanup, erasure
        from sagas import engine
        from webhooks import deliveries, messages
        from webhooks.api import kinds  # noqa: F401 - registers them

        # Of whose events messages are still to be made.
        engine.keep_live(messages.untold)
        erasure.strike_too(messages.strike)
        cleanup.add(
            "webhook messages",
            lambda limit: deliveries.purge(older_than=settings.WEBHOOKS_LOG_LIVES, limit=limit),
        )
