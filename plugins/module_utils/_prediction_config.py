# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""The configuration entry that the device plugin and GPU feature discovery share, as far as it changes what they
publish. Pure. Errors are worded as the end of the programs' own last log line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError

_PREFIX = "nvidia.com/"
_LONGEST_NAME = 63
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_DEVICE_LIST = ("envvar", "volume-mounts", "cdi-annotations", "cdi-cri")
_DISCOVERY = ("auto", "nvml", "tegra")
_UUID = r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_DEVICE_REF = re.compile(rf"\d+|\d+:\d+|GPU-{_UUID}|MIG-{_UUID}|MIG-GPU-{_UUID}/\d+/\d+")


class ConfigRejected(Exception):
    """Both programs refuse the entry and exit; the text is theirs."""


@dataclass(frozen=True)
class Sharing:
    """``strategy``: none, time-slicing or mps. ``replicas``: (resource, number) in the order of the entry.

    ``renamed``: shared resources bear ``.shared``. Other renames and selections of single devices stand in the
    format, but both programs ignore them.
    """

    strategy: str = "none"
    replicas: tuple[tuple[str, int], ...] = ()
    renamed: bool = False

    def of(self, resource: str) -> list[int]:
        """The numbers of replicas that the entry names for a resource: usually one, or none."""
        return [number for name, number in self.replicas if name == resource]


@dataclass(frozen=True)
class Settings:
    """What of the entry matters. ``plugin_refuses``: the plugin alone exits over it, with this text."""

    sharing: Sharing
    cdi: bool
    plugin_refuses: str | None = None


def read_config(config: Any) -> Settings:
    """Read a config entry: the mapping under ``config.map`` of the chart's values (version, flags, sharing).

    ``deviceListStrategy`` is also read at the top, where the chart has it; the chart's value wins over the entry's.
    ``flags.migStrategy`` is not read: the strategy in force may come from elsewhere and is an argument of its own.
    """
    if config is None:
        config = {}
    if not isinstance(config, Mapping):
        raise MigError(
            "The device plugin's config is a mapping such as {deviceListStrategy: cdi-cri, sharing: {...}}, "
            f"not {config!r}; an entry of the chart's config.map is text: pass it through from_yaml."
        )
    if config.get("version") not in (None, "", "v1"):
        raise ConfigRejected(f"unknown version: {config['version']}")
    flags = _mapping(config, "flags")
    sharing = _read_sharing(_mapping(config, "sharing"))
    discovery = flags.get("deviceDiscoveryStrategy") or "auto"
    plugin = _mapping(flags, "plugin")
    lists = _device_list_strategies(config, plugin)
    refused = [name for name in lists if name not in _DEVICE_LIST]
    refusal = None
    if refused:
        refusal = f"invalid --device-list-strategy option: invalid strategy: {refused[0]}"
    elif plugin.get("deviceIDStrategy", "uuid") not in ("uuid", "index"):
        refusal = f"invalid --device-id-strategy option: {plugin['deviceIDStrategy']}"
    elif plugin.get("sharedDevicesAllocationPolicy") not in (None, "distributed", "packed"):
        refusal = f"invalid --shared-devices-allocation-policy option: {plugin['sharedDevicesAllocationPolicy']}"
    elif discovery not in _DISCOVERY:
        refusal = f"invalid --device-discovery-strategy option {discovery}"
    return Settings(sharing, any(name.startswith("cdi-") for name in lists), refusal)


def _mapping(parent: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = parent.get(key)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ConfigRejected(f"cannot unmarshal {key}: {value!r} is not a mapping")
    return value


def _device_list_strategies(config: Mapping[str, Any], plugin: Mapping[str, Any]) -> list[str]:
    value = config.get("deviceListStrategy")
    if isinstance(value, str):
        return value.split(",")
    if value is None:
        value = plugin.get("deviceListStrategy", "envvar")
    return [value] if isinstance(value, str) else [str(name) for name in value]


def _read_sharing(sharing: Mapping[str, Any]) -> Sharing:
    read = {}
    for key, strategy in (("timeSlicing", "time-slicing"), ("mps", "mps")):
        # An empty mps counts as absent; an empty timeSlicing is read, and lacks resources.
        if key in sharing and not (key == "mps" and sharing[key] is None):
            entry = _mapping(sharing, key)
            read[strategy] = Sharing(strategy, _replicas(entry.get("resources")), bool(entry.get("renameByDefault")))
    return read.get("mps") or read.get("time-slicing") or Sharing()


def _replicas(resources: Any) -> tuple[tuple[str, int], ...]:
    if not resources or not isinstance(resources, (list, tuple)):
        raise ConfigRejected("no resources specified")
    return tuple(_replicated(resource) for resource in resources)


def _replicated(resource: Mapping[str, Any]) -> tuple[str, int]:
    if "name" not in resource:
        raise ConfigRejected("no resource name specified")
    name = _resource_name(resource["name"])
    _check_devices(resource.get("devices", "all"))
    if "replicas" not in resource:
        raise ConfigRejected("no replicas specified")
    replicas = resource["replicas"]
    if not isinstance(replicas, int) or isinstance(replicas, bool):
        raise ConfigRejected(f"cannot unmarshal replicas: {replicas!r} is not a whole number")
    if replicas < 2:
        raise ConfigRejected("number of replicas must be >= 2")
    if resource.get("rename"):
        _resource_name(resource["rename"])
    return name, replicas


def _resource_name(name: Any) -> str:
    full = str(name) if str(name).startswith(_PREFIX) else f"{_PREFIX}{name}"
    if len(full) > _LONGEST_NAME:
        raise ConfigRejected(f"fully-qualified resource name must be {_LONGEST_NAME} characters or less: {full}")
    if not _SUBDOMAIN.fullmatch(full[len(_PREFIX) :]):
        raise ConfigRejected(f"incorrect format for resource name '{full}'")
    return full


def _check_devices(devices: Any) -> None:
    """The selection itself is ignored later, but a wrong one is refused."""
    if isinstance(devices, str):
        if devices != "all":
            raise ConfigRejected(f"devices set as '{devices}' but the only valid string input is 'all'")
    elif isinstance(devices, int):
        if devices <= 0:
            raise ConfigRejected(f"devices set as '{devices}' but a count of devices must be > 0")
    elif isinstance(devices, (list, tuple)):
        for device in devices:
            if not _DEVICE_REF.fullmatch(str(device)):
                raise ConfigRejected(f"unsupported type for device in devices list: {device}, string")
    else:
        raise ConfigRejected(f"unrecognized type for devices spec: {devices}")
