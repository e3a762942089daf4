# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading the GPUs of a host through NVML into the public shape `gpus` and `host`. Nothing here changes anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor
from typing import Any

from ansible_collections.gpufleet.mig.plugins.module_utils import _gpu_host, _host
from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError
from ansible_collections.gpufleet.mig.plugins.module_utils._nvml import (
    FUNCTION_NOT_FOUND,
    GPU_IS_LOST,
    INVALID_ARGUMENT,
    NO_PERMISSION,
    NOT_FOR_THIS,
    NOT_FOUND,
    Nvml,
    NvmlError,
    text,
)
from ansible_collections.gpufleet.mig.plugins.module_utils._profiles import facts_profiles, product_key, product_of

Gpu = dict[str, Any]

RESETLESS_FIELD = 184
"""NVML_FI_DEV_IS_RESETLESS_MIG_SUPPORTED (nvml.h)."""

MODES = {0: "disabled", 1: "enabled"}

ARCHITECTURES = {
    2: "kepler",
    3: "maxwell",
    4: "pascal",
    5: "volta",
    6: "turing",
    7: "ampere",
    8: "ada",
    9: "hopper",
    10: "blackwell",
    13: "rubin",
}
"""NVML_DEVICE_ARCH_* (nvml.h)."""

HOPPER = 9
"""From this architecture on the MIG mode changes without a reset (NVIDIA's MIG guide)."""

ATTRIBUTES = {
    0x7: "+me",
    0x8: "+me",
    0xA: "+gfx",
    0xB: "+gfx",
    0xC: "+gfx",
    0xD: "-me",
    0xE: "-me",
    0xF: "+me.all",
    0x10: "+me.all",
    0x11: "+gfx",
}
"""What NVML_GPU_INSTANCE_PROFILE_* adds to a name, for drivers that give none. 9 is the 1g profile of double memory."""

NO_INSTANCE = 0xFFFFFFFF
"""The GPU instance id of a process that uses a whole GPU."""

PROCESS_LISTS = (
    "nvmlDeviceGetComputeRunningProcesses",
    "nvmlDeviceGetGraphicsRunningProcesses",
    "nvmlDeviceGetMPSComputeRunningProcesses",
)

ROOM = 64
"""Handles that a list of instances has room for: a board has at most 12 slices."""


@dataclass(frozen=True)
class Reading:
    """The GPUs and the host; `complete` is False where this user may not see GPU instances and their places."""

    gpus: list[Gpu]
    host: dict[str, Any]
    complete: bool


def read_host(nvml: Nvml, lost: list[str] | None = None) -> Reading:
    """All GPUs of this host in the order of their index, as the design's section 5 has them.

    A GPU that cannot be read is an error; given a list `lost`, it gets a sentence there and is left out.
    """
    gpus, complete = [], True
    for index in range(int(nvml.call("nvmlDeviceGetCount"))):
        try:
            gpu, whole = _read(nvml, index, nvml.call("nvmlDeviceGetHandleByIndex", index))
        except NvmlError as error:
            if lost is not None:
                lost.append(f"GPU {index} of this host cannot be read ({error}).")
                continue
            if error.code != GPU_IS_LOST:
                raise
            raise MigError(
                f"GPU {index} of this host is lost: it has fallen off the bus ({error}). "
                "Look for Xid messages in dmesg, and reboot the host.",
                gpu=index,
                **error.context,
            ) from None
        gpus.append(gpu)
        complete = complete and whole
    cuda = nvml.ask("nvmlSystemGetCudaDriverVersion_v2")
    host = {
        "driver_version": nvml.driver_version(),
        "cuda_version": None if cuda is None else f"{cuda // 1000}.{cuda % 1000 // 10}",
        "machine": _host.machine(),
        "systemd": _host.has_systemd(),
        "fabric_manager": _fabric_manager(),
        "gpu_mode": _host.gpu_mode(gpus[0]["pci_bus_id"]) if gpus else "unknown",
    }
    return Reading(gpus, host, complete)


def _fabric_manager() -> bool | None:
    """Whether the Fabric Manager runs; None on a host without NVSwitches, which needs none."""
    return _host.runs("nv-fabricmanager") if _gpu_host.boards()["nvswitches"] else None


def read_gpu(nvml: Nvml, uuid: str) -> Gpu:
    """One GPU by its UUID, with the index that it has now."""
    device = nvml.device(uuid)
    return _read(nvml, int(nvml.call("nvmlDeviceGetIndex", device)), device)[0]


def _read(nvml: Nvml, index: int, device: Any) -> tuple[Gpu, bool]:
    pci = nvml.call("nvmlDeviceGetPciInfo", device)
    architecture = nvml.ask("nvmlDeviceGetArchitecture", device)
    capability = nvml.ask("nvmlDeviceGetCudaComputeCapability", device)
    total = int(nvml.call("nvmlDeviceGetMemoryInfo", device).total)
    modes = nvml.ask("nvmlDeviceGetMigMode", device)
    gpu: Gpu = {
        "index": index,
        "uuid": text(nvml.call("nvmlDeviceGetUUID", device)),
        "pci_bus_id": text(pci.busId).upper(),
        "pci_device_id": f"0x{pci.pciDeviceId:08X}",
        "minor": nvml.ask("nvmlDeviceGetMinorNumber", device),
        "name": text(nvml.call("nvmlDeviceGetName", device)),
        "architecture": ARCHITECTURES.get(architecture, "unknown"),
        "compute_capability": None if capability is None else f"{capability[0]}.{capability[1]}",
        "memory_mib": total // 1024**2,
        "mig_mode": {"current": "unsupported", "pending": "unsupported"},
        "resetless_mode_change": False,
        "profiles": [],
        "instances": [],
        "processes": [],
    }
    processes = _processes(nvml, device)
    gpu["processes"] = [process for instance, _compute, process in processes if instance == NO_INSTANCE]
    if modes is None:
        return gpu, True
    gpu["mig_mode"] = {"current": MODES[modes[0]], "pending": MODES[modes[1]]}
    gpu["resetless_mode_change"] = _resetless(nvml, device, architecture)
    gpu["profiles"], complete = _profiles(nvml, device, gpu, total)
    if gpu["mig_mode"]["current"] == "enabled":
        try:
            gpu["instances"] = _instances(nvml, device, gpu, processes)
        except NvmlError as error:
            if error.code != NO_PERMISSION:
                raise
            gpu["instances"], complete = _visible(nvml, device, gpu), False
    return gpu, complete


def _resetless(nvml: Nvml, device: Any, architecture: int | None) -> bool:
    """Whether the mode changes without a reset; older drivers know no such field, but the architecture tells."""
    values = nvml.ask("nvmlDeviceGetFieldValues", device, [RESETLESS_FIELD])
    if values is not None and values[0].nvmlReturn == 0:
        return bool(values[0].value.uiVal)
    return architecture is not None and HOPPER <= architecture <= max(ARCHITECTURES)


def _profiles(nvml: Nvml, device: Any, gpu: Gpu, total: int) -> tuple[list[dict[str, Any]], bool]:
    """The GPU-instance profiles that NVML lists now (an Ampere GPU lists none while MIG is off), and whether all could
    be read. Places are privileged; where this user may not ask, the product facts have them."""
    product = product_of(gpu)
    known = {row["id"]: row for row in facts_profiles(product)} if product else {}
    rows, complete = [], True
    for number in range(nvml.lib.NVML_GPU_INSTANCE_PROFILE_COUNT):
        info = _profile_info(nvml, device, number)
        if info is None:
            continue
        fact = known.get(info.id, {})
        try:
            places = nvml.placements(device, info.id)
        except NvmlError as error:
            if error.code != NO_PERMISSION:
                raise
            places, complete = [(start, fact["size"]) for start in fact.get("starts", ())], False
        if not places:
            continue
        name = _name(info, number, total)
        row = {
            "name": name,
            "id": int(info.id),
            "size": places[0][1],
            "starts": sorted(start for start, _size in places),
            # NVML's own number is wrong on the A30 (nvidia-mig-parted counts by itself there)
            "count": fact["count"] if fact and product_key(gpu) == "a30" else int(info.instanceCount),
            "compute_slices": int(info.sliceCount),
            "memory_mib": int(info.memorySizeMB),
            "multiprocessors": int(info.multiprocessorCount),
            "copy_engines": int(info.copyEngineCount),
            "decoders": int(info.decoderCount),
            "encoders": int(info.encoderCount),
            "jpeg_engines": int(info.jpegCount),
            "ofa_engines": int(info.ofaCount),
            "media_extensions": "+me" in name,
            "gfx": "+gfx" in name,
        }
        row["compute_profiles"] = _compute_profiles(row, fact)
        rows.append(row)
    return rows, complete


def _profile_info(nvml: Nvml, device: Any, number: int) -> Any:
    """NVML's description of one profile number, None where the board has no such profile."""
    try:
        return nvml.call("nvmlDeviceGetGpuInstanceProfileInfo", device, number, 2)
    except NvmlError as error:
        if error.code == FUNCTION_NOT_FOUND:  # a driver before R510: no names
            return nvml.ask("nvmlDeviceGetGpuInstanceProfileInfo", device, number, 1)
        if error.code in NOT_FOR_THIS:
            return None
        raise


def _name(info: Any, number: int, total: int) -> str:
    """The canonical name, without the "MIG " of nvidia-smi; worked out as the driver does where it gives none.

    The driver's rule (nvidia-mig-parted): eighths of the memory, rounded up, of the board's GiB, rounded half up.
    """
    given = text(getattr(info, "name", "") or "").strip()
    if given:
        return given[4:] if given.startswith("MIG ") else given
    eighths = ceil(info.memorySizeMB * 1024**2 / total * 8)
    gigabytes = floor(eighths / 8 * ceil(total / 1024**3) + 0.5)
    return f"{info.sliceCount}g.{gigabytes}gb{ATTRIBUTES.get(number, '')}"


def _compute_profiles(row: dict[str, Any], fact: dict[str, Any]) -> list[dict[str, Any]]:
    """The compute-instance profiles inside one GPU-instance profile.

    NVML tells them of a GPU instance only, and there may be none yet: the facts give them, and on an unknown board the
    one that fills the instance is sure. Ids are asked of the instance again when something is created in it.
    """
    if fact and fact["compute_slices"] == row["compute_slices"]:
        inside = fact["compute_profiles"]
        bare = fact["name"]
        return [{**ci, "name": ci["name"].replace(bare, row["name"])} for ci in inside]
    return [
        {
            "name": row["name"],
            "id": None,
            "slices": row["compute_slices"],
            "count": 1,
            "multiprocessors": row["multiprocessors"],
        }
    ]


def compute_profile_infos(nvml: Nvml, instance: Any) -> dict[int, Any]:
    """NVML's compute-instance profiles of a GPU instance by their id."""
    found: dict[int, Any] = {}
    for number in range(nvml.lib.NVML_COMPUTE_INSTANCE_PROFILE_COUNT):
        engines = nvml.lib.NVML_COMPUTE_INSTANCE_ENGINE_PROFILE_SHARED
        info = nvml.ask("nvmlGpuInstanceGetComputeInstanceProfileInfo", instance, number, engines, 1)
        if info is not None:
            found.setdefault(int(info.id), info)
    return found


def gpu_instances(nvml: Nvml, device: Any, profile: int) -> list[tuple[Any, Any]]:
    """(handle, info) of every GPU instance of one profile id. Privileged."""
    handles = nvml.handles("nvmlDeviceGetGpuInstances", device, profile, ROOM)
    return [(handle, nvml.call("nvmlGpuInstanceGetInfo", handle)) for handle in handles]


def compute_instances(nvml: Nvml, instance: Any, profiles: Sequence[int]) -> list[tuple[Any, Any]]:
    """(handle, info) of every compute instance in a GPU instance, by its id; two profile ids may list the same one."""
    found: dict[int, tuple[Any, Any]] = {}
    for profile in profiles:
        for handle in nvml.handles("nvmlGpuInstanceGetComputeInstances", instance, profile, ROOM):
            info = nvml.call("nvmlComputeInstanceGetInfo", handle)
            found.setdefault(int(info.id), (handle, info))
    return [found[number] for number in sorted(found)]


def _instances(nvml: Nvml, device: Any, gpu: Gpu, processes: list[tuple[int, int, dict[str, Any]]]) -> list[Gpu]:
    instances = []
    for row in gpu["profiles"]:
        inside: dict[int, Any] | None = None
        for handle, info in gpu_instances(nvml, device, row["id"]):
            if inside is None:
                inside = compute_profile_infos(nvml, handle)
            mine = [(compute, process) for instance, compute, process in processes if instance == info.id]
            members = [
                _compute(nvml, ci, inside, row, [process for compute, process in mine if compute == ci.id])
                for _handle, ci in compute_instances(nvml, handle, list(inside))
            ]
            instances.append(
                {
                    "profile": row["name"],
                    "start": int(info.placement.start),
                    "size": int(info.placement.size),
                    "gi_id": int(info.id),
                    "busy": bool(mine) or any(ci["processes"] for ci in members),
                    "compute_instances": sorted(members, key=lambda ci: int(ci["start"])),
                }
            )
    return sorted(instances, key=lambda instance: int(instance["start"]))


def _compute(nvml: Nvml, info: Any, inside: dict[int, Any], row: dict[str, Any], known: list[dict[str, Any]]) -> Gpu:
    """One compute instance. NVML's `device` in its info is its MIG device: UUID and processes come from there.

    Its size is that of its profile: NVML's place is wider on some boards (listings of H100 give the one in a 3g 0:4).
    """
    profile = inside[int(info.profileId)]
    slices = int(profile.sliceCount)
    processes = {process["pid"]: process for process in known}
    for _instance, _compute_instance, process in _processes(nvml, info.device):
        processes.setdefault(process["pid"], process)
    return {
        "profile": row["name"] if slices == row["compute_slices"] else f"{slices}c.{row['name']}",
        "ci_id": int(info.id),
        "uuid": text(nvml.call("nvmlDeviceGetUUID", info.device)),
        "start": int(info.placement.start),
        "size": slices,
        "multiprocessors": int(profile.multiprocessorCount),
        "processes": [processes[pid] for pid in sorted(processes)],
    }


def _processes(nvml: Nvml, device: Any) -> list[tuple[int, int, dict[str, Any]]]:
    """(GPU instance id, compute instance id, {pid, name}) of every process that uses a GPU or MIG device."""
    found: dict[tuple[int, int, int], tuple[int, int, dict[str, Any]]] = {}
    for name in PROCESS_LISTS:
        try:
            listed = nvml.ask(name, device)
        except NvmlError as error:
            if error.code != NO_PERMISSION:
                raise
            listed = None
        for entry in listed or ():
            place = int(entry.gpuInstanceId), int(entry.computeInstanceId)
            found[(*place, int(entry.pid))] = (*place, {"pid": int(entry.pid), "name": _process(nvml, int(entry.pid))})
    return [found[key] for key in sorted(found)]


def _process(nvml: Nvml, pid: int) -> str | None:
    """The name of a process, without path and arguments; None where neither NVML nor this PID namespace knows it."""
    try:
        given = text(nvml.ask("nvmlSystemGetProcessName", pid) or "").split(" ")[0]
    except NvmlError as error:
        if error.code != NO_PERMISSION:
            raise
        given = ""
    return given.rsplit("/", 1)[-1] or _host.process_name(pid)


def _visible(nvml: Nvml, device: Any, gpu: Gpu) -> list[Gpu]:
    """The instances that a user without privilege can see: those with a compute instance, and not where they stand."""
    instances: dict[int, Gpu] = {}
    for number in range(int(nvml.ask("nvmlDeviceGetMaxMigDeviceCount", device) or 0)):
        try:
            mig = nvml.call("nvmlDeviceGetMigDeviceHandleByIndex", device, number)
        except NvmlError as error:
            if error.code in (NOT_FOUND, INVALID_ARGUMENT):  # a hole in the numbering
                continue
            raise
        name = text(nvml.call("nvmlDeviceGetName", mig)).rsplit("MIG ", 1)[-1]
        profile = name.split("c.", 1)[-1]
        attributes = nvml.call("nvmlDeviceGetAttributes", mig)
        processes = [process for _instance, _compute_instance, process in _processes(nvml, mig)]
        gi_id = int(nvml.call("nvmlDeviceGetGpuInstanceId", mig))
        size = next((row["size"] for row in gpu["profiles"] if row["name"] == profile), None)
        instance = instances.setdefault(
            gi_id,
            {"profile": profile, "start": None, "size": size, "gi_id": gi_id, "busy": False, "compute_instances": []},
        )
        instance["busy"] = instance["busy"] or bool(processes)
        instance["compute_instances"].append(
            {
                "profile": name,
                "ci_id": int(nvml.call("nvmlDeviceGetComputeInstanceId", mig)),
                "uuid": text(nvml.call("nvmlDeviceGetUUID", mig)),
                "start": None,
                "size": int(attributes.computeInstanceSliceCount),
                "multiprocessors": int(attributes.multiprocessorCount),
                "processes": processes,
            }
        )
    return [instances[number] for number in sorted(instances)]
