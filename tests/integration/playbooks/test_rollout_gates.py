# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""gpufleet.mig.rollout where a gate is shut or a setting is wrong: what is said, and that no node is touched."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from integration.modules.conftest import MakeHost
from integration.modules.simulated_host import SimulatedHost
from integration.playbooks.playbook_run import Run, on_this_machine, play
from unit.kube_server import Api, node

pytestmark = pytest.mark.slow

LEASE = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/gpufleet-rollout"
MANY = {"nvidia.com/mig-1g.10gb": 7}


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    server = Api(tmp_path)
    server.put(*(node(name, MANY) for name in ("gpu-01", "gpu-02", "gpu-03")))
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def host(make_host: MakeHost) -> SimulatedHost:
    """One machine that is all hosts of the inventory: none of them is to be touched."""
    made = make_host({"product": "h100-sxm5-80gb", "mig": "enabled"})
    made.run("mig_layout", layout="all-1g.10gb")
    made.forget_calls()
    return made


def rollout(folder: Path, api: Api, host: SimulatedHost, *names: str, **everywhere: Any) -> Run:
    common = {
        **on_this_machine(),
        "mig_kubernetes": True,
        "mig_gpu_feature_discovery": False,
        "mig_install_plugin": False,
        "mig_layout": [{"gpus": 0, "instances": {"3g.40gb": 2}}],
        "mig_gate_timeout": 0,
    }
    everywhere = {"mig_kubeconfig": api.kubeconfig(), **everywhere}
    return play(folder, "rollout", dict.fromkeys(names, common), simulated=host, **everywhere)


def words(run: Run) -> str:
    return " ".join(run.printed.split())


def untouched(api: Api, host: SimulatedHost) -> bool:
    nodes = [api.objects[f"/api/v1/nodes/{name}"] for name in ("gpu-01", "gpu-02", "gpu-03")]
    return host.writes() == [] and not any(
        each["spec"].get("unschedulable") or each["metadata"].get("annotations") for each in nodes
    )


def test_hooks_and_a_pause_between_two_nodes(tmp_path: Path, api: Api, host: SimulatedHost) -> None:
    """gpu-01 carries the skip label; while gpu-03, the first by its zone, is prepared somebody pauses the fleet."""
    api.put(
        node("gpu-01", MANY, {"gpufleet.io/skip": "ticket-815", "zone": "x"}),
        node("gpu-02", MANY, {"zone": "x"}),
        node("gpu-03", MANY, {"zone": "y"}),
    )
    pause = {"metadata": {"annotations": {"gpufleet.io/paused": "power work"}}}
    before, after = tmp_path / "before.yml", tmp_path / "after.yml"
    before.write_text(f"""
- name: Pause the fleet
  ansible.builtin.uri:
    url: "{api.url}{LEASE}"
    method: PATCH
    body: {pause}
    body_format: json
    headers: {{Authorization: Bearer right, Content-Type: application/merge-patch+json}}
  delegate_to: localhost
""")
    after.write_text("- ansible.builtin.debug: {msg: 'after {{ inventory_hostname }}'}\n")
    run = rollout(
        tmp_path, api, host, "gpu-01", "gpu-02", "gpu-03",
        mig_hook_before=str(before), mig_hook_after=str(after), mig_topology_key="zone",
    )  # fmt: skip
    assert run.code == 2, run.printed
    said = words(run)
    assert "the fleet is paused (gpufleet.io/paused=power work)" in said, run.printed
    assert "Left as they are: gpu-02, gpu-03. Run the same command again to go on." in said, run.printed
    assert "after gpu-02" in said, "what was done before is undone"
    assert "after gpu-03" not in said
    assert untouched(api, host)
    assert not api.objects[LEASE]["spec"].get("holderIdentity"), "the lock was given back"


@pytest.mark.full
def test_a_hook_that_fails_fails_its_node_untouched(tmp_path: Path, api: Api, host: SimulatedHost) -> None:
    before, after = tmp_path / "before.yml", tmp_path / "after.yml"
    before.write_text("- {name: Ask the load balancer, ansible.builtin.fail: {msg: it says no}}\n")
    after.write_text("- ansible.builtin.debug: {msg: 'after: {{ node_rollout_error }}'}\n")
    run = rollout(tmp_path, api, host, "gpu-01", "gpu-02", mig_hook_before=str(before), mig_hook_after=str(after))
    assert run.code == 2, run.printed
    assert 'gpu-01 was not changed, because "Ask the load balancer" failed: it says no.' in words(run), run.printed
    assert "after: it says no" in words(run)
    assert "gpu-02 was" not in words(run)
    assert untouched(api, host)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"mig_kubeconfig": "/no/such"}, "does not exist on the machine that runs this module: set kubeconfig"),
        pytest.param(
            {"mig_kube_context": "third"}, "it has main, other; set context (mig_kube_context)", marks=pytest.mark.full
        ),
    ],
)
def test_a_cluster_that_cannot_be_asked_is_named_with_the_remedy(
    tmp_path: Path, api: Api, host: SimulatedHost, settings: dict[str, str], said: str
) -> None:
    run = rollout(tmp_path, api, host, "gpu-01", "gpu-02", **{"mig_kubeconfig": api.kubeconfig(), **settings})
    assert run.code == 2, run.printed
    assert said in words(run), run.printed
    assert re.search(r"gpu-01: Kubeconfig [^\n]*\. Nothing was changed\.", run.printed), run.printed
    assert untouched(api, host)


def free(api: Api) -> bool:
    """Whether a lock was taken and given back."""
    return not api.objects[LEASE]["spec"].get("holderIdentity")


@pytest.mark.full
def test_a_run_that_cannot_begin_gives_the_lock_back(tmp_path: Path, api: Api, host: SimulatedHost) -> None:
    report = tmp_path / "report"
    report.write_text("a file where the folder shall be")
    run = rollout(tmp_path, api, host, "gpu-01", "gpu-02", mig_rollout_output=str(report))
    assert run.code == 2, run.printed
    assert f"The report of the roll-out cannot be written to {report}" in words(run), run.printed
    assert untouched(api, host)
    assert free(api), run.printed


def two_clusters(api: Api) -> dict[str, dict[str, Any]]:
    """By mistake both contexts lead to the same cluster: the lock that the first took refuses the second."""
    common = {
        **on_this_machine(),
        "mig_kubernetes": True,
        "mig_kubeconfig": api.kubeconfig(),
        "mig_gpu_feature_discovery": False,
        "mig_install_plugin": False,
        "mig_layout": [{"gpus": 0, "instances": {"3g.40gb": 2}}],
    }
    return {"gpu-01": {**common, "mig_kube_context": "main"}, "gpu-02": {**common, "mig_kube_context": "other"}}


@pytest.mark.full
def test_of_two_clusters_none_stays_locked_where_one_cannot_begin(
    tmp_path: Path, api: Api, host: SimulatedHost
) -> None:
    run = play(tmp_path, "rollout", two_clusters(api), simulated=host)
    assert run.code == 2, run.printed
    assert "Another roll-out holds the lock gpufleet-rollout in namespace kube-system" in words(run), run.printed
    assert untouched(api, host)
    assert free(api), run.printed


@pytest.mark.full
def test_a_second_roll_out_of_the_same_run_goes_by_nothing_of_the_first(
    tmp_path: Path, api: Api, host: SimulatedHost
) -> None:
    """The first passes both nodes over and needs no lock. Then the labels go, and the second cannot begin."""
    api.put(*(node(name, MANY, {"gpufleet.io/skip": "ticket-815"}) for name in ("gpu-01", "gpu-02")))
    playbook = tmp_path / "twice.yml"
    playbook.write_text(f"""
- ansible.builtin.import_playbook: gpufleet.mig.rollout
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.uri:
        url: "{api.url}/api/v1/nodes/{{{{ inventory_hostname }}}}"
        method: PATCH
        body: {{metadata: {{labels: {{gpufleet.io/skip: null}}}}}}
        body_format: json
        headers: {{Authorization: Bearer right, Content-Type: application/merge-patch+json}}
- ansible.builtin.import_playbook: gpufleet.mig.rollout
""")
    run = play(tmp_path, str(playbook), two_clusters(api), simulated=host)
    assert run.code == 2, run.printed
    assert words(run).count("is left as it is") == 2, run.printed
    assert "Another roll-out holds the lock gpufleet-rollout in namespace kube-system" in words(run), run.printed
    assert untouched(api, host)
    assert free(api), run.printed


@pytest.mark.full
def test_nodes_that_are_all_passed_over_later_leave_no_lock(tmp_path: Path, api: Api, host: SimulatedHost) -> None:
    """Somebody puts the skip label on the only node while it is prepared."""
    before = tmp_path / "before.yml"
    before.write_text(f"""
- name: Keep it out
  ansible.builtin.uri:
    url: "{api.url}/api/v1/nodes/gpu-01"
    method: PATCH
    body: {{metadata: {{labels: {{gpufleet.io/skip: ticket-815}}}}}}
    body_format: json
    headers: {{Authorization: Bearer right, Content-Type: application/merge-patch+json}}
  delegate_to: localhost
""")
    run = rollout(tmp_path, api, host, "gpu-01", mig_hook_before=str(before))
    assert run.code == 0, run.printed
    assert "gpu-01 is left as it is: node gpu-01 carries the label gpufleet.io/skip=ticket-815" in words(run)
    assert untouched(api, host)
    assert free(api), run.printed


@pytest.mark.full
def test_only_skipped_nodes_are_no_failure(tmp_path: Path, api: Api, host: SimulatedHost) -> None:
    api.put(node("gpu-01", MANY, {"gpufleet.io/skip": "ticket-815"}))
    run = rollout(tmp_path, api, host, "gpu-01")
    assert run.code == 0, run.printed
    assert "gpu-01 is left as it is: node gpu-01 carries the label gpufleet.io/skip=ticket-815" in words(run)
    assert untouched(api, host)


@pytest.mark.full
@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"mig_waves": ["0%", "100%"]}, "mig_waves has '0%'; a gate is at least one node"),
        (
            {"mig_min_available": {"nvidia.com/mig-1g.10gb": 7}},
            "No order of the 3 nodes keeps 7 nvidia.com/mig-1g.10gb",
        ),
        ({"mig_hook_before": "/no/such/file.yml"}, "/no/such/file.yml (mig_hook_before or mig_hook_after) is no file"),
        ({"mig_alerts_url": "http://127.0.0.1:1"}, "The roll-out cannot begin"),
    ],
)
def test_what_cannot_go_on_is_said_before_the_lock(
    tmp_path: Path, api: Api, host: SimulatedHost, settings: dict[str, Any], said: str
) -> None:
    run = rollout(tmp_path, api, host, "gpu-01", "gpu-02", "gpu-03", **settings)
    assert run.code == 2, run.printed
    assert said in words(run), run.printed
    assert LEASE not in api.objects
    assert untouched(api, host)
