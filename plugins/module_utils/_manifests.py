# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""Rendered manifests: parse, compare object by object, show the difference. Pure; YAML text in, plain data out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError

HIDDEN = "(hidden)"
HIDDEN_OTHER = "(hidden, another value)"


@dataclass(frozen=True, order=True)
class Ref:
    """What names an object of a manifest. ``namespace`` is empty where the manifest leaves it to the release."""

    kind: str
    name: str
    namespace: str
    api_version: str

    def __str__(self) -> str:
        where = f"{self.namespace}/" if self.namespace else ""
        return f"{self.kind} {where}{self.name} ({self.api_version})"


Objects = dict[Ref, dict[str, Any]]


def parse(text: str) -> Objects:
    """Objects of a multi-document YAML, lists unfolded. Raises MigError on text that is no manifest."""
    import yaml  # comes with ansible-core

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    objects: Objects = {}
    try:
        documents = [document for document in yaml.load_all(text, Loader=loader) if document]
    except yaml.YAMLError as error:
        raise MigError(f"The rendered manifest is not valid YAML: {str(error).splitlines()[0]}") from error
    while documents:
        document = documents.pop(0)
        if not isinstance(document, dict) or "kind" not in document:
            raise MigError(f"The rendered manifest holds a document that is no object: {str(document)[:80]!r}")
        if document["kind"].endswith("List") and isinstance(document.get("items"), list):
            documents[:0] = [item for item in document["items"] if item]
            continue
        objects[ref(document)] = document
    return objects


def ref(document: Mapping[str, Any]) -> Ref:
    """The name of one object."""
    metadata = document.get("metadata") or {}
    return Ref(
        kind=str(document.get("kind", "")),
        name=str(metadata.get("name") or metadata.get("generateName", "")),
        namespace=str(metadata.get("namespace") or ""),
        api_version=str(document.get("apiVersion", "")),
    )


def changed(before: Objects, after: Objects) -> list[Ref]:
    """Objects that differ, appear or go, in a fixed order."""
    return sorted(key for key in {*before, *after} if before.get(key) != after.get(key))


def difference(before: Objects, after: Objects) -> dict[str, str]:
    """Ansible's diff: both sides as YAML of the objects that differ, values of Secrets hidden."""
    keys = changed(before, after)
    left, right = [], []
    for key in keys:
        old, new = before.get(key), after.get(key)
        if key.kind == "Secret":
            old, new = _masked(old, None), _masked(new, old)
        left.append(_shown(key, old))
        right.append(_shown(key, new))
    return {"before": "".join(left), "after": "".join(right)}


def _shown(key: Ref, document: dict[str, Any] | None) -> str:
    import yaml

    if document is None:
        return ""
    text: str = yaml.safe_dump(document, default_flow_style=False, sort_keys=True, width=1000)
    return f"--- # {key}\n{text}"


def _masked(document: dict[str, Any] | None, other: dict[str, Any] | None) -> dict[str, Any] | None:
    """A Secret without its values; one unlike the other side's is marked, so that the diff still shows the change."""
    if document is None:
        return None
    result = dict(document)
    for part in ("data", "stringData"):
        if isinstance(document.get(part), dict):
            against = (other or {}).get(part) or {}
            result[part] = {
                key: HIDDEN if other is None or against.get(key, value) == value else HIDDEN_OTHER
                for key, value in document[part].items()
            }
    return result


def same_values(one: Any, other: Any) -> bool:
    """Helm values compared as JSON does (1 and 1.0 are one number, absent and {} both mean none)."""
    return _canonical(one or {}) == _canonical(other or {})


def _canonical(value: Any) -> str:
    def plain(item: Any) -> Any:
        if isinstance(item, Mapping):
            return {str(key): plain(inner) for key, inner in item.items()}
        if isinstance(item, list | tuple):
            return [plain(inner) for inner in item]
        if isinstance(item, float) and item.is_integer():
            return int(item)
        return item

    return json.dumps(plain(value), sort_keys=True, default=str)


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Dictionaries merged deeply, ``over`` wins; lists are replaced, as Helm does with several value files."""
    result = dict(base)
    for key, value in over.items():
        old = result.get(key)
        result[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return result


def names(keys: Iterable[Ref], limit: int = 5) -> str:
    """A few names for a sentence."""
    shown = [str(key) for key in keys]
    more = f" and {len(shown) - limit} more" if len(shown) > limit else ""
    return ", ".join(shown[:limit]) + more
