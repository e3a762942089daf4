# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""What NVIDIA's device plugin and GPU feature discovery (GFD) publish for a host, before or without asking them. Pure.

The rules are those of k8s-device-plugin 0.20.0, checked against what the two programs answered for the hosts of
facts/captured_publishers.json. Nothing here may be shared with the stand-ins of the lab, which are compared with it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.gpufleet.mig.plugins.module_utils._prediction_config import (
    ConfigRejected,
    Settings,
    read_config,
)
from ansible_collections.gpufleet.mig.plugins.module_utils._prediction_labels import (
    GPU_RESOURCE,
    PREFIX,
    DiscoveryFails,
    distinct,
    host_labels,
    mixed_labels,
    single_labels,
    whole_gpu_labels,
)
from ansible_collections.gpufleet.mig.plugins.module_utils._prediction_node import (
    STRATEGIES,
    Gpu,
    check_strategy,
    mig_devices,
    read_gpus,
)

__all__ = ["STRATEGIES", "expected_labels", "expected_resources", "gfd_labels"]

# Keys that GFD sets and this module predicts. Not gfd.timestamp (always another), and neither gpu.clique nor
# vgpu.host-driver-*: they tell of the NVLink fabric and of a hypervisor, which no host fact shows.
_RESOURCE_KEYS = r"(product|count|replicas|sharing-strategy|memory|multiprocessors|slices\.(gi|ci)|engines\.[a-z]+)"
_GFD_KEY = re.compile(
    r"nvidia\.com/("
    r"cuda\.(driver|runtime)\.(major|minor|rev)"
    r"|cuda\.(driver|runtime)-version\.(major|minor|revision|full)"
    r"|gpu\.(machine|mode|family|compute\.(major|minor))"
    rf"|(gpu|mig-[^/]+?)\.{_RESOURCE_KEYS}"
    r"|mig\.(capable|strategy)|mps\.capable|vgpu\.present)"
)
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")


def gfd_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """Those of a node's labels (or of predicted ones) that GFD sets and that can be compared exactly.

    Left out are the labels of others (``nvidia.com/device-plugin.config``, ``gpu.present``, ``gpu.deploy.*``,
    ``mig.config*`` ...) and values that no label may have, such as a product name of over 63 characters:
    node-feature-discovery drops these, so they never reach the node.
    """
    return {
        key: value for key, value in labels.items() if _GFD_KEY.fullmatch(key) and _LABEL_VALUE.fullmatch(str(value))
    }


def expected_resources(gpus: Any, strategy: str, config: Any = None) -> dict[str, Any]:
    """The extended resources that the device plugin registers: ``{"resources": {"nvidia.com/gpu": 7},
    "resource_alternatives": [], "error": None}``.

    ``gpus`` as mig_info returns them or as they stand in ``after`` of a plan, ``strategy`` none, single or mixed,
    ``config`` as for ``read_config``. ``resource_alternatives`` are other sets that are right too, see ``_given``.
    ``error`` is the end of the plugin's last log line where it exits; nothing is registered then. MigError for a
    strategy that does not exist and for input of another shape.
    """
    check_strategy(strategy)
    node = read_gpus(gpus)
    try:
        settings = read_config(config)
    except ConfigRejected as rejected:
        return {"resources": {}, "resource_alternatives": [], "error": str(rejected)}
    error = _refusal(settings, strategy) or _plugin_error(node, strategy, settings)
    if error:
        return {"resources": {}, "resource_alternatives": [], "error": error}
    resources, given = (_registered(gpus_seen, strategy, settings) for gpus_seen in (node, _given(node)))
    return {"resources": resources, "resource_alternatives": [given] if given != resources else [], "error": None}


def expected_labels(gpus: Any, strategy: str, host: Mapping[str, Any], config: Any = None) -> dict[str, Any]:
    """The labels that GFD sets: ``{"labels": {...}, "alternatives": [{...}], "error": None}``.

    ``host`` holds driver_version, cuda_version, machine and gpu_mode. ``alternatives`` are whole other sets that GFD
    may give for the same state (several GPU models on a node). ``error`` says why GFD publishes MIG-INVALID, with
    these labels, or why it exits, without labels. A number that is not known is the value ``unknown``.
    """
    check_strategy(strategy)
    node = read_gpus(gpus)
    try:
        settings = read_config(config)
        common = host_labels(node, host, settings)
    except (ConfigRejected, DiscoveryFails) as error:
        return {"labels": {}, "alternatives": [], "error": str(error)}
    if not node:
        return {"labels": common, "alternatives": [], "error": None}
    over: dict[str, str] = {}
    reason = None
    if strategy == "single":
        over, reason = single_labels(node, settings.sharing)
    elif strategy == "mixed":
        over = mixed_labels(node, settings.sharing)
    first, *others = distinct({**common, **base, **over} for base in whole_gpu_labels(node, settings.sharing))
    error_text = f"gpu-feature-discovery publishes MIG-INVALID: {reason}" if reason else None
    return {"labels": first, "alternatives": others, "error": error_text}


def _registered(node: Sequence[Gpu], strategy: str, settings: Settings) -> dict[str, int]:
    counts: dict[str, int] = {}
    for resource in _announced(node, strategy):
        counts[resource] = counts.get(resource, 0) + 1
    return _shared(counts, settings)


def _given(node: Sequence[Gpu]) -> list[Gpu]:
    """The GPUs of which there is anything to give to a container now.

    The container toolkit reads "all", which the plugin's image asks for, as GPUs without MIG and MIG devices. A GPU
    with MIG and without a device is therefore not seen by a plugin whose container is made now, while one whose
    container is older goes on to count it. Only the strategy none counts such a GPU at all.
    """
    return [gpu for gpu in node if gpu.devices or not gpu.mig_enabled]


def _refusal(settings: Settings, strategy: str) -> str | None:
    """The plugin looks at its flags before it looks at a GPU."""
    if settings.plugin_refuses is None and settings.sharing.strategy == "mps" and strategy == "mixed":
        return "using --mig-strategy=mixed is not supported with MPS"
    return settings.plugin_refuses


def _plugin_error(node: Sequence[Gpu], strategy: str, settings: Settings) -> str | None:
    """Why the plugin exits on these GPUs, in the order of its own checks."""
    error = None
    if strategy == "single":
        error = _single_error(node)
    elif strategy == "mixed":
        # It knows one resource for each profile of a whole GPU instance, none for parts of one.
        parts = [device.profile for device in mig_devices(node) if device.partial]
        error = f"MIG profile '{parts[0]}' does not match any resource patterns" if parts else None
    if error:
        return error
    enabled = any(gpu.mig_enabled for gpu in node)
    if settings.sharing.strategy == "mps" and enabled:
        if strategy == "single":
            return "sharing using MPS is not supported for MIG devices"
        # GFD exits on such a node, so the label mps.capable that the MPS daemon's pod needs is missing.
        return "error checking MPS daemon health"
    # A CDI specification holds whole GPUs with MIG off and MIG devices, whatever the strategy announces.
    if settings.cdi and not mig_devices(node) and all(gpu.mig_enabled for gpu in node):
        return "invalid CDI Spec: invalid spec, no devices"
    return None


def _single_error(node: Sequence[Gpu]) -> str | None:
    """Unlike GFD, the plugin compares all attributes of the devices, not the names of their profiles."""
    for gpu in node:
        if gpu.mig_enabled and not gpu.devices:
            return f"device {gpu.index} has no MIG devices configured"
    if len({device.attributes for device in mig_devices(node)}) > 1:
        return "more than one MIG device type present on node"
    if len({gpu.mig_enabled for gpu in node}) > 1:
        return "all devices on the node must be configured with the same migEnabled value"
    return None


def _announced(node: Sequence[Gpu], strategy: str) -> list[str]:
    """The resource of each device that the plugin announces, before sharing."""
    names = []
    for gpu in node:
        if strategy == "none" or not gpu.mig_enabled:
            names.append(GPU_RESOURCE)
        elif strategy == "single":
            names.extend([GPU_RESOURCE] * len(gpu.devices))
        else:
            names.extend(f"{PREFIX}mig-{device.published_name}" for device in gpu.devices)
    return names


def _shared(counts: Mapping[str, int], settings: Settings) -> dict[str, int]:
    """Replicas of a device are numbered from 0, so where an entry names a resource twice the larger number counts."""
    resources = {}
    for resource, count in sorted(counts.items()):
        replicas = settings.sharing.of(resource)
        name = f"{resource}.shared" if replicas and settings.sharing.renamed else resource
        resources[name] = count * max(replicas, default=1)
    return resources
