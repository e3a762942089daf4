# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""The publishers of many nodes: which configuration each uses, and their restart."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.gpufleet.mig.plugins.module_utils import _lock, _pods, _publishers
from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError
from ansible_collections.gpufleet.mig.plugins.module_utils._kube import (
    Kube,
    node_path,
    pod_path,
)
from ansible_collections.gpufleet.mig.plugins.module_utils._nodes import View, Where


def check_wishes(nodes: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The ``nodes`` option of node_publishers with its shape checked."""
    for name, wish in nodes.items():
        if not isinstance(wish, Mapping):
            raise MigError(f"nodes: the entry of {name} must be a dictionary with config or restart.")
        unknown = sorted(set(wish) - {"config", "restart"})
        if unknown:
            raise MigError(
                f"nodes: the entry of {name} has the unknown key {', '.join(unknown)}: it takes config and restart."
            )
        if not isinstance(wish.get("config") or "", str):
            raise MigError(f"nodes: config of {name} must be a string, it is {wish['config']!r}.")
        if not isinstance(wish.get("restart") or False, bool):
            raise MigError(f"nodes: restart of {name} must be true or false, it is {wish['restart']!r}.")
    return {name: dict(wish) for name, wish in nodes.items()}


@dataclass(frozen=True)
class Step:
    """What is to be done on one node: the label's change (None: none) and the pods to replace."""

    node: str
    label: tuple[str | None, str | None] | None
    pods: list[dict[str, Any]]

    @property
    def changes(self) -> bool:
        """Anything to do here?"""
        return self.label is not None or bool(self.pods)


def plan_publishers(
    kube: Kube, wanted: Mapping[str, Mapping[str, Any]], where: Where, managed: bool = True
) -> list[Step]:
    """What differs. Raises, before anything is touched, where a node, a pod's owner or a named entry is missing.

    Publishers that are not ``managed`` by us need not have the entry: then the label is left as it is.
    """
    view = View(kube, wanted, where)
    view.look()
    nodes, here = view.nodes(), view.pods()
    absent = [name for name, node in nodes.items() if node is None]
    if absent:
        raise MigError(
            f"The cluster at {kube.host} has no node {', '.join(sorted(absent))}: set mig_node_name where the node's "
            "name is not the inventory's. Nothing was changed.",
            nodes=sorted(absent),
        )
    known: dict[tuple[str, str], set[str] | None] = {}
    steps = []
    for name, wish in wanted.items():
        node, pods = nodes[name], here.get(name, [])
        label = None
        config = wish.get("config")
        if config is not None and node is not None:
            now = (node["metadata"].get("labels") or {}).get(_publishers.CONFIG_LABEL)
            target = config or None
            if now != target:
                label = (now, target)
            if target is not None and not _has_entry(kube, name, target, pods, known, managed):
                label = None
        restart = [pod for pod in pods if not _pods.is_ending(pod)] if wish.get("restart") else []
        for pod in restart:
            if _pods.controller(pod) is None:
                raise MigError(
                    f"Pod {_pods.full_name(pod)} on node {name} belongs to no DaemonSet, so nothing would bring it "
                    "back: it is not restarted. Nothing was changed.",
                    node=name,
                )
        steps.append(Step(name, label, restart))
    return steps


def _has_entry(
    kube: Kube,
    node: str,
    entry: str,
    pods: Iterable[dict[str, Any]],
    known: dict[tuple[str, str], set[str] | None],
    managed: bool,
) -> bool:
    """Whether the configuration map that the pods mount has it; raises where ours has not.

    Publishers would wait for ever for an entry that is not there. Where nothing is mounted (yet) our chart brings it,
    and for another installer's programs the label means nothing.
    """
    maps = {(pod["metadata"]["namespace"], name) for pod in pods for name in _publishers.config_maps(pod)}
    for where in sorted(maps):
        if where not in known:
            found = kube.find(f"/api/v1/namespaces/{where[0]}/configmaps/{where[1]}")
            known[where] = None if found is None else set(found.get("data") or {})
        entries = known[where]
        if entries is None or entry in entries:
            continue
        if not managed:
            return False
        raise MigError(
            f"Node {node}: config map {where[0]}/{where[1]} of the device plugin has no entry {entry!r}, it "
            f"has {', '.join(sorted(entries)) or 'none'}. Add it to config.map in the chart's values. "
            "Nothing was changed.",
            node=node,
        )
    return managed or bool(maps)


def carry_out(
    kube: Kube, steps: Iterable[Step], where: Where, timeout: float, keep: Callable[[], None]
) -> dict[str, dict[str, Any]]:
    """Set labels, delete pods, wait for the replacements, ``keep`` called meanwhile. Returns the report of each node.

    Labels come first on all nodes: a new pod reads its node's label when it starts.
    """
    steps = list(steps)
    done = report(steps)
    for step in steps:
        if step.label is not None:
            kube.merge_patch(node_path(step.node), {"metadata": {"labels": {_publishers.CONFIG_LABEL: step.label[1]}}})
    for step in steps:
        for pod in step.pods:
            metadata = pod["metadata"]
            kube.delete(pod_path(metadata["namespace"], metadata["name"]), uid=metadata["uid"])
    replaced = _wait_for_replacements(kube, [step for step in steps if step.pods], where, timeout, keep)
    for name, entry in done.items():
        for line in entry["restarted"]:
            line["replaced_by"] = replaced.get((name, line["uid"]))
    return done


def report(steps: Iterable[Step]) -> dict[str, dict[str, Any]]:
    """What is (would be) done, per node."""
    return {
        step.node: {
            "changed": step.changes,
            "config": None if step.label is None else {"before": step.label[0], "after": step.label[1]},
            "restarted": [
                {
                    "name": pod["metadata"]["name"],
                    "namespace": pod["metadata"]["namespace"],
                    "uid": pod["metadata"]["uid"],
                    "app": _publishers.app_of(pod),
                    "replaced_by": None,
                }
                for pod in step.pods
            ],
        }
        for step in steps
    }


def _wait_for_replacements(
    kube: Kube, steps: list[Step], where: Where, timeout: float, keep: Callable[[], None]
) -> dict[tuple[str, str], dict[str, str]]:
    """Until the old pods are gone and new ones of the same owners are ready; {(node, old uid): {name, uid}}."""
    deadline = time.monotonic() + timeout
    wanted = {
        (step.node, pod["metadata"]["uid"]): (pod, (_pods.controller(pod) or {}).get("uid"))
        for step in steps
        for pod in step.pods
    }
    replaced: dict[tuple[str, str], dict[str, str]] = {}
    view = View(kube, {node for node, _uid in wanted}, where)

    def missing(logs: Kube | None = None) -> list[str]:
        pods, problems = view.pods(), []
        for (node, uid), (pod, owner) in list(wanted.items()):
            problem, new = _replacement(pods.get(node, []), pod, owner, logs)
            if new is None:
                problems.append(f"node {node}: {problem}")
            else:
                replaced[node, uid] = {"name": new["metadata"]["name"], "uid": new["metadata"]["uid"]}
                del wanted[node, uid]
        return problems

    while wanted and (left := deadline - time.monotonic()) > 0:
        keep()
        view.follow_pods(min(left, _lock.between(keep)), lambda: not missing())
    if wanted:
        view.look_at_pods()
        problems = missing(kube)
        if problems:
            raise MigError(
                f"The publishers were restarted but are not back after {timeout:g} s. {'. '.join(problems)}. "
                "Node labels are set and the old pods deleted; repair the cause, then run again.",
                not_ready=problems,
            )
    return replaced


def _replacement(
    pods: list[dict[str, Any]], old: dict[str, Any], owner: str | None, logs: _pods.Logs | None
) -> tuple[str, dict[str, Any] | None]:
    """(what is still missing, the new ready pod)."""
    siblings = [pod for pod in pods if (_pods.controller(pod) or {}).get("uid") == owner]
    if any(pod["metadata"]["uid"] == old["metadata"]["uid"] for pod in siblings):
        return f"the old pod {_pods.full_name(old)} is still ending", None
    fresh = [pod for pod in siblings if not _pods.is_ending(pod)]
    if not fresh:
        return f"{_publishers.app_of(old)} has no new pod yet", None
    for pod in fresh:
        if _pods.is_ready(pod):
            return "", pod
    return _pods.why_not_ready(fresh[0], logs), None


def difference(steps: Iterable[Step]) -> dict[str, str]:
    """Ansible's diff: the labels before and after, and which pods are replaced."""
    before: list[str] = []
    after: list[str] = []
    for step in steps:
        if step.label is not None:
            for lines, value in zip((before, after), step.label, strict=True):
                lines.append(f"node {step.node}: {_publishers.CONFIG_LABEL}={'' if value is None else value}")
        for pod in step.pods:
            before.append(f"node {step.node}: pod {_pods.full_name(pod)}")
            after.append(f"node {step.node}: a new pod of {(_pods.controller(pod) or {}).get('name')}")
    return {"before": "".join(f"{line}\n" for line in before), "after": "".join(f"{line}\n" for line in after)}
