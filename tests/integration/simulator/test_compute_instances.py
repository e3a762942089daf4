# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""Compute instances and MIG devices: nvml.h, NVIDIA's MIG User Guide, listings of real boards.

Profile ids of boards with seven compute slices: 19 is 1g, 20 1g+me, 15 1g of double memory, 14 2g, 9 3g, 5 4g, 0 7g.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import pynvml
import pytest
from integration.simulator.conftest import MakeHost
from integration.simulator.nvml_host import (
    A100,
    H100,
    PRODUCTS,
    UUID,
    NvmlHost,
    enabled,
    gpu,
    refused,
)


def test_compute_profiles_are_those_of_the_guide(a100: NvmlHost) -> None:
    """As (id, slices, count): in 1g 1c; 2g 1c x2, 2c; 3g 1c x3, 2c, 3c; 4g 1c x4, 2c x2, 4c and no 3c."""
    wanted = {
        19: [(0, 1, 1)],
        14: [(0, 1, 2), (1, 2, 1)],
        9: [(0, 1, 3), (1, 2, 1), (2, 3, 1)],
        5: [(0, 1, 4), (1, 2, 2), (3, 4, 1)],
    }

    def look(profile: int) -> list[tuple[int, int, int]]:
        made = gpu().create(profile, 0)
        kinds = [(kind.id, kind.sliceCount, kind.instanceCount) for kind in made.compute_profiles()]
        made.destroy()
        return kinds

    assert {profile: a100.ask(partial(look, profile)) for profile in wanted} == wanted


def test_compute_instances_share_an_instance_and_do_not_overlap(a100: NvmlHost) -> None:
    def cut() -> list[str]:
        made = gpu().create(9, 0)
        made.fill(1, 0, 2)
        with refused(pynvml.NVML_ERROR_INSUFFICIENT_RESOURCES):
            made.fill(0, 1, 1)
        with refused(pynvml.NVML_ERROR_INSUFFICIENT_RESOURCES):
            made.fill(2)
        made.fill(0, 2, 1)
        return [pynvml.nvmlDeviceGetName(device) for device in gpu().devices()]

    board = PRODUCTS[A100]["name"]
    assert sorted(a100.ask(cut)) == [f"{board} MIG 1c.3g.20gb", f"{board} MIG 2c.3g.20gb"]


@pytest.mark.parametrize(("product", "size"), [(A100, 3), (H100, 4)])
def test_the_compute_instance_that_fills_a_3g_has_the_listed_place(
    make_host: MakeHost, product: str, size: int
) -> None:
    """nvidia-smi mig -lci: 0:3 on an A100, 0:4 on an H100; its profile has three slices on both."""
    host = make_host(enabled(product))

    def fill() -> tuple[int, int, int]:
        made = gpu().create(9, 4)
        with refused(pynvml.NVML_ERROR_INVALID_ARGUMENT):
            made.fill(2, 0, 7 - size)
        info = pynvml.nvmlComputeInstanceGetInfo(made.fill(2, 0, size))
        slices = pynvml.nvmlDeviceGetAttributes(gpu().devices()[0]).computeInstanceSliceCount
        return info.placement.start, info.placement.size, slices

    assert host.ask(fill) == (0, size, 3)


def test_the_1g_profile_of_double_memory_answers_to_both_compute_ids(make_host: MakeHost) -> None:
    """Listed with id 7; nvidia-mig-parted and the DRA driver ask for 0 and are said to work."""
    host = make_host(enabled(H100))

    def fill(profile: int) -> Any:
        made = gpu().create(15, 0)
        compute = made.fill(profile)
        info = pynvml.nvmlComputeInstanceGetInfo(compute)
        kinds = {
            index: pynvml.nvmlGpuInstanceGetComputeInstanceProfileInfo(made.handle, index, 0).id for index in (0, 7)
        }
        pynvml.nvmlComputeInstanceDestroy(compute)
        made.destroy()
        return info.profileId, kinds

    for asked in (0, 7):
        assert host.ask(partial(fill, asked)) == (7, {0: 7, 7: 7})


def test_a_mig_device_stands_for_a_compute_instance(a100: NvmlHost) -> None:
    def look() -> None:
        made = gpu().create(9, 4)
        info = pynvml.nvmlComputeInstanceGetInfo(made.fill(2))
        (device,) = gpu().devices()
        assert pynvml.nvmlDeviceGetUUID(info.device) == pynvml.nvmlDeviceGetUUID(device)
        assert pynvml.nvmlDeviceIsMigDeviceHandle(device).value == 1
        assert pynvml.nvmlDeviceIsMigDeviceHandle(gpu().handle).value == 0
        assert pynvml.nvmlDeviceGetGpuInstanceId(device) == made.info.id
        assert pynvml.nvmlDeviceGetComputeInstanceId(device) == info.id
        parent = pynvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(device)
        assert pynvml.nvmlDeviceGetUUID(parent) == pynvml.nvmlDeviceGetUUID(gpu().handle)
        attributes = pynvml.nvmlDeviceGetAttributes(device)
        assert (attributes.multiprocessorCount, attributes.memorySizeMB) == (42, 20096)
        assert (attributes.gpuInstanceSliceCount, attributes.computeInstanceSliceCount) == (3, 3)
        assert pynvml.nvmlDeviceGetMemoryInfo(device).total == 20096 << 20
        assert pynvml.nvmlDeviceGetName(device) == "NVIDIA A100-SXM4-40GB MIG 3g.20gb"
        by_uuid = pynvml.nvmlDeviceGetHandleByUUID(pynvml.nvmlDeviceGetUUID(device))
        assert pynvml.nvmlDeviceGetGpuInstanceId(by_uuid) == made.info.id

    a100.ask(look)


def test_an_instance_without_compute_instance_is_no_device(a100: NvmlHost) -> None:
    assert a100.ask(lambda: (gpu().create(9, 0).place, gpu().uuids())) == ((9, 0, 4), [])


def test_indices_without_a_device_are_not_found(a100: NvmlHost) -> None:
    def walk() -> int:
        for start in (0, 3):
            gpu().create(19, start).fill(0)
        found = 0
        for index in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(gpu().handle)):
            try:
                pynvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu().handle, index)
                found += 1
            except pynvml.NVMLError_NotFound:
                continue
        return found

    assert a100.ask(walk) == 2


def test_devices_are_in_the_order_of_instance_and_compute_ids(a100: NvmlHost) -> None:
    def order() -> list[tuple[int, int]]:
        for start in (0, 4, 2):
            instance = gpu().create(14, start)
            instance.fill(0)
            instance.fill(0)
        return [
            (pynvml.nvmlDeviceGetGpuInstanceId(device), pynvml.nvmlDeviceGetComputeInstanceId(device))
            for device in gpu().devices()
        ]

    found = a100.ask(order)
    assert len(found) == 6
    assert found == sorted(found)


def cycle() -> tuple[str, str]:
    """The UUIDs of an instance and of the same one made again."""
    seen = []
    for _ in range(2):
        made = gpu().create(14, 2)
        compute = made.fill(1)
        seen.append(gpu().uuids()[0])
        pynvml.nvmlComputeInstanceDestroy(compute)
        made.destroy()
    return seen[0], seen[1]


def test_uuids_have_their_published_form_and_are_new_after_re_creation(a100: NvmlHost) -> None:
    """MIG-<uuid> since R470; a re-created instance gets another one (NVIDIA's DRA driver, mig.go)."""
    first, second = a100.ask(cycle)
    assert re.fullmatch(f"MIG-{UUID}", first)
    assert re.fullmatch(f"MIG-{UUID}", second)
    assert first != second
    assert re.fullmatch(f"GPU-{UUID}", a100.ask(lambda: pynvml.nvmlDeviceGetUUID(gpu().handle)))


def test_uuids_can_be_the_same_after_re_creation(make_host: MakeHost) -> None:
    """As NVIDIA's published listings show it; sources disagree, so tests need both."""
    host = make_host(enabled(A100), uuids="stable")
    first, second = host.ask(cycle)
    assert first == second
    host.simctl("uuids", "new")
    assert len({first, *host.ask(cycle)}) == 3


def test_old_handles_do_not_reach_what_came_after(a100: NvmlHost) -> None:
    def stale() -> None:
        made = gpu().create(19, 0)
        compute = made.fill(0)
        (device,) = gpu().devices()
        pynvml.nvmlComputeInstanceDestroy(compute)
        made.destroy()
        gpu().create(19, 0).fill(0)
        with refused(pynvml.NVML_ERROR_NOT_FOUND):
            pynvml.nvmlDeviceGetUUID(device)
        with refused(pynvml.NVML_ERROR_INVALID_ARGUMENT):
            made.destroy()

    a100.ask(stale)
    assert a100.ask(lambda: gpu().layout()) == [(19, 0, 1)]
