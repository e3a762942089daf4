# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""Pods get what they asked for and nothing else: two tenants of one GPU, and a pod that asked for nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from subprocess import CompletedProcess
from typing import Any

import pytest

from lab.conftest import ROOT, PlayResult, on_host, play, run

Inside = Callable[[str], "CompletedProcess[str]"]
SETTING = "accept-nvidia-visible-devices-envvar-when-unprivileged"
TENANTS = (("3g.20gb", "tenant-large"), ("1g.5gb", "tenant-small"))
FILE = "/etc/nvidia-container-runtime/config.toml"
WORDS = "the container toolkit gives an unprivileged pod every GPU"
ONLY_SETTINGS = {
    "container_toolkit_manage": True,
    "container_toolkit_packages": [],
    "container_toolkit_runtime": "none",
    "container_toolkit_cdi": False,
}


def uuids(inside: Inside) -> set[str]:
    return set(re.findall(r"UUID: (MIG-[^)]+)", inside("nvidia-smi -L").stdout))


def own_nodes(inside: Inside) -> set[int]:
    return {int(minor) for minor in re.findall(r"nvidia-cap(\d+)", inside("ls /dev/nvidia-caps").stdout)}


def opened(inside: Inside, major: str, minor: int) -> str:
    """What a program in the pod is told that makes the node itself and opens it."""
    return inside(f"rm -f /tmp/node; mknod /tmp/node c $(({major})) {minor} && cat /tmp/node").stderr


def test_two_tenants_of_one_gpu_reach_only_their_own_instance(converged: PlayResult, pod_on: Any) -> None:
    tenants = [pod_on("a100-mixed", f"nvidia.com/mig-{profile}", name) for profile, name in TENANTS]
    seen = [uuids(tenant) for tenant in tenants]
    assert [len(each) for each in seen] == [1, 1]
    assert seen[0] != seen[1]
    nodes = [own_nodes(tenant) for tenant in tenants]
    major = on_host("a100-mixed", "stat", "-c", "0x%t", f"/dev/nvidia-caps/nvidia-cap{min(nodes[0])}").strip()
    for mine, tenant, neighbours in ((nodes[0], tenants[0], nodes[1]), (nodes[1], tenants[1], nodes[0])):
        # a GPU instance and a compute instance each; no other node of them is in the container
        assert len(mine) == 2
        assert mine.isdisjoint(neighbours)
        for minor in neighbours:
            assert "No such file" in tenant(f"cat /dev/nvidia-caps/nvidia-cap{minor}").stderr
            assert "Operation not permitted" in opened(tenant, major, minor)
        # what its own node answers is the kernel's: no driver is behind the number
        assert all("Operation not permitted" not in opened(tenant, major, minor) for minor in mine)


@pytest.fixture
def open_host(converged: PlayResult) -> Iterator[str]:
    """A host with NVIDIA's own default."""
    host = "a100-single"
    on_host(host, "nvidia-ctk", "config", f"--config-file={FILE}", "--in-place", "--set", f"{SETTING}=true")
    yield host
    on_host(host, "nvidia-ctk", "config", f"--config-file={FILE}", "--in-place", "--set", f"{SETTING}=false")


@pytest.mark.full
def test_a_pod_that_asked_for_nothing_sees_nothing_once_the_role_has_closed_the_toolkit(
    open_host: str, pod_on: Any
) -> None:
    asks = {"environment": {"NVIDIA_VISIBLE_DEVICES": "all"}, "runtimeClassName": "nvidia"}
    everything = set(re.findall(r"UUID: (MIG-[^)]+)", on_host(open_host, "nvidia-smi", "-L")))
    assert len(everything) == 7
    assert uuids(pod_on(open_host, name="before", **asks)) == everything
    noted = play("playbooks/verify.yml", "--limit", open_host)
    assert f"{open_host}: {WORDS}" in re.sub(r"\s+", " ", noted.output)
    failed = play("playbooks/verify.yml", "--limit", open_host, "-e", "container_toolkit_manage=true", check=False)
    assert failed.rc == 2
    assert WORDS in re.sub(r"\s+", " ", failed.output)

    role = ["-m", "include_role", "-a", "name=gpufleet.mig.container_toolkit", "-e", json.dumps(ONLY_SETTINGS)]
    said = [
        run("ansible", "-i", "inventories/demo", open_host, *role, ANSIBLE_CONFIG=str(ROOT / "ansible.cfg")).stdout
        for _ in range(2)
    ]
    assert ["CHANGED" in each for each in said] == [True, False], said
    inside = pod_on(open_host, name="after", **asks)
    told = inside("nvidia-smi -L")
    assert told.returncode != 0
    assert "UUID" not in told.stdout
    assert "No such file" in inside("cat /dev/nvidia0").stderr
    nodes = on_host(open_host, "sh", "-c", "stat -c '0x%t 0x%T' /dev/nvidia0 /dev/nvidia-caps/*").split()
    for major, minor in zip(nodes[::2], nodes[1::2], strict=True):
        assert "Operation not permitted" in opened(inside, major, int(minor, 16)), (major, minor)
    clean = play("playbooks/verify.yml", "--limit", open_host, "-e", "container_toolkit_manage=true")
    assert WORDS not in re.sub(r"\s+", " ", clean.output)
