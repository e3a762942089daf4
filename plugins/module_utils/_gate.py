# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gates before each node: wait until all are open. What cannot be read counts as shut."""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any, Callable

from ansible_collections.gpufleet.mig.plugins.module_utils import (
    _alerts,
    _budget,
    _lock,
    _order,
    _ownership,
    _publishers,
    _window,
)
from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError
from ansible_collections.gpufleet.mig.plugins.module_utils._kube import Kube, KubeError, KubeUnreachable, pods_path
from ansible_collections.gpufleet.mig.plugins.module_utils._lock import Lock
from ansible_collections.gpufleet.mig.plugins.module_utils._watch import Watched

PAUSE_S = 1.0
ASK_S = 2.0
"""Between two looks at gates that no watch tells of: pause, window, pods, alerts."""
PAUSED = "gpufleet.io/paused"
"""Annotation of the lock's Lease: the whole fleet is left as it is."""
OVER = ("Succeeded", "Failed")
SHOWN = 3


@dataclass(frozen=True)
class Shut:
    """One shut gate: paused, window, skip, ready, budget, pods or alerts; in `opens_in` s or later it may open."""

    gate: str
    text: str
    opens_in: float = 0.0


@dataclass(frozen=True)
class Blocking:
    """Pods that must not be there: on the node, or with a namespace anywhere in it."""

    selector: str
    namespace: str | None = None


@dataclass(frozen=True)
class Settings:
    """What the gates ask for."""

    max_unavailable: Any
    min_available: Mapping[str, int]
    windows: Sequence[_window.Window] = ()
    blocking: Sequence[Blocking] = ()
    alerts_url: str | None = None
    alerts_ignore: re.Pattern[str] | None = None

    @classmethod
    def read(cls, params: Mapping[str, Any]) -> Settings:
        """From a module's options; MigError names the one that cannot be read."""
        _budget.read_max_unavailable(params["max_unavailable"], 1)
        url = params["alerts_url"]
        return cls(
            params["max_unavailable"],
            _budget.read_min_available(params["min_available"]),
            _window.read_windows(params["window"]),
            [_read_blocking(one) for one in params["blocking_pods"]],
            url or None,
            _alerts.check(url, params["alerts_ignore"]) if url else None,
        )


def _read_blocking(raw: Any) -> Blocking:
    told = {"selector": raw} if isinstance(raw, str) else raw
    if not isinstance(told, Mapping) or not set(told) <= {"selector", "namespace"} or not told.get("selector"):
        raise MigError(
            f"mig_blocking_pods has {raw!r}; write a label selector, or {{selector: app=backup, namespace: ops}} for "
            "pods of a namespace on any node. Nothing was changed."
        )
    return Blocking(str(told["selector"]), told.get("namespace"))


@dataclass(frozen=True)
class Answer:
    """What the gates said last, and the fleet as it was then."""

    fleet: list[_budget.Node]
    shut: list[Shut]
    waited: float = 0.0

    @property
    def verdict(self) -> str:
        """go; skip (this node only); stop (the whole run, nothing failed); blocked."""
        gates = {each.gate for each in self.shut}
        if "skip" in gates:
            return "skip"
        if gates & {"paused", "window"}:
            return "stop"
        return "blocked" if gates else "go"

    def sentence(self, taking: Collection[str]) -> str:
        """Why it is not go, and what happens now."""
        names = ", ".join(sorted(taking))
        why = f"(waited {self.waited:.0f} s): {'; '.join(each.text for each in self.shut)}"
        if self.verdict == "skip":
            return f"Node {names} is left as it is {why}."
        if self.verdict == "stop":
            return f"The roll-out stops{f' before node {names}' if names else ''} {why}."
        who = f"Node {names} cannot be spared" if names else "The roll-out cannot begin"
        return f"{who} {why}. Nothing was touched; see to that and run the same command again."


def wait(
    kube: Kube,
    lock: Lock,
    taking: Collection[str],
    settings: Settings,
    timeout: float,
    keep: Callable[[], None],
) -> Answer:
    """Ask until all gates are open for the nodes `taking`, or waiting longer than `timeout` s makes no sense.

    Without nodes only the gates of the whole run are asked.
    """
    started = time.monotonic()
    nodes = Watched(kube, "/api/v1/nodes", PAUSE_S)
    while True:
        left = started + timeout - time.monotonic()
        keep()
        try:
            nodes.refresh()
            answer = look(kube, lock, nodes.all(), taking, settings)
        except KubeUnreachable:
            if left <= 0:
                raise
            time.sleep(min(PAUSE_S, left))
            continue
        hopeless = any(each.gate == "skip" or each.opens_in > left for each in answer.shut)
        if not answer.shut or left <= 0 or hopeless:
            return replace(answer, waited=time.monotonic() - started)
        nodes.follow(min(left, ASK_S, _lock.between(keep)), _differs(nodes, taking, settings))


def _differs(nodes: Watched, taking: Collection[str], settings: Settings) -> Callable[[], bool]:
    before = _of_nodes(nodes.all(), taking, settings)
    return lambda: _of_nodes(nodes.all(), taking, settings) != before


def look(
    kube: Kube, lock: Lock, nodes: Sequence[Mapping[str, Any]], taking: Collection[str], settings: Settings
) -> Answer:
    """Every gate once."""
    shut = [*_paused(lock), *_shut_window(settings.windows), *_of_nodes(nodes, taking, settings)]
    for one in settings.blocking:
        shut += _blocking(kube, one, taking)
    return Answer(_order.fleet(nodes, taking), shut + _fired(settings))


def _of_nodes(nodes: Sequence[Mapping[str, Any]], taking: Collection[str], settings: Settings) -> list[Shut]:
    """What the nodes of the cluster themselves say."""
    shut = _own(node for node in nodes if node["metadata"]["name"] in taking)
    if taking:
        now = _order.fleet(nodes, taking)
        most = _budget.read_max_unavailable(settings.max_unavailable, len(now))
        shut += [Shut("budget", said) for said in _budget.objections(now, taking, most, settings.min_available)]
    return shut


def _paused(lock: Lock) -> list[Shut]:
    try:
        lease = lock.read()
    except (KubeError, KubeUnreachable) as error:
        return [Shut("paused", f"whether the fleet is paused cannot be read, which counts as paused: {error}")]
    value = ((lease or {}).get("metadata", {}).get("annotations") or {}).get(PAUSED)
    if value is None or value == "false":
        return []
    command = f"kubectl -n {lock.namespace} annotate lease {lock.name} {PAUSED}-"
    return [Shut("paused", f"the fleet is paused ({PAUSED}={value}); it goes on after {command}")]


def _shut_window(windows: Sequence[_window.Window]) -> list[Shut]:
    now = datetime.now(timezone.utc)
    seconds = _window.opens_in(windows, now)
    if seconds == 0.0:
        return []
    return [Shut("window", f"mig_window opens on {_window.next_opening(windows, now)}", seconds)]


def _own(nodes: Iterable[Mapping[str, Any]]) -> list[Shut]:
    """What the nodes that are to be taken say themselves."""
    found = []
    for node in nodes:
        skipped = _ownership.skipped(node)
        if skipped:
            found.append(Shut("skip", skipped))
        if not _publishers.describe(dict(node), [])["ready"]:
            found.append(Shut("ready", f"node {node['metadata']['name']} is not Ready"))
    return found


def _blocking(kube: Kube, one: Blocking, taking: Collection[str]) -> list[Shut]:
    """Without nodes a selector for pods of the node is only shown to the API, which refuses what it cannot read."""
    if one.namespace is None and not taking:
        kube.get(pods_path(None), labelSelector=one.selector, limit=1)
        return []
    there = [
        f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
        for pod in kube.items(pods_path(one.namespace), labelSelector=one.selector)
        if pod.get("status", {}).get("phase") not in OVER
        and (one.namespace is not None or pod.get("spec", {}).get("nodeName") in taking)
    ]
    more = f" and {len(there) - SHOWN} more" if len(there) > SHOWN else ""
    names = ", ".join(there[:SHOWN]) + more
    return [Shut("pods", f"mig_blocking_pods {one.selector} matches pod {names}")] if there else []


def _fired(settings: Settings) -> list[Shut]:
    if settings.alerts_url is None or settings.alerts_ignore is None:
        return []
    try:
        names = _alerts.firing(settings.alerts_url, settings.alerts_ignore)
    except _alerts.AlertsUnknown as error:
        return [Shut("alerts", f"{error}, which counts as firing")]
    return [Shut("alerts", f"alert {', '.join(names)} fires at {settings.alerts_url}")] if names else []
