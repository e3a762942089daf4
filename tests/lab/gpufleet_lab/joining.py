# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""A host with systemd as a node of the lab's cluster, as kubeadm leaves one: a kubelet as a unit and its kubeconfig.

The machine passes the packets between both bridges on; the node goes when its host is made anew or ends.
"""

from __future__ import annotations

import io
import subprocess
import tarfile

from . import artifacts, binaries, controlplane, hostfiles, pki, realhosts
from .console import step
from .hostfiles import File
from .settings import API_ADDRESS, API_PORT, LabError
from .shell import ending_with_us, wait_until

_PROGRAMS = {"usr/bin": ("kubelet",), "opt/cni/bin": ("bridge", "host-local", "loopback")}
_READY = 'jsonpath={.status.conditions[?(@.type=="Ready")].status}'
# The unit of Kubernetes' own packages, with the flags of this host.
_UNIT = """\
[Unit]
Description=kubelet: The Kubernetes Node Agent
Wants=network-online.target
After=network-online.target containerd.service

[Service]
ExecStart=/usr/bin/kubelet --config=/etc/kubernetes/kubelet.json --kubeconfig=/etc/kubernetes/kubelet.conf \\
  --hostname-override={name} --node-ip={address} --node-labels=nvidia.com/gpu.present=true
Restart=always
StartLimitInterval=0
RestartSec=1

[Install]
WantedBy=multi-user.target
"""
_KUBECONFIG = f"""\
apiVersion: v1
kind: Config
clusters:
- name: lab
  cluster:
    certificate-authority: /etc/kubernetes/pki/ca.crt
    server: https://{API_ADDRESS}:{API_PORT}
contexts:
- name: node
  context: {{cluster: lab, user: node}}
current-context: node
users:
- name: node
  user:
    client-certificate: /var/lib/kubelet/pki/kubelet-client-current.pem
    client-key: /var/lib/kubelet/pki/kubelet-client-current.pem
"""


def join(host: realhosts.RealHost) -> None:
    """Bring what a node needs to a running host and wait until the node is ready."""
    if not controlplane.runs():
        raise LabError("The lab does not run; `make lab-up` starts it.")
    if not realhosts.listens(host):
        raise LabError(f"{host.name} does not run; `make hosts-up` starts it.")
    with step(f"{host.name}: joining the cluster", 20):
        realhosts.route(host)
        realhosts.joined(host).touch()
        _send(host, _archive(host), "sudo tar -x -C / --no-same-owner")
        realhosts.ssh(host, "sudo systemctl daemon-reload")
        realhosts.ssh(host, "sudo systemctl restart containerd")
        for image in artifacts.image_archives().values():
            _send(host, image.read_bytes(), "sudo ctr -n k8s.io images import --local -")
        realhosts.ssh(host, "sudo systemctl enable --now kubelet")
        hint = f"`journalctl -u kubelet` on {host.name} may say why."
        wait_until(lambda: ready(host), f"{host.name}: node Ready", 90, hint, every_s=0.3)


def ready(host: realhosts.RealHost) -> bool:
    return controlplane.kubectl("get", "node", host.name, "--ignore-not-found", "-o", _READY) == "True"


def _archive(host: realhosts.RealHost) -> bytes:
    """Programs and files as a tar archive."""
    certificate, key = pki.ensure_certificate(f"{host.name}-client", f"/O=system:nodes/CN=system:node:{host.name}")
    files = {
        **hostfiles.node_files(host),
        "etc/systemd/system/kubelet.service": File(_UNIT.format(name=host.name, address=host.address)),
        # Containers outlive containerd; a shutdown would wait 90 s for those that take no notice of SIGTERM.
        "etc/systemd/system.conf.d/10-lab.conf": File("[Manager]\nDefaultTimeoutStopSec=5s\n"),
        "etc/kubernetes/kubelet.conf": File(_KUBECONFIG, 0o600),
        "var/lib/kubelet/pki/kubelet-client-current.pem": File(certificate.read_text() + key.read_text(), 0o600),
    }
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for path, file in files.items():
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(file.content.encode()), file.mode
            archive.addfile(entry, io.BytesIO(file.content.encode()))
        for folder, names in _PROGRAMS.items():
            for name in names:
                archive.add(binaries.program(name), f"{folder}/{name}")
    return packed.getvalue()


def _send(host: realhosts.RealHost, content: bytes, command: str) -> None:
    done = subprocess.run(
        ending_with_us([*realhosts.ssh_command(host), command]), input=content, capture_output=True, check=False
    )
    if done.returncode != 0:
        raise LabError(f"{host.name}: {command} failed: {done.stderr.decode(errors='replace').strip()[-1000:]}")
