# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""The controller's side of one node's change: cordon, evict, look again, give back, or keep as failed.

Each step is whole by itself: it reads the node, decides (``_ownership``, ``_eviction``) and writes one guarded patch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from typing import Any
from uuid import uuid4

from ansible_collections.gpufleet.mig.plugins.module_utils import (
    _eviction,
    _lock,
    _nodes,
    _ownership,
    _pods,
    _rights,
)
from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError
from ansible_collections.gpufleet.mig.plugins.module_utils._evictor import Blocked, NodePods, evict, wait_for_jobs
from ansible_collections.gpufleet.mig.plugins.module_utils._kube import (
    Kube,
    KubeError,
    KubeUnreachable,
    node_path,
)
from ansible_collections.gpufleet.mig.plugins.module_utils._maintenance_data import Options, Patch, Report, Wish

CONFLICTS = 10
PARALLEL_NODES = 10
NOTE_LIMIT = 1000  # bytes; the API takes 1024 in the note of an event


class Maintenance:
    """One call's work on its nodes, all at the same time."""

    def __init__(self, kube: Kube, options: Options, lock: _lock.Keeper | None) -> None:
        self._kube = kube
        self._options = options
        self._lock = lock
        self._keep: Callable[[], None] = _lock.no_lock if lock is None or options.dry else lock

    def run(self, state: str, wishes: list[Wish]) -> list[Report]:
        """A node that fails does not keep the others from being finished; its report has ``error``."""
        step: Callable[[Wish, Report], None] = getattr(self, f"_{state}")

        def one(wish: Wish) -> Report:
            report, started = Report(wish.name, wish.target), time.monotonic()
            try:
                step(wish, report)
            except MigError as error:
                report.error = str(error)
            report.seconds = round(time.monotonic() - started, 2)
            return report

        with ThreadPoolExecutor(max_workers=PARALLEL_NODES) as pool:
            return list(pool.map(one, wishes))

    # steps, named as the module's states

    def _cordoned(self, wish: Wish, report: Report) -> None:
        self._cordon(wish, report)

    def _evicted(self, wish: Wish, report: Report) -> None:
        pods = self._cordon(wish, report)
        try:
            self._evict(wish, report, pods)
        except _lock.LockLost:
            raise  # whoever holds the lock now decides about the node
        except MigError as error:
            if isinstance(error, Blocked):
                report.blockers = [each.plain() for each in error.blockers]
                report.evicted = error.evicted
            raise self._undone(wish, report, error) from error

    def _checked(self, wish: Wish, report: Report) -> None:
        """The last look before something that cannot be taken back."""
        node = self._node(wish.name)
        if self._options.dry and _ownership.read(node).run != self._options.run:
            return  # in check mode nobody cordoned it
        if self._lock is not None and not self._options.dry:
            self._lock.prove()
        self._must_be_ours(wish.name, node)
        new = _eviction.newcomers(NodePods(self._kube, wish.name, self._options.pause).all(), wish.keep)
        if new:
            report.blockers = [
                _eviction.Blocker(
                    _pods.full_name(pod), _eviction.uid(pod), "new", "uses a GPU and was not expected", "plan again"
                ).plain()
                for pod in new
            ]
            names = ", ".join(_pods.full_name(pod) for pod in new)
            raise MigError(
                f"Node {wish.name}: pod {names} uses a GPU and was not there when the change was prepared. Its GPUs "
                "were not touched; plan the node again."
            )

        def decide(now: dict[str, Any]) -> Patch:
            self._must_be_ours(wish.name, now)
            return _ownership.mark(now, self._options.phase, wish.target, wish.before, untaint=False)

        self._change(wish.name, report, decide, node)

    def _marked(self, wish: Wish, report: Report) -> None:
        def decide(node: dict[str, Any]) -> Patch:
            if not self._options.dry:
                self._must_be_ours(wish.name, node)
            return _ownership.mark(node, self._options.phase, wish.target, untaint=True)

        self._change(wish.name, report, decide)

    def _restored(self, wish: Wish, report: Report) -> None:
        def decide(node: dict[str, Any]) -> Patch:
            owner = _ownership.read(node).run
            if owner not in (None, self._options.run) and self._lock is None:
                raise MigError(
                    f"Node {wish.name} is cordoned by run {owner}, not by {self._options.run}: only the holder of the "
                    "roll-out lock gives back what another run left. Give lock, or wait for that run."
                )
            return _ownership.restore(node, self._options.phase, wish.target, wish.made, wish.before)

        if self._options.clean_failed:
            report.cleaned = _nodes.remove_refused(self._kube, [wish.name], dry=self._options.dry)[wish.name]
            report.changed = report.changed or bool(report.cleaned)
        self._change(wish.name, report, decide)
        if wish.made is not None and _ownership.kept(wish.made) is None:
            report.warnings.append(
                f"Node {wish.name}: its layout is too long for an annotation, so it cannot be rolled back to later."
            )

    def _failed(self, wish: Wish, report: Report) -> None:
        text = f"{wish.reason or 'the change failed'}" + (f" Next: {wish.next}" if wish.next else "")
        changed = self._change(
            wish.name, report, lambda node: _ownership.fail(node, self._options.run, text, wish.target)
        )
        if changed is None or self._options.dry:
            return
        try:
            self._kube.create(
                f"/apis/events.k8s.io/v1/namespaces/{_rights.EVENTS_NAMESPACE}/events", _event(changed, text)
            )
        except (KubeError, KubeUnreachable) as error:
            report.warnings.append(f"Node {wish.name} is marked as failed, but no Event could be written: {error}")

    # parts

    def _cordon(self, wish: Wish, report: Report) -> NodePods:
        """Cordon after the ownership check; the node's pods as they are once it is cordoned."""
        node = self._node(wish.name)
        pods = NodePods(self._kube, wish.name, self._options.pause)
        others = _ownership.managers(node, pods.all())
        if others:
            self._take_over(wish.name, report, others, pods)
        written = self._change(
            wish.name,
            report,
            lambda now: _ownership.cordon(now, self._options.run, self._options.phase, wish.target),
            None if others else node,
        )
        if written is not None:
            pods.refresh()
        return pods

    def _take_over(self, name: str, report: Report, others: list[_ownership.Manager], pods: NodePods) -> None:
        if not self._options.takeover:
            raise MigError(_ownership.refusal(name, others))
        for other in others:
            if other.obstacle:
                raise MigError(
                    f"Node {name} is managed by {other.name} ({other.sign}), which cannot be switched off: "
                    f"{other.obstacle}. Nothing was changed on it."
                )
        self._change(name, report, lambda node: _ownership.switch_off(node, others))
        report.taken_over = [other.name for other in others]
        deadline = time.monotonic() + self._options.timeout
        waiting = [] if self._options.dry else [uid for other in others for uid in other.pods]
        while waiting := [uid for uid in waiting if pods.get(uid)]:
            self._keep()
            if time.monotonic() >= deadline:
                left = ", ".join(_pods.full_name(pod) for uid in waiting if (pod := pods.get(uid)))
                raise MigError(
                    f"Node {name}: {' and '.join(report.taken_over)} was switched off by label, but pod {left} still "
                    f"runs after {self._options.timeout:g} s. The node was not cordoned; look at its DaemonSet."
                )
            pods.follow(min(10 * self._options.pause, deadline - time.monotonic()))

    def _evict(self, wish: Wish, report: Report, pods: NodePods) -> None:
        options = self._options
        wanted = None if options.evict == "node" else wish.pods
        decision = _eviction.decide(pods.all(), wanted, options.allowed, self._orphans(pods, wanted))
        report.stay = list(decision.stay)
        if options.evict == "none" and (decision.going or decision.blockers):
            blockers = {_eviction.uid(pod): _in_the_way(pod) for pod in decision.going}
            blockers.update({each.uid: each for each in decision.blockers})
            raise Blocked(blockers.values(), [], "eviction is not allowed: mig_evict is none")
        if decision.blockers:
            raise Blocked(decision.blockers, [], "no pod was evicted")
        report.changed = report.changed or bool(decision.going)
        if options.dry:
            report.evicted = list(decision.going)
            return
        jobs = [pod for pod in decision.evict if _eviction.is_job(pod)] if options.evict == "wait" else []
        if jobs:
            left = wait_for_jobs(pods, jobs, options.jobs_timeout, options.pause, self._keep)
            if left and options.jobs_action == "fail":
                raise Blocked(map(_eviction.unfinished_job, left), [], f"waited {options.jobs_timeout:g} s for Jobs")
            decision = _eviction.decide(pods.all(), wanted, options.allowed, self._orphans(pods, wanted))
            if decision.blockers:
                raise Blocked(decision.blockers, [], "no pod was evicted")
        if decision.delete:
            self._change(wish.name, report, _ownership.taint)
        report.evicted = evict(
            self._kube,
            pods,
            decision,
            timeout=options.timeout,
            pause=options.pause,
            grace_period=options.grace_period,
            keep=self._keep,
        )

    def _orphans(self, pods: NodePods, wanted: list[str] | None) -> set[str]:
        """Pods of DaemonSets that do not exist, among those that must go."""
        found = set()
        for pod in pods.all():
            owner, uid = _eviction.daemonset(pod), _eviction.uid(pod)
            chosen = _eviction.uses_gpu(pod) if wanted is None else uid in wanted
            if owner and chosen and not _eviction.is_finished(pod):
                namespace = pod["metadata"]["namespace"]
                if self._kube.find(f"/apis/apps/v1/namespaces/{namespace}/daemonsets/{owner}") is None:
                    found.add(uid)
        return found

    def _undone(self, wish: Wish, report: Report, error: MigError) -> MigError:
        """Give the node back at once; the error with what became of it."""
        said = f"Node {wish.name}: {error}"
        if report.evicted:
            said += f"; {len(report.evicted)} pod(s) had gone: {', '.join(map(_pods.full_name, report.evicted))}"
        if self._options.dry:
            return MigError(f"{said}. Nothing was changed.")
        try:
            self._change(wish.name, report, _ownership.restore)
        except MigError as problem:
            return MigError(f"{said}. Its cordon could not be undone ({problem}): run state restored for it.")
        found = "schedulable again" if report.schedulable else "still cordoned, as it was found"
        return MigError(f"{said}. Its GPUs were not touched, the node is {found}.")

    def _must_be_ours(self, name: str, node: Mapping[str, Any]) -> None:
        why = _ownership.not_ours(node, name, self._options.run)
        if why:
            raise MigError(f"{why}. Nothing further was changed on it; run the same command again.")

    def _node(self, name: str) -> dict[str, Any]:
        node = self._kube.find(node_path(name))
        if node is None:
            raise MigError(
                f"The cluster at {self._kube.host} has no node {name}: set mig_node_name where the node's name is not "
                "the inventory's. Nothing was changed."
            )
        return node

    def _change(
        self,
        name: str,
        report: Report,
        decide: Callable[[dict[str, Any]], Patch],
        known: dict[str, Any] | None = None,
    ) -> dict[str, Any] | None:
        """Read, decide, write where nobody wrote in between; the node as written, None where nothing was written.

        ``known`` is the node as it was read a moment ago.
        """
        for _attempt in range(CONFLICTS):
            node, known = known or self._node(name), None
            patch = decide(node)
            if not patch or self._options.dry:
                report.planned = _ownership.merged(report.planned, patch)
                report.note(node, report.planned)
                return None
            version = {"resourceVersion": node["metadata"]["resourceVersion"]}
            body = {**patch, "metadata": {**patch.get("metadata", {}), **version}}
            try:
                written = self._kube.merge_patch(node_path(name), body)
            except KubeError as error:
                if error.status != 409:
                    raise
                continue
            report.note(node, patch)
            return written
        raise MigError(f"Node {name} changes so often that it could not be written {CONFLICTS} times; run again.")


def _in_the_way(pod: _eviction.Pod) -> _eviction.Blocker:
    return _eviction.Blocker(
        _pods.full_name(pod), _eviction.uid(pod), "running", "stands on what is to change", "end it or allow eviction"
    )


def _event(node: Mapping[str, Any], text: str) -> dict[str, Any]:
    """A Warning about a node, as kubectl describe node shows it."""
    metadata = node["metadata"]
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": f"{metadata['name']}.{uuid4().hex[:16]}", "namespace": _rights.EVENTS_NAMESPACE},
        "eventTime": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "type": "Warning",
        "reason": "MigChangeFailed",
        "action": "RollOut",
        "note": text.encode()[:NOTE_LIMIT].decode(errors="ignore"),
        "regarding": {"apiVersion": "v1", "kind": "Node", "name": metadata["name"], "uid": metadata.get("uid", "")},
        "reportingController": "gpufleet.io/rollout",
        "reportingInstance": "gpufleet.mig",
    }
