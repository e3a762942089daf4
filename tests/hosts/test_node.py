# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""A host with systemd as a node of the lab's cluster (make lab-up): from a bare host to what Kubernetes shows, and what
becomes of pods over boots that nobody planned."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from lab.gpufleet_lab import joining, realhosts
from lab.gpufleet_lab.controlplane import kubectl
from lab.gpufleet_lab.settings import KUBECONFIG, LAB_SOURCE, RUN_DIR
from lab.gpufleet_lab.shell import wait_until

from .conftest import Host

pytestmark = pytest.mark.full

NAME = "bare-a100"
RESOURCE = "nvidia.com/mig-3g.20gb"
LAYOUT = [{"gpus": "all", "instances": [{"profile": "3g.20gb", "start": 4}, {"profile": "1g.5gb", "start": 2}]}]
SHOWN = {"nvidia.com/mig-1g.5gb": 2, RESOURCE: 2}
CLUSTER = {
    "mig_kubernetes": True,
    "mig_kubeconfig": str(KUBECONFIG),
    "mig_helm_binary": str(RUN_DIR / "bin/helm"),
    # The release is the cluster's: as the demo's inventory has it.
    "mig_chart": str(LAB_SOURCE / "chart/nvidia-device-plugin"),
    "mig_chart_repo": "",
    "mig_chart_version": "",
}
Wait = Callable[[], None]


@pytest.fixture(scope="module")
def host(running: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """Bare, but for a kubelet that has joined the cluster."""
    real = realhosts.by_name(NAME)
    realhosts.reinstall(real)
    joining.join(real)
    found = Host(real, tmp_path_factory.mktemp(NAME))
    found.variables.update(CLUSTER, mig_layout=LAYOUT, container_toolkit_manage=True)
    yield found
    realhosts.reinstall(real)  # which takes the node out of the cluster
    assert kubectl("get", "node", NAME, "--ignore-not-found") == ""


@pytest.fixture(scope="module")
def guarded(host: Host) -> Host:
    host.play(playbook="site.yml", mig_boot_guard=True)
    return host


def pod_spec() -> dict[str, Any]:
    """A pod with one instance of the host."""
    return {
        "nodeSelector": {"kubernetes.io/hostname": NAME},
        "terminationGracePeriodSeconds": 0,
        "containers": [
            {
                "name": "main",
                "image": "gpufleet.io/lab/workload:1",
                "imagePullPolicy": "IfNotPresent",
                "command": ["sleep", "3600"],
                "resources": {"limits": {RESOURCE: "1"}},
            }
        ],
    }


@pytest.fixture
def deployment() -> Iterator[Wait]:
    """Two pods on the host's node, each with an instance. Returns a wait until both run."""
    labels = {"app": "on-boot"}
    manifest = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "on-boot", "namespace": "default"},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod_spec()},
        },
    }
    kubectl("apply", "-f", "-", stdin=json.dumps(manifest))

    def wait() -> None:
        wait_until(lambda: len(phases("Running")) == 2, "both pods run", 120, every_s=0.3)

    try:
        wait()
        yield wait
    finally:
        kubectl("delete", "deployment", "on-boot", "--wait=true")
        kubectl("delete", "pods", "-l", "app=on-boot", "--wait=true")


def pods() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(kubectl("get", "pods", "-l", "app=on-boot", "-o", "json"))["items"]
    return found


def phases(phase: str) -> list[str]:
    """UIDs of the pods in that phase that are not on their way out."""
    alive = [pod for pod in pods() if "deletionTimestamp" not in pod["metadata"]]
    return [pod["metadata"]["uid"] for pod in alive if pod["status"]["phase"] == phase]


def node() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(kubectl("get", "node", NAME, "-o", "json"))
    return found


def marks() -> dict[str, Any]:
    """Whether pods may come, and what is written on the node about a change in progress or failed."""
    found = node()
    kept = {**found["metadata"]["annotations"], **found["metadata"]["labels"]}
    ours = ("run", "was-schedulable", "reason", "mig-state")
    said = {key: kept[f"gpufleet.io/{key}"] for key in ours if f"gpufleet.io/{key}" in kept}
    return {"schedulable": not found["spec"].get("unschedulable", False), **said}


def offered() -> dict[str, int]:
    amounts = node()["status"]["allocatable"]
    return {key: int(count) for key, count in amounts.items() if key.startswith("nvidia.com/") and count != "0"}


def test_from_a_bare_host_to_a_verified_node(host: Host) -> None:
    assert offered() == {}
    host.play(playbook="site.yml", container_toolkit_runtime_class="on-boot")
    assert offered() == SHOWN
    assert marks() == {"schedulable": True}
    again = host.play(playbook="site.yml", container_toolkit_runtime_class="on-boot")
    assert again.changed == 0

    # A pod that asks for the runtime sees its own instance and no other.
    manifest = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "sees"},
        "spec": {**pod_spec(), "runtimeClassName": "on-boot"},
    }
    kubectl("apply", "-f", "-", stdin=json.dumps(manifest))
    try:
        kubectl("wait", "pod/sees", "--for=condition=Ready", "--timeout=60s")
        seen = kubectl("exec", "sees", "--", "nvidia-smi", "-L")
        assert [line.split()[1] for line in seen.splitlines() if "MIG" in line] == ["3g.20gb"]
    finally:
        kubectl("delete", "pod/sees", "runtimeclass/on-boot", "--now", "--wait=true")


def test_the_kubelet_is_found_and_restarted_where_it_is_to_forget_a_resource(host: Host) -> None:
    kubelet = host.shown("kubelet.service", "MainPID")
    smaller = [{"gpus": "all", "instances": [{"profile": "3g.20gb", "start": 4}]}]
    host.play(playbook="site.yml", mig_layout=smaller, mig_restart_kubelet=True)
    assert host.shown("kubelet.service", "MainPID") != kubelet
    assert offered() == {RESOURCE: 2}
    assert node()["status"]["capacity"]["nvidia.com/mig-1g.5gb"] == "0"
    host.play(playbook="site.yml")
    assert offered() == SHOWN


def test_pods_over_a_power_cut_without_the_guard(host: Host, deployment: Wait) -> None:
    host.power_cycle()
    wait_until(lambda: len(phases("Failed")) == 2, "the kubelet refuses both pods", 60)
    assert {pod["status"].get("reason") for pod in pods() if pod["status"]["phase"] == "Failed"} == {
        "UnexpectedAdmissionError"
    }
    deployment()
    said = host.play(playbook="gpufleet.mig.verify")
    assert " ".join(said.output.split()).count("stays as Failed: delete it (mig_clean_failed_pods)") == 2
    assert len(phases("Failed")) == 2
    running = set(phases("Running"))
    cleaned = host.play(playbook="site.yml", mig_clean_failed_pods=True)
    assert cleaned.changed == 1
    assert " ".join(cleaned.output.split()).count("(UnexpectedAdmissionError) and is removed") == 2
    assert phases("Failed") == []
    assert set(phases("Running")) == running


def test_pods_over_a_power_cut_and_a_reboot_with_the_guard(guarded: Host, deployment: Wait) -> None:
    host = guarded
    assert host.sh("stat -c %a /etc/gpufleet-mig/guard.json") == "600"
    assert host.play(playbook="site.yml", mig_boot_guard=True).changed == 0
    for again in (host.power_cycle, host.reboot):
        before = set(phases("Running"))
        assert len(before) == 2
        begun = time.monotonic()
        again()
        up = time.monotonic() - begun
        wait_until(lambda: len(set(phases("Running")) - before) == 2, "new pods run", 120, every_s=0.3)  # noqa: B023
        print(f"{again.__name__} with the guard: up after {up:.1f} s, both pods after {time.monotonic() - begun:.1f} s")
        assert phases("Failed") == []
        wait_until(lambda: marks() == {"schedulable": True}, "the node is given back", 30)
        assert "is released" in host.journal("gpufleet-mig-cordon")
        assert "it is given back as it was found" in host.journal("gpufleet-mig-uncordon")
    assert host.sh("systemctl --failed --no-legend") == ""


def test_a_persons_cordon_stays(guarded: Host) -> None:
    host = guarded
    kubectl("cordon", NAME)
    host.power_cycle()
    wait_until(lambda: "as it was found" in host.journal("gpufleet-mig-uncordon"), "it is given back", 60)
    assert marks() == {"schedulable": False}
    kubectl("uncordon", NAME)


def test_a_node_whose_layout_did_not_come_back_stays_cordoned_until_site_has_run(guarded: Host) -> None:
    host = guarded
    host.simctl("fault", "nvmlDeviceCreateGpuInstanceWithPlacement", "--gpu", "1", "--calls", "1-", "--return", "999")
    host.power_cycle()
    found = marks()
    assert (found["schedulable"], found["mig-state"], found["was-schedulable"]) == (False, "failed", "true")
    assert "GPU 1 lacks" in found["reason"]
    assert "run gpufleet.mig.site" in found["reason"]
    assert host.shown("gpufleet-mig", "ActiveState") == ["failed"]
    wait_until(lambda: "stays cordoned" in host.journal("gpufleet-mig-uncordon"), "the second look", 60)
    assert marks()["mig-state"] == "failed"

    host.simctl("clear-faults")
    host.play(playbook="site.yml", mig_boot_guard=True)
    assert marks() == {"schedulable": True}
    assert offered() == SHOWN


def test_an_api_that_is_away_holds_the_boot_up_no_longer_than_it_may(host: Host) -> None:
    host.play("mig", mig_boot_guard=True, mig_boot_guard_server="https://10.78.0.99", mig_boot_guard_timeout=5)
    begun = time.monotonic()
    host.power_cycle()
    print(f"up after {time.monotonic() - begun:.1f} s where the guard may wait 5 s")
    assert host.shown("gpufleet-mig-cordon", "ActiveState", "Result") == ["failed", "exit-code"]
    assert "does not answer" in host.journal("gpufleet-mig-cordon")
    assert host.sh("systemctl is-active kubelet") == "active"
    assert host.shown("gpufleet-mig", "ActiveState", "Result") == ["active", "success"]


KUBECONFIG_OF_A_CLOUD = """
current-context: node
contexts: [{{name: node, context: {{cluster: lab, user: node}}}}]
clusters: [{{name: lab, cluster: {{server: {server}}}}}]
users: [{{name: node, user: {user}}}]
"""


def test_a_kubeconfig_that_is_of_no_use_before_the_kubelet_runs_is_refused(host: Host) -> None:
    wanted: dict[str, Any] = {"mig_boot_guard": True, "mig_boot_guard_kubeconfig": "/root/kubelet.conf"}
    missing = host.play("mig", ok=False, **wanted)
    assert "none of /root/kubelet.conf is there" in " ".join(missing.output.split())
    for server, user, said in (
        ("https://10.0.0.5:6443", "{exec: {command: get-token}}", "leaves it to a program to say who the node is"),
        ("https://127.0.0.1:6444", "{token: secret}", "leads to https://127.0.0.1:6444, which only this host answers"),
    ):
        host.sh(f'echo "{KUBECONFIG_OF_A_CLOUD.format(server=server, user=user)}" > /root/kubelet.conf')
        refused = host.play("mig", ok=False, **wanted)
        assert refused.rc == 2
        assert said in " ".join(refused.output.split())
        assert "secret" not in refused.output
    host.play("mig", mig_boot_guard_server="https://10.0.0.5:6443", **wanted)
    written = json.loads(host.sh("cat /etc/gpufleet-mig/guard.json"))
    assert (written["cluster"]["server"], written["user"]) == ("https://10.0.0.5:6443", {"token": "secret"})
    units = "/etc/systemd/system/gpufleet-mig-cordon.service /etc/systemd/system/gpufleet-mig-uncordon.service"
    assert host.sh(f"systemd-analyze verify --man=no {units} 2>&1") == ""


def test_gpus_are_not_taken_from_under_pods_that_are_idle(host: Host, deployment: Wait) -> None:
    standing = host.instances()
    uninstall: dict[str, Any] = {"playbook": "gpufleet.mig.uninstall", "mig_confirm_uninstall": True}
    for more, words in (
        ({"mig_uninstall_layout": True}, "mig_uninstall_layout takes them away"),
        ({"driver_state": "absent"}, "driver_state: absent takes them away"),
    ):
        refused = host.play(ok=False, **uninstall, **more)
        assert refused.rc == 2
        said = " ".join(refused.output.split())
        assert f"{NAME}: GPUs of it are given to default/on-boot-" in said
        assert words in said
    assert host.instances() == standing
    assert offered() == SHOWN


def test_the_guard_goes(guarded: Host) -> None:
    host = guarded
    left = (
        "ls /etc/gpufleet-mig /etc/systemd/system /etc/systemd/system/multi-user.target.wants | grep -e guard -e cordon"
    )
    assert len(host.sh(left).split()) == 5
    host.play("mig")
    assert host.sh(f"{left} || true") == ""
    host.play("mig", mig_boot_guard=True)
    host.play("mig", mig_state="absent")
    assert host.sh("find /etc/systemd /etc/gpufleet-mig /usr/local/lib/gpufleet-mig -name gpufleet-mig* || true") == ""
