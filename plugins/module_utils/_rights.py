# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""Which verbs a roll-out needs, asked beforehand. docs/cluster_role.yaml grants exactly these."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError
from ansible_collections.gpufleet.mig.plugins.module_utils._kube import Kube

PARALLEL = 8
# Events about nodes, which have no namespace, lie here: the API accepts no other.
EVENTS_NAMESPACE = "default"


@dataclass(frozen=True)
class Right:
    """``namespace`` None: in the whole cluster."""

    verb: str
    group: str
    resource: str
    namespace: str | None = None

    def __str__(self) -> str:
        group = f".{self.group}" if self.group else ""
        return f"{self.verb} {self.resource}{group}" + (f" in namespace {self.namespace}" if self.namespace else "")


def needed(lock_namespace: str, publishers_namespace: str | None) -> list[Right]:
    """All of a roll-out except what helm needs to install the chart."""
    return [
        *(Right(verb, "", "nodes") for verb in ("get", "list", "watch", "patch")),
        *(Right(verb, "", "pods") for verb in ("get", "list", "watch", "delete")),
        Right("create", "", "pods/eviction"),
        Right("get", "", "pods/log", publishers_namespace),
        Right("get", "apps", "daemonsets"),
        Right("get", "", "configmaps", publishers_namespace),
        *(Right(verb, "coordination.k8s.io", "leases", lock_namespace) for verb in ("get", "create", "patch")),
        Right("create", "events.k8s.io", "events", EVENTS_NAMESPACE),
    ]


def missing(kube: Kube, rights: Iterable[Right]) -> list[Right]:
    """Those that the API says this user does not have."""

    def allowed(right: Right) -> bool:
        resource, _slash, subresource = right.resource.partition("/")
        attributes: dict[str, Any] = {"verb": right.verb, "group": right.group, "resource": resource}
        if subresource:
            attributes["subresource"] = subresource
        if right.namespace:
            attributes["namespace"] = right.namespace
        answer = kube.create(
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
            {
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SelfSubjectAccessReview",
                "spec": {"resourceAttributes": attributes},
            },
        )
        return bool(answer.get("status", {}).get("allowed"))

    rights = list(rights)
    with ThreadPoolExecutor(max_workers=PARALLEL) as pool:
        return [right for right, there in zip(rights, pool.map(allowed, rights), strict=True) if not there]


def require(kube: Kube, rights: Iterable[Right]) -> None:
    """Raises MigError with every missing verb in one sentence."""
    lacking = missing(kube, rights)
    if lacking:
        raise MigError(
            f"The user of {kube.source} may not {'; '.join(map(str, lacking))} at {kube.host}: grant that "
            "(docs/cluster_role.yaml of gpufleet.mig is a role with just what is needed). Nothing was changed.",
            missing=[str(right) for right in lacking],
        )
