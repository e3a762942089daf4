# Copyright (c) 2026 gpufleet.mig maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The text picture of a GPU's memory slices."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from unit.planner_support import PLANNABLE, Gpu, gpu, instance, no_mig_gpu, standing

from ansible_collections.gpufleet.mig.plugins.filter.slice_map import slice_map
from ansible_collections.gpufleet.mig.plugins.module_utils._planner import plan_host


def h100(*instances: tuple[str, int], **mode: Any) -> Gpu:
    on = gpu("h100-sxm5-80gb", **mode)
    return standing(on, *(instance(on, name, start) for name, start in instances))


def test_every_instance_is_as_wide_as_its_slices() -> None:
    assert (
        slice_map(h100(("2g.20gb", 2), ("1g.10gb", 0), ("1g.10gb", 1)))
        == "|1g.10gb|1g.10gb|2g.20gb........|-------|-------|-------|-------|"
    )
    assert slice_map(h100(("3g.40gb", 4), ("3g.40gb", 0))) == "|3g.40gb....|3g.40gb....|"
    assert slice_map(h100()) == "|--|--|--|--|--|--|--|--|"


def test_busy_and_unusual_insides_show() -> None:
    on = gpu("h100-sxm5-80gb")
    on = standing(
        on,
        instance(on, "4g.40gb", 0, compute=[("1c.4g.40gb", 0, True), ("2c.4g.40gb", 2, False)]),
        instance(on, "1g.10gb", 5, busy=True),
        instance(on, "1g.10gb", 6, compute=[]),
    )
    assert slice_map(on).split("|")[1:-1] == [
        "4g.40gb(1c+2c)*".ljust(4 * 12 - 1, "."),
        "-" * 11,
        "1g.10gb*...",
        "1g.10gb(0c)",
        "-" * 11,
    ]


def test_what_has_no_instances_is_said_in_words() -> None:
    assert slice_map(no_mig_gpu()) == "no MIG"
    assert slice_map(h100(mode="disabled")) == "MIG disabled"
    assert slice_map(h100(mode="disabled", pending="enabled")) == "MIG disabled (enabled pending)"
    assert slice_map(h100(pending="disabled")) == "|--|--|--|--|--|--|--|--| (disabled pending)"


def test_a_board_that_nobody_knows_shows_what_its_instances_cover() -> None:
    unknown = {**gpu("h100-sxm5-80gb", nvml=False), "name": "NVIDIA B999", "pci_device_id": "0x999910DE"}
    assert slice_map(unknown) == "MIG enabled, places unknown"
    on = {**unknown, "instances": [{"profile": "1g.9gb", "start": 1, "size": 1, "compute_instances": []}]}
    assert slice_map(on) == "|----------|1g.9gb(0c)|"


def test_before_and_after_have_one_scale() -> None:
    before = [h100(*(("1g.10gb", start) for start in range(7))), {**no_mig_gpu(), "index": 1}]
    after = plan_host(before, [{"gpus": 0, "instances": {"3g.40gb": 2}}])["after"]
    pictures = slice_map(before, after)
    assert pictures[0]["after"] == f"|{'3g.40gb'.ljust(31, '.')}|{'3g.40gb'.ljust(31, '.')}|"
    assert len(pictures[0]["before"]) == len(pictures[0]["after"]) == 65
    assert pictures[1] == {"before": "no MIG", "after": "no MIG"}
    assert slice_map(before[0], after[0]) == pictures[0]


@pytest.mark.parametrize("key", PLANNABLE)
def test_borders_stand_at_multiples_of_one_width(key: str) -> None:
    """Every profile of every product at every place: the picture has the length of the board, the name is whole."""
    on = gpu(key)
    for row in on["profiles"]:
        for start in row["starts"]:
            picture = slice_map(standing(on, instance(on, row["name"], start)))
            slices = max(one["size"] + max(one["starts"]) for one in on["profiles"])
            width, rest = divmod(len(picture) - 1, slices)
            assert rest == 0
            assert picture[start * width] == picture[(start + row["size"]) * width] == "|"
            assert picture[start * width + 1 :].startswith(row["name"])


@pytest.mark.parametrize("wrong", [None, "x", [1], {"index": 0}])
def test_something_else_than_gpus(wrong: Any) -> None:
    with pytest.raises(AnsibleFilterError, match="slice_map works on a GPU, or the list"):
        slice_map(wrong)


def test_before_and_after_of_different_hosts() -> None:
    with pytest.raises(AnsibleFilterError, match="got GPU 0 before and GPU 0, 1 after"):
        slice_map([h100()], [h100(), no_mig_gpu(1)])
