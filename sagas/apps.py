"""The engine's registration with Django."""

from django import apps
from django.core import checks as django_checks


class SagasConfig(apps.AppConfig):
    """Finds every app's saga.py once all apps are there."""

    name = "sagas"
    verbose_name = "Sagas"

    def ready(self) -> None:
        """Find the declarations, register the checks on them, and have operators' roles made.

        Raises:
            ImproperlyConfigured: a setting that has no default is missing, or one makes no sense.
        """
        from django.db.models import signals

        from sagas import checks, conf, registry, roles

        conf.insist()
        registry.discover()
        django_checks.register(checks.check_declarations, "sagas")
        django_checks.register(checks.check_settings, "sagas")
        django_checks.register(checks.check_schedule, "sagas")
        django_checks.register(checks.check_live_versions, django_checks.Tags.database)
        django_checks.register(checks.check_who_works, django_checks.Tags.database)
        signals.post_migrate.connect(roles.make, sender=self, dispatch_uid="sagas.roles")
