# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who holds which GPU or instance of one host: three witnesses crossed, and what they disagree on. Pure.

The witnesses are NVML (instances and processes), the kubelet's checkpoint (what was given to which pod's container) and
the Kubernetes API (which pods have not finished). They are to be read in this order: then a pod that comes meanwhile is
seen by the API without an entry, which is "unknown", and never an entry that looks like that of an ended pod.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.gpufleet.mig.plugins.module_utils._checkpoint import device_uuid

PREFIX = "nvidia.com/"
Gpu = Mapping[str, Any]
Answer = dict[str, Any]

ALL, DEVICE, NOTHING = "all", "device", "nothing"
"""What a disagreement blocks: any change of the host, one of its device only, or none."""


def holders(
    gpus: Sequence[Gpu], devices: Mapping[str, Any] | None = None, pods: Sequence[Mapping[str, Any]] | None = None
) -> Answer:
    """Who holds what on one host.

    `gpus` as mig_info, `devices` as pod_devices_info ({checkpoint, processes}), `pods` as node_gpu_info returns them
    for the node. Without `devices` the host is in no cluster; without `pods` the API was not asked.

        devices: {UUID: {gpu, profile, start, compute_instance, ci_id, pods: [...], processes: [...]}}
                     of every GPU (profile None) and every compute instance; pods are UIDs; a process is
                     {pid, name, where, pod_uid}, where being pod, host, unknown, or None in no cluster
        pods: {UID: {uid, namespace, name, owner, daemonset, listed, devices, containers}}
                     of every pod that holds something; namespace, name and owner None, listed False without the API
        disagreements: [{kind, blocks, message, gpu, uuid, pod_uid, pid}]
        complete: no disagreement blocks anything
    """
    table = _table(gpus)
    found: list[Answer] = []
    listed = {str(pod["kubelet_uid"]): pod for pod in pods or () if not pod["finished"]}
    held: dict[str, Answer] = {}
    if devices is not None:
        checkpoint = devices["checkpoint"]
        if checkpoint["state"] == "read":
            ours = [entry for entry in checkpoint["entries"] if _is_ours(entry, table)]
            found += _cross_entries(ours, table, held, None if pods is None else listed)
            found += _missing_entries(ours, listed)
        else:
            found.append(_disagreement("checkpoint", ALL, f"which pod holds what is unknown: {checkpoint['error']}"))
        _own(table, {owner["pid"]: owner for owner in devices["processes"]})
        found += _cross_processes(table, held, listed, known=checkpoint["state"] == "read")
    found += _unseen(gpus)
    return {
        "devices": table,
        "pods": held,
        "disagreements": found,
        "complete": all(one["blocks"] == NOTHING for one in found),
    }


def _table(gpus: Sequence[Gpu]) -> dict[str, Answer]:
    table: dict[str, Answer] = {}
    for gpu in gpus:
        whole = {"gpu": gpu["index"], "profile": None, "start": None, "compute_instance": None, "ci_id": None}
        table[gpu["uuid"]] = {**whole, "pods": [], "processes": _processes(gpu)}
        for instance in gpu["instances"]:
            for ci in instance["compute_instances"]:
                table[ci["uuid"]] = {
                    "gpu": gpu["index"],
                    "profile": instance["profile"],
                    "start": instance["start"],
                    "compute_instance": ci["profile"],
                    "ci_id": ci["ci_id"],
                    "pods": [],
                    "processes": _processes(ci),
                }
    return table


def _processes(holder: Mapping[str, Any]) -> list[Answer]:
    return [
        {"pid": process["pid"], "name": process["name"], "where": None, "pod_uid": None}
        for process in holder.get("processes") or ()
    ]


def _is_ours(entry: Mapping[str, Any], table: Mapping[str, Any]) -> bool:
    """Entries of other plugins (network cards) are none of ours; a renamed resource is, by its devices."""
    return entry["resource"].startswith(PREFIX) or any(device_uuid(one) in table for one in entry["devices"])


def _cross_entries(
    entries: Sequence[Mapping[str, Any]],
    table: dict[str, Answer],
    held: dict[str, Answer],
    listed: Mapping[str, Mapping[str, Any]] | None,
) -> list[Answer]:
    """Fills `held` and the pods of `table`; returns what is stale or dead. `listed` is None without the API."""
    found: list[Answer] = []
    for entry in entries:
        uid = entry["pod_uid"]
        uuids = sorted({device_uuid(one) for one in entry["devices"]})
        if listed is not None and uid not in listed:
            for uuid in uuids:
                text = f"the kubelet's checkpoint still has {_place(table, uuid)} with pod {uid}, which has ended"
                found.append(_disagreement("stale", NOTHING, text, table, uuid=uuid, pod_uid=uid))
            continue
        pod = held.setdefault(uid, _pod(uid, (listed or {}).get(uid)))
        pod["containers"] = sorted({*pod["containers"], entry["container"]})
        for uuid in uuids:
            if uuid not in pod["devices"]:
                pod["devices"].append(uuid)
            if uuid not in table:
                text = f"{_who(pod)} holds {uuid}, which is no GPU or instance of this host (any more): delete the pod"
                found.append(_disagreement("dead", ALL, text, table, uuid=uuid, pod_uid=uid))
            elif uid not in table[uuid]["pods"]:
                table[uuid]["pods"].append(uid)
    if listed is None and entries:
        text = "the Kubernetes API was not asked, so pods that have ended may still be shown as holders"
        found.append(_disagreement("api", ALL, text))
    return found


def _missing_entries(entries: Sequence[Mapping[str, Any]], listed: Mapping[str, Mapping[str, Any]]) -> list[Answer]:
    """Unfinished pods that asked for more than the checkpoint says they were given."""
    given: dict[tuple[str, str, str], int] = {}
    for entry in entries:
        given[(entry["pod_uid"], entry["container"], entry["resource"])] = len(entry["devices"])
    found = []
    for uid, pod in sorted(listed.items()):
        for container, requests in sorted(pod["requests"].items()):
            for resource, count in sorted(requests.items()):
                there = given.get((uid, container, resource), 0)
                if there < count:
                    text = (
                        f"{_who(_pod(uid, pod))} wants {count} {resource} for container {container} and the kubelet's "
                        f"checkpoint has {there}: which devices it holds or will hold is unknown"
                    )
                    found.append(_disagreement("no_entry", ALL, text, pod_uid=uid))
    return found


def _own(table: Mapping[str, Answer], owners: Mapping[int, Mapping[str, Any]]) -> None:
    """Write into each process of the table whose it is."""
    for row in table.values():
        for process in row["processes"]:
            owner = owners.get(process["pid"])
            process["where"] = owner["where"] if owner else "unknown"
            process["pod_uid"] = owner["pod_uid"] if owner else None


def _cross_processes(
    table: Mapping[str, Answer], held: Mapping[str, Answer], listed: Mapping[str, Mapping[str, Any]], *, known: bool
) -> list[Answer]:
    """Processes on a device that their pod was not given, and processes of no pod. `known`: the checkpoint was read."""
    found = []
    whole = {row["gpu"]: row for row in table.values() if row["profile"] is None}
    for uuid, row in table.items():
        given = {*row["pods"], *whole[row["gpu"]]["pods"]}  # who was given the GPU may use its instances
        for process in row["processes"]:
            uid, pid = process["pod_uid"], process["pid"]
            what = f"process {pid} ({process['name'] or 'name unknown'}) uses {_place(table, uuid)}"
            if process["where"] == "pod":
                if not known or uid in given:
                    continue
                who = _who(held.get(uid) or _pod(uid, listed.get(uid)))
                kind, text = "not_given", f"{what} from within {who}, which was not given it by the kubelet"
            elif process["where"] == "host":
                kind, text = "host_process", f"{what} and runs in no pod"
            else:
                kind, text = "unknown_process", f"{what}, and whose it is cannot be told: it has ended or is hidden"
            found.append(_disagreement(kind, DEVICE, text, table, uuid=uuid, pod_uid=uid, pid=pid))
    return found


def _unseen(gpus: Sequence[Gpu]) -> list[Answer]:
    """Instances that NVML calls busy without naming a process on them."""
    found = []
    for gpu in gpus:
        for instance in gpu["instances"]:
            inside = instance["compute_instances"]
            if instance["busy"] and not any(ci["processes"] for ci in inside):
                where = f"{instance['profile']} at {instance['start']} of GPU {gpu['index']}"
                text = f"{where} is in use and NVML names no process"
                for uuid in [ci["uuid"] for ci in inside] or [gpu["uuid"]]:
                    found.append({**_disagreement("unseen", DEVICE, text), "gpu": gpu["index"], "uuid": uuid})
    return found


def _pod(uid: str, pod: Mapping[str, Any] | None) -> Answer:
    owner = pod["owner"] if pod else None
    return {
        "uid": pod["uid"] if pod else uid,
        "namespace": pod["namespace"] if pod else None,
        "name": pod["name"] if pod else None,
        "owner": owner,
        "daemonset": bool(owner and owner["kind"] == "DaemonSet"),
        "listed": pod is not None,
        "devices": [],
        "containers": [],
    }


def _who(pod: Mapping[str, Any]) -> str:
    return f"pod {pod['namespace']}/{pod['name']}" if pod["listed"] else f"pod {pod['uid']}"


def _place(table: Mapping[str, Answer], uuid: str) -> str:
    row = table.get(uuid)
    if row is None:
        return uuid
    if row["profile"] is None:
        return f"GPU {row['gpu']}"
    return f"{row['compute_instance']} at {row['start']} of GPU {row['gpu']}"


def _disagreement(
    kind: str,
    blocks: str,
    message: str,
    table: Mapping[str, Answer] | None = None,
    *,
    uuid: str | None = None,
    pod_uid: str | None = None,
    pid: int | None = None,
) -> Answer:
    gpu = table[uuid]["gpu"] if table and uuid and uuid in table else None
    return {
        "kind": kind,
        "blocks": blocks,
        "message": message,
        "gpu": gpu,
        "uuid": uuid,
        "pod_uid": pod_uid,
        "pid": pid,
    }


def affected(plan: Mapping[str, Any], held: Mapping[str, Any]) -> Answer:
    """Whom a plan takes something from. `plan` as the filter plan, `held` as `holders` gives it, of one host.

    scope: none | instances | gpus (one at least changes its mode or is reset) | node (a reboot: every pod of the
           node goes, those without a GPU too)
    devices: UUIDs that go or are out of use meanwhile
    pods: pods that hold one, as in `held`, with those devices only
    processes: [{pid, name, where, pod_uid, uuid}] on them that run in no pod
    unknown: sentences; while there is one, nothing may be changed
    """
    scope, going = _going(plan, held["devices"])
    touched = {held["devices"][uuid]["gpu"] for uuid in going}
    losing = {uuid for uuid, row in held["devices"].items() if row["profile"] is None and row["gpu"] in touched} | going
    pods = [
        {**pod, "devices": [uuid for uuid in pod["devices"] if uuid in losing]}
        for pod in held["pods"].values()
        if losing.intersection(pod["devices"])
    ]
    processes = [
        {**process, "uuid": uuid}
        for uuid, row in held["devices"].items()
        for process in row["processes"]
        if uuid in losing and process["where"] != "pod"
    ]
    blocking = [
        one["message"]
        for one in held["disagreements"]
        if scope != "none" and (one["blocks"] == ALL or (one["blocks"] == DEVICE and one["uuid"] in losing))
    ]
    return {
        "scope": scope,
        "devices": sorted(going),
        "pods": sorted(pods, key=lambda pod: (str(pod["namespace"]), str(pod["name"]), pod["uid"])),
        "processes": processes,
        "unknown": list(dict.fromkeys(blocking)),
    }


def _going(plan: Mapping[str, Any], table: Mapping[str, Answer]) -> tuple[str, set[str]]:
    if not plan["changed"]:
        return "none", set()
    if plan["reboot_required"]:
        return "node", set(table)
    scope, going = "instances", set()
    for part in plan["gpus"]:
        here = {uuid: row for uuid, row in table.items() if row["gpu"] == part["index"]}
        if part["reset"] or part["mode"]["from"] != part["mode"]["to"]:
            scope = "gpus"
            going |= set(here)
            continue
        whole = {instance["start"] for instance in part["destroy"]}
        inside = {(one["start"], ci["ci_id"]) for one in part["keep"] for ci in one["compute"]["destroy"]}
        going |= {uuid for uuid, row in here.items() if row["start"] in whole or (row["start"], row["ci_id"]) in inside}
    return scope, going


def stale(gpus: Sequence[Gpu], registered: Mapping[str, Sequence[str]] | None) -> list[str]:
    """What the kubelet still gives out though it exists no more, one sentence each; [] where nothing is known.

    `registered` is the checkpoint's {resource: [device ids]}. The device plugin registers what it saw when it started:
    after a change that it was not restarted for, pods are admitted with devices that cannot be opened.
    """
    there = set(_table(gpus))
    return [
        f"the kubelet still gives out {device} as {resource}, and there is no such device: restart the device plugin"
        for resource, devices in sorted((registered or {}).items())
        if resource.startswith("nvidia.com/")
        for device in sorted({device_uuid(device) for device in devices})
        if device.startswith(("MIG-", "GPU-")) and device not in there
    ]
