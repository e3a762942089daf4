# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""GPU instances, and who may do what with them: nvml.h, NVIDIA's MIG User Guide, listings of real boards.

Profile ids of boards with seven compute slices: 19 is 1g, 20 1g+me, 15 1g of double memory, 14 2g, 9 3g, 5 4g, 0 7g.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any

import pynvml
import pytest
from integration.simulator.conftest import MakeHost
from integration.simulator.nvml_host import (
    A30,
    A100,
    H100,
    PRODUCTS,
    RTX,
    Instance,
    NvmlHost,
    become_nobody,
    enabled,
    gpu,
    refused,
)


def test_an_instance_stands_where_it_was_asked_for(a100: NvmlHost) -> None:
    def create() -> Any:
        made = gpu().create(9, 4)
        info = made.info
        again = Instance(pynvml.nvmlDeviceGetGpuInstanceById(gpu().handle, info.id))
        return made.place, again.place, gpu().layout(), pynvml.nvmlDeviceGetUUID(info.device)[:4]

    assert a100.ask(create) == ((9, 4, 4), (9, 4, 4), [(9, 4, 4)], "GPU-")
    assert a100.ask(lambda: gpu().layout()) == [(9, 4, 4)], "another process sees it"


def test_an_occupied_place_is_insufficient_resources(a100: NvmlHost) -> None:
    """Not ALREADY_EXISTS (NVIDIA's DRA driver, nvlib.go)."""

    def overlap() -> Any:
        gpu().create(14, 0)
        for profile, start in ((14, 0), (19, 0), (19, 1), (9, 0), (5, 0), (0, 0), (15, 0)):
            with refused(pynvml.NVML_ERROR_INSUFFICIENT_RESOURCES):
                gpu().create(profile, start)
        return gpu().layout()

    assert a100.ask(overlap) == [(14, 0, 2)]


def test_what_is_no_profile_or_no_place_is_an_invalid_argument(a100: NvmlHost) -> None:
    def wrong() -> Any:
        with refused(pynvml.NVML_ERROR_INVALID_ARGUMENT):
            pynvml.nvmlDeviceCreateGpuInstance(gpu().handle, 77)
        for profile, start, size in ((14, 1, 2), (14, 6, 2), (9, 2, 4), (5, 4, 4), (19, 7, 1), (14, 0, 3)):
            with refused(pynvml.NVML_ERROR_INVALID_ARGUMENT):
                gpu().create(profile, start, size)
        return gpu().layout()

    assert a100.ask(wrong) == []


def test_without_a_place_the_order_of_creation_decides(make_host: MakeHost) -> None:
    """19,19,14,9 fails with Insufficient Resources where 9,19,14,19 works (NVIDIA's MIG User Guide)."""
    host = make_host(enabled(A100), enabled(A100))

    def in_order() -> int:
        for profile in (19, 19, 14):
            gpu(0).create(profile)
        with refused(pynvml.NVML_ERROR_INSUFFICIENT_RESOURCES):
            gpu(0).create(9)
        for profile in (9, 19, 14, 19):
            gpu(1).create(profile)
        return len(gpu(1).layout())

    assert host.ask(in_order) == 4


@pytest.mark.parametrize(
    ("product", "profiles", "starts"),
    [
        (H100, [19] * 7, [6, 4, 5, 0, 1, 2, 3]),  # an H100 PCIe: seven 1g by nvidia-smi mig -cgi, then -lgi
        (A100, [9, 19, 14, 19], [4, 0, 2, 1]),  # an A100-PCIE-40GB of driver 510
        (H100, [9, 14], [4, 0]),
        (A100, [9, 5], [4, 0]),
    ],
)
def test_the_driver_chooses_the_places_of_published_listings(
    make_host: MakeHost, product: str, profiles: list[int], starts: list[int]
) -> None:
    host = make_host(enabled(product))
    assert host.ask(lambda: [gpu().create(profile).place[1] for profile in profiles]) == starts


def test_remaining_capacity_is_what_the_guide_shows(a100: NvmlHost) -> None:
    """The example of A100-40GB: free counts by profile id after each step."""

    def steps() -> list[dict[int, int]]:
        device = gpu()
        seen = [device.rooms()]
        for profile, start in ((5, 0), (14, 4), (19, 6)):
            device.create(profile, start)
            seen.append(device.rooms())
        return seen

    assert a100.ask(steps) == [
        {19: 7, 20: 1, 15: 4, 14: 3, 9: 2, 5: 1, 0: 1},
        {19: 3, 20: 1, 15: 2, 14: 1, 9: 1, 5: 0, 0: 0},
        {19: 1, 20: 1, 15: 1, 14: 0, 9: 0, 5: 0, 0: 0},
        {19: 0, 20: 0, 15: 0, 14: 0, 9: 0, 5: 0, 0: 0},
    ]


def test_media_extensions_exist_once_on_a_gpu(a100: NvmlHost) -> None:
    def twice() -> Any:
        made = gpu().create(20, 3)
        assert gpu().room(20) == 0
        assert gpu().room(19) == 6
        with refused(pynvml.NVML_ERROR_INSUFFICIENT_RESOURCES):
            gpu().create(20, 5)
        made.destroy()
        return gpu().create(20, 5).place

    assert a100.ask(twice) == (20, 5, 1)


def test_beside_all_media_engines_only_profiles_without_media_stand(make_host: MakeHost) -> None:
    """nvml.h of NVML_GPU_INSTANCE_PROFILE_1_SLICE_ALL_ME; ids of RTX PRO 6000: 65 +me.all, 14 1g, 21 +me, 67 -me."""
    host = make_host(enabled(RTX))

    def around() -> Any:
        gpu().create(65, 0)
        for profile in (14, 21, 65):
            with refused(pynvml.NVML_ERROR_INSUFFICIENT_RESOURCES):
                gpu().create(profile, 3)
        return gpu().create(67, 3).place

    assert host.ask(around) == (67, 3, 3)


def test_destroying_goes_from_the_inside_out(a100: NvmlHost) -> None:
    def inside_out() -> Any:
        made = gpu().create(9, 0)
        compute = made.fill(2)
        with refused(pynvml.NVML_ERROR_IN_USE):
            made.destroy()
        pynvml.nvmlComputeInstanceDestroy(compute)
        assert gpu().layout() == [(9, 0, 4)]
        made.destroy()
        with refused(pynvml.NVML_ERROR_NOT_FOUND):
            pynvml.nvmlDeviceGetGpuInstanceById(gpu().handle, 1)
        return gpu().layout()

    assert a100.ask(inside_out) == []


def test_what_a_process_uses_cannot_be_destroyed(a100: NvmlHost) -> None:
    def make() -> int:
        made = gpu().create(14, 0)
        made.fill(1)
        other = gpu().create(14, 2)
        other.fill(1)
        return int(made.info.id)

    used = a100.ask(make)
    a100.simctl("busy", 0, "--gi", used, "--ci", 0, "--pid", 4321)

    def destroy() -> list[tuple[int, int, int]]:
        for instance in gpu().instances():
            compute = instance.computes(1)[0]
            if instance.info.id == used:
                with refused(pynvml.NVML_ERROR_IN_USE):
                    pynvml.nvmlComputeInstanceDestroy(compute)
            else:
                pynvml.nvmlComputeInstanceDestroy(compute)
                instance.destroy()
        return gpu().layout()

    assert a100.ask(destroy) == [(14, 0, 2)]
    processes = a100.ask(
        lambda: [
            (process.pid, process.gpuInstanceId, process.computeInstanceId)
            for process in pynvml.nvmlDeviceGetComputeRunningProcesses(gpu().handle)
        ]
    )
    assert processes == [(4321, used, 0)]


@pytest.mark.parametrize("product", [A100, A30, H100, RTX])
def test_ids_of_instances_are_numbers_of_a_tree(make_host: MakeHost, product: str) -> None:
    """0 is the whole, 1-2 halves, 3-6 quarters, 7-14 eighths, mixed on each physical GPU (floorsweeping)."""
    slices = PRODUCTS[product]["memory_slices"]
    host = make_host(*[enabled(product)] * 6)

    def ids_of(index: int) -> dict[tuple[int, int], int]:
        found = {}
        for profile in gpu(index).profiles():
            for start, size in gpu(index).places(profile.id):
                made = gpu(index).create(profile.id, start)
                found[(start, size)] = made.info.id
                made.destroy()
        return found

    seen = [host.ask(partial(ids_of, index)) for index in range(6)]
    for ids in seen:
        for (_start, size), number in ids.items():
            parts = slices // size
            assert parts - 1 <= number <= 2 * parts - 2, (size, number)
        assert len(set(ids.values())) == len(ids), "no two places share an id"
    assert len({tuple(ids.items()) for ids in seen}) > 1, "a GPU differs from its neighbours"


def privileged(device: Any, instance: Instance, compute: Any) -> dict[str, Callable[[], Any]]:
    """What nvml.h reserves for root."""
    place = (pynvml.c_nvmlGpuInstancePlacement_t * 16)()
    room = pynvml.c_uint(16)
    handles = (pynvml.c_nvmlGpuInstance_t * 16)()
    computes = (pynvml.c_nvmlComputeInstance_t * 16)()
    by = pynvml.byref
    return {
        "places": lambda: pynvml.nvmlDeviceGetGpuInstancePossiblePlacements(device, 19, place, by(room)),
        "capacity": lambda: pynvml.nvmlDeviceGetGpuInstanceRemainingCapacity(device, 19),
        "create": lambda: pynvml.nvmlDeviceCreateGpuInstance(device, 19),
        "create at": lambda: pynvml.nvmlDeviceCreateGpuInstanceWithPlacement(
            device, 19, by(pynvml.c_nvmlGpuInstancePlacement_t(6, 1))
        ),
        "list": lambda: pynvml.nvmlDeviceGetGpuInstances(device, 19, handles, by(room)),
        "by id": lambda: pynvml.nvmlDeviceGetGpuInstanceById(device, instance.info.id),
        "destroy": instance.destroy,
        "compute capacity": lambda: pynvml.nvmlGpuInstanceGetComputeInstanceRemainingCapacity(instance.handle, 0),
        "compute create": lambda: pynvml.nvmlGpuInstanceCreateComputeInstance(instance.handle, 0),
        "compute list": lambda: pynvml.nvmlGpuInstanceGetComputeInstances(instance.handle, 0, computes, by(room)),
        "compute by id": lambda: pynvml.nvmlGpuInstanceGetComputeInstanceById(instance.handle, 0),
        "compute destroy": lambda: pynvml.nvmlComputeInstanceDestroy(compute),
    }


def test_only_root_looks_into_and_changes_instances(a100: NvmlHost) -> None:
    def as_nobody() -> list[str]:
        device, instance = gpu().handle, gpu().create(19, 0)
        compute = instance.fill(0)
        become_nobody()
        allowed = []
        for name, call in privileged(device, instance, compute).items():
            try:
                call()
                allowed.append(name)
            except pynvml.NVMLError_NoPermission:
                continue
        return allowed

    assert a100.ask(as_nobody) == []
    assert a100.ask(lambda: (gpu().layout(), len(gpu().uuids()))) == ([(19, 0, 1)], 1)


def test_everybody_may_list_devices_and_profiles(a100: NvmlHost) -> None:
    def as_nobody() -> tuple[int, list[str], tuple[int, int, int]]:
        instance = gpu().create(19, 0)
        compute = instance.fill(0)
        become_nobody()
        assert os.geteuid() != 0
        assert pynvml.nvmlComputeInstanceGetInfo(compute).id == 0
        return len(gpu().profiles()), [name[:4] for name in gpu().uuids()], instance.place

    assert a100.ask(as_nobody) == (7, ["MIG-"], (19, 0, 1))


def test_of_processes_racing_for_seven_places_seven_win(a100: NvmlHost) -> None:
    """The state is one, whoever changes it."""

    def race() -> bool:
        try:
            gpu().create(19)
        except pynvml.NVMLError_InsufficientResources:
            return False
        return True

    won = [child.answer() for child in [a100.begin(race) for _ in range(10)]]
    assert sorted(won) == [False] * 3 + [True] * 7
    assert a100.ask(lambda: gpu().layout()) == [(19, start, 1) for start in range(7)]
