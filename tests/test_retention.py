"""What bounds each table is said in docs/retention.md; one that is not named there would grow unseen."""

from django.apps import apps

from tests.test_docs import ROOT, table


def test_of_every_table_it_is_said_what_bounds_it() -> None:
    said = {row[0].strip("`"): row[1] for row in table(ROOT / "docs/retention.md", "Table by table")}
    ours = {
        model._meta.db_table
        for model in apps.get_models(include_auto_created=True)
        if model._meta.app_label not in ("sample_app", "examples")
    }

    assert said.keys() == ours
    assert all(said.values())
