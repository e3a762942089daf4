# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""The real programs, built from pinned Go modules or taken from this machine where the version is the same.

Versions stand in one place, the go.mod files under tests/lab/go. Estimates are from 2 cores with nothing cached.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from .console import say, step
from .settings import CACHE, GO_VERSION, LAB_SOURCE, LabError
from .shell import digest_of, run, whole_folder
from .toolchain import go_binary, go_environment


@dataclass(frozen=True)
class Program:
    """One binary: name in the lab, Go package, and how a prebuilt one tells its version."""

    name: str
    package: str
    version_command: tuple[str, ...] = ()
    version_pattern: str = ""


@dataclass(frozen=True)
class Group:
    """One go.mod: a module whose version gives the flags, and the programs built from it."""

    name: str
    version_of: str
    programs: tuple[Program, ...]
    link_flags: Callable[[str], list[str]]
    estimate_s: float
    tags: str = ""
    environment: Mapping[str, str] | None = None

    @property
    def source(self) -> Path:
        return LAB_SOURCE / "go" / self.name

    @property
    def folder(self) -> Path:
        recipe = [GO_VERSION, self.tags, *self.link_flags(self.version()), *(p.name + p.package for p in self.programs)]
        return CACHE / "bin" / f"{self.name}-{digest_of([*recipe, self.source / 'go.mod', self.source / 'go.sum'])}"

    def version(self, module: str = "") -> str:
        """The pinned version of a module, with its v: the `require` line of go.mod."""
        module = module or self.version_of
        match = re.search(rf"^\s*(?:require )?{re.escape(module)} (v\S+)", (self.source / "go.mod").read_text(), re.M)
        if not match:
            raise LabError(f"{self.source}/go.mod requires no {module}.")
        return match[1]


def _kubernetes_flags(version: str) -> list[str]:
    major, minor, _ = version.lstrip("v").split(".")
    values = {"gitVersion": version, "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    return [f"-X k8s.io/component-base/version.{key}={value}" for key, value in values.items()]


_KUBE = "k8s.io/kubernetes/cmd"
_CNI = "github.com/containernetworking/plugins/plugins"
_TOOLKIT = "github.com/NVIDIA/nvidia-container-toolkit"
_CONTAINERD = "github.com/containerd/containerd/v2"

GROUPS: tuple[Group, ...] = (
    Group(
        "kubernetes",
        "k8s.io/kubernetes",
        (
            *(
                Program(name, f"{_KUBE}/{name}", ("--version",), r"^Kubernetes {version}$")
                for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet")
            ),
            Program("kubectl", f"{_KUBE}/kubectl", ("version", "--client"), r"^Client Version: {version}$"),
            Program("etcd", "go.etcd.io/etcd/server/v3", ("--version",), r"^etcd Version: {etcd}$"),
        ),
        _kubernetes_flags,
        380,
    ),
    Group(
        "containers",
        _CONTAINERD,
        (
            Program("containerd", f"{_CONTAINERD}/cmd/containerd", ("--version",), r" {version}( |$)"),
            Program("ctr", f"{_CONTAINERD}/cmd/ctr", ("--version",), r" {version}$"),
            Program("containerd-shim-runc-v2", f"{_CONTAINERD}/cmd/containerd-shim-runc-v2"),
            # Without seccomp in runc every sandbox of kubelet fails: a prebuilt one must show libseccomp.
            Program(
                "runc", "github.com/opencontainers/runc", ("--version",), r"(?s)runc version {runc}\b.*libseccomp: "
            ),
            Program("bridge", f"{_CNI}/main/bridge"),
            Program("host-local", f"{_CNI}/ipam/host-local"),
            Program("loopback", f"{_CNI}/main/loopback"),
        ),
        lambda version: [f"-X {_CONTAINERD}/version.Version={version}"],
        106,
        tags="seccomp",
    ),
    Group(
        "nvidia",
        _TOOLKIT,
        (
            Program("nvidia-ctk", f"{_TOOLKIT}/cmd/nvidia-ctk", ("--version",), r"CLI version {bare}$"),
            Program("nvidia-cdi-hook", f"{_TOOLKIT}/cmd/nvidia-cdi-hook"),
            Program("nvidia-container-runtime", f"{_TOOLKIT}/cmd/nvidia-container-runtime"),
            Program("nvidia-container-runtime.cdi", f"{_TOOLKIT}/cmd/nvidia-container-runtime.cdi"),
        ),
        lambda version: [f"-X {_TOOLKIT}/internal/info.version={version.lstrip('v')}"],
        49,
        environment={"CGO_ENABLED": "1", "CGO_CFLAGS": "-O2 -Wno-deprecated-declarations"},
    ),
    Group(
        "helm",
        "helm.sh/helm/v4",
        (Program("helm", "helm.sh/helm/v4/cmd/helm", ("version", "--short"), r"^{version}(\+|$)"),),
        lambda version: [f"-X helm.sh/helm/v4/internal/version.version={version}"],
        123,
    ),
)

# Not in GROUPS: only serving needs it, and a program more in `kubernetes` would have the others linked again.
KUBE_PROXY = Group(
    "kube-proxy", "k8s.io/kubernetes", (Program("kube-proxy", f"{_KUBE}/kube-proxy"),), _kubernetes_flags, 150
)


def group(name: str) -> Group:
    return next(candidate for candidate in GROUPS if candidate.name == name)


def program(name: str) -> Path:
    """Path of a built program in the cache."""
    for candidate in (*GROUPS, KUBE_PROXY):
        if any(item.name == name for item in candidate.programs):
            return candidate.folder / name
    raise LabError(f"The lab builds no program called {name}.")


def _prebuilt(item: Program, of: Group) -> Path | None:
    """The same program in the same version on this machine (KUBEBUILDER_ASSETS, PATH), or None."""
    if not item.version_pattern:
        return None
    places = [os.environ.get("KUBEBUILDER_ASSETS", ""), *os.environ.get("PATH", "").split(os.pathsep)]
    version = of.version()
    wanted = item.version_pattern.replace("{version}", re.escape(version))
    wanted = wanted.replace("{bare}", re.escape(version.lstrip("v")))
    if "{etcd}" in wanted:
        wanted = wanted.replace("{etcd}", re.escape(of.version("go.etcd.io/etcd/server/v3").lstrip("v")))
    if "{runc}" in wanted:
        wanted = wanted.replace("{runc}", re.escape(of.version("github.com/opencontainers/runc").lstrip("v")))
    for place in filter(None, places):
        candidate = Path(place) / item.name
        if not os.access(candidate, os.X_OK) or candidate.read_bytes()[:4] != b"\x7fELF":
            continue
        try:
            told = run(candidate, *item.version_command, timeout_s=10)
        except LabError:
            continue
        if re.search(wanted, told, re.M):
            return candidate
    return None


def build_group(of: Group) -> Path:
    """Make the folder of a group's programs unless it is there; an interrupted build loses no compiled package."""
    folder = of.folder
    if folder.exists():
        return folder
    with whole_folder(folder) as scratch:
        missing: list[Program] = []
        for item in of.programs:
            found = _prebuilt(item, of)
            if found:
                say(f"{item.name}: taking {found}, it is the pinned version")
                shutil.copy2(found, scratch / item.name)
            else:
                missing.append(item)
        for item in missing:
            share = of.estimate_s if item is of.programs[0] or of.programs[0] not in missing else None
            with step(f"building {of.name}: {item.name} {of.version()}", share):
                _go_build(of, item, scratch / item.name)
    return folder


def _go_build(of: Group, item: Program, target: Path) -> None:
    flags = ["-s", "-w", *of.link_flags(of.version())]
    tags = ["-tags", of.tags] if of.tags else []
    run(
        "nice", go_binary(), "build", "-trimpath", "-ldflags", " ".join(flags), *tags, "-o", target, item.package,
        cwd=of.source, env={**go_environment(), **(of.environment or {})}, whole_tree=True,
    )  # fmt: skip


def download_modules() -> None:
    """Fetch every module of every group that is still to be built; runs beside the first compilation."""
    for of in GROUPS:
        if not of.folder.exists():
            with step(f"downloading Go modules of {of.name}"):
                run(go_binary(), "mod", "download", cwd=of.source, env=go_environment())
