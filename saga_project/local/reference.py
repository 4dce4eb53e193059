"""The reference of all that is public in `sagas`: a page of the site for each module, made of docstrings.

griffe reads the code, and runs none of it. The table in docs/in-your-project.md says which modules are
public, and which of their names.
"""

import builtins
import dataclasses
import functools
import inspect
import json
import pathlib
import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence

import griffe

from saga_project.local import runfile

TABLE = "docs/in-your-project.md"

LONGEST_VALUE = 60
"""A longer one says more to a reader of the code."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Named:
    """A public name of a module."""

    module: str
    name: str
    what: griffe.Object

    @property
    def path(self) -> str:
        """How it is imported."""
        return f"{self.module}.{self.name}"


def public(root: pathlib.Path = runfile.ROOT) -> dict[str, list[str]]:
    """The public names of each public module, in the order of the table."""
    chapter = (root / TABLE).read_text().partition("## What is public")[2]
    found: dict[str, list[str]] = {}
    for module, names in re.findall(r"^\| `(sagas[\w.]*)` \| (.*?) \| ", chapter, re.MULTILINE):
        found.setdefault(module, []).extend(re.findall(r"`(\w+)`", names))
    return found


def modules(root: pathlib.Path = runfile.ROOT) -> list[str]:
    """The public modules, in the order of the table."""
    return list(public(root))


@functools.cache
def package() -> griffe.Object:
    """All of `sagas`, as griffe reads it."""
    return read("sagas", runfile.ROOT)


def read(name: str, root: pathlib.Path) -> griffe.Object:
    """A package in that folder, as griffe reads it."""
    found = griffe.load(
        name,
        search_paths=[root],
        try_relative_path=False,
        docstring_parser="google",
        # The signature has the types, and the code what a property gives.
        docstring_options={"returns_named_value": False, "warnings": False},
        resolve_aliases=True,
        allow_inspection=False,
    )
    assert isinstance(found, griffe.Module), name
    return found


def module(name: str) -> griffe.Module:
    """One of the modules of `sagas`."""
    found = package()[name.partition(".")[2]] if "." in name else package()
    assert isinstance(found, griffe.Module), name
    return found


def names(of: str) -> list[Named]:
    """The public names of a module."""
    members = module(of).members
    return [Named(module=of, name=name, what=_meant(members[name])) for name in public()[of]]


@functools.cache
def described() -> dict[str, Named]:
    """Where an object is described, by its path in the code."""
    return {one.what.path: one for name in modules() for one in names(name)}


def page(of: str) -> str:
    """A module's page, in the Markdown that the site is made of."""
    found = module(of)
    parts = [f"# `{of}`", f"```{{py:module}} {of}\n```", *_prose(found)]
    parts += [_object(one) for one in names(of)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _meant(member: griffe.Object | griffe.Alias) -> griffe.Object:
    found = member.final_target if isinstance(member, griffe.Alias) else member
    assert isinstance(found, griffe.Object), member
    return found


def _object(one: Named) -> str:
    match one.what:
        case griffe.Class():
            return _class(one.name, one.what)
        case griffe.Function():
            return _function(4, "function", one.name, one.what)
        case _:
            return _attribute(4, "data", one.name, one.what)


def _class(name: str, found: griffe.Class) -> str:
    bases = [_typed(base) for base in found.bases]
    is_error = "exception" if _is_error(found) else "class"
    lines = [f"Bases: {', '.join(f'{{py:obj}}`~{base}`' for base in bases)}"] if bases else []
    members = []
    for inner, member in found.members.items():
        if inner.startswith("_") or member.is_alias or (member.is_class and not member.has_docstring):
            continue
        match member:
            case griffe.Function():
                if member.has_docstring:
                    members.append(_function(4, "method", inner, member))
            case griffe.Attribute():
                if _is_told(member, found):
                    kind = "property" if "property" in member.labels else "attribute"
                    members.append(_attribute(4, kind, inner, member))
    signature = ""
    if "dataclass" in found.labels or "__init__" in found.members:
        signature = f"({_parameters(list(found.parameters)[1:])})"
    return _directive(5, f"py:{is_error}", f"{name}{signature}", [], [*lines, *_prose(found), *members])


def _is_told(attribute: griffe.Attribute, of: griffe.Class) -> bool:
    """Whether there is more to say of an attribute than the class has said of its arguments."""
    if attribute.has_docstring or attribute.name.isupper():
        return True
    arguments = {one.name for one in of.parameters} if "dataclass" not in of.labels else set()
    return attribute.annotation is not None and attribute.name not in arguments


def _function(depth: int, kind: str, name: str, found: griffe.Function) -> str:
    options = [f":{label}:" for label in ("classmethod", "staticmethod") if label in found.labels]
    options += [":async:"] if "async" in found.labels else []
    returns = f" -> {_typed(found.returns)}" if found.returns is not None else ""
    parameters = list(found.parameters)
    if kind == "method" and "staticmethod" not in found.labels:
        parameters = parameters[1:]
    return _directive(
        depth, f"py:{kind}", f"{name}({_parameters(parameters)}){returns}", options, _prose(found)
    )


def _attribute(depth: int, kind: str, name: str, found: griffe.Object) -> str:
    assert isinstance(found, griffe.Attribute), found.path
    # Quoted, for an option of a directive is read as YAML is.
    options = [f":type: {json.dumps(_typed(found.annotation))}"] if found.annotation is not None else []
    value = str(found.value) if found.value is not None and kind != "property" else ""
    if value and len(value) <= LONGEST_VALUE and "\n" not in value:
        options.append(f":value: {json.dumps(value)}")
    return _directive(depth, f"py:{kind}", name, options, _prose(found))


def _directive(depth: int, directive: str, argument: str, options: Sequence[str], body: Iterable[str]) -> str:
    """One of Sphinx's: what stands in it has a shorter fence."""
    head = "\n".join([f"{'`' * depth}{{{directive}}} {argument}", *options])
    return "\n\n".join([head, *[part for part in body if part]]) + f"\n{'`' * depth}"


def _parameters(parameters: Sequence[griffe.Parameter] | griffe.Parameters) -> str:
    told: list[str] = []
    before: griffe.ParameterKind | None = None
    for one in parameters:
        kind = one.kind
        if before is griffe.ParameterKind.positional_only and kind is not before:
            told.append("/")
        if kind is griffe.ParameterKind.keyword_only and before not in (
            kind,
            griffe.ParameterKind.var_positional,
        ):
            told.append("*")
        stars = {griffe.ParameterKind.var_positional: "*", griffe.ParameterKind.var_keyword: "**"}
        text = f"{stars.get(kind, '') if kind else ''}{one.name}"
        if one.annotation is not None:
            text += f": {_typed(one.annotation)}"
        if one.default is not None and kind not in stars:
            text += f"{' = ' if one.annotation is not None else '='}{one.default}"
        told.append(text)
        before = kind
    if before is griffe.ParameterKind.positional_only:
        told.append("/")
    return ", ".join(told)


def _typed(annotation: str | griffe.Expr) -> str:
    """As it is written, but that what is described in the reference has the name that it has there."""
    if isinstance(annotation, str):
        return annotation
    if isinstance(annotation, griffe.ExprName | griffe.ExprAttribute):
        target = described().get(_in_the_code(annotation.canonical_path))
        return target.path if target else str(annotation)
    return "".join(part if isinstance(part, str) else _typed(part) for part in annotation.iterate(flat=False))


def _in_the_code(path: str) -> str:
    """Where it is made that another module has imported."""
    if path.partition(".")[0] != "sagas" or "." not in path:
        return path
    try:
        return _meant(package()[path.partition(".")[2]]).path
    except KeyError:
        return path


def _is_error(found: griffe.Class) -> bool:
    for base in found.bases:
        path = _in_the_code(base.canonical_path) if isinstance(base, griffe.Expr) else str(base)
        if inspect.isclass(made := getattr(builtins, path, None)) and issubclass(made, BaseException):
            return True
        if path.startswith("sagas.") and _is_error(_class_at(path)):
            return True
    return False


def _class_at(path: str) -> griffe.Class:
    found = package()[path.partition(".")[2]]
    assert isinstance(found, griffe.Class), path
    return found


def _prose(found: griffe.Object) -> Iterator[str]:
    """The docstring: its text, and what it says of arguments, results and errors as a list of fields."""
    if found.docstring is None:
        return
    fields = []
    for section in found.docstring.parsed:
        match section:
            case griffe.DocstringSectionText():
                yield section.value
            case griffe.DocstringSectionParameters():
                fields += [_field(f"param {one.name}", one.description) for one in section.value]
            case griffe.DocstringSectionReturns():
                fields += [_field("returns", one.description) for one in section.value]
            case griffe.DocstringSectionYields():
                fields += [_field("yields", one.description) for one in section.value]
            case griffe.DocstringSectionRaises():
                fields += [_field(_raises(str(one.annotation)), one.description) for one in section.value]
            case griffe.DocstringSectionAdmonition():
                yield f"{section.title}:\n\n{section.value.contents}"
            case _:
                raise AssertionError(f"{found.path} has a section that nobody foresaw: {section.kind}")
    if fields:
        yield "\n".join(fields)


def _raises(names: str) -> str:
    paths = {one.name: one.path for one in described().values() if one.what.is_class}
    return "raises " + ", ".join(
        f"~{paths[last]}" if (last := name.strip().rpartition(".")[2]) in paths else name.strip()
        for name in names.split(",")
    )


def _field(name: str, text: str) -> str:
    return f":{name}: " + textwrap.indent(text, "  ").strip()
