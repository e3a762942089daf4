# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which pod was given which device, and whose a process is: the kubelet's files and /proc of this host, read only."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.gpufleet.mig.plugins.module_utils import _checkpoint

KUBELET_FOLDERS = (
    "/var/lib/kubelet",
    "/var/lib/rancher/k3s/agent/kubelet",
    "/var/lib/rancher/rke2/agent/kubelet",
    "/var/lib/k0s/kubelet",
    "/var/snap/microk8s/common/var/lib/kubelet",
)
"""Where kubelets live. The device manager uses the first one whatever --root-dir says (v1beta1.KubeletSocket is a
constant); the others are where a distribution's own mounts may make it appear."""

CHECKPOINT = "device-plugins/kubelet_internal_checkpoint"
PROC = Path("/proc")

POD = re.compile(
    r"[/-]pod(?P<uid>[0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32})(?=[./:]|$)", re.IGNORECASE
)
"""The pod in a cgroup's path. The systemd driver writes the dashes of its UID as underscores; a static pod has none."""

CONTAINER = re.compile(r"(?P<id>[0-9a-f]{64})(?:\.scope)?$", re.IGNORECASE)


def read_checkpoint(folder: str | None, *, verify: bool = True) -> dict[str, Any]:
    """{path, state, error, entries, registered}; nothing is raised, because "unknown" has to be told, not guessed.

    `state` is read, missing, unreadable, corrupt or ambiguous; in all but read, `error` is one sentence and entries and
    registered are None: who holds what is then unknown, which never means that nobody does.
    """
    folders = [folder] if folder else list(KUBELET_FOLDERS)
    places = {(Path(each) / CHECKPOINT).resolve(): Path(each) / CHECKPOINT for each in reversed(folders)}
    found = {path: _text(path) for path in reversed(list(places.values()))}
    found = {path: text for path, text in found.items() if not isinstance(text, FileNotFoundError)}
    if not found:
        where = ", ".join(folders)
        return _unknown(None, "missing", f"no kubelet has given out devices here: there is no {CHECKPOINT} in {where}")
    if len(found) > 1:
        names = ", ".join(map(str, found))
        return _unknown(None, "ambiguous", f"there are several device checkpoints, say which counts: {names}")
    path, text = next(iter(found.items()))
    if isinstance(text, PermissionError):
        return _unknown(path, "unreadable", f"only root may read {path}")
    if isinstance(text, Exception):
        return _unknown(path, "unreadable", f"{path} cannot be read: {text}")
    try:
        return {"path": str(path), "state": "read", "error": None, **_checkpoint.parse(text, verify=verify)}
    except _checkpoint.CheckpointError as error:
        return _unknown(path, "corrupt", f"{path} is no checkpoint that can be relied on: {error}")


def _text(path: Path) -> str | OSError | ValueError:
    """The text of a file, or why there is none."""
    try:
        return path.read_text(encoding="utf-8")
    except NotADirectoryError as error:
        return FileNotFoundError(str(error))
    except (OSError, ValueError) as error:
        return error


def _unknown(path: Path | None, state: str, error: str) -> dict[str, Any]:
    return {"path": path and str(path), "state": state, "error": error, "entries": None, "registered": None}


def owners(pids: Iterable[int], proc: Path = PROC) -> list[dict[str, Any]]:
    """Whose each process is, by pid: {pid, where, pod_uid, container_id}.

    `where` is pod, host (in no pod's cgroup) or unknown (it has ended, or is of another PID namespace).
    """
    return [{"pid": pid, **_owner(proc / str(pid) / "cgroup")} for pid in sorted(set(pids))]


def _owner(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {"where": "unknown", "pod_uid": None, "container_id": None}
    uid, container = pod_of_cgroup(text)
    return {"where": "pod" if uid else "host", "pod_uid": uid, "container_id": container}


def pod_of_cgroup(text: str) -> tuple[str | None, str | None]:
    """(pod UID, container id) of a /proc/PID/cgroup, cgroup v1 or v2; (None, None) of a process in no pod.

    Paths as the kubelet's drivers write them: cgroupfs /kubepods/burstable/podUID/CONTAINER, systemd
    /kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podU_I_D.slice/cri-containerd-CONTAINER.scope, and
    ...-podU_I_D.slice:cri-containerd:CONTAINER where the runtime uses another driver than the kubelet.
    """
    for line in text.splitlines():
        path = line.split(":", 2)[-1]
        pod = POD.search(path) if "kubepods" in path else None
        if pod:
            container = CONTAINER.search(path)
            return pod["uid"].replace("_", "-").lower(), container and container["id"].lower()
    return None, None


def pids_of(gpus: Sequence[dict[str, Any]]) -> list[int]:
    """The pids of every process that NVML knows on these GPUs (as mig_info returns them)."""
    found = {int(process["pid"]) for gpu in gpus for process in gpu.get("processes") or ()}
    for gpu in gpus:
        for instance in gpu.get("instances") or ():
            for compute in instance.get("compute_instances") or ():
                found |= {int(process["pid"]) for process in compute.get("processes") or ()}
    return sorted(found)


def read(gpus: Sequence[dict[str, Any]], folder: str | None, *, verify: bool = True) -> dict[str, Any]:
    """{checkpoint, processes} of this host. Processes come first: a pod that is admitted meanwhile then has an entry,
    not only a process."""
    processes = owners(pids_of(gpus))
    return {"checkpoint": read_checkpoint(folder, verify=verify), "processes": processes}
