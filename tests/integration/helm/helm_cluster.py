# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""A private, real Kubernetes API with its workload controllers, and the least that stands in for a node's kubelet.

etcd, kube-apiserver and kube-controller-manager are the lab's binaries on free ports of the loopback interface. What
is missing, a scheduler and a kubelet, is played by a thread: it binds each pod to the one node, reports it ready,
crashing or for ever starting (the image name says which), and removes it when it is deleted.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from lab.gpufleet_lab.binaries import build_group, group

NODE = "node-a"
TOKENS = {"admin": "system:masters", "weak": "nobody"}
CONTROLLERS = "daemonset-controller,deployment-controller,replicaset-controller,namespace-controller"
LAST_WORDS = "more than one MIG device type present on node"


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Cluster:
    """Started by ``up``; ``kubeconfig()`` is what a user would have."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.programs = build_group(group("kubernetes"))
        self.helm = os.environ.get("GPUFLEET_TEST_HELM") or str(build_group(group("helm")) / "helm")
        self.port = free_port()
        self.url = f"https://127.0.0.1:{self.port}"
        self._processes: list[subprocess.Popen[bytes]] = []
        self._stop = threading.Event()
        self._tls = ssl.create_default_context()

    def serve(self, *options: str) -> None:
        """etcd and an API server with these further options, and nothing else."""
        key = self.folder / "service-account.key"
        subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], check=True, capture_output=True)
        tokens = self.folder / "tokens.csv"
        tokens.write_text("".join(f'{name}-token,{name},{name},"{found}"\n' for name, found in TOKENS.items()))
        client, peer = free_port(), free_port()
        self._start(
            "etcd",
            f"--data-dir={self.folder}/etcd",
            f"--listen-client-urls=http://127.0.0.1:{client}",
            f"--advertise-client-urls=http://127.0.0.1:{client}",
            f"--listen-peer-urls=http://127.0.0.1:{peer}",
            f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
            f"--initial-cluster=default=http://127.0.0.1:{peer}",
            "--unsafe-no-fsync",
        )
        self._start(
            "kube-apiserver",
            f"--etcd-servers=http://127.0.0.1:{client}",
            "--bind-address=127.0.0.1",
            f"--secure-port={self.port}",
            f"--cert-dir={self.folder}",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--token-auth-file={tokens}",
            "--authorization-mode=RBAC",
            "--service-cluster-ip-range=10.97.0.0/16",
            "--endpoint-reconciler-type=none",
            "--disable-admission-plugins=ServiceAccount",
            *options,
        )
        self._until_ready()

    def up(self) -> None:
        """Everything started and the node Ready."""
        self.serve()
        self._start(
            "kube-controller-manager",
            f"--kubeconfig={self.kubeconfig()}",
            f"--service-account-private-key-file={self.folder / 'service-account.key'}",
            f"--controllers={CONTROLLERS}",
            "--leader-elect=false",
            f"--secure-port={free_port()}",
            f"--cert-dir={self.folder}",
        )
        self.call("POST", "/api/v1/nodes", {"metadata": {"name": NODE, "labels": {"kubernetes.io/hostname": NODE}}})
        self.node_status({"pods": "110", "cpu": "8", "memory": "8Gi"})
        threading.Thread(target=self._kubelet, daemon=True).start()

    def down(self) -> None:
        """Stop what was started."""
        self._stop.set()
        for process in reversed(self._processes):
            process.kill()
            process.wait()

    def _start(self, name: str, *arguments: str) -> None:
        with (self.folder / f"{name}.log").open("wb") as log:
            # setpriv: the programs end with the test run, however that ends
            command = ["setpriv", "--pdeathsig", "KILL", str(self.programs / name), *arguments]
            self._processes.append(subprocess.Popen(command, stdout=log, stderr=log))

    def _until_ready(self) -> None:
        deadline = time.monotonic() + 60
        certificate = self.folder / "apiserver.crt"
        while True:
            try:
                self._tls = ssl.create_default_context(cafile=str(certificate))
                self._tls.check_hostname = False
                self.call("GET", "/readyz")
            except (OSError, ValueError) as error:
                if time.monotonic() > deadline:
                    raise AssertionError(f"the API server does not get ready, its logs: {self.folder}") from error
                time.sleep(0.2)
            else:
                return

    def kubeconfig(self, user: str = "admin") -> str:
        """A kubeconfig file of one of the users, with the context main."""
        authority = base64.b64encode((self.folder / "apiserver.crt").read_bytes()).decode()
        cluster = {"server": self.url, "certificate-authority-data": authority}
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": cluster}],
            "users": [{"name": user, "user": {"token": f"{user}-token"}}],
            "contexts": [{"name": "main", "context": {"cluster": "c", "user": user}}],
            "current-context": "main",
        }
        path = self.folder / f"kubeconfig-{user}"
        path.write_text(json.dumps(content))
        return str(path)

    def call(self, method: str, path: str, body: Any = None, content_type: str = "application/json") -> Any:
        """One request as the administrator; HTTPError where it is refused."""
        request = urllib.request.Request(  # noqa: S310 - the URL is this server's
            self.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": "Bearer admin-token", "Content-Type": content_type},
        )
        with urllib.request.urlopen(request, context=self._tls, timeout=10) as answer:  # noqa: S310
            data = answer.read()
        return json.loads(data) if data.startswith(b"{") else data.decode()

    def find(self, path: str) -> Any:
        """An object or None."""
        try:
            return self.call("GET", path)
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise

    def node_status(self, amounts: dict[str, str], *, ready: bool = True) -> None:
        """What a kubelet would report."""
        status = {
            "conditions": [{"type": "Ready", "status": str(ready)}],
            "allocatable": amounts,
            "capacity": amounts,
        }
        self.call(
            "PATCH", f"/api/v1/nodes/{NODE}/status", {"status": status}, content_type="application/merge-patch+json"
        )

    def run_helm(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """helm as a user of the cluster runs it."""
        command = [self.helm, "--kubeconfig", self.kubeconfig(), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=check)

    # the stand-in for scheduler and kubelet

    def _kubelet(self) -> None:
        while not self._stop.wait(0.1):
            try:
                self.call("PATCH", f"/api/v1/nodes/{NODE}", _NO_TAINTS, content_type="application/merge-patch+json")
                for pod in self.call("GET", "/api/v1/pods")["items"]:
                    self._attend(pod)
            except urllib.error.HTTPError as error:
                if error.code not in (404, 409):  # gone or changed since it was listed: the next round sees it
                    raise
            except OSError:
                if not self._stop.is_set():
                    raise

    def _attend(self, pod: dict[str, Any]) -> None:
        metadata = pod["metadata"]
        path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
        if metadata.get("deletionTimestamp"):
            self.call("DELETE", path, {"gracePeriodSeconds": 0})
        elif not pod["spec"].get("nodeName"):
            target = {"apiVersion": "v1", "kind": "Node", "name": NODE}
            self.call("POST", f"{path}/binding", {"metadata": {"name": metadata["name"]}, "target": target})
        elif not pod["status"].get("containerStatuses"):
            status = _status(pod["spec"]["containers"][0])
            self.call("PATCH", f"{path}/status", {"status": status}, content_type="application/merge-patch+json")


_NO_TAINTS = {"spec": {"taints": None}}


def _status(container: dict[str, Any]) -> dict[str, Any]:
    """By the image's name: crash ends again and again, slow never starts, any other is ready at once."""
    image = container["image"]
    state: dict[str, Any] = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
    last: dict[str, Any] = {}
    if image == "crash":
        state = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s restarting failed container"}}
        last = {"terminated": {"exitCode": 1, "reason": "Error", "message": LAST_WORDS}}
    elif image == "slow":
        state = {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image slow"}}
    ready = "running" in state
    entry = {
        "name": container["name"],
        "image": image,
        "imageID": image,
        "ready": ready,
        "restartCount": 3 if last else 0,
        "state": state,
        "lastState": last,
    }
    return {
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
        "containerStatuses": [entry],
    }
