# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kubelet's device-plugin checkpoint: which container of which pod was given which devices. Pure.

The file (kubelet 1.20 and newer, pkg/kubelet/cm/devicemanager/checkpoint/checkpoint.go) is one JSON object:

    {"Data": {"PodDeviceEntries": [{"PodUID": "...", "ContainerName": "...", "ResourceName": "nvidia.com/mig-1g.10gb",
                                    "DeviceIDs": {"0": ["MIG-..."]},    by NUMA node, -1 where there is none
                                    "AllocResp": "base64"}] or null,
              "RegisteredDevices": {"nvidia.com/mig-1g.10gb": ["MIG-..."]} or null},
     "Checksum": 1257918843}

It is written when a pod is admitted and when devices come or go, so pods that have ended stay in it for a while: an
entry alone does not say that the pod still runs.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any, Callable

from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError

FNV_OFFSET, FNV_PRIME = 0x811C9DC5, 0x01000193
"""Of the 32-bit FNV-1a hash."""

REPLICA = "::"
"""Between a device's UUID and the number of its replica under time-slicing and MPS (NVIDIA device plugin)."""


class CheckpointError(MigError):
    """The text is no checkpoint that can be relied on: who holds what is then unknown."""


def parse(text: str, *, verify: bool = True) -> dict[str, Any]:
    """The checkpoint as {entries: [{pod_uid, container, resource, devices: [...]}], registered: {resource: [...]}}.

    Devices are as the device plugin registered them, a replica's number included. CheckpointError where the text is
    not of the form above to the letter, or (`verify`) where its checksum is another.
    """
    try:
        whole = json.loads(text)
    except ValueError as error:
        raise CheckpointError(f"it is not JSON ({error})") from error
    _keys(whole, {"Data", "Checksum"}, "the checkpoint")
    data = whole["Data"]
    _keys(data, {"PodDeviceEntries", "RegisteredDevices"}, "Data")
    raw = _of(list, data["PodDeviceEntries"], "PodDeviceEntries")
    entries = [_entry(one, f"entry {number}") for number, one in enumerate(raw, 1)]
    registered = {
        resource: _texts(devices, f"RegisteredDevices of {resource}")
        for resource, devices in sorted(_of(dict, data["RegisteredDevices"], "RegisteredDevices").items())
    }
    if verify and whole["Checksum"] != checksum(data):
        raise CheckpointError(f"its checksum is {whole['Checksum']} and its content gives {checksum(data)}")
    return {"entries": entries, "registered": registered}


def device_uuid(device: str) -> str:
    """The UUID of the GPU or instance behind a device id: GPU-...::3 is replica 3 of GPU-..."""
    return device.split(REPLICA, 1)[0]


def _entry(raw: Any, label: str) -> dict[str, Any]:
    _keys(raw, {"PodUID", "ContainerName", "ResourceName", "DeviceIDs", "AllocResp"}, label)
    for key in ("PodUID", "ContainerName", "ResourceName"):
        if not isinstance(raw[key], str) or not raw[key]:
            raise CheckpointError(f"{label} has no {key}")
    devices: list[str] = []
    for node, ids in _numa_nodes(raw, label):
        devices += _texts(ids, f"{label}, DeviceIDs of NUMA node {node}")
    return {
        "pod_uid": raw["PodUID"],
        "container": raw["ContainerName"],
        "resource": raw["ResourceName"],
        "devices": sorted(devices),
    }


def _numa_nodes(raw: Mapping[str, Any], label: str) -> list[tuple[int, Any]]:
    try:
        return sorted((int(node), ids) for node, ids in _of(dict, raw["DeviceIDs"], f"{label}, DeviceIDs").items())
    except ValueError as error:
        raise CheckpointError(f"{label} names a NUMA node that is no number") from error


def _keys(raw: Any, wanted: set[str], label: str) -> None:
    if not isinstance(raw, dict) or set(raw) != wanted:
        there = ", ".join(sorted(raw)) if isinstance(raw, dict) else type(raw).__name__
        raise CheckpointError(f"{label} should have {', '.join(sorted(wanted))} and has {there or 'nothing'}")


def _of(kind: Callable[[], Any], raw: Any, label: str) -> Any:
    """A list or dict; Go writes an empty one as null too."""
    if raw is None:
        return kind()
    if type(raw) is not kind:
        raise CheckpointError(f"{label} is of another type than expected ({type(raw).__name__})")
    return raw


def _texts(raw: Any, label: str) -> list[str]:
    values: list[str] = _of(list, raw, label)
    if not all(isinstance(value, str) and value for value in values):
        raise CheckpointError(f"{label} lists something that is no device id")
    return sorted(values)


def checksum(data: Mapping[str, Any]) -> int:
    """The kubelet's checksum of Data: FNV-1a, 32 bits, over Data as spew prints it with %#v and sorted keys.

    pkg/kubelet/checkpointmanager/checksum and k8s.io/utils/dump.ForHash ("MUST NOT be changed"); the names of the Go
    types are part of it.
    """
    text = (
        "(checkpoint.checkpointData){"
        f"PodDeviceEntries:([]checkpoint.PodDevicesEntry){_listed(data['PodDeviceEntries'], _spewed_entry)} "
        f"RegisteredDevices:(map[string][]string){_mapped(data['RegisteredDevices'], lambda key: key.encode())}"
        "}"
    )
    value = FNV_OFFSET
    for byte in text.encode("utf-8", "replace"):
        value = (value ^ byte) * FNV_PRIME & 0xFFFFFFFF
    return value


def _spewed_entry(entry: Mapping[str, Any]) -> str:
    try:
        response = None if entry["AllocResp"] is None else base64.b64decode(entry["AllocResp"], validate=True)
    except (binascii.Error, TypeError, ValueError) as error:
        raise CheckpointError(f"the AllocResp of pod {entry['PodUID']} is not base64") from error
    return (
        f"{{PodUID:(string){entry['PodUID']} ContainerName:(string){entry['ContainerName']} "
        f"ResourceName:(string){entry['ResourceName']} "
        f"DeviceIDs:(checkpoint.DevicesPerNUMA){_mapped(entry['DeviceIDs'], int)} "
        f"AllocResp:([]uint8){_listed(response, str)}}}"
    )


def _listed(values: Any, spewed: Callable[[Any], str]) -> str:
    return "<nil>" if values is None else f"[{' '.join(spewed(value) for value in values)}]"


def _mapped(values: Any, order: Callable[[str], Any]) -> str:
    if values is None:
        return "<nil>"
    items = (f"{key}:{_listed(values[key], str)}" for key in sorted(values, key=order))
    return f"map[{' '.join(items)}]"
