"""The console's registration with Django."""

from django import apps
from django.core import checks as django_checks


class ConsoleConfig(apps.AppConfig):
    """The operators' console. Leave it out of INSTALLED_APPS, and the engine runs without one."""

    name = "sagas.console"
    label = "sagas_console"
    verbose_name = "Saga console"

    def ready(self) -> None:
        """Register the console's checks, and have operators' roles made."""
        from django.db.models import signals

        from sagas import conf, engine, housekeeping
        from sagas.console import archiving, bulk, checks, erasing, models, roles

        engine.keep_live(archiving.needed)
        engine.take_along(models.Consent, name="sagas_console.approval")
        engine.forget_too(bulk.forget)
        engine.strike_too(erasing.strike)
        housekeeping.add(bulk.drive, every=conf.BULK_EVERY)
        django_checks.register(checks.check_settings, "sagas")
        django_checks.register(checks.check_schedule, "sagas")
        signals.post_migrate.connect(roles.make, sender=self, dispatch_uid="sagas.console.roles")
