# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""What is asked of the maintenance of nodes, and what is answered. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.gpufleet.mig.plugins.module_utils import (
    _eviction,
    _ownership,
    _pods,
    _progress,
)
from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError

Patch = dict[str, Any]


@dataclass(frozen=True)
class Wish:
    """One node's part: uids that must go (None: every GPU pod), uids that may stay, and what to write on the node."""

    name: str
    pods: list[str] | None = None
    keep: list[str] = field(default_factory=list)
    target: str | None = None
    before: dict[str, Any] | None = None
    made: dict[str, Any] | None = None
    reason: str | None = None
    next: str | None = None


@dataclass(frozen=True)
class Options:
    """What holds for all nodes of a call. ``evict``: affected, node, none or wait. Times are seconds."""

    run: str
    phase: str | None
    wave: int | None
    takeover: bool
    evict: str
    allowed: _eviction.Allowed
    timeout: float
    jobs_timeout: float
    jobs_action: str
    grace_period: int | None
    pause: float
    clean_failed: bool
    dry: bool


@dataclass
class Report:
    """What was done on one node (with ``dry``: would be)."""

    node: str
    target: str | None = None
    changed: bool = False
    found_schedulable: bool | None = None
    schedulable: bool | None = None
    evicted: list[_eviction.Pod] = field(default_factory=list)
    stay: list[_eviction.Pod] = field(default_factory=list)
    blockers: list[dict[str, Any]] = field(default_factory=list)
    taken_over: list[str] = field(default_factory=list)
    cleaned: list[_eviction.Pod] = field(default_factory=list)
    before: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    planned: Patch = field(default_factory=dict)
    error: str | None = None
    seconds: float = 0.0

    def plain(self) -> dict[str, Any]:
        """The module's public shape."""
        return {
            "changed": self.changed,
            "found_schedulable": self.found_schedulable,
            "schedulable": self.schedulable,
            "evicted": [_named(pod) for pod in self.evicted],
            "stay": [_named(pod) for pod in self.stay],
            "blockers": self.blockers,
            "taken_over": self.taken_over,
            "cleaned": [_named(pod) for pod in self.cleaned],
            "error": self.error,
            "seconds": self.seconds,
        }

    def line(self, phase: str, wave: int | None) -> dict[str, Any]:
        """The node's entry under the key ``gpufleet``."""
        return _progress.line(
            self.node,
            phase,
            wave=wave,
            digests={"target": self.target},
            blockers=self.blockers,
            evicted=[_pods.full_name(pod) for pod in self.evicted],
            seconds=self.seconds,
            error=self.error,
        )

    def note(self, node: Mapping[str, Any], patch: Patch) -> None:
        """Take a (would-be) change of the node into the diff."""
        if not self.before:
            self.before = [f"node {self.node}: {line}" for line in _ownership.facets(node)]
        self.after = [f"node {self.node}: {line}" for line in _ownership.facets(node, patch)]
        self.changed = self.changed or bool(patch)
        self.found_schedulable = _ownership.read(node).was_schedulable
        unschedulable = {**node.get("spec", {}), **patch.get("spec", {})}.get("unschedulable")
        self.schedulable = not unschedulable


def difference(reports: Iterable[Report]) -> dict[str, str]:
    """Ansible's diff: our marks on the nodes, and the pods that go."""
    before, after = [], []
    for report in reports:
        gone = [*report.evicted, *report.cleaned]
        before += report.before + [f"node {report.node}: pod {_pods.full_name(pod)}" for pod in gone]
        after += report.after
    return {"before": "".join(f"{line}\n" for line in before), "after": "".join(f"{line}\n" for line in after)}


def _named(pod: _eviction.Pod) -> dict[str, str]:
    return {"name": _pods.full_name(pod), "uid": _eviction.uid(pod)}


def check_wishes(nodes: Mapping[str, Any]) -> list[Wish]:
    """The ``nodes`` option with its shape checked: a typing error must not look like "nothing has to go"."""
    kinds: dict[str, type] = {
        "pods": list,
        "keep": list,
        "target": str,
        "before": dict,
        "made": dict,
        "reason": str,
        "next": str,
    }
    wishes = []
    for name, told in nodes.items():
        entry = told or {}
        if not isinstance(entry, Mapping):
            raise MigError(f"nodes: the entry of {name} must be a dictionary with {', '.join(kinds)}.")
        unknown = sorted(set(entry) - set(kinds))
        if unknown:
            raise MigError(
                f"nodes: the entry of {name} has the unknown key {', '.join(unknown)}: it takes {', '.join(kinds)}."
            )
        given = {key: value for key, value in entry.items() if value is not None}
        for key, value in given.items():
            if not isinstance(value, kinds[key]):
                raise MigError(f"nodes: {key} of {name} must be a {kinds[key].__name__}, it is {value!r}.")
            if isinstance(value, list) and not all(isinstance(each, str) and each for each in value):
                raise MigError(f"nodes: {key} of {name} must be a list of pod uids, it is {value!r}.")
        wishes.append(Wish(name, **given))
    return wishes
