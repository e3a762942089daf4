# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All that is to be said about one host before it is touched: its GPUs, what Kubernetes shows, why it cannot be. Pure.

`report` is the only entry; _fleet_plan puts the reports of a fleet together.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.gpufleet.mig.plugins.module_utils._by_hand import by_hand
from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError, NotKnownYet
from ansible_collections.gpufleet.mig.plugins.module_utils._gpu_plan import WAYS
from ansible_collections.gpufleet.mig.plugins.module_utils._hardware import gpus_of, gpus_on_bus
from ansible_collections.gpufleet.mig.plugins.module_utils._holders import affected, holders
from ansible_collections.gpufleet.mig.plugins.module_utils._host_driver import blocking, coming, until_it_comes
from ansible_collections.gpufleet.mig.plugins.module_utils._planner import plan_host
from ansible_collections.gpufleet.mig.plugins.module_utils._prediction import (
    expected_labels,
    expected_resources,
    gfd_labels,
)
from ansible_collections.gpufleet.mig.plugins.module_utils._prediction_node import read_gpus
from ansible_collections.gpufleet.mig.plugins.module_utils._slice_map import slice_maps

Host = Mapping[str, Any]
Report = dict[str, Any]

UNKNOWN_FACTS = {"driver_version": "0.0.0", "cuda_version": "0.0", "machine": "unknown", "gpu_mode": "unknown"}
"""Of a host that was not read; the labels made of them are not reported."""
FACT_LABELS = ("nvidia.com/cuda.", "nvidia.com/gpu.machine", "nvidia.com/gpu.mode")

PENDING = ("changes", "blocked")
"""The states of hosts whose GPUs are to be changed."""


def report(host: Host, cluster: Mapping[str, Any] | None = None) -> Report:
    """The report on one host; the filter fleet_plan documents its keys, those of `host` and those of `cluster`.

    `status` is unchanged, changes, blocked (something uses what has to go), unpublished (only the cluster differs),
    refused, or not_planned. What is wrong with the host's own variables refuses that host and raises nothing.
    """
    found: Report = {
        "host": host["host"],
        "node": host.get("node") or host["host"],
        "status": "not_planned",
        "reason": None,
        "source": None,
        "notes": [],
        "strategy": host.get("strategy") or "mixed",
        "driver": None,
        "gpus": [],
        "instances": {"keep": 0, "destroy": 0, "create": 0},
        "compute_instances": {"destroy": 0, "create": 0},
        "pods": [],
        "resources": None,
        "labels": None,
    }
    gpus: list[dict[str, Any]] | None = None
    try:
        if host.get("invalid"):
            raise MigError(f"its variables cannot be read: {host['invalid']}")
        gpus = _gpus(host, found)
        found["driver"] = coming(host)
        if gpus is None:
            found["reason"] = until_it_comes(found)
        else:
            _plan(_with_shown(host, cluster, found), gpus, found)
    except NotKnownYet as error:
        found.update(status="not_planned", reason=str(error))
    except MigError as error:
        found.update(status="refused", reason=str(error))
        if gpus is not None:
            _stays(host, gpus, found)
    return found


def _with_shown(host: Host, cluster: Mapping[str, Any] | None, found: Report) -> Host:
    """The host with what its node shows now as `shown`, if the cluster was asked and has the node."""
    if cluster is None:
        return host
    if cluster.get("nodes") is None:
        found["notes"].append(f"the cluster was not read: {cluster.get('msg') or 'it gave no answer'}")
        return host
    node = cluster["nodes"].get(found["node"]) or {}
    if not node.get("exists"):
        found["notes"].append(f"the cluster has no node {found['node']}")
        return host
    if node.get("skipped"):
        found["notes"].append(f"the roll-out leaves it as it is: {node['skipped']}")
    return {**host, "shown": node}


def _gpus(host: Host, found: Report) -> list[dict[str, Any]] | None:
    """What NVML says wins, else the inventory, else the PCI bus; else None, and the report says why."""
    unread = host.get("unread")
    if host.get("gpus") is not None:
        found["source"] = "hardware"
        return sorted(host["gpus"], key=lambda gpu: int(gpu["index"]))
    if host.get("mig_gpus"):
        found["source"] = "inventory"
        if unread:
            found["notes"].append(f"planned from mig_gpus, because the host could not be read: {unread}")
        return gpus_of(host["mig_gpus"])
    gpus = gpus_on_bus(host.get("boards") or [])
    if gpus is not None:
        found["source"] = "bus"
        if unread:
            found["notes"].append(f"planned from the boards on its PCI bus, because {unread}")
        return gpus
    if unread:
        found["reason"] = unread
    else:
        found["reason"] = "it was not read, and mig_gpus does not say which GPUs it has"
    return None


def turn_comes(found: Mapping[str, Any]) -> bool:
    """Whether the roll-out takes the node of a host, for its GPUs or for its driver."""
    driver = found["driver"]
    return found["status"] in PENDING and (
        any(part["changes"] for part in found["gpus"]) or bool(driver and driver["in_turn"])
    )


def _plan(host: Host, gpus: list[dict[str, Any]], found: Report) -> None:
    plan = plan_host(
        gpus,
        host.get("layout"),
        layouts=host.get("layouts") or {},
        unlisted=host.get("unlisted_gpus") or "keep",
        allow=WAYS if host.get("mode_changes") is None else host["mode_changes"],
    )
    if not plan["feasible"]:
        raise MigError(plan["reason"])
    before = _Published(host, gpus)
    after = _Published(host, plan["after"]) if plan["changed"] else before
    if after.error:
        raise MigError(
            f"With mig_strategy {found['strategy']} this layout cannot be published ({after.error}): change "
            "mig_strategy or mig_layout of this host."
        )
    if before.error:
        found["notes"].append(f"as it stands, nothing right can be published: {before.error}")
    found["gpus"] = _gpu_reports(gpus, plan)
    found["resources"] = before.compared(after)
    found["labels"] = before.label_changes(after)
    found["instances"] = {what: sum(len(part[what]) for part in plan["gpus"]) for what in ("keep", "destroy", "create")}
    found["compute_instances"] = {
        what: sum(len(one["compute"][what]) for part in plan["gpus"] for one in part["keep"])
        for what in ("destroy", "create")
    }
    in_turn = bool(found["driver"] and found["driver"]["in_turn"])
    goes = {**plan, "changed": True, "reboot_required": True} if in_turn else plan
    found["pods"], processes = _losing(host, gpus, goes, found)
    if found["driver"] and after.described and "packages" in found["driver"]["steps"]:
        found["notes"].append("labels nvidia.com/cuda.* will be those of the driver that comes")
    if in_turn:
        found["notes"] += blocking(processes)
    missing = before.missing(after)
    found["status"] = "unchanged"
    if plan["changed"] or found["driver"]:
        blocked = any(part["blockers"] for part in plan["gpus"]) or (in_turn and processes)
        found["status"] = "blocked" if blocked else "changes"
    elif missing:
        found["status"], found["reason"] = "unpublished", missing


def _stays(host: Host, gpus: list[dict[str, Any]], found: Report) -> None:
    """A refused host as it stands. A strategy or plugin configuration that cannot be read was the refusal then."""
    found["gpus"] = _gpu_reports(gpus, plan_host(gpus, None))
    try:
        before = _Published(host, gpus)
    except MigError:
        return
    found["resources"] = before.compared(before)


def _gpu_reports(gpus: list[dict[str, Any]], plan: Mapping[str, Any]) -> list[dict[str, Any]]:
    maps = slice_maps(gpus, plan["after"])
    return [
        {
            **part,
            "name": gpu["name"],
            "changes": changes(part),
            "map": drawn,
            "by_hand": by_hand(part, gpu),
        }
        for gpu, part, drawn in zip(gpus, plan["gpus"], maps)
    ]


def changes(part: Mapping[str, Any]) -> bool:
    """Whether the plan of a GPU does anything."""
    inside = any(one["compute"]["destroy"] or one["compute"]["create"] for one in part["keep"])
    return bool(part["mode"]["set"] or part["destroy"] or part["create"] or inside)


class _Published:
    """What the node of a host shows for these GPUs: predicted, and beside it what the cluster shows now if known."""

    def __init__(self, host: Host, gpus: list[dict[str, Any]]) -> None:
        self.inside = host.get("kubernetes", True) is not False
        self.resources: dict[str, int] = {}
        self.offers: list[dict[str, int]] = [{}]
        self.labels: list[dict[str, str]] = [{}]
        self.error = ""
        self.facts = host.get("facts") or {}
        self.shown = host.get("shown") or {}
        self.described = self.inside and host.get("feature_discovery", True) is not False
        if not self.inside:
            return
        strategy, config = host.get("strategy") or "mixed", host.get("plugin_config")
        node = read_gpus(gpus)
        offered = expected_resources(node, strategy, config)
        self.resources, errors = offered["resources"], [offered["error"]]
        self.offers = [self.resources, *offered["resource_alternatives"]]
        if self.described:
            labels = expected_labels(node, strategy, self.facts or UNKNOWN_FACTS, config)
            self.labels = [self._comparable(one) for one in [labels["labels"], *labels["alternatives"]]]
            errors.append(labels["error"])
        self.error = "; ".join(filter(None, errors))

    def _comparable(self, labels: Mapping[str, str]) -> dict[str, str]:
        known = gfd_labels(labels)
        return known if self.facts else {key: text for key, text in known.items() if not key.startswith(FACT_LABELS)}

    def compared(self, after: _Published) -> dict[str, dict[str, int | None]] | None:
        """{key: {before, after, now}}; `now` is what the cluster shows, None where that is not known."""
        if not self.inside:
            return None
        now = self.shown.get("allocatable")
        offered = {key: int(count) for key, count in (now or {}).items() if int(count)}
        here, there = (offered if offered in side.offers else side.resources for side in (self, after))
        return {
            key: {
                "before": here.get(key, 0),
                "after": there.get(key, 0),
                "now": None if now is None else offered.get(key, 0),
            }
            for key in sorted({*here, *there, *offered})
        }

    def label_changes(self, after: _Published) -> dict[str, dict[str, str | None]] | None:
        """{key: {before, after}} of the labels that change, from those of the node where they are known."""
        if not self.described:
            return None
        shown = self.shown.get("labels")
        here = self.labels[0] if shown is None else self._comparable(shown)
        there = here if here in after.labels else after.labels[0]
        return {
            key: {"before": here.get(key), "after": there.get(key)}
            for key in sorted({*here, *there})
            if here.get(key) != there.get(key)
        }

    def missing(self, after: _Published) -> str:
        """The sentence of what the cluster does not show yet; "" where it shows all, or is not known."""
        compared = self.compared(after) or {}
        wrong = [
            f"{key} is {sides['now']} and will be {sides['after']}"
            for key, sides in compared.items()
            if sides["now"] is not None and sides["now"] != sides["after"]
        ]
        if self.shown.get("labels") is not None:
            wrong += [f"label {key} changes" for key in self.label_changes(after) or {}]
        return f"the GPUs are as wanted, the node does not show it yet: {', '.join(wrong)}" if wrong else ""


def _losing(
    host: Host, gpus: list[dict[str, Any]], plan: Mapping[str, Any], found: Report
) -> tuple[list[str], list[dict[str, Any]]]:
    """The pods, as namespace/name, that lose something, and processes outside of pods that do; where that is not sure
    the report says so.

    Who was given what says the kubelet of a host that was read; names come from the API, UIDs stand in for them.
    """
    if not plan["changed"] or not host.get("pod_devices"):
        return [], []
    answer = affected(plan, holders(gpus, host["pod_devices"], (host.get("shown") or {}).get("pods")))
    found["notes"] += answer["unknown"]
    pods = [f"{pod['namespace']}/{pod['name']}" if pod["listed"] else f"UID {pod['uid']}" for pod in answer["pods"]]
    return pods, answer["processes"]
