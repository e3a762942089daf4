# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The exact layout of a host as a document, and the plan that brings it back on the GPUs that are there now. Pure.

Instances vanish at every reboot and GPUs may be renumbered, moved or swapped, so the document knows each GPU by its
UUID and its PCI address, and each instance by its place.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ansible_collections.gpufleet.mig.plugins.module_utils._adopt import adopted_entries, adopted_layout
from ansible_collections.gpufleet.mig.plugins.module_utils._changes import refuse_unsafe
from ansible_collections.gpufleet.mig.plugins.module_utils._errors import LayoutError, MigError
from ansible_collections.gpufleet.mig.plugins.module_utils._gpu_plan import WAYS
from ansible_collections.gpufleet.mig.plugins.module_utils._planner import plan_host

Gpu = dict[str, Any]
Entries = list[dict[str, Any]]

IDENTITY = ("uuid", "pci_bus_id", "pci_device_id", "name")


def boot_layout(gpus: Sequence[Gpu]) -> dict[str, Any]:
    """The document of what stands on these GPUs. Those that no layout can leave as they stand are not in it."""
    records = [{**{key: gpu[key] for key in IDENTITY}, "wanted": says} for gpu, says in adopted_entries(gpus)]
    return {"digest": digest(gpus), "gpus": records}


def digest(gpus: Sequence[Gpu]) -> str:
    """The digest of what stands, the same for the same layout on equal hosts."""
    return hashlib.sha256(json.dumps(adopted_layout(gpus), sort_keys=True).encode()).hexdigest()


def read_document(text: str, origin: str) -> dict[str, Any]:
    """A document from its text; LayoutError where it is none."""
    try:
        document = json.loads(text)
        for record in document["gpus"]:
            if not all(isinstance(record[key], str) for key in IDENTITY) or not isinstance(record["wanted"], dict):
                raise ValueError(f"the record of {record['uuid']} is not complete")
    except (ValueError, TypeError, KeyError) as error:
        raise LayoutError(
            f"{origin} is not a layout that gpufleet-mig wrote ({error!r}). Nothing was changed; run "
            "gpufleet.mig.site for this host, or write it with gpufleet-mig export."
        ) from None
    return dict(document)


def entries(document: Mapping[str, Any], gpus: Sequence[Gpu]) -> tuple[Entries, list[str]]:
    """The layout for the GPUs that are there now, and a sentence for each one that the document cannot be true for.

    A GPU is found by its UUID, else at its PCI address, where one of the same model may have taken its place.
    """
    by_uuid = {str(gpu["uuid"]): gpu for gpu in gpus}
    known = {record["uuid"] for record in document["gpus"]}
    newcomers = {str(gpu["pci_bus_id"]): gpu for gpu in gpus if gpu["uuid"] not in known}
    found: Entries = []
    problems: list[str] = []
    for record in document["gpus"]:
        gpu = by_uuid.get(record["uuid"]) or newcomers.get(record["pci_bus_id"])
        if gpu is None:
            problems.append(f"{_who(record)} is not there.")
        elif any(gpu[key] != record[key] for key in ("pci_device_id", "name")):
            problems.append(
                f"{_who(record)} was replaced by a {gpu['name']} (GPU {gpu['index']}), which is left as it is."
            )
        else:
            found.append({**record["wanted"], "gpus": gpu["index"]})
    return found, problems


def _who(record: Mapping[str, Any]) -> str:
    return f"{record['name']} {record['uuid']} at {record['pci_bus_id']}"


def plan_all(
    document: Mapping[str, Any], gpus: Sequence[Gpu], allow: Collection[str] = WAYS
) -> tuple[dict[str, Any], list[str]]:
    """The plan to what the document says, and what cannot come true at all. LayoutError where the plan cannot be."""
    layout, problems = entries(document, gpus)
    return plan_host(gpus, layout, allow=allow), problems


def plan_what_can(
    document: Mapping[str, Any], gpus: Sequence[Gpu], allow: Collection[str] = WAYS
) -> tuple[dict[str, Any], list[str]]:
    """As `plan_all`, but a GPU whose part cannot be, or is in use, is left as it is and named."""
    layout, problems = entries(document, gpus)
    try:
        return _safe(gpus, layout, allow), problems
    except MigError:
        pass
    good = []
    for entry in layout:
        try:
            _safe(gpus, [entry], allow)
            good.append(entry)
        except MigError as error:
            problems.append(str(error))
    return _safe(gpus, good, allow), problems


def _safe(gpus: Sequence[Gpu], layout: Entries, allow: Collection[str]) -> dict[str, Any]:
    plan = plan_host(gpus, layout, allow=allow)
    refuse_unsafe(plan)
    return plan
