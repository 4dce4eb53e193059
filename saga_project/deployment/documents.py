"""Manifests as they were read, before the settings may be."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

Document = Mapping[str, Any]


def configuration(documents: Sequence[Document]) -> dict[str, str]:
    """What the ConfigMap of the project says."""
    return {
        str(name): str(value)
        for document in documents
        if document.get("kind") == "ConfigMap"
        and re.fullmatch(r"saga-config(-\w+)?", document["metadata"]["name"])
        for name, value in (document.get("data") or {}).items()
    }
