# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""gpufleet.mig.uninstall on the real cluster: no release, label, annotation or file is left; site brings all back."""

from __future__ import annotations

import re

import pytest

from lab.conftest import DEMO_HOSTS, LAB, PlayResult, allocatable, kubectl, kubectl_json, on_host, play, run

OURS = re.compile(
    r"gpufleet\.io/.*|nvidia\.com/(device-plugin\.config|gpu\.(count|product)|mig\.strategy|gfd\.timestamp)"
)
FOLDERS = "/usr/local/lib/gpufleet-mig /etc/gpufleet-mig /var/lib/gpufleet-mig"


def left() -> list[str]:
    """All of ours that is on the nodes, in the cluster or on the hosts."""
    found = []
    for node in kubectl_json("get", "nodes")["items"]:
        metadata = node["metadata"]
        keys = [*(metadata.get("labels") or {}), *(metadata.get("annotations") or {})]
        found += [f"{metadata['name']}: {key}" for key in keys if OURS.fullmatch(key)]
    found += run(LAB / "bin" / "helm", "list", "--all-namespaces", "--short").stdout.split()
    found += kubectl("get", "daemonsets,pods", "-n", "nvidia-device-plugin", "-o", "name").split()
    found += kubectl("get", "lease", "-n", "kube-system", "gpufleet-rollout", "-o", "name", check=False).split()
    for host in DEMO_HOSTS:
        found += on_host(host, "sh", "-c", f"ls -d {FOLDERS} 2>/dev/null || true").split()
    return found


@pytest.mark.full
def test_nothing_is_left_and_site_brings_all_back(converged: PlayResult) -> None:
    offered = {host: allocatable(host) for host in DEMO_HOSTS}
    stood = {host: on_host(host, "nvidia-smi", "-L") for host in DEMO_HOSTS}
    assert len(left()) > 2 * len(DEMO_HOSTS)
    try:
        yes = ("gpufleet.mig.uninstall", "-e", "mig_confirm_uninstall=true")
        some = play(*yes, "--limit", "a100-none,h100-mixed", check=False)
        assert some.rc == 2
        assert "nvidia-device-plugin publishes for a100-mixed, a100-single too" in " ".join(some.output.split())
        assert {host: allocatable(host) for host in DEMO_HOSTS} == offered
        play(*yes)
        assert left() == []
        assert {host: on_host(host, "nvidia-smi", "-L") for host in DEMO_HOSTS} == stood
        assert play(*yes).changed() == {}
    finally:
        back = play("site.yml")
    assert back.output.count("verified") == len(DEMO_HOSTS)
    assert {host: allocatable(host) for host in DEMO_HOSTS} == offered
