"""Whatever the console says, it says in Portuguese as well."""

import ast
import gettext
import pathlib
import re

import pytest
from django.apps import apps
from django.utils import translation
from django.utils.translation import template

from sagas.console import marks

ROOT = pathlib.Path(__file__).resolve().parents[1]
APPS = (
    "sagas", "saga_project", "api", "orders", "webhooks", "payments", "inventory", "invoicing", "shipping",
)  # fmt: skip
LOCALES = {"sagas": "sagas/console"}
"""The console has the engine's texts too: nobody else shows them."""
SPEAKERS = {"_": 1, "gettext": 1, "gettext_lazy": 1, "gettext_noop": 1, "ngettext": 2}

each_app = pytest.mark.parametrize("app", APPS)


def said_in_code(app):
    for path in (ROOT / app).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in SPEAKERS:
                first = node.args[0] if node.args else None
                if isinstance(first, ast.Constant) and isinstance(first.value, str):
                    yield first.value


def said_in_templates(app):
    call = re.compile(r"""\b(?:gettext|ngettext|_)\(\s*u?(['"])(.*?)(?<!\\)\1""", re.DOTALL)
    for path in (ROOT / app).rglob("templates/**/*.html"):
        if "api" not in path.parts:
            for match in call.finditer(template.templatize(path.read_text(), origin=str(path))):
                yield match[2].replace("\\'", "'").replace('\\"', '"')


def locale(app):
    return ROOT / LOCALES.get(app, app) / "locale/pt_BR/LC_MESSAGES"


def catalogue(app):
    with (locale(app) / "django.mo").open("rb") as file:
        compiled = gettext.GNUTranslations(file)._catalog
    # Of a plural the first form stands for all.
    singular = {key: text for key, text in compiled.items() if not isinstance(key, tuple)}
    return singular | {
        key[0]: text for key, text in compiled.items() if isinstance(key, tuple) and not key[1]
    }


def written(app):
    text = (locale(app) / "django.po").read_text().partition("\n\n")[2]
    found = {}
    for entry in text.split("\n\n"):
        fields = dict(re.findall(r'^(msgid|msgstr(?:\[0\])?) "(.*)"$', entry, re.MULTILINE))
        said = fields.get("msgstr", fields.get("msgstr[0]"))
        found[_plain(fields["msgid"])] = _plain(said)
    return found


def _plain(text):
    return text.replace('\\"', '"').replace("\\n", "\n").replace("\\\\", "\\")


@each_app
def test_everything_that_is_said_is_translated(app):
    said = {*said_in_code(app), *said_in_templates(app)}

    known = catalogue(app)

    assert sorted(text for text in said if not known.get(text)) == []


@each_app
def test_what_is_compiled_is_what_is_written(app):
    compiled = {key: text for key, text in catalogue(app).items() if key}

    assert compiled == written(app), f"compile it: msgfmt -o django.mo django.po, in {locale(app)}"


@each_app
def test_a_translation_fills_in_what_the_original_does(app):
    for original, said in written(app).items():
        # A plural may leave out what a singular says in words.
        assert set(re.findall(r"%\(\w+\)s", said)) <= set(re.findall(r"%\(\w+\)s", original)) | {"%(growth)s"}


@pytest.mark.parametrize("app", [app for app in APPS if app != "sagas"])
def test_held_is_said_of_sagas_alone(app):
    names = {
        str(label)
        for config in apps.get_app_configs()
        if config.name.partition(".")[0] == app
        for model in config.get_models()
        for field in model._meta.local_fields
        for _value, label in field.flatchoices or []
    }

    said = {text for text in {*said_in_code(app), *said_in_templates(app)} | names if "held" in _words(text)}
    in_portuguese = {
        text
        for key, text in catalogue(app).items()
        if key != "held at" and re.search(r"\bretid[oa]s?\b", text)
    }

    assert said == in_portuguese == set()


def _words(text):
    return re.findall(r"\w+", text.lower())


SAME = {"ID", "id", "PIX", "SKU", "URL", "Webhooks", "Sagas", "saga", "sagas", "token", "tokens", "worker"}
"""Words that are the same in both languages."""


@each_app
def test_every_row_column_and_choice_has_a_name_in_portuguese(app):
    if app == "saga_project":
        return
    configs = [config for config in apps.get_app_configs() if config.name.partition(".")[0] == app]
    names = [config.verbose_name for config in configs]
    for model in (model for config in configs for model in config.get_models()):
        names += [model._meta.verbose_name, model._meta.verbose_name_plural]
        for field in model._meta.local_fields:
            names += [field.verbose_name, *(label for _value, label in field.flatchoices or [])]

    english = [str(name) for name in names]
    with translation.override("pt-br"):
        portuguese = [str(name) for name in names]

    assert {name for name, said in zip(english, portuguese, strict=True) if name == said} <= SAME


def test_states_have_words_of_their_own_in_portuguese():
    with translation.override("en"):
        english = marks.state_names()
    with translation.override("pt-br"):
        portuguese = marks.state_names()

    assert [state for state in english if english[state] == portuguese[state]] == []
