# Copyright (c) 2026 gpufleet.mig maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The prediction against what the real device plugin and GPU feature discovery published: 216 captured states."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from unit.planner_support import Gpu, gpu

from ansible_collections.gpufleet.mig.plugins.module_utils._prediction import expected_labels, expected_resources

CAPTURES: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[2] / "facts" / "captured_publishers.json").read_text("utf-8")
)


def captured_gpu(index: int, fact: dict[str, Any]) -> Gpu:
    """A GPU of a capture as mig_info would return it."""
    on = gpu(fact["product"], index, mode="enabled" if fact["mig_enabled"] else "disabled")
    rows = {row["name"]: row for row in on["profiles"]}
    for number, one in enumerate(fact["instances"]):
        row = rows[one["profile"]]
        sizes = {ci["name"]: ci for ci in row["compute_profiles"]}
        on["instances"].append(
            {
                "profile": one["profile"],
                "start": one["start"],
                "size": row["size"],
                "gi_id": number,
                "busy": False,
                "compute_instances": [
                    {"profile": name, "ci_id": at, "multiprocessors": sizes[name]["multiprocessors"], "processes": []}
                    for at, name in enumerate(one["compute_instances"])
                ],
            }
        )
    return on


def captured_gpus(capture: dict[str, Any]) -> list[Gpu]:
    return [captured_gpu(index, fact) for index, fact in enumerate(capture["host"])]


def captured_host(capture: dict[str, Any]) -> dict[str, Any]:
    """The host facts of a capture; the captures tell the machine type only by its label."""
    return {
        "driver_version": capture["driver_version"],
        "cuda_version": capture["cuda_version"],
        "machine": "SimServer-1",
        "gpu_mode": "compute",
    }


def named(capture: dict[str, Any]) -> str:
    return f"{capture['case']}-{capture['strategy']}"


@pytest.mark.parametrize("capture", CAPTURES, ids=named)
def test_resources_are_those_that_the_device_plugin_registered(capture: dict[str, Any]) -> None:
    said = expected_resources(captured_gpus(capture), capture["strategy"])
    if capture["plugin_error"] is None:
        assert (said["resources"], said["error"]) == (capture["resources"], None)
    else:
        assert said["resources"] == {}
        assert capture["resources"] is None
        assert said["error"]
        assert capture["plugin_error"].endswith(said["error"])


@pytest.mark.parametrize("capture", CAPTURES, ids=named)
def test_labels_are_those_that_feature_discovery_wrote(capture: dict[str, Any]) -> None:
    said = expected_labels(captured_gpus(capture), capture["strategy"], captured_host(capture))
    allowed = [said["labels"], *said["alternatives"]]
    for seen in (capture["labels"], *capture.get("labels_alternatives", [])):
        assert seen in allowed
    invalid = capture["labels"]["nvidia.com/gpu.product"].endswith("-MIG-INVALID")
    assert bool(said["error"]) == invalid


def test_an_empty_mig_gpu_may_be_counted_or_not_by_the_strategy_none_alone() -> None:
    """A plugin whose container is older counts it; to one that is made now nothing of it is given."""
    node = [gpu("h100-sxm5-80gb", index, mode="disabled" if index else "enabled") for index in range(3)]
    sharing = {"version": "v1", "sharing": {"timeSlicing": {"resources": [{"name": "nvidia.com/gpu", "replicas": 4}]}}}
    for config, each in ((None, 1), (sharing, 4)):
        said = expected_resources(node, "none", config)
        assert said["resources"] == {"nvidia.com/gpu": 3 * each}
        assert said["resource_alternatives"] == [{"nvidia.com/gpu": 2 * each}]
    assert expected_resources(node, "mixed")["resource_alternatives"] == []
    assert expected_resources(node[1:], "none")["resource_alternatives"] == []
