"""The engine's registration with Django."""

from django import apps
from django.core import checks as django_checks
from django.utils import module_loading


class SagasConfig(apps.AppConfig):
    """Finds every app's saga.py once all apps are there."""

    name = "sagas"
    verbose_name = "Sagas"

    def ready(self) -> None:
        """Find the declarations, and register the checks on them.

        Raises:
            ImproperlyConfigured: a setting that has no default is missing, or one makes no sense.
        """
        from sagas import checks, conf, eventlog, tracing
        from sagas.declaration import registry
        from sagas.engine import archive

        conf.insist()
        for app in apps.apps.get_app_configs():
            if module_loading.module_has_submodule(app.module, "saga"):
                registry.load(f"{app.name}.saga")
        archive.keep_live(tracing.must_stay)
        archive.keep_live(eventlog.must_stay)
        django_checks.register(checks.check_declarations, "sagas")
        django_checks.register(checks.check_locks, "sagas")
        django_checks.register(checks.check_settings, "sagas")
        django_checks.register(checks.check_configured, "sagas")
        django_checks.register(checks.check_schedule, "sagas")
        django_checks.register(checks.check_redelivery, "sagas")
        django_checks.register(checks.check_longest_line, "sagas")
        django_checks.register(checks.check_deployment, "sagas", deploy=True)
        django_checks.register(checks.check_live_versions, django_checks.Tags.database)
        django_checks.register(checks.check_who_works, django_checks.Tags.database)
