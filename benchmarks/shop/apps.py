"""The app's registration."""

from django import apps


class ShopConfig(apps.AppConfig):
    """The benchmark's shop; it has no migrations, its tables are made by `migrate --run-syncdb`."""

    name = "benchmarks.shop"
    label = "shop"
