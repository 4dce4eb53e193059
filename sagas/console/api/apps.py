"""The registration of the console's REST API."""

from django import apps


class ConsoleApiConfig(apps.AppConfig):
    """The console's REST API. Leave it out of INSTALLED_APPS, and its addresses out of the project's."""

    name = "sagas.console.api"
    label = "sagas_console_api"
    verbose_name = "Saga console"

    def ready(self) -> None:
        """Register the kinds of problems."""
        from sagas.console.api import kinds  # noqa: F401 - registers them
