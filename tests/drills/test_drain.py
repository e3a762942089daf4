# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""All pods of a node must go, each is held by something else, and what holds them is taken away one by one.

In the terms of Cluster API's end-to-end test of draining (test/e2e/node_drain.go): a pod to wait for until it is
completed, one that no eviction is allowed for, and one that a finalizer keeps.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from drills.conftest import (
    NODE,
    apply,
    budget,
    container_of,
    given_back,
    node_now,
    pod_template,
    rollout,
    running,
    until,
    writes,
)
from lab.conftest import PlayResult, allocatable, kubectl, kubectl_json

WHOLE = [{"gpus": "all", "instances": {"7g.40gb": 1}}]
"""None of the three instances of the demo can stay."""
FINALIZER = "drill.test/keep"


def job(name: str, resource: str) -> dict[str, Any]:
    """It ends once somebody makes the file /tmp/done."""
    template = pod_template(resource, restartPolicy="Never")
    template["containers"][0]["command"] = ["sh", "-c", "until [ -e /tmp/done ]; do sleep 0.2; done"]
    labels = {"app": name, "drill": "yes"}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": "default", "labels": {"drill": "yes"}},
        "spec": {"template": {"metadata": {"labels": labels}, "spec": template}},
    }


def name_of(app: str) -> str:
    return str(until(f"a running pod of {app}", lambda: running(app))["metadata"]["name"])


def pod_now(name: str) -> dict[str, Any] | None:
    found = kubectl_json("get", "pods", "--field-selector", f"metadata.name={name}")["items"]
    return dict(found[0]) if found else None


def ending(name: str) -> bool:
    return "deletionTimestamp" in (pod_now(name) or {}).get("metadata", {})


@pytest.mark.full
def test_a_drain_is_unblocked_one_cause_at_a_time(stays: tuple[str, str]) -> None:
    """Until the last cause is gone nothing is changed, and nobody goes before their time."""
    apply(budget("stays", 1), job("finishes", "nvidia.com/mig-1g.5gb"))
    container_of("finishes")
    finishes, guarded, kept = (name_of(app) for app in ("finishes", "stays", "goes"))
    kubectl("patch", "pod", kept, "--type=merge", "-p", f'{{"metadata": {{"finalizers": ["{FINALIZER}"]}}}}')
    try:
        with ThreadPoolExecutor(1) as beside:
            run: Future[PlayResult] = beside.submit(
                rollout, mig_layout=WHOLE, mig_evict="wait", mig_jobs_timeout=120, mig_evict_timeout=120
            )
            until("the node is cordoned", lambda: run.done() or node_now()["spec"].get("unschedulable"))
            assert not run.done(), run.result().output[-4000:]
            assert (ending(finishes), ending(guarded), ending(kept)) == (False, False, False)
            assert container_of("stays") == stays

            kubectl("exec", finishes, "--", "touch", "/tmp/done")
            until("a pod after the Job's was evicted", lambda: run.done() or ending(kept))
            assert not run.done(), run.result().output[-4000:]
            assert container_of("stays") == stays
            assert writes() == ""

            kubectl("delete", "pdb", "stays")
            until("the guarded pod is gone", lambda: pod_now(guarded) is None)
            result = run.result()
    finally:
        kubectl("patch", "pod", kept, "--type=merge", "-p", '{"metadata": {"finalizers": null}}', check=False)
    assert result.rc == 0, result.output[-4000:]
    assert allocatable(NODE) == {"nvidia.com/mig-7g.40gb": 1}
    given_back()
