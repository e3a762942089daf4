# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""What the demo promises, read back with plain kubectl."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from lab.conftest import DEMO_HOSTS, ROOT, PlayResult, allocatable, kubectl_json, on_host, play, publisher_pods, run

# What each node must offer, worked out by hand from the layouts of inventories/demo.
ALLOCATABLE = {
    "a100-none": {"nvidia.com/gpu": 1},
    "a100-single": {"nvidia.com/gpu": 7},
    "a100-mixed": {"nvidia.com/mig-3g.20gb": 1, "nvidia.com/mig-2g.10gb": 1, "nvidia.com/mig-1g.5gb": 1},
    # GPUs 0-1: 7 x 1g each; 2-3: all-balanced (2 x 1g, 1 x 2g, 1 x 3g); 4: 2 x 3g; 5: 4 x 1g.20gb; 6-7: whole GPUs.
    "h100-mixed": {
        "nvidia.com/gpu": 2,
        "nvidia.com/mig-1g.10gb": 18,
        "nvidia.com/mig-2g.20gb": 2,
        "nvidia.com/mig-3g.40gb": 4,
        "nvidia.com/mig-1g.20gb": 4,
    },
}

# Selected labels as feature discovery publishes them for these products (facts/README.md names the sources).
LABELS: dict[str, dict[str, str]] = {
    "a100-none": {
        "gpu.product": "NVIDIA-A100-SXM4-40GB",
        "gpu.count": "1",
        "gpu.replicas": "1",
        "gpu.memory": "40960",
        "gpu.family": "ampere",
        "mig.capable": "true",
        "cuda.driver-version.full": "580.82.07",
    },
    "a100-single": {
        "gpu.product": "NVIDIA-A100-SXM4-40GB-MIG-1g.5gb",
        "gpu.count": "7",
        "gpu.replicas": "1",
        "gpu.memory": "4864",
        "gpu.multiprocessors": "14",
        "gpu.slices.gi": "1",
        "gpu.slices.ci": "1",
        "gpu.engines.copy": "1",
        "mig.strategy": "single",
    },
    "a100-mixed": {
        "gpu.product": "NVIDIA-A100-SXM4-40GB",
        "gpu.count": "1",
        "gpu.replicas": "0",
        "mig.strategy": "mixed",
        "mig-3g.20gb.count": "1",
        "mig-3g.20gb.multiprocessors": "42",
        "mig-3g.20gb.slices.gi": "3",
        "mig-2g.10gb.count": "1",
        "mig-1g.5gb.count": "1",
        "mig-1g.5gb.product": "NVIDIA-A100-SXM4-40GB-MIG-1g.5gb",
    },
    "h100-mixed": {
        "gpu.product": "NVIDIA-H100-80GB-HBM3",
        "gpu.count": "8",
        "gpu.replicas": "1",
        "gpu.memory": "81559",
        "gpu.family": "hopper",
        "mig.strategy": "mixed",
        "mig-1g.10gb.count": "18",
        "mig-2g.20gb.count": "2",
        "mig-3g.40gb.count": "4",
        "mig-3g.40gb.multiprocessors": "60",
        "mig-1g.20gb.count": "4",
        "mig-1g.20gb.multiprocessors": "26",
        "mig-1g.20gb.slices.gi": "1",
    },
}


@pytest.mark.parametrize("node", DEMO_HOSTS)
def test_allocatable_is_exactly_what_the_inventory_says(converged: PlayResult, node: str) -> None:
    assert allocatable(node) == ALLOCATABLE[node]


@pytest.mark.parametrize("node", DEMO_HOSTS)
def test_labels_are_those_of_feature_discovery(converged: PlayResult, node: str) -> None:
    labels = kubectl_json("get", "node", node)["metadata"]["labels"]
    assert {key: labels.get(f"nvidia.com/{key}") for key in LABELS[node]} == LABELS[node]
    if node == "a100-none":
        assert "nvidia.com/mig.strategy" not in labels
    if node != "a100-mixed":
        assert not [key for key in labels if key.startswith("nvidia.com/mig-3g.20gb")]


def test_the_run_ends_with_a_table_of_every_node(converged: PlayResult) -> None:
    for node in DEMO_HOSTS:
        assert node in converged.output
    assert "3g.20gb" in converged.output


def test_second_run_changes_nothing_and_restarts_no_pod(converged: PlayResult) -> None:
    before = publisher_pods()
    for host in DEMO_HOSTS:
        on_host(host, "simctl", "clear-log")
    again = play("site.yml")
    assert again.changed() == {}
    assert set(again.recap) >= set(DEMO_HOSTS)
    assert publisher_pods() == before
    for host in DEMO_HOSTS:
        assert on_host(host, "simctl", "log", "--writes").strip() == ""


def test_check_mode_says_the_same_and_changes_nothing(converged: PlayResult) -> None:
    assert play("site.yml", "--check", "--diff").changed() == {}


@pytest.mark.parametrize(
    ("node", "resource"),
    [
        ("a100-single", "nvidia.com/gpu"),
        ("a100-mixed", "nvidia.com/mig-2g.10gb"),
        ("h100-mixed", "nvidia.com/mig-1g.10gb"),
    ],
)
def test_a_pod_sees_its_own_instance_and_cannot_open_its_neighbours(
    converged: PlayResult, pod_on: Any, node: str, resource: str
) -> None:
    inside = pod_on(node, resource)
    listed = inside("nvidia-smi -L")
    assert listed.returncode == 0, listed.stderr
    assert len(re.findall(r"UUID: MIG-", listed.stdout)) == 1, listed.stdout

    # Its own capability nodes, and one that mig-minors names but the pod was not given.
    own = {int(minor) for minor in re.findall(r"nvidia-cap(\d+)", inside("ls /dev/nvidia-caps").stdout)}
    minors = inside("cat /proc/driver/nvidia-caps/mig-minors").stdout
    existing = {int(minor) for minor in re.findall(r"nvidia-cap(\d+)", on_host(node, "ls", "/dev/nvidia-caps"))}
    named = {int(line.split()[1]) for line in minors.splitlines() if line.startswith("gpu")}
    neighbour = min(named & existing - own)
    mine = min(named & own)
    opens = """
        major=$(( $(stat -c 0x%t /dev/nvidia-caps/nvidia-cap{own}) ))
        rm -f /tmp/node; mknod /tmp/node c $major {minor} && cat /tmp/node
    """
    refused = inside(opens.format(own=mine, minor=neighbour))
    assert "Operation not permitted" in refused.stderr, refused
    # Its own node passes the device cgroup: what fails then is only that no driver is behind the number.
    allowed = inside(opens.format(own=mine, minor=mine))
    assert "Operation not permitted" not in allowed.stderr, allowed


def test_moving_one_gpu_changes_only_that_gpu(converged: PlayResult) -> None:
    """GPU 1 of h100-mixed from 7 x 1g to 2 x 3g, as a user would by an edit of host_vars."""
    layout = [
        {"gpus": [0], "instances": {"1g.10gb": 7}},
        {"gpus": [1], "instances": {"3g.40gb": 2}},
        {"gpus": [2, 3], "preset": "all-balanced"},
        {"gpus": [4], "instances": {"3g.40gb": 2}},
        {"gpus": [5], "instances": {"1g.20gb": 4}},
        {"gpus": "rest", "mig": "disabled"},
    ]
    on_host("h100-mixed", "simctl", "clear-log")
    try:
        play("site.yml", "--limit", "h100-mixed", "-e", json.dumps({"mig_layout": layout}))
        assert allocatable("h100-mixed") == {
            **ALLOCATABLE["h100-mixed"],
            "nvidia.com/mig-1g.10gb": 11,
            "nvidia.com/mig-3g.40gb": 6,
        }
        writes = on_host("h100-mixed", "simctl", "log", "--writes")
        assert writes
        assert set(re.findall(r"gpu=(\d+)", writes)) == {"1"}, writes
    finally:
        play("site.yml", "--limit", "h100-mixed")
    assert allocatable("h100-mixed") == ALLOCATABLE["h100-mixed"]


@pytest.mark.full
def test_a_plugin_that_still_publishes_instances_of_the_past_is_found_and_restarted(converged: PlayResult) -> None:
    """As after a run that was killed between the layout and the restart: the counts are right, the UUIDs are not."""
    host = "a100-mixed"
    wanted = [{"gpus": "all", "instances": {"3g.20gb": 1, "2g.10gb": 1, "1g.5gb": 1}}]
    before = publisher_pods()
    for layout in ("all-enabled", wanted):
        module = ["-m", "gpufleet.mig.mig_layout", "-a", json.dumps({"layout": layout})]
        run("ansible", "-i", "inventories/demo", host, *module, ANSIBLE_CONFIG=str(ROOT / "ansible.cfg"))
    assert allocatable(host) == ALLOCATABLE[host]
    found = play("playbooks/verify.yml", "--limit", host, check=False)
    assert found.rc == 2
    assert "still gives out MIG-" in found.output

    play("site.yml", "--limit", host)
    gone = [name for uid, name in before.items() if uid not in publisher_pods()]
    assert len(gone) == 2, "the device plugin and feature discovery of this node, and no other pod"
    assert "still gives out" not in play("playbooks/verify.yml", "--limit", host).output
