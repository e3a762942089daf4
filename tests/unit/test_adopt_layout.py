# Copyright (c) 2026 gpufleet.mig maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""An adopted layout leaves everything as it stands, whatever stands; and it is short enough to be read."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from unit.planner_support import Gpu, gpu, instance, no_mig_gpu, standing
from unit.test_planner_optimum import gpus

from ansible_collections.gpufleet.mig.plugins.module_utils._adopt import adopted_layout, adopted_vars, left_out
from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError
from ansible_collections.gpufleet.mig.plugins.module_utils._planner import plan_host


@st.composite
def hosts(draw: st.DrawFn) -> list[Gpu]:
    """Hosts with random packings, modes that are off or pending, GPUs that are alike, and boards without MIG."""
    found: list[Gpu] = []
    for index in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(["standing", "standing", "same", "off", "pending_on", "pending_off", "no_mig"]))
        board = draw(st.sampled_from(["a100-sxm4-40gb", "h100-sxm5-80gb", "a30"]))
        if kind == "no_mig":
            made = no_mig_gpu()
        elif kind == "off":
            made = gpu(board, mode="disabled", nvml=board.startswith("h"))
        elif kind == "pending_on":
            made = gpu(board, mode="disabled", pending="enabled", nvml=False)
        else:
            made = found[-1] if kind == "same" and found else draw(gpus())
        if kind == "pending_off":
            made = {**made, "mig_mode": {"current": "enabled", "pending": "disabled"}}
        by_start = sorted(made["instances"], key=lambda one: int(one["start"]))  # as mig_info lists them
        found.append({**made, "index": index, "uuid": f"GPU-{index}", "instances": by_start})
    return found


def changes_nothing(host: list[Gpu]) -> None:
    variables = yaml.safe_load(yaml.safe_dump(adopted_vars(host)))  # as it comes back from the file
    for elsewhere in ("keep", "disable", "fail"):  # what group_vars may say
        unlisted = variables.get("mig_unlisted_gpus", elsewhere)
        plan = plan_host(host, variables["mig_layout"], unlisted=unlisted)
        assert plan["feasible"], plan["reason"]
        assert plan["changed"] is False
        assert plan["after"] == host


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(hosts())
def test_nothing_changes_on_any_host(host: list[Gpu]) -> None:
    changes_nothing(host)
    pending = [one for one in host if len(set(one["mig_mode"].values())) > 1]
    assert len(left_out(host)) >= len(pending)


@pytest.mark.full
@settings(max_examples=10000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(hosts())
def test_nothing_changes_on_very_many_hosts(host: list[Gpu]) -> None:
    changes_nothing(host)


def test_the_adopted_layout_says_everything_that_stands() -> None:
    """One instance more or less, or one compute instance at another place, is not what was adopted."""
    on = gpu("h100-sxm5-80gb")
    bare = instance(on, "2g.20gb", 4, compute=[])
    partial = instance(on, "3g.40gb", 0, compute=[("1c.3g.40gb", 2, False)])
    host = [standing(on, partial, bare)]
    layout = adopted_layout(host)
    assert layout == [
        {
            "gpus": 0,
            "instances": [
                {"profile": "3g.40gb", "start": 0, "compute_instances": [{"profile": "1c.3g.40gb", "start": 2}]},
                {"profile": "2g.20gb", "start": 4, "compute_instances": []},
            ],
        }
    ]
    for other in (
        [standing(on, partial)],
        [standing(on, partial, bare, instance(on, "1g.10gb", 6))],
        [standing(on, partial, instance(on, "2g.20gb", 4))],
        [standing(on, instance(on, "3g.40gb", 0, compute=[("1c.3g.40gb", 0, False)]), bare)],
    ):
        assert plan_host(other, layout)["changed"] is True


def test_equal_gpus_share_an_entry() -> None:
    on = gpu("h100-sxm5-80gb")
    full = standing(on, *(instance(on, "1g.10gb", start) for start in range(7)))
    host = [{**full, "index": n} for n in (0, 1, 2)] + [
        {**on, "index": 3},
        {**gpu("h100-sxm5-80gb", mode="disabled"), "index": 4},
        {**full, "index": 6},
        {**on, "index": 5},
        no_mig_gpu(7),
    ]
    layout = adopted_layout(host)
    assert [(entry["gpus"], entry.get("mig")) for entry in layout] == [
        ([0, 1, 2, 6], None),
        ([3, 5], "enabled"),
        (4, "disabled"),
    ]
    assert adopted_layout(host[:3])[0]["gpus"] == "0-2"
    assert left_out(host) == []


def test_a_pending_mode_and_an_unknown_profile_are_left_as_they_are() -> None:
    on = gpu("a100-sxm4-40gb", 1)
    foreign = standing(on, {**instance(on, "1g.5gb", 0), "profile": "1g.7gb"})
    host = [gpu("a100-sxm4-40gb", mode="disabled", pending="enabled"), foreign]
    assert adopted_vars(host) == {"mig_layout": [], "mig_unlisted_gpus": "keep"}
    pending, unknown = left_out(host)
    assert "GPU 0" in pending
    assert "enabled is pending" in pending
    assert "1g.7gb" in unknown
    changes_nothing(host)


def test_the_strategy_comes_from_the_nodes_label() -> None:
    label = "nvidia.com/mig.strategy"
    assert adopted_vars([no_mig_gpu()], {label: "single"})["mig_strategy"] == "single"
    assert "mig_strategy" not in adopted_vars([no_mig_gpu()], {label: "other"})
    assert "mig_strategy" not in adopted_vars([no_mig_gpu()])
    # feature discovery sets no label for the strategy none
    assert adopted_vars([no_mig_gpu()], {"nvidia.com/gpu.count": "1"})["mig_strategy"] == "none"


def test_places_that_were_not_read_are_refused() -> None:
    on = gpu("a100-sxm4-40gb")
    host: list[dict[str, Any]] = [standing(on, {**instance(on, "1g.5gb", 0), "start": None})]
    with pytest.raises(MigError, match=r"only root .* Nothing was written"):
        adopted_layout(json.loads(json.dumps(host)))
