# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""MIG mode, resets and reboots, as nvml.h and NVIDIA's MIG User Guide ("Getting Started with MIG") describe them."""

from __future__ import annotations

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
    Refused,
    become_nobody,
    enabled,
    gpu,
    refused,
)

OFF, ON, PENDING_ON, PENDING_OFF = (0, 0), (1, 1), (0, 1), (1, 0)
AMPERE, NEWER = [A100, A30], [H100, "b200-180gb", RTX]
SLICE = {product: PRODUCTS[product]["gi_profiles"][0]["id"] for product in (*AMPERE, *NEWER)}


@pytest.mark.parametrize("product", [*AMPERE, *NEWER])
def test_an_idle_gpu_changes_its_mode_at_once(make_host: MakeHost, product: str) -> None:
    host = make_host(product)

    def change() -> list[Any]:
        device = gpu()
        return [device.mode, device.set_mode(1), device.mode, device.set_mode(0), device.mode]

    assert host.ask(change) == [OFF, pynvml.NVML_SUCCESS, ON, pynvml.NVML_SUCCESS, OFF]


@pytest.mark.parametrize("product", [A100, H100])
def test_a_busy_gpu_stays_pending_and_the_call_still_succeeds(make_host: MakeHost, product: str) -> None:
    host = make_host(product)
    host.simctl("busy", 0)
    assert host.ask(lambda: (gpu().set_mode(1), gpu().mode)) == (pynvml.NVML_ERROR_IN_USE, PENDING_ON)
    host.simctl("idle", 0)
    assert host.ask(lambda: gpu().mode) == PENDING_ON, "nothing happens by itself"
    assert host.ask(lambda: (gpu().set_mode(1), gpu().mode)) == (pynvml.NVML_SUCCESS, ON)


@pytest.mark.parametrize("how", ["reset", "reboot"])
def test_a_pending_mode_of_ampere_takes_effect_with_a_reset_or_a_reboot(make_host: MakeHost, how: str) -> None:
    host = make_host(A100)
    host.simctl("busy", 0)
    assert host.ask(lambda: gpu().set_mode(1)) == pynvml.NVML_ERROR_IN_USE
    host.simctl("idle", 0)
    if how == "reset":
        host.reset()
    else:
        host.simctl("reboot")
    assert host.ask(lambda: gpu().mode) == ON


def test_setting_the_old_mode_again_takes_a_pending_change_back(make_host: MakeHost) -> None:
    host = make_host(A100)
    host.simctl("busy", 0)
    assert host.ask(lambda: (gpu().set_mode(1), gpu().set_mode(0), gpu().mode)) == (
        pynvml.NVML_ERROR_IN_USE,
        pynvml.NVML_SUCCESS,
        OFF,
    )


def test_under_passthrough_ampere_asks_for_a_reset_from_outside(make_host: MakeHost) -> None:
    host = make_host({"product": A100, "passthrough": True})
    required = pynvml.NVML_ERROR_RESET_REQUIRED
    assert host.ask(lambda: (gpu().set_mode(1), gpu().mode)) == (required, PENDING_ON)
    host.simctl("reboot")
    assert host.ask(lambda: gpu().mode) == ON
    assert host.ask(lambda: (gpu().set_mode(0), gpu().mode)) == (required, PENDING_OFF)


def test_under_passthrough_hopper_needs_no_reset(make_host: MakeHost) -> None:
    host = make_host({"product": H100, "passthrough": True})
    assert host.ask(lambda: (gpu().set_mode(1), gpu().mode)) == (pynvml.NVML_SUCCESS, ON)


@pytest.mark.parametrize("product", [*AMPERE, *NEWER])
def test_ampere_keeps_its_mode_over_a_reboot_and_newer_boards_do_not(make_host: MakeHost, product: str) -> None:
    host = make_host(enabled(product))
    assert host.ask(lambda: gpu().create(SLICE[product]).info.placement.size) > 0
    host.simctl("reboot")
    kept = PRODUCTS[product]["mode_change"]["mode_survives_reboot"]
    assert kept == (product in AMPERE)
    assert host.ask(lambda: gpu().mode) == (ON if kept else OFF)
    if kept:
        assert host.ask(lambda: gpu().layout()) == [], "instances never survive"
    assert host.ask(lambda: gpu().set_mode(1)) == pynvml.NVML_SUCCESS
    assert host.ask(lambda: gpu().layout()) == []


@pytest.mark.parametrize("product", [A100, H100])
def test_a_reset_keeps_the_mode_and_loses_the_instances(make_host: MakeHost, product: str) -> None:
    host = make_host(enabled(product))

    def fill() -> list[Any]:
        gpu().create(19, 0).fill(0)
        return gpu().layout()

    assert host.ask(fill) == [(19, 0, 1)]
    host.reset()
    assert host.ask(lambda: (gpu().mode, gpu().layout(), gpu().uuids())) == (ON, [], [])


@pytest.mark.parametrize(("product", "after"), [(A100, ON), (H100, OFF)])
def test_reloading_the_driver_is_like_a_reboot_for_the_mode(make_host: MakeHost, product: str, after: Any) -> None:
    host = make_host(enabled(product))
    host.simctl("driver", "unload")
    with pytest.raises(Refused) as error:
        host.ask(lambda: gpu().mode)
    assert error.value.code == pynvml.NVML_ERROR_DRIVER_NOT_LOADED
    host.simctl("driver", "load")
    assert host.ask(lambda: gpu().mode) == after


def test_a_driver_unloaded_under_a_running_program_fails_its_calls(make_host: MakeHost) -> None:
    host = make_host(A100)

    def unloaded_meanwhile() -> None:
        device = gpu()
        host.simctl("driver", "unload")
        with refused(pynvml.NVML_ERROR_DRIVER_NOT_LOADED):
            _ = device.mode

    host.ask(unloaded_meanwhile)


def test_disabling_an_idle_ampere_resets_it_with_its_instances(make_host: MakeHost) -> None:
    host = make_host(enabled(A100))
    assert host.ask(lambda: (gpu().create(19, 0).place, gpu().set_mode(0), gpu().mode)) == (
        (19, 0, 1),
        pynvml.NVML_SUCCESS,
        OFF,
    )
    assert host.ask(lambda: (gpu().set_mode(1), gpu().layout())) == (pynvml.NVML_SUCCESS, [])


@pytest.mark.parametrize("product", NEWER)
def test_disabling_newer_boards_with_instances_is_in_use(make_host: MakeHost, product: str) -> None:
    host = make_host(enabled(product))

    def disable() -> list[Any]:
        device = gpu()
        made = device.create(SLICE[product], 0)
        first = [device.set_mode(0), device.mode[0], len(device.layout())]
        made.destroy()
        return [*first, device.set_mode(0), device.mode]

    assert host.ask(disable) == [pynvml.NVML_ERROR_IN_USE, 1, 1, pynvml.NVML_SUCCESS, OFF]


def test_only_root_changes_the_mode_and_everybody_reads_it(make_host: MakeHost) -> None:
    host = make_host(A100)

    def as_nobody() -> Any:
        become_nobody()
        with refused(pynvml.NVML_ERROR_NO_PERMISSION):
            gpu().set_mode(1)
        return gpu().mode

    assert host.ask(as_nobody) == OFF


def test_another_number_is_no_mode(make_host: MakeHost) -> None:
    with pytest.raises(Refused) as error:
        make_host(A100).ask(lambda: gpu().set_mode(2))
    assert error.value.code == pynvml.NVML_ERROR_INVALID_ARGUMENT


@pytest.mark.parametrize("product", [A100, A30, H100])
def test_field_values_tell_whether_a_mode_change_needs_a_reset(make_host: MakeHost, product: str) -> None:
    """Fields 184 and 199 of nvml.h."""
    fields = [
        pynvml.NVML_FI_DEV_IS_RESETLESS_MIG_SUPPORTED,
        pynvml.NVML_FI_DEV_IS_MIG_MODE_INDEPENDENT_MIG_QUERY_CAPABLE,
    ]
    assert fields == [184, 199]

    def read() -> list[tuple[int, int]]:
        values = pynvml.nvmlDeviceGetFieldValues(gpu().handle, fields)
        return [(value.nvmlReturn, value.value.uiVal) for value in values]

    resetless = 0 if PRODUCTS[product]["mode_change"]["needs_gpu_reset"] else 1
    assert make_host(product).ask(read) == [(0, resetless), (0, resetless)]


def test_ampere_shows_no_profiles_while_mig_is_off_and_hopper_does(make_host: MakeHost) -> None:
    host = make_host(A100, H100)

    def look() -> tuple[int, int]:
        with refused(pynvml.NVML_ERROR_NOT_SUPPORTED):
            pynvml.nvmlDeviceGetGpuInstanceProfileInfoById(gpu(0).handle, 19)
        return len(gpu(0).profiles()), len(gpu(1).profiles())

    assert host.ask(look) == (0, 7)


@pytest.mark.parametrize("product", [A100, A30, H100])
def test_without_mig_there_are_no_devices_and_no_instances(make_host: MakeHost, product: str) -> None:
    host = make_host(product)

    def look() -> int:
        device = gpu()
        for call in (
            lambda: pynvml.nvmlDeviceCreateGpuInstance(device.handle, SLICE[product]),
            lambda: pynvml.nvmlDeviceGetGpuInstanceById(device.handle, 0),
            lambda: device.room(SLICE[product]),
        ):
            with refused(pynvml.NVML_ERROR_NOT_SUPPORTED):
                call()
        assert pynvml.nvmlDeviceGetMaxMigDeviceCount(device.handle) == 0
        assert device.set_mode(1) == pynvml.NVML_SUCCESS
        return int(pynvml.nvmlDeviceGetMaxMigDeviceCount(device.handle))

    assert host.ask(look) == PRODUCTS[product]["max_instances"]
