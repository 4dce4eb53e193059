"""Whatever the console says, it says in Portuguese as well."""

import ast
import gettext
import pathlib
import re

import pytest
from django.apps import apps
from django.utils import translation
from django.utils.translation import template

from sagas.console.templatetags import console

ROOT = pathlib.Path(__file__).resolve().parents[1]
ROOMS = (
    "sagas", "saga_project", "api", "orders", "webhooks", "payments", "inventory", "invoicing", "shipping",
)  # fmt: skip
SPEAKERS = {"_": 1, "gettext": 1, "gettext_lazy": 1, "gettext_noop": 1, "ngettext": 2}

each_room = pytest.mark.parametrize("room", ROOMS)


def said_in_code(room):
    for path in (ROOT / room).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in SPEAKERS:
                first = node.args[0] if node.args else None
                if isinstance(first, ast.Constant) and isinstance(first.value, str):
                    yield first.value


def said_in_templates(room):
    call = re.compile(r"""\b(?:gettext|ngettext|_)\(\s*u?(['"])(.*?)(?<!\\)\1""", re.DOTALL)
    for path in (ROOT / room).rglob("templates/**/*.html"):
        if "api" not in path.parts:
            for match in call.finditer(template.templatize(path.read_text(), origin=str(path))):
                yield match[2].replace("\\'", "'").replace('\\"', '"')


def catalogue(room):
    with (ROOT / room / "locale/pt_BR/LC_MESSAGES/django.mo").open("rb") as file:
        compiled = gettext.GNUTranslations(file)._catalog
    # Of a plural the first form stands for all.
    singular = {key: text for key, text in compiled.items() if not isinstance(key, tuple)}
    return singular | {
        key[0]: text for key, text in compiled.items() if isinstance(key, tuple) and not key[1]
    }


def written(room):
    text = (ROOT / room / "locale/pt_BR/LC_MESSAGES/django.po").read_text().partition("\n\n")[2]
    found = {}
    for entry in text.split("\n\n"):
        fields = dict(re.findall(r'^(msgid|msgstr(?:\[0\])?) "(.*)"$', entry, re.MULTILINE))
        said = fields.get("msgstr", fields.get("msgstr[0]"))
        found[_plain(fields["msgid"])] = _plain(said)
    return found


def _plain(text):
    return text.replace('\\"', '"').replace("\\n", "\n").replace("\\\\", "\\")


@each_room
def test_everything_that_is_said_is_translated(room):
    said = {*said_in_code(room), *said_in_templates(room)}

    known = catalogue(room)

    assert sorted(text for text in said if not known.get(text)) == []


@each_room
def test_what_is_compiled_is_what_is_written(room):
    compiled = {key: text for key, text in catalogue(room).items() if key}

    assert compiled == written(room), f"compile it: msgfmt -o django.mo django.po, in {room}/locale"


@each_room
def test_a_translation_fills_in_what_the_original_does(room):
    for original, said in written(room).items():
        # A plural may leave out what a singular says in words.
        assert set(re.findall(r"%\(\w+\)s", said)) <= set(re.findall(r"%\(\w+\)s", original)) | {"%(growth)s"}


SAME = {"ID", "id", "PIX", "SKU", "URL", "Webhooks", "Sagas", "saga", "sagas", "token", "tokens", "worker"}
"""Words that are the same in both languages."""


@each_room
def test_every_row_column_and_choice_has_a_name_in_portuguese(room):
    if room == "saga_project":
        return
    config = apps.get_app_config(room)
    names = [config.verbose_name]
    for model in config.get_models():
        names += [model._meta.verbose_name, model._meta.verbose_name_plural]
        for field in model._meta.local_fields:
            names += [field.verbose_name, *(label for _value, label in field.flatchoices or [])]

    english = [str(name) for name in names]
    with translation.override("pt-br"):
        portuguese = [str(name) for name in names]

    assert {name for name, said in zip(english, portuguese, strict=True) if name == said} <= SAME


def test_states_have_words_of_their_own_in_portuguese():
    with translation.override("en"):
        english = console.words()
    with translation.override("pt-br"):
        portuguese = console.words()

    assert [state for state in english if english[state] == portuguese[state]] == []
