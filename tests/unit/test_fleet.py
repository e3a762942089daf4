# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""Who shares a cluster, and the table at the end of a run."""

from __future__ import annotations

from typing import Any

from ansible_collections.gpufleet.mig.plugins.module_utils._fleet import clusters, fleet_table, same_cluster

HOSTVARS: dict[str, dict[str, Any]] = {
    "gpu-01": {"mig_kubeconfig": "prod"},
    "gpu-02": {"mig_kubeconfig": "prod", "mig_kubernetes": "yes"},
    "gpu-03": {"mig_kubeconfig": "prod", "mig_kube_context": "other"},
    "slurm-1": {"mig_kubernetes": False},
    "slurm-2": {"mig_kubeconfig": "prod", "mig_kubernetes": "no"},
}


def test_hosts_share_a_cluster_by_kubeconfig_and_context() -> None:
    assert same_cluster(HOSTVARS, HOSTVARS, "gpu-02") == ["gpu-01", "gpu-02"]
    assert same_cluster(HOSTVARS, HOSTVARS, "gpu-03") == ["gpu-03"]


def test_a_host_outside_kubernetes_is_in_no_cluster() -> None:
    assert same_cluster(HOSTVARS, HOSTVARS, "slurm-1") == []
    assert same_cluster(HOSTVARS, HOSTVARS, "slurm-2") == []


class Looked(dict[str, dict[str, Any]]):
    """Variables of hosts as Ansible gives them, each looked up at a price."""

    def __init__(self, variables: dict[str, dict[str, Any]]) -> None:
        super().__init__(variables)
        self.at: list[str] = []

    def __getitem__(self, host: str) -> dict[str, Any]:
        self.at.append(host)
        return super().__getitem__(host)


def test_what_a_play_has_found_out_once_is_not_looked_up_for_every_host() -> None:
    known = clusters(HOSTVARS, HOSTVARS)
    assert known == {
        "gpu-01": ["prod", ""],
        "gpu-02": ["prod", ""],
        "gpu-03": ["prod", "other"],
        "slurm-1": [],
        "slurm-2": [],
    }
    hostvars = Looked({**HOSTVARS, "localhost": {"gpufleet_clusters": known}})
    for host in HOSTVARS:
        assert same_cluster(hostvars, HOSTVARS, host) == same_cluster(HOSTVARS, HOSTVARS, host)
    assert set(hostvars.at) == {"localhost"}
    # A host that the play did not know then.
    hostvars["gpu-09"] = {"mig_kubeconfig": "prod"}
    assert same_cluster(hostvars, hostvars, "gpu-09") == ["gpu-01", "gpu-02", "gpu-09"]


def gpu(index: int, mode: str = "disabled", instances: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    return {
        "index": index,
        "name": "NVIDIA A100-SXM4-40GB",
        "pci_device_id": "0x20B010DE",
        "mig_mode": {"current": mode, "pending": mode},
        "profiles": [],
        "instances": instances or [],
    }


def test_the_table_shows_places_resources_and_the_verdict() -> None:
    half: list[dict[str, Any]] = [
        {"profile": "3g.20gb", "start": 4, "size": 4, "compute_instances": [{"profile": "3g.20gb"}]}
    ]
    reports: list[dict[str, Any]] = [
        {"host": "gpu-01", "strategy": "mixed", "gpus": [gpu(0), gpu(1, "enabled", half)], "problems": [],
         "allocatable": {"nvidia.com/gpu": "1", "nvidia.com/mig-3g.20gb": "0"}, "leftovers": ["pod x was refused"]},
        {"host": "slurm-1", "strategy": "none", "gpus": [gpu(0)], "problems": [f"difference {n}" for n in range(7)],
         "allocatable": None},
    ]  # fmt: skip
    lines = fleet_table(reports).splitlines()
    assert lines[0].split() == ["NODE", "GPU", "MODEL", "MIG", "INSTANCES", "(memory", "slices)"]
    assert "whole GPU" in lines[1]
    assert lines[1].startswith("gpu-01 ")
    assert lines[2].endswith("|--|--|--|--|3g.20gb....|")
    assert lines[3] == "gpu-01   = allocatable nvidia.com/gpu: 1; strategy mixed; verified"
    assert lines[4] == "gpu-01   pod x was refused"
    assert lines[6] == "slurm-1  = in no cluster; NOT VERIFIED"
    assert lines[-1].endswith("and 2 more differences")
