# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""node_maintenance evicts pods, against an API server over real HTTP: who goes, who stays, who is named."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from unit.kube_server import Api, node, run_here
from unit.maintenance_support import LEASE, cordoned, evict, gpu_pod, marks, there, work


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    server = Api(tmp_path)
    server.put(node("a", {}), node("b", {}))
    yield server
    server.shutdown()
    server.server_close()


def test_only_the_named_pods_go_and_the_others_are_told(api: Api) -> None:
    goes, stays = gpu_pod(api, "goes"), gpu_pod(api, "stays")
    gpu_pod(api, "elsewhere", node_name="b")
    predicted = evict(api, goes, check=True)
    assert not api.writes()
    done = evict(api, goes)
    assert there(api) == ["elsewhere", "stays"]
    assert predicted["nodes"]["a"]["evicted"] == done["nodes"]["a"]["evicted"]
    assert predicted["diff"] == done["diff"]
    assert done["nodes"]["a"]["stay"] == [{"name": "shop/stays", "uid": stays["metadata"]["uid"]}]
    assert done["gpufleet"][0]["evicted"] == ["shop/goes"]
    assert cordoned(api)
    again = evict(api, goes)
    assert (again["changed"], again["nodes"]["a"]["evicted"]) == (False, [])


def test_an_eviction_takes_few_requests(api: Api) -> None:
    pods = [gpu_pod(api, f"p-{number}") for number in range(8)]
    api.ending_takes = 0.5
    evict(api, *pods)
    counted = [line for line in api.requests if "watch=true" not in line]
    assert len(counted) <= 8 + 8


def test_scope_node_takes_every_gpu_pod_and_nothing_else(api: Api) -> None:
    gpu_pod(api, "one")
    gpu_pod(api, "two")
    other = gpu_pod(api, "cpu")
    other["spec"]["containers"][0]["resources"] = {}
    work(api, "evicted", evict="node")
    assert there(api) == ["cpu"]


def test_nothing_is_evicted_when_one_pod_may_not_go_and_the_node_is_given_back(api: Api) -> None:
    fine, bare = gpu_pod(api, "fine"), gpu_pod(api, "bare", None)
    bare["spec"]["volumes"] = [{"name": "scratch", "emptyDir": {}}]
    daemon = gpu_pod(api, "daemon", "DaemonSet")
    api.put({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "o-daemon", "namespace": "shop"}})
    answer = evict(api, fine, bare, daemon)
    assert there(api) == ["bare", "daemon", "fine"]
    assert sorted(each["why"] for each in answer["nodes"]["a"]["blockers"]) == ["daemonset", "emptydir", "unmanaged"]
    assert "the node is schedulable again" in answer["msg"]
    assert (cordoned(api), marks(api)) == (False, {})
    evict(api, fine, bare, daemon, evict_unmanaged=True, evict_emptydir=True, evict_daemonsets=True)
    assert there(api) == []
    taints = [each["key"] for each in api.objects["/api/v1/nodes/a"]["spec"]["taints"]]
    assert taints == ["gpufleet.io/mig-change"]
    work(api, "marked", phase="publishing")
    assert "taints" not in api.objects["/api/v1/nodes/a"]["spec"]
    assert (cordoned(api), marks(api)["phase"]) == (True, "publishing")


def test_a_budget_that_frees_later_is_waited_for(api: Api) -> None:
    pods = [gpu_pod(api, "web-1"), gpu_pod(api, "web-2")]
    api.budgets["shop", "web"] = {"labels": {"app": "web"}, "allowed": 1}

    def replica() -> None:
        time.sleep(0.3)
        api.budgets["shop", "web"]["allowed"] += 1

    threading.Thread(target=replica).start()
    done = evict(api, *pods, timeout=20)
    assert (there(api), len(done["nodes"]["a"]["evicted"])) == ([], 2)


def test_at_timeout_pod_and_budget_are_named_and_the_cordon_is_undone(api: Api) -> None:
    free, held = gpu_pod(api, "free"), gpu_pod(api, "web-1")
    slow = gpu_pod(api, "slow", finalizers=["example.com/hold"])
    api.budgets["shop", "web"] = {"labels": {"app": "web"}, "allowed": 0}
    gpu_pod(api, "fine", node_name="b")
    started = time.monotonic()
    wish = {
        "a": {"pods": [each["metadata"]["uid"] for each in (free, held, slow)]},
        "b": {"pods": [api.objects["/api/v1/namespaces/shop/pods/fine"]["metadata"]["uid"]]},
    }
    answer = work(api, "evicted", wish, timeout=0.6)
    assert time.monotonic() - started < 5
    assert answer["failed"]
    blockers = {each["name"]: each for each in answer["nodes"]["a"]["blockers"]}
    assert blockers["shop/web-1"]["budget"] == "web"
    assert "example.com/hold" in blockers["shop/slow"]["reason"]
    for words in ("shop/web-1", "shop/web (The disruption budget web needs 2", "shop/free", "after 0.6 s"):
        assert words in answer["msg"]
    assert [each["name"] for each in answer["nodes"]["a"]["evicted"]] == ["shop/free"]
    assert (cordoned(api, "a"), marks(api, "a")) == (False, {})
    assert answer["nodes"]["b"]["error"] is None
    assert cordoned(api, "b")


def test_a_person_cordoned_node_stays_cordoned_when_its_eviction_fails(api: Api) -> None:
    api.put(node("a", {}, unschedulable=True))
    assert "still cordoned, as it was found" in evict(api, gpu_pod(api, "bare", None))["msg"]
    assert (cordoned(api), marks(api)) == (True, {})


def test_server_errors_are_asked_again_a_few_times(api: Api) -> None:
    once, broken = gpu_pod(api, "once"), gpu_pod(api, "broken")
    api.scripts["once"] = [(500, "etcd is away"), (429, "slow down")]
    evict(api, once)
    assert there(api) == ["broken"]
    message = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
    api.scripts["broken"] = [(500, message)] * 50
    answer = evict(api, broken, timeout=60)
    assert message in answer["msg"]
    assert len(api.scripts["broken"]) == 45
    assert not cordoned(api)


def test_a_new_pod_of_the_same_name_is_left_alone(api: Api) -> None:
    old = gpu_pod(api, "db-0", "StatefulSet")
    api.scripts["db-0"] = [(429, "wait")] * 3

    def replace() -> None:
        time.sleep(0.05)
        api.delete("/api/v1/namespaces/shop/pods/db-0")
        gpu_pod(api, "db-0", "StatefulSet", node_name="b")

    threading.Thread(target=replace).start()
    assert "failed" not in evict(api, old, timeout=10)
    assert there(api) == ["db-0"]


def test_where_watches_break_it_still_ends(api: Api) -> None:
    api.watching = False
    evict(api, gpu_pod(api, "one"), timeout=10)
    assert there(api) == []


def test_jobs_may_finish_first(api: Api) -> None:
    job, web = gpu_pod(api, "train", "Job"), gpu_pod(api, "web-1")

    def finish() -> None:
        time.sleep(0.3)
        assert "web-1" in there(api)
        job["status"] = {"phase": "Succeeded"}
        api.stamp(job, "MODIFIED")

    thread = threading.Thread(target=finish)
    thread.start()
    done = evict(api, job, web, evict="wait", jobs_timeout=10)
    thread.join()
    assert there(api) == ["train"]
    assert [each["name"] for each in done["nodes"]["a"]["evicted"]] == ["shop/web-1"]


def test_jobs_that_do_not_finish_are_evicted_or_stop_the_node(api: Api) -> None:
    job = gpu_pod(api, "train", "Job")
    answer = evict(api, job, evict="wait", jobs_timeout=0.2, jobs_action="fail")
    assert "pod shop/train of Job o-train still runs" in answer["msg"]
    assert (there(api), cordoned(api)) == (["train"], False)
    evict(api, job, evict="wait", jobs_timeout=0.2)
    assert there(api) == []


def test_none_refuses_when_anything_is_in_the_way(api: Api) -> None:
    web = gpu_pod(api, "web-1")
    answer = evict(api, web, evict="none")
    assert "mig_evict is none" in answer["msg"]
    assert (there(api), cordoned(api)) == (["web-1"], False)
    assert "failed" not in evict(api, evict="none")


def test_a_run_that_loses_the_lock_stops_and_leaves_the_node_to_the_other(api: Api) -> None:
    web = gpu_pod(api, "web-1")
    api.budgets["shop", "web"] = {"labels": {"app": "web"}, "allowed": 0}
    told = run_here("rollout_lock", kubeconfig=api.kubeconfig(), run="r1", duration=0.3)["lock"]

    def take() -> None:
        time.sleep(0.3)
        api.objects[LEASE]["spec"]["holderIdentity"] = "r2@elsewhere:1:1"
        api.stamp(api.objects[LEASE], "MODIFIED")

    threading.Thread(target=take).start()
    answer = evict(api, web, lock=told, timeout=30)
    assert "r2@elsewhere" in answer["msg"]
    assert (there(api), cordoned(api), marks(api)["run"]) == (["web-1"], True, "r1")
