"""What was public in one version and is no more in another: what a release has to tell, or may not do."""

import dataclasses
import pathlib
import re

import griffe

from distribution import build
from saga_project.local import reference

KINDS = {
    griffe.BreakageKind.OBJECT_REMOVED: "is gone",
    griffe.BreakageKind.OBJECT_CHANGED_KIND: "is something else",
    griffe.BreakageKind.CLASS_REMOVED_BASE: "has lost a base",
    griffe.BreakageKind.PARAMETER_REMOVED: "has lost an argument",
    griffe.BreakageKind.PARAMETER_ADDED_REQUIRED: "wants another argument",
    griffe.BreakageKind.PARAMETER_CHANGED_REQUIRED: "wants an argument that was optional",
    griffe.BreakageKind.PARAMETER_CHANGED_KIND: "takes an argument in another way",
    griffe.BreakageKind.PARAMETER_MOVED: "has an argument elsewhere",
}
"""What breaks a program. That a value, a default or an annotation is another one may be meant for all."""


READ = reference.TABLE, "sagas", (build.CLIENT / "src").as_posix()
"""What of a checkout says what is public, and what that is."""


@dataclasses.dataclass(frozen=True, order=True)
class Broken:
    """Something that a program may use, and no longer can as it does."""

    path: str
    how: str

    def __str__(self) -> str:
        """A line."""
        return f"  {self.path} {self.how}"

    def is_named_in(self, text: str) -> bool:
        """Whether a text tells of it."""
        return bool(re.search(rf"\b{re.escape(self.path.rpartition('.')[2])}\b", text))


def broken(before: pathlib.Path, now: pathlib.Path) -> list[Broken]:
    """What is broken of the engine and of the client.

    Arguments:
        before: a checkout of the older version, which says what is public.
        now: one of the newer.
    """
    there = reference.public(now)
    was = reference.public(before)
    found = {
        Broken(f"{module}.{name}", "is not public any more")
        for module, names in was.items() for name in names
        if name not in there.get(module, ())
    }  # fmt: skip
    meant = {name for names in was.values() for name in names}
    old, new = reference.read("sagas", before), reference.read("sagas", now)
    pairs = [(_module(old, name), _module(new, name)) for name in was if name in there]
    clients = [reference.read("saga_orders", root / build.CLIENT / "src") for root in (before, now)]
    pairs.append((clients[0], clients[1]))
    for one, other in pairs:
        for breakage in griffe.find_breaking_changes(one, other):
            # A module has names that are not public, too.
            is_meant = not breakage.obj.path.startswith("sagas.") or meant & {*breakage.obj.path.split(".")}
            if is_meant and (how := KINDS.get(breakage.kind)):
                found.add(Broken(breakage.obj.path, how))
    return sorted(found)


def _module(package: griffe.Object, name: str) -> griffe.Object | griffe.Alias:
    return package[name.partition(".")[2]] if "." in name else package
