# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""Others act on the cluster while the node is being changed."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from drills.conftest import (
    KUBECTL,
    NEW,
    NODE,
    apply,
    as_before,
    as_wanted,
    bare_pod,
    budget,
    container_of,
    deployment,
    given_back,
    node_now,
    rollout,
    until,
    words,
    writes,
)
from lab.conftest import allocatable, kubectl, kubectl_json, on_host, play

EVICT = "Cordon the node and evict these pods"
LOOK = "Look again directly before the change"


def test_somebody_makes_the_node_schedulable_in_the_gap(stays: tuple[str, str]) -> None:
    """Pods may start on it again, so nothing is changed, and the node stays as that person left it."""
    result = rollout(at=LOOK, do=f"{KUBECTL} uncordon {NODE}")
    assert result.rc == 2
    assert "made schedulable by somebody else" in words(result)
    as_before()
    assert container_of("stays") == stays


@pytest.mark.full
def test_a_new_pod_comes_in_the_gap(stays: tuple[str, str]) -> None:
    """A pod that was bound past the scheduler, as a DaemonSet's is, has the instance: the change does not begin."""
    pod = bare_pod("late", "nvidia.com/mig-2g.10gb", nodeName=NODE, tolerations=[{"operator": "Exists"}])
    wait = f"{KUBECTL} wait pod/late --for=condition=Ready --timeout=60s"
    result = rollout(at=LOOK, do=f"echo {shlex.quote(json.dumps(pod))} | {KUBECTL} apply -f - && {wait}")
    assert result.rc == 2
    assert "default/late" in words(result)
    as_before()
    assert container_of("stays") == stays


@pytest.mark.full
def test_two_runs_at_once(stays: tuple[str, str], tmp_path: Path) -> None:
    """The second is refused, names the first, and touches nothing; the first ends as if alone."""
    assert play("site.yml", "--limit", "a100-single").rc == 0  # the second has something to change, also on a new lab
    second = "ansible-playbook -i inventories/demo playbooks/rollout.yml --limit a100-single -e mig_layout=all-disabled"
    said = tmp_path / "second"
    result = rollout(at=EVICT, do=f"env -u DRILL_COMMAND {second} > {said} 2>&1; test $? -eq 2")
    assert result.rc == 0, result.output[-4000:]
    assert "Another roll-out holds the lock" in " ".join(said.read_text().split())
    as_wanted()
    assert container_of("stays") == stays
    assert allocatable("a100-single") == {"nvidia.com/gpu": 7}


@pytest.mark.full
def test_the_lock_is_deleted_under_us(stays: tuple[str, str]) -> None:
    """Another run might begin now: this one changes nothing further. The same command again finishes the node."""
    result = rollout(at=LOOK, do=f"{KUBECTL} delete lease -n kube-system gpufleet-rollout")
    assert result.rc == 2
    assert "gpufleet-rollout in namespace kube-system is not" in words(result)
    assert writes() == ""
    assert rollout().rc == 0
    as_wanted()
    assert container_of("stays") == stays


@pytest.mark.full
def test_a_budget_is_freed_while_the_run_waits(stays: tuple[str, str]) -> None:
    apply(budget("goes", 1))
    free = f"(sleep 3; {KUBECTL} delete pdb goes) >/dev/null 2>&1 &"
    result = rollout(at=EVICT, when="runs", do=free, mig_evict_timeout=60)
    assert result.rc == 0, result.output[-4000:]
    as_wanted()
    assert container_of("stays") == stays


@pytest.mark.full
def test_an_unmanaged_pod_with_data(stays: tuple[str, str]) -> None:
    """Each of the two has its own opt-in, and without both no pod at all is evicted."""
    kubectl("delete", "deployment", "goes", "--now", "--wait=true", "--cascade=foreground")
    volume = [{"name": "scratch", "emptyDir": {}}]
    apply(bare_pod("precious", "nvidia.com/mig-2g.10gb", volumes=volume))
    precious = container_of("precious")
    for unmanaged, data in ((False, False), (True, False), (False, True)):
        result = rollout(mig_evict_unmanaged=unmanaged, mig_evict_emptydir=data)
        assert result.rc == 2
        assert "default/precious" in words(result)
        as_before()
        assert container_of("precious") == precious
    assert rollout(mig_evict_unmanaged=True, mig_evict_emptydir=True).rc == 0
    as_wanted()
    assert container_of("stays") == stays


@pytest.mark.full
def test_the_api_answers_500_to_an_eviction(stays: tuple[str, str]) -> None:
    """An admission webhook that is down: the node is given back, and the sentence has the API's words."""
    hook = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "drill"},
        "webhooks": [
            {
                "name": "down.drill.test",
                "admissionReviewVersions": ["v1"],
                "sideEffects": "None",
                "failurePolicy": "Fail",
                "timeoutSeconds": 1,
                "clientConfig": {"url": "https://127.0.0.1:9/"},
                "rules": [
                    {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods/eviction"]}
                ],
            }
        ],
    }
    apply(hook)
    try:
        result = rollout()
    finally:
        kubectl("delete", "validatingwebhookconfiguration", "drill")
    assert result.rc == 2
    assert "down.drill.test" in words(result)
    as_before()


@pytest.mark.full
def test_a_deployment_keeps_asking_while_the_plugin_restarts(stays: tuple[str, str]) -> None:
    """Pods wait for the very instances that are made: none is refused, and no instance is given twice."""
    asking = deployment("asks", "nvidia.com/mig-1g.5gb")
    asking["spec"]["replicas"] = 6
    apply(asking)
    container_of("asks")
    assert rollout().rc == 0

    def all_three() -> list[dict[str, Any]]:
        pods = kubectl_json("get", "pods", "-l", "app=asks", "--field-selector", "status.phase=Running")["items"]
        return pods if len(pods) == 3 else []

    names = [pod["metadata"]["name"] for pod in until("three of six pods", all_three)]
    seen = [re.findall(r"UUID: (MIG-[0-9a-f-]+)", kubectl("exec", name, "--", "nvidia-smi", "-L")) for name in names]
    assert [len(uuids) for uuids in seen] == [1, 1, 1]
    assert len({uuid for uuids in seen for uuid in uuids}) == 3
    as_wanted()
    assert container_of("stays") == stays


@pytest.mark.full
def test_somebody_pauses_the_fleet_while_the_first_node_is_changed(stays: tuple[str, str]) -> None:
    """Never in the middle of a node: the first is finished, the second not begun; the same command goes on later."""
    first, note = "a100-single", "-n kube-system annotate lease gpufleet-rollout gpufleet.io/paused"
    both: dict[str, Any] = {"nodes": f"{first},{NODE}", "mig_waves": [1, "100%"], "mig_strategy": "mixed"}
    try:
        result = rollout(at="Bring the GPUs to the layout", do=f"{KUBECTL} {note}=work", **both)
        assert result.rc == 2
        assert "the fleet is paused (gpufleet.io/paused=work)" in words(result)
        assert allocatable(first) == NEW
        given_back(first)
        as_before()
    finally:
        kubectl(*f"{note}-".split())
    assert rollout(**both).rc == 0
    as_wanted()
    assert container_of("stays") == stays
    play("site.yml", "--limit", first)


@pytest.mark.full
def test_a_person_has_cordoned_the_node_before(stays: tuple[str, str]) -> None:
    """It is changed, and stays cordoned: that is how it was found."""
    kubectl("cordon", NODE)
    try:
        assert rollout(mig_max_unavailable=2).rc == 0
        node = node_now()
        assert node["spec"].get("unschedulable") is True
        assert "gpufleet.io/run" not in node["metadata"]["annotations"]
        assert allocatable(NODE) == NEW
    finally:
        kubectl("uncordon", NODE)
    assert container_of("stays") == stays


@pytest.mark.full
def test_another_node_is_out_already(stays: tuple[str, str]) -> None:
    """--limit does not widen the budget: the fleet has one node to spare, and it is out."""
    kubectl("cordon", "a100-none")
    try:
        result = rollout()
    finally:
        kubectl("uncordon", "a100-none")
    assert result.rc == 2
    assert "a100-none" in words(result)
    as_before()
    assert container_of("stays") == stays


@pytest.mark.full
def test_a_canary_that_fails_ends_the_roll_out(stays: tuple[str, str]) -> None:
    """The driver refuses on the first node: the second is not touched."""
    canary = "a100-single"
    on_host(canary, "simctl", "fault", "nvmlDeviceCreateGpuInstanceWithPlacement", "--calls", "1", "--return", "999")
    try:
        result = rollout(nodes=f"{canary},{NODE}", mig_waves=[1, "100%"], mig_layout="all-2g.10gb")
    finally:
        on_host(canary, "simctl", "clear-faults")
    assert result.rc == 2
    assert "No further node was touched" in words(result)
    assert allocatable(canary) == {"nvidia.com/gpu": 7}
    given_back(canary)
    as_before()
    assert container_of("stays") == stays
