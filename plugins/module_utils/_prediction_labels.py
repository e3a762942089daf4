# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""The node labels of GPU feature discovery (GFD), by strategy, from the GPUs of a host. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError
from ansible_collections.gpufleet.mig.plugins.module_utils._prediction_config import Settings, Sharing
from ansible_collections.gpufleet.mig.plugins.module_utils._prediction_node import UNKNOWN, Gpu, MigDevice, mig_devices

PREFIX = "nvidia.com/"
GPU_RESOURCE = PREFIX + "gpu"
_FAMILIES = {1: "tesla", 2: "fermi", 3: "kepler", 5: "maxwell", 6: "pascal", 9: "hopper", 13: "rubin"}


class DiscoveryFails(Exception):
    """GFD exits without writing labels; the text is the end of its own last log line."""


def host_labels(gpus: Sequence[Gpu], host: Mapping[str, Any], settings: Settings) -> dict[str, str]:
    """Labels that do not depend on the strategy. ``host`` as mig_info returns it; DiscoveryFails where GFD exits."""
    if not gpus:
        return {PREFIX + "vgpu.present": "false"}
    labels = {
        "gpu.machine": sanitise(host.get("machine") or "unknown"),
        **_versions(_version(host, "driver_version"), _version(host, "cuda_version")),
        "mig.capable": _flag(any(gpu.mig_capable for gpu in gpus)),
        "mps.capable": _flag(settings.sharing.strategy == "mps"),
        "gpu.mode": str(host.get("gpu_mode") or "unknown"),
        "vgpu.present": "false",
    }
    if settings.sharing.strategy == "mps" and any(gpu.mig_enabled for gpu in gpus):
        raise DiscoveryFails("failed to check MPS-capable: MPS sharing is not supported for mig devices")
    return {PREFIX + key: value for key, value in labels.items()}


def whole_gpu_labels(gpus: Sequence[Gpu], sharing: Sharing) -> list[dict[str, str]]:
    """The set of the strategy none, which the others start from: every answer that GFD may give, likeliest first.

    One label key serves all models of a node. GFD visits the models in the random order of a Go map and the last one
    wins, which is most often the model that it met last; models with a whole GPU left always beat those without.
    """
    counts: dict[str, int] = {}
    for gpu in gpus:
        counts[gpu.name] = counts.get(gpu.name, 0) + 1
    enabled = {gpu.name: gpu for gpu in gpus if gpu.mig_enabled}
    whole = {gpu.name: gpu for gpu in gpus if not gpu.mig_enabled}
    # An enabled GPU is never shared, which GFD expresses as 0 replicas.
    choices = [_gpu_labels(gpu, counts[name], sharing) for name, gpu in whole.items()] or [
        _gpu_labels(gpu, counts[name], None) for name, gpu in enabled.items()
    ]
    return choices[::-1]


def single_labels(gpus: Sequence[Gpu], sharing: Sharing) -> tuple[dict[str, str], str | None]:
    """What the strategy single puts over the labels of whole GPUs, and why it is invalid where it is.

    Unlike the device plugin, GFD compares names of profiles, not attributes.
    """
    labels = {PREFIX + "mig.strategy": "single"}
    enabled = [gpu for gpu in gpus if gpu.mig_enabled]
    if not enabled:
        return labels, None
    devices = mig_devices(enabled)
    reason = None
    if not all(gpu.devices for gpu in enabled):
        reason = "at least one MIG device is enabled but empty"
    elif len(enabled) != len(gpus):
        reason = "devices with MIG enabled and disable detected"
    elif len({device.profile for device in devices}) > 1:
        reason = "more than one MIG device type present on node"
    if reason is None:
        labels.update(_device_labels(GPU_RESOURCE, devices[0], len(devices), sharing))
    else:
        invalid = {"product": _product(enabled[0].name, "MIG", "INVALID"), "sharing-strategy": ""}
        invalid.update(dict.fromkeys(("count", "replicas", "memory"), "0"))
        labels.update(_keyed(GPU_RESOURCE, invalid))
    return labels, reason


def mixed_labels(gpus: Sequence[Gpu], sharing: Sharing) -> dict[str, str]:
    """What the strategy mixed adds: each profile with its count, and the attributes of the first device that has it."""
    labels = {PREFIX + "mig.strategy": "mixed"}
    by_name: dict[str, list[MigDevice]] = {}
    for device in mig_devices(gpus):
        by_name.setdefault(device.published_name, []).append(device)
    for name, devices in by_name.items():
        labels.update(_device_labels(f"{PREFIX}mig-{name}", devices[0], len(devices), sharing))
    return labels


def sanitise(text: Any) -> str:
    """A name as a label value: other characters are dropped, runs of blanks become one hyphen."""
    return "-".join(re.sub(r"[^A-Za-z0-9\-_. ]", "", str(text)).split())


def _gpu_labels(gpu: Gpu, count: int, sharing: Sharing | None) -> dict[str, str]:
    labels = _resource_labels(GPU_RESOURCE, (gpu.name,), count, sharing)
    # GFD leaves out a memory of 0 (NVML could not tell).
    if gpu.memory_mib != 0:
        labels["memory"] = _number(gpu.memory_mib)
    labels.update(_architecture(gpu.compute_capability))
    return _keyed(GPU_RESOURCE, labels)


def _device_labels(resource: str, device: MigDevice, count: int, sharing: Sharing) -> dict[str, str]:
    labels = _resource_labels(resource, (device.model, "MIG", device.published_name), count, sharing)
    labels.update({key: _number(value) for key, value in device.attributes.labels().items()})
    return _keyed(resource, labels)


def _resource_labels(resource: str, names: tuple[str, ...], count: int, sharing: Sharing | None) -> dict[str, str]:
    """product, count, replicas, sharing-strategy. ``sharing`` None: the resource cannot be shared (0 replicas)."""
    replicas = 0 if sharing is None else (sharing.of(resource) or [1])[0]
    shared = sharing is not None and replicas > 1
    marker = ("SHARED",) if sharing is not None and shared and not sharing.renamed else ()
    return {
        "product": _product(*names, *marker),
        "count": str(count),
        "replicas": str(replicas),
        "sharing-strategy": sharing.strategy if sharing is not None and shared else "none",
    }


def _architecture(capability: str | None) -> dict[str, str]:
    if capability is None:
        return dict.fromkeys(("family", "compute.major", "compute.minor"), UNKNOWN)
    major, minor = (int(part) for part in str(capability).split("."))
    if major == 0:
        return {}
    return {"family": _family(major, minor), "compute.major": str(major), "compute.minor": str(minor)}


def _family(major: int, minor: int) -> str:
    """The name of the generation: some majors hold two of them, and Blackwell has two majors."""
    if major == 7:
        return "volta" if minor < 5 else "turing"
    if major == 8:
        return "ampere" if minor < 9 else "ada-lovelace"
    if major in (10, 12):
        return "blackwell"
    return _FAMILIES.get(major, "undefined")


def _version(host: Mapping[str, Any], key: str) -> str:
    if not host.get(key):
        raise MigError(f"The labels need {key} of the host: give what gpufleet.mig.mig_info returns as host.")
    return str(host[key])


def _versions(driver: str, cuda: str) -> dict[str, str]:
    parts = driver.split(".")
    if not 2 <= len(parts) <= 3:
        raise DiscoveryFails(f'Version "{driver}" does not match format "X.Y[.Z]"')
    major, minor, revision = (*parts, "")[:3]
    cuda_major, _dot, cuda_minor = cuda.partition(".")
    runtime = {"major": cuda_major, "minor": cuda_minor or "0"}
    labels = {"cuda.driver.major": major, "cuda.driver.minor": minor, "cuda.driver.rev": revision}
    labels.update({"cuda.driver-version.major": major, "cuda.driver-version.minor": minor})
    labels.update({"cuda.driver-version.revision": revision, "cuda.driver-version.full": driver})
    labels.update({f"cuda.runtime.{key}": value for key, value in runtime.items()})
    labels.update({f"cuda.runtime-version.{key}": value for key, value in runtime.items()})
    labels["cuda.runtime-version.full"] = f"{runtime['major']}.{runtime['minor']}"
    return labels


def _product(*parts: str) -> str:
    return "-".join(sanitise(part) for part in parts if part)


def _keyed(resource: str, labels: Mapping[str, str]) -> dict[str, str]:
    return {f"{resource}.{key}": value for key, value in labels.items()}


def _number(value: int | None) -> str:
    return UNKNOWN if value is None else str(value)


def _flag(value: bool) -> str:
    return "true" if value else "false"


def distinct(choices: Iterable[dict[str, str]]) -> list[dict[str, str]]:
    """The choices without repetitions, in their order."""
    kept: list[dict[str, str]] = []
    for choice in choices:
        if choice not in kept:
            kept.append(choice)
    return kept
