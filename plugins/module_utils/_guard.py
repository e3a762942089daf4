# Copyright (c) 2026 gpufleet.mig maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node over its own boot: cordoned before its kubelet starts, given back once its instances are published again.

At its first look after a boot a kubelet refuses every device pod that is bound to its node, because the device plugin
has not registered yet, and the scheduler goes on by what the node offered before. So the node is cordoned and these
pods are released while nothing of them can run. That this boot's kubelet has not run yet is what the API says: the
node's status still names another boot.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.gpufleet.mig.plugins.module_utils import _eviction, _ownership, _pods, _publishers
from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError
from ansible_collections.gpufleet.mig.plugins.module_utils._kube_api import (
    KubeApi,
    KubeError,
    node_path,
    pod_path,
)

CORDON, IGNORE = "cordon", "ignore"
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 2.0
CONFLICTS = 10
Node = dict[str, Any]
Decide = Callable[[Node], _ownership.Patch]


@dataclass(frozen=True)
class Settings:
    """The guard's file, which site writes. `failure` is mig_boot_failure; cluster and user are a kubeconfig's."""

    node: str
    strategy: str
    plugin_config: dict[str, Any]
    failure: str
    cluster: dict[str, Any]
    user: dict[str, Any]
    source: str
    folder: str


def read_settings(text: str, origin: str) -> Settings:
    """MigError where it is none."""
    try:
        return Settings(**json.loads(text))
    except (ValueError, TypeError) as error:
        raise MigError(
            f"{origin} is not what gpufleet.mig.site writes for the guard ({error}). The node was not touched; run "
            "gpufleet.mig.site for this host."
        ) from None


class Guard:
    """One node in one boot. Methods return sentences for the journal."""

    def __init__(self, kube: KubeApi, settings: Settings, boot: str, deadline: float) -> None:
        self._kube = kube
        self._settings = settings
        self._boot = boot
        self._run = f"{_ownership.BOOT}{boot}"
        self._deadline = deadline

    def cordon(self, problem: str | None) -> list[str]:
        """Before the kubelet starts: cordon, and release the device pods. `problem`: what could not be restored."""
        name = self._settings.node
        node = self._patiently(lambda: self._kube.find(node_path(name)))
        if node is None:
            return [f"The cluster has no node {name}: there is nothing to guard."]
        if _boot_of(node) == self._boot:
            return [f"The kubelet of node {name} has run since this boot: the node is left as it is."]
        said = []
        if _is_free(node):
            self._change(lambda now: self._taken(now, problem) if _is_free(now) else {})
            said.append(f"Node {name} is cordoned until its instances are published.")
        else:
            said.append(f"Node {name} is in the hands of run {_ownership.read(node).run}, which gives it back.")
        return said + self._release()

    def uncordon(self, problem: str | None, expected: Mapping[str, Any] | None) -> tuple[bool, list[str]]:
        """After the kubelet has started: wait until the node shows what is expected (an answer of expected_resources;
        None: until it is ready), give it back as it was found. False where it stays cordoned."""
        name, pause = self._settings.node, FIRST_PAUSE_S
        while True:
            node = self._patiently(lambda: self._kube.find(node_path(name)))
            if node is None or _ownership.read(node).run != self._run:
                return True, [f"Node {name} is not cordoned by this boot: there is nothing to give back."]
            if problem is not None and self._settings.failure == CORDON:
                self._change(lambda now: self._failed(now, problem))
                return False, [f"Node {name} stays cordoned: {problem}"]
            missing = self._missing(node, expected)
            if not missing:
                return True, self._give_back(f"Node {name} shows what its GPUs are")
            if time.monotonic() + pause >= self._deadline:
                return self._out_of_patience(f"after the boot {'; '.join(missing)}.")
            time.sleep(pause)
            pause = min(pause * 1.5, LONGEST_PAUSE_S)

    def _out_of_patience(self, reason: str) -> tuple[bool, list[str]]:
        if self._settings.failure == IGNORE:
            return True, self._give_back(f"In spite of this: {reason}")
        self._change(lambda now: self._failed(now, reason))
        return False, [f"Node {self._settings.node} stays cordoned: {reason}"]

    def _give_back(self, why: str) -> list[str]:
        self._change(self._restored)
        said = [f"{why}; it is given back as it was found."]
        for pod in self._device_pods(lambda pod: _pods.is_refused(pod) and _pods.controller(pod) is not None):
            self._delete(pod)
            said.append(f"Pod {_pods.full_name(pod)}, which the kubelet had refused, is removed.")
        return said

    def _release(self) -> list[str]:
        """Pods of a DaemonSet would only come back at once; nothing would bring a bare pod back."""
        said = []
        for pod in self._device_pods(lambda pod: not _eviction.is_finished(pod)):
            name, owner = _pods.full_name(pod), _pods.controller(pod)
            if owner is None:
                said.append(f"Pod {name} belongs to no controller: the kubelet will refuse it, and it stays Failed.")
            elif owner["kind"] != "DaemonSet":
                self._delete(pod)
                said.append(f"Pod {name} of {owner['kind']} {owner['name']} is released.")
        return said

    def _device_pods(self, which: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
        selector = f"spec.nodeName={self._settings.node}"
        found = self._patiently(lambda: list(self._kube.items("/api/v1/pods", fieldSelector=selector)))
        return [pod for pod in found if _eviction.uses_gpu(pod) and which(pod)]

    def _delete(self, pod: dict[str, Any]) -> None:
        """At once: nothing of it runs."""
        path = pod_path(pod["metadata"]["namespace"], pod["metadata"]["name"])
        self._patiently(lambda: self._kube.delete(path, uid=_eviction.uid(pod), grace_period=0))

    # patches

    def _taken(self, node: Node, problem: str | None) -> _ownership.Patch:
        if problem is not None and self._settings.failure == CORDON:
            return self._failed(node, problem)
        return _ownership.cordon(node, self._run)

    def _failed(self, node: Node, reason: str) -> _ownership.Patch:
        next_step = f"Next: repair the cause and run gpufleet.mig.site for {self._settings.node}."
        return _ownership.fail(node, self._run, f"{reason} {next_step}")

    def _restored(self, node: Node) -> _ownership.Patch:
        mark = _ownership.read(node)
        if mark.run != self._run:
            return {}  # somebody took it over meanwhile
        phase = None if mark.phase == _ownership.FAILED else mark.phase
        return _ownership.restore(node, phase, mark.target)

    def _change(self, decide: Decide) -> None:
        path = node_path(self._settings.node)
        for _attempt in range(CONFLICTS):
            node = self._patiently(lambda: self._kube.get(path))
            patch = decide(node)
            if not patch:
                return
            version = {"metadata": {"resourceVersion": node["metadata"]["resourceVersion"]}}
            body = _ownership.merged(patch, version)
            try:
                self._patiently(lambda body=body: self._kube.merge_patch(path, body))  # type: ignore[misc]
            except KubeError as error:
                if error.status != 409:
                    raise
            else:
                return
        raise MigError(f"Node {self._settings.node} changes so often that it could not be written {CONFLICTS} times.")

    def _patiently(self, call: Callable[[], Any]) -> Any:
        """Until the deadline: the network may not be up yet, and the API may be starting as well."""
        pause = FIRST_PAUSE_S
        while True:
            try:
                return call()
            except MigError as error:
                refused = isinstance(error, KubeError) and error.status < 500 and error.status != 429
                if refused or time.monotonic() + pause >= self._deadline:
                    raise
            time.sleep(pause)
            pause = min(pause * 1.5, LONGEST_PAUSE_S)

    def _missing(self, node: Node, expected: Mapping[str, Any] | None) -> list[str]:
        name = self._settings.node
        if _boot_of(node) != self._boot:
            return [f"node {name}: its kubelet has not reported since this boot"]
        return _publishers.mismatches(name, _publishers.describe(node, []), [], expected or {}, ())


def _boot_of(node: Node) -> str:
    """The boot of the node that its kubelet reported last."""
    return str(((node.get("status") or {}).get("nodeInfo") or {}).get("bootID") or "")


def _is_free(node: Node) -> bool:
    """No roll-out holds it. What a boot before this one did not give back is taken over."""
    mark = _ownership.read(node)
    return not mark.failed if mark.run is None else mark.run.startswith(_ownership.BOOT)
