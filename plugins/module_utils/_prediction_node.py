# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""One host's GPUs as the device plugin and GPU feature discovery (GFD) see them. Pure; the base of the predictions.

Both programs walk the GPUs by NVML index and, inside an enabled GPU, its MIG devices: one for each compute instance.
A GPU instance without a compute instance is not seen at all. Neither uses the profile names of NVML: they compute the
name of a MIG device from its slices and from its share of the GPU's memory.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from fractions import Fraction
from functools import lru_cache
from typing import Any

from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError

STRATEGIES = ("none", "single", "mixed")

# Value of a label whose number neither NVML nor the product facts can tell (a board that nobody has measured).
UNKNOWN = "unknown"

# GPUs that drive a DGX Station's screen; both programs pass over them by name.
_DISPLAY_GPUS = ("DGX Display", "NVIDIA DGX Display")
_PROFILE = re.compile(r"(?:(?P<c>\d+)c\.)?(?P<g>\d+)g\.(?P<gb>\d+)gb(?P<suffix>[+-].+)?")
_MIB_PER_GIB = 1024


@dataclass(frozen=True)
class Attributes:
    """What NVML tells of a MIG device, named as the labels end; None where the facts have no number. Memory in MiB.

    Memory, GPU-instance slices and engines are those of the whole GPU instance, also for a part of it.
    """

    memory: int | None
    multiprocessors: int | None
    slices_gi: int | None
    slices_ci: int | None
    engines_copy: int | None
    engines_decoder: int | None
    engines_encoder: int | None
    engines_jpeg: int | None
    engines_ofa: int | None

    def labels(self) -> dict[str, int | None]:
        """Ends of label keys to numbers: {"memory": 4864, "slices.gi": 1, "engines.copy": 1, ...}."""
        return {key: getattr(self, name) for name, key in _ATTRIBUTE_KEYS}


_ATTRIBUTE_KEYS = tuple((field.name, field.name.replace("_", ".")) for field in fields(Attributes))


@dataclass(frozen=True)
class MigDevice:
    """A compute instance, as both programs call it: ``1g.5gb``, ``1g.24gb+me.all``, ``1c.3g.20gb``."""

    profile: str
    partial: bool
    model: str
    attributes: Attributes

    @property
    def published_name(self) -> str:
        """The profile as it stands in resource names and labels, where a plus sign is not allowed."""
        return self.profile.replace("+", ".")


@dataclass(frozen=True)
class Gpu:
    """A GPU. ``devices`` is empty where MIG is not enabled."""

    index: int
    name: str
    memory_mib: int | None
    compute_capability: str | None
    mig_capable: bool
    mig_enabled: bool
    devices: tuple[MigDevice, ...]


def check_strategy(strategy: str) -> None:
    """MigError for a strategy that does not exist: Helm's template and lint let it pass, the plugin then exits."""
    if strategy not in STRATEGIES:
        raise MigError(f"There is no MIG strategy {strategy!r}: mig_strategy is none, single or mixed.")


def read_gpus(gpus: Any) -> list[Gpu]:
    """The GPUs of a host (``gpus`` of mig_info, or ``after`` of a plan) in NVML's order, without display GPUs.

    GPUs that this function has read already come back as they are.
    """
    if isinstance(gpus, list) and gpus and all(isinstance(gpu, Gpu) for gpu in gpus):
        return gpus
    if not isinstance(gpus, Iterable) or isinstance(gpus, (str, Mapping)):
        raise MigError("The prediction works on the list of GPUs that gpufleet.mig.mig_info returns as gpus.")
    seen = []
    for gpu in gpus:
        if not isinstance(gpu, Mapping) or not {"index", "name", "mig_mode"} <= set(gpu):
            raise MigError(
                "The prediction works on the list of GPUs that gpufleet.mig.mig_info returns as gpus: "
                "each with index, name, mig_mode, profiles and instances."
            )
        seen.append(gpu)
    return [
        _read_gpu(gpu) for gpu in sorted(seen, key=lambda gpu: int(gpu["index"])) if gpu["name"] not in _DISPLAY_GPUS
    ]


def mig_devices(gpus: Iterable[Gpu]) -> list[MigDevice]:
    """All MIG devices of the host in the order of the walk."""
    return [device for gpu in gpus for device in gpu.devices]


def _read_gpu(gpu: Mapping[str, Any]) -> Gpu:
    mode = gpu["mig_mode"]["current"]
    enabled = mode == "enabled"
    devices = []
    if enabled:
        profiles = {profile["name"]: profile for profile in gpu.get("profiles") or []}
        for instance in gpu.get("instances") or []:
            if instance["compute_instances"] and instance["profile"] not in profiles:
                raise MigError(
                    f"GPU {gpu['index']} has an instance {instance['profile']}, but no such profile in its list of "
                    "profiles: give the list of GPUs as gpufleet.mig.mig_info returns it."
                )
            for part in instance["compute_instances"]:
                devices.append(_read_device(gpu, profiles[instance["profile"]], part))
    return Gpu(
        index=int(gpu["index"]),
        name=str(gpu["name"]),
        memory_mib=gpu.get("memory_mib"),
        compute_capability=gpu.get("compute_capability"),
        mig_capable=mode != "unsupported",
        mig_enabled=enabled,
        devices=tuple(devices),
    )


@lru_cache(maxsize=1024)
def _split(name: str) -> dict[str, str] | None:
    """The parts of a profile's name: c, g, gb, suffix ("" where it has none); None where it is no such name."""
    found = _PROFILE.fullmatch(name)
    return found.groupdict("") if found else None


def _read_device(gpu: Mapping[str, Any], profile: Mapping[str, Any], part: Mapping[str, Any]) -> MigDevice:
    whole_name, part_name = str(profile["name"]), str(part["profile"])
    whole, piece = _split(whole_name), _split(part_name)
    if whole is None or piece is None:
        raise MigError(
            f"GPU {gpu['index']} has an instance {whole_name} with a compute instance {part_name}: one of these is "
            "not the name of a MIG profile."
        )
    slices = int(piece["c"] or piece["g"])
    partial = slices != int(whole["g"])
    gigabytes = _gigabytes(gpu.get("memory_mib"), profile.get("memory_mib"), int(whole["gb"]))
    name = f"{whole['g']}g.{gigabytes}gb{whole['suffix']}"
    return MigDevice(
        profile=f"{slices}c.{name}" if partial else name,
        partial=partial,
        model=str(gpu["name"]),
        attributes=Attributes(
            memory=profile.get("memory_mib"),
            multiprocessors=_multiprocessors(profile, part, partial),
            slices_gi=profile.get("compute_slices"),
            slices_ci=slices,
            engines_copy=profile.get("copy_engines"),
            engines_decoder=profile.get("decoders"),
            engines_encoder=profile.get("encoders"),
            engines_jpeg=profile.get("jpeg_engines"),
            engines_ofa=profile.get("ofa_engines"),
        ),
    )


def _multiprocessors(profile: Mapping[str, Any], part: Mapping[str, Any], partial: bool) -> int | None:
    """Of the compute instance itself; where it does not exist yet, of its profile."""
    known: int | None = part.get("multiprocessors")
    if known is None:
        for candidate in profile.get("compute_profiles") or []:
            if candidate["name"] == part["profile"]:
                known = candidate.get("multiprocessors")
    if known is None and not partial:
        known = profile.get("multiprocessors")
    return known


@lru_cache(maxsize=1024)
def _gigabytes(gpu_mib: int | None, instance_mib: int | None, named: int) -> int:
    """The GB in a profile's name: the share of the GPU's memory, rounded up to eighths, of its GiB rounded up.

    That is how the publishers name what NVML may call otherwise (3g.39gb and 3g.40gb of one board). ``named``, the
    number in NVML's name, stands in where the facts have no memory size.
    """
    if not gpu_mib or not instance_mib:
        return named
    eighths = -(-8 * instance_mib // gpu_mib)
    gibibytes = -(-gpu_mib // _MIB_PER_GIB)
    return int(Fraction(eighths * gibibytes, 8) + Fraction(1, 2))
