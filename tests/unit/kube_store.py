# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""What a small Kubernetes API holds: objects under their API path, and what happens to them. No HTTP.

Each write gives a new resourceVersion, which those who watch see. A deleted pod of a publisher is replaced after a
moment, as a DaemonSet does. Evictions obey budgets, or a script of answers.
"""

from __future__ import annotations

import copy
import itertools
import threading
import time
from typing import Any

NAMESPACE = "nvidia-device-plugin"
PLUGIN = "nvidia-device-plugin"
GFD = "gpu-feature-discovery"
_uids = itertools.count(1)


def node(name: str, allocatable: dict[str, int], labels: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    """A Ready node."""
    amounts = {"cpu": "1500m", "memory": "8Gi", **{key: str(count) for key, count in allocatable.items()}}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "uid": f"uid-node-{name}",
            "labels": {"kubernetes.io/hostname": name, **(labels or {})},
        },
        "spec": spec,
        "status": {
            "allocatable": amounts,
            "capacity": dict(amounts),
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def pod(app: str, node_name: str, *, ready: bool = True, owner: bool = True, **status: Any) -> dict[str, Any]:
    """A publisher pod as chart 0.20.0 makes it: both programs under the same labels, told apart by their containers."""
    number = next(_uids)
    metadata: dict[str, Any] = {
        "name": f"{app}-{number}",
        "namespace": NAMESPACE,
        "uid": f"uid-{number}",
        "labels": {"app.kubernetes.io/name": PLUGIN, "app.kubernetes.io/instance": PLUGIN},
    }
    if owner:
        metadata["ownerReferences"] = [
            {"kind": "DaemonSet", "name": f"ds-{app}", "uid": f"ds-{app}", "controller": True, "apiVersion": "apps/v1"}
        ]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {
            "nodeName": node_name,
            "containers": [
                {"name": f"{app}-sidecar", "command": ["config-manager"]},
                {"name": f"{app}-ctr", "command": [app]},
            ],
            "volumes": [{"name": "available-configs", "configMap": {"name": "nvidia-device-plugin-configs"}}],
        },
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
            "containerStatuses": [
                {"name": f"{app}-ctr", "ready": ready, "restartCount": 0, "state": {"running": {}}},
            ],
            **status,
        },
    }


class Refused(Exception):
    """What the API answers instead: status, reason, message, and maybe details."""

    def __init__(self, status: int, reason: str, message: str, details: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.told = {
            "kind": "Status",
            "status": "Failure",
            "reason": reason,
            "message": message,
            "code": status,
            "details": details or {},
        }


class Store:
    """Tests fill ``objects`` and say how they behave."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.logs: dict[str, str] = {}
        self.page = 500
        self.replace_after = 0.3
        self.replacement: dict[str, Any] = {}
        self.ending_takes = 0.05
        self.budgets: dict[tuple[str, str], dict[str, Any]] = {}
        self.scripts: dict[str, list[tuple[int, str]]] = {}
        self.conflicts: dict[str, int] = {}
        self.denied: set[str] = set()
        self.watching = True
        self.version = 100
        self.happened: list[tuple[int, str, dict[str, Any]]] = []
        self.guard = threading.RLock()

    def put(self, *documents: dict[str, Any]) -> None:
        """Store objects under their paths."""
        for document in documents:
            with self.guard:
                path = path_of(document)
                known = path in self.objects
                self.objects[path] = document
                self.stamp(document, "MODIFIED" if known else "ADDED")

    def stamp(self, document: dict[str, Any], kind: str) -> None:
        """A new resourceVersion, seen by those who watch."""
        with self.guard:
            self.version += 1
            document["metadata"]["resourceVersion"] = str(self.version)
            self.happened.append((self.version, kind, copy.deepcopy(document)))

    def end(self, path: str, after: float | None = None) -> None:
        """A pod on its way out, as after an eviction; finalizers keep it."""
        document = self.objects[path]
        document["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        document["metadata"]["deletionGracePeriodSeconds"] = 30
        self.stamp(document, "MODIFIED")

        def later() -> None:
            time.sleep(self.ending_takes if after is None else after)
            with self.guard:
                if self.objects.get(path) is document and not document["metadata"].get("finalizers"):
                    del self.objects[path]
                    self.stamp(document, "DELETED")

        threading.Thread(target=later, daemon=True).start()

    def patch(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Merge into the object, which nobody may have changed meanwhile."""
        with self.guard:
            found = self.get(path)
            version = body.get("metadata", {}).get("resourceVersion")
            if self.conflicts.get(path, 0) > 0:
                self.conflicts[path] -= 1
                self.stamp(found, "MODIFIED")
            if version not in (None, found["metadata"].get("resourceVersion")):
                raise Refused(409, "Conflict", "the object has been modified; please apply your changes")
            _merge(found, body)
            self.stamp(found, "MODIFIED")
            return found

    def get(self, path: str) -> dict[str, Any]:
        found = self.objects.get(path)
        if found is None:
            raise Refused(404, "NotFound", f"{path} not found")
        return found

    def create(self, body: dict[str, Any]) -> None:
        with self.guard:
            if path_of(body) in self.objects:
                raise Refused(409, "AlreadyExists", "it exists")
            self.put(body)

    def evict(self, path: str, body: dict[str, Any]) -> None:
        """A pod goes, unless a script or a budget says otherwise."""
        with self.guard:
            metadata = self.get(path)["metadata"]
            if body["deleteOptions"]["preconditions"]["uid"] != metadata["uid"]:
                raise Refused(409, "Conflict", "the UID in the precondition does not match")
            script = self.scripts.get(metadata["name"])
            if script:
                status, message = script.pop(0)
                raise Refused(status, {429: "TooManyRequests"}.get(status, "InternalError"), message)
            for (namespace, name), budget in self.budgets.items():
                labels = metadata.get("labels", {})
                if namespace != metadata["namespace"] or not budget["labels"].items() <= labels.items():
                    continue
                if budget["allowed"] < 1:
                    said = f"The disruption budget {name} needs 2 healthy pods and has 2 currently"
                    causes = {"causes": [{"reason": "DisruptionBudget", "message": said}]}
                    words = "Cannot evict pod as it would violate the pod's disruption budget."
                    raise Refused(429, "TooManyRequests", words, causes)
                budget["allowed"] -= 1
            self.end(path)

    def remove(self, path: str, body: dict[str, Any]) -> None:
        """As asked for by a client, who may name the UID that it means."""
        found = self.get(path)
        if body.get("preconditions", {}).get("uid") not in (None, found["metadata"].get("uid")):
            raise Refused(409, "Conflict", "the UID in the precondition does not match")
        self.delete(path)

    def delete(self, path: str) -> None:
        """Remove an object; its DaemonSet, if any, makes another."""
        gone = self.objects.pop(path)
        self.stamp(gone, "DELETED")
        owners = gone["metadata"].get("ownerReferences")
        if not owners or owners[0]["name"] not in (f"ds-{PLUGIN}", f"ds-{GFD}", "ds-workload"):
            return
        app = owners[0]["name"].removeprefix("ds-")
        new = pod(app, gone["spec"]["nodeName"], ready=False)
        new["metadata"].update({key: gone["metadata"][key] for key in ("namespace", "labels")})

        def later() -> None:
            time.sleep(self.replace_after)
            self.put(new)
            time.sleep(self.replace_after)
            self.put({**pod(app, gone["spec"]["nodeName"]), "metadata": new["metadata"], **self.replacement})

        threading.Thread(target=later, daemon=True).start()

    def page_of(self, path: str, query: dict[str, str]) -> dict[str, Any]:
        """One page of a list, with where the next one begins."""
        found = [document for where, document in sorted(self.objects.items()) if _lies_in(where, path)]
        found = [document for document in found if _selected(document, query)]
        start = int(query.get("continue") or 0)
        end = start + self.page
        more = {"continue": str(end)} if end < len(found) else {}
        metadata = {"resourceVersion": str(self.version), **more}
        return {"kind": "List", "metadata": metadata, "items": found[start:end]}

    def news(self, path: str, query: dict[str, str], last: int) -> tuple[int, list[dict[str, Any]]]:
        """What happened after version `last`: the version now seen, and the events of a watch."""
        with self.guard:
            found = [each for each in self.happened if each[0] > last]
        events = [
            {"type": kind, "object": document}
            for _version, kind, document in found
            if _lies_in(path_of(document), path) and _selected(document, query)
        ]
        return (found[-1][0] if found else last), events


def path_of(document: dict[str, Any]) -> str:
    """API path of an object."""
    metadata = document["metadata"]
    kind = document["kind"].lower()
    plural = f"{kind}es" if kind.endswith("s") else f"{kind}s"
    scope = f"/namespaces/{metadata['namespace']}" if "namespace" in metadata else ""
    version = document.get("apiVersion", "v1")
    return f"/{'apis' if '/' in version else 'api'}/{version}{scope}/{plural}/{metadata['name']}"


def _lies_in(where: str, path: str) -> bool:
    """Whether an object is one of a list: of all namespaces, or of the one in the path."""
    plural = path.rpartition("/")[2]
    return where.split("/")[-2] == plural and (path == f"/api/v1/{plural}" or where.startswith(path + "/"))


def _selected(document: dict[str, Any], query: dict[str, str]) -> bool:
    """By the selectors that the modules use."""
    labels = document["metadata"].get("labels", {})
    for part in filter(None, query.get("labelSelector", "").split(",")):
        key, asks_value, value = part.partition("=")
        if key not in labels or (asks_value and labels[key] != value):
            return False
    fields = {
        "spec.nodeName": document["spec"].get("nodeName"),
        "metadata.name": document["metadata"]["name"],
        "status.phase": document.get("status", {}).get("phase"),
    }
    asked = (part.partition("=") for part in filter(None, query.get("fieldSelector", "").split(",")))
    return all(fields[field] == value for field, _, value in asked)


def _merge(target: dict[str, Any], patch: dict[str, Any]) -> None:
    for key, value in patch.items():
        if value is None:
            target.pop(key, None)
        elif isinstance(value, dict):
            _merge(target.setdefault(key, {}), value)
        else:
            target[key] = value
