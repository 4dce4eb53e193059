"""Flower's own settings: beside a step's arguments a link to the page where its saga is told in full.

Flower reads this file by its path (`--conf`). Its templates have no room for a link of ours, so the
address is put among the task's arguments, and the one page that shows these is made to show it as a link.
"""

import html
import os
import re
from typing import Any

from flower import urls as _urls  # type: ignore[import-untyped]  # It has no types.
from tornado import template as _template

_SAGA = re.compile(r"'saga_id': '([0-9a-f-]{36})'")
_PAGE = (
    re.escape(html.escape(os.environ.get("WEB_URL", ""))) + r"/admin/sagas/sagainstance/[0-9a-f-]{36}/change/"
)


def format_task(task: Any) -> Any:
    """Add the address of the saga's page; everything else stays as it is."""
    found = _SAGA.search(str(task.kwargs or ""))
    if found and "WEB_URL" in os.environ:
        task.kwargs = f"{task.kwargs} {os.environ['WEB_URL']}/admin/sagas/sagainstance/{found[1]}/change/"
    return task


def _linked(kwargs: Any) -> str:
    """The arguments as HTML; nothing of them is markup but the link to our own page."""
    text = html.escape(str(kwargs))
    return re.sub(_PAGE, r'<a href="\g<0>">\g<0></a>', text) if os.environ.get("WEB_URL") else text


class _Loader(_template.Loader):
    """Flower's templates, of which one shows a task's arguments with the link."""

    def _create_template(self, name: str) -> _template.Template:
        with open(os.path.join(self.root, name), encoding="utf-8") as file:
            source = file.read()
        if name == "task.html":
            source = source.replace("{{ task.kwargs }}", "{% raw linked(task.kwargs) %}")
        return _template.Template(source, name=name, loader=self)


_urls.settings["template_loader"] = _Loader(_urls.settings["template_path"], namespace={"linked": _linked})
