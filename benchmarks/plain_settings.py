"""Django as the plain chain needs it: this project's database, the benchmark's shop, and no more."""

from saga_project.settings import DATABASES, DEFAULT_AUTO_FIELD, SECRET_KEY, TIME_ZONE, USE_TZ

__all__ = ["DATABASES", "DEFAULT_AUTO_FIELD", "INSTALLED_APPS", "SECRET_KEY", "TIME_ZONE", "USE_TZ"]

INSTALLED_APPS = ["benchmarks.shop"]
