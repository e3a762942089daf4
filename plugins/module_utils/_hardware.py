# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The GPUs of a host that nobody can ask, as mig_info would show them: from inventory and product facts. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.gpufleet.mig.plugins.module_utils._errors import LayoutError, NotKnownYet
from ansible_collections.gpufleet.mig.plugins.module_utils._layout import shown
from ansible_collections.gpufleet.mig.plugins.module_utils._planner import plan_host
from ansible_collections.gpufleet.mig.plugins.module_utils._products import PRODUCTS
from ansible_collections.gpufleet.mig.plugins.module_utils._profiles import facts_profiles, product_of

Gpu = dict[str, Any]

KEYS = ("model", "count", "mig", "instances")
MOST = 64
"""GPUs of one entry; no host has more, so a larger number is a slip of the finger."""

SUGGESTED = 3
"""How many known models are named where the one given is not."""


def gpus_of(described: Any) -> list[Gpu]:
    """The GPUs that ``mig_gpus: [{model: A100-SXM4-80GB, count: 8}]`` describes, in that order, from index 0 on.

    An entry may say what stands: `mig` (disabled where it is not said) and `instances` as a layout has them; instances
    without a place stand where an empty GPU would get them. LayoutError where an entry cannot be read or cannot be.
    """
    if isinstance(described, (str, bytes, Mapping)) or not isinstance(described, Sequence) or not described:
        raise LayoutError(f"mig_gpus is a list such as [{{model: A100-SXM4-80GB, count: 8}}], not {shown(described)}.")
    gpus: list[Gpu] = []
    for number, entry in enumerate(described, 1):
        label = f"mig_gpus entry {number}"
        if not isinstance(entry, Mapping) or "model" not in entry:
            raise LayoutError(f"The {label} does not say which model its GPUs are: write {{model: ..., count: ...}}.")
        unknown = [str(key) for key in entry if key not in KEYS]
        if unknown:
            raise LayoutError(f"The {label} has the unknown key {', '.join(unknown)}; known are {', '.join(KEYS)}.")
        product = PRODUCTS[product_named(entry["model"], label)]
        count = _count(entry.get("count", 1), label)
        gpus += _as_described([_gpu(len(gpus) + at, product) for at in range(count)], entry, label)
    return gpus


def gpus_on_bus(boards: Sequence[Mapping[str, Any]]) -> list[Gpu] | None:
    """GPUs as the driver will show them, MIG off, from `gpus` of gpu_host_info; None where a board is not described.

    NVML counts GPUs in the order of the PCI bus. Their uuid is None.
    """
    gpus: list[Gpu] = []
    for index, board in enumerate(boards):
        product = product_of({**board, "name": ""})
        if product is None or not product["rows"] or len(facts_profiles(product)) < len(product["rows"]):
            return None
        gpus.append({**_gpu(index, product), **board})
    return gpus or None


def refusal(boards: Sequence[Mapping[str, Any]], layout: Any, layouts: Mapping[str, Any], unlisted: str) -> str | None:
    """Why a host with these boards cannot have the layout whatever its driver, else None.

    None as well where that is not known: a board that no fact describes, GPUs that are chosen by uuid, and a profile
    that no fact has, which a driver newer than the facts may bring.
    """
    gpus = gpus_on_bus(boards)
    if gpus is None:
        return None
    try:
        plan = plan_host(gpus, layout, layouts=layouts, unlisted=unlisted)
    except NotKnownYet:
        return None
    except LayoutError as error:
        return None if "nearest" in error.context else str(error)
    reason: str | None = plan["reason"]
    return reason


def product_named(model: Any, label: str) -> str:
    """The key of a product by its key or its NVML name, with or without "NVIDIA "; case does not matter."""
    names = {}
    for key, product in PRODUCTS.items():
        names[key] = key
        if product["name"]:
            names[_bare(product["name"])] = key
    found = names.get(_bare(str(model)))
    if found is None:
        wanted = _bare(str(model))
        near = [name for name in names if wanted and wanted in name][:SUGGESTED]
        near = near or difflib.get_close_matches(wanted, names, n=SUGGESTED)
        known = dict.fromkeys(PRODUCTS[names[name]]["name"] or names[name] for name in near or names)
        raise LayoutError(
            f"The {label} has the model {shown(model)}, which no product fact describes; "
            f"{'did you mean ' + ' or '.join(known) + '?' if near else 'known are ' + ', '.join(known) + '.'}",
            model=model,
        )
    return found


def _bare(name: str) -> str:
    lowered = " ".join(name.lower().split())
    return lowered[len("nvidia ") :] if lowered.startswith("nvidia ") else lowered


def _count(value: Any, label: str) -> int:
    if isinstance(value, bool) or not str(value).isdigit() or not 1 <= int(value) <= MOST:
        raise LayoutError(f"The {label} has {shown(value)} GPUs; write a number from 1 to {MOST}.")
    return int(value)


def _gpu(index: int, product: Mapping[str, Any]) -> Gpu:
    """A GPU as mig_info shows it, MIG off; what no fact gives is None."""
    key = next(key for key, value in PRODUCTS.items() if value is product)
    return {
        "index": index,
        "uuid": None,
        "pci_bus_id": None,
        "pci_device_id": next(iter(product["pci_device_ids"]), None),
        "name": product["name"] or key,
        "architecture": product["architecture"],
        "compute_capability": product["compute_capability"],
        "memory_mib": product["memory_mib"],
        "mig_mode": {"current": "disabled", "pending": "disabled"},
        "resetless_mode_change": bool(product["resetless_mode_change"]),
        "profiles": facts_profiles(dict(product)),
        "instances": [],
    }


def _as_described(gpus: list[Gpu], entry: Mapping[str, Any], label: str) -> list[Gpu]:
    """These GPUs with what the entry says to stand on them."""
    mig, instances = entry.get("mig"), entry.get("instances")
    if mig not in (None, "enabled", "disabled"):
        raise LayoutError(f"The {label} says mig: {shown(mig)}; it can be enabled or disabled.")
    if instances and mig == "disabled":
        raise LayoutError(f"The {label} has instances with mig: disabled; remove one of the two.")
    if mig != "enabled" and not instances:
        return gpus
    plan = plan_host(gpus, [{"gpus": "all", "mig": "enabled", "instances": instances or {}}])
    if not plan["feasible"]:
        raise LayoutError(f"The {label} says that instances stand which cannot: {plan['reason']}")
    after: list[Gpu] = plan["after"]
    return after
