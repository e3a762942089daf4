# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""The files that make a Debian tree one particular GPU host: names, keys, containerd, CNI, kubelet, sshd.

They form a read-only layer of the host's file system, rendered before each start.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from . import binaries, pki
from .settings import (
    BRIDGE_ADDRESS,
    CLUSTER_DNS,
    CLUSTER_DOMAIN,
    CUDA_VERSION,
    DRIVER_VERSION,
    HOSTS,
    KNOWN_HOSTS,
    NODE_STATUS_UPDATE,
    SSH_KEY,
    HostSpec,
)
from .shell import run, write

SOCKET = "/run/gpufleet-lab/supervisor.sock"
CONTAINERD_SOCKET = "/run/containerd/containerd.sock"
STATE = "/proc/driver/nvidia-sim/state"
SANDBOX_IMAGE = "registry.k8s.io/pause:3.10"
_LIB = "/usr/local/lib/gpufleet-lab"

# What kubelet sets on start. Files of the host cover the real ones, which belong to the whole machine.
SYSCTLS = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}


class Node(Protocol):
    """A host as the cluster knows it."""

    @property
    def name(self) -> str: ...
    @property
    def address(self) -> str: ...
    @property
    def pod_cidr(self) -> str: ...


@dataclass(frozen=True)
class File:
    content: str
    mode: int = 0o644


# A container has its own procfs and sysfs, where the simulated driver's files are not; runc refuses mounts over /proc
# from a specification. This hook runs in the container's mount namespace before its root is entered. Real nodes need
# none of it: there the kernel module fills every procfs.
_HOOK = """\
#!/bin/sh
set -eu
bundle=$(/bin/sed -n 's/.*"bundle": *"\\([^"]*\\)".*/\\1/p')
for folder in proc/driver sys/bus/pci/devices; do
  if [ -d "$bundle/rootfs/$folder" ]; then /bin/mount --bind "/$folder" "$bundle/rootfs/$folder"; fi
done
"""

# What the container toolkit brings.
_NVIDIA_RUNTIME = """
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.nvidia]
  runtime_type = "io.containerd.runc.v2"
  base_runtime_spec = "/etc/containerd/base.json"

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.nvidia.options]
  BinaryName = "/usr/bin/nvidia-container-runtime"
"""
_CONTAINERD = f"""\
version = 3
root = "/var/lib/containerd"
state = "/run/containerd"

[grpc]
  address = "{CONTAINERD_SOCKET}"

[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = "{SANDBOX_IMAGE}"

[plugins.'io.containerd.cri.v1.runtime']
  # Containers get their GPUs by CDI.
  enable_cdi = true
  cdi_spec_dirs = ["/etc/cdi", "/var/run/cdi"]
  # A machine may withhold CAP_SYS_RESOURCE; without it no score below one's own can be set and every sandbox fails.
  restrict_oom_score_adj = true

[plugins.'io.containerd.cri.v1.runtime'.containerd]
  default_runtime_name = "runc"

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
  base_runtime_spec = "/etc/containerd/base.json"
{_NVIDIA_RUNTIME}
[plugins.'io.containerd.cri.v1.runtime'.cni]
  bin_dirs = ["/opt/cni/bin"]
  conf_dir = "/etc/cni/net.d"

[plugins.'io.containerd.nri.v1.nri']
  disable = true
"""

_SSHD = """\
ListenAddress {address}
HostKey /etc/ssh/ssh_host_ed25519_key
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UseDNS no
UsePAM no
PrintMotd no
MaxStartups 100
MaxSessions 100
AcceptEnv LANG LC_*
Subsystem sftp /usr/lib/openssh/sftp-server
"""


@cache
def _base_runtime_spec() -> str:
    """containerd's own default specification of a container, with our hook."""
    specification = json.loads(run(binaries.program("ctr"), "oci", "spec"))
    specification["hooks"] = {"createContainer": [{"path": f"{_LIB}/simulated-driver-hook"}]}
    return json.dumps(specification, indent=1)


@cache
def _toolkit_config() -> str:
    """The NVIDIA container toolkit's own defaults, but as the role container_toolkit closes them."""
    setting = "accept-nvidia-visible-devices-envvar-when-unprivileged"
    default = run(binaries.program("nvidia-ctk"), "config", "default")
    return default.replace(f"#{setting} = true", f"{setting} = false")


def _network_config(host: Node) -> dict[str, Any]:
    return {
        "cniVersion": "1.0.0",
        "name": "lab",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "cni0",
                "isGateway": True,
                "ipMasq": False,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": host.pod_cidr}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                    # Leases end with the boot, as the pods' networks do.
                    "dataDir": "/run/cni-leases",
                },
            }
        ],
    }


def _kubelet_config(host: Node) -> dict[str, Any]:
    keys = "/etc/kubernetes/pki"
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": host.address,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": f"{keys}/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": f"{keys}/kubelet-serving.crt",
        "tlsPrivateKeyFile": f"{keys}/kubelet-serving.key",
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "clusterDNS": [CLUSTER_DNS],
        "clusterDomain": CLUSTER_DOMAIN,
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": "/",
        "failCgroupV1": False,
        "failSwapOn": False,
        "makeIPTablesUtilChains": False,
        "oomScoreAdj": 0,
        "maxOpenFiles": 20000,
        "nodeStatusUpdateFrequency": NODE_STATUS_UPDATE,
        "healthzBindAddress": "127.0.0.1",
        # Images come from files: kubelet must not collect them, nor evict pods because the machine's disk is full.
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "evictionHard": {"memory.available": "50Mi", "nodefs.available": "0%", "imagefs.available": "0%"},
        "localStorageCapacityIsolation": False,
        "registerWithTaints": [],
        "rotateCertificates": False,
    }


def ensure_keys(host: HostSpec) -> None:
    """SSH and machine identity of a host: made once, kept until the lab goes down."""
    SSH_KEY.parent.mkdir(parents=True, exist_ok=True)
    SSH_KEY.parent.chmod(0o700)
    host.folder.mkdir(parents=True, exist_ok=True)
    key = host.folder / "ssh_host_ed25519_key"
    if not key.with_suffix(".pub").exists():
        key.unlink(missing_ok=True)
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", host.name, "-f", key)
    machine = host.folder / "machine-id"
    if not machine.exists():
        write(machine, Path("/proc/sys/kernel/random/uuid").read_text().replace("-", ""))


def ensure_user_key() -> None:
    """The key that people and Ansible use, and the list of the hosts' keys."""
    SSH_KEY.parent.mkdir(parents=True, exist_ok=True)
    SSH_KEY.parent.chmod(0o700)
    if not SSH_KEY.with_suffix(".pub").exists():
        SSH_KEY.unlink(missing_ok=True)
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "gpufleet-lab", "-f", SSH_KEY)
    for host in HOSTS:
        ensure_keys(host)
    lines = []
    for host in HOSTS:
        kind, key, _ = (host.folder / "ssh_host_ed25519_key.pub").read_text().split()
        lines.append(f"{host.address},{host.name} {kind} {key}\n")
    write(KNOWN_HOSTS, "".join(lines))


def simulator_spec(host: HostSpec) -> dict[str, Any]:
    """What `simctl init` is told: driver, CUDA and the boards by product key."""
    return {
        "driver_version": DRIVER_VERSION,
        "cuda_version": CUDA_VERSION,
        "gpus": [{"product": product} for product in host.gpus],
    }


def _services(host: HostSpec) -> dict[str, Any]:
    def service(name: str, *command: str, needs: tuple[str, ...] = ()) -> dict[str, Any]:
        return {"name": name, "command": list(command), "log": f"/var/log/{name}.log", "needs": list(needs)}

    return {
        "socket": SOCKET,
        "services": [
            service("sshd", "/usr/sbin/sshd", "-D", "-e"),
            service("containerd", "/usr/bin/containerd", "--log-level", "warn"),
            service(
                "kubelet", "/usr/bin/kubelet", "--config=/etc/kubernetes/kubelet.json",
                "--kubeconfig=/etc/kubernetes/kubelet.kubeconfig", f"--hostname-override={host.name}",
                f"--node-ip={host.address}", "--node-labels=nvidia.com/gpu.present=true",
                needs=(CONTAINERD_SOCKET,),
            ),
        ],
    }  # fmt: skip


def node_files(host: Node) -> dict[str, File]:
    """What makes a host a node: containerd, CNI and kubelet, but for the kubelet's own credentials."""
    serving, serving_key = pki.ensure_certificate(
        f"{host.name}-serving", f"/O=system:nodes/CN=system:node:{host.name}", f"DNS:{host.name},IP:{host.address}"
    )
    return {
        "etc/containerd/config.toml": File(_CONTAINERD.replace(_NVIDIA_RUNTIME, "")),
        "etc/containerd/base.json": File(_base_runtime_spec()),
        "etc/cni/net.d/10-lab.conflist": File(json.dumps(_network_config(host), indent=1)),
        "etc/kubernetes/kubelet.json": File(json.dumps(_kubelet_config(host), indent=1)),
        "etc/kubernetes/pki/ca.crt": File((pki.PKI / "ca.crt").read_text()),
        "etc/kubernetes/pki/kubelet-serving.crt": File(serving.read_text()),
        "etc/kubernetes/pki/kubelet-serving.key": File(serving_key.read_text(), 0o600),
        f"{_LIB[1:]}/simulated-driver-hook": File(_HOOK, 0o755),
    }


def render(host: HostSpec) -> dict[str, File]:
    """Path on the host to content, for everything that differs from the shared layers."""
    ensure_keys(host)
    names = "".join(f"{other.address} {other.name}\n" for other in HOSTS)
    host_key = host.folder / "ssh_host_ed25519_key"
    return {
        **node_files(host),
        "etc/hostname": File(f"{host.name}\n"),
        "etc/hosts": File(f"127.0.0.1 localhost\n{BRIDGE_ADDRESS} lab\n{names}"),
        "etc/resolv.conf": File("# The lab has no name service.\n"),
        "etc/machine-id": File((host.folder / "machine-id").read_text()),
        "root/.ssh/authorized_keys": File(SSH_KEY.with_suffix(".pub").read_text(), 0o600),
        "etc/ssh/sshd_config": File(_SSHD.format(address=host.address)),
        "etc/ssh/ssh_host_ed25519_key": File(host_key.read_text(), 0o600),
        "etc/ssh/ssh_host_ed25519_key.pub": File(host_key.with_suffix(".pub").read_text()),
        "etc/containerd/config.toml": File(_CONTAINERD),
        "etc/nvidia-container-runtime/config.toml": File(_toolkit_config()),
        "etc/kubernetes/kubelet.kubeconfig": File(
            pki.kubeconfig(f"{host.name}-client", f"/O=system:nodes/CN=system:node:{host.name}"), 0o600
        ),
        "etc/gpufleet-lab/services.json": File(json.dumps(_services(host), indent=1)),
        "etc/gpufleet-lab/gpus.json": File(json.dumps(simulator_spec(host), indent=1)),
    }


def write_layer(files: dict[str, File], target: Path) -> None:
    """Write a rendered layer afresh; the host must not be running."""
    if target.exists():
        shutil.rmtree(target)
    target.mkdir(parents=True)
    for path, file in files.items():
        write(target / path, file.content, file.mode)
    for private in ("root", "root/.ssh"):
        (target / private).chmod(0o700)
