# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which GPUs an entry of a layout selects."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from ansible_collections.gpufleet.mig.plugins.module_utils._errors import LayoutError, NotKnownYet
from ansible_collections.gpufleet.mig.plugins.module_utils._layout import shown
from ansible_collections.gpufleet.mig.plugins.module_utils._profiles import product_key

SELECTOR_KEYS = ("index", "uuid", "pci", "device_id", "model", "count")
DEVICE_ID = re.compile(r"0[xX][0-9a-fA-F]{8}")
"""PCI device and vendor id as NVML packs them, 0xDDDDVVVV."""


def is_rest(selector: Any) -> bool:
    """Whether the selector takes what no other entry takes."""
    return bool(selector == "rest")


def wanted_count(selector: Any, label: str) -> int | None:
    """The n of {count: n}, None for selectors that name their GPUs. LayoutError where n is no number from 1 on."""
    if not isinstance(selector, Mapping) or "count" not in selector:
        return None
    count = selector["count"]
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise LayoutError(f"The {label} wants {shown(count)} GPUs; write a number from 1 on.")
    return count


def is_mig_capable(gpu: Mapping[str, Any]) -> bool:
    """Whether the GPU can do MIG at all, on or off."""
    return bool(gpu["mig_mode"]["current"] != "unsupported")


def select(
    selector: Any, gpus: Sequence[dict[str, Any]], label: str, *, missing_ok: bool = False
) -> list[dict[str, Any]]:
    """The GPUs of `gpus` that a selector other than rest names, by index; for {count: n} those it may pick from.

    `all` means the GPUs that can do MIG. LayoutError where a selector cannot be read, or names a GPU that is not there;
    with `missing_ok` such a GPU is passed over.
    """
    if selector == "all":
        return [gpu for gpu in gpus if is_mig_capable(gpu)]
    if isinstance(selector, Mapping):
        return _matching(selector, gpus, label, missing_ok=missing_ok)
    indices = indices_of(selector, label)
    by_index = {gpu["index"]: gpu for gpu in gpus}
    for index in indices:
        if index not in by_index and not missing_ok:
            have = ", ".join(str(known) for known in sorted(by_index)) or "none"
            raise LayoutError(f"The {label} selects GPU {index}, which is not there; there is {have}.", gpu=index)
        if indices.count(index) > 1:
            raise LayoutError(f"The {label} names GPU {index} twice.", gpu=index)
    return [by_index[index] for index in sorted(indices) if index in by_index]


def indices_of(selector: Any, label: str) -> list[int]:
    """The indices of 2, "2", "0-3", "0,4-5" or a list of these."""
    if isinstance(selector, int) and not isinstance(selector, bool):
        return [selector]
    if isinstance(selector, str):
        indices: list[int] = []
        for part in selector.split(","):
            match = re.fullmatch(r"\s*(\d+)(?:\s*-\s*(\d+))?\s*", part)
            if match is None or int(match[2] or match[1]) < int(match[1]):
                break
            indices += range(int(match[1]), int(match[2] or match[1]) + 1)
        else:
            return indices
    elif isinstance(selector, Sequence) and selector:
        return [index for item in selector for index in indices_of(item, label)]
    raise LayoutError(
        f"The {label} does not select GPUs by {shown(selector)}; write all, rest, an index, a list of indices, "
        '"0-3", or a mapping with index, uuid, pci, device_id, model or count.'
    )


def _matching(
    selector: Mapping[str, Any], gpus: Sequence[dict[str, Any]], label: str, *, missing_ok: bool
) -> list[dict[str, Any]]:
    unknown = [str(key) for key in selector if key not in SELECTOR_KEYS]
    if unknown or not selector:
        raise LayoutError(
            f"The {label} selects GPUs by {', '.join(unknown) or 'nothing'}; known keys are {', '.join(SELECTOR_KEYS)}."
        )
    found = list(gpus)
    if "index" in selector:
        found = select(selector["index"], found, label, missing_ok=missing_ok)
    for key, (matches, _field) in _MATCHES.items():
        if key in selector:
            values = selector[key] if isinstance(selector[key], (list, tuple)) else [selector[key]]
            if not values or not all(isinstance(value, str) for value in values):
                raise LayoutError(
                    f"The {label} selects GPUs by {key} {shown(selector[key])}; write text or a list of texts."
                )
            for value in values:
                if key == "device_id" and not DEVICE_ID.fullmatch(value):
                    raise LayoutError(
                        f"The {label} selects GPUs by device_id {value!r}; write the PCI device and vendor id as "
                        '"0x233010DE".'
                    )
                if key == "uuid" and any(gpu.get("uuid") is None for gpu in gpus):
                    raise NotKnownYet(
                        f"The {label} selects GPUs by uuid, which is known only once the host has its driver."
                    )
                if not missing_ok and not any(matches(value, gpu) for gpu in gpus):
                    raise LayoutError(
                        f"The {label} hits no GPU: none has the {key} {value!r}; {_what_is_there(gpus, key)}."
                    )
            found = [gpu for gpu in found if any(matches(value, gpu) for value in values)]
    return found


def _same_uuid(value: str, gpu: dict[str, Any]) -> bool:
    return value.lower() == str(gpu.get("uuid")).lower()


def _same_pci(value: str, gpu: dict[str, Any]) -> bool:
    """PCI addresses are the same with or without a domain, of four digits or eight."""
    return _pci(value) == _pci(str(gpu.get("pci_bus_id")))


def _pci(address: str) -> str:
    parts = address.lower().split(":")
    domain = parts[-3].lstrip("0") if len(parts) > 2 else ""
    return ":".join([domain, *parts[-2:]])


def _same_model(value: str, gpu: dict[str, Any]) -> bool:
    """A glob on NVML's name without "NVIDIA ", or a product key of the facts; case does not matter."""
    name = str(gpu.get("name") or "").lower()
    bare = name[len("nvidia ") :] if name.startswith("nvidia ") else name
    pattern = value.lower()
    return fnmatchcase(bare, pattern) or fnmatchcase(name, pattern) or pattern == product_key(gpu)


def _same_device_id(value: str, gpu: dict[str, Any]) -> bool:
    return value.lower() == str(gpu.get("pci_device_id")).lower()


_MATCHES = {
    "uuid": (_same_uuid, "uuid"),
    "pci": (_same_pci, "pci_bus_id"),
    "device_id": (_same_device_id, "pci_device_id"),
    "model": (_same_model, "name"),
}
"""How a value of each selector key is compared with a GPU, and which field of the GPU that is."""


def _what_is_there(gpus: Sequence[dict[str, Any]], key: str) -> str:
    values = list(dict.fromkeys(str(gpu.get(_MATCHES[key][1])) for gpu in gpus))
    return f"there are {', '.join(values)}" if values else "the host has no GPU"
