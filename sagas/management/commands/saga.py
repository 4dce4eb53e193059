"""`manage.py saga`: with the console all of its functions, without it those that need none.

Django takes the command of the app that comes first in INSTALLED_APPS, which may be the engine.
"""

from django.apps import apps

from sagas import shell

if apps.is_installed("sagas.console"):
    from sagas.console.management.commands import saga as console

    Command: type[shell.Command] = console.Command
else:
    Command = shell.Command
