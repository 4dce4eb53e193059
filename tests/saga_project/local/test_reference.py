"""The reference has all that is public, and what it says of it is so."""

import ast
import importlib
import re

import griffe
import pytest

from saga_project.local import reference

PUBLIC = [one for module in reference.modules() for one in reference.names(module)]

each_module = pytest.mark.parametrize("module", reference.modules())


def functions() -> list[griffe.Function]:
    """All that can be called: functions, and the methods of classes that do not begin with `_`."""
    found = [one.what for one in PUBLIC]
    for one in [what for what in found if isinstance(what, griffe.Class)]:
        found += [
            each for name, each in one.members.items() if not name.startswith("_") and not each.is_alias
        ]
    return [what for what in found if isinstance(what, griffe.Function)]


def prose(text: str) -> str:
    """Without what is code."""
    return re.sub(r"```.*?```|`[^`]*`|^ {4}.*?$", "", text, flags=re.DOTALL | re.MULTILINE)


def test_every_public_name_has_a_docstring() -> None:
    assert len(PUBLIC) > 150
    assert [one.path for one in PUBLIC if not one.what.has_docstring] == []


@each_module
def test_every_public_name_stands_on_its_modules_page_and_is_there_to_be_imported(module: str) -> None:
    page = reference.page(module)
    described = re.findall(r"^`{4,}\{py:(?:data|function|class|exception)\} (\w+)", page, re.MULTILINE)
    imported = importlib.import_module(module)

    assert page.startswith(f"# `{module}`\n")
    assert sorted(described) == sorted(one.name for one in reference.names(module))
    assert [name for name in described if not hasattr(imported, name)] == []


@each_module
def test_what_is_called_is_written_as_python_reads_it(module: str) -> None:
    """Sphinx makes nothing of another signature."""
    signatures = re.findall(r"^`{4,}\{py:\w+\} \w+(\(.*)$", reference.page(module), re.MULTILINE)

    for signature in signatures:
        ast.parse(f"def function{signature}: ...")


def test_a_value_is_quoted_where_yaml_would_take_its_quotes_away() -> None:
    page = reference.page("sagas.declaration.states")

    assert "```{py:attribute} RUNNING\n:value: \"'running'\"\n" in page


def test_what_a_docstring_says_of_arguments_results_and_errors_is_a_list_of_fields() -> None:
    page = reference.page("sagas.engine")
    head = page.index(
        "````{py:function} begin(saga: sagas.Saga, *, key: str, inputs: dict[str, Any], actor: str = 'system'"
    )
    begin = page[head : page.index("\n````\n", head)]

    assert " -> sagas.models.SagaInstance\n" in begin
    assert ":param key: the business key, at most 100 characters; one live saga of a name has it.\n" in begin
    assert ":returns: The instance.\n" in begin
    assert ":raises ~sagas.errors.AlreadyLive: a live saga of that name has the key.\n" in begin
    assert "Arguments:" not in page


def test_an_error_is_an_exception_and_its_base_is_linked() -> None:
    page = reference.page("sagas.errors")

    assert "`````{py:exception} AlreadyLive" in page
    assert "Bases: {py:obj}`~sagas.errors.SagaError`" in page
    assert "{py:class}" not in page


def test_a_docstring_names_the_arguments_that_there_are() -> None:
    wrong = [
        (function.path, argument.name)
        for function in functions()
        for section in (function.docstring.parsed if function.docstring else [])
        if isinstance(section, griffe.DocstringSectionParameters)
        for argument in section.value
        if argument.name.lstrip("*") not in {one.name for one in function.parameters}
    ]

    assert len(functions()) > 100
    assert wrong == []


def test_no_docstring_has_what_the_site_would_take_for_a_tag() -> None:
    found = {one.path: one.what.docstring.value for one in PUBLIC if one.what.docstring}

    assert {path for path, text in found.items() if re.search(r"<[a-z/]", prose(text))} == set()


def test_nothing_is_described_twice() -> None:
    assert len({one.what.path for one in PUBLIC}) == len(PUBLIC)
