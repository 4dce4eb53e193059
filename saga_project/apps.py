"""The admin's configuration: its site is ours, and it speaks the viewer's language."""

import pathlib
from typing import Any

from django import apps as django_apps
from django.contrib.admin import apps
from django.core import checks as system
from django.utils.translation import gettext_lazy

HERE = pathlib.Path(__file__).resolve().parent.parent


class AdminConfig(apps.AdminConfig):
    """Django's own configuration of the admin, with our site."""

    default_site = "saga_project.admin.Site"

    def ready(self) -> None:
        """Have every plain name of a row, a column or a choice looked up in the viewer's language.

        Django's usual way is `verbose_name=_("...")` at each of some 250 columns, where it would mostly
        repeat the column's own name. So the models say it once, the apps' catalogues translate it, and a
        test sees that none is forgotten. What a model has marked itself is left as it is.
        """
        for app in django_apps.apps.get_app_configs():
            if not (HERE / app.name.partition(".")[0]).is_dir():
                continue
            app.verbose_name = _shown(app.verbose_name)
            for model in app.get_models():
                names = model._meta
                # Where none is given Django adds an s when it is shown, whatever the language.
                given = "verbose_name_plural" in names.original_attrs
                names.verbose_name_plural = _shown(
                    names.verbose_name_plural if given else str(names.verbose_name_plural)
                )
                names.verbose_name = _shown(names.verbose_name)
                for field in names.local_fields:
                    field.verbose_name = _shown(field.verbose_name)
                    if field.choices:
                        field.choices = [(value, _shown(label)) for value, label in field.flatchoices]
        super().ready()
        # Not before the models are there, which the sagas' declarations import.
        from saga_project import checks, problems  # noqa: F401 - registers what errors come to
        from sagas import doctor

        doctor.look_in("saga_project.examinations")
        system.register(checks.check_limits)
        system.register(checks.check_deployment, deploy=True)
        system.register(checks.check_session, system.Tags.database)


def _shown(name: Any) -> Any:
    """A plain name becomes one that is translated when shown; one that is so already stays."""
    return gettext_lazy(name) if isinstance(name, str) else name
