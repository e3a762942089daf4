# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The words of a fleet's plan, which text and Markdown share: sentences and short lists, no layout. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.gpufleet.mig.plugins.module_utils._profiles import ranges

Part = Mapping[str, Any]

STATES = {
    "changes": "to change",
    "blocked": "blocked",
    "unpublished": "to publish",
    "refused": "refused",
    "not_planned": "not planned",
    "unchanged": "as wanted",
}
"""What a person reads for the status of a host."""

_PROFILE_LABEL = re.compile(r"(nvidia\.com/mig-[^/]*?gb(?:[.-](?:me|gfx)(?:\.all)?)?)\.")


def count(number: int, one: str, many: str = "") -> str:
    """3 resets, 1 reset, no reset."""
    return f"{number or 'no'} {one if number < 2 else many or one + 's'}"


def summary(plan: Part) -> list[str]:
    """The first sentences: how many hosts are in which state, what goes and comes, and what stops a run."""
    fleet = plan["fleet"]
    states = [f"{number} {STATES[state]}" for state, number in fleet["hosts"].items() if state != "all" and number]
    there = fleet["instances"]
    lines = [
        f"{count(fleet['hosts']['all'], 'host')}: {', '.join(states)}. Nothing was touched.",
        f"GPU instances: {there['keep']} stay, {there['destroy']} go, {there['create']} come, on "
        f"{fleet['gpus']['change']} of {count(fleet['gpus']['all'], 'GPU')}; "
        f"{count(fleet['mode_changes'], 'MIG mode change')}, {count(fleet['resets'], 'GPU reset')}, "
        f"{count(fleet['reboots'], 'reboot')}.",
    ]
    inside = fleet["compute_instances"]
    if inside["destroy"] or inside["create"]:
        lines.append(
            f"Inside GPU instances that stay: compute instances {inside['destroy']} go, {inside['create']} come."
        )
    drivers = fleet["drivers"]
    if drivers["in_turn"] or drivers["at_once"]:
        lines.append(
            f"Drivers: {drivers['in_turn']} replaced when the turn of the node comes, {drivers['at_once']} at once."
        )
    if fleet["blockers"]:
        lines.append(f"{count(fleet['blockers'], 'process', 'processes')} would lose what goes: see blocked by.")
    going = plan["destroy"]
    if going["stops"]:
        lines.append(
            f"mig_max_destroy is {going['most']} and {going['count']} instances would go: gpufleet.mig.site stops "
            "before anything is touched, unless mig_confirm_destroy is true."
        )
    lines += [f"The roll-out is refused: {reason}" for reason in plan["waves"]["refused"]]
    return lines


def title(host: Part) -> str:
    """The line above a host: name, node, state and where its GPUs are known from."""
    node = f" (node {host['node']})" if host["node"] != host["host"] else ""
    source = {"inventory": ", from mig_gpus", "bus": ", from its PCI bus", "hardware": "", None: ""}[host["source"]]
    return f"{host['host']}{node}: {STATES[host['status']]}{source}"


def driver_line(driver: Part) -> str:
    """575.57.08 -> 580, when that happens and what it takes; for other steps the version alone and the steps."""
    there, comes = driver["from"], driver["to"]
    steps, reboot = driver["steps"], {True: "a reboot", None: "a reboot if another version comes", False: ""}
    if there and not {"packages", "reboot"} & set(steps):
        return f"{there['version']}: {', '.join(steps)} at once"
    flavours = there and there["kernel_modules"] != comes["kernel_modules"]
    change = " -> ".join(
        f"{side['version']}{' (' + side['kernel_modules'] + ')' if flavours else ''}" if side else "none"
        for side in (there, comes)
    )
    if driver["in_turn"]:
        return (
            f"{change} in the turn of the node: all its GPU pods go, then packages, {reboot[driver['reboot']]}, and "
            "every instance is made anew"
        )
    takes = f", with {reboot[driver['reboot']]}" if reboot[driver["reboot"]] else ""
    return f"{change} at once, before the turn of any node{takes}"


def gpu_title(part: Part) -> str:
    """GPU 0, its model and its MIG mode, with a change of it and what that takes."""
    mode = part["mode"]
    said = f"MIG {mode['from']}"
    if mode["set"]:
        said += f" -> {mode['to']}" if mode["from"] != mode["to"] else f", {mode['pending']} pending -> set back"
        said += ", resets the GPU" if part["reset"] else ", takes a reboot of the host" if part["reboot"] else ""
    return f"GPU {part['index']}, {str(part['name']).replace('NVIDIA ', '')}: {said}"


def gpu_lines(part: Part) -> list[tuple[str, str]]:
    """(heading, text) of what stays, goes, comes and is in the way; the maps are not in it."""
    rows: list[tuple[str, str]] = []
    for heading, instances in (("keep", part["keep"]), ("destroy", part["destroy"]), ("create", part["create"])):
        if instances:
            rows.append((heading, places(instances)))
    for instance in part["keep"]:
        for heading in ("destroy", "create"):
            cis = instance["compute"][heading]
            if cis:
                names = ", ".join(f"{ci['profile']} at {ci['start']}" for ci in cis)
                rows.append((heading, f"{names} inside {instance['profile']} at {instance['start']}"))
    for blocker in part["blockers"]:
        rows.append(("blocked by", f"{blocker['kind']} on {blocker['instance']}: {blocker['remedy']}"))
    return rows


def places(instances: Iterable[Part]) -> str:
    """1g.10gb at 0, 1, 2; 3g.40gb at 4 (in use)."""
    groups: dict[str, list[str]] = {}
    for instance in sorted(instances, key=lambda one: int(one["start"])):
        where = f"{instance['start']}{' (in use)' if instance.get('busy') else ''}"
        groups.setdefault(instance["profile"] + _inside(instance), []).append(where)
    return "; ".join(f"{profile} at {', '.join(starts)}" for profile, starts in groups.items())


def _inside(instance: Part) -> str:
    """What a new instance gets inside, where that is not one compute instance that fills it."""
    inside = instance.get("compute_instances")
    if inside is None or [ci["profile"] for ci in inside] == [instance["profile"]]:
        return ""
    return f" [{', '.join(ci['profile'] for ci in inside) or 'empty'}]"


def still(host: Part) -> str:
    """GPU 1, 3-7: as before. Which GPUs of a host that changes stay as they are; "" where none does."""
    indices = [part["index"] for part in host["gpus"] if not part["changes"]]
    if not indices:
        return ""
    anew = ", their instances made anew" if host["driver"] and host["driver"]["in_turn"] else ""
    return f"GPU {ranges(indices)}: as before{anew}"


def resource_line(key: str, sides: Mapping[str, Any]) -> str:
    """nvidia.com/gpu 8 -> 0, and what the cluster shows where that is something else than the hardware leads to."""
    change = f"{sides['before']} -> {sides['after']}" if sides["before"] != sides["after"] else str(sides["after"])
    now = sides.get("now")
    return f"{key} {change}{f' (the cluster shows {now})' if now not in (None, sides['before']) else ''}"


def label_lines(labels: Mapping[str, Mapping[str, str | None]]) -> list[str]:
    """Each label that changes: new, gone, or from one value to another."""
    lines = []
    for key, sides in labels.items():
        if sides["before"] is None:
            lines.append(f"+ {key}={sides['after']}")
        elif sides["after"] is None:
            lines.append(f"- {key}={sides['before']}")
        else:
            lines.append(f"~ {key}: {sides['before']} -> {sides['after']}")
    return lines


def label_digest(labels: Mapping[str, Mapping[str, str | None]]) -> list[str]:
    """The same in few lines: labels of one MIG profile that all come or all go are counted."""
    groups: dict[tuple[str, str], int] = {}
    others = {}
    for key, sides in labels.items():
        found = _PROFILE_LABEL.match(key)
        if found and None in sides.values():
            sign = "+" if sides["before"] is None else "-"
            groups[(sign, found[1])] = groups.get((sign, found[1]), 0) + 1
        else:
            others[key] = sides
    counted = [f"{sign} {prefix}.* ({count(number, 'label')})" for (sign, prefix), number in groups.items()]
    return [*label_lines(others), *counted]


def capacity(left: Mapping[str, int]) -> str:
    """nvidia.com/gpu 8, nvidia.com/mig-1g.10gb 42: what is left for new pods."""
    return ", ".join(f"{key} {number}" for key, number in left.items()) or "nothing of nvidia.com"
