# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""Carry out an eviction decision on one node: ask, be patient with budgets, wait until the pods are gone."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from ansible_collections.gpufleet.mig.plugins.module_utils import _eviction
from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError
from ansible_collections.gpufleet.mig.plugins.module_utils._eviction import Blocker, Pod
from ansible_collections.gpufleet.mig.plugins.module_utils._kube import Kube, KubeError, KubeUnreachable, pod_path
from ansible_collections.gpufleet.mig.plugins.module_utils._watch import Watched

PARALLEL = 10
SERVER_ERRORS = 5
SLOWEST = 10  # times the first pause, between two tries of one eviction


class NodePods:
    """All pods of one node, kept up to date by a watch."""

    def __init__(self, kube: Kube, node: str, pause: float) -> None:
        self._pods = Watched(kube, "/api/v1/pods", pause, fieldSelector=f"spec.nodeName={node}")
        self.refresh()

    def refresh(self) -> None:
        """List them."""
        self._pods.refresh()

    def all(self) -> list[Pod]:
        """As last seen."""
        return self._pods.all()

    def get(self, uid: str) -> Pod | None:
        """The pod with this uid, None where it is gone."""
        return self._pods.get(uid)

    def follow(self, seconds: float) -> None:
        """Take in what happens, until a pod went or finished or ``seconds`` have passed."""
        before = self._alive()
        self._pods.follow(seconds, lambda: not before <= self._alive())

    def _alive(self) -> set[str]:
        return {_eviction.uid(pod) for pod in self.all() if not _eviction.is_finished(pod)}


@dataclass
class _Request:
    """One pod on its way out."""

    pod: Pod
    delete: bool
    pause: float
    slowest: float
    asked: bool = False
    due: float = 0.0
    errors: int = 0
    said: str = ""
    budget: str | None = None
    hopeless: bool = False


class Blocked(MigError):
    """Pods that did not go; ``blockers`` say which and why, ``evicted`` counts those that did."""

    def __init__(self, blockers: Iterable[Blocker], evicted: Iterable[Pod], why: str) -> None:
        self.blockers = list(blockers)
        self.evicted = list(evicted)
        super().__init__(f"{_eviction.told(self.blockers)} ({why})")


def wait_for_jobs(
    pods: NodePods, jobs: Collection[Pod], timeout: float, pause: float, keep: Callable[[], None]
) -> list[Pod]:
    """Let the Jobs' pods end by themselves; those that have not after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        keep()
        left = [found for job in jobs if (found := pods.get(_eviction.uid(job))) and not _eviction.is_finished(found)]
        remaining = deadline - time.monotonic()
        if not left or remaining <= 0:
            return left
        pods.follow(min(remaining, SLOWEST * pause))


def evict(
    kube: Kube,
    pods: NodePods,
    decision: _eviction.Decision,
    *,
    timeout: float,
    pause: float,
    grace_period: int | None,
    keep: Callable[[], None],
) -> list[Pod]:
    """Returns the pods that were made to go, when all of them are gone. Raises Blocked after ``timeout`` seconds.

    A refusal by a budget (429) is asked again until then, a server error a few times; pauses grow from ``pause``.
    """
    deadline = time.monotonic() + timeout
    requests = [
        *(_Request(pod, False, pause, SLOWEST * pause) for pod in decision.evict),
        *(_Request(pod, True, pause, SLOWEST * pause) for pod in decision.delete),
        *(_Request(pod, False, pause, SLOWEST * pause, asked=True) for pod in decision.ending),
    ]
    waiting = list(requests)
    with ThreadPoolExecutor(max_workers=PARALLEL) as pool:
        while True:
            keep()
            waiting = [each for each in waiting if _holds(pods, each)]
            if not waiting:
                return [each.pod for each in requests]
            now = time.monotonic()
            if now >= deadline or any(each.hopeless for each in waiting):
                gone = [each.pod for each in requests if each not in waiting]
                why = f"not gone after {timeout:g} s" if now >= deadline else "the API refuses"
                blockers = [_eviction.still_there(each.pod, each.asked, each.said, each.budget) for each in waiting]
                raise Blocked(blockers, gone, why)
            due = [each for each in waiting if not each.asked and each.due <= now]
            list(pool.map(lambda each: _ask(kube, each, grace_period), due))
            if any(each.hopeless for each in due):
                continue
            # what is asked for next, and a look at the lock at least every SLOWEST pauses
            later = [each.due for each in waiting if not each.asked]
            pods.follow(min([deadline, time.monotonic() + SLOWEST * pause, *later]) - time.monotonic())


def _holds(pods: NodePods, request: _Request) -> bool:
    found = pods.get(_eviction.uid(request.pod))
    if found is None:
        return False
    request.pod = found
    return not _eviction.is_finished(found)


def _ask(kube: Kube, request: _Request, grace_period: int | None) -> None:
    """One try; what it gave is noted on the request."""
    metadata = request.pod["metadata"]
    namespace, name, uid = str(metadata["namespace"]), str(metadata["name"]), _eviction.uid(request.pod)
    request.budget = None
    wait = request.pause
    try:
        if request.delete:
            kube.delete(pod_path(namespace, name), uid=uid)
        else:
            _evict(kube, namespace, name, uid, grace_period)
        request.asked = True
        return
    except KubeError as error:
        cause = error.cause("DisruptionBudget")
        request.said = cause or error.message or str(error)
        if error.status == 404 or error.cause("NamespaceTerminating") is not None:
            request.asked = True  # it goes with its namespace, or has gone; the list tells
            return
        if error.status == 429:
            request.budget = _eviction.budget_of(cause or "")
            wait = max(wait, float(error.details.get("retryAfterSeconds") or 0))
        elif error.status >= 500:
            request.errors += 1
            request.hopeless = request.errors >= SERVER_ERRORS
        elif error.status != 409:  # 409: another pod has the name by now, or a write came between: the list tells
            request.hopeless = True
    except KubeUnreachable as error:
        request.said = str(error)
    request.due = time.monotonic() + wait
    request.pause = min(request.pause * 1.5, request.slowest)


def _evict(kube: Kube, namespace: str, name: str, uid: str, grace_period: int | None) -> None:
    """Ask the Eviction API to end the pod with this uid. KubeError 429: a budget forbids it now."""
    options: dict[str, Any] = {"preconditions": {"uid": uid}}
    if grace_period is not None:
        options["gracePeriodSeconds"] = grace_period
    kube.create(
        pod_path(namespace, name) + "/eviction",
        {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": name, "namespace": namespace},
            "deleteOptions": options,
        },
    )
