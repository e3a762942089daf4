# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""etcd, API server, controller manager and scheduler as plain processes under one supervisor in a pid namespace."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from . import binaries, launch, network, pki, procs
from .console import say, step
from .settings import (
    API_ADDRESS,
    API_PORT,
    BRIDGE_ADDRESS,
    KUBECONFIG,
    LAB_SOURCE,
    LOGS,
    RUN_DIR,
    SERVICE_CIDR,
    LabError,
)
from .shell import digest_of, run, succeeds, wait_until, write

NAME = "control-plane"
FOLDER = RUN_DIR / NAME
RECORD = FOLDER / "init.json"
_ETCD = f"https://{BRIDGE_ADDRESS}:2379"

# The runtime class that the device plugin's pods and GPU workloads may name.
_OBJECTS: list[dict[str, Any]] = [
    {
        "apiVersion": "node.k8s.io/v1",
        "kind": "RuntimeClass",
        "metadata": {"name": "nvidia"},
        "handler": "nvidia",
    },
]


def kubectl(*arguments: str, stdin: str | None = None) -> str:
    """kubectl as cluster administrator."""
    return run(binaries.program("kubectl"), "--kubeconfig", KUBECONFIG, *arguments, stdin=stdin)


def _service(name: str, program: str, *flags: str, needs: tuple[Path, ...] = ()) -> dict[str, Any]:
    return {
        "name": name,
        "command": [str(binaries.program(program)), *flags],
        "log": str(LOGS / NAME / f"{name}.log"),
        "needs": [str(path) for path in needs],
    }


def _etcd() -> dict[str, Any]:
    certificate, key = pki.ensure_certificate("etcd", "/CN=etcd", f"IP:{BRIDGE_ADDRESS}")
    authority = pki.PKI / "ca.crt"
    return _service(
        "etcd", "etcd", "--name=lab", f"--data-dir={FOLDER}/etcd",
        f"--listen-client-urls={_ETCD}", f"--advertise-client-urls={_ETCD}",
        f"--listen-peer-urls=https://{BRIDGE_ADDRESS}:2380",
        f"--initial-advertise-peer-urls=https://{BRIDGE_ADDRESS}:2380",
        f"--initial-cluster=lab=https://{BRIDGE_ADDRESS}:2380",
        f"--cert-file={certificate}", f"--key-file={key}", "--client-cert-auth", f"--trusted-ca-file={authority}",
        f"--peer-cert-file={certificate}", f"--peer-key-file={key}", "--peer-client-cert-auth",
        f"--peer-trusted-ca-file={authority}", "--log-level=warn",
        # The lab is thrown away as a whole: losing the last moment in a power cut of the machine is no loss.
        "--unsafe-no-fsync",
    )  # fmt: skip


def _api_server() -> dict[str, Any]:
    names = "DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:localhost"
    certificate, key = pki.ensure_certificate(
        "apiserver", "/CN=kube-apiserver", f"{names},IP:{API_ADDRESS},IP:{BRIDGE_ADDRESS}"
    )
    # system:masters: what the API server uses towards kubelets (logs, exec).
    kubelet_certificate, kubelet_key = pki.ensure_certificate("kubelet-client", "/O=system:masters/CN=kubelet-client")
    etcd_certificate, etcd_key = pki.ensure_certificate("etcd-client", "/CN=etcd-client")
    authority = pki.PKI / "ca.crt"
    accounts = pki.PKI / "service-accounts.key"
    return _service(
        "kube-apiserver", "kube-apiserver",
        f"--bind-address={API_ADDRESS}", f"--secure-port={API_PORT}", f"--advertise-address={BRIDGE_ADDRESS}",
        f"--service-cluster-ip-range={SERVICE_CIDR}", "--endpoint-reconciler-type=none",
        f"--etcd-servers={_ETCD}", f"--etcd-cafile={authority}",
        f"--etcd-certfile={etcd_certificate}", f"--etcd-keyfile={etcd_key}",
        f"--tls-cert-file={certificate}", f"--tls-private-key-file={key}", f"--client-ca-file={authority}",
        "--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction", "--allow-privileged=true",
        f"--kubelet-certificate-authority={authority}", f"--kubelet-client-certificate={kubelet_certificate}",
        f"--kubelet-client-key={kubelet_key}", "--kubelet-preferred-address-types=InternalIP",
        "--service-account-issuer=https://kubernetes.default.svc", f"--service-account-key-file={accounts}",
        f"--service-account-signing-key-file={accounts}", "--profiling=false",
    )  # fmt: skip


def _controllers() -> list[dict[str, Any]]:
    authority = pki.PKI / "ca.crt"
    services = []
    for name, more in (
        (
            "kube-controller-manager",
            [
                f"--root-ca-file={authority}",
                f"--service-account-private-key-file={pki.PKI / 'service-accounts.key'}",
                "--use-service-account-credentials=true",
            ],
        ),
        ("kube-scheduler", []),
    ):
        file = FOLDER / f"{name}.kubeconfig"
        write(file, pki.kubeconfig(name, f"/CN=system:{name}"), 0o600)
        certificate, key = pki.ensure_certificate(f"{name}-serving", f"/CN={name}", f"IP:{BRIDGE_ADDRESS}")
        services.append(
            _service(
                name, name, f"--kubeconfig={file}", f"--authentication-kubeconfig={file}",
                f"--authorization-kubeconfig={file}", f"--bind-address={BRIDGE_ADDRESS}", "--leader-elect=false",
                f"--tls-cert-file={certificate}", f"--tls-private-key-file={key}", "--profiling=false", *more,
            )
        )  # fmt: skip
    return services


def spec() -> dict[str, Any]:
    return {"socket": str(FOLDER / "supervisor.sock"), "services": [_etcd(), _api_server(), *_controllers()]}


def ensure_running() -> None:
    """Start the control plane, or leave it when it runs from the same programs and settings."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    pki.ensure_authority()
    write(KUBECONFIG, pki.kubeconfig("admin", "/O=system:masters/CN=gpufleet-lab-admin"), 0o600)
    network.ensure_bridge()
    services = spec()
    supervisor = LAB_SOURCE / "gpufleet_lab" / "supervisor.py"
    digest = digest_of([json.dumps(services), supervisor])
    running = procs.load(RECORD)
    if running and running.digest == digest:
        _wait_ready()  # an earlier command may have been cut off while it was starting
        say("control plane: runs already")
    else:
        with step("control plane: starting", 8):
            stop()
            file = FOLDER / "services.json"
            write(file, json.dumps(services, indent=1))
            init = [sys.executable, str(supervisor), str(file)]
            launch.launch(NAME, RECORD, digest, {"namespaces": ["mount", "pid"], "init": init})
            _wait_ready()
    kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": _OBJECTS}))


def _wait_ready() -> None:
    kube = str(binaries.program("kubectl"))

    def ask(*arguments: str) -> bool:
        if procs.load(RECORD) is None:
            raise LabError(f"The control plane ended:\n{launch.last_words(NAME)}")
        return succeeds(kube, "--kubeconfig", KUBECONFIG, "--request-timeout=2s", *arguments)

    hint = f"Its logs are in {LOGS / NAME}."
    wait_until(lambda: ask("get", "--raw=/readyz"), "API server ready", 90, hint)
    wait_until(lambda: ask("get", "serviceaccount", "default"), "default service account", 90, hint, every_s=0.3)


def stop() -> None:
    procs.end_group(NAME, RECORD, grace_s=5)


def runs() -> bool:
    return procs.load(RECORD) is not None


def link_programs() -> None:
    """RUN_DIR/bin: the programs that a person looks at the cluster with."""
    folder = RUN_DIR / "bin"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("kubectl", "helm", "ctr", "nvidia-ctk"):
        scratch = folder / f".{name}.new"
        scratch.unlink(missing_ok=True)
        scratch.symlink_to(binaries.program(name))
        scratch.rename(folder / name)
