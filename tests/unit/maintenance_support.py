# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""Nodes and pods of a cluster, the module node_maintenance run on them, and what then stands there."""

from __future__ import annotations

import itertools
from typing import Any

from unit.kube_server import Api, run_here

LEASE = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/gpufleet-rollout"
_number = itertools.count(1)


def work(
    api: Api, state: str, nodes: Any = None, check: bool = False, run: str = "r1", **params: Any
) -> dict[str, Any]:
    return run_here(
        "node_maintenance",
        check=check,
        kubeconfig=api.kubeconfig(),
        state=state,
        nodes={"a": {}} if nodes is None else nodes,
        run=run,
        **{"pause": 0.02, **params},
    )


def evict(api: Api, *pods: dict[str, Any], **params: Any) -> dict[str, Any]:
    return work(api, "evicted", {"a": {"pods": [each["metadata"]["uid"] for each in pods]}}, **params)


def gpu_pod(
    api: Api, name: str, owner: str | None = "ReplicaSet", node_name: str = "a", **metadata: Any
) -> dict[str, Any]:
    made: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "shop",
            "uid": f"u{next(_number)}",
            "labels": {"app": name.split("-")[0]},
            **metadata,
        },
        "spec": {
            "nodeName": node_name,
            "containers": [{"name": "c", "resources": {"limits": {"nvidia.com/mig-1g.10gb": "1"}}}],
        },
        "status": {"phase": "Running"},
    }
    if owner:
        made["metadata"]["ownerReferences"] = [{"kind": owner, "name": f"o-{name}", "uid": "o", "controller": True}]
    api.put(made)
    return made


def there(api: Api) -> list[str]:
    return sorted(path.rsplit("/", 1)[1] for path in api.objects if "/pods/" in path)


def cordoned(api: Api, name: str = "a") -> bool:
    return bool(api.objects[f"/api/v1/nodes/{name}"]["spec"].get("unschedulable"))


def marks(api: Api, name: str = "a") -> dict[str, str]:
    metadata = api.objects[f"/api/v1/nodes/{name}"]["metadata"]
    found = {**metadata.get("annotations", {}), **metadata.get("labels", {})}
    return {key.removeprefix("gpufleet.io/"): value for key, value in found.items() if key.startswith("gpufleet.io/")}
