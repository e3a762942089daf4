# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""A small Kubernetes API over real HTTP, enough for the modules of the controller, and a way to run a module.

Objects lie under their API path, each write gives a new resourceVersion, and pods can be watched. A deleted pod of a
publisher is replaced after a moment, as a DaemonSet does. Evictions obey budgets, or a script of answers.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import io
import itertools
import json
import os
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import parse_qsl, urlsplit

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.testing import patch_module_args

ROOT = Path(__file__).resolve().parents[2]
NAMESPACE = "nvidia-device-plugin"
TOKEN = "right"  # noqa: S105 - of the stand-in
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


class Api(ThreadingHTTPServer):
    """The server; tests fill ``objects`` and read ``requests``."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.objects: dict[str, dict[str, Any]] = {}
        self.logs: dict[str, str] = {}
        self.requests: list[str] = []
        self.forbidden: set[tuple[str, str]] = set()
        self.broken: set[str] = set()
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
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

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

    def writes(self) -> list[str]:
        """Requests that change something."""
        return [line for line in self.requests if not line.startswith("GET")]

    def kubeconfig(self, *, token: str = TOKEN, server: str | None = None) -> str:
        """Path of a kubeconfig for this server with the contexts main and other."""
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "lab", "cluster": {"server": server or self.url}}],
            "users": [{"name": "user", "user": {"token": token}}],
            "contexts": [{"name": name, "context": {"cluster": "lab", "user": "user"}} for name in ("main", "other")],
            "current-context": "main",
        }
        path = self.folder / f"kubeconfig-{next(_uids)}"
        path.write_text(json.dumps(content))
        return str(path)

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


def path_of(document: dict[str, Any]) -> str:
    """API path of an object."""
    metadata = document["metadata"]
    kind = document["kind"].lower()
    plural = f"{kind}es" if kind.endswith("s") else f"{kind}s"
    scope = f"/namespaces/{metadata['namespace']}" if "namespace" in metadata else ""
    version = document.get("apiVersion", "v1")
    return f"/{'apis' if '/' in version else 'api'}/{version}{scope}/{plural}/{metadata['name']}"


class _Handler(BaseHTTPRequestHandler):
    server: Api
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Quiet."""

    def _send(self, status: int, body: Any) -> None:
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _refuse(self, status: int, reason: str, message: str, details: dict[str, Any] | None = None) -> None:
        told = {"kind": "Status", "status": "Failure", "reason": reason, "message": message, "code": status}
        self._send(status, {**told, "details": details or {}})

    def _admitted(self) -> tuple[str, dict[str, str]] | None:
        parts = urlsplit(self.path)
        self.server.requests.append(f"{self.command} {self.path}")
        if self.headers.get("authorization") != f"Bearer {TOKEN}":
            self._refuse(401, "Unauthorized", "Unauthorized")
            return None
        if parts.path in self.server.broken:
            self._refuse(500, "InternalError", "etcdserver: request timed out")
            return None
        if (self.command, parts.path) in self.server.forbidden:
            verb = {"GET": "get", "PATCH": "patch", "DELETE": "delete", "POST": "create"}[self.command]
            self._refuse(
                403,
                "Forbidden",
                f'nodes is forbidden: User "dev" cannot {verb} resource "nodes" in API group "" at the cluster scope',
            )
            return None
        return parts.path, dict(parse_qsl(parts.query))

    def _body(self) -> dict[str, Any]:
        length = int(self.headers.get("Content-Length") or 0)
        found: dict[str, Any] = json.loads(self.rfile.read(length)) if length else {}
        return found

    def do_GET(self) -> None:
        admitted = self._admitted()
        if admitted is None:
            return
        path, query = admitted
        if query.get("watch") == "true":
            self._watch(path, query)
        elif path in self.server.objects:
            self._send(200, self.server.objects[path])
        elif path.endswith("/log"):
            text = self.server.logs.get(path.removesuffix("/log").rpartition("/")[2])
            if text is None:
                self._refuse(400, "BadRequest", "no log")
            else:
                self._send(200, text)
        elif path.rpartition("/")[2] in ("nodes", "pods"):
            self._list(path, query)
        else:
            self._refuse(404, "NotFound", f"{path} not found")

    def _list(self, path: str, query: dict[str, str]) -> None:
        plural = path.rpartition("/")[2]
        everywhere = path == f"/api/v1/{plural}"
        found = [
            document
            for where, document in sorted(self.server.objects.items())
            if where.split("/")[-2] == plural and (everywhere or where.startswith(path + "/"))
        ]
        found = [document for document in found if _selected(document, query)]
        start = int(query.get("continue") or 0)
        end = start + self.server.page
        more = {"continue": str(end)} if end < len(found) else {}
        metadata = {"resourceVersion": str(self.server.version), **more}
        self._send(200, {"kind": "List", "metadata": metadata, "items": found[start:end]})

    def _watch(self, path: str, query: dict[str, str]) -> None:
        if not self.server.watching:
            self._refuse(410, "Expired", "too old resource version")
            return
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        last = int(query["resourceVersion"])
        plural = path.rpartition("/")[2]
        until = time.monotonic() + float(query["timeoutSeconds"])
        try:
            while time.monotonic() < until:
                with self.server.guard:
                    news = [each for each in self.server.happened if each[0] > last]
                for version, kind, document in news:
                    last = version
                    where = path_of(document)
                    here = where.split("/")[-2] == plural and (path == f"/api/v1/{plural}" or where.startswith(path))
                    if here and _selected(document, query):
                        data = json.dumps({"type": kind, "object": document}).encode() + b"\n"
                        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
                time.sleep(0.01)
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            self.close_connection = True

    def do_PATCH(self) -> None:
        admitted, body = self._admitted(), self._body()
        if admitted is None:
            return
        path = admitted[0]
        with self.server.guard:
            found = self.server.objects.get(path)
            if found is None:
                self._refuse(404, "NotFound", f"{path} not found")
                return
            version = body.get("metadata", {}).get("resourceVersion")
            if self.server.conflicts.get(path, 0) > 0:
                self.server.conflicts[path] -= 1
                self.server.stamp(found, "MODIFIED")
            if version not in (None, found["metadata"].get("resourceVersion")):
                self._refuse(409, "Conflict", "the object has been modified; please apply your changes")
                return
            _merge(found, body)
            self.server.stamp(found, "MODIFIED")
        self._send(200, found)

    def do_POST(self) -> None:
        admitted, body = self._admitted(), self._body()
        if admitted is None:
            return
        path = admitted[0]
        if path.endswith("/selfsubjectaccessreviews"):
            asked = body["spec"]["resourceAttributes"]
            resource = "/".join(filter(None, (asked["resource"], asked.get("subresource"))))
            body["status"] = {"allowed": f"{asked['verb']} {resource}" not in self.server.denied}
            self._send(201, body)
        elif path.endswith("/eviction"):
            self._evict(path.removesuffix("/eviction"), body)
        else:
            with self.server.guard:
                if path_of(body) in self.server.objects:
                    self._refuse(409, "AlreadyExists", "it exists")
                    return
                self.server.put(body)
            self._send(201, body)

    def _evict(self, path: str, body: dict[str, Any]) -> None:
        with self.server.guard:
            found = self.server.objects.get(path)
            if found is None:
                self._refuse(404, "NotFound", "not found")
                return
            metadata = found["metadata"]
            if body["deleteOptions"]["preconditions"]["uid"] != metadata["uid"]:
                self._refuse(409, "Conflict", "the UID in the precondition does not match")
                return
            script = self.server.scripts.get(metadata["name"])
            if script:
                status, message = script.pop(0)
                self._refuse(status, {429: "TooManyRequests"}.get(status, "InternalError"), message)
                return
            for (namespace, name), budget in self.server.budgets.items():
                labels = metadata.get("labels", {})
                if namespace != metadata["namespace"] or not budget["labels"].items() <= labels.items():
                    continue
                if budget["allowed"] < 1:
                    said = f"The disruption budget {name} needs 2 healthy pods and has 2 currently"
                    causes = {"causes": [{"reason": "DisruptionBudget", "message": said}]}
                    words = "Cannot evict pod as it would violate the pod's disruption budget."
                    self._refuse(429, "TooManyRequests", words, causes)
                    return
                budget["allowed"] -= 1
            self.server.end(path)
        self._send(201, {"kind": "Status", "status": "Success"})

    def do_DELETE(self) -> None:
        admitted, body = self._admitted(), self._body()
        if admitted is None:
            return
        found = self.server.objects.get(admitted[0])
        if found is None:
            self._refuse(404, "NotFound", "not found")
        elif body.get("preconditions", {}).get("uid") not in (None, found["metadata"].get("uid")):
            self._refuse(409, "Conflict", "the UID in the precondition does not match")
        else:
            self.server.delete(admitted[0])
            self._send(200, {"kind": "Status", "status": "Success"})


def _selected(document: dict[str, Any], query: dict[str, str]) -> bool:
    """By the selectors that the modules use."""
    labels = document["metadata"].get("labels", {})
    for part in filter(None, query.get("labelSelector", "").split(",")):
        key, _, value = part.partition("=")
        if labels.get(key) != value:
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


def run_module(
    module: str, /, *, check: bool = False, env: dict[str, str] | None = None, **params: Any
) -> dict[str, Any]:
    """Run a module of the collection as its own process, as Ansible does; its JSON answer."""
    arguments = {"ANSIBLE_MODULE_ARGS": {**params, "_ansible_check_mode": check, "_ansible_diff": True}}
    done = subprocess.run(
        [sys.executable, "-m", f"ansible_collections.gpufleet.mig.plugins.modules.{module}"],
        input=json.dumps(arguments),
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / ".tree"), **(env or {})},
    )
    assert done.stdout, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    answer.pop("invocation", None)
    return answer


def run_here(module: str, /, *, check: bool = False, **params: Any) -> dict[str, Any]:
    """As run_module, but in this process: importing the kubernetes client anew costs more than most tests."""
    arguments = {**params, "_ansible_check_mode": check, "_ansible_diff": True}
    main = importlib.import_module(f"ansible_collections.gpufleet.mig.plugins.modules.{module}").main
    said, warned = io.StringIO(), []
    # Where Ansible's controller side is loaded in this process, warnings would go to the terminal instead.
    with (
        mock.patch.object(AnsibleModule, "warn", lambda _self, text, **_more: warned.append(text)),
        patch_module_args(arguments),
        contextlib.redirect_stdout(said),
        contextlib.suppress(SystemExit),
    ):
        main()
    answer: dict[str, Any] = {**json.loads(said.getvalue()), "warnings": warned}
    answer.pop("invocation", None)
    return answer
