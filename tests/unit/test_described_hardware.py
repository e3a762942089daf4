# Copyright (c) 2026 gpufleet.mig maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""GPUs that only the inventory describes are what the facts file says, read here without the collection's table."""

from __future__ import annotations

from typing import Any

import pytest
from unit.planner_support import PLANNABLE, PRODUCTS, gpu

from ansible_collections.gpufleet.mig.plugins.module_utils._errors import LayoutError
from ansible_collections.gpufleet.mig.plugins.module_utils._hardware import gpus_of, gpus_on_bus, refusal

COMPARED = ("index", "name", "memory_mib", "architecture", "compute_capability", "mig_mode", "profiles", "instances")


@pytest.mark.parametrize("key", PLANNABLE)
def test_a_product_is_found_by_key_and_by_name(key: str) -> None:
    expected = [gpu(key, index, mode="disabled") for index in range(2)]
    name = PRODUCTS[key]["name"]
    for model in filter(None, [key, key.upper(), name, name and name.replace("NVIDIA ", "").lower()]):
        found = gpus_of([{"model": model, "count": 2}])
        for field in COMPARED:
            assert [one[field] for one in found] == [one[field] for one in expected], (model, field)


@pytest.mark.parametrize("key", [key for key in PRODUCTS if key not in PLANNABLE])
def test_a_board_without_known_places_is_described_all_the_same(key: str) -> None:
    (found,) = gpus_of([{"model": key}])
    assert found["profiles"] == []
    assert found["memory_mib"] == PRODUCTS[key]["memory_mib"]


def test_entries_follow_each_other_and_say_what_stands() -> None:
    found = gpus_of(
        [
            {"model": "A100-SXM4-80GB", "count": 2, "instances": [{"profile": "3g.40gb", "start": 0}]},
            {"model": "A30", "mig": "enabled"},
            {"model": "H200", "mig": "disabled"},
        ]
    )
    assert [one["index"] for one in found] == [0, 1, 2, 3]
    assert [one["mig_mode"]["current"] for one in found] == ["enabled", "enabled", "enabled", "disabled"]
    stands = [[(one["profile"], one["start"], one["size"]) for one in each["instances"]] for each in found]
    assert stands == [[("3g.40gb", 0, 4)], [("3g.40gb", 0, 4)], [], []]


@pytest.mark.parametrize(
    ("described", "said"),
    [
        ([{"model": "A100"}], "entry 1 has the model A100, .* did you mean NVIDIA A100-SXM4-40GB or"),
        ([{"model": "H1000 80GB HBM3"}], "did you mean NVIDIA H100 80GB HBM3"),
        ([{"model": "Tesla T4"}], "no product fact describes"),
        ([{"model": 7}], "no product fact describes"),
        ([{"count": 8}], "entry 1 does not say which model"),
        (["A30"], "entry 1 does not say which model"),
        ([{"model": "A30"}, {"model": "A30", "number": 2}], "entry 2 has the unknown key number"),
        ([{"model": "A30", "count": 0}], "has 0 GPUs; write a number from 1"),
        ([{"model": "A30", "count": True}], "has true GPUs"),
        ([{"model": "A30", "count": 800}], "has 800 GPUs"),
        ([{"model": "A30", "mig": "on"}], "says mig: on"),
        ([{"model": "A30", "mig": "disabled", "instances": {"1g.6gb": 1}}], "has instances with mig: disabled"),
        ([{"model": "A30", "instances": {"4g.24gb": 2}}], "instances stand which cannot: GPU 0 .*nearest that fits"),
        ([{"model": "A30", "instances": {"1g.5gb": 1}}], "has no profile '1g.5gb'"),
        ({"model": "A30"}, "mig_gpus is a list"),
        ("A30", "mig_gpus is a list"),
        ([], "mig_gpus is a list"),
    ],
)
def test_what_cannot_be_read_is_refused_in_a_sentence(described: Any, said: str) -> None:
    with pytest.raises(LayoutError, match=said):
        gpus_of(described)


BUS = [key for key in PLANNABLE if PRODUCTS[key]["pci_device_ids"]]
WRONG = "The layout entry 1 has the unknown key instance; known are"


def boards(*keys: str) -> list[dict[str, Any]]:
    """As the PCI bus shows them."""
    return [
        {"pci_bus_id": f"0000:{at + 1:02x}:00.0", "pci_device_id": PRODUCTS[key]["pci_device_ids"][-1]}
        for at, key in enumerate(keys)
    ]


@pytest.mark.parametrize("key", BUS)
def test_boards_on_the_bus_are_what_the_driver_will_show(key: str) -> None:
    found = gpus_on_bus(boards(key, key))
    assert found is not None
    expected = [gpu(key, index, mode="disabled") for index in range(2)]
    for field in COMPARED:
        assert [one[field] for one in found] == [one[field] for one in expected], field
    assert [one["pci_bus_id"] for one in found] == ["0000:01:00.0", "0000:02:00.0"]


@pytest.mark.parametrize(
    ("layout", "said"),
    [
        ([{"gpus": "all", "instance": {"3g.20gb": 2}}], WRONG),
        ([{"gpus": "all", "instances": {"3g.20gb": 3}}], "GPU 0-1 (NVIDIA A100-SXM4-40GB) cannot hold 3 x 3g.20gb"),
        ([{"gpus": 2, "instances": {"3g.20gb": 2}}], "selects GPU 2, which is not there; there is 0, 1."),
        ([{"gpus": {"pci": "03:00.0"}, "instances": {"3g.20gb": 2}}], "there are 0000:01:00.0, 0000:02:00.0"),
        ([{"gpus": "all", "instances": {"3g.20gb": 2}}], None),
        ([{"gpus": {"pci": "02:00.0"}, "instances": {"3g.20gb": 2}}], None),
        (None, None),
        # Only the driver knows them.
        ([{"gpus": {"uuid": "GPU-1"}, "instances": {"3g.20gb": 2}}], None),
        ([{"gpus": "all", "instances": {"5g.99gb": 2}}], None),
    ],
)
def test_what_the_boards_cannot_be_is_known_before_the_driver(layout: Any, said: str | None) -> None:
    found = refusal(boards("a100-sxm4-40gb", "a100-sxm4-40gb"), layout, {}, "keep")
    assert found is None if said is None else found is not None and said in found


def test_nothing_is_known_of_boards_that_no_fact_describes() -> None:
    wrong = [{"gpus": "all", "instances": {"3g.20gb": 3}}]
    other = {"pci_bus_id": "0000:09:00.0", "pci_device_id": "0x1EB810DE"}
    assert gpus_on_bus([*boards("a100-sxm4-40gb"), other]) is None
    for unknown in ([], [other], [*boards("a100-sxm4-40gb"), other]):
        assert refusal(unknown, wrong, {}, "keep") is None
