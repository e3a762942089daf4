# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands now on a fleet: slice maps, who holds what, drift from the inventory and totals, as data and text. Pure.

A reading of one host:

    {host, node, strategy, layout, layouts, unlisted,   as the inventory has them; node None in no cluster
     gpus, driver_version,                              as mig_info; gpus None where the host could not be read
     devices,                                           as pod_devices_info, None in no cluster
     shown,                                             its node as node_gpu_info with pods, None: the API was not asked
     error}                                             why something is missing, else None
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError
from ansible_collections.gpufleet.mig.plugins.module_utils._holders import ALL, DEVICE, NOTHING, holders
from ansible_collections.gpufleet.mig.plugins.module_utils._planner import plan_host
from ansible_collections.gpufleet.mig.plugins.module_utils._slice_map import (
    cell_width,
    slice_map,
    slice_maps,
    slices_of,
)

Answer = dict[str, Any]
FREE, HELD, UNKNOWN = "free", "held", "unknown"
CALM = ("none", "unmanaged")
"""States of drift in which nothing differs from the inventory."""


def report(readings: Sequence[Mapping[str, Any]]) -> Answer:
    """{hosts: [...], totals: {...}, text: Markdown}, hosts in the order of their names.

    A host: {host, node, error, strategy, driver_version, ready, schedulable, allocatable, gpus, pods, disagreements,
    drift}. A GPU: {index, uuid, name, mig_mode, slice_map, slices: {total, free}, use, pods, processes, instances}. An
    instance: {profile, start, size, use, compute_instances: [{profile, uuid, use, pods, processes}]}. `use` is free,
    held or unknown; pods are namespace/name, or the UID where the API was not asked.
    """
    ordered = sorted(readings, key=lambda reading: str(reading["host"]))
    width = cell_width([gpu for reading in ordered for gpu in reading["gpus"] or ()])
    hosts = [_host(reading, width) for reading in ordered]
    found = {"hosts": hosts, "totals": _totals(hosts)}
    return {**found, "text": _text(found)}


def unread(host: str) -> Answer:
    """The reading of a host that could not be reached."""
    nothing = dict.fromkeys(("node", "strategy", "layout", "layouts", "gpus", "driver_version", "devices", "shown"))
    return {"host": host, **nothing, "unlisted": "keep", "error": "it could not be reached"}


def _host(reading: Mapping[str, Any], width: int) -> Answer:
    shown = reading["shown"] or {}
    base = {
        **{key: reading[key] for key in ("host", "node", "error", "strategy", "driver_version")},
        **{key: shown.get(key) for key in ("ready", "schedulable", "allocatable")},
    }
    if reading["gpus"] is None:
        return {**base, "gpus": None, "pods": [], "disagreements": [], "drift": None}
    held = holders(reading["gpus"], reading["devices"], shown.get("pods"))
    return {
        **base,
        "gpus": [_gpu(gpu, held, width) for gpu in reading["gpus"]],
        "pods": sorted(held["pods"].values(), key=_name),
        "disagreements": held["disagreements"],
        "drift": _drift(reading),
    }


def _gpu(gpu: Mapping[str, Any], held: Mapping[str, Any], width: int) -> Answer:
    enabled = gpu["mig_mode"]["current"] == "enabled"
    total = slices_of(gpu) if enabled else 0
    instances = [_instance(instance, held) for instance in gpu["instances"]]
    return {
        **{key: gpu[key] for key in ("index", "uuid", "name", "mig_mode")},
        "slice_map": slice_map(gpu, width) if enabled else f"whole GPU ({slice_map(gpu)})",
        "slices": {"total": total, "free": total - sum(int(instance["size"] or 0) for instance in gpu["instances"])},
        **_use(gpu["uuid"], held),
        "instances": instances,
    }


def _instance(instance: Mapping[str, Any], held: Mapping[str, Any]) -> Answer:
    inside = [
        {"profile": ci["profile"], "uuid": ci["uuid"], **_use(ci["uuid"], held)} for ci in instance["compute_instances"]
    ]
    uses = {ci["use"] for ci in inside}
    if instance["busy"] and uses <= {FREE}:
        uses.add(UNKNOWN)
    use = next((each for each in (HELD, UNKNOWN) if each in uses), FREE)
    return {**{key: instance[key] for key in ("profile", "start", "size")}, "use": use, "compute_instances": inside}


def _use(uuid: str, held: Mapping[str, Any]) -> Answer:
    """What is nobody's is free only where nothing is unknown that might be about it."""
    row = held["devices"][uuid]
    whole = next(one for one in held["devices"].values() if one["profile"] is None and one["gpu"] == row["gpu"])
    pods = {*row["pods"], *whole["pods"]}  # a pod that was given the GPU may use any instance of it
    doubts = any(
        one["blocks"] == ALL or (one["blocks"] == DEVICE and one["uuid"] == uuid) for one in held["disagreements"]
    )
    taken = bool(pods or row["processes"])
    return {
        "use": HELD if taken else UNKNOWN if doubts else FREE,
        "pods": sorted(_name(held["pods"][uid]) for uid in pods),
        "processes": [
            {"pid": one["pid"], "name": one["name"], "where": one["where"], "pod": _pod_of(one, held)}
            for one in row["processes"]
        ],
    }


def _pod_of(process: Mapping[str, Any], held: Mapping[str, Any]) -> str | None:
    uid = process["pod_uid"]
    return _name(held["pods"][uid]) if uid in held["pods"] else uid


def _name(pod: Mapping[str, Any]) -> str:
    return f"{pod['namespace']}/{pod['name']}" if pod["listed"] else str(pod["uid"])


def _drift(reading: Mapping[str, Any]) -> Answer:
    """{state, reason, gpus: [{index, before, after}]}; state is none, drift, impossible (it does not fit), invalid (it
    is wrong as written) or unmanaged (the inventory has no layout)."""
    if reading["layout"] is None:
        return {"state": "unmanaged", "reason": None, "gpus": []}
    try:
        plan = plan_host(
            reading["gpus"], reading["layout"], layouts=reading["layouts"] or {}, unlisted=reading["unlisted"]
        )
    except MigError as error:
        return {"state": "invalid", "reason": str(error), "gpus": []}
    if not plan["feasible"]:
        return {"state": "impossible", "reason": plan["reason"], "gpus": []}
    ordered = sorted(reading["gpus"], key=lambda gpu: int(gpu["index"]))
    pictures = slice_maps(ordered, plan["after"])
    gpus = [
        {"index": part["index"], **picture}
        for part, picture in zip(plan["gpus"], pictures)
        if part["mode"]["set"] or part["destroy"] or part["create"] or any(_inside(one) for one in part["keep"])
    ]
    return {"state": "drift" if plan["changed"] else "none", "reason": None, "gpus": gpus}


def _inside(kept: Mapping[str, Any]) -> bool:
    return bool(kept["compute"]["destroy"] or kept["compute"]["create"])


def _totals(hosts: Sequence[Answer]) -> Answer:
    """{hosts, unread, drifted, gpus, mig_gpus, slices: {total, free}, instances, resources}, where instances are
    {profile: {total, free, held, unknown}} and resources {key: allocatable}, None where no API was asked."""
    gpus = [gpu for host in hosts for gpu in host["gpus"] or ()]
    instances: dict[str, dict[str, int]] = {}
    for gpu in gpus:
        for instance in gpu["instances"]:
            row = instances.setdefault(instance["profile"], {"total": 0, FREE: 0, HELD: 0, UNKNOWN: 0})
            row["total"] += 1
            row[instance["use"]] += 1
    resources: dict[str, int] = {}
    for host in hosts:
        for key, count in (host["allocatable"] or {}).items():
            resources[key] = resources.get(key, 0) + int(count)
    asked = any(host["allocatable"] is not None for host in hosts)
    return {
        "hosts": len(hosts),
        "unread": [host["host"] for host in hosts if host["gpus"] is None],
        "drifted": [host["host"] for host in hosts if host["drift"] and host["drift"]["state"] not in CALM],
        "gpus": len(gpus),
        "mig_gpus": sum(gpu["mig_mode"]["current"] == "enabled" for gpu in gpus),
        "slices": {key: sum(gpu["slices"][key] for gpu in gpus) for key in ("total", "free")},
        "instances": dict(sorted(instances.items())),
        "resources": dict(sorted(resources.items())) if asked else None,
    }


def _text(found: Mapping[str, Any]) -> str:
    totals = found["totals"]
    lines = ["# GPUs of the fleet", "", *_total_lines(totals), ""]
    if totals["instances"]:
        rows = [
            [profile, *(str(row[key]) for key in ("total", FREE, HELD, UNKNOWN))]
            for profile, row in totals["instances"].items()
        ]
        lines += [*_table(["profile", "instances", FREE, HELD, UNKNOWN], rows), ""]
    if totals["resources"] is not None:
        rows = [[key, str(count)] for key, count in totals["resources"].items()]
        lines += [*_table(["resource", "allocatable"], rows), ""]
    for host in found["hosts"]:
        lines += [f"## {host['host']}", "", *_host_lines(host), ""]
    return "\n".join(lines).rstrip() + "\n"


def _total_lines(totals: Mapping[str, Any]) -> list[str]:
    slices = totals["slices"]
    lines = [
        f"{totals['hosts']} hosts, {totals['gpus']} GPUs, {totals['mig_gpus']} of them with MIG, "
        f"{slices['free']} of {slices['total']} memory slices free.",
        f"Drift from the inventory: {', '.join(totals['drifted']) or 'none'}.",
    ]
    if totals["unread"]:
        lines.append(f"Not read: {', '.join(totals['unread'])}.")
    return lines


def _host_lines(host: Mapping[str, Any]) -> list[str]:
    lines = [f"**{host['error']}**", ""] if host["error"] else []
    if host["gpus"] is None:
        return lines
    lines += [f"{_node_line(host)}. {_drift_line(host['drift'])}", "", "```text"]
    lines += [f"GPU {gpu['index']}  {gpu['slice_map']}  {gpu['name']}" for gpu in host["gpus"]]
    for gpu in host["drift"]["gpus"]:
        lines += [f"GPU {gpu['index']} is      {gpu['before']}", f"GPU {gpu['index']} wanted  {gpu['after']}"]
    lines += ["```", ""]
    rows = [row for gpu in host["gpus"] for row in _holder_rows(gpu)]
    if rows:
        lines += [*_table(["GPU", "start", "instance", "held by", "processes", "UUID"], rows), ""]
    notes = [one for one in host["disagreements"] if one["blocks"] != NOTHING]
    notes += [one for one in host["disagreements"] if one["blocks"] == NOTHING]
    return [*lines, *(f"* {'note' if one['blocks'] == NOTHING else 'unknown'}: {one['message']}" for one in notes)]


def _node_line(host: Mapping[str, Any]) -> str:
    driver = f"driver {host['driver_version']}"
    if host["allocatable"] is None:
        return f"{driver}; Kubernetes was not asked" if host["node"] else f"{driver}; in no cluster"
    keys = ", ".join(f"{key}: {count}" for key, count in host["allocatable"].items() if int(count))
    state = ("" if host["ready"] else ", not ready") + ("" if host["schedulable"] else ", cordoned")
    offered = keys or "nothing of nvidia.com"
    return f"{driver}; node {host['node']}{state}, strategy {host['strategy']}, allocatable {offered}"


def _drift_line(drift: Mapping[str, Any]) -> str:
    words = {
        "none": "As the inventory says.",
        "drift": "Not as the inventory says.",
        "unmanaged": "The inventory has no layout for it.",
        "impossible": "What the inventory says cannot be:",
        "invalid": "What the inventory says is wrong:",
    }
    return f"{words[drift['state']]} {drift['reason'] or ''}".rstrip()


def _holder_rows(gpu: Mapping[str, Any]) -> list[list[str]]:
    rows = []
    if gpu["mig_mode"]["current"] != "enabled" or gpu["pods"] or gpu["processes"]:
        rows.append([str(gpu["index"]), "", "whole GPU", *_held(gpu), gpu["uuid"]])
    for instance in gpu["instances"]:
        place = [str(gpu["index"]), "?" if instance["start"] is None else str(instance["start"])]
        for ci in instance["compute_instances"]:
            name = (
                ci["profile"] if ci["profile"] == instance["profile"] else f"{ci['profile']} in {instance['profile']}"
            )
            rows.append([*place, name, *_held(ci), ci["uuid"]])
        if not instance["compute_instances"]:
            rows.append([*place, instance["profile"], "nobody can: it has no compute instance", "", ""])
    return rows


def _held(holder: Mapping[str, Any]) -> list[str]:
    """The cells "held by" and "processes"."""
    pods = ", ".join(holder["pods"])
    alone = "a process" if holder["use"] == HELD else holder["use"]
    processes = (f"{one['pid']} {one['name'] or '?'}{_home(one, holder)}" for one in holder["processes"])
    return [pods or alone, ", ".join(processes)]


def _home(process: Mapping[str, Any], holder: Mapping[str, Any]) -> str:
    if process["where"] == "pod":
        return "" if process["pod"] in holder["pods"] else f" (pod {process['pod']})"
    return {"host": " (in no pod)", "unknown": " (whose is unknown)"}.get(str(process["where"]), "")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table whose columns also line up as text."""
    widths = [max(len(row[number]) for row in [head, *rows]) for number in range(len(head))]
    drawn = [[cell.ljust(width) for cell, width in zip(row, widths)] for row in [head, *rows]]
    drawn.insert(1, ["-" * width for width in widths])
    return [f"| {' | '.join(row)} |" for row in drawn]
