# Copyright (c) 2026 gpufleet.mig maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""GPUs that only the inventory describes are what the facts file says, read here without the collection's table."""

from __future__ import annotations

from typing import Any

import pytest
from unit.planner_support import PLANNABLE, PRODUCTS, gpu

from ansible_collections.gpufleet.mig.plugins.module_utils._errors import LayoutError
from ansible_collections.gpufleet.mig.plugins.module_utils._hardware import gpus_of

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
