# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""Every board of facts/mig_products.yaml as NVML shows it, and what fits on it."""

from __future__ import annotations

import re
from typing import Any

import pynvml
import pytest
from integration.simulator.conftest import MakeHost
from integration.simulator.nvml_host import A30, A100, FACTS, PRODUCTS, RTX, Gpu, gpu, refused

KNOWN = [
    key
    for key, product in PRODUCTS.items()
    if all(product[field] is not None for field in ("name", "nvml_arch", "memory_mib", "memory_slices"))
]
"""Boards of which enough is known to simulate them."""


def complete(profile: dict[str, Any]) -> bool:
    """Whether the facts say where a profile can stand and what it has."""
    places = profile.get("placements") or {}
    wanted = (profile["id"], profile["memory_mib"], profile["sm"], places.get("size"), places.get("starts"))
    return None not in wanted


def profiles_of(key: str) -> list[dict[str, Any]]:
    return [profile for profile in PRODUCTS[key]["gi_profiles"] if complete(profile)]


def board(device: Gpu) -> dict[str, Any]:
    """What NVML says of a board, in the words of the facts."""
    major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(device.handle)
    return {
        "name": pynvml.nvmlDeviceGetName(device.handle),
        "nvml_arch": pynvml.nvmlDeviceGetArchitecture(device.handle),
        "compute_capability": f"{major}.{minor}",
        "memory_mib": pynvml.nvmlDeviceGetMemoryInfo(device.handle).total >> 20,
        "max_instances": pynvml.nvmlDeviceGetMaxMigDeviceCount(device.handle),
    }


def profile_rows(device: Gpu) -> dict[int, dict[str, Any]]:
    """By index: the profiles that NVML offers, in the words of the facts."""
    rows = {}
    for index in range(pynvml.NVML_GPU_INSTANCE_PROFILE_COUNT):
        try:
            info = pynvml.nvmlDeviceGetGpuInstanceProfileInfo(device.handle, index)
        except (pynvml.NVMLError_NotSupported, pynvml.NVMLError_InvalidArgument):
            continue
        places = device.places(info.id)
        rows[index] = {
            "name": info.name.removeprefix("MIG "),
            "id": info.id,
            "slices": info.sliceCount,
            "memory_mib": info.memorySizeMB,
            "sm": info.multiprocessorCount,
            "ce": info.copyEngineCount,
            "dec": info.decoderCount,
            "enc": info.encoderCount,
            "jpeg": info.jpegCount,
            "ofa": info.ofaCount,
            "count": info.instanceCount,
            "placements": {"size": places[0][1], "starts": [start for start, _size in places]},
        }
    return rows


@pytest.mark.parametrize("keys", [KNOWN[:12], KNOWN[12:]], ids=["first", "second"])
def test_boards_and_their_profiles_are_those_of_the_facts(make_host: MakeHost, keys: list[str]) -> None:
    host = make_host(*[{"product": key, "mig": "enabled"} for key in keys])
    seen = host.ask(lambda: [(board(gpu(index)), profile_rows(gpu(index))) for index in range(len(keys))])
    for key, (shown, rows) in zip(keys, seen, strict=True):
        wanted = PRODUCTS[key]
        assert shown == {field: wanted[field] for field in shown}, key
        expected = {profile["nvml_profile_index"]: profile for profile in profiles_of(key)}
        assert rows.keys() == expected.keys(), key
        for index, row in rows.items():
            facts = {field: expected[index][field] for field in row}
            for engine in ("ce", "dec", "enc", "jpeg", "ofa"):
                facts[engine] = facts[engine] or 0  # NVML has no "unknown"
            assert row == facts, (key, index)


@pytest.mark.parametrize("key", [key for key in KNOWN if profiles_of(key)])
def test_compute_profiles_of_full_instances_are_those_of_the_facts(make_host: MakeHost, key: str) -> None:
    host = make_host({"product": key, "mig": "enabled"})

    def look() -> dict[str, list[tuple[int, int, int]]]:
        found = {}
        for profile in gpu().profiles():
            made = gpu().create(profile.id, gpu().places(profile.id)[0][0])
            kinds = {kind.id: (kind.id, kind.sliceCount, kind.instanceCount) for kind in made.compute_profiles()}
            found[profile.name.removeprefix("MIG ")] = sorted(kinds.values())
            made.destroy()
        return found

    wanted = {
        profile["name"]: sorted(
            (row["id"], row["slices"], row["count"]) for row in PRODUCTS[key]["ci_profiles"][profile["name"]]
        )
        for profile in profiles_of(key)
    }
    assert host.ask(look) == wanted


@pytest.mark.parametrize("key", sorted(set(PRODUCTS) - set(KNOWN)))
def test_boards_of_which_too_little_is_known_are_refused_by_name(make_host: MakeHost, key: str) -> None:
    with pytest.raises(AssertionError, match=re.escape(key)):
        make_host(key)


def test_pci_ids_have_the_form_of_nvml(make_host: MakeHost) -> None:
    """device << 16 | vendor: 0x20B010DE for A100-SXM4-40GB (nvidia-mig-parted's device filters)."""
    pci = make_host(A100).ask(lambda: pynvml.nvmlDeviceGetPciInfo(gpu().handle).pciDeviceId)
    assert f"0x{pci:08X}" == "0x20B010DE"


KINDS = {
    "seven_slice_classic": ({0: "1g", 1: "2g", 2: "3g", 3: "4g", 4: "7g"}, A100),
    "seven_slice_with_double": ({0: "1g", 9: "1g.double", 1: "2g", 2: "3g", 3: "4g", 4: "7g"}, A100),
    "a30": ({0: "1g", 1: "2g", 3: "4g"}, A30),
    "rtx_pro_6000": ({0: "1g", 1: "2g", 3: "4g"}, RTX),
}
"""The facts' lists of full layouts: by NVML index, the word that the list uses, and a board."""


def full_layouts(words: dict[int, str]) -> set[tuple[str, ...]]:
    """Every layout of the first GPU to which nothing can be added, found by creating instances from left to right."""
    device, found = gpu(), set()
    ids = {pynvml.nvmlDeviceGetGpuInstanceProfileInfo(device.handle, index).id: words[index] for index in words}
    places = sorted((start, size, profile) for profile in ids for start, size in device.places(profile))

    def grow(standing: tuple[tuple[int, int], ...], edge: int) -> None:
        if not any(device.room(profile) for profile in ids):
            found.add(tuple(f"{ids[profile]}@{start}" for start, profile in standing))
            return
        for start, size, profile in places:
            if start < edge:
                continue
            made = device.create(profile, start, size)
            grow((*standing, (start, profile)), start + size)
            made.destroy()

    grow((), 0)
    return found


@pytest.mark.parametrize("name", KINDS)
def test_full_layouts_are_the_published_ones(make_host: MakeHost, name: str) -> None:
    """19 layouts on boards with seven slices, as in the figure of NVIDIA's guide; 78 with 1g of double memory."""
    words, key = KINDS[name]
    listed = {tuple(layout) for layout in FACTS["valid_full_layouts"][name]["layouts"]}
    assert len(listed) == FACTS["valid_full_layouts"][name]["layout_count"]
    host = make_host({"product": key, "mig": "enabled"})
    assert host.ask(lambda: full_layouts(words)) == listed


@pytest.mark.full
@pytest.mark.parametrize(
    "key", [key for key in KNOWN if PRODUCTS[key]["memory_slices"] == 8 and len(profiles_of(key)) == 7]
)
def test_full_layouts_are_the_same_on_every_board_with_seven_slices(make_host: MakeHost, key: str) -> None:
    words, _board = KINDS["seven_slice_with_double"]
    listed = {tuple(layout) for layout in FACTS["valid_full_layouts"]["seven_slice_with_double"]["layouts"]}
    host = make_host({"product": key, "mig": "enabled"})
    assert host.ask(lambda: full_layouts(words)) == listed


def overlaps() -> int:
    """On the first GPU every pair of places: the second is refused exactly where the two share a memory slice."""
    device, pairs = gpu(), 0
    plain = [profile.id for profile in device.profiles() if not re.search(r"[+-]", profile.name)]
    places = [(profile, start, size) for profile in plain for start, size in device.places(profile)]
    for first in places:
        made = device.create(*first)
        for second in places:
            apart = first[1] + first[2] <= second[1] or second[1] + second[2] <= first[1]
            if apart:
                device.create(*second).destroy()
            else:
                with refused(pynvml.NVML_ERROR_INSUFFICIENT_RESOURCES):
                    device.create(*second)
            pairs += 1
        made.destroy()
    return pairs


@pytest.mark.parametrize("key", [A30, A100, RTX])
def test_places_that_share_a_slice_exclude_each_other(make_host: MakeHost, key: str) -> None:
    places = sum(len(row["placements"]["starts"]) for row in profiles_of(key) if not re.search(r"[+-]", row["name"]))
    assert make_host({"product": key, "mig": "enabled"}).ask(overlaps) == places * places


@pytest.mark.parametrize(
    ("product", "name", "memory"), [("t4", "Tesla T4", 15360), ("l40s", "NVIDIA L40S", 46068)], ids=["t4", "l40s"]
)
def test_boards_without_mig(make_host: MakeHost, product: str, name: str, memory: int) -> None:
    """Name and memory as nvidia-smi -q -x of real ones shows them, MIG mode N/A."""
    host = make_host(product, A100)

    def look() -> tuple[str, int]:
        with refused(pynvml.NVML_ERROR_NOT_SUPPORTED):
            pynvml.nvmlDeviceGetMigMode(gpu().handle)
        with refused(pynvml.NVML_ERROR_NOT_SUPPORTED):
            gpu().set_mode(1)
        with refused(pynvml.NVML_ERROR_NOT_SUPPORTED):
            gpu().create(19)
        assert gpu().profiles() == []
        assert pynvml.nvmlDeviceGetMaxMigDeviceCount(gpu().handle) == 0
        return pynvml.nvmlDeviceGetName(gpu().handle), pynvml.nvmlDeviceGetMemoryInfo(gpu().handle).total >> 20

    assert host.ask(look) == (name, memory)


def test_a_board_without_mig_cannot_begin_with_it(make_host: MakeHost) -> None:
    with pytest.raises(AssertionError, match="t4 is a board without MIG"):
        make_host({"product": "t4", "mig": "enabled"})
