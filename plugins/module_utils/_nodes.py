# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""GPU nodes of one cluster: read many at once, wait for them, steer their publishers. The work of two modules."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.gpufleet.mig.plugins.module_utils import _lock, _pods, _publishers
from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError
from ansible_collections.gpufleet.mig.plugins.module_utils._kube import (
    Kube,
    KubeUnreachable,
    node_path,
    pod_path,
    pods_path,
)
from ansible_collections.gpufleet.mig.plugins.module_utils._watch import Watched

PAUSE_S = 0.5
# Above this many nodes one list of all nodes is cheaper than a request for each.
SINGLE_READS = 30


@dataclass(frozen=True)
class Where:
    """Which pods are looked at: a namespace (None: all), a label selector, a Helm release."""

    namespace: str | None
    selector: str | None = None
    release: str | None = None

    @property
    def label_selector(self) -> str | None:
        """The selector for the API, None for every pod of the namespace."""
        parts = [self.selector] if self.selector else []
        if self.release:
            parts.append(f"app.kubernetes.io/instance={self.release}")
        return ",".join(parts) or None


class View:
    """Some nodes and the publisher pods on them. What is waited for is watched."""

    def __init__(self, kube: Kube, names: Iterable[str], where: Where) -> None:
        self._kube = kube
        self.names = list(names)
        alone = self.names[0] if len(self.names) == 1 else None
        self._nodes = Watched(
            kube, "/api/v1/nodes", PAUSE_S, fieldSelector=None if alone is None else f"metadata.name={alone}"
        )
        self._pods = Watched(
            kube,
            pods_path(where.namespace),
            PAUSE_S,
            labelSelector=where.label_selector,
            fieldSelector=None if alone is None else f"spec.nodeName={alone}",
        )

    def look(self) -> None:
        """Both, as the API shows them now."""
        self.look_at_nodes()
        self.look_at_pods()

    def look_at_nodes(self) -> None:
        """The nodes only."""
        if 1 < len(self.names) <= SINGLE_READS:
            self._nodes.hold([node for name in self.names if (node := self._kube.find(node_path(name)))])
        elif self.names:
            self._nodes.refresh()

    def look_at_pods(self) -> None:
        """The pods only."""
        if self.names:
            self._pods.refresh()

    def nodes(self) -> dict[str, dict[str, Any] | None]:
        """As last seen, per name; None where the cluster has no such node."""
        found = {node["metadata"]["name"]: node for node in self._nodes.all()}
        return {name: found.get(name) for name in self.names}

    def pods(self) -> dict[str, list[dict[str, Any]]]:
        """The publisher pods as last seen, per node name."""
        return _publishers.by_node(self._pods.all())

    def follow_nodes(self, seconds: float, done: Callable[[], bool]) -> None:
        """Take in what happens to the nodes, until ``done`` or ``seconds`` have passed."""
        self._nodes.follow(seconds, done)

    def follow_pods(self, seconds: float, done: Callable[[], bool]) -> None:
        """As follow_nodes, for the pods."""
        self._pods.follow(seconds, done)


# node_gpu_info


def check_expectations(expect: Mapping[str, Any], nodes: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The ``expect`` option with its shape checked; a typing error there must not look like "as expected"."""
    parts = {"resources": dict, "labels": dict, "alternatives": list, "capacity": dict}
    stray = sorted(set(expect) - set(nodes))
    if stray:
        raise MigError(f"expect names {', '.join(stray)}, which nodes does not list.")
    for name, wanted in expect.items():
        if not isinstance(wanted, Mapping):
            raise MigError(f"expect for node {name} must be a dictionary with {', '.join(parts)}.")
        for key, value in wanted.items():
            if key not in parts and key != "error":
                raise MigError(f"expect for node {name} has the unknown key {key}: it takes {', '.join(parts)}.")
            if key in parts and value is not None and not isinstance(value, parts[key]):
                raise MigError(f"expect for node {name}: {key} must be a {parts[key].__name__}.")
        for key, count in [*(wanted.get("resources") or {}).items(), *(wanted.get("capacity") or {}).items()]:
            if not key.startswith(_publishers.PREFIX) or isinstance(count, bool) or not str(count).isdigit():
                raise MigError(
                    f"expect for node {name}: resource {key}: {count!r} must be an nvidia.com key with a whole number."
                )
    return {name: dict(wanted) for name, wanted in expect.items()}


def read_nodes(
    kube: Kube,
    names: Iterable[str],
    where: Where,
    expect: Mapping[str, Mapping[str, Any]],
    publishers: Iterable[str],
    timeout: float,
    keep: Callable[[], None],
    topology_key: str | None = None,
) -> dict[str, dict[str, Any]]:
    """The public shape per node, with ``mismatch``; returns when all is as expected or after ``timeout`` s.

    ``keep`` is called again and again while it waits; what it raises ends the wait (the roll-out lock was lost).
    """
    publishers = list(publishers)
    view = View(kube, dict.fromkeys(names), where)
    answers: dict[str, dict[str, Any]] = {}
    pending = list(view.names)
    deadline = time.monotonic() + timeout

    def compare(logs: Kube | None) -> None:
        nodes, pods = view.nodes(), view.pods()
        for name in list(pending):
            here, wanted = pods.get(name, []), expect.get(name)
            shown = _publishers.describe(nodes[name], here, topology_key)
            shown["mismatch"] = (
                [] if wanted is None else _publishers.mismatches(name, shown, here, wanted, publishers, logs)
            )
            answers[name] = shown
            if not shown["mismatch"]:
                pending.remove(name)

    def nodes_right() -> bool:
        """All that is pending, but for its pods."""
        nodes = view.nodes()
        return not any(
            _publishers.mismatches(name, _publishers.describe(nodes[name], []), [], expect[name], ())
            for name in pending
        )

    def pods_right() -> bool:
        pods = view.pods()
        return not any(_publishers.publisher_mismatches(name, pods.get(name, []), publishers) for name in pending)

    keep()
    view.look()
    compare(kube if timeout <= 0 else None)
    while pending and (left := deadline - time.monotonic()) > 0:
        keep()
        left = min(left, _lock.between(keep))
        try:
            # What is not watched is read again: in the end both were right at the same time.
            if not nodes_right():
                view.follow_nodes(left, nodes_right)
                view.look_at_pods()
            else:
                view.follow_pods(left, pods_right)
                view.look_at_nodes()
        except KubeUnreachable:
            continue  # an API server may restart while we wait
        compare(None)
    if pending and timeout > 0:
        view.look()
        compare(kube)
    return answers


def gpu_pods(kube: Kube, names: Iterable[str], also: Iterable[str] = ()) -> dict[str, list[dict[str, Any]]]:
    """The pods on each node that ask for an nvidia.com resource, and those whose UID is in `also`, by their names.

    Pods of all namespaces, finished ones too: `_pods.describe` has the shape.
    """
    names, also = list(dict.fromkeys(names)), set(also)
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    # The API server keeps an index of pods by node, so a few nodes cost little each.
    selectors = [f"spec.nodeName={name}" for name in names] if len(names) <= SINGLE_READS else [None]
    for selector in selectors:
        for pod in kube.items(pods_path(None), fieldSelector=selector):
            shown = _pods.describe(pod, _publishers.PREFIX)
            node = pod.get("spec", {}).get("nodeName")
            if node in found and (shown["requests"] or also.intersection((shown["uid"], shown["kubelet_uid"]))):
                found[node].append(shown)
    for pods in found.values():
        pods.sort(key=lambda pod: (pod["namespace"], pod["name"]))
    return found


def refused_pods(kube: Kube, names: Iterable[str]) -> dict[str, list[str]]:
    """namespace/name of the GPU pods on each node that the kubelet refused and that nobody removed."""
    found: dict[str, list[str]] = {name: [] for name in names}
    alone = f",spec.nodeName={next(iter(found))}" if len(found) == 1 else ""
    for pod in kube.items(pods_path(None), fieldSelector=f"status.phase=Failed{alone}"):
        node = pod.get("spec", {}).get("nodeName")
        if node in found and _pods.is_refused(pod) and _pods.requests(pod, _publishers.PREFIX):
            found[node].append(_pods.full_name(pod))
    return found


# node_publishers


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
