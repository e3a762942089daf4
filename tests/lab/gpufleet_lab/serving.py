# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""What serving needs beyond the GPU hosts: kube-proxy for Services, and images of Triton and its client.

Not part of `up`: its images take 490 MB on each host, and nothing else in the lab asks for a Service.
"""

from __future__ import annotations

import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from . import artifacts, binaries, controlplane, hosts, rootfs
from .console import say, step
from .settings import API_ADDRESS, API_PORT, CACHE, HOSTS, IMAGES_SOURCE, LAB_SOURCE, LOCK, LabError
from .shell import digest_of, locked, run, whole_folder
from .toolchain import ensure_packages

SOURCE = LAB_SOURCE / "serving"
# nft writes kube-proxy's rules; Triton's Python backend is linked with libpython.
_PACKAGES = {"nftables": "/usr/sbin/nft", "libpython3.11": "/usr/lib/x86_64-linux-gnu/libpython3.11.so.1.0"}
_PODS = "10.244.0.0/16"
# The API server listens on its service address itself. kube-proxy turns away new connections to service addresses that
# have no endpoint: these are kept from being tracked, so that they are never new.
_API_SERVER_RULES = f"""\
table ip lab-api-server {{
  chain in {{
    type filter hook prerouting priority raw
    ip daddr {API_ADDRESS} notrack
    ip saddr {API_ADDRESS} notrack
  }}
  chain out {{ type filter hook output priority raw; ip daddr {API_ADDRESS} notrack; }}
}}
"""


def _wheels() -> Path:
    return CACHE / "wheels" / digest_of([SOURCE / "requirements.txt"])


def _images() -> Path:
    proxy, simulator, tree = binaries.program("kube-proxy"), artifacts.simulator(), rootfs.base_tree()
    return CACHE / "images" / f"serving-{digest_of([str(proxy), str(simulator), tree.name, IMAGES_SOURCE, *_recipe()])}"


def _recipe() -> list[Path]:
    return [SOURCE / "images.py", SOURCE / "libcuda.c", SOURCE / "requirements.txt"]


def build() -> dict[str, Path]:
    """Make what is missing; the archives by digest."""
    artifacts.build()
    kubernetes = binaries.group("kubernetes").version()
    proxy = binaries.KUBE_PROXY
    if proxy.version() != kubernetes:
        raise LabError(f"{proxy.source}/go.mod pins kube-proxy {proxy.version()}, Kubernetes is {kubernetes}.")
    with locked(CACHE / ".build.lock", "another command is building; waiting for it"):
        ensure_packages(_PACKAGES)
        binaries.build_group(proxy)
        if not _wheels().exists():
            with step("fetching Triton's wheels", 10), whole_folder(_wheels()) as scratch:
                run(
                    sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--require-hashes",
                    "--only-binary=:all:", "--python-version=3.11", "--dest", scratch,
                    "-r", SOURCE / "requirements.txt",
                )  # fmt: skip
        if not _images().exists():
            with step("making the images of Triton, its client and kube-proxy", 15), whole_folder(_images()) as scratch:
                run(
                    sys.executable, "-m", "lab.serving.images", "--out", scratch, "--wheels", _wheels(),
                    "--python-tree", rootfs.base_tree(), "--simulator", artifacts.simulator(),
                    "--kube-proxy", binaries.program("kube-proxy"), "--kubernetes", kubernetes,
                    cwd=LAB_SOURCE.parent, env={"PYTHONPATH": os.fspath(LAB_SOURCE.parent)},
                )  # fmt: skip
    return {digest_of([path]): path for path in sorted(_images().glob("*.tar"))}


def ensure() -> None:
    """Images on every running host, kube-proxy on every node."""
    archives = build()
    running = [host for host in HOSTS if hosts.running(host)]
    if not running:
        raise LabError("The lab is not running; `make lab-up` starts it.")
    with locked(LOCK, "another command changes the lab; waiting for it"):
        with ThreadPoolExecutor(max_workers=2) as pool:
            list(pool.map(lambda host: hosts.import_images(host, archives, "imported-serving"), running))
        image = f"registry.k8s.io/kube-proxy:{binaries.KUBE_PROXY.version()}"
        items = json.dumps({"apiVersion": "v1", "kind": "List", "items": _proxy_objects(image)})
        controlplane.kubectl("apply", "-f", "-", stdin=items)
        with step("kube-proxy on every node", 5):
            controlplane.kubectl("rollout", "status", "daemonset/kube-proxy", "-n", "kube-system", "--timeout=90s")
    say("the lab is ready for serving: ansible-playbook -i inventories/demo playbooks/serve.yml")


def _proxy_objects(image: str) -> list[dict[str, Any]]:
    """kube-proxy as kubeadm runs it: a privileged DaemonSet in the host's network."""
    name, namespace = "kube-proxy", "kube-system"
    account = "/var/run/secrets/kubernetes.io/serviceaccount"
    access = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": "lab",
                "cluster": {
                    "server": f"https://{API_ADDRESS}:{API_PORT}",
                    "certificate-authority": f"{account}/ca.crt",
                },
            }
        ],
        "users": [{"name": "lab", "user": {"tokenFile": f"{account}/token"}}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "lab"}}],
        "current-context": "lab",
    }
    settings = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clusterCIDR": _PODS,
        "oomScoreAdj": 0,  # less may be more than this machine allows
        "clientConnection": {"kubeconfig": "/etc/kube-proxy/kubeconfig"},
        # Two pods of one host talk over its bridge: without this an answer would not come back through the rules.
        "nftables": {"masqueradeAll": True, "minSyncPeriod": "100ms"},
        # The kernel is the machine's: its connection table stays as it is.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }
    labels = {"k8s-app": name}
    pod = {
        "serviceAccountName": name,
        "hostNetwork": True,
        "priorityClassName": "system-node-critical",
        "tolerations": [{"operator": "Exists"}],
        "initContainers": [
            {
                "name": "api-server",
                "image": image,
                "command": ["nft", "-f", "/etc/kube-proxy/api-server"],
                "securityContext": {"privileged": True},
                "volumeMounts": [{"name": "settings", "mountPath": "/etc/kube-proxy"}],
            }
        ],
        "containers": [
            {
                "name": name,
                "image": image,
                "imagePullPolicy": "IfNotPresent",
                "command": [name, "--config=/etc/kube-proxy/config", "--hostname-override=$(NODE)"],
                "env": [{"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}],
                "securityContext": {"privileged": True},
                "volumeMounts": [{"name": "settings", "mountPath": "/etc/kube-proxy"}],
            }
        ],
        "volumes": [{"name": "settings", "configMap": {"name": name}}],
    }
    meta = {"name": name, "namespace": namespace}
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "lab:kube-proxy"},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "ClusterRole",
                "name": "system:node-proxier",
            },
            "subjects": [{"kind": "ServiceAccount", **meta}],
        },
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": meta,
            "data": {
                "config": json.dumps(settings),
                "kubeconfig": json.dumps(access),
                "api-server": _API_SERVER_RULES,
            },
        },
        {
            "apiVersion": "apps/v1",
            "kind": "DaemonSet",
            "metadata": {**meta, "labels": labels},
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": pod},
            },
        },
    ]
